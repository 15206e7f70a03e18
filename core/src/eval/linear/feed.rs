//! What the layer learns from and is tested on, batch by batch.

use super::crops::{RandomCrops, shuffle};
use crate::data::{EvalBatch, EvalLoader, Source};
use crate::eval::Network;
use crate::eval::features::FeatureTable;
use crate::preprocess::Preprocess;
use crate::{Error, Result};
use std::ops::ControlFlow;
use std::sync::Arc;

/// Inputs of the trained part, with their labels: features `[samples, width]`, or images `[samples, 3, side, side]` where
/// the backbone is trained too.
#[derive(Debug, Clone, PartialEq)]
pub struct Batch {
    /// Row-major.
    pub inputs: Vec<f32>,
    /// Class of each sample.
    pub labels: Vec<usize>,
}

/// Hears of each batch, and may end the epoch.
pub type Each<'a> = &'a mut dyn FnMut(Batch) -> Result<ControlFlow<()>>;

/// Where batches come from. Batch number n of an epoch is always the same one, so that an epoch can be entered in the
/// middle.
pub trait Feed {
    /// Training samples in an epoch.
    fn samples(&self) -> usize;

    /// The batches of `epoch` from number `first` on; the last one may be smaller.
    ///
    /// # Errors
    /// If an image or a feature cannot be read, or whatever `each` reports.
    fn train(&mut self, epoch: usize, first: usize, batch: usize, each: Each<'_>) -> Result<()>;

    /// All test samples.
    ///
    /// # Errors
    /// As [`train`](Self::train).
    fn test(&mut self, batch: usize, each: Each<'_>) -> Result<()>;
}

/// Features with the class of each.
#[derive(Debug)]
pub struct LabelledFeatures {
    /// `[samples, width]`.
    pub features: FeatureTable,
    /// A class for each.
    pub labels: Vec<usize>,
}

impl LabelledFeatures {
    fn batch(&self, rows: &[usize]) -> Result<Batch> {
        let labels = rows.iter().map(|&row| self.labels[row]).collect();
        Ok(Batch {
            inputs: self.features.gather(rows)?,
            labels,
        })
    }

    fn in_order(&self, batch: usize, each: Each<'_>) -> Result<()> {
        for part in self.features.parts(batch) {
            let (first, inputs) = part?;
            let count = inputs.len() / self.features.width();
            let labels = self.labels[first..first + count].to_vec();
            if each(Batch { inputs, labels })?.is_break() {
                break;
            }
        }
        Ok(())
    }
}

/// Features that were made beforehand: of one epoch (the centre crops), or of several epochs of random crops that take
/// turns.
#[derive(Debug)]
pub struct TableFeed {
    train: LabelledFeatures,
    epochs: usize,
    test: LabelledFeatures,
    seed: u64,
}

impl TableFeed {
    /// Trains on `train`, which holds `epochs` epochs one after the other, the images of each in the same order, and
    /// tests on `test`, of the centre crops. `seed` is that of the order of samples.
    ///
    /// # Errors
    /// [`Error::Invalid`] if the features' widths differ, there is not a label for each, or the epochs are not equal.
    pub fn new(
        train: LabelledFeatures,
        epochs: usize,
        test: LabelledFeatures,
        seed: u64,
    ) -> Result<Self> {
        let (width, tested) = (train.features.width(), test.features.width());
        if width != tested {
            return Err(Error::Invalid(format!(
                "training features of width {width} do not fit test features of width {tested}"
            )));
        }
        for (what, of) in [("training", &train), ("test", &test)] {
            if of.features.len() != of.labels.len() {
                return Err(Error::Invalid(format!(
                    "{} {what} features have {} labels; one for each is needed",
                    of.features.len(),
                    of.labels.len()
                )));
            }
        }
        if epochs == 0 || !train.labels.len().is_multiple_of(epochs) {
            return Err(Error::Invalid(format!(
                "{} features do not make {epochs} equal epochs",
                train.labels.len()
            )));
        }
        Ok(Self {
            train,
            epochs,
            test,
            seed,
        })
    }
}

impl Feed for TableFeed {
    fn samples(&self) -> usize {
        self.train.labels.len() / self.epochs
    }

    fn train(&mut self, epoch: usize, first: usize, batch: usize, each: Each<'_>) -> Result<()> {
        let samples = self.samples();
        let start = epoch % self.epochs * samples;
        let mut rows: Vec<usize> = (0..samples).collect();
        shuffle(&mut rows, self.seed, epoch);
        for row in &mut rows {
            *row += start;
        }
        for rows in rows.chunks(batch).skip(first) {
            if each(self.train.batch(rows)?)?.is_break() {
                break;
            }
        }
        Ok(())
    }

    fn test(&mut self, batch: usize, each: Each<'_>) -> Result<()> {
        self.test.in_order(batch, each)
    }
}

/// Images as they come: a fresh random crop of each in every epoch.
pub struct CropFeed<'a> {
    /// The training images.
    pub train: Arc<dyn Source>,
    /// That of evaluation.
    pub preprocess: Preprocess,
    /// Threads that prepare images; 0 for one per core.
    pub workers: usize,
    /// Of crops and order.
    pub seed: u64,
    /// What follows the crop.
    pub then: Then<'a>,
}

/// What becomes of the crops.
pub enum Then<'a> {
    /// A frozen network makes features of them. Those of the test images never change, and come once.
    Features(&'a mut dyn Network, LabelledFeatures),
    /// They are the input of what is trained; and these are the test images.
    Images(Arc<dyn Source>),
}

impl Feed for CropFeed<'_> {
    fn samples(&self) -> usize {
        self.train.len()
    }

