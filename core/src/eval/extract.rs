//! One pass over a data set.

use super::Selection;
use super::features::{
    FeatureTable, FileWriter, Key, MemoryWriter, Precision, Share, join_shares, read_cache,
};
use crate::data::{EvalLoader, Source};
use crate::preprocess::Preprocess;
use crate::{Error, Result};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Something that turns preprocessed images into logits and features.
pub trait Network {
    /// Runs `count` images, `[count, 3, crop, crop]`, normalised.
    ///
    /// # Errors
    /// If the engine fails.
    fn forward(&mut self, images: Vec<f32>, count: usize) -> Result<Forward>;

    /// [`digest`](crate::weights::digest) of the weights as they are now, where they could change; none of a network that
    /// cannot.
    fn weights_digest(&self) -> Option<String> {
        None
    }
}

/// What a network says of a batch.
#[derive(Debug, Clone, PartialEq)]
pub struct Forward {
    /// Logits of each head, `[count, classes]`, row-major.
    pub logits: Vec<Vec<f32>>,
    /// Features, `[count, width]`, row-major.
    pub features: Vec<f32>,
}

/// Everything that a classifier computes of a batch, row-major with one row per image.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Trace {
    /// The backbone's output, `[count, feature_dim]`.
    pub features: Vec<f32>,
    /// The unit embedding, `[count, dim]`.
    pub embedding: Vec<f32>,
    /// Logits of each of the model's heads, `[count, classes]`.
    pub logits: Vec<Vec<f32>>,
}

/// What a network says of a whole data set, in the order of the source.
#[derive(Debug, Default)]
pub struct Extracted {
    /// The images' labels, where the source has them.
    pub labels: Option<Vec<usize>>,
    /// Per head and image, the class with the largest logit (the first of equals).
    pub assignments: Vec<Vec<usize>>,
    /// Per head and image, the probability of that class.
    pub confidences: Vec<Vec<f32>>,
    /// Features of each image; empty if they were not kept.
    pub features: FeatureTable,
}

/// What happens to the features of a pass.
#[derive(Debug, Clone, PartialEq)]
pub enum Keep {
    /// They are dropped: only assignments are wanted.
    Nothing,
    /// They stay in memory.
    Memory(Precision),
    /// They go to a file, whatever its size, and are read from there; an earlier pass's file is used if it was made
    /// from the same model, images and preprocessing. If the key names a share, only its images are looked at.
    Cache {
        /// The file.
        path: PathBuf,
        /// What this pass depends on.
        key: Key,
        /// How they are kept.
        precision: Precision,
        /// Whether to make the file anew without looking at it.
        recompute: bool,
        /// Whether any features will do, the backbone's or the head's: only assignments are wanted.
        any_features: bool,
    },
}

/// How to go over a source.
#[derive(Debug, Clone)]
pub struct Extractor {
    /// From an image to the network's input.
    pub preprocess: Preprocess,
    /// Images per forward pass.
    pub batch_size: usize,
    /// Threads that prepare images; 0 for one per core.
    pub workers: usize,
    /// Probabilities are `softmax(logits / temperature)`.
    pub temperature: f32,
    /// What happens to the features.
    pub keep: Keep,
}

impl Extractor {
    /// What an earlier pass over as many `images` has left in the cache, at once or in shares that are put together
    /// now; none if this one has to be made.
    ///
    /// # Errors
    /// If the cache cannot be read, was made from something else and is not to be made anew, or only some shares
    /// are there.
    pub fn cached(&self, images: usize) -> Result<Option<Extracted>> {
        let Keep::Cache {
            path,
            key,
            recompute: false,
            any_features,
            ..
        } = &self.keep
        else {
            return Ok(None);
        };
        let there =
            path.exists() || key.share.is_none() && join_shares(path, key, *any_features, images)?;
        if !there {
            return Ok(None);
        }
        let cached = read_cache(path)?;
        cached.checked(path, key, *any_features).map(Some)
    }

    /// How many of `total` images this pass looks at: all, or a share.
    ///
    /// # Errors
    /// [`Error::Invalid`] if there is no such share.
    pub fn images_of(&self, total: usize) -> Result<usize> {
        self.share()
            .map_or(Ok(total), |share| Ok(share.images(total)?.len()))
    }

    fn share(&self) -> Option<Share> {
        match &self.keep {
            Keep::Cache { key, .. } => key.share,
            _ => None,
        }
    }

