//! `eval kmeans`: clusters made by k-means from any features, the baseline.

use super::pictures::ClusterPictures;
use super::table::{Table, fraction};
use super::target::{EvalTarget, FEATURES, FeatureChoice, Needs, labelled};
use crate::commands::metrics::ClusterSummary;
use crate::error::{CliError, Result};
use crate::progress::Progress;
use clap::Args;
use selfcls_core::eval::Gallery;
use selfcls_core::eval::kmeans::{Geometry, KMeansConfig};
use selfcls_core::metrics::{ClusterReport, Usage};
use serde::Serialize;
use std::num::NonZeroUsize;
use std::path::PathBuf;

/// Cluster features with k-means and compare with the labels: NMI, AMI, ARI and accuracy. `pixels` or `pixels:SIDE` in
/// place of a model takes the images themselves
#[derive(Debug, Args)]
pub(crate) struct KMeansArgs {
    #[command(flatten)]
    pub(crate) target: EvalTarget,
    /// Images to find the centres with (labels are not needed); without it those of --data
    #[arg(long, value_name = "SOURCE")]
    pub(crate) train: Option<PathBuf>,
    /// Number of clusters; several may be given, separated by commas. Without it as many as there are classes
    #[arg(long, value_name = "K", value_delimiter = ',')]
    pub(crate) k: Vec<NonZeroUsize>,
    /// Compare directions: k-means on features of length 1
    #[arg(long)]
    pub(crate) spherical: bool,
    /// Images per update; 0 for all at once
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) batch: usize,
    /// Runs from different starts, of which the best counts
    #[arg(long, value_name = "N", default_value = "10")]
    pub(crate) restarts: NonZeroUsize,
    /// Most passes over the images of a run
    #[arg(long, value_name = "N", default_value = "300")]
    pub(crate) max_passes: NonZeroUsize,
    /// Of all that is drawn
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) seed: u64,
    /// Which features are clustered
    #[arg(long, value_enum, default_value = "backbone")]
    pub(crate) features: FeatureChoice,
}

#[derive(Debug, Serialize)]
struct KMeansSummary {
    k: usize,
    #[serde(flatten)]
    measures: ClusterSummary,
    effective: f64,
    inertia: f64,
    passes: usize,
    converged: bool,
    geometry: &'static str,
    features: &'static str,
    train_samples: usize,
}

pub(super) fn run(args: &KMeansArgs, progress: Progress) -> Result<()> {
    let target = &args.target;
    let mut subject = target.open(args.features, progress)?;
    let source = labelled(target.images()?, &target.data)?;
    let train = args
        .train
        .as_deref()
        .map(|path| target.others(path))
        .transpose()?;
    let available = train.as_ref().map_or(source.len(), |train| train.len());
    let ks = match &args.k[..] {
        [] => vec![source.classes().len().min(available)],
        asked => asked.iter().map(|k| k.get()).collect(),
    };
    if let Some(k) = ks.iter().find(|&&k| k > available) {
        return Err(CliError::failure(format!(
            "--k {k}: there are only {available} images to make clusters of"
        )));
    }
    let keep = target.keep(&subject, &*source, FEATURES, Needs::Features)?;
    let found = subject.extract(&source, "features", keep, progress)?;
    let (labels, width) = (found.labels.unwrap_or_default(), found.features.width());
    let rows = found.features.into_values()?;
    let training = match &train {
        None => None,
        Some(train) => {
            let keep = target.keep(&subject, &**train, "train-features", Needs::Features)?;
            let found = subject.extract(train, "training features", keep, progress)?;
            Some(found.features.into_values()?)
        }
    };
    if target.ends_with_share(progress) {
        return Ok(());
    }
    let mut summaries = Vec::new();
    for k in ks {
        let config = KMeansConfig {
            clusters: k,
            geometry: if args.spherical {
                Geometry::Spherical
            } else {
                Geometry::Euclidean
            },
            batch: args.batch,
            restarts: args.restarts.get(),
            max_passes: args.max_passes.get(),
            seed: args.seed,
            ..KMeansConfig::default()
        };
        let mut stage = progress.stage("k-means", args.restarts.get() as u64);
        let training = training.as_deref().unwrap_or(&rows);
        let fit = config.fit(training, width, &mut |done| stage.set(done as u64, ""))?;
        stage.finish(&format!("{k} clusters, inertia {:.6e}", fit.inertia));
        if !fit.converged {
            progress.note(&format!(
                "warning: not settled after {} passes; see --max-passes",
                fit.passes
            ));
        }
        if let Some(folder) = target.results.folder()? {
            fit.model
                .save(&folder.join(format!("centroids-{k}.safetensors")))?;
        }
        let nearest = fit.model.assign(&rows, width)?;
        if let Some(folder) = target.results.folder()? {
            let pictures = ClusterPictures {
                source: &*source,
                labels: &labels,
                assignments: &nearest,
                clusters: k,
            };
            let gallery = Gallery::of_clusters(&*source, &nearest, Some(&labels))?;
            pictures.write(folder, &format!("k{k}"), &gallery)?;
        }
        summaries.push(KMeansSummary {
            k,
            measures: ClusterSummary::from(&ClusterReport::new(&labels, &nearest)?),
            effective: Usage::new(&nearest, k)?.effective(),
            inertia: fit.inertia,
            passes: fit.passes,
            converged: fit.converged,
            geometry: config.geometry.name(),
            features: subject.features,
            train_samples: training.len() / width,
        });
    }
    let mut table = Table::new(&[
        "k",
        "used",
        "effective",
        "nmi",
        "ami",
        "ari",
        "acc",
        "inertia",
        "passes",
    ]);
    for row in &summaries {
        table.row(vec![
            row.k.to_string(),
            row.measures.clusters.to_string(),
            format!("{:.1}", row.effective),
            fraction(row.measures.nmi),
            fraction(row.measures.ami),
            fraction(row.measures.ari),
            fraction(row.measures.acc),
            format!("{:.4e}", row.inertia),
            row.passes.to_string(),
        ]);
    }
    target.results.print("kmeans", &summaries, &table.text())
}
