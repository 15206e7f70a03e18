//! How evenly samples are spread over the clusters that a classifier has; needs no labels.

use super::Label;
use crate::{Error, Result};

/// How many of the available clusters are used, and how evenly.
#[derive(Debug, Clone, PartialEq)]
pub struct Usage {
    /// Samples in each available cluster, by cluster id; empty clusters included.
    pub sizes: Vec<u64>,
    /// Number of samples.
    pub samples: u64,
    /// Clusters with at least one sample (unique assignments).
    pub used: usize,
    /// Entropy of the sizes in nats, H = - sum_k p_k ln p_k with p_k the share of cluster k; from 0 (all in one) to
    /// ln of the number of available clusters (all equal).
    pub entropy: f64,
}

impl Usage {
    /// Counts `predictions`, ids below `available`.
    ///
    /// # Errors
    /// [`Error::Invalid`] if there is no sample or an id is `available` or larger, naming the sample and the id.
    pub fn new<P: Label>(predictions: &[P], available: usize) -> Result<Self> {
        if predictions.is_empty() {
            return Err(Error::Invalid(
                "there are no samples whose clusters could be counted".into(),
            ));
        }
        let mut sizes = vec![0u64; available];
        for (sample, prediction) in predictions.iter().enumerate() {
            let id = prediction.id();
            let size = usize::try_from(id).ok().and_then(|id| sizes.get_mut(id));
            *size.ok_or_else(|| {
                Error::Invalid(format!(
                    "sample {sample} is in cluster {id}, but there are only {available}, counted from 0"
                ))
            })? += 1;
        }
        let samples = predictions.len() as u64;
        let entropy: f64 = shares(&sizes, samples).map(|p| -p * p.ln()).sum();
        Ok(Self {
            used: sizes.iter().filter(|&&size| size > 0).count(),
            sizes,
            samples,
            entropy: entropy.max(0.0),
        })
    }

    /// Ids of the clusters without samples, rising.
    pub fn empty(&self) -> Vec<usize> {
        let sizes = self.sizes.iter().enumerate();
        sizes
            .filter(|&(_, &size)| size == 0)
            .map(|(cluster, _)| cluster)
            .collect()
    }

    /// exp H: the number of equally large clusters with this entropy (the perplexity of the sizes, Hill number of
    /// order 1; Hill, Ecology 54, 1973). From 1 to the number of available clusters.
    pub fn effective(&self) -> f64 {
        self.entropy.exp()
    }

    /// Share of the samples in the largest cluster, from 0 to 1.
    pub fn largest_share(&self) -> f64 {
        let largest = self.sizes.iter().max().copied().unwrap_or(0);
        largest as f64 / self.samples as f64
    }
}

/// The shares of the clusters that are not empty.
fn shares(sizes: &[u64], samples: u64) -> impl Iterator<Item = f64> {
    let sizes = sizes.iter().filter(|&&size| size > 0);
    sizes.map(move |&size| size as f64 / samples as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_clusters_have_the_largest_entropy() {
        let even = Usage::new(&[0u8, 1, 2, 3, 0, 1, 2, 3], 4).expect("counts");
        assert!((even.entropy - 4f64.ln()).abs() < 1e-15);
        assert!((even.effective() - 4.0).abs() < 1e-14);
        assert_eq!((even.used, even.largest_share()), (4, 0.25));
        assert!(even.empty().is_empty());
        let one = Usage::new(&[2u8; 5], 4).expect("counts");
        assert_eq!((one.entropy, one.effective(), one.used), (0.0, 1.0, 1));
        assert_eq!(one.empty(), [0, 1, 3]);
        assert_eq!(one.sizes, [0, 0, 5, 0]);
    }

    #[test]
    fn the_entropy_is_the_tables() {
        let clusters: Vec<u32> = (0..500u32).map(|i| (i * i + i / 7) % 13).collect();
        let usage = Usage::new(&clusters, 20).expect("counts");
        let table = super::super::Contingency::new(&clusters, &clusters).expect("counts");
        assert!((usage.entropy - table.cluster_entropy()).abs() < 1e-14);
        assert_eq!(usage.used, table.clusters().len());
    }

    #[test]
    fn impossible_input_is_named() {
        let error = Usage::new(&[0u8, 1, 7], 4).expect_err("refused");
        assert!(error.to_string().contains("sample 2 is in cluster 7"));
        let error = Usage::new(&[u64::MAX], 4).expect_err("refused");
        assert!(error.to_string().contains("18446744073709551615"));
        assert!(Usage::new::<u8>(&[], 4).is_err());
        assert!(Usage::new(&[0u8], 0).is_err());
    }
}
