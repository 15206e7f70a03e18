//! From a decoded image to the network's input outside training: resize the short side, centre crop, normalise.

use crate::config::Interpolation;
use crate::pixels::Rgb8;
use crate::views::resample::{Resize, ResizeScratch};
use crate::views::{CropBox, Planes};
use crate::{Error, Result};
use serde::{Deserialize, Serialize};
use std::cell::RefCell;

/// The evaluation preprocessing; stored in every exported file. These five are all of it: with another step it would be
/// another version of that format.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Preprocess {
    /// Length in pixels to which the short side is resized (aspect ratio kept), antialiased.
    pub resize: usize,
    /// Side of the centre crop in pixels; at most `resize`.
    pub crop: usize,
    /// Filter of the resize.
    pub interpolation: Interpolation,
    /// Channel means in [0, 1].
    pub mean: [f32; 3],
    /// Channel standard deviations in [0, 1].
    pub std: [f32; 3],
}

impl Preprocess {
    /// Checks values that come from outside, such as the metadata of a file.
    ///
    /// # Errors
    /// [`Error::Invalid`] naming the first value with which [`Preprocess::apply`] could not work.
    pub fn validate(&self) -> Result<()> {
        const LARGEST: usize = 8192;
        let problem = if self.crop == 0 || self.resize > LARGEST {
            format!("sizes must be from 1 to {LARGEST} pixels")
        } else if self.crop > self.resize {
            "the crop must not be larger than the resized image".into()
        } else if !self.mean.iter().all(|x| x.is_finite()) {
            format!("the means {:?} must be finite", self.mean)
        } else if !self.std.iter().all(|x| x.is_finite() && *x > 0.0) {
            format!("the deviations {:?} must be positive", self.std)
        } else {
            return Ok(());
        };
        Err(Error::Invalid(format!(
            "preprocessing with resize {} and crop {} is impossible: {problem}",
            self.resize, self.crop
        )))
    }

    /// Floats of one preprocessed image: `3 * crop * crop`.
    pub fn input_len(&self) -> usize {
        3 * self.crop * self.crop
    }

    /// Writes the network's input for `image`, `[3, crop, crop]`.
    ///
    /// Both sides are rounded to the nearest pixel, halves to even, and the crop starts at the rounded
    /// down half of the margin. (torchvision's `Resize` rounds the long side down instead, which moves
    /// some images by a pixel.) Only what the crop shows is resized; it equals the crop of the whole.
    ///
    /// # Panics
    /// If `out` is not [`Preprocess::input_len`] long or `crop` is larger than `resize`, which
    /// [`Preprocess::validate`] and [`Config::validate`](crate::Config::validate) exclude.
    pub fn apply(&self, image: &Rgb8, out: &mut [f32]) {
        self.resized(image, |resized| resized.normalise(out));
    }

    /// The crop of the resized `image` before it is scaled and normalised: `[crop, crop, 3]` bytes.
    ///
    /// # Panics
    /// As [`Preprocess::apply`].
    pub fn pixels(&self, image: &Rgb8) -> Rgb8 {
        // Invariant: a crop has at least one pixel.
        self.resized(image, |resized| resized.planes.to_rgb())
            .expect("a crop that is not empty")
    }

    /// Undoes the normalisation of `input`, `[batch, 3, crop, crop]`: the bytes that it was made of,
    /// `[batch, crop, crop, 3]`. Values that no byte has become the nearest one.
    pub fn bytes(&self, input: &[f32]) -> Vec<u8> {
        let area = self.crop * self.crop;
        let mut bytes = vec![0; input.len()];
        let images = input.chunks_exact(3 * area);
        for (image, bytes) in images.zip(bytes.chunks_exact_mut(3 * area)) {
            for (channel, plane) in image.chunks_exact(area).enumerate() {
                let (scale, mean) = (255.0 * self.std[channel], 255.0 * self.mean[channel]);
                let to = bytes.iter_mut().skip(channel).step_by(3);
                for (to, &from) in to.zip(plane) {
                    // Saturates.
                    *to = (from * scale + mean).round() as u8;
                }
            }
        }
        bytes
    }

    /// Resizes and crops, which takes the time, and hands the result to `then`, which writes it where it
    /// belongs: that place may be shared, and need not be held until then.
    ///
    /// # Panics
    /// As [`Preprocess::apply`].
    pub fn resized<T>(&self, image: &Rgb8, then: impl FnOnce(Resized<'_>) -> T) -> T {
        thread_local! {
            static SCRATCH: RefCell<(ResizeScratch, Planes)> = RefCell::default();
        }
        SCRATCH.with_borrow_mut(|(scratch, planes)| {
            self.resize(image).apply(image, scratch, planes);
            then(Resized {
                planes,
                preprocess: self,
            })
        })
    }

    /// The network's input for `image`, `[3, crop, crop]`.
    ///
    /// # Panics
    /// As [`Preprocess::apply`].
    pub fn input(&self, image: &Rgb8) -> Vec<f32> {
        let mut out = vec![0.0; self.input_len()];
        self.apply(image, &mut out);
        out
    }

    fn resize(&self, image: &Rgb8) -> Resize {
        assert!(self.crop <= self.resize, "crop larger than the image");
        let short = image.width().min(image.height()) as f64;
        let scale = self.resize as f64 / short;
        let scaled = |side: usize| (side as f64 * scale).round_ties_even() as usize;
        let (width, height) = (scaled(image.width()), scaled(image.height()));
        Resize {
            source: CropBox::whole(image.width(), image.height()),
            size: (width, height),
            window: CropBox {
                left: (width - self.crop) / 2,
                top: (height - self.crop) / 2,
                width: self.crop,
                height: self.crop,
            },
            flip: false,
            filter: self.interpolation,
        }
    }
}

/// An image resized and cropped, in the thread's own memory; see [`Preprocess::resized`].
#[derive(Debug, Clone, Copy)]
pub struct Resized<'a> {
    planes: &'a Planes,
    preprocess: &'a Preprocess,
}

impl Resized<'_> {
    /// Writes the network's input, `[3, crop, crop]`.
    ///
    /// # Panics
    /// If `out` is not [`Preprocess::input_len`] long.
    pub fn normalise(&self, out: &mut [f32]) {
        let Preprocess { mean, std, .. } = *self.preprocess;
        self.planes.normalise(mean, std, out);
    }

    /// Writes the bytes, `[crop, crop, 3]`.
    ///
    /// # Panics
    /// As [`Resized::normalise`].
    pub fn interleave(&self, out: &mut [u8]) {
        self.planes.interleave(out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_before_and_after_the_normalisation_are_the_same() {
        let preprocess = Preprocess {
            resize: 9,
            crop: 8,
            interpolation: Interpolation::Bilinear,
            mean: [0.485, 0.456, 0.406],
            std: [0.229, 0.224, 0.225],
        };
        let bytes = (0..20 * 30 * 3).map(|i| (i * 37 % 256) as u8).collect();
        let image = Rgb8::new(30, 20, bytes).expect("an image");
        let pixels = preprocess.pixels(&image);
        assert_eq!((pixels.width(), pixels.height()), (8, 8));
        assert_eq!(preprocess.bytes(&preprocess.input(&image)), pixels.data());
        assert_eq!(preprocess.bytes(&[1e9; 192])[..3], [255; 3]);
        assert_eq!(preprocess.bytes(&[-1e9; 192])[..3], [0; 3]);
    }
}
