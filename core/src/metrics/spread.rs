//! Results of several runs as one.

/// Mean and standard deviation of a measure over runs.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Spread {
    /// The mean.
    pub mean: f64,
    /// The standard deviation with n - 1 in the denominator, as for a sample of all possible seeds; none for a single run.
    pub deviation: Option<f64>,
    /// Number of runs.
    pub runs: usize,
}

impl Spread {
    /// Of `values`; none if there are none.
    pub fn new(values: &[f64]) -> Option<Self> {
        let runs = values.len();
        if runs == 0 {
            return None;
        }
        let mean = values.iter().sum::<f64>() / runs as f64;
        let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
        Some(Self {
            mean,
            deviation: (runs > 1).then(|| (squares / (runs - 1) as f64).sqrt()),
            runs,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::Spread;

    #[test]
    fn the_deviation_is_that_of_a_sample() {
        let spread = Spread::new(&[2.0, 4.0, 4.0, 4.0, 5.0, 5.0, 7.0, 9.0]).expect("eight");
        assert_eq!((spread.mean, spread.runs), (5.0, 8));
        assert!((spread.deviation.expect("several") - (32.0f64 / 7.0).sqrt()).abs() < 1e-15);
        assert_eq!(Spread::new(&[3.0]).expect("one").deviation, None);
        assert_eq!(Spread::new(&[]), None);
    }
}
