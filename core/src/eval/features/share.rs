//! A pass over a data set made by several processes, a share each, and put together afterwards.

use super::file::{Cached, FileWriter, read};
use super::{Key, Precision};
use crate::atomic::folder_of;
use crate::eval::Extracted;
use crate::{Error, Result};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// One of several shares of a data set, by batches: each batch is the very one that a single process would have run,
/// so that what is put together is what that would have made, bit for bit. Neighbours go to different shares, which
/// end at about the same time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Share {
    /// From 0, below `count`.
    pub index: usize,
    /// How many there are.
    pub count: usize,
    /// Images per batch.
    pub batch: usize,
}

impl Share {
    /// The numbers of its images among `total`, rising.
    ///
    /// # Errors
    /// [`Error::Invalid`] if it has none, or cannot be.
    pub fn images(self, total: usize) -> Result<Vec<usize>> {
        if self.batch == 0 || self.index >= self.count {
            return Err(Error::Invalid(format!("there is no share {self}")));
        }
        let batches = total.div_ceil(self.batch);
        if self.index >= batches {
            return Err(Error::Invalid(format!(
                "share {self} is empty: the data are {batches} batches of up to {} images; make at most {batches} shares",
                self.batch
            )));
        }
        let own = (0..total).filter(|image| image / self.batch % self.count == self.index);
        Ok(own.collect())
    }

    /// The file of this share of the cache `whole`, beside it: `features.share-2-of-4.safetensors`.
    pub fn path(self, whole: &Path) -> PathBuf {
        whole.with_file_name(format!(
            "{}{}-of-{}.safetensors",
            beginning(whole),
            self.index + 1,
            self.count
        ))
    }
}

/// `2 of 4`.
impl std::fmt::Display for Share {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} of {}", self.index + 1, self.count)
    }
}

/// How the names of the shares of `whole` begin.
fn beginning(whole: &Path) -> String {
    let stem = whole.file_stem().unwrap_or_default().to_string_lossy();
    format!("{stem}.share-")
}

/// Puts the shares of the cache `whole` of `images` images together, if there are any beside it; they must have been
/// made from what `key` says, but for the kind of features with `any_features`. False if there are none.
///
/// # Errors
/// [`Error::Data`] naming the shares that are missing, or what does not fit; as [`read`](super::read_cache).
pub(in crate::eval) fn join(
    whole: &Path,
    key: &Key,
    any_features: bool,
    images: usize,
) -> Result<bool> {
    let found = beside(whole)?;
    let Some(&count) = found.keys().next() else {
        return Ok(false);
    };
    if found.len() > 1 {
        let counts: Vec<String> = found.keys().map(usize::to_string).collect();
        return Err(Error::Data(format!(
            "beside {} are shares of divisions into {}; remove those of all but one",
            whole.display(),
            counts.join(" and into ")
        )));
    }
    let there = &found[&count];
    let missing: Vec<String> = (1..=count)
        .filter(|number| !there.contains_key(number))
        .map(|number| number.to_string())
        .collect();
    if !missing.is_empty() {
        return Err(Error::Data(format!(
            "of the {count} shares of {} these are missing: {}; make them, or remove the others to have everything made at once",
            whole.display(),
            missing.join(", ")
        )));
    }
    let shares = there.values().map(|path| Ok((path, read(path)?)));
    let shares: Vec<(&PathBuf, Cached)> = shares.collect::<Result<_>>()?;
    Joined::new(&shares, key, any_features, images)?.write(whole)?;
    Ok(true)
}

/// The files that are named as shares of `whole`: by the number of shares, and by the share's number from 1.
fn beside(whole: &Path) -> Result<BTreeMap<usize, BTreeMap<usize, PathBuf>>> {
    let beginning = beginning(whole);
    let folder = folder_of(whole);
    let mut found: BTreeMap<usize, BTreeMap<usize, PathBuf>> = BTreeMap::new();
    let io = || Error::io("read", folder);
    for entry in folder.read_dir().map_err(io())? {
        let path = entry.map_err(io())?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let numbers = name.strip_prefix(&beginning);
        let numbers = numbers.and_then(|name| name.strip_suffix(".safetensors"));
        let numbers = numbers.and_then(|name| name.split_once("-of-"));
        let numbers = numbers.and_then(|(index, count)| {
            Some((index.parse::<usize>().ok()?, count.parse::<usize>().ok()?))
        });
        if let Some((number, count)) = numbers {
            found.entry(count).or_default().insert(number, path);
        }
    }
    Ok(found)
}

