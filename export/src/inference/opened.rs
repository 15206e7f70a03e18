//! From a file's bytes to a network in an engine: what must hold of it before, and what is kept of it.

use super::answer::Answer;
use super::borders::Borders;
use super::cut::{self, Cut};
use super::engine::{self, Engine};
use super::external::{self, Place};
use super::network::{Network, Origin, Refusal};
use super::pixels::{Input, Takes};
use super::sessions::{Sessions, Source};
use super::shapes::{self, Expected};
use super::{Decoding, Options, order, pixel_shapes};
use crate::{Error, Result};
use selfcls_core::atomic::folder_of;
use selfcls_core::metadata::{FORMAT, InputKind, Metadata};
use selfcls_core::pixels::Rgb8;
use std::path::Path;

/// Most operations of a file in tract, which takes a time that grows with the square of their number:
/// minutes for these. All that the writer writes has fewer; rounded to 8 bits, a network of more than a hundred blocks has
/// more.
const MAX_IN_TRACT: usize = 12_000;

/// A file, opened.
pub(super) struct Opened {
    pub(super) metadata: Metadata,
    pub(super) borders: Borders,
    pub(super) input: Input,
    /// How it decodes image files.
    pub(super) decoding: Decoding,
    /// None where the file gives no classes.
    pub(super) answer: Option<Answer>,
    pub(super) sessions: Sessions,
    /// The most numbers that a run has in memory at a time, for each image; none of a foreign file.
    pub(super) numbers: Option<usize>,
    /// Most bytes that an image may have when it is decoded.
    pub(super) max_image_bytes: u64,
}

/// A file before it is looked at.
pub(super) struct Unopened<'a> {
    /// What to call it.
    pub(super) name: &'a str,
    pub(super) bytes: Vec<u8>,
    /// Where it lies; none of a file in memory.
    pub(super) path: Option<&'a Path>,
}

impl Unopened<'_> {
    /// Checks the file and loads it.
    pub(super) fn open(mut self, options: &Options) -> Result<Opened> {
        if self.bytes.len() as u64 > options.max_file_bytes {
            let refusal = Refusal::new(format!(
                "larger than {} bytes; raise `max_file_bytes` if that is meant",
                options.max_file_bytes
            ));
            return Err(self.refused(refusal.unless("max_file_bytes")));
        }
        let mut checked = check(&self.bytes, self.folder(), options)
            .map_err(|refusal| self.not_understood(refusal, options))?;
        if let Some(given) = &options.preprocess
            && *given != checked.metadata.preprocess
        {
            return Err(Error::Request(format!(
                "{} says itself how images are prepared for it; leave the preprocessing out",
                self.name
            )));
        }
        let answer = Answer::new(&checked.metadata, &checked.borders, options.head)?;
        if checked.metadata.input == InputKind::Any {
            self.leave_resizing_out(&mut checked)?;
        }
        let input = Input {
            takes: match checked.metadata.input {
                InputKind::Float | InputKind::Any => Takes::Floats,
                InputKind::Uint8 => Takes::Bytes,
            },
            preprocess: checked.metadata.preprocess.clone(),
        };
        options.check_provider_options()?;
        let selected = engine::select(&options.engine, &options.providers)?;
        let engine = selected.engine();
        if engine == Engine::Tract && checked.rounds_softmax {
            return Err(self.refused(format!(
                "it rounds a softmax to 8 bits, which {engine} computes wrongly; leave that in floats, as docs/quantise_int8.py does, or use ONNX Runtime"
            )));
        }
        if engine == Engine::Tract && checked.operations > MAX_IN_TRACT {
            return Err(self.refused(format!(
                "it has {} operations, and {engine}, which takes long for many, is given {MAX_IN_TRACT} at most; use ONNX Runtime",
                checked.operations
            )));
        }
        let folder = match self.folder() {
            Some(folder) if checked.on_disk => Some(self.engine_path(folder)?),
            _ => None,
        };
        let source = Source {
            file: std::mem::take(&mut self.bytes),
            folder,
        };
        let image = checked.borders.image.clone();
        let sessions = Sessions::load(selected, source, image, options);
        let sessions = match sessions {
            // What tract is not known to run is the file's fault.
            Err(Error::Run { reason, .. }) if engine == Engine::Tract && checked.is_tried => {
                return Err(self.refused(format!("{engine} cannot load it: {reason}")));
            }
            sessions => sessions?,
        };
        let opened = Opened {
            metadata: checked.metadata,
            borders: checked.borders,
            input,
            decoding: options.decoding,
            answer,
            sessions,
            numbers: checked.numbers,
            max_image_bytes: options.max_image_bytes,
        };
        if engine == Engine::Tract && checked.is_tried {
            self.try_out(&opened)?;
        }
        Ok(opened)
    }

    /// Takes the operations that resize out of the file: what they compute is computed for it as for any other file,
    /// and of each image only what the crop shows. In the graph they would do it in floats for the whole of it, where a
    /// picture of 1 x 65,535 pixels, resized, has 50 GB; tract, which plans with the sizes of values, would plan anew
    /// for each.
    fn leave_resizing_out(&mut self, checked: &mut Checked) -> Result<()> {
        let rest = cut::after_resizing(&Cut {
            file: &self.bytes,
            batch: checked.borders.batch,
            side: checked.metadata.preprocess.crop,
        });
        self.bytes = rest.map_err(|refusal| self.refused(refusal))?;
        checked.borders.image = pixel_shapes::END.to_owned();
        Ok(())
    }

    /// Has tract run a file that is not of those that it is known to run.
    fn try_out(&self, opened: &Opened) -> Result<()> {
        let example = opened.input.stack(&Rgb8::new(1, 1, vec![127; 3])?);
        let example = example.part().padded(opened.borders.batch.unwrap_or(1));
        match opened.sessions.run(&example.part(), |_| Ok(())) {
            Err(Error::Run { engine, reason, .. }) => {
                Err(self.refused(format!("{engine} cannot run it: {reason}")))
            }
            tried => tried,
        }
    }

    /// A folder as engines take it.
    fn engine_path(&self, folder: &Path) -> Result<String> {
        let folder = std::path::absolute(folder).map_err(Error::io("find", folder))?;
        folder.to_str().map(str::to_owned).ok_or_else(|| {
            self.refused(
                "its weights lie beside it in a folder whose name is not UTF-8; rename that"
                    .to_owned(),
            )
        })
    }

    fn folder(&self) -> Option<&Path> {
        self.path.map(folder_of)
    }

    /// A refusal; what another program's file lacks, the caller can say.
    fn not_understood(&self, refusal: Refusal, options: &Options) -> Error {
        if options.preprocess.is_none() && is_foreign(&self.bytes) {
            return Error::Foreign {
                model: self.name.to_owned(),
                reason: refusal.reason,
            };
        }
        self.refused(refusal)
    }

    fn refused(&self, refusal: impl Into<Refusal>) -> Error {
        let Refusal { reason, option } = refusal.into();
        Error::Model {
            model: self.name.to_owned(),
            reason,
            option,
        }
    }
}

