//! `export`: from a checkpoint to an ONNX file.

use crate::error::{CliError, Result};
use clap::Args;
use std::path::PathBuf;
use std::str::FromStr;

/// Write a trained classifier as an ONNX file, preprocessing and class names included
#[derive(Debug, Args)]
pub(crate) struct ExportArgs {
    /// A run directory (its newest checkpoint) or a checkpoint
    #[arg(value_name = "RUN|CHECKPOINT")]
    pub(crate) model: PathBuf,
    /// File to write
    #[arg(long, value_name = "MODEL.onnx")]
    pub(crate) out: PathBuf,
    /// Which classifier: its position in model.heads, from 0; or all of them
    #[arg(long, value_name = "N|all", default_value = "0")]
    pub(crate) head: HeadChoice,
}

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

pub(crate) fn run(args: &ExportArgs) -> Result<()> {
    Err(CliError::failure(format!(
        "export is not wired yet: {args:?}"
    )))
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
    }
}
