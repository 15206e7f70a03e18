//! Images on their way into the network: prepared as the file wants them, alone or stacked.

use super::spread::spread;
use selfcls_core::pixels::Rgb8;
use selfcls_core::preprocess::Preprocess;
use std::borrow::Borrow;

/// How the network takes its images. One that takes any size is opened without its resizing, and takes floats then.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Takes {
    /// `[batch, 3, crop, crop]`, normalised.
    Floats,
    /// `[batch, crop, crop, 3]`.
    Bytes,
}

/// What the network's input is made of.
#[derive(Debug, Clone)]
pub(super) struct Input {
    pub(super) takes: Takes,
    pub(super) preprocess: Preprocess,
}

/// Images: `[count, 3, side, side]` normalised, or `[count, side, side, 3]` bytes.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Stack {
    count: usize,
    side: usize,
    values: Values,
}

#[derive(Debug, Clone, PartialEq)]
enum Values {
    Floats(Vec<f32>),
    Bytes(Vec<u8>),
}

/// Some images of a [`Stack`].
#[derive(Debug, Clone, Copy)]
pub(super) struct Part<'a> {
    pub(super) count: usize,
    side: usize,
    pub(super) values: Slice<'a>,
}

/// The numbers of a [`Part`].
#[derive(Debug, Clone, Copy)]
pub(super) enum Slice<'a> {
    Floats(&'a [f32]),
    Bytes(&'a [u8]),
}

impl Input {
    /// One image.
    pub(super) fn stack(&self, image: &Rgb8) -> Stack {
        let values = match self.takes {
            Takes::Floats => Values::Floats(self.preprocess.input(image)),
            Takes::Bytes => Values::Bytes(self.preprocess.pixels(image).into_data()),
        };
        self.square(1, values)
    }

    /// `[count, 3, crop, crop]`, normalised, as bytes again.
    pub(super) fn bytes(&self, input: &[f32]) -> Stack {
        let count = input.len() / self.preprocess.input_len();
        self.square(count, Values::Bytes(self.preprocess.bytes(input)))
    }

    /// `input`, `[count, 3, crop, crop]`, of a network that takes it so.
    pub(super) fn part<'a>(&self, input: &'a [f32]) -> Part<'a> {
        self.cropped_part(Slice::Floats(input))
    }

    /// Whole images, cropped.
    pub(super) fn cropped_part<'a>(&self, values: Slice<'a>) -> Part<'a> {
        let side = self.preprocess.crop;
        let length = match values {
            Slice::Floats(values) => values.len(),
            Slice::Bytes(values) => values.len(),
        };
        Part {
            count: length / self.preprocess.input_len(),
            side,
            values,
        }
    }

    /// Images of any sizes, prepared on up to `threads` threads.
    pub(super) fn stacked<I: Borrow<Rgb8> + Sync>(&self, images: &[I], threads: usize) -> Stack {
        let values = match self.takes {
            Takes::Floats => Values::Floats(self.prepared(images, threads)),
            Takes::Bytes => {
                let length = self.preprocess.input_len();
                let mut bytes = vec![0; images.len() * length];
                spread(threads, images, (&mut bytes, length), |image, out| {
                    let preprocess = &self.preprocess;
                    preprocess.resized(image.borrow(), |resized| resized.interleave(out));
                });
                Values::Bytes(bytes)
            }
        };
        self.square(images.len(), values)
    }

    /// Images of any sizes: `[count, 3, crop, crop]`, normalised.
    pub(super) fn prepared<I: Borrow<Rgb8> + Sync>(
        &self,
        images: &[I],
        threads: usize,
    ) -> Vec<f32> {
        let length = self.preprocess.input_len();
        let mut floats = vec![0.0; images.len() * length];
        spread(threads, images, (&mut floats, length), |image, out| {
            self.preprocess.apply(image.borrow(), out);
        });
        floats
    }

    fn square(&self, count: usize, values: Values) -> Stack {
        Stack {
            count,
            side: self.preprocess.crop,
            values,
        }
    }
}

