//! Which tar files a name means.

use crate::{Error, Result};
use std::fs;
use std::path::{Path, PathBuf};

/// The most tar files that a range may mean, and digits of their numbers.
const MAX_SHARDS: u32 = 1_000_000;
const MAX_DIGITS: usize = 9;

/// The files that a pattern means, at least one.
pub(super) fn shards(pattern: &str) -> Result<Vec<PathBuf>> {
    let path = Path::new(pattern);
    if pattern.is_empty() {
        return Err(Error::Data(
            "tar needs its files: tar:FILE.tar, tar:FOLDER or tar:name-{000..146}.tar; a folder called tar is given as ./tar".into(),
        ));
    }
    if !path.is_dir() {
        return range(pattern);
    }
    let entries = fs::read_dir(path).map_err(Error::io("open", path))?;
    let mut found = Vec::new();
    for entry in entries {
        let file = entry.map_err(Error::io("read", path))?.path();
        let ending = file.extension().unwrap_or_default();
        if ending.eq_ignore_ascii_case("tar") && file.is_file() {
            found.push(file);
        }
    }
    found.sort_unstable();
    if found.is_empty() {
        return Err(Error::Data(format!("{pattern} holds no .tar files")));
    }
    Ok(found)
}

/// `a{08..11}b` as a08b, a09b, a10b, a11b; other names as they are.
fn range(pattern: &str) -> Result<Vec<PathBuf>> {
    let parts = pattern.split_once('{').and_then(|(before, rest)| {
        let (inner, after) = rest.split_once('}')?;
        let (from, to) = inner.split_once("..")?;
        Some((before, from, to, after))
    });
    let Some((before, from, to, after)) = parts else {
        return Ok(vec![pattern.into()]);
    };
    let number = |digits: &str| {
        let plain = digits.len() <= MAX_DIGITS && digits.bytes().all(|byte| byte.is_ascii_digit());
        plain.then(|| digits.parse::<u32>().ok()).flatten()
    };
    match (number(from), number(to)) {
        (Some(first), Some(last)) if first <= last && last - first < MAX_SHARDS => {
            let width = from.len();
            let name = |number| format!("{before}{number:0width$}{after}").into();
            Ok((first..=last).map(name).collect())
        }
        _ => Err(Error::Data(format!(
            "{{{from}..{to}}} in {pattern} is no range of numbers, such as {{000..146}}"
        ))),
    }
}
