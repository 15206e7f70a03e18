//! Which part of an image a view shows.

use crate::random::Draw;

/// A rectangle of pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CropBox {
    /// First column.
    pub left: usize,
    /// First row.
    pub top: usize,
    /// Number of columns.
    pub width: usize,
    /// Number of rows.
    pub height: usize,
}

impl CropBox {
    /// The whole of a `width` x `height` image.
    pub fn whole(width: usize, height: usize) -> Self {
        Self {
            left: 0,
            top: 0,
            width,
            height,
        }
    }

    /// The smallest rectangle that contains this one and `other`.
    pub(super) fn around(&self, other: &Self) -> Self {
        let (left, top) = (self.left.min(other.left), self.top.min(other.top));
        let right = (self.left + self.width).max(other.left + other.width);
        let bottom = (self.top + self.height).max(other.top + other.height);
        Self {
            left,
            top,
            width: right - left,
            height: bottom - top,
        }
    }

    /// A random rectangle of a `width` x `height` image, as torchvision's `RandomResizedCrop`: area
    /// uniform in `scale` (fractions of the image), aspect ratio log-uniform in `ratio` (width /
    /// height), position uniform. If ten tries do not fit, the largest centred rectangle of a
    /// permitted ratio.
    pub fn random(
        (width, height): (usize, usize),
        scale: [f64; 2],
        ratio: [f64; 2],
        draw: &mut impl Draw,
    ) -> Self {
        const TRIES: usize = 10;
        let area = width as f64 * height as f64;
        for _ in 0..TRIES {
            let target = area * draw.uniform(scale[0], scale[1]);
            let aspect = draw.uniform(ratio[0].ln(), ratio[1].ln()).exp();
            let w = (target * aspect).sqrt().round_ties_even() as usize;
            let h = (target / aspect).sqrt().round_ties_even() as usize;
            if (1..=width).contains(&w) && (1..=height).contains(&h) {
                return Self {
                    top: draw.below(height - h + 1),
                    left: draw.below(width - w + 1),
                    width: w,
                    height: h,
                };
            }
        }
        Self::centred((width, height), ratio)
    }

    /// The largest centred rectangle whose ratio is inside `ratio`.
    fn centred((width, height): (usize, usize), ratio: [f64; 2]) -> Self {
        let own = width as f64 / height as f64;
        let (mut w, mut h) = (width, height);
        if own < ratio[0] {
            h = (width as f64 / ratio[0]).round_ties_even() as usize;
        } else if own > ratio[1] {
            w = (height as f64 * ratio[1]).round_ties_even() as usize;
        }
        // A side of one pixel can round to zero under an extreme ratio.
        let (w, h) = (w.clamp(1, width), h.clamp(1, height));
        Self {
            left: (width - w) / 2,
            top: (height - h) / 2,
            width: w,
            height: h,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::{Purpose, stream};
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn always_inside(
            width in 1usize..700, height in 1usize..700, seed: u64,
            smallest in 0.0001f64..1.0, narrow in 0.05f64..1.0, wide in 1.0f64..20.0,
        ) {
            let mut draw = stream(seed, Purpose::View, [0; 3]);
            let b = CropBox::random((width, height), [smallest, 1.0], [narrow, wide], &mut draw);
            prop_assert!(b.width >= 1 && b.left + b.width <= width, "{b:?}");
            prop_assert!(b.height >= 1 && b.top + b.height <= height, "{b:?}");
        }
    }

    #[test]
    fn falls_back_to_the_centre() {
        let mut draw = stream(0, Purpose::View, [0; 3]);
        let b = CropBox::random((300, 10), [0.9, 1.0], [0.75, 4.0 / 3.0], &mut draw);
        assert_eq!(
            b,
            CropBox {
                left: 143,
                top: 0,
                width: 13,
                height: 10
            }
        );
        let b = CropBox::random((10, 300), [0.9, 1.0], [0.75, 4.0 / 3.0], &mut draw);
        assert_eq!(
            b,
            CropBox {
                left: 0,
                top: 143,
                width: 10,
                height: 13
            }
        );
    }
}