/// Shares that fit together.
struct Joined<'a> {
    shares: &'a [(&'a PathBuf, Cached)],
    key: Key,
    images: usize,
    batch: usize,
    precision: Precision,
    labelled: bool,
}

impl<'a> Joined<'a> {
    fn new(
        shares: &'a [(&'a PathBuf, Cached)],
        key: &Key,
        any_features: bool,
        images: usize,
    ) -> Result<Self> {
        let (path, first) = &shares[0];
        let Some(share) = first.key.share else {
            return Err(Error::malformed(path, "it is named as a share and is none"));
        };
        let precision = first.extracted.features.precision();
        let labelled = first.extracted.labels.is_some();
        let mut key = key.clone();
        if any_features {
            key.features.clone_from(&first.key.features);
        }
        for (index, (path, cached)) in shares.iter().enumerate() {
            let share = Share { index, ..share };
            let wanted = Key {
                share: Some(share),
                ..key.clone()
            };
            cached.check(path, &wanted)?;
            let Extracted {
                features, labels, ..
            } = &cached.extracted;
            let rows = share.images(images)?.len();
            if features.len() != rows {
                return Err(Error::malformed(
                    path,
                    format!("it has {} images instead of {rows}", features.len()),
                ));
            }
            if features.precision() != precision || labels.is_some() != labelled {
                return Err(Error::Data(format!(
                    "{} was made in another way than {}: features in 16 bits or in 32, labels or none; make all shares alike",
                    path.display(),
                    shares[0].0.display()
                )));
            }
        }
        Ok(Self {
            shares,
            key,
            images,
            batch: share.batch,
            precision,
            labelled,
        })
    }

    /// Writes the whole.
    fn write(&self, whole: &Path) -> Result<()> {
        let first = &self.shares[0].1.extracted;
        let heads = first.assignments.len();
        let width = first.features.width();
        let shape = [self.images, width, heads];
        let mut writer = FileWriter::new(whole, &self.key, shape, self.labelled, self.precision)?;
        let mut all = Extracted {
            labels: self.labelled.then(Vec::new),
            assignments: vec![Vec::with_capacity(self.images); heads],
            confidences: vec![Vec::with_capacity(self.images); heads],
            ..Extracted::default()
        };
        for (batch, start) in (0..self.images).step_by(self.batch).enumerate() {
            let (path, cached) = &self.shares[batch % self.shares.len()];
            let part = &cached.extracted;
            if part.assignments.len() != heads || part.features.width() != width {
                return Err(Error::malformed(
                    path,
                    "its heads or features are not those of the other shares",
                ));
            }
            let first = batch / self.shares.len() * self.batch;
            let rows = first..first + self.batch.min(self.images - start);
            writer.append(&part.features.read(rows.clone())?)?;
            for head in 0..heads {
                all.assignments[head].extend(&part.assignments[head][rows.clone()]);
                all.confidences[head].extend(&part.confidences[head][rows.clone()]);
            }
            if let (Some(all), Some(labels)) = (&mut all.labels, &part.labels) {
                all.extend(&labels[rows]);
            }
        }
        writer.finish(&all)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_whole_batches_and_make_up_everything() {
        for (total, batch, count) in [(10, 4, 2), (10, 3, 3), (12, 4, 3), (1, 5, 1)] {
            let mut all: Vec<usize> = (0..count)
                .flat_map(|index| {
                    let share = Share {
                        index,
                        count,
                        batch,
                    };
                    share.images(total).expect("not empty")
                })
                .collect();
            all.sort_unstable();
            assert_eq!(all, (0..total).collect::<Vec<_>>());
        }
        let share = |index, count| Share {
            index,
            count,
            batch: 4,
        };
        assert_eq!(share(1, 2).images(10).expect("one"), [4, 5, 6, 7]);
        assert_eq!(share(0, 2).images(10).expect("two"), [0, 1, 2, 3, 8, 9]);
        let message = share(3, 8).images(10).expect_err("empty").to_string();
        assert!(message.contains("at most 3 shares"), "{message}");
        let path = share(1, 4).path(Path::new("a/features.safetensors"));
        assert_eq!(path, Path::new("a/features.share-2-of-4.safetensors"));
    }
}
