//! Presets: complete recipes, embedded in the binary as TOML.

/// A preset.
#[derive(Debug, Clone, Copy)]
pub struct Preset {
    /// The name given to `--preset`.
    pub name: &'static str,
    /// The TOML document; its first comment line says what the preset is for.
    pub toml: &'static str,
}

impl Preset {
    /// What the preset is for, in one line.
    pub fn summary(&self) -> &'static str {
        let line = self.toml.lines().next().unwrap_or_default();
        line.trim_start_matches('#').trim()
    }
}

/// All presets, sorted by name.
pub const PRESETS: &[Preset] = &[
    Preset {
        name: "cifar10-small",
        toml: include_str!("presets/cifar10-small.toml"),
    },
    Preset {
        name: "photos-small",
        toml: include_str!("presets/photos-small.toml"),
    },
    Preset {
        name: "shapes-demo",
        toml: include_str!("presets/shapes-demo.toml"),
    },
];

/// The preset that `train` uses when none is named.
pub const DEFAULT_PRESET: &str = "photos-small";

/// The preset called `name`.
pub fn find(name: &str) -> Option<&'static Preset> {
    PRESETS.iter().find(|preset| preset.name == name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Layers, Origin};

    #[test]
    fn every_preset_resolves_and_says_what_it_is_for() {
        for preset in PRESETS {
            assert!(preset.toml.starts_with("# "), "{}", preset.name);
            Layers::default()
                .document(preset.toml, Origin::Preset(preset.name.into()))
                .and_then(Layers::resolve)
                .unwrap_or_else(|error| panic!("{}: {error}", preset.name));
        }
        assert!(find(DEFAULT_PRESET).is_some());
        assert!(PRESETS.is_sorted_by_key(|preset| preset.name));
    }
}
