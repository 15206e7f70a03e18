//! Measures from information theory, in nats. With n samples, class sizes a_i, cluster sizes b_j and
//! cells n_ij (Vinh, Epps, Bailey: "Information theoretic measures for clusterings comparison", 2010).

use super::Contingency;
use std::collections::BTreeMap;

/// Terms of the expected mutual information below this fraction of the largest are left out: their sum
/// is far below one unit in the last place.
const NEGLIGIBLE: f64 = 1e-25;

impl Contingency {
    /// Entropy of the classes, H(T) = - sum_i a_i/n ln(a_i/n).
    pub fn class_entropy(&self) -> f64 {
        entropy(self.class_sizes(), self.samples())
    }

    /// Entropy of the cluster sizes, H(P). Its maximum, ln of the number of clusters, means equal sizes.
    pub fn cluster_entropy(&self) -> f64 {
        entropy(self.cluster_sizes(), self.samples())
    }

    /// Mutual information I(T, P) = sum_ij n_ij/n ln(n n_ij / (a_i b_j)); never negative.
    pub fn mutual_information(&self) -> f64 {
        let n = self.samples() as f64;
        let sum: f64 = self
            .cells()
            .iter()
            .map(|cell| {
                let count = cell.count as f64;
                let product = self.class_sizes()[cell.class] as f64
                    * self.cluster_sizes()[cell.cluster] as f64;
                count / n * (n * count / product).ln()
            })
            .sum();
        sum.max(0.0)
    }

    /// Normalised mutual information, I / ((H(T) + H(P)) / 2), from 0 to 1.
    ///
    /// One class in one cluster is a perfect match: 1. One class or one cluster otherwise: 0.
    pub fn nmi(&self) -> f64 {
        if self.is_undivided() {
            return 1.0;
        }
        (self.mutual_information() / self.mean_entropy()).min(1.0)
    }

    /// Mutual information adjusted for chance, (I - E) / ((H(T) + H(P)) / 2 - E), where E is the expectation of I
    /// over random labellings with the same sizes. About 0 for random clusters, 1 at best.
    ///
    /// One class in one cluster: 1. One class or one cluster otherwise: 0. Where the expectation equals the
    /// maximum (every sample its own class and its own cluster) the match is perfect: 1.
    pub fn ami(&self) -> f64 {
        if self.is_undivided() {
            return 1.0;
        }
        if self.classes().len() == 1 || self.clusters().len() == 1 {
            return 0.0;
        }
        let expected = self.expected_mutual_information();
        // Rounding may leave a zero with either sign; scikit-learn pushes both away from zero the same way.
        let away = |x: f64| {
            if x < 0.0 {
                x.min(-f64::EPSILON)
            } else {
                x.max(f64::EPSILON)
            }
        };
        let above_chance = away(self.mutual_information() - expected);
        let possible = away(self.mean_entropy() - expected);
        (above_chance / possible).min(1.0)
    }

    /// The expectation E of [`Self::mutual_information`] under the hypergeometric model of randomness:
    /// E = sum_ij sum_k P(k; n, a_i, b_j) k/n ln(n k / (a_i b_j)), where P is the probability that a random
    /// labelling puts k samples of class i into cluster j (Vinh et al. 2010, equation 24).
    ///
    /// Exact up to rounding. The sum over (i, j) runs over distinct sizes, of which there are O(sqrt(n)).
    pub fn expected_mutual_information(&self) -> f64 {
        let clusters = multiplicities(self.cluster_sizes());
        let mut total = 0.0;
        for (&a, &times_a) in &multiplicities(self.class_sizes()) {
            for (&b, &times_b) in &clusters {
                total += (times_a * times_b) as f64 * expected_term(self.samples(), a, b);
            }
        }
        total
    }

    fn mean_entropy(&self) -> f64 {
        0.5 * (self.class_entropy() + self.cluster_entropy())
    }

