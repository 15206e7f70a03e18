//! The adjusted Rand index: agreement about pairs of samples.

use super::Contingency;

impl Contingency {
    /// The Rand index adjusted for chance (Hubert and Arabie 1985), from -0.5 to 1; about 0 for random clusters.
    ///
    /// With the ordered pairs that are together in both (tp), in neither (tn), only in a class (fn) or only in a
    /// cluster (fp): 2 (tp tn - fn fp) / ((tp + fn)(fn + tn) + (tp + fp)(fp + tn)). The counts are exact integers.
    /// Identical partitions, among them a single sample, give 1.
    pub fn ari(&self) -> f64 {
        let squares = |sizes: &[u64]| -> i128 {
            sizes
                .iter()
                .map(|&size| i128::from(size) * i128::from(size))
                .sum()
        };
        let n = i128::from(self.samples());
        let both: i128 = self
            .cells()
            .iter()
            .map(|cell| i128::from(cell.count) * i128::from(cell.count))
            .sum();
        // A square of a size counts each ordered pair once and each sample with itself.
        let tp = both - n;
        let only_class = squares(self.class_sizes()) - both;
        let only_cluster = squares(self.cluster_sizes()) - both;
        let tn = n * n - only_class - only_cluster - both;
        if only_class == 0 && only_cluster == 0 {
            return 1.0;
        }
        let numerator = 2 * (tp * tn - only_class * only_cluster);
        let denominator =
            (tp + only_class) * (only_class + tn) + (tp + only_cluster) * (only_cluster + tn);
        numerator as f64 / denominator as f64
    }
}
