//! `eval knn`: how well features separate classes.

use super::pictures::{Accuracy, accuracy_chart};
use super::table::{Table, fraction};
use super::target::{EvalTarget, FEATURES, FeatureChoice, Needs, heads, labelled};
use crate::commands::export::HeadChoice;
use crate::error::{CliError, Result};
use crate::progress::Progress;
use crate::subject::Subject;
use clap::Args;
use selfcls_core::data::Source;
use selfcls_core::eval::features::FeatureTable;
use selfcls_core::eval::{Extracted, Labelled, Selection, nearest, neighbour_rows, read_names};
use selfcls_core::metrics::knn::{Neighbours, UnitEmbeddings};
use selfcls_core::picture::{GridStyle, LineChart, image_grid, write_png};
use serde::Serialize;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Arc;

/// Classify each image by the most similar ones: top-1 and top-5 accuracy. Similar in the backbone's features, or in the
/// embedding for an ONNX file
///
/// The search is exact. Of equally similar images the one that comes first is nearer, of classes with equal votes the
/// first wins, and a class without votes is not among the top 5.
#[derive(Debug, Args)]
pub(crate) struct KnnArgs {
    #[command(flatten)]
    pub(crate) target: EvalTarget,
    /// Labelled images that vote; without it every image is classified by the others of --data
    #[arg(long, value_name = "SOURCE")]
    pub(crate) references: Option<PathBuf>,
    /// Number of neighbours; several may be given, separated by commas. Without it 10, 20, 100 and 200, as far as there
    /// are as many images
    #[arg(long, value_name = "K", value_delimiter = ',')]
    pub(crate) k: Vec<NonZeroUsize>,
    /// A neighbour votes with weight exp(similarity / T)
    #[arg(long, value_name = "T", default_value_t = 0.1)]
    pub(crate) temperature: f64,
    /// Which classifier. The features that are compared come before the classifiers and are the same for all, so this
    /// changes nothing; one that the model lacks is refused
    #[arg(long, value_name = "N")]
    pub(crate) head: Option<usize>,
    /// Which features are compared
    #[arg(long, value_enum, default_value = "backbone")]
    pub(crate) features: FeatureChoice,
    /// Only this percentage of each class votes, drawn with --seed
    #[arg(
        long,
        value_name = "PERCENT",
        requires = "references",
        conflicts_with = "label_list"
    )]
    pub(crate) label_percent: Option<f64>,
    /// Only these references vote: the first word of each line of FILE is the name of an image file
    #[arg(long, value_name = "FILE", requires = "references")]
    pub(crate) label_list: Option<PathBuf>,
    /// Of what is drawn
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) seed: u64,
}

/// Queries that are shown with their neighbours.
const SHOWN: usize = 12;

/// The authors' choice.
const DEFAULT_K: [usize; 4] = [10, 20, 100, 200];

#[derive(Debug, Serialize)]
struct KnnSummary {
    k: usize,
    temperature: f64,
    top1: f64,
    top5: f64,
    samples: usize,
    references: usize,
    features: &'static str,
}

pub(super) fn run(args: &KnnArgs, progress: Progress) -> Result<()> {
    if !(args.temperature > 0.0 && args.temperature.is_finite()) {
        return Err(CliError::usage(format!(
            "--temperature {}: it must be a positive number",
            args.temperature
        )));
    }
    let target = &args.target;
    let mut subject = target.open(args.features, progress)?;
    if let Some(index) = args.head {
        heads(&subject, HeadChoice::One(index))?;
    }
    let source = target.labelled()?;
    let references = references(args, &*source)?;
    let available = references
        .as_ref()
        .map_or(source.len() - 1, |references| references.len());
    let ks = neighbours_wanted(&args.k, available)?;
    let most = ks.iter().copied().max().unwrap_or(1);

    let keep = target.keep(&subject, &*source, FEATURES, Needs::Features)?;
    let found = subject.extract(&source, "features", keep, progress)?;
    if target.cache.shard.is_some() {
        if let Some(references) = &references {
            reference_features(target, &mut subject, references, progress)?;
        }
        target.ends_with_share(progress);
        return Ok(());
    }
    let targets = found.labels.unwrap_or_default();
    let width = found.features.width();
    let queries = UnitEmbeddings::new(found.features.into_values()?, width)?;
    let (neighbours, labels) = match &references {
        None => (Neighbours::search_others(&queries, most)?, targets.clone()),
        Some(references) => vote(target, &mut subject, &queries, references, most, progress)?,
    };
    let mut summaries = Vec::new();
    for k in ks {
        let score = neighbours.score(&labels, &targets, k, args.temperature)?;
        summaries.push(KnnSummary {
            k,
            temperature: args.temperature,
            top1: score.top1,
            top5: score.top5,
            samples: score.samples,
            references: available,
            features: subject.features,
        });
    }
    if let Some(folder) = target.results.folder()? {
        chart(&summaries).figure()?.write(&folder.join("knn.svg"))?;
        let queries = Labelled {
            source: &*source,
            labels: &targets,
        };
        let references = Labelled {
            source: references.as_deref().unwrap_or(&*source),
            labels: &labels,
        };
        let style = GridStyle::default();
        let shown = (SHOWN, style.columns);
        let rows = neighbour_rows(queries, references, &neighbours, shown, args.seed)?;
        write_png(&folder.join("neighbours.png"), &image_grid(&rows, &style)?)?;
    }
    let mut table = Table::new(&["k", "top1", "top5"]);
    for row in &summaries {
        table.row(vec![
            row.k.to_string(),
            fraction(row.top1),
            fraction(row.top5),
        ]);
    }
    target.results.print("knn", &summaries, &table.text())
}

