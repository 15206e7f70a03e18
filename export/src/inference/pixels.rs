//! Images on their way into the network: prepared as the file wants them, alone or stacked.

use rayon::prelude::*;
use selfcls_core::metadata::InputKind;
use selfcls_core::pixels::Rgb8;
use selfcls_core::preprocess::Preprocess;
use std::borrow::{Borrow, Cow};

/// What the network's input is made of.
#[derive(Debug, Clone)]
pub(super) struct Input {
    pub(super) kind: InputKind,
    pub(super) preprocess: Preprocess,
}

/// Images of one size: `[count, 3, height, width]` normalised, or `[count, height, width, 3]` bytes.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Stack {
    count: usize,
    height: usize,
    width: usize,
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
    height: usize,
    width: usize,
    pub(super) values: Slice<'a>,
}

/// The numbers of a [`Part`].
#[derive(Debug, Clone, Copy)]
pub(super) enum Slice<'a> {
    Floats(&'a [f32]),
    Bytes(&'a [u8]),
}

impl Input {
    /// Stacks of `images` in order: one, unless the network takes them as they are and they differ in size.
    pub(super) fn stacks<I: Borrow<Rgb8> + Sync>(&self, images: &[I]) -> Vec<Stack> {
        match self.kind {
            InputKind::Float | InputKind::Uint8 => vec![self.cropped(images)],
            InputKind::Any => Stack::joined(images.iter().map(|image| self.stack(image.borrow()))),
        }
    }

    /// One image.
    pub(super) fn stack(&self, image: &Rgb8) -> Stack {
        match self.kind {
            InputKind::Float => {
                let values = Values::Floats(self.preprocess.input(image));
                self.square(1, values)
            }
            InputKind::Uint8 => {
                let values = Values::Bytes(self.preprocess.pixels(image).into_data());
                self.square(1, values)
            }
            InputKind::Any => self.whole(Cow::Borrowed(image)),
        }
    }

    /// One image as it is, for a network that takes any.
    pub(super) fn whole(&self, image: Cow<'_, Rgb8>) -> Stack {
        Stack {
            count: 1,
            height: image.height(),
            width: image.width(),
            values: Values::Bytes(image.into_owned().into_data()),
        }
    }

    /// `[count, 3, crop, crop]`, normalised, as the network takes it; none where that are images of any
    /// size, which nobody can make from these.
    pub(super) fn normalised(&self, input: &[f32]) -> Option<Stack> {
        let count = input.len() / self.preprocess.input_len();
        match self.kind {
            InputKind::Uint8 => Some(Values::Bytes(self.preprocess.bytes(input))),
            InputKind::Any if self.preprocess.resize == self.preprocess.crop => {
                Some(Values::Bytes(self.preprocess.bytes(input)))
            }
            InputKind::Float | InputKind::Any => None,
        }
        .map(|values| self.square(count, values))
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
            height: side,
            width: side,
            values,
        }
    }

    fn cropped<I: Borrow<Rgb8> + Sync>(&self, images: &[I]) -> Stack {
        let length = self.preprocess.input_len();
        let values = if self.kind == InputKind::Float {
            let mut floats = vec![0.0; images.len() * length];
            floats
                .par_chunks_exact_mut(length)
                .zip(images)
                .for_each(|(out, image)| self.preprocess.apply(image.borrow(), out));
            Values::Floats(floats)
        } else {
            let mut bytes = vec![0; images.len() * length];
            bytes
                .par_chunks_exact_mut(length)
                .zip(images)
                .for_each(|(out, image)| {
                    let preprocess = &self.preprocess;
                    preprocess.resized(image.borrow(), |resized| resized.interleave(out));
                });
            Values::Bytes(bytes)
        };
        self.square(images.len(), values)
    }

    fn square(&self, count: usize, values: Values) -> Stack {
        Stack {
            count,
            height: self.preprocess.crop,
            width: self.preprocess.crop,
            values,
        }
    }
}

impl Stack {
    /// Stacks of `parts` in order, neighbours of one size together.
    pub(super) fn joined(parts: impl IntoIterator<Item = Self>) -> Vec<Self> {
        let mut stacks: Vec<Self> = Vec::new();
        for part in parts {
            match stacks.last_mut() {
                Some(last) if last.size() == part.size() => last.append(part),
                _ => stacks.push(part),
            }
        }
        stacks
    }

    /// All of it.
    pub(super) fn part(&self) -> Part<'_> {
        Part {
            count: self.count,
            height: self.height,
            width: self.width,
            values: match &self.values {
                Values::Floats(values) => Slice::Floats(values),
                Values::Bytes(values) => Slice::Bytes(values),
            },
        }
    }

    fn size(&self) -> (usize, usize) {
        (self.width, self.height)
    }

    fn append(&mut self, other: Self) {
        self.count += other.count;
        match (&mut self.values, other.values) {
            (Values::Floats(own), Values::Floats(others)) => own.extend(others),
            (Values::Bytes(own), Values::Bytes(others)) => own.extend(others),
            // Invariant: one file's input has one kind of values.
            (_, _) => unreachable!("images of two kinds"),
        }
    }
}

impl<'a> Part<'a> {
    /// The shape of the network's input.
    pub(super) fn shape(&self) -> [usize; 4] {
        match self.values {
            Slice::Floats(_) => [self.count, 3, self.height, self.width],
            Slice::Bytes(_) => [self.count, self.height, self.width, 3],
        }
    }

    /// Numbers of one image.
    fn length(&self) -> usize {
        3 * self.height * self.width
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
            height: self.height,
            width: self.width,
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

    fn input(kind: InputKind) -> Input {
        Input {
            kind,
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
    fn every_kind_is_stacked_as_it_is_alone() {
        let images = [image(2, 2), image(5, 3), image(5, 3), image(2, 2)];
        for kind in [InputKind::Float, InputKind::Uint8, InputKind::Any] {
            let input = input(kind);
            let alone = images.iter().map(|image| input.stack(image));
            let stacks = input.stacks(&images);
            assert_eq!(stacks, Stack::joined(alone), "{kind}");
            let counts: Vec<usize> = stacks.iter().map(|stack| stack.count).collect();
            let expected: &[usize] = if kind == InputKind::Any {
                &[1, 2, 1]
            } else {
                &[4]
            };
            assert_eq!(counts, expected, "{kind}");
        }
    }

    #[test]
    fn parts_and_padding() {
        let input = input(InputKind::Uint8);
        let stack = input.cropped(&[image(2, 2), image(3, 2), image(2, 4)]);
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
            .flat_map(|image| input(InputKind::Float).preprocess.input(image))
            .collect();
        for kind in [InputKind::Uint8, InputKind::Any] {
            let input = input(kind);
            assert_eq!(input.normalised(&floats), input.stacks(&images).pop());
        }
    }
}
