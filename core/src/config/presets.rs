//! Presets: complete recipes, embedded in the binary as TOML.
//!
//! A preset is a file below `presets/`, and its name the path there: `cifar10-small` for users' own
//! images, `paper/train_100ep` for a script of the authors at their last commit,
//! `first/train_cifar10` for one of the first arXiv version. It holds what differs from the defaults,
//! or from the preset that its key `extends` names. The first comment line says what it is for; the
//! comments below it, in the authors' presets, name the script, its ranks and total batch, and the
//! places where the script contradicts other sources.

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
pub const GROUPS: &[Group] = &[
    Group {
        title: "For your own images",
        presets: presets![
            "shapes-demo",
            "photos-small",
            "photos",
            "cifar10-small",
            "cifar10",
            "imagenet-1gpu",
        ],
    },
    Group {
        title: "The paper's experiments on ImageNet, one per script of the authors (arXiv 2103.10994v2, v3)",
        presets: presets![
            "paper/train_100ep",
            "paper/train_200ep",
            "paper/train_400ep",
            "paper/train_800ep",
            "paper/train_100ep_no_multicrop",
            "paper/train_100ep_no_nn",
            "paper/train_100ep_no_nn_no_multicrop",
            "paper/train_100ep_bs_256",
            "paper/train_100ep_bs_512",
            "paper/train_100ep_bs_1024",
            "paper/train_100ep_bs_2048",
            "paper/train_100ep_1x1k",
            "paper/train_100ep_1x2k",
            "paper/train_100ep_1x4k",
            "paper/train_100ep_1x8k",
            "paper/train_100ep_5x1k",
            "paper/train_100ep_10x1k",
            "paper/train_100ep_15x1k",
            "paper/train_100ep_fixed_cls",
            "paper/train_100ep_base_lr_0.1",
            "paper/train_100ep_base_lr_0.2",
            "paper/train_100ep_base_lr_0.4",
            "paper/train_100ep_dim_256",
            "paper/train_100ep_hidden_dim_8192",
            "paper/train_100ep_hidden_dim_8192_dim_256",
            "paper/train_100ep_no_mlp",
            "paper/train_100ep_num_hidden_3",
            "paper/train_100ep_num_hidden_3_dim_256",
            "paper/train_100ep_q_len_128K",
            "paper/train_100ep_q_len_512K",
            "paper/train_100ep_q_len_1M",
            "paper/train_100ep_col_tau_3e-2_row_tau_1e-1",
            "paper/train_100ep_col_tau_3e-2_row_tau_7e-2",
            "paper/train_100ep_col_tau_5e-2_row_tau_7e-2",
            "paper/train_100ep_wd_5e-6",
            "paper/train_100ep_wd_1e-5",
            "paper/train_100ep_wd_5e-5",
        ],
    },
    Group {
        title: "The experiments of the first arXiv version, one per script (2103.10994v1)",
        presets: presets![
            "first/train",
            "first/train_100ep",
            "first/train_100ep_1x300",
            "first/train_100ep_1x1000",
            "first/train_100ep_1x3000",
            "first/train_100ep_30x300",
            "first/train_100ep_30x3000",
            "first/train_100ep_50x1000",
            "first/train_100ep_100x128",
            "first/train_100ep_learnable_cls",
            "first/train_100ep_lr_0.05",
            "first/train_100ep_lr_0.1",
            "first/train_100ep_lr_0.2",
            "first/train_100ep_lr_0.4",
            "first/train_100ep_lr_0.5",
            "first/train_100ep_dim_128_num_hidden_1x4096",
            "first/train_100ep_dim_128_num_hidden_3x4096",
            "first/train_100ep_dim_256_num_hidden_1x4096",
            "first/train_100ep_dim_256_num_hidden_2x4096",
            "first/train_100ep_no_mlp",
            "first/train_100ep_wd_1e-3",
            "first/train_100ep_wd_1e-5",
            "first/train_100ep_wd_1e-6",
            "first/train_100ep_wd_1e-7",
            "first/train_cifar10",
            "first/train_cifar100-20",
        ],
    },
];

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