/// Checks the file at `path` as [`Classifier::open`](super::Classifier::open) does before an engine sees it: what a
/// program has written, it should also be able to read.
///
/// # Errors
/// [`Error::Io`] if it cannot be read, [`Error::Model`] if it would be refused.
pub fn check_file(path: &Path, options: &Options) -> Result<()> {
    let file = Unopened {
        name: "selfcls itself would refuse it",
        bytes: std::fs::read(path).map_err(Error::io("read", path))?,
        path: Some(path),
    };
    let checked = check(&file.bytes, file.folder(), options);
    checked.map(drop).map_err(|refusal| file.refused(refusal))
}

/// What is known of a file before an engine sees it.
struct Checked {
    metadata: Metadata,
    borders: Borders,
    /// How many it has.
    operations: usize,
    /// Whether a part of it lies beside it.
    on_disk: bool,
    /// Whether it is not of those that tract is known to run.
    is_tried: bool,
    /// Whether it has what tract is known to compute wrongly.
    rounds_softmax: bool,
    /// The most numbers that a run has in memory at a time, for each image; none of a foreign file.
    numbers: Option<usize>,
}

/// Everything that must hold of a file before an engine may see it. With a preprocessing, it may be another
/// program's.
fn check(file: &[u8], folder: Option<&Path>, options: &Options) -> Result<Checked, Refusal> {
    let preprocess = options.preprocess.as_ref();
    let origin = match preprocess {
        Some(_) if !is_own(file) => Origin::Foreign,
        _ => Origin::Own,
    };
    let network = Network::parse(file, origin)?;
    external::check(
        &network,
        &Place {
            folder,
            origin,
            limit: options.max_data_bytes,
        },
    )?;
    let (metadata, borders, numbers) = match (origin, preprocess) {
        (Origin::Foreign, Some(preprocess)) => {
            preprocess
                .validate()
                .map_err(|error| Refusal::new(error.to_string()))?;
            order::check(&network)?;
            let (borders, metadata) = Borders::foreign(&network, preprocess.clone())?;
            (metadata, borders, None)
        }
        _ => {
            let entries = network.metadata.iter().map(|(&key, &value)| (key, value));
            let metadata =
                Metadata::from_properties(entries).map_err(|e| Refusal::new(e.to_string()))?;
            let borders = Borders::own(&network, &metadata)?;
            let limit = options.max_run_bytes / size_of::<f32>() as u64;
            let expected = Expected {
                kind: metadata.input,
                side: metadata.preprocess.crop,
                batch: borders.batch,
                limit: usize::try_from(limit).unwrap_or(usize::MAX),
                operations: options.max_operations,
            };
            let numbers = shapes::check(&network, &expected)?;
            (metadata, borders, Some(numbers))
        }
    };
    Ok(Checked {
        metadata,
        borders,
        operations: network.nodes.len(),
        on_disk: !network.outside.is_empty(),
        is_tried: origin == Origin::Foreign || network.is_quantised(),
        rounds_softmax: network.rounds_softmax(),
        numbers,
    })
}

/// Whether it is a network, and does not say that this project wrote it.
fn is_foreign(file: &[u8]) -> bool {
    let network = Network::parse(file, Origin::Foreign);
    network.is_ok_and(|network| !network.metadata.contains_key(FORMAT))
}

/// Whether the metadata say that this project wrote the file.
fn is_own(file: &[u8]) -> bool {
    let network = Network::parse(file, Origin::Foreign);
    network.is_ok_and(|network| network.metadata.contains_key(FORMAT))
}
