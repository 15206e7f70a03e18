//! Which images.

use selfcls_core::Error;
use selfcls_core::pixels::Rgb8;
use selfcls_export::{Decoding, Picture};
use std::borrow::Cow;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// What a search gives: an image, or why a folder gives none.
pub(super) enum Found {
    File(PathBuf),
    Nothing(Error),
}

impl Found {
    pub(super) fn path(&self) -> Option<&Path> {
        match self {
            Self::File(path) => Some(path),
            Self::Nothing(_) => None,
        }
    }
}

impl From<selfcls_core::Result<PathBuf>> for Found {
    fn from(found: selfcls_core::Result<PathBuf>) -> Self {
        found.map_or_else(Self::Nothing, Self::File)
    }
}

impl Picture for Found {
    fn pixels(&self, decoding: Decoding, wanted: usize) -> selfcls_core::Result<Cow<'_, Rgb8>> {
        match self {
            Self::File(path) => path.pixels(decoding, wanted),
            Self::Nothing(error) => Err(Error::Data(error.to_string())),
        }
    }
}

/// One of several equal parts of a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Shard {
    /// From 0.
    index: usize,
    count: usize,
}

impl Shard {
    pub(super) const WHOLE: Self = Self { index: 0, count: 1 };

    /// Its part of `all`: neighbours go to different parts, so that all parts end at the same time.
    pub(super) fn of<I: Iterator>(self, all: I) -> impl Iterator<Item = I::Item> {
        all.skip(self.index).step_by(self.count)
    }
}

/// `I/N`, with I from 1 to N.
impl FromStr for Shard {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let numbers = text.split_once('/').and_then(|(index, count)| {
            Some((index.parse::<usize>().ok()?, count.parse::<usize>().ok()?))
        });
        match numbers {
            Some((index, count)) if (1..=count).contains(&index) => Ok(Self {
                index: index - 1,
                count,
            }),
            _ => Err("write I/N with I from 1 to N, such as 2/8".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_make_up_the_whole() {
        for count in 1..8 {
            let mut all: Vec<usize> = (1..=count)
                .flat_map(|index| {
                    let shard: Shard = format!("{index}/{count}").parse().expect("a part");
                    shard.of(0..20).collect::<Vec<_>>()
                })
                .collect();
            all.sort_unstable();
            assert_eq!(all, (0..20).collect::<Vec<_>>());
        }
        for wrong in ["", "1", "0/3", "4/3", "1/0", "-1/3", "1/3/2", "a/b"] {
            assert!(wrong.parse::<Shard>().is_err(), "{wrong}");
        }
    }
}
