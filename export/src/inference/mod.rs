//! Labels from images: an exported file, opened in whichever engine this machine has.
//!
//! Nothing here depends on burn. A file is read and checked completely (sizes, shapes, operations,
//! metadata) before an engine sees it; see [`Classifier::open`].

mod engine;
mod evaluation;
mod library;
mod network;
mod outputs;
mod prediction;
pub mod raw;
mod sessions;
mod shapes;
mod token_shapes;
mod wire;

pub use engine::{Engine, EngineChoice, in_use};
pub use library::{LIBRARY_VARIABLE, Library, oldest_version, well_known_places};
pub use outputs::{HeadLogits, Outputs};
pub use prediction::{Candidate, Prediction};

use crate::{Error, Result, names};
use network::{Network, Refusal};
use rayon::prelude::*;
use selfcls_core::metadata::Metadata;
use selfcls_core::pixels::Rgb8;
use sessions::Sessions;
use std::borrow::Borrow;
use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;

/// Pixels that [`Classifier::classify_batch`] has prepared at a time: 64 images of 224, 37 MiB.
const PREPARED_PIXELS: usize = 64 * 224 * 224;

/// How to open a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// The engine. Default [`EngineChoice::Auto`].
    pub engine: EngineChoice,
    /// Threads that run the network; 0 uses all cores. Default 0. tract keeps one copy of the weights per
    /// thread that is really used at a time.
    pub threads: usize,
    /// Largest file to read, in bytes. Default 2 GiB, where protobuf ends.
    pub max_file_bytes: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            engine: EngineChoice::Auto,
            threads: 0,
            max_file_bytes: 1 << 31,
        }
    }
}

/// A trained classifier, ready for images. It can be shared between threads: with ONNX Runtime concurrent
/// calls take turns (it spreads each over its own threads), with tract up to [`Options::threads`] calls
/// run at a time.
pub struct Classifier {
    metadata: Metadata,
    /// The class names of the default head, shared with every prediction.
    names: Option<Arc<[String]>>,
    sessions: Sessions,
}

impl Classifier {
    /// Opens a file that `selfcls-cli export` or [`crate::OnnxWriter`] wrote.
    ///
    /// # Errors
    /// - [`Error::Io`] if the file cannot be read;
    /// - [`Error::Model`] if it is too large, incomplete, not ONNX, contradicts itself, keeps weights
    ///   elsewhere, has operations that our classifiers do not have, or has no or newer metadata;
    /// - [`Error::Engine`] if the requested engine cannot be had, saying what was looked for and the fix;
    /// - [`Error::Run`] if the engine refuses the network.
    pub fn open(path: impl AsRef<Path>, options: &Options) -> Result<Self> {
        let path = path.as_ref();
        let name = path.display().to_string();
        let limit = options.max_file_bytes;
        let mut bytes = Vec::new();
        File::open(path)
            .and_then(|file| file.take(limit.saturating_add(1)).read_to_end(&mut bytes))
            .map_err(Error::io("read", path))?;
        Self::from_named(&name, bytes, options)
    }

