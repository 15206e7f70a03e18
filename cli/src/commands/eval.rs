//! `eval`: how good the classes and the embeddings are, where labels are known.

use crate::args::{BackendArgs, EngineArgs};
use crate::error::{CliError, Result};
use crate::output;
use crate::progress::Progress;
use crate::subject::Subject;
use clap::{Args, Subcommand};
use selfcls_core::config::DataConfig;
use selfcls_core::data::{self, Source};
use selfcls_core::eval::{Extracted, Features, cluster_rows};
use selfcls_core::metrics::knn::{Neighbours, UnitEmbeddings};
use selfcls_core::metrics::{ClusterReport, SuperclassMap};
use selfcls_core::picture::{GridStyle, cluster_grid, write_png};
use serde::Serialize;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::metrics::ClusterSummary;

/// Evaluate a run, a checkpoint or an exported model on labelled images
#[derive(Debug, Args)]
pub(crate) struct EvalArgs {
    /// What to measure
    #[command(subcommand)]
    pub(crate) measure: Measure,
}

/// What can be measured.
#[derive(Debug, Subcommand)]
pub(crate) enum Measure {
    Clusters(ClustersArgs),
    Knn(KnnArgs),
}

/// What is evaluated, and on what.
#[derive(Debug, Args)]
pub(crate) struct EvalTarget {
    /// A run directory (its newest checkpoint), a checkpoint, an exported ONNX file, or a file of weights (see convert)
    #[arg(value_name = "RUN|CHECKPOINT|FILE")]
    pub(crate) model: PathBuf,
    /// Labelled images: a folder with one sub-folder per class
    #[arg(long, value_name = "SOURCE")]
    pub(crate) data: PathBuf,
    #[command(flatten)]
    pub(crate) backend: BackendArgs,
    #[command(flatten)]
    pub(crate) engine: EngineArgs,
    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

/// Compare the discovered classes with the labels: NMI, AMI, ARI and accuracy
#[derive(Debug, Args)]
pub(crate) struct ClustersArgs {
    #[command(flatten)]
    pub(crate) target: EvalTarget,
    /// Which classifier: its position in model.heads, from 0
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) head: usize,
    /// Count the accuracy over superclasses: line i of FILE is the superclass of class i, or each line is a class and its superclass
    #[arg(long, value_name = "FILE")]
    pub(crate) superclasses: Option<PathBuf>,
    /// Also draw the discovered classes: a PNG, one row of sample images each
    #[arg(long, value_name = "FILE.png")]
    pub(crate) picture: Option<PathBuf>,
}

/// Classify each image by the most similar ones: top-1 and top-5 accuracy. Similar in the backbone's features, or in the
/// embedding for an ONNX file
#[derive(Debug, Args)]
pub(crate) struct KnnArgs {
    #[command(flatten)]
    pub(crate) target: EvalTarget,
    /// Labelled images that vote; without it every image is classified by the others of --data
    #[arg(long, value_name = "SOURCE")]
    pub(crate) references: Option<PathBuf>,
    /// Number of neighbours; several may be given, separated by commas
    #[arg(long, value_name = "K", default_value = "20", value_delimiter = ',')]
    pub(crate) k: Vec<NonZeroUsize>,
    /// A neighbour votes with weight exp(similarity / T)
    #[arg(long, value_name = "T", default_value_t = 0.1)]
    pub(crate) temperature: f64,
}

pub(crate) fn run(args: &EvalArgs, progress: Progress) -> Result<()> {
    match &args.measure {
        Measure::Clusters(args) => clusters(args, progress),
        Measure::Knn(args) => knn(args, progress),
    }
}

