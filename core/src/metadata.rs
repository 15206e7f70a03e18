//! What a deployed classifier says about itself: stored as text in an ONNX file's `metadata_props`.
//!
//! | key | value |
//! |---|---|
//! | `selfcls.format` | version of these keys, a decimal integer: 1, or 2 where a reader of 1 would go wrong |
//! | `selfcls.input` | [`InputKind`]: what `image` takes, `float`, `uint8` or `any`; absent is `float` |
//! | `selfcls.preprocess` | JSON of [`Preprocess`]: resize, crop, interpolation, mean, std; whoever does it |
//! | `selfcls.weights` | [`WeightKind`]: how the large weights are stored, `f32` or `f16`; absent is `f32` |
//! | `selfcls.heads` | JSON list of [`HeadInfo`]: index, classes, optional class names; may be empty |
//! | `selfcls.default_head` | index of the head that `probabilities` and a bare "classify" mean; absent without heads |
//! | `selfcls.embedding_dim` | width of the unit embedding; absent where the model has no head |
//! | `selfcls.feature_dim` | width of the backbone's features; absent in older files |
//! | `selfcls.row_temperature` | divisor of the logits before the softmax over classes |
//! | `selfcls.backbone` | the network in words, for people |
//! | `selfcls.training` | JSON of [`TrainingSummary`] |
//! | `selfcls.tool` | program and version that wrote the file |
//!
//! A reader ignores `selfcls.*` keys it does not know, and what it does not know inside JSON; a change that an old
//! reader would misunderstand raises the format version, and a newer version is refused. Version 2 is written where the
//! input is not `float`, the weights are not `f32` or there are no heads, and version 1 everywhere else.

mod kinds;

pub use kinds::{InputKind, WeightKind};

use crate::config::{Config, Layout, ModelConfig};
use crate::preprocess::Preprocess;
use crate::{Error, Result};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The newest version of the metadata keys that this build writes and reads.
pub const FORMAT_VERSION: u32 = 2;

/// The key that tells a file with these entries from any other.
pub const FORMAT: &str = "selfcls.format";
const INPUT: &str = "selfcls.input";
const WEIGHTS: &str = "selfcls.weights";
const FEATURE_DIM: &str = "selfcls.feature_dim";
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
#[non_exhaustive]
pub struct Metadata {
    /// How much of the preprocessing is left to the application.
    pub input: InputKind,
    /// From a decoded image to the network's input, whoever does it.
    pub preprocess: Preprocess,
    /// How the large weights are stored.
    pub weights: WeightKind,
    /// The classifiers in the file, by ascending index; none in a file of embeddings or features alone.
    pub heads: Vec<HeadInfo>,
    /// Index of the head that answers when none is named; one of `heads`, or 0 where there are none.
    pub default_head: usize,
    /// Width of the embedding; 0 where the model has no head.
    pub embedding_dim: usize,
    /// Width of the backbone's features; none if the file does not say.
    pub feature_dim: Option<usize>,
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
#[non_exhaustive]
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
    /// What they were called: the data source, of a path only its last part.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// Mean loss of the last epoch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub loss: Option<f64>,
}

impl TrainingSummary {
    /// What to call a data source such as `--data` names in a file that is given away: of each path in it only
    /// the last part, so that nobody learns the folders of the machine. None where nothing is left.
    pub fn source_name(source: &str) -> Option<String> {
        let parts = source.split(':').map(|part| {
            let last = part.rsplit(['/', '\\']).find(|name| !name.is_empty());
            last.unwrap_or_default()
        });
        // A part of one letter is a drive; dots are where the command was given.
        let parts: Vec<&str> = parts
            .filter(|name| name.chars().any(|c| c != '.') && name.chars().count() > 1)
            .collect();
        (!parts.is_empty()).then(|| parts.join(":"))
    }
}

impl Metadata {
    /// The metadata of a model trained with `config`: all heads, the first as default, no names.
    pub fn new(config: &Config, training: TrainingSummary) -> Self {
        let heads = config.model.heads.iter().enumerate();
        Self {
            input: InputKind::Float,
            preprocess: config.preprocess(),
            weights: WeightKind::F32,
            heads: heads
                .map(|(index, &classes)| HeadInfo {
                    index,
                    classes,
                    names: None,
                })
                .collect(),
            default_head: 0,
            // Without classifiers it is a backbone, whose head was never trained.
            embedding_dim: match config.model.heads.len() {
                0 => 0,
                _ => config.model.dim,
            },
            feature_dim: Some(config.model.backbone_dim()),
            row_temperature: config.loss.row_temperature as f32,
            backbone: describe(&config.model),
            training,
            tool: concat!("selfcls ", env!("CARGO_PKG_VERSION")).to_owned(),
        }
    }

