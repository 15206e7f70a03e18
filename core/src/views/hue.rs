//! Rotation of the colour circle, equal to torchvision's `adjust_hue` on a Pillow image to the bit.
//!
//! Pillow stores hue and saturation as bytes between the two conversions, so a hue shift is lossy even
//! where it is zero; the roundings below follow it. Its arithmetic mixes single and double precision;
//! the forms here were compared with it over all 2^24 colours and all 2^24 (hue, saturation, value)
//! triples.
//!
//! The work is done in short loops over runs of pixels, each of them on numbers of one width: a loop
//! that mixes bytes with floats would treat the bytes eight at a time too.

use super::planes::Planes;
use super::simd::{dispatch, floor_to_byte};

/// Pixels per step; what the loops hand to one another stays in the first cache.
const RUN: usize = 256;

type Bytes = [u8; RUN];

impl Planes {
    /// Shifts the hue by `turns` of the colour circle, from -0.5 to 0.5.
    pub fn adjust_hue(&mut self, turns: f64) {
        // Truncated towards zero, then modulo 256: hue is a byte.
        let shift = (turns * 255.0) as i32 as u8;
        let [red, green, blue] = self.channels_mut();
        dispatch(
            #[inline(always)]
            || {
                let (reds, red) = red.as_chunks_mut();
                let (greens, green) = green.as_chunks_mut();
                let (blues, blue) = blue.as_chunks_mut();
                for ((r, g), b) in reds.iter_mut().zip(greens).zip(blues) {
                    shift_hue(r, g, b, shift);
                }
                if red.is_empty() {
                    return;
                }
                let mut last = [[0; RUN]; 3];
                for (run, rest) in last.iter_mut().zip([&*red, &*green, &*blue]) {
                    run[..rest.len()].copy_from_slice(rest);
                }
                let [r, g, b] = &mut last;
                shift_hue(r, g, b, shift);
                for (run, rest) in last.iter().zip([red, green, blue]) {
                    let length = rest.len();
                    rest.copy_from_slice(&run[..length]);
                }
            },
        );
    }
}

#[inline(always)]
fn shift_hue(red: &mut Bytes, green: &mut Bytes, blue: &mut Bytes, shift: u8) {
    let mut hsv = Hsv::of(red, green, blue);
    for hue in &mut hsv.hue {
        *hue = hue.wrapping_add(shift);
    }
    hsv.to_rgb(red, green, blue);
}

/// The hue of a grey pixel is arbitrary, the saturation of black too.
struct Hsv {
    hue: Bytes,
    saturation: Bytes,
    value: Bytes,
}

impl Hsv {
    #[inline(always)]
    fn of(red: &Bytes, green: &Bytes, blue: &Bytes) -> Self {
        let mut value = [0; RUN];
        let mut chroma = [0; RUN];
        // Where the pixel lies between two of the circle's six corners. One of the three distances that
        // the textbook formula divides by the chroma is always 0 and one always the chroma, which leaves
        // a single fraction.
        let (mut corner, mut direction, mut distance) = ([0i8; RUN], [0i8; RUN], [0; RUN]);
        for k in 0..RUN {
            let (r, g, b) = (red[k], green[k], blue[k]);
            let high = r.max(g).max(b);
            let low = r.min(g).min(b);
            // What is left of the three.
            let middle = r ^ g ^ b ^ high ^ low;
            (corner[k], direction[k]) = if r == high {
                if b == low { (1, -1) } else { (-1, 1) }
            } else if g == high {
                if b == low { (1, 1) } else { (3, -1) }
            } else if g == low {
                (5, -1)
            } else {
                (3, 1)
            };
            distance[k] = high - middle;
            chroma[k] = high - low;
            value[k] = high;
        }
        let (mut hue, mut saturation) = ([0; RUN], [0; RUN]);
        for k in 0..RUN {
            let (distance, chroma) = (f32::from(distance[k]), f32::from(chroma[k]));
            // A grey pixel divides 0 by 0, here or below, and gets some byte for its hue; its saturation
            // is 0 (or its value is), which makes it the same grey again.
            let part = distance / chroma;
            let sixths = f32::from(corner[k]) + f32::from(direction[k]) * part;
            let turns = sixths / 6.0 + if sixths < 0.0 { 1.0 } else { 0.0 };
            hue[k] = floor_to_byte(turns * 255.0);
            saturation[k] = floor_to_byte(chroma * 255.0 / f32::from(value[k]));
        }
        Self {
            hue,
            saturation,
            value,
        }
    }

