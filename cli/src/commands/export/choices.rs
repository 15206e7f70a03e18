//! What can be chosen about the file, as typed.

use selfcls_core::metadata::{InputKind, WeightKind};
use selfcls_export::{ExternalData, FileOptions, HeadSelection, Output};
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::str::FromStr;

/// One classifier, or all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum HeadChoice {
    /// All classifiers.
    All,
    /// The classifier at this position of `model.heads`.
    One(usize),
}

impl FromStr for HeadChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "all" => Ok(Self::All),
            number => number
                .parse()
                .map(Self::One)
                .map_err(|_| "write a number from 0 up, or all".to_string()),
        }
    }
}

/// Some classifiers, or all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct HeadList(pub(crate) HeadSelection);

impl FromStr for HeadList {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "all" {
            return Ok(Self(HeadSelection::All));
        }
        let heads = text.split(',').map(|number| number.trim().parse());
        let heads = heads.collect::<Result<Vec<usize>, _>>().map_err(|_| {
            "write a number from 0 up, several with commas between, or all".to_string()
        })?;
        Ok(Self(HeadSelection::Only(heads)))
    }
}

/// Some outputs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct OutputList(pub(crate) BTreeSet<Output>);

impl FromStr for OutputList {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let outputs = text.split(',').map(|word| {
            // As the outputs are called in the file, too.
            let word = word.trim();
            let word = word.strip_suffix(".*").unwrap_or(word);
            let found = Output::ALL.into_iter().find(|output| output.word() == word);
            found.ok_or_else(|| {
                let known = Output::ALL.map(Output::word).join(", ");
                format!("{word:?} is not one of {known}")
            })
        });
        Ok(Self(outputs.collect::<Result<_, _>>()?))
    }
}

/// A file of class names, for a certain head or the first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NamesFile {
    pub(crate) head: Option<usize>,
    pub(crate) path: PathBuf,
}

impl FromStr for NamesFile {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some((head, path)) = text.split_once('=')
            && let Ok(head) = head.parse()
        {
            let (head, path) = (Some(head), path.into());
            return Ok(Self { head, path });
        }
        Ok(Self {
            head: None,
            path: text.into(),
        })
    }
}

/// Where the weights are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum External {
    /// In the file, or beside it if they make it larger than 2 GiB
    Auto,
    /// Beside it, in MODEL.onnx.data
    Always,
    /// In the file
    Never,
}

/// What can be chosen about the file.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct FileArgs {
    /// Which classifiers: positions in model.heads, from 0, the first one given being the default; or all of them
    #[arg(long, value_name = "N[,N...]|all", default_value = "0")]
    pub(crate) head: HeadList,
    /// Which outputs: logits, probabilities, embedding, features (the backbone's). Without it the first three, or the
    /// features of a backbone without classifiers
    #[arg(long, value_name = "LIST")]
    pub(crate) outputs: Option<OutputList>,
    /// Names of the classes, one a line, of the first of --head or of HEAD: yours, or those that `eval clusters
    /// --save-names` found. May be given once for each head
    #[arg(long, value_name = "[HEAD=]FILE")]
    pub(crate) names: Vec<NamesFile>,
    /// What the file takes: float (normalised planes [batch, 3, crop, crop]), uint8 (RGB bytes [batch, crop, crop, 3];
    /// the file normalises) or any (RGB bytes [batch, height, width, 3] of any size; the file also resizes and crops)
    #[arg(long, value_name = "KIND", default_value_t = InputKind::Float)]
    pub(crate) input: InputKind,
    /// Fix the batch to N images; without it, it is free
    #[arg(long, value_name = "N")]
    pub(crate) batch: Option<usize>,
    /// Leave the height and width of the images free: residual networks only
    #[arg(long)]
    pub(crate) dynamic_size: bool,
    /// Operator set, from 17 to 21; without it the oldest that will do: 17, or 18 for --input any
    #[arg(long, value_name = "N")]
    pub(crate) opset: Option<i64>,
    /// How weights are stored: f32, or f16 for half the size (computed in f32 all the same)
    #[arg(long, value_name = "TYPE", default_value_t = WeightKind::F32)]
    pub(crate) weights: WeightKind,
    /// Where weights are kept
    #[arg(long, value_name = "WHEN", default_value = "auto")]
    pub(crate) external_data: External,
}

impl FileArgs {
    /// A file with everything as it is without options, of one head.
    pub(crate) fn plain(head: usize) -> Self {
        Self {
            head: HeadList(HeadSelection::Only(vec![head])),
            outputs: None,
            names: Vec::new(),
            input: InputKind::Float,
            batch: None,
            dynamic_size: false,
            opset: None,
            weights: WeightKind::F32,
            external_data: External::Auto,
        }
    }

    /// As the writer takes them. `heads` is the model's number of classifiers.
    pub(super) fn options(&self, heads: usize) -> FileOptions {
        let selected = match &self.head.0 {
            // A backbone alone has no first classifier either, which nobody asked for.
            HeadSelection::Only(only) if heads == 0 && *only == [0] => HeadSelection::All,
            other => other.clone(),
        };
        FileOptions {
            heads: selected,
            outputs: self.outputs.as_ref().map(|outputs| outputs.0.clone()),
            batch: self.batch,
            dynamic_size: self.dynamic_size,
            opset: self.opset,
            input: self.input,
            weights: self.weights,
            external: match self.external_data {
                External::Auto => ExternalData::Auto,
                External::Always => ExternalData::Always,
                External::Never => ExternalData::Never,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_are_numbers_or_all() {
        assert_eq!("all".parse(), Ok(HeadChoice::All));
        assert_eq!("3".parse(), Ok(HeadChoice::One(3)));
        for wrong in ["", "-1", "ALL", "1,2"] {
            assert!(wrong.parse::<HeadChoice>().is_err(), "{wrong:?}");
        }
        let only = |heads: &[usize]| Ok(HeadList(HeadSelection::Only(heads.to_vec())));
        assert_eq!("all".parse(), Ok(HeadList(HeadSelection::All)));
        assert_eq!("3".parse(), only(&[3]));
        assert_eq!("2, 0".parse(), only(&[2, 0]));
        for wrong in ["", "1,", "all,1", "-1", "1;2"] {
            assert!(wrong.parse::<HeadList>().is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn outputs_are_named_as_in_the_file() {
        let list = |text: &str| text.parse::<OutputList>().map(|list| list.0);
        assert_eq!(
            list("features,logits.*"),
            Ok([Output::Logits, Output::Features].into())
        );
        assert!(list("probabilities,logit").is_err());
        assert!(list("").is_err());
    }

    #[test]
    fn names_may_be_for_a_head() {
        let names = |text: &str| text.parse::<NamesFile>().expect("always");
        assert_eq!(names("2=a.txt").head, Some(2));
        assert_eq!(names("2=a.txt").path, PathBuf::from("a.txt"));
        assert_eq!(names("a=b.txt").path, PathBuf::from("a=b.txt"));
        assert_eq!(names("a.txt").head, None);
    }
}