    fn train(&mut self, epoch: usize, first: usize, batch: usize, each: Each<'_>) -> Result<()> {
        let crops = RandomCrops::epoch(Arc::clone(&self.train), &self.preprocess, self.seed, epoch)
            .from(first * batch);
        let plain = RandomCrops::preprocess(&self.preprocess);
        for loaded in EvalLoader::new(Arc::new(crops), plain, batch, self.workers)? {
            let loaded = loaded?;
            let made = match &mut self.then {
                Then::Images(_) => labelled(loaded),
                Then::Features(network, _) => {
                    let count = loaded.count;
                    Batch {
                        inputs: network.forward(loaded.images, count)?.features,
                        labels: loaded.labels.unwrap_or_default(),
                    }
                }
            };
            if each(made)?.is_break() {
                break;
            }
        }
        Ok(())
    }

    fn test(&mut self, batch: usize, each: Each<'_>) -> Result<()> {
        let source = match &self.then {
            Then::Features(_, test) => return test.in_order(batch, each),
            Then::Images(source) => Arc::clone(source),
        };
        for loaded in EvalLoader::new(source, self.preprocess.clone(), batch, self.workers)? {
            if each(labelled(loaded?))?.is_break() {
                break;
            }
        }
        Ok(())
    }
}

fn labelled(batch: EvalBatch) -> Batch {
    Batch {
        inputs: batch.images,
        labels: batch.labels.unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(feed: &mut dyn Feed, epoch: usize, first: usize) -> Vec<(f32, usize)> {
        let mut rows = Vec::new();
        feed.train(epoch, first, 3, &mut |batch| {
            rows.extend(batch.inputs.iter().copied().zip(batch.labels));
            Ok(ControlFlow::Continue(()))
        })
        .expect("feeds");
        rows
    }

    #[test]
    fn epochs_of_a_table_take_turns_and_can_be_entered_anywhere() {
        let labelled = |rows: usize| LabelledFeatures {
            features: FeatureTable::new((0..rows).map(|x| x as f32).collect(), 1).expect("a table"),
            labels: (0..rows).map(|row| row % 10).collect(),
        };
        let mut feed = TableFeed::new(labelled(20), 2, labelled(4), 1).expect("two epochs");
        assert!(TableFeed::new(labelled(20), 3, labelled(4), 1).is_err());
        let wide = LabelledFeatures {
            features: FeatureTable::new(vec![0.0; 8], 2).expect("a table"),
            labels: vec![0; 4],
        };
        let error = TableFeed::new(labelled(4), 1, wide, 1).expect_err("refused");
        assert!(error.to_string().contains("width 1") && error.to_string().contains("width 2"));
        let short = LabelledFeatures {
            labels: vec![0; 3],
            ..labelled(4)
        };
        assert!(TableFeed::new(labelled(4), 1, short, 1).is_err());
        assert_eq!(feed.samples(), 10);
        let first = rows(&mut feed, 0, 0);
        let sorted = |mut rows: Vec<(f32, usize)>| -> Vec<f32> {
            rows.sort_by(|a, b| a.0.total_cmp(&b.0));
            rows.into_iter().map(|row| row.0).collect()
        };
        assert_ne!(first, rows(&mut feed, 2, 0), "another order");
        assert_eq!(sorted(first.clone()), sorted(rows(&mut feed, 2, 0)));
        assert_eq!(sorted(rows(&mut feed, 1, 0))[0], 10.0);
        assert_eq!(rows(&mut feed, 0, 2), first[6..]);
        assert!(
            first
                .iter()
                .all(|&(value, label)| value as usize % 10 == label)
        );
        let mut seen = 0;
        feed.test(3, &mut |batch| {
            seen += batch.labels.len();
            Ok(ControlFlow::Continue(()))
        })
        .expect("feeds");
        assert_eq!(seen, 4);
    }

    #[test]
    fn crops_can_be_entered_anywhere() {
        use crate::data::Shapes;
        let source: Arc<dyn Source> = Arc::new(Shapes::new(7, 0, 16));
        let mut config = crate::Config::default();
        config.eval.crop = 8;
        let mut feed = CropFeed {
            train: Arc::clone(&source),
            preprocess: config.preprocess(),
            workers: 1,
            seed: 0,
            then: Then::Images(source),
        };
        let mut batches = Vec::new();
        let mut collect = |feed: &mut CropFeed<'_>, first| {
            let mut all = Vec::new();
            feed.train(1, first, 3, &mut |batch| {
                all.push(batch);
                Ok(ControlFlow::Continue(()))
            })
            .expect("feeds");
            batches.push(all);
        };
        collect(&mut feed, 0);
        collect(&mut feed, 2);
        assert_eq!(batches[0].len(), 3);
        assert_eq!(batches[0][2..], batches[1]);
        assert_eq!(batches[1][0].labels.len(), 1);
    }
}