    #[inline(always)]
    fn to_rgb(&self, red: &mut Bytes, green: &mut Bytes, blue: &mut Bytes) {
        // Of the channels one is the value, one lacks all of the chroma and one a part of it. Pillow
        // calculates in floats; the exact fractions round alike for any input.
        let (mut corner, mut part) = ([0; RUN], [0; RUN]);
        for k in 0..RUN {
            let hue = self.hue[k];
            // The corner is 6 hue / 255 and the part what remains, modulo 256.
            let reached = |first: u8| u8::from(hue >= first);
            corner[k] = reached(43) + reached(85) + reached(128) + reached(170) + reached(213);
            corner[k] += reached(255);
            let twice = hue.wrapping_add(hue);
            part[k] = twice
                .wrapping_add(twice)
                .wrapping_add(twice)
                .wrapping_add(corner[k]);
            if corner[k] % 2 == 0 {
                part[k] = 255 - part[k];
            }
        }
        // Chroma in units of 1/255, and the value less all of it.
        let (mut chroma, mut low) = ([0; RUN], [0; RUN]);
        for k in 0..RUN {
            let product = u16::from(self.value[k]) * u16::from(self.saturation[k]);
            chroma[k] = product;
            // Division by 255, rounded: exact for all products.
            let rounding = product + 128;
            low[k] = self.value[k] - ((rounding + (rounding >> 8)) >> 8) as u8;
        }
        let mut middle = [0; RUN];
        for k in 0..RUN {
            const UNIT: f32 = 1.0 / (255.0 * 255.0);
            let lack = f32::from(chroma[k]) * (f32::from(part[k]) * UNIT);
            middle[k] = floor_to_byte(f32::from(self.value[k]) - lack + 0.5);
        }
        for k in 0..RUN {
            let (high, middle, low) = (self.value[k], middle[k], low[k]);
            (red[k], green[k], blue[k]) = match corner[k] {
                1 => (middle, high, low),
                2 => (low, high, middle),
                3 => (low, middle, high),
                4 => (middle, low, high),
                5 => (high, low, middle),
                _ => (high, middle, low),
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Hue and saturation of one colour, step by step as Pillow's `Convert.c` takes them.
    fn pillow_hsv(rgb: [u8; 3]) -> [u8; 3] {
        let [r, g, b] = rgb;
        let (high, low) = (r.max(g).max(b), r.min(g).min(b));
        if high == low {
            return [0, 0, high];
        }
        let chroma = f32::from(high - low);
        let lacks = |channel: u8| f64::from(f32::from(high - channel) / chroma);
        let sixths = if r == high {
            lacks(b) - lacks(g)
        } else if g == high {
            2.0 + lacks(r) - lacks(b)
        } else {
            4.0 + lacks(g) - lacks(r)
        } as f32;
        let turns = (f64::from(sixths) / 6.0 + 1.0).fract() as f32;
        let saturation = chroma / f32::from(high);
        let byte = |x: f32| (f64::from(x) * 255.0) as u8;
        [byte(turns), byte(saturation), high]
    }

    /// And back, in exact fractions, which round as Pillow's floats do for all 2^24 triples.
    fn pillow_rgb([hue, saturation, value]: [u8; 3]) -> [u8; 3] {
        let [hue, saturation, value] = [hue, saturation, value].map(u32::from);
        let (corner, part) = (6 * hue / 255, 6 * hue % 255);
        const WHOLE: u32 = 255 * 255;
        let without = |share: u32| {
            let exact = 2 * (value * WHOLE - value * saturation * share) + WHOLE;
            (exact / (2 * WHOLE)) as u8
        };
        let (high, low, down, up) = (without(0), without(255), without(part), without(255 - part));
        match corner % 6 {
            0 => [high, up, low],
            1 => [down, high, low],
            2 => [low, high, up],
            3 => [low, down, high],
            4 => [up, low, high],
            _ => [high, low, down],
        }
    }

    /// Runs `convert` on the colours, three bytes each, and hands each with its result to `check`.
    fn for_colours(
        colours: impl Iterator<Item = u32>,
        convert: impl Fn(&mut [Bytes; 3]),
        check: impl Fn([u8; 3], [u8; 3]),
    ) {
        let colours: Vec<[u8; 3]> = colours
            .map(|c| [c as u8, (c >> 8) as u8, (c >> 16) as u8])
            .collect();
        for chunk in colours.chunks(RUN) {
            let mut run = [[0; RUN]; 3];
            for (k, colour) in chunk.iter().enumerate() {
                for c in 0..3 {
                    run[c][k] = colour[c];
                }
            }
            convert(&mut run);
            for (k, colour) in chunk.iter().enumerate() {
                check(*colour, [run[0][k], run[1][k], run[2][k]]);
            }
        }
    }

    #[test]
    fn to_hue_saturation_and_value_as_pillow() {
        // A prime step reaches all values of each channel in all company.
        let colours = (0..1 << 24).step_by(7);
        let convert = |run: &mut [Bytes; 3]| {
            let hsv = Hsv::of(&run[0], &run[1], &run[2]);
            *run = [hsv.hue, hsv.saturation, hsv.value];
        };
        for_colours(colours, convert, |colour, ours| {
            let expected = pillow_hsv(colour);
            if expected[2] > 0 {
                assert_eq!(ours[1..], expected[1..], "{colour:?}");
            }
            if expected[1] > 0 {
                assert_eq!(ours[0], expected[0], "{colour:?}");
            }
        });
    }

    #[test]
    fn to_red_green_and_blue_as_pillow() {
        let convert = |run: &mut [Bytes; 3]| {
            let [hue, saturation, value] = *run;
            let hsv = Hsv {
                hue,
                saturation,
                value,
            };
            let [r, g, b] = run;
            hsv.to_rgb(r, g, b);
        };
        for_colours((0..1 << 24).step_by(7), convert, |colour, ours| {
            assert_eq!(ours, pillow_rgb(colour), "{colour:?}");
        });
    }

    #[test]
    fn greys_stay_and_primaries_move_by_thirds() {
        // More pixels than a run, and not a multiple.
        let width = RUN + 7;
        let rgb = |k: usize| {
            if k == RUN + 3 {
                [255, 0, 0]
            } else {
                [k as u8; 3]
            }
        };
        let data = (0..width).flat_map(rgb).collect();
        let image = crate::pixels::Rgb8::new(width, 1, data).expect("the length fits");
        let mut planes = Planes::from_rgb(&image);
        planes.adjust_hue(1.0 / 3.0);
        let turned = planes.to_rgb().expect("not empty");
        for (k, pixel) in turned.data().chunks_exact(3).enumerate() {
            let expected = if k == RUN + 3 {
                [0, 255, 0]
            } else {
                [k as u8; 3]
            };
            assert_eq!(pixel, expected, "pixel {k}");
        }
    }
}
