//! Images to try a file on, in the form that it takes and in the form that the trained model takes.

use crate::inference::raw::Pixels;
use crate::writer::FileOptions;
use selfcls_core::data::{Shapes, Source};
use selfcls_core::metadata::InputKind;
use selfcls_core::pixels::Rgb8;
use selfcls_core::preprocess::Preprocess;
use std::sync::Arc;

/// Images per run, where the batch is free.
const LARGEST_BATCH: usize = 7;

/// One run of a file.
#[derive(Debug, Clone, PartialEq)]
pub struct Trial {
    /// The shape of `image`.
    pub shape: Vec<usize>,
    /// What the file gets.
    pub image: Pixels,
    /// What the network gets of it by [`Preprocess::apply`], `[count, 3, side, side]`.
    pub prepared: Vec<f32>,
    /// Images.
    pub count: usize,
    /// Whether they are of the size that the file was made for.
    pub own_size: bool,
}

/// Drawn shapes and noise, of sizes that a preprocessing to `crop` pixels has to enlarge, to reduce and to crop.
///
/// # Errors
/// As [`Source::image`], which does not fail for drawn images.
pub fn samples(crop: usize) -> selfcls_core::Result<Vec<Arc<Rgb8>>> {
    let shapes = Shapes::new(4, 1, crop.max(32));
    let mut images = (0..4)
        .map(|index| shapes.image(index))
        .collect::<selfcls_core::Result<Vec<_>>>()?;
    for (width, height) in [(2 * crop + 1, crop + 3), (crop / 2 + 1, crop), (7, 5)] {
        images.push(Arc::new(noise(width, height)?));
    }
    Ok(images)
}

/// Bytes that look like chance, always the same.
fn noise(width: usize, height: usize) -> selfcls_core::Result<Rgb8> {
    let mut state = (width * 65_537 + height) as u64;
    let bytes = (0..3 * width * height).map(|_| {
        // Knuth's generator (MMIX); its high bits are good.
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    });
    Rgb8::new(width, height, bytes.collect())
}

/// The runs that try a file with `options` on `images`; none without images.
pub fn trials(options: &FileOptions, preprocess: &Preprocess, images: &[Arc<Rgb8>]) -> Vec<Trial> {
    if images.is_empty() {
        return Vec::new();
    }
    let mut trials: Vec<Trial> = batches(options, images)
        .iter()
        .map(|batch| trial(options.input, preprocess, batch))
        .collect();
    if options.dynamic_size {
        for (factor, parts) in [(5, 4), (3, 4)] {
            let scaled = |side: usize| (side * factor).div_ceil(parts);
            let other = Preprocess {
                resize: scaled(preprocess.resize),
                crop: scaled(preprocess.crop),
                ..preprocess.clone()
            };
            let batch = batches(options, images).swap_remove(0);
            trials.push(Trial {
                own_size: false,
                ..trial(options.input, &other, &batch)
            });
        }
    }
    trials
}

/// Images that can share a run: as many as a fixed batch has, or one, two and more; of one size where the
/// file takes them as they are.
fn batches(options: &FileOptions, images: &[Arc<Rgb8>]) -> Vec<Vec<Arc<Rgb8>>> {
    let mut batches: Vec<Vec<Arc<Rgb8>>> = Vec::new();
    if options.input == InputKind::Any {
        for image in images {
            batches.push(vec![image.clone(); options.batch.unwrap_or(1)]);
        }
        let same = |image: &&Arc<Rgb8>| {
            let first = &images[0];
            (image.width(), image.height()) == (first.width(), first.height())
        };
        let alike: Vec<_> = images.iter().filter(same).take(2).cloned().collect();
        if options.batch.is_none() {
            batches.push(alike);
        }
    } else if let Some(batch) = options.batch {
        for part in images.chunks(batch) {
            batches.push(part.iter().cycle().take(batch).cloned().collect());
        }
    } else {
        let mut rest = images;
        for size in [1, 2].into_iter().chain(std::iter::repeat(LARGEST_BATCH)) {
            if rest.is_empty() {
                break;
            }
            let (part, others) = rest.split_at(size.min(rest.len()));
            batches.push(part.to_vec());
            rest = others;
        }
    }
    batches
}

fn trial(input: InputKind, preprocess: &Preprocess, images: &[Arc<Rgb8>]) -> Trial {
    let count = images.len();
    let crop = preprocess.crop;
    let prepared: Vec<f32> = images
        .iter()
        .flat_map(|image| preprocess.input(image))
        .collect();
    let (shape, image) = match input {
        InputKind::Float => (vec![count, 3, crop, crop], Pixels::Float(prepared.clone())),
        InputKind::Uint8 => {
            let bytes = images
                .iter()
                .flat_map(|image| preprocess.pixels(image).data().to_vec());
            (vec![count, crop, crop, 3], Pixels::Bytes(bytes.collect()))
        }
        InputKind::Any => {
            let (width, height) = (images[0].width(), images[0].height());
            let bytes = images.iter().flat_map(|image| image.data().to_vec());
            (
                vec![count, height, width, 3],
                Pixels::Bytes(bytes.collect()),
            )
        }
    };
    Trial {
        shape,
        image,
        prepared,
        count,
        own_size: true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use selfcls_core::Config;

    fn shapes(options: &FileOptions) -> Vec<Vec<usize>> {
        let images = samples(16).expect("drawn");
        let mut config = Config::default();
        (config.eval.resize, config.eval.crop) = (20, 16);
        let trials = trials(options, &config.preprocess(), &images);
        for trial in &trials {
            let values = match &trial.image {
                Pixels::Float(values) => values.len(),
                Pixels::Bytes(values) => values.len(),
            };
            assert_eq!(trial.shape.iter().product::<usize>(), values);
            assert_eq!(trial.shape[0], trial.count);
        }
        trials.into_iter().map(|trial| trial.shape).collect()
    }

    #[test]
    fn trials_have_the_shape_that_the_file_takes() {
        let plain = FileOptions::default();
        let images = |n: usize, side: usize| vec![n, 3, side, side];
        assert_eq!(
            shapes(&plain),
            [images(1, 16), images(2, 16), images(4, 16)]
        );
        let free = FileOptions {
            dynamic_size: true,
            ..plain.clone()
        };
        assert_eq!(shapes(&free)[3..], [images(1, 20), images(1, 12)]);
        let fixed = FileOptions {
            batch: Some(3),
            input: InputKind::Uint8,
            ..plain.clone()
        };
        assert_eq!(shapes(&fixed), vec![vec![3, 16, 16, 3]; 3]);
        let any = FileOptions {
            input: InputKind::Any,
            ..plain
        };
        let found = shapes(&any);
        assert_eq!(found.len(), 8);
        assert_eq!(found[4], [1, 19, 33, 3]);
        assert_eq!(found[7], [2, 32, 32, 3]);
    }
}
