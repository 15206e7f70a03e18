//! Procedural images of eight shapes: a data set that needs no download.
//!
//! What is in a picture apart from its shape is drawn from the same distribution for all shapes: the
//! colours of shape and background (the shape's is the lighter one), size, position, rotation of up to 30
//! degrees to either side, the background's gradient and waves, and noise. So nothing but the shape tells
//! the class.

use super::Source;
use super::cache::Cache;
use crate::pixels::Rgb8;
use crate::random::{Draw, Purpose, Stream, stream};
use crate::{Error, Result};
use std::f64::consts::{PI, TAU};
use std::sync::{Arc, LazyLock};

/// The shapes; a label is a position in this list.
pub const SHAPES: [&str; 8] = [
    "disc", "ring", "triangle", "cross", "crescent", "bar", "corner", "pair",
];

/// Images in the set when no count is given.
const COUNT: usize = 10_000;
/// Side of the images in pixels.
const SIDE: usize = 32;
/// Points per pixel and axis that are asked whether they lie inside the shape.
const SAMPLES: usize = 4;
/// Largest rotation to either side, in radians: 30 degrees.
const TILT: f64 = PI / 6.0;
/// Smallest difference in brightness between shape and background, of 255.
const CONTRAST: f64 = 70.0;

/// A set of shape images, the same on every machine: image i shows shape i mod 8.
pub struct Shapes {
    split: u64,
    side: usize,
    count: usize,
    cache: Cache,
}

impl Shapes {
    /// `count` images of `side` pixels. Different splits hold different images.
    pub fn new(count: usize, split: u64, side: usize) -> Self {
        Self {
            split,
            side,
            count,
            cache: Cache::new(count, 256 << 20),
        }
    }

    /// Parses `shapes[:COUNT[:SPLIT]]`.
    ///
    /// # Errors
    /// If COUNT or SPLIT is no number, or COUNT is 0.
    pub fn parse(text: &str) -> Result<Self> {
        let mut parts = text.split(':').skip(1);
        let mut number = |default: u64| match parts.next() {
            None => Some(default),
            Some(part) => part.parse().ok(),
        };
        let (count, split) = (number(COUNT as u64), number(0));
        match (count, split, parts.next()) {
            (Some(count @ 1..=10_000_000), Some(split), None) => {
                Ok(Self::new(count as usize, split, SIDE))
            }
            _ => Err(Error::Data(format!(
                "{text:?} is not shapes[:COUNT[:SPLIT]], e.g. shapes:5000 for 5000 images, shapes:1000:1 for 1000 others; COUNT is from 1 to 10000000"
            ))),
        }
    }
}

impl Source for Shapes {
    fn len(&self) -> usize {
        self.count
    }

    fn image(&self, index: usize) -> Result<Arc<Rgb8>> {
        self.cache.get(index, || {
            let mut random = stream(0, Purpose::Images, [self.split, index as u64, 0]);
            draw(index % SHAPES.len(), self.side, &mut random)
        })
    }

    fn label(&self, index: usize) -> Option<usize> {
        Some(index % SHAPES.len())
    }

    fn classes(&self) -> &[String] {
        static NAMES: LazyLock<Vec<String>> =
            LazyLock::new(|| SHAPES.iter().map(|name| name.to_string()).collect());
        &NAMES
    }

    fn name(&self, index: usize) -> String {
        format!("shapes:{}:{}#{index}", self.count, self.split)
    }
}

