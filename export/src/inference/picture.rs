//! What a stream can be made of.

use selfcls_core::data::{decode, decode_reduced, read, read_reduced};
use selfcls_core::pixels::Rgb8;
use std::borrow::Cow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// How files are decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Decoding {
    /// In full, as in training: the same pixels, to the bit.
    #[default]
    Exact,
    /// JPEG files that are at least four times as large as the network wants are decoded at a half, a
    /// quarter or an eighth of their size, never to less than twice what is wanted. Several times as fast
    /// for a camera's photos. Pixels differ by a few grey levels at sharp edges, and so do the answers: probabilities
    /// change, and of an image that is between two classes the class may; the more so the smaller the network's input.
    Reduced,
}

/// An image that may have to be read and decoded first, which happens on another thread. So it is one's own, or shared:
/// `Arc<[u8]>` and `Arc<Rgb8>` are pictures too, and a box of any picture, but nothing that is borrowed for a while.
pub trait Picture: Send + 'static {
    /// The pixels. With [`Decoding::Reduced`] they may be fewer, as long as the short side keeps twice `wanted`.
    ///
    /// # Errors
    /// If it cannot be read.
    fn pixels(&self, decoding: Decoding, wanted: usize) -> selfcls_core::Result<Cow<'_, Rgb8>>;

    /// What to call it in a message, such as the file's path. Default `the image`.
    fn name(&self) -> &Path {
        Path::new(NAMELESS)
    }
}

/// What bytes without a file are called in messages.
pub(super) const NAMELESS: &str = "the image";

/// The pixels of an image file's `bytes`, `name` standing for it in messages.
pub(super) fn decoded(
    bytes: &[u8],
    name: &Path,
    decoding: Decoding,
    wanted: usize,
) -> selfcls_core::Result<Rgb8> {
    match decoding {
        Decoding::Exact => decode(bytes, name),
        Decoding::Reduced => decode_reduced(bytes, name, 2 * wanted),
    }
}

/// What `work` makes of the image called `name`; an error that names it where it panics, as a decoder may on an image that
/// its authors did not think of.
pub(super) fn caught<T>(
    name: &Path,
    work: impl FnOnce() -> selfcls_core::Result<T>,
) -> selfcls_core::Result<T> {
    // What a panic may have left half done is dropped with it, or written over.
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| {
        Err(selfcls_core::Error::malformed(
            name,
            "its decoder has failed; repair or remove the image",
        ))
    })
}

/// An image file.
impl Picture for Path {
    fn pixels(&self, decoding: Decoding, wanted: usize) -> selfcls_core::Result<Cow<'_, Rgb8>> {
        let image = match decoding {
            Decoding::Exact => read(self),
            Decoding::Reduced => read_reduced(self, 2 * wanted),
        };
        image.map(Cow::Owned)
    }

    fn name(&self) -> &Path {
        self
    }
}

impl Picture for PathBuf {
    fn pixels(&self, decoding: Decoding, wanted: usize) -> selfcls_core::Result<Cow<'_, Rgb8>> {
        self.as_path().pixels(decoding, wanted)
    }

    fn name(&self) -> &Path {
        self
    }
}

/// The bytes of an image file, e.g. of a request.
impl Picture for [u8] {
    fn pixels(&self, decoding: Decoding, wanted: usize) -> selfcls_core::Result<Cow<'_, Rgb8>> {
        decoded(self, Path::new(NAMELESS), decoding, wanted).map(Cow::Owned)
    }
}

impl Picture for Vec<u8> {
    fn pixels(&self, decoding: Decoding, wanted: usize) -> selfcls_core::Result<Cow<'_, Rgb8>> {
        self.as_slice().pixels(decoding, wanted)
    }
}

impl Picture for Rgb8 {
    fn pixels(&self, _: Decoding, _: usize) -> selfcls_core::Result<Cow<'_, Rgb8>> {
        Ok(Cow::Borrowed(self))
    }
}

impl<P: Picture + ?Sized> Picture for Box<P> {
    fn pixels(&self, decoding: Decoding, wanted: usize) -> selfcls_core::Result<Cow<'_, Rgb8>> {
        (**self).pixels(decoding, wanted)
    }

    fn name(&self) -> &Path {
        (**self).name()
    }
}

impl<P: Picture + Sync + ?Sized> Picture for Arc<P> {
    fn pixels(&self, decoding: Decoding, wanted: usize) -> selfcls_core::Result<Cow<'_, Rgb8>> {
        (**self).pixels(decoding, wanted)
    }

    fn name(&self) -> &Path {
        (**self).name()
    }
}

impl<P: Picture + Sync + ?Sized> Picture for &'static P {
    fn pixels(&self, decoding: Decoding, wanted: usize) -> selfcls_core::Result<Cow<'_, Rgb8>> {
        (**self).pixels(decoding, wanted)
    }

    fn name(&self) -> &Path {
        (**self).name()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_decoder_that_panics_is_an_error_with_the_image() {
        let name = PathBuf::from("a.jpg");
        assert_eq!(Picture::name(&name), Path::new("a.jpg"));
        let message = caught(name.name(), || -> selfcls_core::Result<()> {
            panic!("a test's")
        });
        let message = message.expect_err("it panics").to_string();
        assert!(
            message.starts_with("a.jpg: its decoder has failed"),
            "{message}"
        );
        assert_eq!(caught(&name, || Ok(1)).expect("it does not"), 1);
    }
}
