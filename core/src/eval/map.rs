//! Two-dimensional maps of features: t-SNE (van der Maaten and Hinton, JMLR 9, 2008) in its Barnes-Hut form (van der
//! Maaten, JMLR 15, 2014), by the crate bhtsne.
//!
//! Neighbours come from our exact search; the map begins with the affinities' first eigenvectors instead of random
//! places (Kobak and Linderman, Nature Biotechnology 39, 2021), so that far-apart clusters keep some of their order. It
//! runs on one thread: the parallel sums of the crate round as the threads happen to be scheduled, and a thousand
//! iterations make another map of that. The same features give the same map.
//!
//! UMAP is not offered: of the crates that have it, umap-rs 0.4 lets threads race for the points (no two runs are
//! alike), fast-umap needs a GPU and another burn, and annembed a BLAS.

use crate::metrics::knn::{Neighbours, UnitEmbeddings};
use crate::{Error, Result};
use bhtsne::{Neighbor, tSNE};
use rayon::ThreadPoolBuilder;

/// How a map is made.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct MapConfig {
    /// About how many neighbours a sample is kept near to; lowered to a third of the samples where there are fewer.
    /// Default 30 (scikit-learn).
    pub perplexity: f64,
    /// Steps of gradient descent. Default 1000.
    pub iterations: usize,
}

impl Default for MapConfig {
    fn default() -> Self {
        Self {
            perplexity: 30.0,
            iterations: 1000,
        }
    }
}

/// Places in the plane, one for each sample.
#[derive(Debug, Clone, PartialEq)]
pub struct FeatureMap {
    /// x and y.
    pub points: Vec<[f64; 2]>,
    /// The perplexity that was possible.
    pub perplexity: f64,
}

/// Accuracy of the approximation: a cell of the tree stands for its points where it is smaller than this part of its
/// distance (the author's default).
const THETA: f64 = 0.5;

/// Factor on the affinities in the first quarter of a thousand iterations (Belkina et al.).
const EXAGGERATION: f64 = 12.0;

/// Fewest samples of which a map can be made.
const FEWEST: usize = 8;