/// A picture of `shape`, `side` x `side` pixels.
fn draw(shape: usize, side: usize, random: &mut Stream) -> Result<Rgb8> {
    let background = Background::random(random);
    let ink = contrasting(&background, random);
    let radius = random.uniform(0.32, 0.44);
    // The whole shape stays inside.
    let centre = [0, 1].map(|_| random.uniform(radius, 1.0 - radius));
    let (sin, cos) = random.uniform(-TILT, TILT).sin_cos();
    let noise = random.uniform(2.0, 8.0);

    let pixel = 1.0 / side as f64;
    let mut data = Vec::with_capacity(side * side * 3);
    for y in 0..side {
        for x in 0..side {
            let mut hits = 0;
            for sample in 0..SAMPLES * SAMPLES {
                let offset = |n: usize| (n as f64 + 0.5) / SAMPLES as f64;
                let dx = (x as f64 + offset(sample % SAMPLES)) * pixel - centre[0];
                let dy = (y as f64 + offset(sample / SAMPLES)) * pixel - centre[1];
                let (u, v) = (
                    (cos * dx + sin * dy) / radius,
                    (cos * dy - sin * dx) / radius,
                );
                hits += usize::from(inside(shape, u, v));
            }
            let share = hits as f64 / (SAMPLES * SAMPLES) as f64;
            let behind = background.at((x as f64 + 0.5) * pixel, (y as f64 + 0.5) * pixel);
            for channel in 0..3 {
                let clean = behind[channel] * (1.0 - share) + ink[channel] * share;
                // The sum of three uniform numbers is close to normal; its deviation is 1/2.
                let bell = random.unit() + random.unit() + random.unit() - 1.5;
                data.push((clean + 2.0 * noise * bell).round().clamp(0.0, 255.0) as u8);
            }
        }
    }
    Rgb8::new(side, side, data)
}

/// Whether a point lies in the shape, which fills the unit disc as well as it can.
fn inside(shape: usize, u: f64, v: f64) -> bool {
    let r = u.hypot(v);
    let rectangle = |width: f64, height: f64| u.abs() <= width && v.abs() <= height;
    match SHAPES[shape] {
        "disc" => r <= 0.8,
        "ring" => (0.5..=0.9).contains(&r),
        "triangle" => polygon_edge(u, v, 3) <= 0.5,
        "cross" => rectangle(0.95, 0.26) || rectangle(0.26, 0.95),
        "crescent" => r <= 0.9 && (u - 0.42).hypot(v) > 0.68,
        "bar" => rectangle(0.97, 0.24),
        "corner" => {
            (-0.7..=0.7).contains(&u) && (-0.7..=0.7).contains(&v) && (u < -0.22 || v > 0.22)
        }
        _ => (u.abs() - 0.56).hypot(v) <= 0.42,
    }
}

/// Distance from the centre towards the nearest edge's direction: at most the inradius inside a regular polygon.
fn polygon_edge(u: f64, v: f64, sides: usize) -> f64 {
    let sector = TAU / sides as f64;
    let angle = v.atan2(u).rem_euclid(sector) - sector / 2.0;
    u.hypot(v) * angle.cos()
}

/// A colour gradient with waves.
struct Background {
    from: [f64; 3],
    to: [f64; 3],
    direction: [f64; 2],
    wave: [f64; 2],
    phase: f64,
    amplitude: f64,
}

impl Background {
    fn random(random: &mut Stream) -> Self {
        let from = colour(random, 150.0);
        let to = from.map(|channel| (channel + random.uniform(-30.0, 30.0)).clamp(0.0, 255.0));
        let (dy, dx) = random.uniform(0.0, TAU).sin_cos();
        let (wy, wx) = random.uniform(0.0, TAU).sin_cos();
        let frequency = random.uniform(1.0, 4.0) * TAU;
        Self {
            from,
            to,
            direction: [dx, dy],
            wave: [wx * frequency, wy * frequency],
            phase: random.uniform(-PI, PI),
            amplitude: random.uniform(0.0, 8.0),
        }
    }

    fn at(&self, x: f64, y: f64) -> [f64; 3] {
        let [dx, dy] = self.direction;
        let along = (0.5 + (x - 0.5) * dx + (y - 0.5) * dy).clamp(0.0, 1.0);
        let wave = self.amplitude * (self.wave[0] * x + self.wave[1] * y + self.phase).sin();
        [0, 1, 2].map(|c| self.from[c] + (self.to[c] - self.from[c]) * along + wave)
    }
}

