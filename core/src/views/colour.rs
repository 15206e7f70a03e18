//! Brightness, contrast, saturation, grey and solarisation, equal to Pillow's `ImageEnhance`,
//! `convert("L")` and `ImageOps.solarize` to the bit.
//!
//! The first three move every value away from or towards a reference (black, the mean grey, the pixel's
//! own grey) by a factor, in single precision, and cut off the fraction.

use super::planes::Planes;
use super::simd::{dispatch, floor_to_byte};

impl Planes {
    /// Scales all values by `factor`.
    pub fn adjust_brightness(&mut self, factor: f32) {
        self.blend_with(0.0, factor);
    }

    /// Scales the distance of all values from the mean grey value by `factor`.
    pub fn adjust_contrast(&mut self, factor: f32) {
        let mean = (self.mean_grey() + 0.5).floor() as f32;
        self.blend_with(mean, factor);
    }

    /// Scales the distance of all values from their pixel's grey value by `factor`.
    pub fn adjust_saturation(&mut self, factor: f32) {
        let [red, green, blue] = self.channels_mut();
        dispatch(
            #[inline(always)]
            || {
                for ((r, g), b) in red.iter_mut().zip(green).zip(blue) {
                    let reference = f32::from(luma(*r, *g, *b));
                    *r = blend(reference, *r, factor);
                    *g = blend(reference, *g, factor);
                    *b = blend(reference, *b, factor);
                }
            },
        );
    }

    /// Replaces every pixel by its grey value.
    pub fn greyscale(&mut self) {
        let [red, green, blue] = self.channels_mut();
        dispatch(
            #[inline(always)]
            || {
                for ((r, g), b) in red.iter_mut().zip(green).zip(blue) {
                    let grey = luma(*r, *g, *b);
                    (*r, *g, *b) = (grey, grey, grey);
                }
            },
        );
    }

    /// Inverts the values from 128 up.
    pub fn solarise(&mut self) {
        let data = self.data_mut();
        dispatch(
            #[inline(always)]
            || {
                for value in data {
                    *value = (*value).min(255 - *value);
                }
            },
        );
    }

    fn blend_with(&mut self, reference: f32, factor: f32) {
        let data = self.data_mut();
        dispatch(
            #[inline(always)]
            || {
                for value in data {
                    *value = blend(reference, *value, factor);
                }
            },
        );
    }

    fn mean_grey(&self) -> f64 {
        let [red, green, blue] = self.channels();
        let mut total = 0u64;
        dispatch(
            #[inline(always)]
            || {
                // A row of 2^24 pixels of 255 fits 32 bits; partial sums keep the lanes narrow.
                const RUN: usize = 1 << 16;
                let runs = red.chunks(RUN).zip(green.chunks(RUN)).zip(blue.chunks(RUN));
                for ((red, green), blue) in runs {
                    let pixels = red.iter().zip(green).zip(blue);
                    let sum: u32 = pixels.map(|((&r, &g), &b)| u32::from(luma(r, g, b))).sum();
                    total += u64::from(sum);
                }
            },
        );
        total as f64 / red.len() as f64
    }
}

/// ITU-R BT.601 luma in fixed point of 16 fractional bits.
#[inline(always)]
fn luma(r: u8, g: u8, b: u8) -> u8 {
    ((u32::from(r) * 19595 + u32::from(g) * 38470 + u32::from(b) * 7471 + 0x8000) >> 16) as u8
}

#[inline(always)]
fn blend(reference: f32, value: u8, factor: f32) -> u8 {
    let mixed = reference + factor * (f32::from(value) - reference);
    floor_to_byte(mixed.clamp(0.0, 255.0))
}
