//! The pictures that several evaluations draw: of clusters that there are labels for, and of accuracies.

use crate::error::Result;
use selfcls_core::data::Source;
use selfcls_core::eval::{Gallery, Pick};
use selfcls_core::metrics::{Contingency, Usage};
use selfcls_core::picture::{
    Curve, GridStyle, LineChart, cluster_grid, colour, confusion_matrix, size_chart, write_png,
};
use std::path::Path;

/// Clusters in a grid of the best ones, and the fewest images that a cluster there may have.
const BEST: usize = 15;
const FEWEST: usize = 9;

/// Clusters of the images of a source.
pub(super) struct ClusterPictures<'a> {
    pub(super) source: &'a dyn Source,
    /// The class of each image.
    pub(super) labels: &'a [usize],
    /// The cluster of each image.
    pub(super) assignments: &'a [usize],
    /// How many clusters there could be.
    pub(super) clusters: usize,
}

impl ClusterPictures<'_> {
    /// Writes `NAME-confusion` and `NAME-sizes` (SVG and PNG), and of `gallery` the clusters that are most often right
    /// (`NAME-accurate.png`) and, with a classifier, most sure (`NAME-confident.png`).
    pub(super) fn write(&self, folder: &Path, name: &str, gallery: &Gallery<'_>) -> Result<()> {
        let file = |what: &str| folder.join(format!("{name}-{what}"));
        let table = Contingency::new(self.labels, self.assignments)?;
        let figure = confusion_matrix(&table, &table.assign(), self.source.classes())?;
        figure.write(&file("confusion.svg"))?;
        let usage = Usage::new(self.assignments, self.clusters)?;
        size_chart(&usage)?.write(&file("sizes.svg"))?;
        let style = GridStyle::default();
        for (what, clusters) in [
            ("accurate.png", gallery.most_accurate(BEST, FEWEST)),
            ("confident.png", gallery.most_confident(BEST, FEWEST)),
        ] {
            let rows = gallery.rows(&clusters, style.columns, Pick::Random { seed: 0 }, true)?;
            // There may be no cluster of that size.
            if !rows.is_empty() {
                write_png(&file(what), &cluster_grid(&rows, &style)?)?;
            }
        }
        Ok(())
    }
}

/// How many images were right, by the first answer and by one of five, at some point of an axis.
pub(super) struct Accuracy {
    pub(super) at: f64,
    pub(super) top1: f64,
    pub(super) top5: f64,
}

/// Both accuracies over `x`.
pub(super) fn accuracy_chart(title: &str, x: &str, mut points: Vec<Accuracy>) -> LineChart {
    points.sort_by(|a, b| a.at.total_cmp(&b.at));
    let curve = |name: &str, place, value: fn(&Accuracy) -> f64| Curve {
        name: name.into(),
        colour: colour(place, 2),
        points: points
            .iter()
            .map(|point| (point.at, value(point)))
            .collect(),
    };
    LineChart {
        title: title.into(),
        x: x.into(),
        curves: vec![
            curve("top-1", 0, |point| point.top1),
            curve("top-5", 1, |point| point.top5),
        ],
        level: None,
    }
}
