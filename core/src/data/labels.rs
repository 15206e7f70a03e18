//! Labels from the folders that images lie in.

use crate::{Error, Result};
use std::fmt::Display;

/// Names of folders that hold parts of a data set rather than classes.
const PARTS: [&str; 6] = ["train", "training", "val", "valid", "validation", "test"];

/// The label of each image and the names of the classes; none and empty where images are unlabelled.
pub(super) type Labelled = (Option<Vec<usize>>, Vec<String>);

/// Labels from the name of each image's folder, the classes in the order of their names. Images are unlabelled if
/// some are in none, or all are in one.
///
/// # Errors
/// If the folders are named as the parts of a data set, of which one should have been given instead of `place`.
pub(super) fn of_folders(place: &dyn Display, folders: Option<Vec<String>>) -> Result<Labelled> {
    let Some(folders) = folders else {
        return Ok((None, Vec::new()));
    };
    let mut classes = folders.clone();
    // Runs of neighbours first: sorting millions of equal names would take long.
    classes.dedup();
    classes.sort_unstable();
    classes.dedup();
    if classes.len() < 2 {
        return Ok((None, Vec::new()));
    }
    let is_part = |name: &String| PARTS.contains(&name.to_lowercase().as_str());
    if classes.iter().all(is_part) {
        return Err(Error::Data(format!(
            "{place} looks like a data set of several parts ({}), not like classes; give one of them alone",
            classes.join(", ")
        )));
    }
    let labels = folders
        .iter()
        // Invariant: `classes` was collected from these very names.
        .map(|name| classes.binary_search(name).expect("a collected class"))
        .collect();
    Ok((Some(labels), classes))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(folders: &[&str]) -> Result<Labelled> {
        of_folders(
            &"photos",
            Some(folders.iter().map(|&name| name.into()).collect()),
        )
    }

    #[test]
    fn folders_are_numbered_by_name() {
        let (labels, classes) = of(&["b", "b", "a", "b"]).expect("labelled");
        assert_eq!(labels.expect("labels"), [1, 1, 0, 1]);
        assert_eq!(classes, ["a", "b"]);
        for unlabelled in [of(&["a", "a"]), of(&[]), of_folders(&"photos", None)] {
            assert_eq!(unlabelled.expect("read"), (None, Vec::new()));
        }
    }

    #[test]
    fn parts_of_a_data_set_are_no_classes() {
        let message = of(&["train", "Test"]).expect_err("refused").to_string();
        assert!(
            message.contains("photos looks like")
                && message.contains("several parts (Test, train)"),
            "{message}"
        );
        assert!(of(&["train", "tram"]).is_ok());
    }
}
