//! Raw pixels as features: the baseline that any learned feature has to beat.

use super::{Forward, Network};
use crate::Result;
use crate::config::Interpolation;
use crate::preprocess::Preprocess;

/// Gives images back as their features, `3 * side * side` values from 0 to 1; it has no heads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PixelNetwork {
    /// Side in pixels to which images are resized and cropped.
    pub side: usize,
}

impl PixelNetwork {
    /// The preprocessing that leaves pixels as they are, apart from their size and range.
    pub fn preprocess(self) -> Preprocess {
        Preprocess {
            resize: self.side,
            crop: self.side,
            interpolation: Interpolation::Bilinear,
            mean: [0.0; 3],
            std: [1.0; 3],
        }
    }
}

impl Network for PixelNetwork {
    fn forward(&mut self, images: Vec<f32>, _count: usize) -> Result<Forward> {
        Ok(Forward {
            logits: Vec::new(),
            features: images,
        })
    }
}
