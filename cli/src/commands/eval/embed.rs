//! `eval embed`: maps of the features in two dimensions.

use super::target::{EvalTarget, FEATURES, FeatureChoice, Head, Needs, heads};
use crate::commands::export::HeadChoice;
use crate::error::{CliError, Result};
use crate::output::csv_field;
use crate::progress::Progress;
use clap::Args;
use selfcls_core::atomic;
use selfcls_core::data::Source;
use selfcls_core::eval::{Extracted, FeatureMap, MapConfig, Selection};
use selfcls_core::metrics::knn::UnitEmbeddings;
use selfcls_core::picture::scatter;
use serde::Serialize;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Arc;

/// Draw the features in two dimensions (t-SNE), coloured by cluster and by label, and write their places as CSV
///
/// Near in the map are images whose features point into like directions. Distances between groups, their sizes and the
/// directions of the axes mean little.
#[derive(Debug, Args)]
pub(crate) struct EmbedArgs {
    #[command(flatten)]
    pub(crate) target: EvalTarget,
    /// Which classifier's clusters: its position in model.heads, from 0
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) head: usize,
    /// Images in the map, drawn with --seed
    #[arg(long, value_name = "N", default_value = "2000")]
    pub(crate) samples: NonZeroUsize,
    /// About how many neighbours an image is kept near to
    #[arg(long, value_name = "X", default_value_t = 30.0)]
    pub(crate) perplexity: f64,
    /// Steps of gradient descent
    #[arg(long, value_name = "N", default_value = "1000")]
    pub(crate) iterations: NonZeroUsize,
    /// Of what is drawn
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) seed: u64,
    /// Which features are mapped
    #[arg(long, value_enum, default_value = "backbone")]
    pub(crate) features: FeatureChoice,
}

#[derive(Debug, Serialize)]
struct Summary {
    samples: usize,
    features: &'static str,
    perplexity: f64,
    iterations: usize,
    files: Vec<PathBuf>,
}

pub(super) fn run(args: &EmbedArgs, progress: Progress) -> Result<()> {
    let target = &args.target;
    let Some(folder) = target.results.folder()? else {
        return Err(CliError::usage("eval embed needs --out DIR for its maps"));
    };
    let mut subject = target.open(args.features, progress)?;
    // Of a backbone alone or of pixels there is a map too, without clusters.
    let head = if subject.heads().is_empty() {
        None
    } else {
        heads(&subject, HeadChoice::One(args.head))?.pop()
    };
    let source = target.images()?;
    let keep = target.keep(&subject, &*source, FEATURES, Needs::Features)?;
    let extracted = subject.extract(&source, "features", keep, progress)?;
    if target.ends_with_share(progress) {
        return Ok(());
    }
    let sample = Selection::sample(Arc::clone(&source), args.samples.get(), args.seed);
    let sample = sample.indices();
    let features = extracted.features.gather(sample)?;
    let embeddings = UnitEmbeddings::new(features, extracted.features.width())?;
    let config = MapConfig {
        perplexity: args.perplexity,
        iterations: args.iterations.get(),
    };
    let mut stage = progress.stage("t-SNE", config.iterations as u64);
    let map = config.map(&embeddings, &mut |done| stage.set(done as u64, ""))?;
    stage.finish(&format!("{} images", sample.len()));
    let drawn = Drawn {
        source: &*source,
        extracted: &extracted,
        sample,
        map: &map,
        head,
    };
    let mut files = Vec::new();
    let path = folder.join("map.csv");
    atomic::write(&path, drawn.csv().as_bytes())?;
    files.push(path);
    for (name, title, groups, names) in drawn.colourings() {
        let figure = scatter(&title, &map.points, &groups, &names)?;
        let path = folder.join(name);
        figure.write(&path)?;
        files.push(path.with_extension("svg"));
        files.push(path.with_extension("png"));
    }
    let summary = Summary {
        samples: sample.len(),
        features: subject.features,
        perplexity: map.perplexity,
        iterations: config.iterations,
        files,
    };
    let list: String = summary
        .files
        .iter()
        .map(|file| format!("{}\n", file.display()))
        .collect();
    target.results.print("embed", &summary, &list)
}

/// A map with what its points are.
struct Drawn<'a> {
    source: &'a dyn Source,
    extracted: &'a Extracted,
    /// Number of each point's image.
    sample: &'a [usize],
    map: &'a FeatureMap,
    head: Option<Head>,
}

impl Drawn<'_> {
    fn clusters(&self) -> Option<&[usize]> {
        let head = self.head?;
        self.extracted
            .assignments
            .get(head.place)
            .map(Vec::as_slice)
    }

    /// A line per point; cluster and label are empty where there are none.
    fn csv(&self) -> String {
        let mut text = String::from("index,name,x,y,cluster,label\n");
        let labels = self.extracted.labels.as_deref();
        for (&index, [x, y]) in self.sample.iter().zip(&self.map.points) {
            let name = self.source.name(index);
            let cluster = self.clusters().map(|of| of[index].to_string());
            let label = labels.and_then(|of| self.source.classes().get(of[index]));
            text.push_str(&format!(
                "{index},{},{x:.6},{y:.6},{},{}\n",
                csv_field(&name),
                cluster.unwrap_or_default(),
                csv_field(label.map_or("", String::as_str))
            ));
        }
        text
    }

    /// File, title, group of each point and names of the groups.
    fn colourings(&self) -> Vec<(&'static str, String, Vec<usize>, Vec<String>)> {
        let of_sample = |all: &[usize]| self.sample.iter().map(|&index| all[index]).collect();
        let count = self.sample.len();
        let mut all = Vec::new();
        if let (Some(clusters), Some(head)) = (self.clusters(), self.head) {
            let title = format!("{count} images by cluster of head {}", head.index);
            let names = (0..head.classes).map(|cluster| cluster.to_string());
            all.push(("map-clusters", title, of_sample(clusters), names.collect()));
        }
        // A source without classes gives no labels, or none that mean anything.
        if let Some(labels) = &self.extracted.labels
            && !self.source.classes().is_empty()
        {
            let title = format!("{count} images by label");
            all.push((
                "map-labels",
                title,
                of_sample(labels),
                self.source.classes().to_vec(),
            ));
        }
        all
    }
}
