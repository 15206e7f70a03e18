//! Rotation of the colour circle, equal to torchvision's `adjust_hue` on a Pillow image to the bit.
//!
//! Pillow stores hue and saturation as bytes between the two conversions, so a hue shift is lossy even
//! where it is zero; the roundings below follow it. Its arithmetic mixes single and double precision;
//! the single-precision forms here were compared with it over all 2^24 colours and all 2^24 (hue,
//! saturation, value) triples.

use super::planes::Planes;
use super::simd::{dispatch, floor_to_byte};

impl Planes {
    /// Shifts the hue by `turns` of the colour circle, from -0.5 to 0.5.
    pub fn adjust_hue(&mut self, turns: f64) {
        // Truncated towards zero, then modulo 256: hue is a byte.
        let shift = (turns * 255.0) as i32 & 255;
        let [red, green, blue] = self.channels_mut();
        dispatch(
            #[inline(always)]
            || {
                for ((r, g), b) in red.iter_mut().zip(green).zip(blue) {
                    let (hue, saturation, value) = to_hsv(*r, *g, *b);
                    [*r, *g, *b] = to_rgb((hue + shift) & 255, saturation, value);
                }
            },
        );
    }
}

/// Hue and saturation, rounded down to bytes, and value. The hue of a grey pixel is arbitrary, the
/// saturation of black too.
#[inline(always)]
fn to_hsv(r: u8, g: u8, b: u8) -> (i32, f32, f32) {
    let (r, g, b) = (i32::from(r), i32::from(g), i32::from(b));
    let high = r.max(g).max(b);
    let low = r.min(g).min(b);
    let middle = r + g + b - high - low;
    let chroma = (high - low) as f32;
    // Where the pixel lies between two of the circle's six corners. One of the three distances that the
    // textbook formula divides is always 0 and one always the chroma, which leaves a single fraction.
    let part = (high - middle) as f32 / chroma;
    let (corner, rising) = if r == high {
        if b == low { (1.0, false) } else { (-1.0, true) }
    } else if g == high {
        if b == low { (1.0, true) } else { (3.0, false) }
    } else if g == low {
        (5.0, false)
    } else {
        (3.0, true)
    };
    let sixths: f32 = corner + if rising { part } else { -part };
    let turns = sixths / 6.0 + if sixths < 0.0 { 1.0 } else { 0.0 };
    let saturation = chroma / high as f32;
    // A grey pixel divides 0 by 0 above, and gets some byte for its hue; its saturation is 0 (or its
    // value is), which makes it the same grey again.
    let byte = |x: f32| floor_to_byte(x * 255.0);
    (
        i32::from(byte(turns)),
        f32::from(byte(saturation)),
        high as f32,
    )
}

/// `hue` is a byte; `saturation` and `value` are whole numbers up to 255.
#[inline(always)]
fn to_rgb(hue: i32, saturation: f32, value: f32) -> [u8; 3] {
    // Pillow divides; the difference does not survive the rounding for any input.
    const BYTE: f32 = 1.0 / 255.0;
    let sixths = hue * 6;
    // Division by 255, exact up to 6 * 255.
    let corner = (sixths * 4113) >> 20;
    let part = (sixths - corner * 255) as f32 * BYTE;
    let saturation = saturation * BYTE;
    // How much of the chroma a channel lacks; the channels are two corners apart.
    let lacks = |offset: i32| {
        let corner = corner + offset;
        let corner = if corner >= 6 { corner - 6 } else { corner };
        let corner = if corner >= 6 { corner - 6 } else { corner };
        match corner {
            0 => part,
            1 | 2 => 1.0,
            3 => 1.0 - part,
            _ => 0.0f32,
        }
    };
    let channel = |offset| {
        let x = value * (1.0 - saturation * lacks(offset)) + 0.5;
        floor_to_byte(x)
    };
    [channel(5), channel(3), channel(1)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_division_by_255_is_exact() {
        for hue in 0..256 {
            assert_eq!((hue * 6 * 4113) >> 20, hue * 6 / 255);
        }
    }

    #[test]
    fn greys_stay_and_primaries_move_by_thirds() {
        for v in 0..=255u8 {
            let (_, s, value) = to_hsv(v, v, v);
            for hue in [0, 100, 255] {
                assert_eq!(to_rgb(hue, s, value), [v; 3]);
            }
        }
        let (hue, s, v) = to_hsv(255, 0, 0);
        assert_eq!((hue, s, v), (0, 255.0, 255.0));
        assert_eq!(to_rgb(85, s, v), [0, 255, 0]);
        assert_eq!(to_rgb(170, s, v), [0, 0, 255]);
    }
}
