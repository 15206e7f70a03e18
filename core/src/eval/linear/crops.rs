//! The augmented images of linear evaluation: random resized crops, half of them mirrored.

use crate::Result;
use crate::config::{Interpolation, ViewsConfig};
use crate::data::Source;
use crate::eval::features::Key;
use crate::pixels::Rgb8;
use crate::preprocess::Preprocess;
use crate::random::{Draw, Purpose, stream};
use crate::views::{CropBox, resized_crop};
use std::sync::Arc;

/// Area of a crop relative to the image: the default of torchvision's `RandomResizedCrop`, as in the authors' `lincls_eval`.
const SCALE: [f64; 2] = [0.08, 1.0];

/// Random crops of a source's images as a source of their own, `[crop, crop]` pixels, mirrored with probability 1/2.
///
/// A crop follows from (seed, epoch, image) alone, so that an interrupted evaluation goes on with the same ones, and a
/// cache of features can be made anew.
pub struct RandomCrops {
    source: Arc<dyn Source>,
    seed: u64,
    side: usize,
    filter: Interpolation,
    /// Epoch and image of each.
    order: Vec<(usize, usize)>,
}

impl RandomCrops {
    /// One crop of every image, in the random order of that epoch. Of `preprocess` crop and filter are used.
    pub fn epoch(
        source: Arc<dyn Source>,
        preprocess: &Preprocess,
        seed: u64,
        epoch: usize,
    ) -> Self {
        let mut images: Vec<usize> = (0..source.len()).collect();
        shuffle(&mut images, seed, epoch);
        let order = images.into_iter().map(|image| (epoch, image)).collect();
        Self::new(source, preprocess, seed, order)
    }

    /// The crops of the first `epochs` epochs, epoch by epoch, in the source's order.
    pub fn epochs(
        source: Arc<dyn Source>,
        preprocess: &Preprocess,
        seed: u64,
        epochs: usize,
    ) -> Self {
        let images = 0..source.len();
        let order = (0..epochs).flat_map(|epoch| images.clone().map(move |image| (epoch, image)));
        let order = order.collect();
        Self::new(source, preprocess, seed, order)
    }

    fn new(
        source: Arc<dyn Source>,
        preprocess: &Preprocess,
        seed: u64,
        order: Vec<(usize, usize)>,
    ) -> Self {
        Self {
            source,
            seed,
            side: preprocess.crop,
            filter: preprocess.interpolation,
            order,
        }
    }

    /// Without the first `count` of them.
    pub(super) fn from(mut self, count: usize) -> Self {
        self.order.drain(..count.min(self.order.len()));
        self
    }

    /// What is left of `preprocess` for images that are crops already.
    pub fn preprocess(preprocess: &Preprocess) -> Preprocess {
        Preprocess {
            resize: preprocess.crop,
            ..preprocess.clone()
        }
    }

    /// The key of features of these crops, of which `plain` would be that of the images themselves. The names of crops
    /// are those of their images: what tells them apart is the seed and their number.
    pub fn key(&self, plain: Key) -> Key {
        let epochs = self.order.last().map_or(0, |&(epoch, _)| epoch + 1);
        Key {
            preprocess: format!(
                "{}, {epochs} epochs of random crops from seed {}",
                plain.preprocess, self.seed
            ),
            ..plain
        }
    }

    fn crop(&self, epoch: usize, image: usize) -> Result<Rgb8> {
        let pixels = self.source.image(image)?;
        let mut draw = stream(
            self.seed,
            Purpose::Evaluation,
            [epoch as u64, 5, image as u64],
        );
        let mirrored = draw.chance(0.5);
        let size = (pixels.width(), pixels.height());
        let ratio = ViewsConfig::default().ratio;
        let crop = CropBox::random(size, SCALE, ratio, &mut draw);
        let mut cropped =
            resized_crop(&pixels, crop, (self.side, self.side), self.filter).to_rgb()?;
        if mirrored {
            for row in cropped.data_mut().chunks_exact_mut(3 * self.side) {
                let (pixels, _) = row.as_chunks_mut::<3>();
                pixels.reverse();
            }
        }
        Ok(cropped)
    }
}

