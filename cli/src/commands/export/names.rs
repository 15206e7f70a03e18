//! Names of classes, from files.

use super::choices::NamesFile;
use crate::error::{CliError, Result};
use selfcls_core::metadata::{HeadInfo, Metadata};
use std::path::Path;

/// Longest name in bytes: what a person may want to read in a list.
const LONGEST: usize = 1000;

/// Gives the heads of `metadata` the names in `files`; a file without a head is for `default`.
pub(super) fn give(metadata: &mut Metadata, files: &[NamesFile], default: usize) -> Result<()> {
    for file in files {
        let index = file.head.unwrap_or(default);
        let path = &file.path;
        let names = read(path)?;
        let head = metadata.heads.iter_mut().find(|head| head.index == index);
        let Some(HeadInfo {
            classes,
            names: place,
            ..
        }) = head
        else {
            return Err(CliError::usage(format!(
                "--names {}: the model has no head {index}",
                path.display()
            )));
        };
        if names.len() != *classes {
            return Err(CliError::usage(format!(
                "{} has {} names, but head {index} has {classes} classes; one line per class is needed",
                path.display(),
                names.len()
            )));
        }
        if place.replace(names).is_some() {
            return Err(CliError::usage(format!(
                "--names is given twice for head {index}; write HEAD=FILE for other heads"
            )));
        }
    }
    Ok(())
}

/// The lines of a file, without the space around them.
fn read(path: &Path) -> Result<Vec<String>> {
    let text = std::fs::read_to_string(path).map_err(|error| {
        CliError::failure(format!(
            "cannot read the names in {}: {error}",
            path.display()
        ))
    })?;
    let lines = text.lines().map(str::trim);
    let names: Vec<String> = lines.map(str::to_owned).collect();
    let bad = names.iter().position(|name| {
        name.is_empty() || name.len() > LONGEST || name.contains(char::is_control)
    });
    match bad {
        None => Ok(names),
        Some(line) => Err(CliError::failure(format!(
            "line {} of {} is not a name: it is empty, longer than {LONGEST} bytes or has control characters",
            line + 1,
            path.display()
        ))
        .hint("a class without a meaning needs a word too, such as - or unnamed")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use selfcls_core::Config;
    use selfcls_core::metadata::TrainingSummary;
    use std::path::PathBuf;

    #[test]
    fn names_are_checked_against_the_classes() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = |name: &str, text: &str| -> PathBuf {
            let path = folder.path().join(name);
            std::fs::write(&path, text).expect("written");
            path
        };
        let mut config = Config::default();
        config.model.heads = vec![2, 3];
        let given = |files: &[NamesFile]| {
            let mut metadata = Metadata::new(&config, TrainingSummary::default());
            give(&mut metadata, files, 0).map(|()| metadata)
        };
        let names = |head, path: &Path| NamesFile {
            head,
            path: path.to_path_buf(),
        };
        let two = file("two.txt", "cat\r\n dog \n");
        let three = file("three.txt", "a\nb\nc");
        let metadata = given(&[names(None, &two), names(Some(1), &three)]).expect("they fit");
        let heads = metadata.heads.iter().map(|head| head.names.clone());
        let heads: Vec<_> = heads.map(Option::unwrap_or_default).collect();
        assert_eq!(heads, [vec!["cat", "dog"], vec!["a", "b", "c"]]);

        let blank = file("blank.txt", "cat\n\n");
        for (files, said) in [
            (
                vec![names(None, &three)],
                "three.txt has 3 names, but head 0 has 2",
            ),
            (vec![names(Some(7), &two)], "no head 7"),
            (
                vec![names(None, &two), names(Some(0), &two)],
                "twice for head 0",
            ),
            (vec![names(None, &blank)], "line 2 of"),
            (vec![names(None, Path::new("missing.txt"))], "missing.txt"),
        ] {
            let error = given(&files).expect_err("refused");
            let message = format!("{error:?}");
            assert!(message.contains(said), "{said:?} is not in: {message}");
        }
    }
}
