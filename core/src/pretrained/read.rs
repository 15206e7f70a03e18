//! From a file of weights to a state dict under our names.

use super::file::{Entry, WeightFile};
use super::layouts::{COUNTER, LAYOUTS, Layout, Rule, SYNONYMS, WRAPPERS};
use crate::weights::{Array, StateDict};
use crate::{Error, Result};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// Weights out of somebody's file.
#[derive(Debug, Clone, PartialEq)]
pub struct Pretrained {
    /// Whose layout the file has.
    pub project: &'static str,
    /// The weights under our names: `backbone.*`, and `mlp_head.*` and `cls_*` where the file has them.
    pub state: StateDict,
    /// What was knowingly left out, and how many tensors of it.
    pub dropped: BTreeMap<String, usize>,
}

/// The entries of a recognised state dict under our names, not yet read.
#[derive(Debug)]
pub(super) struct Recognised {
    pub(super) layout: &'static Layout,
    /// In the file's order: the name in the file, ours, and where the values are.
    pub(super) entries: Vec<(String, String, Entry)>,
    pub(super) dropped: BTreeMap<String, usize>,
    /// Classifiers that come without a gain.
    bare: Vec<String>,
}

impl Recognised {
    /// The weights under our names.
    ///
    /// # Errors
    /// If the file is damaged, or a classifier is none.
    pub(super) fn state(&self, file: &WeightFile) -> Result<StateDict> {
        let mut state = StateDict::new();
        for (name, ours, entry) in &self.entries {
            state.insert(ours.clone(), file.array(name, entry)?);
        }
        for name in &self.bare {
            let directions = state.get(&format!("{name}.weight_v"));
            let Some(&[classes, _]) = directions.map(|array| array.shape.as_slice()) else {
                return Err(Error::malformed(
                    file.path(),
                    format!("{name} is not a classifier, [classes, dim]"),
                ));
            };
            let gain = Array::new([classes, 1], vec![1.0; classes]);
            state.insert(format!("{name}.weight_g"), gain);
        }
        Ok(state)
    }
}

/// Reads the weights in `path`: a `.pth` or `.pth.tar` file of PyTorch or a safetensors file, of one of
/// the projects in [`LAYOUTS`]. Names that begin with one of `ignore` (as they stand in the file) are
/// left out.
///
/// Nothing in the file is executed, and what objects of unknown classes it may hold is not looked at.
///
/// # Errors
/// If the file is damaged, of no known layout, or has names that the layout does not know: all of them
/// are listed.
pub fn read(path: &Path, ignore: &[String]) -> Result<Pretrained> {
    let file = WeightFile::open(path)?;
    let recognised = recognise(&file, ignore)?;
    Ok(Pretrained {
        project: recognised.layout.project,
        state: recognised.state(&file)?,
        dropped: recognised.dropped,
    })
}

/// Finds the layout of `file` and sorts its entries by it.
pub(super) fn recognise(file: &WeightFile, ignore: &[String]) -> Result<Recognised> {
    for layout in LAYOUTS {
        for container in layout.containers {
            let Some(entries) = file.entries(container) else {
                continue;
            };
            let prefix = wrapper(&entries);
            let marked = |(name, _): &(String, Entry)| {
                let bare = &name[prefix.len()..];
                layout.marks.iter().any(|mark| bare.starts_with(mark))
            };
            if entries.iter().any(marked) {
                return sort(file, layout, &prefix, entries, ignore);
            }
        }
    }
    let keys = file.keys();
    let known: BTreeSet<&str> = LAYOUTS.iter().map(|layout| layout.project).collect();
    Err(Error::malformed(
        file.path(),
        format!(
            "its weights are of no known layout (it has {}); known are {}",
            some(&keys),
            known.into_iter().collect::<Vec<_>>().join(", ")
        ),
    ))
}

/// What all names begin with because the model was wrapped.
fn wrapper(entries: &[(String, Entry)]) -> String {
    let mut prefix = String::new();
    if entries.is_empty() {
        return prefix;
    }
    while let Some(wrapper) = WRAPPERS.iter().find(|wrapper| {
        entries
            .iter()
            .all(|(name, _)| name[prefix.len()..].starts_with(**wrapper))
    }) {
        prefix.push_str(wrapper);
    }
    prefix
}

fn sort(
    file: &WeightFile,
    layout: &'static Layout,
    prefix: &str,
    entries: Vec<(String, Entry)>,
    ignore: &[String],
) -> Result<Recognised> {
    let mut sorted = Recognised {
        layout,
        entries: Vec::new(),
        dropped: BTreeMap::new(),
        bare: Vec::new(),
    };
    let mut unexpected = Vec::new();
    let mut taken = BTreeSet::new();
    for (name, entry) in entries {
        if ignore.iter().any(|start| name.starts_with(start.as_str())) {
            *sorted.dropped.entry("ignored as asked".into()).or_default() += 1;
            continue;
        }
        let bare = &name[prefix.len()..];
        let rule = layout.rules.iter().find(|rule| match rule {
            Rule::Keep { from, .. } => bare.starts_with(from),
            Rule::Drop { prefix, .. } => bare.starts_with(prefix),
            Rule::Directions { prefix } => {
                let number = bare.strip_prefix(prefix);
                number.is_some_and(|number| number.parse::<usize>().is_ok())
            }
        });
        match rule {
            Some(Rule::Drop { what, .. }) => {
                *sorted.dropped.entry((*what).into()).or_default() += 1
            }
            Some(Rule::Keep { .. }) if bare.ends_with(COUNTER) => {}
            Some(Rule::Keep { from, to }) => {
                let mut ours = format!("{to}{}", &bare[from.len()..]);
                for (theirs, synonym) in SYNONYMS {
                    ours = ours.replace(theirs, synonym);
                }
                if !taken.insert(ours.clone()) {
                    return Err(Error::malformed(
                        file.path(),
                        format!("{name} is not the only one that means {ours}"),
                    ));
                }
                sorted.entries.push((name, ours, entry));
            }
            Some(Rule::Directions { .. }) => {
                sorted.bare.push(bare.to_owned());
                let ours = format!("{bare}.weight_v");
                sorted.entries.push((name, ours, entry));
            }
            None => unexpected.push(name),
        }
    }
    if !unexpected.is_empty() {
        return Err(Error::malformed(
            file.path(),
            format!(
                "a checkpoint of {} does not have {}; if you know that they are not needed, name them (or how they begin) to be ignored",
                layout.project,
                unexpected.join(", ")
            ),
        ));
    }
    Ok(sorted)
}

/// The first few of many names.
fn some(names: &[String]) -> String {
    const SHOWN: usize = 8;
    match names {
        [] => "no dictionary".into(),
        names if names.len() <= SHOWN => names.join(", "),
        names => format!(
            "{} and {} more",
            names[..SHOWN].join(", "),
            names.len() - SHOWN
        ),
    }
}
