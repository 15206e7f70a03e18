//! `eval compare`: several runs or models in one table.

use super::table::{Table, fraction};
use super::target::{CacheArgs, EvalTarget, FEATURES, FeatureChoice, Needs, ResultArgs, heads};
use crate::args::{BackendArgs, RunningArgs};
use crate::commands::export::HeadChoice;
use crate::error::{CliError, Result};
use crate::preprocess_args::PreprocessArgs;
use crate::progress::Progress;
use clap::Args;
use selfcls_core::metrics::knn::{Neighbours, UnitEmbeddings};
use selfcls_core::metrics::{ClusterReport, Spread, Usage};
use selfcls_core::picture::{BarChart, BarGroup};
use serde::Serialize;
use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::path::PathBuf;

/// Evaluate several runs, checkpoints or exported models on the same images, in one table
///
/// Runs whose settings differ in the seed alone are one group; its mean and standard deviation follow the single runs.
#[derive(Debug, Args)]
pub(crate) struct CompareArgs {
    /// Run directories (their newest checkpoints), checkpoints, or exported ONNX files
    #[arg(value_name = "RUN|CHECKPOINT|MODEL.onnx", required = true, num_args = 1..)]
    pub(crate) models: Vec<PathBuf>,
    /// Labelled images: a folder with one sub-folder per class, or what `train --help` names for --data
    #[arg(long, value_name = "SOURCE")]
    pub(crate) data: PathBuf,
    #[command(flatten)]
    pub(crate) backend: BackendArgs,
    #[command(flatten)]
    pub(crate) running: RunningArgs,
    #[command(flatten)]
    pub(crate) results: ResultArgs,
    /// Which classifier: its position in model.heads, from 0; or all of them
    #[arg(long, value_name = "N|all", default_value = "0")]
    pub(crate) head: HeadChoice,
    /// Number of neighbours of the nearest-neighbour accuracy
    #[arg(long, value_name = "K", default_value = "20")]
    pub(crate) k: NonZeroUsize,
    /// Look at some classes only: the first word of each line of FILE is the name of one
    #[arg(long, value_name = "FILE")]
    pub(crate) subset: Option<PathBuf>,
}

/// A neighbour votes with weight exp(similarity / T); the authors' T.
const TEMPERATURE: f64 = 0.1;

#[derive(Debug, Clone, Serialize)]
struct Row {
    model: String,
    head: usize,
    available: usize,
    used: usize,
    effective: f64,
    nmi: f64,
    ami: f64,
    ari: f64,
    acc: f64,
    knn: f64,
    /// Number of the group of runs that differ in the seed alone.
    group: usize,
}

#[derive(Debug, Serialize)]
struct Group {
    group: usize,
    head: usize,
    runs: usize,
    nmi: Mean,
    ami: Mean,
    ari: Mean,
    acc: Mean,
    knn: Mean,
}

#[derive(Debug, Serialize)]
struct Mean {
    mean: f64,
    deviation: Option<f64>,
}

#[derive(Debug, Serialize)]
struct Comparison {
    samples: usize,
    k: usize,
    rows: Vec<Row>,
    /// Groups of at least two runs.
    groups: Vec<Group>,
}

pub(super) fn run(args: &CompareArgs, progress: Progress) -> Result<()> {
    let mut rows = Vec::new();
    let mut recipes: Vec<Option<String>> = Vec::new();
    let mut samples = 0;
    for model in &args.models {
        let (recipe, found, count) = evaluate(args, model, progress)?;
        // A model whose training is not known is a group of its own.
        let known = recipes
            .iter()
            .position(|other| recipe.is_some() && *other == recipe);
        let group = known.unwrap_or(recipes.len());
        if known.is_none() {
            recipes.push(recipe);
        }
        rows.extend(found.into_iter().map(|row| Row { group, ..row }));
        samples = count;
    }
    let groups = groups(&rows);
    let text = text(&rows, &groups, args.k.get());
    if let Some(folder) = args.results.folder()? {
        chart(&rows, &groups, args.k.get())
            .figure()?
            .write(&folder.join("compare.svg"))?;
    }
    let comparison = Comparison {
        samples,
        k: args.k.get(),
        rows,
        groups,
    };
    args.results.print("compare", &comparison, &text)
}

