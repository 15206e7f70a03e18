//! Which images.

use selfcls_core::Error;
use selfcls_core::pixels::Rgb8;
use selfcls_export::{Decoding, Picture};
use std::borrow::Cow;
use std::path::{Path, PathBuf};

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

    fn name(&self) -> &Path {
        // What is not there has told its name.
        self.path().unwrap_or(Path::new("the image"))
    }
}
