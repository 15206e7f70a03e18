//! k-means, the baseline for features that come without classes.
//!
//! Lloyd's algorithm (IEEE Trans. Inf. Theory 28, 1982) from k-means++ starts (Arthur and Vassilvitskii, SODA 2007, in its
//! greedy form: of 2 + ln k candidates the best is taken), or mini-batches (Sculley, WWW 2010); the best of several
//! restarts. Spherical k-means (Dhillon and Modha, Machine Learning 42, 2001) is the same on vectors of length 1 with
//! centres of length 1.
//!
//! Everything is drawn from one seed and added up in a fixed order: the result does not depend on the number of threads.

mod assign;
mod file;
mod fit;
mod start;

use crate::{Error, Result};
use assign::{assign, unit_rows};
use std::borrow::Cow;

/// What "near" means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Geometry {
    /// Squared Euclidean distance.
    Euclidean,
    /// 1 - cosine; rows are scaled to length 1.
    Spherical,
}

/// How to run k-means.
#[derive(Debug, Clone, PartialEq)]
pub struct KMeansConfig {
    /// Number of clusters.
    pub clusters: usize,
    /// What "near" means. Default Euclidean.
    pub geometry: Geometry,
    /// Rows per update; 0 for all at once. Default 0.
    pub batch: usize,
    /// Runs from different starts, of which the best counts. Default 10.
    pub restarts: usize,
    /// Most passes over the data of a run. Default 300.
    pub max_passes: usize,
    /// A run ends when the centres move by less than this part of the rows' mean variance (squared, in sum), with
    /// mini-batches when the mean distance falls by less than this part of itself in a pass. Default 1e-4.
    pub tolerance: f64,
    /// Of all that is drawn. Default 0.
    pub seed: u64,
}

impl Default for KMeansConfig {
    fn default() -> Self {
        Self {
            clusters: 10,
            geometry: Geometry::Euclidean,
            batch: 0,
            restarts: 10,
            max_passes: 300,
            tolerance: 1e-4,
            seed: 0,
        }
    }
}

/// Centres, to which rows can be assigned.
#[derive(Debug, Clone, PartialEq)]
pub struct KMeans {
    geometry: Geometry,
    width: usize,
    /// `[clusters, width]`.
    centres: Vec<f32>,
}

/// The best of several runs.
#[derive(Debug, Clone, PartialEq)]
pub struct Fit {
    /// The centres.
    pub model: KMeans,
    /// Sum of the rows' distances to their centres ([`Geometry`]).
    pub inertia: f64,
    /// Passes over the data that the run took.
    pub passes: usize,
    /// Whether it ended before the most passes.
    pub converged: bool,
    /// Inertia of every run.
    pub inertias: Vec<f64>,
}

impl KMeansConfig {
    /// Finds centres of `rows`, `[n, width]`, row-major. `progress` is told after each restart how many are done.
    ///
    /// # Errors
    /// [`Error::Invalid`] if a value is not finite, there are fewer rows than clusters, a count is 0, or the tolerance is
    /// not a number from 0.
    pub fn fit(&self, rows: &[f32], width: usize, progress: &mut dyn FnMut(usize)) -> Result<Fit> {
        check_rows(rows, width)?;
        let count = rows.len() / width;
        if self.clusters == 0 || self.clusters > count {
            return Err(Error::Invalid(format!(
                "{} clusters cannot be made of {count} samples; ask for 1 to {count}",
                self.clusters
            )));
        }
        if self.restarts == 0 || self.max_passes == 0 {
            return Err(Error::Invalid(
                "k-means needs at least one run and one pass".into(),
            ));
        }
        if !(self.tolerance >= 0.0 && self.tolerance.is_finite()) {
            return Err(Error::Invalid(format!(
                "the tolerance {} must be a number from 0",
                self.tolerance
            )));
        }
        let rows = self.geometry.prepared(rows, width);
        let mut best: Option<Fit> = None;
        let mut inertias = Vec::new();
        for restart in 0..self.restarts {
            let run = fit::run(self, &rows, width, restart as u64);
            inertias.push(run.inertia);
            if best.as_ref().is_none_or(|best| run.inertia < best.inertia) {
                best = Some(run);
            }
            progress(restart + 1);
        }
        let best = best.ok_or_else(|| Error::Invalid("k-means needs at least one run".into()))?;
        Ok(Fit { inertias, ..best })
    }
}

impl KMeans {
    /// Number of centres.
    pub fn clusters(&self) -> usize {
        self.centres.len() / self.width
    }

    /// The centres, `[clusters, width]`.
    pub fn centres(&self) -> &[f32] {
        &self.centres
    }

    /// What "near" means.
    pub fn geometry(&self) -> Geometry {
        self.geometry
    }

    /// The nearest centre of each of `rows`, `[n, width]`, the first of equals.
    ///
    /// # Errors
    /// [`Error::Invalid`] if the rows are of another width or hold something that is not finite.
    pub fn assign(&self, rows: &[f32], width: usize) -> Result<Vec<usize>> {
        if width != self.width {
            return Err(Error::Invalid(format!(
                "features of width {width} cannot be assigned to centres of width {}",
                self.width
            )));
        }
        check_rows(rows, width)?;
        let rows = self.geometry.prepared(rows, width);
        Ok(assign(&rows, &self.centres, width).nearest)
    }
}

impl Geometry {
    fn prepared<'a>(self, rows: &'a [f32], width: usize) -> Cow<'a, [f32]> {
        match self {
            Self::Euclidean => Cow::Borrowed(rows),
            Self::Spherical => Cow::Owned(unit_rows(rows.to_vec(), width)),
        }
    }

    /// What a squared Euclidean distance counts.
    fn scale(self) -> f64 {
        match self {
            Self::Euclidean => 1.0,
            // |x - c|^2 = 2 (1 - cos) at length 1.
            Self::Spherical => 0.5,
        }
    }
}

fn check_rows(rows: &[f32], width: usize) -> Result<()> {
    if width == 0 || !rows.len().is_multiple_of(width) {
        return Err(Error::Invalid(format!(
            "{} values do not make rows of {width}",
            rows.len()
        )));
    }
    match rows.iter().position(|value| !value.is_finite()) {
        None => Ok(()),
        Some(place) => Err(Error::Invalid(format!(
            "the features of sample {} contain {}",
            place / width,
            rows[place]
        ))),
    }
}

#[cfg(test)]
mod tests;