/// The recipe of a model, a row for each of its heads, and the number of images.
fn evaluate(
    args: &CompareArgs,
    model: &std::path::Path,
    progress: Progress,
) -> Result<(Option<String>, Vec<Row>, usize)> {
    let target = EvalTarget {
        model: model.to_path_buf(),
        data: args.data.clone(),
        backend: args.backend.clone(),
        running: args.running.clone(),
        results: ResultArgs {
            json: false,
            out: None,
        },
        cache: CacheArgs {
            cache: None,
            recompute: false,
            half: false,
            shard: None,
        },
        subset: args.subset.clone(),
        // Each model is measured as it is.
        preprocess: PreprocessArgs::default(),
    };
    let name = model.display().to_string();
    progress.note(&name);
    let mut subject = target.open(FeatureChoice::Backbone, progress)?;
    let heads = heads(&subject, args.head)?;
    let source = target.labelled()?;
    let keep = target.keep(&subject, &*source, FEATURES, Needs::Features)?;
    let found = subject.extract(&source, "features", keep, progress)?;
    let labels = found.labels.unwrap_or_default();
    let width = found.features.width();
    let features = UnitEmbeddings::new(found.features.into_values()?, width)?;
    let k = args.k.get();
    if k >= features.len() {
        return Err(CliError::failure(format!(
            "--k {k}: each of the {} images has only {} neighbours",
            features.len(),
            features.len() - 1
        )));
    }
    let neighbours = Neighbours::search_others(&features, k)?;
    let knn = neighbours.score(&labels, &labels, k, TEMPERATURE)?.top1;
    let mut rows = Vec::new();
    for head in heads {
        let report = ClusterReport::new(&labels, &found.assignments[head.place])?;
        let usage = Usage::new(&found.assignments[head.place], head.classes)?;
        rows.push(Row {
            model: name.clone(),
            head: head.index,
            available: head.classes,
            used: usage.used,
            effective: usage.effective(),
            nmi: report.nmi,
            ami: report.ami,
            ari: report.ari,
            acc: report.acc,
            knn,
            group: 0,
        });
    }
    Ok((subject.recipe.take(), rows, labels.len()))
}

/// Groups with more than one run, by number and head.
fn groups(rows: &[Row]) -> Vec<Group> {
    let mut members: BTreeMap<(usize, usize), Vec<&Row>> = BTreeMap::new();
    for row in rows {
        members.entry((row.group, row.head)).or_default().push(row);
    }
    members
        .into_iter()
        .filter(|(_, rows)| rows.len() > 1)
        .filter_map(|((group, head), rows)| {
            let mean = |of: fn(&Row) -> f64| {
                let values: Vec<f64> = rows.iter().map(|row| of(row)).collect();
                Spread::new(&values).map(|spread| Mean {
                    mean: spread.mean,
                    deviation: spread.deviation,
                })
            };
            Some(Group {
                group,
                head,
                runs: rows.len(),
                nmi: mean(|row| row.nmi)?,
                ami: mean(|row| row.ami)?,
                ari: mean(|row| row.ari)?,
                acc: mean(|row| row.acc)?,
                knn: mean(|row| row.knn)?,
            })
        })
        .collect()
}

/// A group of bars for each row, and for each group over seeds.
fn chart(rows: &[Row], groups: &[Group], k: usize) -> BarChart {
    let single = rows.iter().map(|row| BarGroup {
        name: format!("{} head {}", row.model, row.head),
        bars: [row.nmi, row.acc, row.knn]
            .map(|value| (value, None))
            .into(),
    });
    let means = groups.iter().map(|group| BarGroup {
        name: format!(
            "group {} head {}, {} runs",
            group.group, group.head, group.runs
        ),
        bars: [&group.nmi, &group.acc, &group.knn]
            .map(|mean| (mean.mean, mean.deviation))
            .into(),
    });
    BarChart {
        title: "agreement with labels".into(),
        measures: vec!["NMI".into(), "accuracy".into(), format!("{k}-nn accuracy")],
        groups: single.chain(means).collect(),
    }
}

fn text(rows: &[Row], groups: &[Group], k: usize) -> String {
    let knn = format!("{k}-nn");
    let header = [
        "model",
        "group",
        "head",
        "clusters",
        "used",
        "effective",
        "nmi",
        "ami",
        "ari",
        "acc",
        &knn,
    ];
    let mut table = Table::new(&header);
    for row in rows {
        table.row(vec![
            row.model.clone(),
            row.group.to_string(),
            row.head.to_string(),
            row.available.to_string(),
            row.used.to_string(),
            format!("{:.1}", row.effective),
            fraction(row.nmi),
            fraction(row.ami),
            fraction(row.ari),
            fraction(row.acc),
            fraction(row.knn),
        ]);
    }
    let mut text = table.text();
    if !groups.is_empty() {
        text.push_str("\nmean and standard deviation over seeds\n");
        let mut table = Table::new(&["group", "head", "runs", "nmi", "ami", "ari", "acc", &knn]);
        let cell = |mean: &Mean| match mean.deviation {
            Some(deviation) => format!("{:.4} +- {deviation:.4}", mean.mean),
            None => fraction(mean.mean),
        };
        for group in groups {
            table.row(vec![
                group.group.to_string(),
                group.head.to_string(),
                group.runs.to_string(),
                cell(&group.nmi),
                cell(&group.ami),
                cell(&group.ari),
                cell(&group.acc),
                cell(&group.knn),
            ]);
        }
        text.push_str(&table.text());
    }
    text
}
