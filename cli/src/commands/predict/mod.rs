//! `predict`: images to classes, with an exported model.

mod files;
mod foreign;
mod gallery;
mod lines;
mod sort;

use crate::args::RunningArgs;
use crate::error::{CliError, Result};
use crate::progress::Progress;
use crate::shard::Shard;
use clap::Args;
use files::Found;
use foreign::PreprocessArgs;
use gallery::Gallery;
use lines::{Format, Lines, Outcome};
use selfcls_core::data::images_in;
use selfcls_export::{Classifier, Decoding, Options, Prediction, StreamOptions};
use sort::{Sorter, Way};
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Instant;

/// Classify images with an exported model: print, sort into folders, or look at what is found
///
/// Images are read, classified and answered one after the other, in constant memory, whatever the folders hold.
/// One that cannot be read, or whose answer is not finite, is listed at the end, and makes the exit code 1 unless --skip-unreadable is given.
#[derive(Debug, Args)]
pub(crate) struct PredictArgs {
    /// The model, as `export` writes it, or another program's (see --crop)
    #[arg(value_name = "MODEL.onnx")]
    pub(crate) model: PathBuf,
    /// Images, or folders that are searched for images
    #[arg(value_name = "IMAGE|FOLDER", required = true)]
    pub(crate) images: Vec<PathBuf>,
    /// Print one JSON object per image and line
    #[arg(long, conflicts_with = "csv")]
    pub(crate) json: bool,
    /// Print CSV with a header line; an image that cannot be read has nothing but its error
    #[arg(long)]
    pub(crate) csv: bool,
    /// How many classes to give for each image, most probable first
    #[arg(long, value_name = "N", default_value = "1")]
    pub(crate) top: NonZeroUsize,
    /// Give no class to images whose best one is less probable than P, from 0 to 1
    #[arg(long, value_name = "P", default_value = "0", value_parser = probability)]
    pub(crate) min_confidence: f32,
    /// The classifier that answers, by its position in model.heads; default: the one the file says
    #[arg(long, value_name = "N")]
    pub(crate) head: Option<usize>,
    /// Write a page for a browser with the images of each class, those it is surest of first; it needs no other file
    #[arg(long, value_name = "FILE.html")]
    pub(crate) gallery: Option<PathBuf>,
    /// Copy each image into a folder of its class in DIR; nothing is overwritten, and what is there already is kept
    #[arg(long, value_name = "DIR", conflicts_with = "link_to")]
    pub(crate) copy_to: Option<PathBuf>,
    /// As --copy-to, with symbolic links instead of copies
    #[arg(long, value_name = "DIR")]
    pub(crate) link_to: Option<PathBuf>,
    /// Classify a part only: every Nth image from the Ith on. The parts 1/N to N/N make up the whole
    #[arg(long, value_name = "I/N")]
    pub(crate) shard: Option<Shard>,
    /// Images that cannot be read or have no finite answer are listed, but do not make the exit code 1
    #[arg(long)]
    pub(crate) skip_unreadable: bool,
    /// Decode large JPEG files at a fraction of their size: several times as fast for a camera's photos, and
    /// not the very same pixels as in training
    #[arg(long)]
    pub(crate) fast: bool,
    #[command(flatten)]
    pub(crate) running: RunningArgs,
    #[command(flatten)]
    pub(crate) preprocess: PreprocessArgs,
}

/// How many images the last message names.
const LISTED: usize = 20;

pub(crate) fn run(args: &PredictArgs, progress: Progress) -> Result<()> {
    let paths = images_in(&args.images)?;
    let passed_over = paths.passed_over();
    let classifier = args.open()?;
    let mut sorter = args.sorter(&classifier)?;
    let mut gallery = match &args.gallery {
        Some(path) => Some(Gallery::new(path, &args.model, &classifier)?),
        None => None,
    };
    progress.note(&format!("engine: {}", classifier.runs_on()));
    let mut lines = Lines::new(args.format(), args.top.get());
    let started = Instant::now();
    let mut count = 0_usize;
    let mut failed = Failed::default();
    let shard = args.shard.unwrap_or(Shard::WHOLE);
    let files = shard.of(paths).map(Found::from);
    let stream = StreamOptions::default().decoding(args.decoding());
    for (found, answer) in stream.start(&classifier, files)? {
        count += 1;
        let prediction = match answer {
            Ok(prediction) => prediction,
            Err(error) => {
                // Anything else is nothing of this image, and would meet the others too.
                let Some(reason) = own_reason(&error, &found) else {
                    lines.flush()?;
                    return Err(error.into());
                };
                failed.add(&reason);
                lines.add(found.path(), &Outcome::Failed(&reason))?;
                continue;
            }
        };
        let class = args.class(&prediction);
        lines.add(found.path(), &Outcome::Classified(&prediction, class))?;
        let Some(path) = found.path() else { continue };
        if let Some(sorter) = &mut sorter {
            sorter.place(path, class)?;
        }
        if let Some(gallery) = &mut gallery {
            gallery.add(path, class, prediction.confidence());
        }
    }
    lines.flush()?;
    let seconds = started.elapsed().as_secs_f64();
    progress.note(&format!(
        "{count} images in {seconds:.1} s, {:.1} per second",
        count as f64 / seconds
    ));
    if passed_over.count() > 0 {
        progress.note(&format!(
            "{} files passed over, for they are not called as images (.jpg, .jpeg, .png, .bmp, .gif, .webp): {passed_over}",
            passed_over.count()
        ));
    }
    if let Some(sorter) = sorter {
        progress.note(&sorter.summary());
    }
    if let Some(gallery) = gallery {
        progress.note(&format!("gallery: {}", gallery.finish()?.display()));
    }
    failed.report(count, args.skip_unreadable, progress)
}

