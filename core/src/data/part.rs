//! Which part of a data set that comes in two.

use crate::{Error, Result};
use std::path::PathBuf;

/// The images to learn from, or those to evaluate on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// The training images.
    Train,
    /// The test images.
    Test,
}

impl Part {
    /// Splits `KIND:FOLDER[:train|test]`, given without `KIND:`; training images unless it says otherwise.
    ///
    /// # Errors
    /// If there is no folder.
    pub(super) fn parse(kind: &str, text: &str) -> Result<(PathBuf, Self)> {
        let (folder, part) = match text.rsplit_once(':') {
            Some((folder, "train")) => (folder, Self::Train),
            Some((folder, "test")) => (folder, Self::Test),
            _ => (text, Self::Train),
        };
        if folder.is_empty() {
            return Err(Error::Data(format!(
                "{kind} needs its folder: {kind}:FOLDER, or {kind}:FOLDER:test for the test images; a folder called {kind} is given as ./{kind}"
            )));
        }
        Ok((folder.into(), part))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_may_follow_the_folder() {
        let parse = |text| Part::parse("idx", text).expect("parses");
        assert_eq!(parse("a/b"), ("a/b".into(), Part::Train));
        assert_eq!(parse("a/b:test"), ("a/b".into(), Part::Test));
        assert_eq!(parse("c:/b:train"), ("c:/b".into(), Part::Train));
        assert_eq!(parse("c:/b"), ("c:/b".into(), Part::Train));
        for wrong in ["", ":test"] {
            assert!(Part::parse("idx", wrong).is_err());
        }
    }
}
