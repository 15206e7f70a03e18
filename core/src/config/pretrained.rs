//! Weights to start from.

use super::section::section;
use serde::{Deserialize, Serialize};

/// Which parts of a file of weights a training starts from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PretrainedParts {
    /// The backbone.
    Backbone,
    /// Backbone and head; the classifiers begin anew (the authors' --rm-pretrained-cls).
    Head,
    /// Backbone, head and classifiers.
    All,
}

impl PretrainedParts {
    /// Whether the part that parameter `name` is of is among these.
    pub fn include(self, name: &str) -> bool {
        match self {
            Self::Backbone => name.starts_with("backbone."),
            Self::Head => !name.starts_with("cls_"),
            Self::All => true,
        }
    }
}

impl PretrainedConfig {
    /// The beginnings of names in `ignore`.
    pub fn ignored(&self) -> Vec<String> {
        beginnings(&self.ignore)
    }

    /// The beginnings of names in `missing`.
    pub fn may_be_missing(&self) -> Vec<String> {
        beginnings(&self.missing)
    }
}

fn beginnings(list: &str) -> Vec<String> {
    let starts = list.split(',').map(str::trim);
    starts
        .filter(|start| !start.is_empty())
        .map(str::to_string)
        .collect()
}

section! {
    /// Weights to start from instead of random ones. A run that continues does not read them again.
    "pretrained" => PretrainedConfig {
        /// The weights: a run (its newest checkpoint, or RUN@best), a checkpoint, a .pth or .pth.tar file of the authors, torchvision and others, or safetensors. Default "" (random weights).
        file: String = String::new(),
        /// What to take of them: all (with classifiers), head (backbone and head, new classifiers) or backbone. All of it must be there and fit. Default all (authors' code).
        parts: PretrainedParts = PretrainedParts::All,
        /// Tensors of the file to leave out although its layout does not know them: the beginnings of their names, separated by commas. Default "" (they are refused).
        ignore: String = String::new(),
        /// Tensors of the model that the file may lack, and that then begin anew: the beginnings of their names, separated by commas, e.g. "cls_3.". Default "" (they are refused).
        missing: String = String::new(),
    }
}
