//! The images of one run on their way: several threads prepare them, each straight into its place, so that
//! nothing has to be put together before the network runs.

use super::pixels::{Input, Part, Slice, Takes};
use selfcls_core::pixels::Rgb8;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Places for the images of a run.
pub(super) struct Tray(Mutex<Laid>);

enum Laid {
    /// `[places, 3, crop, crop]`, normalised.
    Floats(Vec<f32>),
    /// `[places, crop, crop, 3]`.
    Bytes(Vec<u8>),
}

impl Tray {
    /// With `places` for images of `input`.
    pub(super) fn new(input: &Input, places: usize) -> Self {
        let length = places * input.preprocess.input_len();
        Self(Mutex::new(match input.takes {
            Takes::Floats => Laid::Floats(vec![0.0; length]),
            Takes::Bytes => Laid::Bytes(vec![0; length]),
        }))
    }

    /// Prepares `image` at `place`. Others may do so at the same time: only the writing is done alone.
    pub(super) fn lay(&self, input: &Input, image: &Rgb8, place: usize) {
        let length = input.preprocess.input_len();
        let range = place * length..(place + 1) * length;
        input
            .preprocess
            .resized(image, |resized| match &mut *self.laid() {
                Laid::Floats(floats) => resized.normalise(&mut floats[range]),
                Laid::Bytes(bytes) => resized.interleave(&mut bytes[range]),
            });
    }

    /// Hands the images at `places`, which ascend, to `run`. The tray is for other images then.
    pub(super) fn run(&self, input: &Input, places: &[usize], run: impl FnOnce(&Part<'_>)) {
        if places.is_empty() {
            return;
        }
        let length = input.preprocess.input_len();
        let end = places.len() * length;
        match &mut *self.laid() {
            Laid::Floats(floats) => {
                close_gaps(floats, length, places);
                run(&input.cropped_part(Slice::Floats(&floats[..end])));
            }
            Laid::Bytes(bytes) => {
                close_gaps(bytes, length, places);
                run(&input.cropped_part(Slice::Bytes(&bytes[..end])));
            }
        }
    }

    fn laid(&self) -> MutexGuard<'_, Laid> {
        // A decoder that panicked in the middle of an image has left one that nobody will look at.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Moves the images at `places` to the beginning: there are gaps where pictures could not be read.
fn close_gaps<T: Copy>(values: &mut [T], length: usize, places: &[usize]) {
    for (to, &from) in places.iter().enumerate() {
        if from != to {
            values.copy_within(from * length..(from + 1) * length, to * length);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use selfcls_core::config::Interpolation;
    use selfcls_core::preprocess::Preprocess;

    fn input(takes: Takes) -> Input {
        Input {
            takes,
            preprocess: Preprocess {
                resize: 3,
                crop: 2,
                interpolation: Interpolation::Bilinear,
                mean: [0.5; 3],
                std: [0.25; 3],
            },
        }
    }

    fn image(number: usize) -> Rgb8 {
        let (width, height) = (4 + number % 2, 5);
        let bytes = (0..3 * width * height).map(|i| (i * (number + 3)) as u8);
        Rgb8::new(width, height, bytes.collect()).expect("an image")
    }

    /// What is run, as if the images had been stacked at once.
    fn all(parts: &mut Vec<(usize, Vec<f32>)>, part: &Part<'_>) {
        let values = match part.values {
            Slice::Floats(values) => values.to_vec(),
            Slice::Bytes(values) => values.iter().copied().map(f32::from).collect(),
        };
        parts.push((part.count, values));
    }

    #[test]
    fn what_is_laid_is_what_would_have_been_stacked() {
        for takes in [Takes::Floats, Takes::Bytes] {
            let input = input(takes);
            let tray = Tray::new(&input, 5);
            // Twice: the memory is used again. The second time two could not be read.
            for places in [&[0, 1, 2, 3, 4][..], &[1, 2, 4]] {
                let images: Vec<Rgb8> = places.iter().map(|&place| image(place + 7)).collect();
                for (&place, image) in places.iter().zip(&images).rev() {
                    tray.lay(&input, image, place);
                }
                let (mut found, mut expected) = (Vec::new(), Vec::new());
                tray.run(&input, places, |part| all(&mut found, part));
                all(&mut expected, &input.stacked(&images, 1).part());
                assert_eq!(found, expected, "{takes:?}");
            }
            tray.run(&input, &[], |_| panic!("there is nothing to run"));
        }
    }
}
