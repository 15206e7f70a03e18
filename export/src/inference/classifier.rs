//! A file, opened.

use super::borders::Borders;
use super::engine::Engine;
use super::opened::{Opened, Unopened};
use super::outputs::{Outputs, row};
use super::picture::{NAMELESS, caught, decoded};
use super::pixels::{Stack, Takes};
use super::{Options, Picture, Prediction, Stream, StreamOptions};
use crate::{Error, Result};
use selfcls_core::metadata::Metadata;
use selfcls_core::pixels::Rgb8;
use selfcls_core::preprocess::Preprocess;
use std::borrow::Borrow;
use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;

/// Pixels that [`Classifier::classify_batch`] has prepared at a time: 64 images of 224, 37 MiB.
const PREPARED_PIXELS: usize = 64 * 224 * 224;

/// A trained classifier, ready for images. It can be shared between threads, and a clone is the same
/// network: with ONNX Runtime concurrent calls take turns (it spreads each over its own threads), with tract
/// up to [`Options::threads`] calls run at a time; [`Options::many`] and [`Options::runs`] say otherwise.
#[derive(Clone)]
pub struct Classifier {
    pub(super) opened: Arc<Opened>,
}

impl Classifier {
    /// Opens a file that `selfcls-cli export` or [`crate::OnnxWriter`] wrote, or, with
    /// [`Options::preprocessing`], that of another program. Weights that the file keeps in another one are
    /// read from there, if that lies beside it.
    ///
    /// # Errors
    /// - [`Error::Io`] if the file cannot be read;
    /// - [`Error::Model`] if it is too large, incomplete, not ONNX, contradicts itself, keeps weights
    ///   in places where they do not belong, has operations that our classifiers do not have, or has no or
    ///   newer metadata;
    /// - [`Error::Request`] if it has no [`Options::head`], or [`Options::preprocess`] contradicts it;
    /// - [`Error::Engine`] if the requested engine or execution provider cannot be had, saying what was
    ///   looked for and the fix;
    /// - [`Error::Run`] if the engine refuses the network.
    pub fn open(path: impl AsRef<Path>, options: &Options) -> Result<Self> {
        let path = path.as_ref();
        let limit = options.max_file_bytes;
        let mut bytes = Vec::new();
        // A pipe would be waited for, also without end.
        let found = std::fs::metadata(path).map_err(Error::io("read", path))?;
        if !found.is_file() && !found.is_dir() {
            return Err(Error::Model {
                model: path.display().to_string(),
                reason: "no plain file; give the path of the model".to_owned(),
                option: None,
            });
        }
        File::open(path)
            .and_then(|file| file.take(limit.saturating_add(1)).read_to_end(&mut bytes))
            .map_err(Error::io("read", path))?;
        let name = path.display().to_string();
        Self::opened(
            Unopened {
                name: &name,
                bytes,
                path: Some(path),
            },
            options,
        )
    }

