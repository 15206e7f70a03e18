//! Label files: text, one non-negative integer per line.

use crate::{Error, Result};
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;

/// Reads labels, one integer from 0 to 4294967295 per line. Spaces around it and empty lines at the end are allowed,
/// and so are Windows line ends.
///
/// # Errors
/// [`Error::Io`] if the file cannot be read; [`Error::Malformed`] naming file and line if a line is something else,
/// or if there is no label at all.
pub fn read_labels(path: &Path) -> Result<Vec<u32>> {
    let mut labels = Vec::new();
    for line in open_lines(path)? {
        let (number, text) = line?;
        labels.push(parse_label(path, number, &text)?);
    }
    if labels.is_empty() {
        return Err(Error::malformed(
            path,
            "the file holds no labels; write one integer per line",
        ));
    }
    Ok(labels)
}

/// The trimmed lines of a text file with their numbers, from 1. An empty line is an error unless only empty lines
/// follow: skipped, it would shift everything after it.
pub(super) fn open_lines(path: &Path) -> Result<impl Iterator<Item = Result<(usize, String)>>> {
    let file = File::open(path).map_err(Error::io("read", path))?;
    if file.metadata().is_ok_and(|metadata| metadata.is_dir()) {
        return Err(Error::malformed(path, "is a folder, not a text file"));
    }
    let path = path.to_path_buf();
    let mut first_empty = None;
    let lines = BufReader::new(file).lines().enumerate();
    Ok(lines.filter_map(move |(index, line)| {
        let number = index + 1;
        let line = match line {
            Ok(line) => line,
            Err(error) if error.kind() == std::io::ErrorKind::InvalidData => {
                return Some(Err(Error::malformed(
                    &path,
                    format!("line {number} is not text"),
                )));
            }
            Err(error) => return Some(Err(Error::io("read", &path)(error))),
        };
        // Some editors put a byte-order mark first.
        let text = line.trim_start_matches('\u{feff}').trim();
        match (text.is_empty(), first_empty) {
            (true, None) => {
                first_empty = Some(number);
                None
            }
            (true, Some(_)) => None,
            (false, Some(empty)) => Some(Err(Error::malformed(
                &path,
                format!("line {empty} is empty; every line must hold one integer"),
            ))),
            (false, None) => Some(Ok((number, text.to_string()))),
        }
    }))
}

/// One label, at `line` of `path`.
pub(super) fn parse_label(path: &Path, line: usize, text: &str) -> Result<u32> {
    text.parse().map_err(|_| {
        let reason = match text.parse::<i128>() {
            Ok(value) if value < 0 => "is negative; labels count from 0",
            Ok(_) => "is larger than 4294967295",
            Err(_) => "is not an integer",
        };
        Error::malformed(path, format!("line {line}: {} {reason}", quoted(text)))
    })
}

/// `text` in quotes, cut after a few characters: a wrong file may hold everything in one line.
pub(super) fn quoted(text: &str) -> String {
    const SHOWN: usize = 30;
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{:?}...", &text[..end]),
        None => format!("{text:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &[u8]) -> Result<Vec<u32>> {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("labels.txt");
        std::fs::write(&path, bytes).expect("written");
        read_labels(&path)
    }

    #[test]
    fn integers_are_read() {
        assert_eq!(read(b"3\n0\n4294967295").expect("read"), [3, 0, u32::MAX]);
        assert_eq!(read(b"\xef\xbb\xbf3\r\n 1 \r\n\n\n").expect("read"), [3, 1]);
    }

    #[test]
    fn everything_else_is_named_with_file_and_line() {
        for (bytes, expected) in [
            (&b"1\n-2\n"[..], "line 2: \"-2\" is negative"),
            (
                b"4294967296\n",
                "line 1: \"4294967296\" is larger than 4294967295",
            ),
            (b"1\n2.0\n", "line 2: \"2.0\" is not an integer"),
            (b"1 2\n", "line 1: \"1 2\" is not an integer"),
            (
                b"[1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16]",
                "line 1: \"[1,2,3,4,5,6,7,8,9,10,11,12,13\"... is not an integer",
            ),
            (b"1\n\n2\n", "line 2 is empty"),
            (b"1\n\xff\xfe\n", "line 2 is not text"),
            (b"\n", "holds no labels"),
            (b"", "holds no labels"),
        ] {
            let error = read(bytes).expect_err(expected).to_string();
            assert!(
                error.contains(expected) && error.contains("labels.txt"),
                "{error}"
            );
        }
        let error = read_labels(Path::new("no-such-file.txt"))
            .expect_err("absent")
            .to_string();
        assert!(error.contains("cannot read no-such-file.txt"), "{error}");
    }
}