    /// The images that this pass looks at.
    fn images(&self, source: &Arc<dyn Source>) -> Result<Arc<dyn Source>> {
        let source = Arc::clone(source);
        match self.share() {
            Some(share) => {
                let images = share.images(source.len())?;
                Ok(Arc::new(Selection::of_images(source, images)?))
            }
            None => Ok(source),
        }
    }

    /// Runs `network` over `source` in batches, without looking for earlier results. `progress` is told how many images
    /// are done.
    ///
    /// # Errors
    /// If an image cannot be read, the network fails or answers with something that is not finite, or the cache cannot
    /// be written.
    pub fn run(
        &self,
        source: &Arc<dyn Source>,
        network: &mut dyn Network,
        progress: &mut dyn FnMut(usize),
    ) -> Result<Extracted> {
        let source = &self.images(source)?;
        let mut all = Extracted {
            labels: (0..source.len()).map(|index| source.label(index)).collect(),
            ..Extracted::default()
        };
        let mut sink = Sink::Nothing;
        let mut done = 0;
        let loader = EvalLoader::new(
            Arc::clone(source),
            self.preprocess.clone(),
            self.batch_size,
            self.workers,
        )?;
        for batch in loader {
            let batch = batch?;
            let count = batch.count;
            let output = network.forward(batch.images, count)?;
            check_finite(&output, &**source, done, count)?;
            if done == 0 {
                all.assignments = vec![Vec::with_capacity(source.len()); output.logits.len()];
                all.confidences = vec![Vec::with_capacity(source.len()); output.logits.len()];
                let shape = [
                    source.len(),
                    output.features.len() / count,
                    output.logits.len(),
                ];
                sink = Sink::new(&self.keep, shape, all.labels.is_some())?;
            }
            for (head, logits) in output.logits.iter().enumerate() {
                for row in logits.chunks_exact(logits.len() / count) {
                    let (class, probability) = strongest(row, self.temperature);
                    all.assignments[head].push(class);
                    all.confidences[head].push(probability);
                }
            }
            sink.append(output.features)?;
            done += count;
            progress(done);
        }
        sink.finish(&mut all)?;
        Ok(all)
    }
}

/// Where features go.
enum Sink<'a> {
    Nothing,
    Memory(MemoryWriter),
    File(FileWriter, &'a Path),
}

impl<'a> Sink<'a> {
    fn new(keep: &'a Keep, shape: [usize; 3], labelled: bool) -> Result<Self> {
        Ok(match keep {
            Keep::Nothing => Self::Nothing,
            Keep::Memory(precision) => {
                Self::Memory(MemoryWriter::new(shape[0], shape[1], *precision))
            }
            Keep::Cache {
                path,
                key,
                precision,
                ..
            } => Self::File(
                FileWriter::new(path, key, shape, labelled, *precision)?,
                path,
            ),
        })
    }

    fn append(&mut self, features: Vec<f32>) -> Result<()> {
        match self {
            Self::Nothing => Ok(()),
            Self::Memory(writer) => {
                writer.append(features);
                Ok(())
            }
            Self::File(writer, _) => writer.append(&features),
        }
    }

    fn finish(self, all: &mut Extracted) -> Result<()> {
        match self {
            Self::Nothing => {}
            Self::Memory(writer) => all.features = writer.finish(),
            Self::File(writer, path) => {
                writer.finish(all)?;
                all.features = read_cache(path)?.extracted.features;
            }
        }
        Ok(())
    }
}

/// A comparison with NaN would turn it into an ordinary class.
fn check_finite(output: &Forward, source: &dyn Source, first: usize, count: usize) -> Result<()> {
    for values in output.logits.iter().chain([&output.features]) {
        if let Some(place) = values.iter().position(|value| !value.is_finite()) {
            let image = first + place / (values.len() / count).max(1);
            return Err(Error::Data(format!(
                "the network's answer to {} is {}, not a finite number; its weights are damaged, or training diverged",
                source.name(image),
                values[place]
            )));
        }
    }
    Ok(())
}

