//! From a decoded image to the network's input outside training: resize the short side, centre crop, normalise.

use crate::config::Interpolation;
use serde::{Deserialize, Serialize};

/// The evaluation preprocessing; stored in every exported file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
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