    fn is_undivided(&self) -> bool {
        self.classes().len() == 1 && self.clusters().len() == 1
    }
}

fn entropy(sizes: &[u64], n: u64) -> f64 {
    let n = n as f64;
    let sum: f64 = sizes
        .iter()
        .map(|&size| size as f64 / n * (n / size as f64).ln())
        .sum();
    sum.max(0.0)
}

fn multiplicities(sizes: &[u64]) -> BTreeMap<u64, u64> {
    let mut counts = BTreeMap::new();
    for &size in sizes {
        *counts.entry(size).or_insert(0) += 1;
    }
    counts
}

/// E[k/n ln(n k / (a b))] for k hypergeometric: `b` draws without replacement from `n`, of which `a` count.
///
/// Probabilities come from the ratio of neighbours, P(k+1)/P(k) = (a-k)(b-k) / ((k+1)(n-a-b+k+1)), walked
/// outwards from the mode and normalised at the end. Unlike differences of log-gamma values, which lose
/// digits as n grows, every step is accurate to a few units in the last place.
fn expected_term(n: u64, a: u64, b: u64) -> f64 {
    let lowest = (a + b).saturating_sub(n);
    let highest = a.min(b);
    // The mode; u128 because a and b may both be near 2^30 and callers may grow.
    let mode = ((a as u128 + 1) * (b as u128 + 1) / (n as u128 + 2)) as u64;
    let mode = mode.clamp(lowest, highest);
    let (nf, af, bf) = (n as f64, a as f64, b as f64);
    let value = |k: u64| {
        if k == 0 {
            0.0
        } else {
            let k = k as f64;
            k / nf * (nf * k / (af * bf)).ln()
        }
    };
    // P(k+1)/P(k). The last factor is n - a - b + k + 1, at least 1 because k >= a + b - n.
    let ratio =
        |k: u64| (a - k) as f64 * (b - k) as f64 / ((k + 1) as f64 * (n + k + 1 - a - b) as f64);

    let mut mass = 1.0;
    let mut sum = value(mode);
    let mut p = 1.0;
    for k in mode..highest {
        p *= ratio(k);
        if p < NEGLIGIBLE {
            break;
        }
        mass += p;
        sum += p * value(k + 1);
    }
    p = 1.0;
    for k in (lowest..mode).rev() {
        p /= ratio(k);
        if p < NEGLIGIBLE {
            break;
        }
        mass += p;
        sum += p * value(k);
    }
    sum / mass
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All labellings of six samples with sizes 3, 2, 1 against classes of sizes 4, 2: the expectation by enumeration.
    #[test]
    fn expectation_equals_enumeration() {
        let targets = [0u8, 0, 0, 0, 1, 1];
        let sizes = [3u8, 2, 1];
        let (mut sum, mut count) = (0.0, 0.0);
        for code in 0..3u32.pow(6) {
            let labels: Vec<u8> = (0..6).map(|i| (code / 3u32.pow(i) % 3) as u8).collect();
            let right_sizes = (0..3u8).all(|c| {
                labels.iter().filter(|&&label| label == c).count() == usize::from(sizes[c as usize])
            });
            if right_sizes {
                let table = Contingency::new(&targets, &labels).expect("counts");
                sum += table.mutual_information();
                count += 1.0;
            }
        }
        assert_eq!(count, 60.0);
        let table = Contingency::new(&targets, &[0u8, 0, 0, 1, 1, 2]).expect("counts");
        let difference = table.expected_mutual_information() - sum / count;
        assert!(difference.abs() < 1e-15, "{difference:e}");
    }

    #[test]
    fn singletons_against_singletons_match_perfectly() {
        let ids: Vec<u32> = (0..50).collect();
        let table = Contingency::new(&ids, &ids).expect("counts");
        assert_eq!(table.ami(), 1.0);
        assert_eq!(table.nmi(), 1.0);
    }
}
