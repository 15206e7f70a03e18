//! Merging defaults, a preset, a file and command-line values, and remembering where each came from.

use super::{Config, Key};
use crate::{Error, Result};
use std::collections::BTreeMap;
use std::fmt;

/// Where a value of the resolved configuration came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// The built-in default.
    Default,
    /// The preset of this name.
    Preset(String),
    /// The file of this name.
    File(String),
    /// The command line.
    CommandLine,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::Preset(name) => write!(f, "preset {name}"),
            Self::File(name) => write!(f, "file {name}"),
            Self::CommandLine => f.write_str("command line"),
        }
    }
}

/// Layers of configuration, later ones over earlier ones.
#[derive(Debug, Clone)]
pub struct Layers {
    merged: toml::Table,
    origins: BTreeMap<String, Origin>,
}

/// A validated configuration with the origin of every value.
#[derive(Debug, Clone)]
pub struct Resolved {
    /// The configuration.
    pub config: Config,
    origins: BTreeMap<String, Origin>,
}

impl Default for Layers {
    fn default() -> Self {
        let merged = toml::Table::try_from(Config::default())
            // Invariant: see `Config::to_toml`.
            .expect("the default configuration is representable in TOML");
        Self {
            merged,
            origins: BTreeMap::new(),
        }
    }
}

impl Layers {
    /// Lays a TOML document over what is there.
    ///
    /// # Errors
    /// [`Error::Config`] naming the origin and the line, key or value that is wrong.
    pub fn document(mut self, text: &str, origin: Origin) -> Result<Self> {
        let fail = |reason: &dyn fmt::Display| Error::Config(vec![format!("{origin}: {reason}")]);
        // Checked on its own first, so that the message speaks of this document's lines.
        let config = Config::from_toml(text).map_err(|error| fail(&error))?;
        let table: toml::Table = text
            .parse()
            .map_err(|error: toml::de::Error| fail(&error))?;
        for (section, entries) in &table {
            for name in entries.as_table().into_iter().flat_map(toml::Table::keys) {
                self.adopt(&config, section, name, origin.clone());
            }
        }
        Ok(self)
    }

    /// Lays one command-line value over what is there. Lists are written `[1, 2]` or `1,2`.
    ///
    /// # Errors
    /// [`Error::Config`] if the text is not a value of the key's type.
    pub fn command_line(mut self, key: &Key, text: &str) -> Result<Self> {
        let fail = |what: &str| Error::Config(vec![format!("{} = {text:?}{what}", key.path())]);
        let current = self
            .merged
            .get(key.section)
            .and_then(|section| section.get(key.name))
            .ok_or_else(|| Error::Config(vec![format!("unknown key {}", key.path())]))?;
        let list = current.is_array();
        let not_of_kind = format!(" is not {}", kind(current));
        let value = match parse_like(current, text.trim()) {
            Some(value) => value,
            // Some lists have a short form of their own, which their type reads.
            None if list => toml::Value::String(text.trim().to_string()),
            None => return Err(fail(&not_of_kind)),
        };
        let short_form = list && value.is_str();
        let mut merged = self.merged.clone();
        if let Some(toml::Value::Table(entries)) = merged.get_mut(key.section) {
            entries.insert(key.name.to_string(), value);
        }
        // Reports values of the right kind but outside the domain, such as an unknown optimiser.
        let config = toml::Value::Table(merged)
            .try_into::<Config>()
            .map_err(|error| {
                let reason = error.to_string();
                let reason = reason.trim();
                if short_form {
                    fail(&format!("{not_of_kind} ({reason})"))
                } else {
                    fail(&format!(": {reason}"))
                }
            })?;
        self.adopt(&config, key.section, key.name, Origin::CommandLine);
        Ok(self)
    }

    /// The merged configuration, validated.
    ///
    /// # Errors
    /// [`Error::Config`] with every problem found.
    pub fn resolve(self) -> Result<Resolved> {
        let config: Config = toml::Value::Table(self.merged)
            .try_into()
            .map_err(|error: toml::de::Error| Error::Config(vec![error.to_string()]))?;
        config.validate()?;
        Ok(Resolved {
            config,
            origins: self.origins,
        })
    }

    /// Takes one value over from `config`: read and written back, so that it stands here in one form
    /// however it was written.
    fn adopt(&mut self, config: &Config, section: &str, name: &str, origin: Origin) {
        let value = toml::Table::try_from(config)
            // Invariant: see `Config::to_toml`.
            .expect("a configuration is representable in TOML")
            .get_mut(section)
            .and_then(|entries| entries.as_table_mut()?.remove(name));
        if let (Some(value), Some(toml::Value::Table(entries))) =
            (value, self.merged.get_mut(section))
        {
            entries.insert(name.to_string(), value);
            self.origins.insert(format!("{section}.{name}"), origin);
        }
    }
}

impl Resolved {
    /// Where the value of `key` came from.
    pub fn origin(&self, key: &Key) -> &Origin {
        self.origins.get(&key.path()).unwrap_or(&Origin::Default)
    }

