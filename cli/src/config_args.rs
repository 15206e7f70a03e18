//! Every configuration key as a flag, and the layers behind the resolved configuration.

use crate::error::{CliError, Result};
use clap::builder::PossibleValuesParser;
use clap::{Arg, ArgAction, ArgMatches, Args, Command, FromArgMatches};
use selfcls_core::config::presets::{self, DEFAULT_PRESET};
use selfcls_core::config::{Config, Key, Layers, Origin, Resolved};
use std::path::{Path, PathBuf};

/// Keys that also have a short name, as flags and in `-h`.
const SHORT_NAMES: [(&str, &str); 5] = [
    ("train.epochs", "epochs"),
    ("train.batch_size", "batch-size"),
    ("train.seed", "seed"),
    ("optim.lr", "lr"),
    ("pretrained.file", "pretrained"),
];

/// A preset, a file and single values, each over the one before.
#[derive(Debug, Clone, Args)]
pub(crate) struct ConfigArgs {
    /// The recipe to start from; `selfcls-cli presets` says what each is for
    #[arg(
        long,
        value_name = "NAME",
        default_value = DEFAULT_PRESET,
        value_parser = PossibleValuesParser::new(presets::all().map(|preset| preset.name)),
        hide_possible_values = true
    )]
    preset: String,
    /// A TOML file of configuration keys, over the preset
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(flatten)]
    keys: KeyArgs,
}

impl ConfigArgs {
    /// The configuration that results, validated, with the origin of every value.
    ///
    /// # Errors
    /// If the file cannot be read, or a value is impossible.
    pub(crate) fn resolve(&self) -> Result<Resolved> {
        let mut layers = Layers::default();
        if let Some(preset) = presets::find(&self.preset) {
            layers = layers.preset(preset)?;
        }
        if let Some(path) = &self.config {
            layers = with_file(layers, path)?;
        }
        for (key, value) in &self.keys.values {
            layers = layers.command_line(key, value)?;
        }
        Ok(layers.resolve()?)
    }

    /// Where the settings come from, in one line.
    pub(crate) fn summary(&self) -> String {
        let mut parts = vec![format!("preset {}", self.preset)];
        parts.extend(self.config.as_ref().map(|path| path.display().to_string()));
        parts.extend(
            self.keys
                .values
                .iter()
                .map(|(key, value)| format!("{} = {value}", key.path())),
        );
        format!("settings: {}", parts.join(", "))
    }
}

/// `layers` with a TOML file over them.
fn with_file(layers: Layers, path: &Path) -> Result<Layers> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| CliError::failure(format!("cannot read {}: {error}", path.display())))?;
    Ok(layers.document(&text, Origin::File(path.display().to_string()))?)
}

/// The defaults with a TOML file over them, validated.
///
/// # Errors
/// If the file cannot be read, or a value is impossible.
pub(crate) fn file(path: &Path) -> Result<Config> {
    Ok(with_file(Layers::default(), path)?.resolve()?.config)
}

/// The keys given as flags. Flags, values and help come from [`Config::keys`]: there is no second list to forget.
#[derive(Debug, Clone, Default)]
struct KeyArgs {
    values: Vec<(&'static Key, String)>,
}

impl Args for KeyArgs {
    fn augment_args(command: Command) -> Command {
        Config::keys().fold(command, |command, key| command.arg(flag(key)))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for KeyArgs {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let mut args = Self::default();
        args.update_from_arg_matches(matches)?;
        Ok(args)
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        self.values = Config::keys()
            .filter_map(|key| Some((key, matches.get_one::<String>(&key.path())?.clone())))
            .collect();
        Ok(())
    }
}

fn flag(key: &Key) -> Arg {
    let path = key.path();
    let arg = Arg::new(path.clone())
        .long(path.clone())
        .value_name("VALUE")
        .help(key.doc.trim().to_string())
        .help_heading(format!("Configuration: {}", key.section))
        .action(ArgAction::Set)
        // So that the message about `--optim.lr -1` is about the value.
        .allow_negative_numbers(true);
    match SHORT_NAMES.iter().find(|(long, _)| *long == path) {
        Some((_, short)) => arg.visible_alias(*short),
        None => arg.hide_short_help(true),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Debug, Parser)]
    struct Probe {
        #[command(flatten)]
        config: ConfigArgs,
    }

    fn resolve(args: &[&str]) -> Result<Resolved> {
        Probe::try_parse_from([&["probe"], args].concat())
            .expect("parses")
            .config
            .resolve()
    }

    #[test]
    fn every_key_is_a_flag_that_sets_it() {
        let defaults = resolve(&[]).expect("resolves");
        let table: toml::Table = defaults.config.to_toml().parse().expect("TOML");
        for key in Config::keys() {
            let value = table[key.section][key.name].to_string();
            let value = value.trim_matches('"');
            let flag = format!("--{}", key.path());
            let resolved =
                resolve(&[&flag, value]).unwrap_or_else(|error| panic!("{flag}: {error:?}"));
            assert_eq!(*resolved.origin(key), Origin::CommandLine, "{flag}");
            assert_eq!(resolved.config, defaults.config, "{flag}");
        }
    }

    #[test]
    fn short_names_are_the_same_flags() {
        let resolved = resolve(&[
            "--epochs",
            "7",
            "--batch-size",
            "32",
            "--seed",
            "5",
            "--lr",
            "0.5",
        ])
        .expect("resolves");
        let config = resolved.config;
        assert_eq!((config.train.epochs, config.train.batch_size), (7, 32));
        assert_eq!((config.train.seed, config.optim.lr), (5, 0.5));
        let twice = Probe::try_parse_from(["probe", "--epochs", "7", "--train.epochs", "8"]);
        assert!(twice.is_err());
    }
}