/// The class with the largest logit and its probability.
fn strongest(logits: &[f32], temperature: f32) -> (usize, f32) {
    let mut best = 0;
    for (class, &logit) in logits.iter().enumerate() {
        if logit > logits[best] {
            best = class;
        }
    }
    let sum: f32 = logits
        .iter()
        .map(|&logit| ((logit - logits[best]) / temperature).exp())
        .sum();
    (best, 1.0 / sum)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::data::Shapes;

    #[test]
    fn the_strongest_class_and_its_probability() {
        let (class, probability) = strongest(&[0.0, 0.2, 0.2, -1.0], 0.1);
        assert_eq!(class, 1);
        let expected = 1.0 / (2.0 + (-2.0_f32).exp() + (-12.0_f32).exp());
        assert!((probability - expected).abs() < 1e-6);
        let (class, probability) = strongest(&[1000.0, -1000.0], 0.001);
        assert_eq!((class, probability), (0, 1.0));
    }

    /// Two heads whose class is the image's number modulo 3 and 2; features are the number and its half.
    struct Counting {
        seen: usize,
        broken_at: Option<usize>,
    }

    impl Network for Counting {
        fn forward(&mut self, _: Vec<f32>, count: usize) -> Result<Forward> {
            let numbers = self.seen..self.seen + count;
            self.seen += count;
            let hot = |classes: usize| {
                let rows = numbers.clone().map(move |n| n % classes);
                rows.flat_map(move |hot| {
                    (0..classes).map(move |class| f32::from(u8::from(class == hot)))
                })
                .collect::<Vec<f32>>()
            };
            let mut logits = vec![hot(3), hot(2)];
            if let Some(at) = self.broken_at.filter(|at| numbers.contains(at)) {
                logits[1][(at - numbers.start) * 2] = f32::NAN;
            }
            let features = numbers.flat_map(|n| [n as f32, n as f32 / 2.0]).collect();
            Ok(Forward { logits, features })
        }
    }

    fn extractor(keep: Keep) -> Extractor {
        let mut config = Config::default();
        config.views.global_size = 8;
        Extractor {
            preprocess: config.preprocess(),
            batch_size: 4,
            workers: 1,
            temperature: 0.1,
            keep,
        }
    }

    fn run(extractor: &Extractor, broken_at: Option<usize>) -> Result<Extracted> {
        let source: Arc<dyn Source> = Arc::new(Shapes::new(10, 0, 8));
        let mut network = Counting { seen: 0, broken_at };
        let mut done = Vec::new();
        let extracted = extractor.run(&source, &mut network, &mut |count| done.push(count))?;
        assert_eq!(done, [4, 8, 10]);
        Ok(extracted)
    }

    #[test]
    fn all_batches_are_put_together() {
        for keep in [Keep::Nothing, Keep::Memory(Precision::Single)] {
            let kept = keep != Keep::Nothing;
            let all = run(&extractor(keep), None).expect("runs");
            assert_eq!(all.assignments[0], [0, 1, 2, 0, 1, 2, 0, 1, 2, 0]);
            assert_eq!(all.assignments[1].len(), 10);
            assert_eq!(all.labels.as_ref().map(Vec::len), Some(10));
            assert_eq!(all.features.len(), if kept { 10 } else { 0 });
            if kept {
                assert_eq!(all.features.read(9..10).expect("reads"), [9.0, 4.5]);
            }
        }
    }

    #[test]
    fn a_cache_is_made_once_and_used_again() {
        let folder = tempfile::tempdir().expect("a folder");
        let cache = |model: &str, recompute| {
            let source = Shapes::new(10, 0, 8);
            let plain = extractor(Keep::Nothing);
            let key = Key::new(model, &source, &plain.preprocess, plain.temperature, "head");
            extractor(Keep::Cache {
                path: folder.path().join("features.safetensors"),
                key,
                precision: Precision::Single,
                recompute,
                any_features: false,
            })
        };
        let first = cache("a", false);
        assert!(first.cached(10).expect("nothing yet").is_none());
        let made = run(&first, None).expect("runs");
        let found = first.cached(10).expect("fresh").expect("a cache");
        assert_eq!(found.assignments, made.assignments);
        assert_eq!(found.confidences, made.confidences);
        assert_eq!(found.labels, made.labels);
        let all = |extracted: Extracted| extracted.features.into_values().expect("reads");
        assert_eq!(all(found), all(made));
        let error = cache("b", false).cached(10).expect_err("stale").to_string();
        assert!(error.contains("another model"), "{error}");
        assert!(
            cache("b", true)
                .cached(10)
                .expect("not looked at")
                .is_none()
        );
    }

    /// The class is the image's number among all, modulo 3, whoever runs it.
    struct Named;

    impl Network for Named {
        fn forward(&mut self, images: Vec<f32>, count: usize) -> Result<Forward> {
            let rows = images.chunks_exact(images.len() / count);
            let sums: Vec<f32> = rows.map(|row| row.iter().sum()).collect();
            Ok(Forward {
                logits: vec![sums.iter().flat_map(|&sum| [sum, 0.0]).collect()],
                // Depends on the batch, as kernels' roundings do.
                features: sums.iter().map(|sum| sum + sums[0] / 8.0).collect(),
            })
        }
    }

    #[test]
    fn shares_make_up_the_whole_bit_for_bit() {
        let source: Arc<dyn Source> = Arc::new(Shapes::new(23, 0, 8));
        let pass = |folder: &Path, precision, share: Option<(usize, usize)>| {
            let mut key = {
                let plain = extractor(Keep::Nothing);
                Key::new("a", &*source, &plain.preprocess, plain.temperature, "head")
            };
            let mut path = folder.join("features.safetensors");
            if let Some((index, count)) = share {
                let share = Share {
                    index,
                    count,
                    batch: 4,
                };
                path = share.path(&path);
                key.share = Some(share);
            }
            extractor(Keep::Cache {
                path,
                key,
                precision,
                recompute: false,
                any_features: false,
            })
        };
        let make = |extractor: &Extractor| {
            extractor
                .run(&source, &mut Named, &mut |_| ())
                .expect("runs");
        };
        for precision in [Precision::Single, Precision::Half] {
            let alone = tempfile::tempdir().expect("a folder");
            make(&pass(alone.path(), precision, None));
            let shared = tempfile::tempdir().expect("a folder");
            let whole = pass(shared.path(), precision, None);
            for index in 0..4 {
                let share = pass(shared.path(), precision, Some((index, 4)));
                assert!(share.cached(23).expect("nothing yet").is_none());
                if index > 0 {
                    let message = whole.cached(23).expect_err("incomplete").to_string();
                    assert!(message.contains("missing: "), "{message}");
                }
                make(&share);
            }
            let joined = whole.cached(23).expect("joined").expect("all are there");
            assert_eq!(joined.features.len(), 23);
            let bytes = |folder: &Path| std::fs::read(folder.join("features.safetensors"));
            assert_eq!(
                bytes(shared.path()).expect("written"),
                bytes(alone.path()).expect("written")
            );
        }
    }

    #[test]
    fn shares_that_do_not_fit_are_refused() {
        let folder = tempfile::tempdir().expect("a folder");
        let source: Arc<dyn Source> = Arc::new(Shapes::new(10, 0, 8));
        let whole = folder.path().join("features.safetensors");
        let pass = |model: &str, share: Option<Share>| {
            let plain = extractor(Keep::Nothing);
            let mut key = Key::new(model, &*source, &plain.preprocess, 0.1, "head");
            key.share = share;
            extractor(Keep::Cache {
                path: share.map_or(whole.clone(), |share| share.path(&whole)),
                key,
                precision: Precision::Single,
                recompute: false,
                any_features: false,
            })
        };
        let share = |index, count| {
            Some(Share {
                index,
                count,
                batch: 4,
            })
        };
        let make = |model: &str, share| {
            let pass = pass(model, share);
            pass.run(&source, &mut Named, &mut |_| ()).expect("runs")
        };
        let message = |model: &str| {
            let found = pass(model, None).cached(10);
            found.expect_err("refused").to_string()
        };
        make("a", share(0, 2));
        make("b", share(1, 2));
        assert!(message("a").contains("another model"), "{}", message("a"));
        make("a", share(1, 2));
        make("a", share(1, 3));
        let divisions = "into 2 and into 3";
        assert!(message("a").contains(divisions), "{}", message("a"));
        std::fs::remove_file(share(1, 3).expect("one").path(&whole)).expect("removed");
        // One that has another's name.
        let paths = [0, 1].map(|index| share(index, 2).expect("one").path(&whole));
        std::fs::copy(&paths[0], &paths[1]).expect("copied");
        assert!(message("a").contains("another share"), "{}", message("a"));
        std::fs::rename(&paths[0], &whole).expect("renamed");
        assert!(message("a").contains("another share"), "{}", message("a"));
        let empty = pass("a", share(3, 4)).run(&source, &mut Named, &mut |_| ());
        let empty = empty.expect_err("empty").to_string();
        assert!(empty.contains("at most 3 shares"), "{empty}");
    }

    #[test]
    fn an_answer_that_is_not_finite_is_refused_with_its_image() {
        let error = run(&extractor(Keep::Nothing), Some(6))
            .expect_err("refused")
            .to_string();
        assert!(error.contains("shapes:10:0#6 is NaN"), "{error}");
    }
}