    /// [`Self::open`] for a file that is already in memory.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn from_bytes(bytes: Vec<u8>, options: &Options) -> Result<Self> {
        Self::from_named("the model", bytes, options)
    }

    fn from_named(name: &str, bytes: Vec<u8>, options: &Options) -> Result<Self> {
        if bytes.len() as u64 > options.max_file_bytes {
            return Err(Error::Model {
                model: name.to_owned(),
                reason: format!(
                    "larger than {} bytes; raise `max_file_bytes` if that is meant",
                    options.max_file_bytes
                ),
            });
        }
        let metadata = check(&bytes).map_err(|Refusal(reason)| Error::Model {
            model: name.to_owned(),
            reason,
        })?;
        let threads = match options.threads {
            0 => std::thread::available_parallelism().map_or(1, usize::from),
            threads => threads,
        };
        let names = metadata
            .head(metadata.default_head)
            .and_then(|head| head.names.clone())
            .map(Arc::from);
        let sessions = Sessions::load(engine::select(&options.engine)?, bytes, threads)?;
        Ok(Self {
            metadata,
            names,
            sessions,
        })
    }

    /// What the file says about itself.
    pub fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    /// The engine that runs the network.
    pub fn engine(&self) -> &Engine {
        self.sessions.engine()
    }

    /// Side of the network's input in pixels.
    pub fn input_side(&self) -> usize {
        self.metadata.preprocess.crop
    }

    /// Classifies an image of any size.
    ///
    /// # Errors
    /// [`Error::Run`] if the engine fails or its answer is not finite.
    pub fn classify(&self, image: &Rgb8) -> Result<Prediction> {
        let mut predictions = self.classify_batch(std::slice::from_ref(image))?;
        predictions.pop().ok_or_else(|| self.nothing_came())
    }

    /// Classifies images of any sizes, in order. Memory beyond the answers stays bounded, however many
    /// images there are.
    ///
    /// # Errors
    /// As [`Self::classify`].
    pub fn classify_batch<I: Borrow<Rgb8> + Sync>(&self, images: &[I]) -> Result<Vec<Prediction>> {
        let mut predictions = Vec::with_capacity(images.len());
        for part in images.chunks(PREPARED_PIXELS.div_ceil(self.input_side().pow(2))) {
            let outputs = self.run(&self.prepare(part))?;
            predictions.extend(self.predictions(&outputs)?);
        }
        Ok(predictions)
    }

    /// The network's input for images of any sizes: `[batch, 3, side, side]`.
    pub fn prepare<I: Borrow<Rgb8> + Sync>(&self, images: &[I]) -> Vec<f32> {
        let preprocess = &self.metadata.preprocess;
        let mut input = vec![0.0; images.len() * self.values_per_image()];
        input
            .par_chunks_exact_mut(self.values_per_image())
            .zip(images)
            .for_each(|(out, image)| preprocess.apply(image.borrow(), out));
        input
    }

    /// Runs the network on `images`, `[batch, 3, side, side]`, normalised as the metadata say (as
    /// [`Self::prepare`] does). Any batch, also an empty one: a large one is run in parts.
    ///
    /// # Errors
    /// [`Error::Request`] if the length is not that of whole images or a value is not finite; [`Error::Run`] if the engine fails.
    pub fn run(&self, images: &[f32]) -> Result<Outputs> {
        let side = self.input_side();
        let per_image = self.values_per_image();
        if !images.len().is_multiple_of(per_image) {
            return Err(Error::Request(format!(
                "{} numbers are not whole images: each has 3 x {side} x {side} = {per_image}",
                images.len()
            )));
        }
        // tract's comparisons would turn these into ordinary values, and a label.
        if let Some(position) = images.iter().position(|x| !x.is_finite()) {
            return Err(Error::Request(format!(
                "image {} has a value that is not finite",
                position / per_image
            )));
        }
        let parallel = self.sessions.parallel();
        let share = (images.len() / per_image).div_ceil(parallel).max(1);
        let mut shares = images.chunks(share * per_image);
        let mut outputs = Outputs::empty(&self.metadata);
        if shares.len() < 2 {
            self.run_share(shares.next().unwrap_or_default(), &mut outputs)?;
        } else {
            for part in self.run_side_by_side(shares)? {
                outputs.extend(part);
            }
        }
        Ok(outputs)
    }

    /// The answers in the default head's rows of `outputs`.
    ///
    /// # Errors
    /// [`Error::Run`] if an answer is not finite.
    pub fn predictions(&self, outputs: &Outputs) -> Result<Vec<Prediction>> {
        let classes = outputs::default_classes(&self.metadata)?;
        let rows = outputs.probabilities.chunks_exact(classes);
        let embeddings = outputs.embedding.chunks_exact(self.metadata.embedding_dim);
        rows.zip(embeddings)
            .map(|(probabilities, embedding)| {
                if !probabilities.iter().chain(embedding).all(|x| x.is_finite()) {
                    let reason = "the answer is not a finite number; the weights or the image's values are damaged";
                    return Err(self.sessions.failed("classify", reason));
                }
                Ok(Prediction {
                    head: self.metadata.default_head,
                    probabilities: probabilities.to_vec(),
                    embedding: embedding.to_vec(),
                    names: self.names.clone(),
                })
            })
            .collect()
    }

    fn run_side_by_side<'i>(
        &self,
        shares: impl Iterator<Item = &'i [f32]>,
    ) -> Result<Vec<Outputs>> {
        std::thread::scope(|scope| {
            let workers: Vec<_> = shares
                .map(|share| {
                    scope.spawn(|| {
                        let mut outputs = Outputs::empty(&self.metadata);
                        self.run_share(share, &mut outputs).map(|()| outputs)
                    })
                })
                .collect();
            workers
                .into_iter()
                .map(|worker| worker.join().unwrap_or_else(|_| Err(self.nothing_came())))
                .collect()
        })
    }

    /// Runs images one batch after the other.
    fn run_share(&self, images: &[f32], outputs: &mut Outputs) -> Result<()> {
        let side = self.input_side();
        let per_image = self.values_per_image();
        for part in images.chunks(self.sessions.batch(side) * per_image) {
            let batch = part.len() / per_image;
            self.sessions.run(part, side, |found| {
                outputs.append(batch, &self.metadata, |name, width| {
                    let failed = |reason: String| self.sessions.failed("give the outputs", reason);
                    let value = found
                        .get(name)
                        .ok_or_else(|| failed(format!("`{name}` is missing")))?;
                    let (shape, values) = value
                        .try_extract_tensor::<f32>()
                        .map_err(|error| failed(error.to_string()))?;
                    if **shape != [batch as i64, width as i64] {
                        return Err(failed(format!(
                            "`{name}` has shape {shape}, expected [{batch}, {width}]"
                        )));
                    }
                    Ok(values)
                })
            })?;
        }
        Ok(())
    }

    fn values_per_image(&self) -> usize {
        3 * self.input_side() * self.input_side()
    }

    fn nothing_came(&self) -> Error {
        self.sessions
            .failed("run the network", "it stopped without an answer")
    }
}

