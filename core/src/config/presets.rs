//! Presets: complete recipes, embedded in the binary as TOML.
//!
//! A preset is a file below `presets/`, and its name the path there. It holds what differs from the
//! defaults, or from the preset that its key `extends` names. The first comment line says what it is for.

use super::{Config, Layers, Origin};
use crate::{Error, Result};

/// A preset.
#[derive(Debug, Clone, Copy)]
pub struct Preset {
    /// The name given to `--preset`.
    pub name: &'static str,
    /// The TOML document, as in the source.
    pub source: &'static str,
}

/// Presets of one kind, in the order in which they are listed.
#[derive(Debug, Clone, Copy)]
pub struct Group {
    /// What they have in common, in one line.
    pub title: &'static str,
    /// The presets.
    pub presets: &'static [Preset],
}

/// Embeds `presets/NAME.toml` for each name.
macro_rules! presets {
    ($($name:literal),+ $(,)?) => {
        &[$(Preset {
            name: $name,
            source: include_str!(concat!("presets/", $name, ".toml")),
        }),+]
    };
}

/// All presets.
pub const GROUPS: &[Group] = &[Group {
    title: "For your own images",
    presets: presets![
        "shapes-demo",
        "photos-small",
        "photos",
        "cifar10-small",
        "cifar10",
    ],
}];

/// The preset that `train` uses when none is named.
pub const DEFAULT_PRESET: &str = "photos-small";

/// All presets of all groups.
pub fn all() -> impl Iterator<Item = &'static Preset> {
    GROUPS.iter().flat_map(|group| group.presets)
}

/// The preset called `name`.
pub fn find(name: &str) -> Option<&'static Preset> {
    all().find(|preset| preset.name == name)
}

impl Preset {
    /// What the preset is for, in one line.
    pub fn summary(&self) -> &'static str {
        let line = self.source.lines().next().unwrap_or_default();
        line.trim_start_matches('#').trim()
    }

    /// The preset as a TOML document that needs no other: its comments, then every value that it or a
    /// preset it extends sets, each of the latter with the name of that preset.
    ///
    /// # Errors
    /// If the preset is malformed.
    pub fn document(&self) -> Result<String> {
        if self.parts()?.0.is_none() {
            return Ok(self.source.to_string());
        }
        let resolved = Layers::default().preset(self)?.resolve()?;
        let values: toml::Table = resolved
            .config
            .to_toml()
            .parse()
            .map_err(|error| self.malformed(error))?;
        let comments = self.source.lines().take_while(|line| line.starts_with('#'));
        let mut text: String = comments.flat_map(|line| [line, "\n"]).collect();
        let mut section = "";
        for key in Config::keys() {
            let Origin::Preset(origin) = resolved.origin(key) else {
                continue;
            };
            if key.section != section {
                section = key.section;
                text.push_str(&format!("\n[{section}]\n"));
            }
            text.push_str(&format!("{} = {}", key.name, values[section][key.name]));
            if origin != self.name {
                text.push_str(&format!("  # {origin}"));
            }
            text.push('\n');
        }
        Ok(text)
    }

    /// The preset that this one extends, and its own values.
    fn parts(&self) -> Result<(Option<&'static Preset>, toml::Table)> {
        let mut values: toml::Table = self.source.parse().map_err(|error| self.malformed(error))?;
        let Some(base) = values.remove("extends") else {
            return Ok((None, values));
        };
        match base.as_str().and_then(find) {
            Some(base) => Ok((Some(base), values)),
            None => Err(self.malformed(format!("extends {base}, which is no preset"))),
        }
    }

    fn malformed(&self, reason: impl std::fmt::Display) -> Error {
        Error::Config(vec![format!("preset {}: {reason}", self.name)])
    }
}

impl Layers {
    /// Lays a preset, and below it those it extends, over what is there.
    ///
    /// # Errors
    /// [`Error::Config`] if the preset is malformed.
    pub fn preset(self, preset: &Preset) -> Result<Self> {
        let (base, values) = preset.parts()?;
        let layers = match base {
            Some(base) => self.preset(base)?,
            None => self,
        };
        layers.document(&values.to_string(), Origin::Preset(preset.name.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;
    use walkdir::WalkDir;

    #[test]
    fn every_preset_resolves_and_says_what_it_is_for() {
        for preset in all() {
            assert!(preset.source.starts_with("# "), "{}", preset.name);
            let resolved = Layers::default()
                .preset(preset)
                .and_then(Layers::resolve)
                .unwrap_or_else(|error| panic!("{}: {error}", preset.name));
            // What is shown is the preset, whole.
            let shown = preset.document().expect("a document");
            let config = Config::from_toml(&shown).expect("TOML without extends");
            assert_eq!(config, resolved.config, "{}", preset.name);
            assert!(shown.starts_with(&format!("# {}\n", preset.summary())));
        }
        assert!(find(DEFAULT_PRESET).is_some());
    }

    #[test]
    fn every_file_is_a_preset() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/src/config/presets");
        let files: BTreeSet<String> = WalkDir::new(folder)
            .into_iter()
            .map(|entry| entry.expect("an entry"))
            .filter(|entry| entry.file_type().is_file())
            .map(|entry| {
                let name = entry.path().strip_prefix(folder).expect("below");
                let name: Vec<_> = name.iter().map(|part| part.to_string_lossy()).collect();
                name.join("/").trim_end_matches(".toml").to_string()
            })
            .collect();
        let names: BTreeSet<String> = all().map(|preset| preset.name.to_string()).collect();
        assert_eq!(files, names);
        assert_eq!(names.len(), all().count(), "a name is listed twice");
    }

    #[test]
    fn inherited_values_name_their_preset() {
        let preset = Preset {
            name: "mine",
            source: "# Mine.\n\nextends = \"shapes-demo\"\n\n[train]\nepochs = 3\n",
        };
        let shown = preset.document().expect("a document");
        assert!(shown.contains("epochs = 3\n"), "{shown}");
        assert!(
            shown.contains("batch_size = 128  # shapes-demo\n"),
            "{shown}"
        );
        let orphan = Preset {
            name: "orphan",
            source: "extends = \"nothing\"\n",
        };
        let message = orphan.document().expect_err("refused").to_string();
        assert!(message.contains("orphan") && message.contains("nothing"));
    }
}
