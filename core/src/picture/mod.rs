//! Pictures of what was found: grids of the discovered classes ([`cluster_grid`]), charts ([`Figure`]), and
//! pages of thumbnails ([`GalleryPage`]).

mod bars;
mod canvas;
mod charts;
mod figure;
mod font;
mod gallery;
mod grid;
mod lines;
mod palette;
mod scatter;

pub use bars::{BarChart, BarGroup};
pub use charts::{confusion_matrix, size_chart};
pub use figure::{Anchor, Figure};
pub use gallery::{GalleryPage, Shown};
pub use grid::{ClusterRow, GridRow, GridStyle, Majority, cluster_grid, image_grid};
pub use lines::{Curve, LineChart};
pub use palette::colour;
pub use scatter::scatter;

#[cfg(feature = "train")]
pub(crate) use gallery::escaped;

use crate::pixels::Rgb8;
use crate::{Error, Result, atomic};
use image::{ExtendedColorType, ImageEncoder, codecs::png::PngEncoder};
use std::path::Path;

/// The colours of charts: background, text, less important text, and the lines behind what is shown.
const PAPER: [u8; 3] = [250, 250, 248];
const INK: [u8; 3] = [30, 30, 34];
const FAINT: [u8; 3] = [110, 110, 116];
const GRID: [u8; 3] = [222, 222, 218];

/// The largest picture drawn, in pixels; a PNG viewer would choke on more.
const MAX_PIXELS: usize = 1 << 28;

/// Writes a PNG, all or nothing.
///
/// # Errors
/// [`Error::Io`] if the file cannot be written, [`Error::Invalid`] if the image is too large for PNG.
pub fn write_png(path: &Path, image: &Rgb8) -> Result<()> {
    let side = |length: usize| {
        u32::try_from(length)
            .map_err(|_| Error::Invalid(format!("{length} pixels are too many for a PNG file")))
    };
    let (width, height) = (side(image.width())?, side(image.height())?);
    let mut bytes = Vec::new();
    PngEncoder::new(&mut bytes)
        .write_image(image.data(), width, height, ExtendedColorType::Rgb8)
        .map_err(|error| Error::Invalid(format!("cannot encode {image:?} as PNG: {error}")))?;
    atomic::write(path, &bytes)
}
