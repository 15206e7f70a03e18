//! What a deployed classifier says about itself: stored as text in an ONNX file's `metadata_props`.
//!
//! | key | value |
//! |---|---|
//! | `selfcls.format` | version of these keys, a decimal integer ([`FORMAT_VERSION`]) |
//! | `selfcls.preprocess` | JSON of [`Preprocess`]: resize, crop, interpolation, mean, std |
//! | `selfcls.heads` | JSON list of [`HeadInfo`]: index, classes, optional class names |
//! | `selfcls.default_head` | index of the head that `probabilities` and a bare "classify" mean |
//! | `selfcls.embedding_dim` | width of the unit embedding |
//! | `selfcls.row_temperature` | divisor of the logits before the softmax over classes |
//! | `selfcls.backbone` | the network in words, for people |
//! | `selfcls.training` | JSON of [`TrainingSummary`] |
//! | `selfcls.tool` | program and version that wrote the file |
//!
//! A reader ignores `selfcls.*` keys it does not know; a change that an old reader would misunderstand
//! raises the format version, and a newer version is refused.

use crate::config::{Config, Layout, ModelConfig};
use crate::preprocess::Preprocess;
use crate::{Error, Result};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Version of the metadata keys that this build writes, and the newest that it reads.
pub const FORMAT_VERSION: u32 = 1;

const FORMAT: &str = "selfcls.format";
const PREPROCESS: &str = "selfcls.preprocess";
const HEADS: &str = "selfcls.heads";
const DEFAULT_HEAD: &str = "selfcls.default_head";
const EMBEDDING_DIM: &str = "selfcls.embedding_dim";
const ROW_TEMPERATURE: &str = "selfcls.row_temperature";
const BACKBONE: &str = "selfcls.backbone";
const TRAINING: &str = "selfcls.training";
const TOOL: &str = "selfcls.tool";

/// Largest number of classes of one head and largest embedding: what the configuration allows.
const MAX_WIDTH: usize = 1_000_000;

/// Everything that an application needs beside the network itself.
#[derive(Debug, Clone, PartialEq)]
pub struct Metadata {
    /// From a decoded image to the network's input.
    pub preprocess: Preprocess,
    /// The classifiers in the file, by ascending index.
    pub heads: Vec<HeadInfo>,
    /// Index of the head that answers when none is named; one of `heads`.
    pub default_head: usize,
    /// Width of the embedding.
    pub embedding_dim: usize,
    /// The logits are divided by it before the softmax (paper section 4.1: 0.1).
    pub row_temperature: f32,
    /// The network in words, e.g. `resnet18, image-net stem, width 64`.
    pub backbone: String,
    /// How the weights came about.
    pub training: TrainingSummary,
    /// Program and version that wrote the file.
    pub tool: String,
}

/// One classifier of the file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HeadInfo {
    /// Position among the trained model's heads; the file's output is `logits.<index>`.
    pub index: usize,
    /// Number of classes.
    pub classes: usize,
    /// What the classes are called, one name per class; absent while nobody has named them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub names: Option<Vec<String>>,
}

/// How the weights came about; zeros and absences mean "not known".
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct TrainingSummary {
    /// Finished passes over the data.
    pub epochs: usize,
    /// Optimiser steps.
    pub steps: u64,
    /// Images trained on.
    pub samples: usize,
    /// Mean loss of the last epoch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub loss: Option<f64>,
}

impl Metadata {
    /// The metadata of a model trained with `config`: all heads, the first as default, no names.
    pub fn new(config: &Config, training: TrainingSummary) -> Self {
        let heads = config.model.heads.iter().enumerate();
        Self {
            preprocess: config.preprocess(),
            heads: heads
                .map(|(index, &classes)| HeadInfo {
                    index,
                    classes,
                    names: None,
                })
                .collect(),
            default_head: 0,
            embedding_dim: config.model.dim,
            row_temperature: config.loss.row_temperature as f32,
            backbone: describe(&config.model),
            training,
            tool: concat!("selfcls ", env!("CARGO_PKG_VERSION")).to_owned(),
        }
    }

    /// The head of that index, if the file has it.
    pub fn head(&self, index: usize) -> Option<&HeadInfo> {
        self.heads.iter().find(|head| head.index == index)
    }