/// The accuracy over the number of neighbours.
fn chart(summaries: &[KnnSummary]) -> LineChart {
    let points = summaries.iter().map(|row| Accuracy {
        at: row.k as f64,
        top1: row.top1,
        top5: row.top5,
    });
    accuracy_chart(
        "accuracy by nearest neighbours",
        "neighbours",
        points.collect(),
    )
}

/// The images that vote, if others than those of `--data`.
fn references(args: &KnnArgs, source: &dyn Source) -> Result<Option<Arc<dyn Source>>> {
    let Some(path) = &args.references else {
        return Ok(None);
    };
    let references = labelled(args.target.others(path)?, path)?;
    if references.classes() != source.classes() {
        return Err(CliError::failure(format!(
            "the classes of --references ({}) are not those of --data ({})",
            references.classes().join(", "),
            source.classes().join(", ")
        ))
        .hint("labels are the names of the sub-folders: both need the same ones"));
    }
    Ok(Some(match (args.label_percent, &args.label_list) {
        (Some(percent), _) => {
            if !(percent > 0.0 && percent <= 100.0) {
                return Err(CliError::usage(format!(
                    "--label-percent {percent}: it must be above 0 and at most 100"
                )));
            }
            Arc::new(Selection::of_share(references, percent / 100.0, args.seed)?)
        }
        (None, Some(list)) => Arc::new(Selection::of_files(references, &read_names(list)?)?),
        (None, None) => references,
    }))
}

/// The numbers of neighbours asked for, or those of the default that are possible.
fn neighbours_wanted(asked: &[NonZeroUsize], available: usize) -> Result<Vec<usize>> {
    let asked: Vec<usize> = asked.iter().map(|k| k.get()).collect();
    if let Some(k) = asked.iter().find(|&&k| k > available) {
        return Err(CliError::failure(format!(
            "--k {k}: only {available} images can be neighbours"
        ))
        .hint(format!("ask for 1 to {available}")));
    }
    if !asked.is_empty() {
        return Ok(asked);
    }
    let possible: Vec<usize> = DEFAULT_K.into_iter().filter(|&k| k <= available).collect();
    match (possible.is_empty(), available) {
        (false, _) => Ok(possible),
        (true, 0) => Err(CliError::failure("one image has no neighbours")),
        (true, _) => Ok(vec![available]),
    }
}

/// The nearest references of each query, and the references' labels.
fn vote(
    target: &EvalTarget,
    subject: &mut Subject,
    queries: &UnitEmbeddings,
    references: &Arc<dyn Source>,
    most: usize,
    progress: Progress,
) -> Result<(Neighbours, Vec<usize>)> {
    let found = reference_features(target, subject, references, progress)?;
    let labels = found.labels.unwrap_or_default();
    Ok((search(queries, &found.features, most, progress)?, labels))
}

fn reference_features(
    target: &EvalTarget,
    subject: &mut Subject,
    references: &Arc<dyn Source>,
    progress: Progress,
) -> Result<Extracted> {
    const ROLE: &str = "reference-features";
    let keep = target.keep(subject, &**references, ROLE, Needs::Features)?;
    subject.extract(references, "reference features", keep, progress)
}

/// Searches part by part: references in a file are never in memory all at once.
fn search(
    queries: &UnitEmbeddings,
    references: &FeatureTable,
    most: usize,
    progress: Progress,
) -> Result<Neighbours> {
    let mut stage = progress.stage("searching", references.len() as u64);
    let found = nearest(queries, references, most, &mut |done| {
        stage.set(done as u64, "");
    })?;
    stage.finish(&format!(
        "{} queries among {}",
        queries.len(),
        references.len()
    ));
    Ok(found)
}
