//! `presets`: the recipes that `train --preset` knows.

use crate::error::{CliError, Result};
use crate::output;
use clap::Args;
use selfcls_core::config::presets::{self, DEFAULT_PRESET, GROUPS};

/// List the presets of `train`, or print one
#[derive(Debug, Args)]
pub(crate) struct PresetsArgs {
    /// Print this preset as TOML: a file to start your own from
    #[arg(long, value_name = "NAME")]
    show: Option<String>,
}

pub(crate) fn run(args: &PresetsArgs) -> Result<()> {
    match &args.show {
        Some(name) => show(name),
        None => output::text(&list()),
    }
}

fn show(name: &str) -> Result<()> {
    let Some(preset) = presets::find(name) else {
        return Err(unknown(name));
    };
    output::text(&preset.document()?)
}

/// Every preset with its description, group by group.
fn list() -> String {
    let mut text = String::new();
    for group in GROUPS {
        let width = group.presets.iter().map(|preset| preset.name.len()).max();
        let width = width.unwrap_or_default();
        if !text.is_empty() {
            text.push('\n');
        }
        text.push_str(&format!("{}:\n", group.title));
        for preset in group.presets {
            text.push_str(&format!("{:width$}  {}\n", preset.name, preset.summary()));
        }
    }
    text
}

fn unknown(name: &str) -> CliError {
    // A script's name without its folder is the likeliest slip.
    let near = presets::all().filter(|preset| preset.name.rsplit('/').next() == Some(name));
    let near: Vec<&str> = near.map(|preset| preset.name).collect();
    let hint = if near.is_empty() {
        let names: Vec<&str> = GROUPS[0].presets.iter().map(|preset| preset.name).collect();
        format!(
            "choose one of {} ({DEFAULT_PRESET} is the default of train), or one of the authors' scripts that `selfcls-cli presets` lists",
            names.join(", ")
        )
    } else {
        format!("choose {}", near.join(" or "))
    };
    CliError::usage(format!("there is no preset {name:?}")).hint(hint)
}
