//! Coarser classes: which superclass each class belongs to.

use super::labels::{open_lines, parse_label, quoted};
use crate::{Error, Result};
use std::collections::BTreeMap;
use std::path::Path;

/// A map from class ids to superclass ids. A class without an entry is a superclass of its own, different from all
/// others even if its id happens to equal a superclass id.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SuperclassMap {
    map: BTreeMap<u64, u64>,
}

/// What a class counts as. Superclass 3 and a class 3 without a superclass are different groups.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Group {
    Superclass(u64),
    ClassAlone(u64),
}

impl SuperclassMap {
    /// Reads a text file in one of two forms: one integer per line, line i (from 0) being the superclass of class i;
    /// or two integers per line, a class and its superclass, in any order of lines.
    ///
    /// # Errors
    /// [`Error::Io`] if the file cannot be read, [`Error::Malformed`] naming the line if it is neither form or
    /// gives a class two superclasses.
    pub fn read(path: &Path) -> Result<Self> {
        let mut map = BTreeMap::new();
        let mut form = None;
        for line in open_lines(path)? {
            let (number, text) = line?;
            let words: Vec<&str> = text.split_whitespace().collect();
            if *form.get_or_insert(words.len()) != words.len() || words.len() > 2 {
                return Err(Error::malformed(
                    path,
                    format!(
                        "line {number} is {}; each line must hold one integer (the superclass of class 0, 1, ...) \
                         or each line two (a class and its superclass)",
                        quoted(&text)
                    ),
                ));
            }
            let mut ids = Vec::with_capacity(2);
            for word in words {
                ids.push(u64::from(parse_label(path, number, word)?));
            }
            let (class, superclass) = match ids[..] {
                [class, superclass] => (class, superclass),
                [superclass] => (number as u64 - 1, superclass),
                // `open_lines` gives no empty line.
                _ => continue,
            };
            if let Some(before) = map.insert(class, superclass)
                && before != superclass
            {
                return Err(Error::malformed(
                    path,
                    format!(
                        "line {number} puts class {class} into superclass {superclass}, an earlier line into {before}"
                    ),
                ));
            }
        }
        Ok(Self { map })
    }

    pub(super) fn group(&self, class: u64) -> Group {
        match self.map.get(&class) {
            Some(&superclass) => Group::Superclass(superclass),
            None => Group::ClassAlone(class),
        }
    }
}

impl FromIterator<(u64, u64)> for SuperclassMap {
    /// From pairs (class, superclass); of several for one class the last counts.
    fn from_iter<I: IntoIterator<Item = (u64, u64)>>(pairs: I) -> Self {
        Self {
            map: pairs.into_iter().collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<SuperclassMap> {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("super.txt");
        std::fs::write(&path, text).expect("written");
        SuperclassMap::read(&path)
    }

    #[test]
    fn both_forms_are_read() {
        let by_line = read("7\n7\n9\n").expect("one per line");
        assert_eq!(by_line, read("2 9\n0 7\r\n1\t7\n").expect("pairs"));
        assert_eq!(by_line.group(2), Group::Superclass(9));
        // Class 9 has no entry and is not superclass 9.
        assert_eq!(by_line.group(9), Group::ClassAlone(9));
    }

    #[test]
    fn what_is_wrong_is_said_with_its_line() {
        for (text, expected) in [
            ("1\n1 2\n", "line 2"),
            ("1 2 3\n", "line 1"),
            ("0 1\n0 2\n", "line 2 puts class 0 into superclass 2"),
            ("1\n-1\n", "line 2"),
        ] {
            let error = read(text).expect_err(text).to_string();
            assert!(
                error.contains(expected) && error.contains("super.txt"),
                "{error}"
            );
        }
    }
}