    /// [`Self::open`] for a file that is already in memory.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn from_bytes(bytes: Vec<u8>, options: &Options) -> Result<Self> {
        Self::opened(
            Unopened {
                name: "the model",
                bytes,
                path: None,
            },
            options,
        )
    }

    fn opened(file: Unopened<'_>, options: &Options) -> Result<Self> {
        Ok(Self {
            opened: Arc::new(file.open(options)?),
        })
    }

    /// What the file says about itself; of another program's file, what can be seen of it.
    pub fn metadata(&self) -> &Metadata {
        &self.opened.metadata
    }

    /// The engine that runs the network.
    pub fn engine(&self) -> &Engine {
        self.opened.sessions.engine()
    }

    /// The engine and the execution providers in words, e.g. `ONNX Runtime 1.31.1 (/usr/lib/libonnxruntime.so)
    /// with CUDA device 0`.
    pub fn runs_on(&self) -> String {
        self.opened.sessions.runs_on()
    }

    /// Index of the head that answers; none if the file gives no classes.
    pub fn head(&self) -> Option<usize> {
        self.opened.answer.as_ref().map(|answer| answer.head)
    }

    /// Whether the file gives the backbone's features.
    pub fn gives_features(&self) -> bool {
        self.opened.borders.features.is_some()
    }

    /// Side of the network's input in pixels, after the crop.
    pub fn input_side(&self) -> usize {
        self.opened.input.preprocess.crop
    }

    /// Classifies an image of any size.
    ///
    /// # Errors
    /// [`Error::Run`] if the engine fails, [`Error::NotFinite`] if its answer is not finite, [`Error::Request`] if the
    /// file gives no classes.
    pub fn classify(&self, image: &Rgb8) -> Result<Prediction> {
        let outputs = self.run_stack(&self.opened.input.stack(image))?;
        self.prediction(&outputs, 0)
    }

    /// Classifies the image file at `path`: JPEG, PNG, WebP, GIF or BMP, turned as its EXIF data say. It is decoded as in
    /// training; with [`Options::decoding`] a camera's photo is decoded at a part of its size.
    ///
    /// ```
    /// use selfcls_export::{Classifier, Options};
    ///
    /// let classifier = Classifier::open("../examples/shapes.onnx", &Options::default())?;
    /// let prediction = classifier.classify_file("../examples/disc.png")?;
    /// println!("class {} with {:.0} %", prediction.class(), 100.0 * prediction.confidence());
    /// # Ok::<(), selfcls_export::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Core`] if it cannot be read, is no image, or is larger than [`Options::max_image_bytes`], and as
    /// [`Self::classify`].
    pub fn classify_file(&self, path: impl AsRef<Path>) -> Result<Prediction> {
        let path = path.as_ref();
        self.classify_encoded(&selfcls_core::data::file_bytes(path)?, path)
    }

    /// [`Self::classify_file`] for a file that is already in memory, such as the body of a request.
    ///
    /// # Errors
    /// [`Error::Core`] if it is no image or larger than [`Options::max_image_bytes`], and as [`Self::classify`].
    pub fn classify_bytes(&self, bytes: &[u8]) -> Result<Prediction> {
        self.classify_encoded(bytes, Path::new(NAMELESS))
    }

    fn classify_encoded(&self, bytes: &[u8], name: &Path) -> Result<Prediction> {
        let wanted = self.preprocess().resize;
        let (decoding, limit) = (self.opened.decoding, self.opened.max_image_bytes);
        let image = caught(name, || decoded(bytes, name, (decoding, wanted), limit))?;
        self.classify(&image)
    }

    /// Classifies images of any sizes, in order. Memory beyond the answers stays bounded, however many
    /// images there are.
    ///
    /// # Errors
    /// As [`Self::classify`].
    pub fn classify_batch<I: Borrow<Rgb8> + Sync>(&self, images: &[I]) -> Result<Vec<Prediction>> {
        let mut predictions = Vec::with_capacity(images.len());
        for part in images.chunks(PREPARED_PIXELS.div_ceil(self.input_side().pow(2))) {
            let outputs = self.run_stack(&self.opened.input.stacked(part, self.threads()))?;
            let before = predictions.len();
            for index in 0..outputs.batch {
                predictions.push(self.prediction_of(&outputs, index, Some(before + index))?);
            }
        }
        Ok(predictions)
    }

    /// Everything that the network says of images of any sizes: logits, embeddings, features.
    ///
    /// # Errors
    /// [`Error::Run`] if the engine fails, [`Error::NotFinite`] if its answer for an image is not finite.
    pub fn outputs<I: Borrow<Rgb8> + Sync>(&self, images: &[I]) -> Result<Outputs> {
        self.all_finite(self.run_stack(&self.opened.input.stacked(images, self.threads()))?)
    }

    /// Classifies images one after the other as they come, paths or pixels, decoding ahead on other threads:
    /// [`StreamOptions`] with their defaults. For any number of them in constant memory.
    ///
    /// ```no_run
    /// # fn main() -> Result<(), selfcls_export::Error> {
    /// use selfcls_export::{Classifier, Options};
    /// use std::path::PathBuf;
    ///
    /// let classifier = Classifier::open("model.onnx", &Options::default())?;
    /// let paths = (0..1_000_000).map(|n| PathBuf::from(format!("photos/{n}.jpg")));
    /// for (path, prediction) in classifier.stream(paths)? {
    ///     println!("{}: {}", path.display(), prediction?.class());
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Error::Request`] if the file gives no classes, [`Error::Engine`] if the system has no thread left.
    pub fn stream<I>(&self, pictures: I) -> Result<Stream<I::Item>>
    where
        I: IntoIterator<Item: Picture>,
        I::IntoIter: Send + 'static,
    {
        StreamOptions::default().start(self, pictures)
    }

    /// As [`Self::stream`], with everything that the network says of each image instead of a class; also for files
    /// that give embeddings or features alone.
    ///
    /// # Errors
    /// [`Error::Engine`] if the system has no thread left.
    pub fn stream_outputs<I>(&self, pictures: I) -> Result<Stream<I::Item, Outputs>>
    where
        I: IntoIterator<Item: Picture>,
        I::IntoIter: Send + 'static,
    {
        StreamOptions::default().start_outputs(self, pictures)
    }

    /// Images of any sizes, prepared as the metadata say: `[batch, 3, side, side]`, normalised.
    pub fn prepare<I: Borrow<Rgb8> + Sync>(&self, images: &[I]) -> Vec<f32> {
        self.opened.input.prepared(images, self.threads())
    }

    /// Runs the network on `images`, `[batch, 3, side, side]`, normalised as the metadata say (as
    /// [`Self::prepare`] does). Any batch, also an empty one: a large one is run in parts. Where the file takes
    /// bytes, the normalisation is undone first.
    ///
    /// # Errors
    /// [`Error::Request`] if the length is not that of whole images or a value is not finite; [`Error::Run`] if the
    /// engine fails, [`Error::NotFinite`] if its answer is not finite.
    pub fn run(&self, images: &[f32]) -> Result<Outputs> {
        self.all_finite(self.run_unchecked(images)?)
    }

    /// [`Self::run`] for a caller that looks itself whether the answers are finite, and knows what the images are called.
    pub(super) fn run_unchecked(&self, images: &[f32]) -> Result<Outputs> {
        let side = self.input_side();
        let input = &self.opened.input;
        let per_image = input.preprocess.input_len();
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
        match input.takes {
            Takes::Floats => self.run_part(&input.part(images)),
            Takes::Bytes => self.run_stack(&input.bytes(images)),
        }
    }

    /// The answers for all images of `outputs`, of the head that answers.
    ///
    /// # Errors
    /// [`Error::NotFinite`] if an answer is not finite, [`Error::Request`] if the file gives no classes.
    pub fn predictions(&self, outputs: &Outputs) -> Result<Vec<Prediction>> {
        (0..outputs.batch)
            .map(|index| self.prediction_of(outputs, index, Some(index)))
            .collect()
    }

    /// The outputs, if they are finite for every image.
    fn all_finite(&self, outputs: Outputs) -> Result<Outputs> {
        (0..outputs.batch).try_for_each(|index| self.finite(&outputs, index, Some(index)))?;
        Ok(outputs)
    }

    /// The answer for image `index` of `outputs`, where the caller knows which one that is.
    pub(super) fn prediction(&self, outputs: &Outputs, index: usize) -> Result<Prediction> {
        self.prediction_of(outputs, index, None)
    }

    /// The answer for image `index` of `outputs`; errors call it `place`.
    fn prediction_of(
        &self,
        outputs: &Outputs,
        index: usize,
        place: Option<usize>,
    ) -> Result<Prediction> {
        let Some(answer) = &self.opened.answer else {
            return Err(self.no_classes());
        };
        self.finite(outputs, index, place)?;
        Ok(Prediction {
            head: answer.head,
            probabilities: answer.probabilities(outputs, index),
            embedding: row(&outputs.embedding, index, outputs.batch).to_vec(),
            features: row(&outputs.features, index, outputs.batch).to_vec(),
            names: answer.names.clone(),
        })
    }

    pub(super) fn no_classes(&self) -> Error {
        Error::Request(
            "the file gives no classes, only embeddings or features; export it with logits or probabilities".to_owned(),
        )
    }

    /// Images that a run of the engine takes at best, over all runs at a time.
    pub(super) fn best_batch(&self) -> usize {
        self.batch() * self.runs()
    }

    /// Runs the network on prepared images.
    fn run_stack(&self, stack: &Stack) -> Result<Outputs> {
        self.run_part(&stack.part())
    }

    /// [`Options::threads`], in number.
    pub(super) fn threads(&self) -> usize {
        self.opened.sessions.threads()
    }

    /// Runs of the engine at a time.
    pub(super) fn runs(&self) -> usize {
        self.opened.sessions.parallel()
    }

    pub(super) fn borders(&self) -> &Borders {
        &self.opened.borders
    }

    /// How the file wants its images.
    pub(super) fn preprocess(&self) -> &Preprocess {
        &self.opened.input.preprocess
    }
}

impl std::fmt::Debug for Classifier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Classifier")
            .field("engine", self.engine())
            .field("metadata", self.metadata())
            .finish_non_exhaustive()
    }
}