    /// Key and value of each entry, sorted by key; equal metadata give equal text.
    ///
    /// # Errors
    /// [`Error::Invalid`] listing every value that no reader would accept.
    pub fn to_properties(&self) -> Result<BTreeMap<String, String>> {
        self.check()?;
        let mut training = self.training.clone();
        // JSON has no infinities; a loss that is not a number says nothing.
        training.loss = training.loss.filter(|loss| loss.is_finite());
        let entries = [
            (FORMAT, FORMAT_VERSION.to_string()),
            (PREPROCESS, json(&self.preprocess)),
            (HEADS, json(&self.heads)),
            (DEFAULT_HEAD, self.default_head.to_string()),
            (EMBEDDING_DIM, self.embedding_dim.to_string()),
            (ROW_TEMPERATURE, self.row_temperature.to_string()),
            (BACKBONE, self.backbone.clone()),
            (TRAINING, json(&training)),
            (TOOL, self.tool.clone()),
        ];
        Ok(entries
            .into_iter()
            .map(|(key, value)| (key.to_owned(), value))
            .collect())
    }

    /// Reads the entries back.
    ///
    /// # Errors
    /// [`Error::Invalid`] if the entries are of a newer format, if one is missing, or if a value is
    /// impossible; the message names the key.
    pub fn from_properties<'a>(
        entries: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Result<Self> {
        let entries = Entries(entries.into_iter().collect());
        entries.check_format()?;
        let metadata = Self {
            preprocess: entries.json(PREPROCESS)?,
            heads: entries.json(HEADS)?,
            default_head: entries.number(DEFAULT_HEAD)?,
            embedding_dim: entries.number(EMBEDDING_DIM)?,
            row_temperature: entries.number(ROW_TEMPERATURE)?,
            backbone: entries.get(BACKBONE)?.to_owned(),
            training: entries.json(TRAINING)?,
            tool: entries.get(TOOL)?.to_owned(),
        };
        metadata.check()?;
        Ok(metadata)
    }

    /// Refuses values that would make an application fail later or misclassify silently.
    fn check(&self) -> Result<()> {
        let mut problems = Vec::new();
        if let Err(error) = self.preprocess.validate() {
            problems.push(error.to_string());
        }
        let mut expect = |holds: bool, problem: String| {
            if !holds {
                problems.push(problem);
            }
        };
        expect(!self.heads.is_empty(), "heads is empty".to_owned());
        expect(
            self.heads.is_sorted_by(|a, b| a.index < b.index),
            "heads are not in ascending order of their index".to_owned(),
        );
        for head in &self.heads {
            let HeadInfo { index, classes, .. } = head;
            expect(
                (1..=MAX_WIDTH).contains(classes),
                format!("head {index} has {classes} classes, not from 1 to {MAX_WIDTH}"),
            );
            let names = head.names.as_ref().map_or(*classes, Vec::len);
            expect(
                names == *classes,
                format!("head {index} has {names} names for {classes} classes"),
            );
        }
        expect(
            self.head(self.default_head).is_some(),
            format!(
                "default_head = {} is not among the heads",
                self.default_head
            ),
        );
        expect(
            (1..=MAX_WIDTH).contains(&self.embedding_dim),
            format!(
                "embedding_dim = {} is not from 1 to {MAX_WIDTH}",
                self.embedding_dim
            ),
        );
        expect(
            self.row_temperature.is_finite() && self.row_temperature > 0.0,
            format!("row_temperature = {} is not positive", self.row_temperature),
        );
        if problems.is_empty() {
            return Ok(());
        }
        Err(Error::Invalid(format!(
            "impossible classifier metadata: {}",
            problems.join("; ")
        )))
    }
}

/// The entries as found in a file.
struct Entries<'a>(BTreeMap<&'a str, &'a str>);

impl<'a> Entries<'a> {
    fn get(&self, key: &str) -> Result<&'a str> {
        self.0
            .get(key)
            .copied()
            .ok_or_else(|| Error::Invalid(format!("the classifier metadata lack the key `{key}`")))
    }

    fn check_format(&self) -> Result<()> {
        let Ok(text) = self.get(FORMAT) else {
            return Err(Error::Invalid(format!(
                "no `{FORMAT}` in the file's metadata: it was not written by `selfcls-cli export`"
            )));
        };
        match text.parse::<u32>() {
            Ok(1..=FORMAT_VERSION) => Ok(()),
            Ok(version) if version > FORMAT_VERSION => Err(Error::Invalid(format!(
                "`{FORMAT}` is {version}, but this build reads up to {FORMAT_VERSION}; update selfcls, or export the file again with this version"
            ))),
            _ => Err(Error::Invalid(format!(
                "`{FORMAT}` is {text:?}, not a format version"
            ))),
        }
    }

    fn number<T: std::str::FromStr>(&self, key: &str) -> Result<T> {
        let text = self.get(key)?;
        text.parse()
            .map_err(|_| Error::Invalid(format!("`{key}` is {text:?}, not a number of its kind")))
    }

    fn json<T: DeserializeOwned>(&self, key: &str) -> Result<T> {
        serde_json::from_str(self.get(key)?)
            .map_err(|error| Error::Invalid(format!("`{key}` cannot be read: {error}")))
    }
}