impl PredictArgs {
    fn options(&self) -> Result<Options> {
        Ok(Options {
            head: self.head,
            preprocess: self.preprocess.preprocess()?,
            ..self.running.options()
        })
    }

    fn open(&self) -> Result<Classifier> {
        Classifier::open(&self.model, &self.options()?).map_err(|error| {
            if let selfcls_export::Error::Foreign { model, reason } = &error
                && self.preprocess.is_absent()
            {
                return CliError::failure(format!("{model}: {reason}"))
                    .hint("a file of another program needs --crop and --resize");
            }
            let error = CliError::from(error);
            if self.model.is_dir() {
                return error
                    .hint("the model comes first: selfcls-cli predict MODEL.onnx IMAGE|FOLDER...")
                    .hint(format!(
                        "if {0} is a run: selfcls-cli export {0} --out MODEL.onnx",
                        self.model.display()
                    ));
            }
            error
        })
    }

    fn format(&self) -> Format {
        match (self.json, self.csv) {
            (true, _) => Format::Json,
            (_, true) => Format::Csv,
            _ => Format::Text,
        }
    }

    fn decoding(&self) -> Decoding {
        if self.fast {
            Decoding::Reduced
        } else {
            Decoding::Exact
        }
    }

    fn sorter(&self, classifier: &Classifier) -> Result<Option<Sorter>> {
        let (folder, way) = match (&self.copy_to, &self.link_to) {
            (Some(folder), _) => (folder, Way::Copy),
            (None, Some(folder)) => (folder, Way::Link),
            (None, None) => return Ok(None),
        };
        Sorter::new(folder, way, &self.images, classifier).map(Some)
    }

    /// The class that the image is given, if it is given one.
    fn class(&self, prediction: &Prediction) -> Option<usize> {
        (prediction.confidence() >= self.min_confidence).then(|| prediction.class())
    }
}

fn probability(text: &str) -> Result<f32, String> {
    let number = text.parse().ok().filter(|p| (0.0..=1.0).contains(p));
    number.ok_or_else(|| "write a number from 0 to 1".to_owned())
}

/// What is wrong with an image alone, with its name; none if the error is not of that kind.
fn own_reason(error: &selfcls_export::Error, found: &Found) -> Option<String> {
    match (error, found.path()) {
        (selfcls_export::Error::Core(error), _) => Some(error.to_string()),
        (selfcls_export::Error::NotFinite { .. }, Some(path)) => {
            Some(format!("{}: {error}", path.display()))
        }
        _ => None,
    }
}

/// Images that could not be read, or have no finite answer.
#[derive(Default)]
struct Failed {
    count: usize,
    /// The first few, in words.
    named: String,
}

impl Failed {
    fn add(&mut self, reason: &str) {
        self.count += 1;
        if self.count <= LISTED {
            self.named.push_str(&format!("\n  - {reason}"));
        }
    }

    fn report(self, of: usize, skip: bool, progress: Progress) -> Result<()> {
        if self.count == 0 {
            return Ok(());
        }
        let more = match self.count.saturating_sub(LISTED) {
            0 => String::new(),
            more => format!("\n  - and {more} more"),
        };
        let message = format!(
            "{} of {of} images could not be read or have no finite answer; the others were classified:{}{more}",
            self.count, self.named
        );
        if skip {
            progress.note(&format!("warning: {message}"));
            return Ok(());
        }
        Err(CliError::failure(message).hint("with --skip-unreadable this is no failure"))
    }
}