    /// The configuration as TOML, each value followed by its origin in a comment.
    pub fn annotated_toml(&self) -> String {
        let table = toml::Table::try_from(&self.config)
            // Invariant: see `Config::to_toml`.
            .expect("a configuration is representable in TOML");
        let mut text = String::new();
        let mut section = "";
        for key in Config::keys() {
            if key.section != section {
                if !section.is_empty() {
                    text.push('\n');
                }
                section = key.section;
                text.push_str(&format!("[{section}]\n"));
            }
            let value = &table[key.section][key.name];
            let line = format!("{} = {value}", key.name);
            text.push_str(&format!("{line:<44} # {}\n", self.origin(key)));
        }
        text
    }
}

fn kind(value: &toml::Value) -> &'static str {
    match value {
        toml::Value::Integer(_) => "a whole number",
        toml::Value::Float(_) => "a number",
        toml::Value::Boolean(_) => "true or false",
        toml::Value::Array(_) => "a list such as 1,2",
        _ => "a word",
    }
}

/// Parses `text` as a value of the same kind as `like`.
fn parse_like(like: &toml::Value, text: &str) -> Option<toml::Value> {
    Some(match like {
        toml::Value::Integer(_) => toml::Value::Integer(text.replace('_', "").parse().ok()?),
        toml::Value::Float(_) => toml::Value::Float(text.parse().ok()?),
        toml::Value::Boolean(_) => toml::Value::Boolean(text.parse().ok()?),
        toml::Value::Array(items) => {
            let like = items.first()?;
            let inner = text
                .strip_prefix('[')
                .and_then(|rest| rest.strip_suffix(']'))
                .unwrap_or(text);
            toml::Value::Array(
                inner
                    .split(',')
                    .map(str::trim)
                    .filter(|item| !item.is_empty())
                    .map(|item| parse_like(like, item))
                    .collect::<Option<_>>()?,
            )
        }
        _ => toml::Value::String(text.to_string()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(path: &str) -> &'static Key {
        Config::keys()
            .find(|key| key.path() == path)
            .expect("a known key")
    }

    #[test]
    fn later_layers_win_and_origins_are_kept() {
        let resolved = Layers::default()
            .document(
                "[optim]\nlr = 1.5\nkind = \"adamw\"",
                Origin::Preset("p".into()),
            )
            .and_then(|l| l.document("[optim]\nlr = 2", Origin::File("f.toml".into())))
            .and_then(|l| l.command_line(key("model.heads"), "10,20"))
            .and_then(Layers::resolve)
            .expect("resolves");
        assert_eq!(resolved.config.optim.lr, 2.0);
        assert_eq!(resolved.config.model.heads, [10, 20]);
        assert_eq!(
            *resolved.origin(key("optim.lr")),
            Origin::File("f.toml".into())
        );
        assert_eq!(
            *resolved.origin(key("optim.kind")),
            Origin::Preset("p".into())
        );
        assert_eq!(*resolved.origin(key("model.heads")), Origin::CommandLine);
        assert_eq!(*resolved.origin(key("train.seed")), Origin::Default);
        let again =
            Config::from_toml(&resolved.annotated_toml()).expect("the annotated text is TOML");
        assert_eq!(again, resolved.config);
    }

    #[test]
    fn short_lists_of_heads_stand_there_in_full() {
        let layers = Layers::default()
            .document("[model]\nheads = \"2x1k+7\"", Origin::File("f.toml".into()))
            .expect("a short form");
        let resolved = layers.clone().resolve().expect("resolves");
        assert_eq!(resolved.config.model.heads, [1000, 1000, 7]);
        assert!(
            resolved
                .annotated_toml()
                .contains("heads = [1000, 1000, 7]"),
            "{}",
            resolved.annotated_toml()
        );
        for (text, heads) in [
            ("3x5", vec![5; 3]),
            ("[4, 6]", vec![4, 6]),
            ("1k", vec![1000]),
        ] {
            let resolved = layers
                .clone()
                .command_line(key("model.heads"), text)
                .and_then(Layers::resolve)
                .expect(text);
            assert_eq!(resolved.config.model.heads, heads);
        }
    }

    #[test]
    fn wrong_values_name_the_key() {
        for (path, text, expected) in [
            ("train.epochs", "ten", "a whole number"),
            ("optim.kind", "adam", "unknown variant"),
            ("train.epochs", "-1", "train.epochs"),
            ("model.heads", "10,x", "a list"),
            ("model.heads", "10,x", "\"x\" is not a number of classes"),
            ("views.ratio", "1,x", "a list"),
        ] {
            let error = Layers::default()
                .command_line(key(path), text)
                .expect_err("refused")
                .to_string();
            assert!(error.contains(path) && error.contains(expected), "{error}");
        }
        let error = Layers::default()
            .document("[optim]\nlearn = 1", Origin::File("f.toml".into()))
            .expect_err("refused")
            .to_string();
        assert!(
            error.contains("f.toml") && error.contains("learn"),
            "{error}"
        );
    }
}