impl Stack {
    /// All of it.
    pub(super) fn part(&self) -> Part<'_> {
        Part {
            count: self.count,
            side: self.side,
            values: match &self.values {
                Values::Floats(values) => Slice::Floats(values),
                Values::Bytes(values) => Slice::Bytes(values),
            },
        }
    }
}

impl<'a> Part<'a> {
    /// The shape of the network's input.
    pub(super) fn shape(&self) -> [usize; 4] {
        match self.values {
            Slice::Floats(_) => [self.count, 3, self.side, self.side],
            Slice::Bytes(_) => [self.count, self.side, self.side, 3],
        }
    }

    /// Numbers of one image.
    fn length(&self) -> usize {
        3 * self.side * self.side
    }

    /// At most `count` images at a time.
    pub(super) fn chunks(self, count: usize) -> impl Iterator<Item = Part<'a>> {
        (0..self.count).step_by(count).map(move |first| {
            let taken = count.min(self.count - first);
            let range = first * self.length()..(first + taken) * self.length();
            Part {
                count: taken,
                values: match self.values {
                    Slice::Floats(values) => Slice::Floats(&values[range]),
                    Slice::Bytes(values) => Slice::Bytes(&values[range]),
                },
                ..self
            }
        })
    }

    /// These images, which are not none, and the last one again until there are `count`.
    pub(super) fn padded(self, count: usize) -> Stack {
        let last = (self.count - 1) * self.length();
        let missing = count.saturating_sub(self.count);
        Stack {
            count: self.count + missing,
            side: self.side,
            values: match self.values {
                Slice::Floats(values) => Values::Floats(repeated(values, last, missing)),
                Slice::Bytes(values) => Values::Bytes(repeated(values, last, missing)),
            },
        }
    }
}

/// `values`, and those from `last` on `times` more.
fn repeated<T: Copy>(values: &[T], last: usize, times: usize) -> Vec<T> {
    let mut all = values.to_vec();
    for _ in 0..times {
        all.extend_from_slice(&values[last..]);
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use selfcls_core::config::Interpolation;

    fn input(takes: Takes) -> Input {
        Input {
            takes,
            preprocess: Preprocess {
                resize: 2,
                crop: 2,
                interpolation: Interpolation::Bilinear,
                mean: [0.5; 3],
                std: [0.25; 3],
            },
        }
    }

    fn image(width: usize, height: usize) -> Rgb8 {
        Rgb8::new(
            width,
            height,
            (0..3 * width * height).map(|i| i as u8).collect(),
        )
        .expect("an image")
    }

    #[test]
    fn every_image_is_stacked_as_it_is_alone() {
        let images = [image(2, 2), image(5, 3), image(5, 3), image(2, 2)];
        for takes in [Takes::Floats, Takes::Bytes] {
            let input = input(takes);
            let stack = input.stacked(&images, 2);
            assert_eq!(stack.count, 4);
            for (part, image) in stack.part().chunks(1).zip(&images) {
                assert_eq!(part.padded(1), input.stack(image), "{takes:?}");
            }
        }
    }

    #[test]
    fn parts_and_padding() {
        let input = input(Takes::Bytes);
        let stack = input.stacked(&[image(2, 2), image(3, 2), image(2, 4)], 3);
        let parts: Vec<Part<'_>> = stack.part().chunks(2).collect();
        assert_eq!(parts[0].shape(), [2, 2, 2, 3]);
        assert_eq!(parts[1].shape(), [1, 2, 2, 3]);
        let padded = parts[1].padded(3);
        assert_eq!(padded.part().shape(), [3, 2, 2, 3]);
        let (Values::Bytes(all), Values::Bytes(three)) = (&stack.values, &padded.values) else {
            panic!("bytes");
        };
        assert_eq!(three[..12], all[24..]);
        assert_eq!(three[24..], all[24..]);
    }

    #[test]
    fn normalised_values_become_bytes_again() {
        let images = [image(2, 2), image(2, 2)];
        let floats: Vec<f32> = images
            .iter()
            .flat_map(|image| input(Takes::Floats).preprocess.input(image))
            .collect();
        let input = input(Takes::Bytes);
        assert_eq!(input.bytes(&floats), input.stacked(&images, 2));
    }
}
