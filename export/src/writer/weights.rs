//! Checked access to a state dict: the walk over the layers asks for each weight by name and shape, and
//! what was missing, mis-shaped, not finite or left over is told at the end, all at once.

use crate::{Error, Result};
use selfcls_core::weights::StateDict;
use std::borrow::Cow;
use std::collections::BTreeSet;

/// A state dict and what is wrong with it so far.
pub(super) struct Weights<'a> {
    dict: &'a StateDict,
    taken: BTreeSet<String>,
    problems: Vec<String>,
}

impl<'a> Weights<'a> {
    /// Nothing taken yet.
    pub(super) fn new(dict: &'a StateDict) -> Self {
        Self {
            dict,
            taken: BTreeSet::new(),
            problems: Vec::new(),
        }
    }

    /// The values of `name`, row-major; zeros (and a noted problem) where the dict has none of `shape`.
    pub(super) fn take(&mut self, name: &str, shape: &[usize]) -> Cow<'a, [f32]> {
        self.taken.insert(name.to_owned());
        let length = shape.iter().product();
        let problem = match self.dict.get(name) {
            None => format!("`{name}` {shape:?} is missing"),
            Some(array) if array.shape != shape || array.data.len() != length => {
                format!("`{name}` is {:?}, expected {shape:?}", array.shape)
            }
            Some(array) if array.data.iter().any(|x| !x.is_finite()) => {
                format!("`{name}` has values that are not finite")
            }
            Some(array) => return Cow::Borrowed(&array.data),
        };
        self.problems.push(problem);
        Cow::Owned(vec![0.0; length])
    }

    /// Notes a problem found while using a weight.
    pub(super) fn refuse(&mut self, problem: String) {
        self.problems.push(problem);
    }

    /// Succeeds if every weight fitted and none is left over. PyTorch's `num_batches_tracked` counters
    /// have no use outside training and may be there.
    pub(super) fn finish(mut self) -> Result<()> {
        let extra = self.dict.keys().filter(|name| {
            let counter = name
                .strip_suffix("num_batches_tracked")
                .is_some_and(|layer| self.taken.contains(&format!("{layer}running_mean")));
            !counter && !self.taken.contains(*name)
        });
        self.problems
            .extend(extra.map(|name| format!("`{name}` has no place in the model")));
        if self.problems.is_empty() {
            Ok(())
        } else {
            Err(Error::Weights(self.problems))
        }
    }
}
