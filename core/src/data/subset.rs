//! Class subset files: which class folders of a data set to use, and in which order.

use crate::{Error, Result};
use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::Path;

/// How many unknown names an error lists.
const LISTED: usize = 10;

/// The classes that the file at `path` names, as positions in `known`, in the order of the file.
///
/// One class per line: its first word, what follows being a description (`n01558993 robin, American
/// robin`); or the whole line, where that is a folder's name. Empty lines are passed over.
///
/// # Errors
/// If the file cannot be read, names fewer than two classes, one twice, or any that is not `known`: all
/// of these are listed.
pub(super) fn select(path: &Path, known: &[String]) -> Result<Vec<usize>> {
    let text = fs::read_to_string(path).map_err(Error::io("read", path))?;
    let positions: HashMap<&str, usize> = known
        .iter()
        .enumerate()
        .map(|(position, class)| (class.as_str(), position))
        .collect();
    let position = |name: &str| positions.get(name).copied();
    let mut chosen = Vec::new();
    let mut unknown = Vec::new();
    let mut lines_of: BTreeMap<usize, usize> = BTreeMap::new();
    for (number, line) in text.lines().enumerate() {
        let line = line.trim();
        let Some(word) = line.split_whitespace().next() else {
            continue;
        };
        match position(line).or_else(|| position(word)) {
            None => unknown.push(word),
            Some(class) => {
                if let Some(before) = lines_of.insert(class, number + 1) {
                    return Err(Error::malformed(
                        path,
                        format!(
                            "lines {before} and {} both name the class {}",
                            number + 1,
                            known[class]
                        ),
                    ));
                }
                chosen.push(class);
            }
        }
    }
    if !unknown.is_empty() {
        let mut list = unknown[..unknown.len().min(LISTED)].join(", ");
        if unknown.len() > LISTED {
            list.push_str(&format!(" and {} more", unknown.len() - LISTED));
        }
        return Err(Error::malformed(
            path,
            format!(
                "{} of its classes are not in the data: {list}; a line begins with the name of a class (folder), such as {}",
                unknown.len(),
                known[0]
            ),
        ));
    }
    if chosen.len() < 2 {
        return Err(Error::malformed(
            path,
            format!(
                "names {} classes; a subset needs at least two",
                chosen.len()
            ),
        ));
    }
    Ok(chosen)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn choose(text: &str) -> Result<Vec<usize>> {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("subset.txt");
        fs::write(&path, text).expect("writes");
        let known = ["a", "b", "big cat", "n01558993"].map(String::from);
        select(&path, &known)
    }

    #[test]
    fn first_words_or_whole_lines_in_the_files_order() {
        let chosen = choose("n01558993 robin, American robin\n\n  b \r\nbig cat\n");
        assert_eq!(chosen.expect("known"), [3, 1, 2]);
    }

    #[test]
    fn what_cannot_be_meant_is_refused() {
        let message = |text: &str| choose(text).expect_err("refused").to_string();
        let unknown = message("a\nx one\ny two\n");
        assert!(unknown.contains("2 of its classes") && unknown.contains("x, y"));
        let many: String = (0..13).map(|i| format!("z{i}\n")).collect();
        assert!(message(&many).contains("and 3 more"));
        assert!(message("a\nb\na\n").contains("lines 1 and 3"));
        assert!(message("a\n").contains("at least two"));
        let missing = select(Path::new("/no/such/file"), &["a".into()]);
        assert!(
            missing
                .expect_err("refused")
                .to_string()
                .contains("/no/such/file")
        );
    }
}
