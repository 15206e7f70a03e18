//! What a stream can be made of.

use selfcls_core::data::{decode, decode_reduced, read, read_reduced};
use selfcls_core::pixels::Rgb8;
use std::borrow::Cow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// How files are decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
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

/// An image that may have to be read and decoded first, which happens on another thread.
pub trait Picture: Send + 'static {
    /// The pixels. With [`Decoding::Reduced`] they may be fewer, as long as the short side keeps twice `wanted`.
    ///
    /// # Errors
    /// If it cannot be read.
    fn pixels(&self, decoding: Decoding, wanted: usize) -> selfcls_core::Result<Cow<'_, Rgb8>>;
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

/// An image file.
impl Picture for PathBuf {
    fn pixels(&self, decoding: Decoding, wanted: usize) -> selfcls_core::Result<Cow<'_, Rgb8>> {
        let image = match decoding {
            Decoding::Exact => read(self),
            Decoding::Reduced => read_reduced(self, 2 * wanted),
        };
        image.map(Cow::Owned)
    }
}

/// The bytes of an image file, e.g. of a request.
impl Picture for Vec<u8> {
    fn pixels(&self, decoding: Decoding, wanted: usize) -> selfcls_core::Result<Cow<'_, Rgb8>> {
        decoded(self, Path::new(NAMELESS), decoding, wanted).map(Cow::Owned)
    }
}

impl Picture for Rgb8 {
    fn pixels(&self, _: Decoding, _: usize) -> selfcls_core::Result<Cow<'_, Rgb8>> {
        Ok(Cow::Borrowed(self))
    }
}

impl Picture for Arc<Rgb8> {
    fn pixels(&self, _: Decoding, _: usize) -> selfcls_core::Result<Cow<'_, Rgb8>> {
        Ok(Cow::Borrowed(self))
    }
}