    /// What can be said of another program's file: what it takes, how images are prepared for it, and its one head.
    pub fn foreign(input: InputKind, preprocess: Preprocess, classes: usize) -> Self {
        Self {
            input,
            preprocess,
            weights: WeightKind::F32,
            heads: vec![HeadInfo {
                index: 0,
                classes,
                names: None,
            }],
            default_head: 0,
            embedding_dim: 0,
            feature_dim: None,
            row_temperature: 1.0,
            backbone: "another program's network".to_owned(),
            training: TrainingSummary::default(),
            tool: "not known".to_owned(),
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
        let known = |value: usize, known: bool| known.then(|| value.to_string());
        let entries = [
            (FORMAT, Some(self.format().to_string())),
            (INPUT, Some(self.input.to_string())),
            (PREPROCESS, Some(json(&self.preprocess))),
            (WEIGHTS, Some(self.weights.to_string())),
            (HEADS, Some(json(&self.heads))),
            (
                DEFAULT_HEAD,
                known(self.default_head, !self.heads.is_empty()),
            ),
            (
                EMBEDDING_DIM,
                known(self.embedding_dim, self.embedding_dim > 0),
            ),
            (FEATURE_DIM, self.feature_dim.map(|dim| dim.to_string())),
            (ROW_TEMPERATURE, Some(self.row_temperature.to_string())),
            (BACKBONE, Some(self.backbone.clone())),
            (TRAINING, Some(json(&training))),
            (TOOL, Some(self.tool.clone())),
        ];
        Ok(entries
            .into_iter()
            .filter_map(|(key, value)| Some((key.to_owned(), value?)))
            .collect())
    }

    /// The oldest format that says all of this.
    fn format(&self) -> u32 {
        let plain = self.input == InputKind::Float
            && self.weights == WeightKind::F32
            && !self.heads.is_empty();
        if plain { 1 } else { 2 }
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
        let format = entries.check_format()?;
        let heads: Vec<HeadInfo> = entries.json(HEADS)?;
        if format == 1 && heads.is_empty() {
            return Err(Error::Invalid(format!("`{HEADS}` is empty in format 1")));
        }
        let metadata = Self {
            input: entries.optional(INPUT)?.unwrap_or_default(),
            preprocess: entries.json(PREPROCESS)?,
            weights: entries.optional(WEIGHTS)?.unwrap_or_default(),
            default_head: match heads.len() {
                0 => 0,
                _ => entries.number(DEFAULT_HEAD)?,
            },
            embedding_dim: match heads.len() {
                0 => entries.optional(EMBEDDING_DIM)?.unwrap_or(0),
                _ => entries.number(EMBEDDING_DIM)?,
            },
            feature_dim: entries.optional(FEATURE_DIM)?,
            heads,
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
            self.heads.is_empty() || self.head(self.default_head).is_some(),
            format!(
                "default_head = {} is not among the heads",
                self.default_head
            ),
        );
        expect(
            (usize::from(!self.heads.is_empty())..=MAX_WIDTH).contains(&self.embedding_dim),
            format!(
                "embedding_dim = {} is not from 1 to {MAX_WIDTH}",
                self.embedding_dim
            ),
        );
        let feature_dim = self.feature_dim.unwrap_or(1);
        expect(
            (1..=MAX_WIDTH).contains(&feature_dim),
            format!("feature_dim = {feature_dim} is not from 1 to {MAX_WIDTH}"),
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

    fn check_format(&self) -> Result<u32> {
        let Ok(text) = self.get(FORMAT) else {
            return Err(Error::Invalid(format!(
                "no `{FORMAT}` in the file's metadata: it was not written by `selfcls-cli export`"
            )));
        };
        match text.parse::<u32>() {
            Ok(version @ 1..=FORMAT_VERSION) => Ok(version),
            Ok(version) if version > FORMAT_VERSION => Err(Error::Invalid(format!(
                "`{FORMAT}` is {version}, but this build reads up to {FORMAT_VERSION}; update selfcls, or export the file again with this version"
            ))),
            _ => Err(Error::Invalid(format!(
                "`{FORMAT}` is {text:?}, not a format version"
            ))),
        }
    }

    fn number<T: std::str::FromStr>(&self, key: &str) -> Result<T> {
        parse(key, self.get(key)?)
    }

    /// A value that older files or other kinds of files do not have.
    fn optional<T: std::str::FromStr>(&self, key: &str) -> Result<Option<T>> {
        self.0.get(key).map(|text| parse(key, text)).transpose()
    }

    fn json<T: DeserializeOwned>(&self, key: &str) -> Result<T> {
        serde_json::from_str(self.get(key)?)
            .map_err(|error| Error::Invalid(format!("`{key}` cannot be read: {error}")))
    }
}

fn parse<T: std::str::FromStr>(key: &str, text: &str) -> Result<T> {
    text.parse()
        .map_err(|_| Error::Invalid(format!("`{key}` is {text:?}, not a value of its kind")))
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
mod tests;