impl std::fmt::Debug for Classifier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Classifier")
            .field("engine", self.engine())
            .field("metadata", &self.metadata)
            .finish_non_exhaustive()
    }
}

/// Everything that must hold of a file before an engine may see it.
fn check(file: &[u8]) -> Result<Metadata, Refusal> {
    let network = Network::parse(file)?;
    let entries = network.metadata.iter().map(|(&key, &value)| (key, value));
    let metadata = Metadata::from_properties(entries).map_err(|e| Refusal(e.to_string()))?;
    check_borders(&network, &metadata)?;
    shapes::check(&network, metadata.preprocess.crop)?;
    Ok(metadata)
}

/// The inputs and outputs must be those that the metadata promise.
fn check_borders(network: &Network<'_>, metadata: &Metadata) -> Result<(), Refusal> {
    let crop = metadata.preprocess.crop;
    let expected = [None, Some(3), Some(crop), Some(crop)];
    match network.inputs.as_slice() {
        [image] if image.name == names::IMAGE && image.axes == expected => {}
        other => {
            return Err(Refusal(format!(
                "it must have one input, `{}` [batch, 3, {crop}, {crop}], but has {other:?}",
                names::IMAGE
            )));
        }
    }
    let default = metadata
        .head(metadata.default_head)
        .map_or(0, |head| head.classes);
    let heads = metadata.heads.iter();
    let mut expected: Vec<(String, usize)> = heads
        .map(|head| (names::logits(head.index), head.classes))
        .collect();
    expected.push((names::PROBABILITIES.to_owned(), default));
    expected.push((names::EMBEDDING.to_owned(), metadata.embedding_dim));
    for (name, width) in expected {
        let mut found = network.outputs.iter().filter(|output| output.name == name);
        let fits = found
            .next()
            .is_some_and(|output| output.axes == [None, Some(width)]);
        if !fits || found.next().is_some() {
            return Err(Refusal(format!(
                "it has no single output `{name}` [batch, {width}]"
            )));
        }
    }
    Ok(())
}