fn clusters(args: &ClustersArgs, progress: Progress) -> Result<()> {
    let target = &args.target;
    let superclasses = args
        .superclasses
        .as_deref()
        .map(SuperclassMap::read)
        .transpose()?;
    let mut subject = target.open(Features::Embedding)?;
    let (head, classes) = subject.head(args.head)?;
    let source = labelled(&target.data)?;
    let extracted = subject.extract(&source, "classifying", progress)?;
    let labels = extracted.labels.as_deref().unwrap_or_default();
    let assigned = &extracted.assignments[head];
    let report = match &superclasses {
        Some(map) => ClusterReport::with_superclasses(labels, assigned, map)?,
        None => ClusterReport::new(labels, assigned)?,
    };
    if let Some(path) = &args.picture {
        draw(path, &*source, &extracted, head)?;
        progress.note(&format!("wrote {}", path.display()));
    }
    progress.note(&format!("head {} ({classes} classes)", args.head));
    ClusterSummary::from(&report).print(target.json)
}

/// Writes the picture of a head's clusters.
pub(crate) fn draw(
    path: &Path,
    source: &dyn Source,
    extracted: &Extracted,
    head: usize,
) -> Result<()> {
    let style = GridStyle::default();
    let rows = cluster_rows(source, extracted, head, style.columns)?;
    Ok(write_png(path, &cluster_grid(&rows, &style)?)?)
}

#[derive(Debug, Serialize)]
struct KnnSummary {
    k: usize,
    temperature: f64,
    top1: f64,
    top5: f64,
    samples: usize,
    references: usize,
}

fn knn(args: &KnnArgs, progress: Progress) -> Result<()> {
    if !(args.temperature > 0.0 && args.temperature.is_finite()) {
        return Err(CliError::usage(format!(
            "--temperature {}: it must be a positive number",
            args.temperature
        )));
    }
    let target = &args.target;
    let mut subject = target.open(Features::Backbone)?;
    let source = labelled(&target.data)?;
    let references = args.references.as_deref().map(labelled).transpose()?;
    let most = args.k.iter().map(|k| k.get()).max().unwrap_or(1);
    let queries = subject.extract(&source, "features", progress)?;
    let width = queries.width;
    let targets = queries.labels.unwrap_or_default();
    let queries = UnitEmbeddings::new(queries.features, width)?;
    let (neighbours, labels, count) = match references {
        None => (
            Neighbours::search_others(&queries, most)?,
            targets.clone(),
            queries.len() - 1,
        ),
        Some(references) => {
            if references.classes() != source.classes() {
                return Err(CliError::failure(format!(
                    "the classes of --references ({}) are not those of --data ({})",
                    references.classes().join(", "),
                    source.classes().join(", ")
                ))
                .hint("labels are the names of the sub-folders: both need the same ones"));
            }
            let found = subject.extract(&references, "reference features", progress)?;
            let units = UnitEmbeddings::new(found.features, found.width)?;
            let neighbours = Neighbours::search(&queries, &units, most)?;
            (neighbours, found.labels.unwrap_or_default(), units.len())
        }
    };
    let mut summaries = Vec::new();
    for k in &args.k {
        let score = neighbours.score(&labels, &targets, k.get(), args.temperature)?;
        summaries.push(KnnSummary {
            k: k.get(),
            temperature: args.temperature,
            top1: score.top1,
            top5: score.top5,
            samples: score.samples,
            references: count,
        });
    }
    if target.json {
        return output::json(&summaries);
    }
    let mut text = String::from("k       top1      top5\n");
    for row in &summaries {
        text.push_str(&format!("{:<6}  {:.6}  {:.6}\n", row.k, row.top1, row.top5));
    }
    output::text(&text)
}

impl EvalTarget {
    fn open(&self, features: Features) -> Result<Subject> {
        Subject::open(&self.model, &self.backend, &self.engine, features)
    }
}

/// Opens images that must have labels.
fn labelled(source: &Path) -> Result<Arc<dyn Source>> {
    let opened = data::open(&source.display().to_string(), &DataConfig::default())?;
    if opened.classes().is_empty() {
        return Err(CliError::failure(format!(
            "{} has no labels to compare with",
            source.display()
        ))
        .hint("put the images of each class into a sub-folder of its own, at least two"));
    }
    Ok(opened)
}
