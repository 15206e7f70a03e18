//! `presets`: the recipes that `train --preset` knows.

use crate::error::{CliError, Result};
use crate::output;
use clap::Args;
use selfcls_core::config::presets::{self, DEFAULT_PRESET, PRESETS};

/// List the presets of `train`, or print one
#[derive(Debug, Args)]
pub(crate) struct PresetsArgs {
    /// Print this preset as TOML: a file to start your own from
    #[arg(long, value_name = "NAME")]
    show: Option<String>,
}

pub(crate) fn run(args: &PresetsArgs) -> Result<()> {
    if let Some(name) = &args.show {
        let preset = presets::find(name).ok_or_else(|| {
            CliError::usage(format!("there is no preset {name:?}"))
                .hint(format!("choose {}", names()))
        })?;
        return output::text(preset.toml);
    }
    let width = PRESETS.iter().map(|preset| preset.name.len()).max();
    let width = width.unwrap_or_default();
    let lines: String = PRESETS
        .iter()
        .map(|preset| format!("{:width$}  {}\n", preset.name, preset.summary()))
        .collect();
    output::text(&lines)
}

fn names() -> String {
    let names: Vec<&str> = PRESETS.iter().map(|preset| preset.name).collect();
    format!(
        "one of {} ({DEFAULT_PRESET} is the default of train)",
        names.join(", ")
    )
}
