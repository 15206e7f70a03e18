//! From a file's bytes to a network in an engine: what must hold of it before, and what is kept of it.

use super::answer::Answer;
use super::borders::Borders;
use super::cut::{self, Cut};
use super::engine::{self, Engine};
use super::network::{Network, Origin, Refusal};
use super::pixels::{Input, Part};
use super::sessions::{Sessions, Source};
use super::{Options, external, foreign, pixel_shapes, shapes};
use crate::{Error, Result};
use selfcls_core::metadata::{FORMAT, InputKind, Metadata};
use selfcls_core::pixels::Rgb8;
use selfcls_core::preprocess::Preprocess;
use std::path::Path;

/// A file, opened.
pub(super) struct Opened {
    pub(super) metadata: Metadata,
    pub(super) borders: Borders,
    pub(super) input: Input,
    /// None where the file gives no classes.
    pub(super) answer: Option<Answer>,
    pub(super) sessions: Sessions,
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
            return Err(self.refused(format!(
                "larger than {} bytes; raise `max_file_bytes` if that is meant",
                options.max_file_bytes
            )));
        }
        let mut checked = check(&self.bytes, self.folder(), options.preprocess.as_ref())
            .map_err(|Refusal(reason)| self.not_understood(reason, options))?;
        if let Some(given) = &options.preprocess
            && *given != checked.metadata.preprocess
        {
            return Err(Error::Request(format!(
                "{} says itself how images are prepared for it; leave the preprocessing out",
                self.name
            )));
        }
        let answer = Answer::new(&checked.metadata, &checked.borders, options.head)?;
        let mut input = Input {
            kind: checked.metadata.input,
            preprocess: checked.metadata.preprocess.clone(),
        };
        let selected = engine::select(options.engine_for_providers())?;
        if selected.engine == Engine::Tract {
            if input.kind == InputKind::Any {
                self.leave_resizing_out(&mut checked)?;
                input.kind = InputKind::Float;
            }
            if checked.rounds_softmax {
                return Err(self.refused(format!(
                    "it rounds a softmax to 8 bits, which {} computes wrongly; leave that in floats, as docs/quantise_int8.py does, or use ONNX Runtime",
                    selected.engine
                )));
            }
            if checked.rehearses {
                self.rehearse(&input, &checked.borders)?;
            }
        }
        let source = match self.path {
            Some(path) if checked.on_disk => Source::Disk(path.to_path_buf()),
            _ => Source::Memory(self.bytes),
        };
        let image = checked.borders.image.clone();
        let sessions = Sessions::load(selected, source, image, options)?;
        Ok(Opened {
            metadata: checked.metadata,
            borders: checked.borders,
            input,
            answer,
            sessions,
        })
    }

    /// Takes the operations that resize out of the file: tract plans with the sizes of values, which depend
    /// there on those of each image, so it would have to plan anew for each. What they compute is computed for
    /// it as for any other file.
    fn leave_resizing_out(&mut self, checked: &mut Checked) -> Result<()> {
        let rest = cut::after_resizing(&Cut {
            file: &self.bytes,
            folder: self.folder(),
            batch: checked.borders.batch,
            side: checked.metadata.preprocess.crop,
        });
        self.bytes = rest.map_err(|Refusal(reason)| self.refused(reason))?;
        checked.borders.image = pixel_shapes::END.to_owned();
        checked.on_disk = false;
        Ok(())
    }

    /// Has tract run the file where its panics can be caught.
    fn rehearse(&self, input: &Input, borders: &Borders) -> Result<()> {
        let example = input.stack(&Rgb8::new(1, 1, vec![127; 3])?);
        let example = example.part().padded(borders.batch.unwrap_or(1));
        let part: Part<'_> = example.part();
        foreign::rehearse(&self.bytes, self.folder(), &part)
            .map_err(|reason| self.refused(format!("{} cannot run it: {reason}", Engine::Tract)))
    }

    fn folder(&self) -> Option<&Path> {
        self.path.map(|path| match path.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder,
            _ => Path::new("."),
        })
    }

    /// A refusal; what another program's file lacks, the caller can say.
    fn not_understood(&self, reason: String, options: &Options) -> Error {
        if options.preprocess.is_none() && is_foreign(&self.bytes) {
            return Error::Foreign {
                model: self.name.to_owned(),
                reason,
            };
        }
        self.refused(reason)
    }

    fn refused(&self, reason: String) -> Error {
        Error::Model {
            model: self.name.to_owned(),
            reason,
        }
    }
}

/// What is known of a file before an engine sees it.
struct Checked {
    metadata: Metadata,
    borders: Borders,
    /// Whether a part of it lies beside it.
    on_disk: bool,
    /// Whether it is not of those that tract is known to run.
    rehearses: bool,
    /// Whether it has what tract is known to compute wrongly.
    rounds_softmax: bool,
}

/// Everything that must hold of a file before an engine may see it. With `preprocess`, it may be another
/// program's.
fn check(
    file: &[u8],
    folder: Option<&Path>,
    preprocess: Option<&Preprocess>,
) -> Result<Checked, Refusal> {
    let origin = match preprocess {
        Some(_) if !is_own(file) => Origin::Foreign,
        _ => Origin::Own,
    };
    let network = Network::parse(file, origin)?;
    external::check(&network, folder)?;
    let (metadata, borders) = match (origin, preprocess) {
        (Origin::Foreign, Some(preprocess)) => {
            preprocess
                .validate()
                .map_err(|error| Refusal(error.to_string()))?;
            let (borders, metadata) = Borders::foreign(&network, preprocess.clone())?;
            (metadata, borders)
        }
        _ => {
            let entries = network.metadata.iter().map(|(&key, &value)| (key, value));
            let metadata =
                Metadata::from_properties(entries).map_err(|e| Refusal(e.to_string()))?;
            let borders = Borders::own(&network, &metadata)?;
            let crop = metadata.preprocess.crop;
            shapes::check(&network, metadata.input, crop, borders.batch)?;
            (metadata, borders)
        }
    };
    Ok(Checked {
        metadata,
        borders,
        on_disk: !network.outside.is_empty(),
        rehearses: origin == Origin::Foreign || network.is_quantised(),
        rounds_softmax: network.rounds_softmax(),
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