fn json(value: &impl Serialize) -> String {
    // Invariant: plain structs with string keys always serialise, and `check` refused non-finite numbers.
    serde_json::to_string(value).expect("metadata are representable in JSON")
}

fn describe(model: &ModelConfig) -> String {
    let name = word(&model.backbone);
    match model.layout() {
        Layout::Residual(net) => {
            format!("{name}, {} stem, width {}", word(&net.stem), net.width)
        }
        Layout::Transformer(net) => format!(
            "{name}, patches of {} pixels, width {}, {} blocks",
            net.patch, net.dim, net.depth
        ),
    }
}

/// A configuration value as it is written in TOML, without quotes.
fn word(value: &impl Serialize) -> String {
    json(value).trim_matches('"').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example() -> Metadata {
        let mut config = Config::default();
        config.model.heads = vec![3, 5];
        let mut metadata = Metadata::new(
            &config,
            TrainingSummary {
                epochs: 15,
                steps: 2340,
                samples: 20_000,
                loss: Some(2.73),
            },
        );
        metadata.heads[0].names = Some(["cat", "dög", "\"7\""].map(str::to_owned).to_vec());
        metadata
    }

    fn parse(entries: &BTreeMap<String, String>) -> Result<Metadata> {
        Metadata::from_properties(entries.iter().map(|(k, v)| (k.as_str(), v.as_str())))
    }

    fn refused(change: impl FnOnce(&mut BTreeMap<String, String>)) -> String {
        let mut entries = example().to_properties().expect("the example is possible");
        change(&mut entries);
        parse(&entries).expect_err("must be refused").to_string()
    }

    #[test]
    fn entries_round_trip() {
        let metadata = example();
        let entries = metadata.to_properties().expect("the example is possible");
        assert_eq!(entries.len(), 9);
        assert_eq!(parse(&entries).expect("own entries"), metadata);
    }

    #[test]
    fn unknown_keys_are_ignored_and_newer_formats_refused() {
        let mut entries = example().to_properties().expect("the example is possible");
        entries.insert("selfcls.later".into(), "anything".into());
        entries.insert("other".into(), "tool".into());
        assert_eq!(parse(&entries).expect("extra keys"), example());

        let newer = refused(|e| drop(e.insert(FORMAT.into(), "2".into())));
        assert!(newer.contains("reads up to 1"), "{newer}");
        for bad in ["0", "-1", "one", ""] {
            let text = refused(|e| drop(e.insert(FORMAT.into(), bad.into())));
            assert!(text.contains("not a format version"), "{text}");
        }
    }

    #[test]
    fn every_missing_key_is_named() {
        let keys: Vec<String> = example().to_properties().expect("ok").into_keys().collect();
        for key in keys {
            let text = refused(|e| drop(e.remove(&key)));
            assert!(text.contains(&key), "{key}: {text}");
        }
    }

    #[test]
    fn impossible_values_are_refused_and_named() {
        for (key, value, said) in [
            (DEFAULT_HEAD, "7", "default_head = 7"),
            (DEFAULT_HEAD, "-1", "selfcls.default_head"),
            (ROW_TEMPERATURE, "0", "row_temperature"),
            (ROW_TEMPERATURE, "NaN", "row_temperature"),
            (EMBEDDING_DIM, "99999999999", "embedding_dim"),
            (HEADS, "[]", "heads is empty"),
            (
                HEADS,
                r#"[{"index":0,"classes":2,"names":["a"]}]"#,
                "1 names for 2",
            ),
            (
                HEADS,
                r#"[{"index":0,"classes":2},{"index":0,"classes":2}]"#,
                "ascending",
            ),
            (HEADS, "[", "selfcls.heads"),
            (
                PREPROCESS,
                r#"{"resize":8,"crop":9,"interpolation":"bilinear","mean":[0,0,0],"std":[1,0,1]}"#,
                "resize 8 and crop 9",
            ),
            (PREPROCESS, "{}", "selfcls.preprocess"),
        ] {
            let text = refused(|e| drop(e.insert(key.into(), value.into())));
            assert!(text.contains(said), "{key} = {value}: {text}");
        }
    }

    #[test]
    fn a_loss_that_is_no_number_is_left_out() {
        let mut metadata = example();
        metadata.training.loss = Some(f64::NAN);
        let entries = metadata.to_properties().expect("still writable");
        assert_eq!(parse(&entries).expect("readable").training.loss, None);
    }
}