impl MapConfig {
    /// The map of `embeddings`, near in the angle between them. `progress` is told how many iterations are done.
    ///
    /// # Errors
    /// [`Error::Invalid`] if there are fewer than 8 samples, the perplexity is not a number from 1, or the map is not
    /// finite.
    pub fn map(
        &self,
        embeddings: &UnitEmbeddings,
        progress: &mut (dyn FnMut(usize) + Send),
    ) -> Result<FeatureMap> {
        let samples = embeddings.len();
        if samples < FEWEST {
            return Err(Error::Invalid(format!(
                "a map of {samples} samples says nothing; at least {FEWEST} are needed"
            )));
        }
        if !(self.perplexity >= 1.0 && self.perplexity.is_finite()) {
            return Err(Error::Invalid(format!(
                "the perplexity {} must be a number from 1",
                self.perplexity
            )));
        }
        let perplexity = self.perplexity.min(((samples - 1) / 3) as f64);
        let count = (3.0 * perplexity) as usize;
        let found = Neighbours::search_others(embeddings, count)?;
        let neighbours: Vec<Vec<Neighbor<f64>>> = found
            .rows()
            .map(|row| {
                let near = row.iter().map(|near| Neighbor {
                    index: near.index as usize,
                    // The chord of the angle; rounding may take the cosine above 1.
                    distance: (2.0 - 2.0 * f64::from(near.similarity)).max(0.0).sqrt(),
                });
                near.collect()
            })
            .collect();
        // Belkina et al. (Nature Communications 10, 2019), no less than van der Maaten's 200. The crate's own default is
        // scikit-learn's, a quarter of it, which is meant for a gradient that is four times the crate's: maps made with
        // it are not finished after 1000 iterations.
        let rate = (samples as f64 / EXAGGERATION).max(200.0);
        let numbers: Vec<usize> = (0..samples).collect();
        let pool = ThreadPoolBuilder::new()
            .num_threads(1)
            .build()
            .map_err(|error| Error::Invalid(format!("cannot start a thread: {error}")))?;
        let values = pool.install(|| {
            let mut tsne = tSNE::<f64, usize, 2>::new(&numbers);
            tsne.perplexity(perplexity)
                .epochs(self.iterations)
                .learning_rate(rate)
                .early_exaggeration(EXAGGERATION)
                .spectral_init()
                .epoch_callback(|epoch, _| progress(epoch + 1))
                .barnes_hut_with_neighbors(THETA, &neighbours);
            tsne.embedding()
        });
        if values.iter().any(|value| !value.is_finite()) {
            return Err(Error::Invalid(
                "the map left the domain of finite numbers; try another perplexity".into(),
            ));
        }
        let (points, _) = values.as_chunks();
        Ok(FeatureMap {
            points: points.to_vec(),
            perplexity,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::{Draw, Purpose, stream};

    /// Three clouds in eight dimensions; sample i is of cloud i modulo 3.
    fn clouds(count: usize, spread: f64) -> UnitEmbeddings {
        let mut draw = stream(7, Purpose::Evaluation, [1, 2, 3]);
        let values: Vec<f32> = (0..count)
            .flat_map(|sample| {
                let row: Vec<f32> = (0..8)
                    .map(|place| {
                        let centre = if place == sample % 3 { 1.0 } else { 0.0 };
                        (centre + draw.uniform(-spread, spread)) as f32
                    })
                    .collect();
                row
            })
            .collect();
        UnitEmbeddings::new(values, 8).expect("rows")
    }

    fn map(embeddings: &UnitEmbeddings) -> FeatureMap {
        let config = MapConfig {
            iterations: 300,
            ..MapConfig::default()
        };
        let mut done = 0;
        let map = config
            .map(embeddings, &mut |count| done = count)
            .expect("a map");
        assert_eq!(done, 300);
        map
    }

    #[test]
    fn clouds_stay_together_and_maps_repeat_themselves() {
        let embeddings = clouds(120, 0.2);
        let found = map(&embeddings);
        assert_eq!(found, map(&embeddings));
        assert_eq!((found.points.len(), found.perplexity), (120, 30.0));
        // The nearest point in the map is of the same cloud, but for a few at the edges.
        let squared = |a: [f64; 2], b: [f64; 2]| (a[0] - b[0]).powi(2) + (a[1] - b[1]).powi(2);
        let is_home = |&(i, a): &(usize, [f64; 2])| {
            let others = found.points.iter().enumerate().filter(|&(j, _)| j != i);
            let nearest = others.min_by(|x, y| squared(a, *x.1).total_cmp(&squared(a, *y.1)));
            nearest.map(|(j, _)| j % 3) == Some(i % 3)
        };
        let points = found.points.iter().copied().enumerate();
        let home = points.filter(is_home).count();
        assert!(home >= 114, "{home} of 120");
    }

    #[test]
    fn equal_and_few_samples_have_maps() {
        // Clouds without any extent, far apart: distances of zero, and a graph in three pieces.
        let same = map(&clouds(90, 0.0));
        assert_eq!(same.perplexity, 29.0);
        let few = map(&clouds(FEWEST, 0.2));
        assert_eq!((few.points.len(), few.perplexity), (FEWEST, 2.0));
        let config = MapConfig::default();
        let refused = |config: MapConfig, count| {
            let error = config.map(&clouds(count, 0.2), &mut |_| ());
            error.expect_err("refused").to_string()
        };
        assert!(refused(config, FEWEST - 1).contains("at least 8"));
        for perplexity in [0.5, f64::NAN, f64::INFINITY] {
            let config = MapConfig {
                perplexity,
                ..config
            };
            assert!(refused(config, 30).contains("perplexity"));
        }
    }
}
