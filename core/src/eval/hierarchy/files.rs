//! The three files of a hierarchy.

use crate::{Error, Result};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs;
use std::path::Path;

/// Class ids and names. An entry is a number, an id and a name; the number is the class's place in ImageNet's order,
/// which nothing here depends on.
pub(super) fn classes(path: &Path) -> Result<BTreeMap<String, String>> {
    let entries: Vec<(u64, String, String)> =
        serde_json::from_str(&text(path)?).map_err(|error| Error::malformed(path, error))?;
    let mut classes = BTreeMap::new();
    for (number, id, name) in entries {
        if classes.insert(id.clone(), name).is_some() {
            return Err(Error::malformed(
                path,
                format!("class {id} occurs twice, the second time with number {number}"),
            ));
        }
    }
    if classes.is_empty() {
        return Err(Error::malformed(path, "it lists no classes"));
    }
    Ok(classes)
}

/// Children of each node.
pub(super) fn edges(path: &Path) -> Result<BTreeMap<String, BTreeSet<String>>> {
    let mut edges: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (number, line) in lines(&text(path)?) {
        let mut words = line.split_whitespace();
        let (Some(parent), Some(child), None) = (words.next(), words.next(), words.next()) else {
            return Err(Error::malformed(
                path,
                format!("line {number}: expected the ids of a parent and of its child"),
            ));
        };
        edges.entry(parent.into()).or_default().insert(child.into());
    }
    Ok(edges)
}

/// Names of nodes.
pub(super) fn names(path: &Path) -> Result<HashMap<String, String>> {
    lines(&text(path)?)
        .map(|(number, line)| {
            let (id, name) = line.split_once('\t').ok_or_else(|| {
                Error::malformed(
                    path,
                    format!("line {number}: expected an id, a tab and a name"),
                )
            })?;
            Ok((id.to_string(), name.to_string()))
        })
        .collect()
}

/// The lines that are not empty, with their numbers from 1.
fn lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let lines = text.lines().enumerate();
    lines
        .map(|(index, line)| (index + 1, line.trim()))
        .filter(|(_, line)| !line.is_empty())
}

fn text(path: &Path) -> Result<String> {
    fs::read_to_string(path).map_err(Error::io("read", path))
}