/// Puts samples into the random order of an epoch.
pub(super) fn shuffle(samples: &mut [usize], seed: u64, epoch: usize) {
    stream(seed, Purpose::Evaluation, [epoch as u64, 4, 0]).shuffle(samples);
}

impl Source for RandomCrops {
    fn len(&self) -> usize {
        self.order.len()
    }

    fn image(&self, index: usize) -> Result<Arc<Rgb8>> {
        let (epoch, image) = self.order[index];
        self.crop(epoch, image).map(Arc::new)
    }

    fn label(&self, index: usize) -> Option<usize> {
        self.source.label(self.order[index].1)
    }

    fn classes(&self) -> &[String] {
        self.source.classes()
    }

    fn name(&self, index: usize) -> String {
        self.source.name(self.order[index].1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::data::Shapes;

    fn preprocess() -> Preprocess {
        let mut config = Config::default();
        config.eval.crop = 16;
        config.preprocess()
    }

    #[test]
    fn crops_follow_from_seed_epoch_and_image() {
        let source: Arc<dyn Source> = Arc::new(Shapes::new(12, 0, 24));
        let preprocess = preprocess();
        let two = RandomCrops::epochs(Arc::clone(&source), &preprocess, 3, 2);
        assert_eq!(two.len(), 24);
        let second = RandomCrops::epoch(Arc::clone(&source), &preprocess, 3, 1);
        assert_eq!(second.len(), 12);
        for index in 0..12 {
            // Found again in the epoch's random order, by the image's name.
            let name = second.name(index);
            let place = (12..24)
                .find(|&i| two.name(i) == name)
                .expect("every image");
            let (a, b) = (second.image(index), two.image(place));
            assert_eq!(a.expect("a crop"), b.expect("a crop"));
            assert_eq!(second.label(index), two.label(place));
        }
        let names = |epoch| -> Vec<String> {
            let crops = RandomCrops::epoch(Arc::clone(&source), &preprocess, 3, epoch);
            (0..12).map(|index| crops.name(index)).collect()
        };
        assert_ne!(names(0), names(1));
        assert_eq!(two.image(0).expect("a crop").width(), 16);
        assert_ne!(
            two.image(0).expect("a crop"),
            two.image(12).expect("another")
        );
        // Crops are normalised as they are.
        let plain = RandomCrops::preprocess(&preprocess);
        let image = two.image(0).expect("a crop");
        let input = plain.input(&image);
        let red = f32::from(image.data()[0]) / 255.0;
        assert!((input[0] - (red - plain.mean[0]) / plain.std[0]).abs() < 1e-5);
    }

    #[test]
    fn half_of_the_crops_are_mirrored() {
        /// A white image with a black left half.
        struct Half;
        impl Source for Half {
            fn len(&self) -> usize {
                200
            }
            fn image(&self, _: usize) -> Result<Arc<Rgb8>> {
                let data = (0..64 * 64)
                    .flat_map(|at| [if at % 64 < 32 { 0 } else { 255 }; 3])
                    .collect();
                Rgb8::new(64, 64, data).map(Arc::new)
            }
            fn label(&self, _: usize) -> Option<usize> {
                None
            }
            fn classes(&self) -> &[String] {
                &[]
            }
            fn name(&self, index: usize) -> String {
                index.to_string()
            }
        }
        let crops = RandomCrops::epochs(Arc::new(Half), &preprocess(), 0, 1);
        let (mut left, mut right) = (0, 0);
        for index in 0..crops.len() {
            let image = crops.image(index).expect("a crop");
            let row = &image.data()[..48];
            left += usize::from(row[0] < row[45]);
            right += usize::from(row[0] > row[45]);
        }
        // Crops that lie in one half show no side.
        assert!(left > 40 && right > 40, "{left} {right}");
    }
}
