//! Images in tar files, so that a data set of millions is a few hundred files.

mod classes;
mod listing;
mod pattern;
#[cfg(test)]
mod tests;

use super::Source;
use super::cache::Cache;
use super::decode::decode;
use super::labels::of_folders;
use crate::config::DataConfig;
use crate::pixels::Rgb8;
use crate::{Error, Result};
use classes::{folders, numbers, sample};
use listing::{Listing, Member, list};
use pattern::shards;
use rayon::prelude::*;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Images in uncompressed tar files, in the order of the files and of their members.
///
/// Labels come from members that share an image's name up to its first dot and end in `.cls`, each a class number in
/// decimal digits (the layout of WebDataset, <https://github.com/webdataset/webdataset>), or from the folders in which
/// the images lie, as in [`ImageFolder`](super::ImageFolder), below those that all of them share. Hidden members are
/// passed over, such as the `._` files that macOS adds. Only headers are read at first; an image is read where it lies
/// when it is needed, so that shuffling costs a seek.
pub struct TarShards {
    shards: Vec<PathBuf>,
    members: Vec<Member>,
    labels: Option<Vec<usize>>,
    classes: Vec<String>,
    cache: Cache,
}

impl TarShards {
    /// Lists the images of the tar files that `pattern` means: one file, a folder of `.tar` files, or a name with a
    /// range of numbers such as `train-{000..146}.tar`.
    ///
    /// # Errors
    /// If a file is missing, damaged or compressed, there are no images, a member is not the image that its name says,
    /// or only some images have a class number.
    pub fn open(pattern: &str, config: &DataConfig) -> Result<Self> {
        let shards = shards(pattern)?;
        let numbered: Vec<(usize, &PathBuf)> = shards.iter().enumerate().collect();
        let listings: Vec<Listing> = numbered
            .into_par_iter()
            .map(|(number, path)| list(number, path))
            .collect::<Result<_>>()?;
        let (mut members, mut given) = (Vec::new(), Vec::new());
        for listing in listings {
            let class = |member: &Member| listing.classes.get(sample(&member.name)).copied();
            given.extend(listing.images.iter().map(class));
            members.extend(listing.images);
        }
        if members.is_empty() {
            return Err(Error::Data(format!(
                "{pattern} holds no images ({} tar files); members are .jpg, .jpeg, .png, .bmp, .gif or .webp files",
                shards.len()
            )));
        }
        let (labels, classes) = if given.iter().any(Option::is_some) {
            numbers(&shards, &members, given)?
        } else {
            of_folders(&pattern, folders(&members))?
        };
        Ok(Self {
            cache: Cache::new(members.len(), config.cache_mib.saturating_mul(1 << 20)),
            shards,
            members,
            labels,
            classes,
        })
    }

    fn read(&self, member: &Member) -> Result<Vec<u8>> {
        let path = &self.shards[member.shard];
        let mut file = File::open(path).map_err(Error::io("open", path))?;
        let mut bytes = vec![0; member.size];
        let read = file
            .seek(SeekFrom::Start(member.offset))
            .and_then(|_| file.read_exact(&mut bytes));
        read.map_err(Error::io("read", path))?;
        Ok(bytes)
    }
}

impl Source for TarShards {
    fn len(&self) -> usize {
        self.members.len()
    }

    fn image(&self, index: usize) -> Result<Arc<Rgb8>> {
        self.cache.get(index, || {
            let bytes = self.read(&self.members[index])?;
            decode(&bytes, Path::new(&self.name(index)))
        })
    }

    fn label(&self, index: usize) -> Option<usize> {
        self.labels.as_ref().map(|labels| labels[index])
    }

    fn classes(&self) -> &[String] {
        &self.classes
    }

    fn name(&self, index: usize) -> String {
        let member = &self.members[index];
        format!("{}/{}", self.shards[member.shard].display(), member.name)
    }
}