fn colour(random: &mut Stream, most: f64) -> [f64; 3] {
    [0, 1, 2].map(|_| random.uniform(0.0, most))
}

/// A colour that is clearly lighter than the background.
fn contrasting(background: &Background, random: &mut Stream) -> [f64; 3] {
    let brightness = |c: [f64; 3]| 0.299 * c[0] + 0.587 * c[1] + 0.114 * c[2];
    let behind = brightness(background.at(0.5, 0.5));
    loop {
        // White is far enough from any background (see `Background::random`), so this ends.
        let ink = colour(random, 255.0);
        if brightness(ink) - behind >= CONTRAST {
            return ink;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_are_reproducible_and_splits_differ() {
        let image =
            |split, index| (*Shapes::new(50, split, 32).image(index).expect("draws")).clone();
        assert_eq!(image(0, 7), image(0, 7));
        assert_ne!(image(0, 7), image(1, 7));
        assert_ne!(image(0, 7), image(0, 17));
        let shapes = Shapes::new(50, 0, 32);
        assert_eq!((shapes.label(7), shapes.label(17)), (Some(7), Some(1)));
    }

    #[test]
    fn specifications() {
        let parse = |text: &str| Shapes::parse(text).map(|shapes| (shapes.count, shapes.split));
        assert_eq!(parse("shapes").expect("parses"), (COUNT, 0));
        assert_eq!(parse("shapes:20").expect("parses"), (20, 0));
        assert_eq!(parse("shapes:20:3").expect("parses"), (20, 3));
        for wrong in [
            "shapes:",
            "shapes:0",
            "shapes:x",
            "shapes:1:2:3",
            "shapes:-1",
        ] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }

    /// Every shape is recognisable by the share of the unit disc that it fills and by how that share
    /// is spread, whatever its rotation.
    #[test]
    fn shapes_differ_and_stay_inside() {
        let mut profiles = Vec::new();
        for (shape, name) in SHAPES.iter().enumerate() {
            let (mut area, mut profile) = (0, [0; 4]);
            for y in -60..=60 {
                for x in -60..=60 {
                    let (u, v) = (f64::from(x) / 50.0, f64::from(y) / 50.0);
                    if inside(shape, u, v) {
                        let r = u.hypot(v);
                        assert!(r <= 1.05, "{name} reaches {r}");
                        area += 1;
                        profile[((r * 4.0) as usize).min(3)] += 1;
                    }
                }
            }
            assert!(area > 1500, "{name} is only {area}");
            for other in &profiles {
                assert_ne!(&profile, other);
            }
            profiles.push(profile);
        }
    }

    /// The mean tint of a class says nothing about it: over many images all classes have nearly the same.
    #[test]
    fn colour_does_not_give_the_class_away() {
        let shapes = Shapes::new(3000, 0, 32);
        let mut sums = [[0.0; 3]; SHAPES.len()];
        for index in 0..shapes.len() {
            let image = shapes.image(index).expect("draws");
            for pixel in image.data().as_chunks::<3>().0 {
                for (sum, &value) in sums[index % SHAPES.len()].iter_mut().zip(pixel) {
                    *sum += f64::from(value) / (375.0 * 32.0 * 32.0);
                }
            }
        }
        // A shape is lighter than its background, mostly through green, so the mean colour moves a little
        // with the shape's area. What tells the channels apart must otherwise be chance.
        let tint = |sum: [f64; 3]| [sum[0] - sum[1], sum[2] - sum[1]];
        let mean = |channel: usize| {
            sums.iter().map(|&sum| tint(sum)[channel]).sum::<f64>() / SHAPES.len() as f64
        };
        let means = [mean(0), mean(1)];
        for sum in sums {
            for (tint, mean) in tint(sum).into_iter().zip(means) {
                // The standard error is about 4.
                assert!((tint - mean).abs() < 14.0, "{sums:?}");
            }
        }
    }
}
