//! Figures of ours and of a peer, and what becomes of them.

use serde_json::{Value, json};

/// Which of two figures is the better one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Better {
    /// Rates.
    Higher,
    /// Times.
    Lower,
}

/// Figures taken in turn: ours, the peer's, ours, the peer's...
#[derive(Debug, Default, Clone)]
pub struct Turns {
    /// Ours.
    pub ours: Vec<f64>,
    /// The peer's; none where no peer was given.
    pub peer: Vec<f64>,
}

impl Turns {
    /// `case`, an object, with `ours` and `peer` (medians), their `ratio`, the smallest and largest ratio
    /// of a round (`ratio_range`), `units`, and which is `better`; null where nothing was measured.
    pub fn report(&self, mut case: Value, units: &str, better: Better) -> Value {
        let (ours, peer) = (median(&self.ours), median(&self.peer));
        let rounds = self.ours.iter().zip(&self.peer);
        let mut ratios: Vec<f64> = rounds.map(|(ours, peer)| ours / peer).collect();
        ratios.sort_by(f64::total_cmp);
        case["ours"] = json!(ours);
        case["peer"] = json!(peer);
        case["ratio"] = json!(ours.zip(peer).map(|(ours, peer)| ours / peer));
        case["ratio_range"] = json!(ratios.first().zip(ratios.last()));
        case["rounds"] = json!(self.ours.len());
        case["units"] = json!(units);
        case["better"] = json!(match better {
            Better::Higher => "higher",
            Better::Lower => "lower",
        });
        case
    }
}

/// The middle figure; of an even number the upper one of the two.
pub fn median(figures: &[f64]) -> Option<f64> {
    let mut sorted = figures.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied()
}

/// The sentence for a case, an object with the keys of [`Turns::report`] and its name under `case`; `cpu_ms_per_image` and
/// `peak_mib`, ours and the peer's, where they are known.
pub fn sentence(case: &Value) -> String {
    let text = |key: &str| match &case[key] {
        Value::String(text) => text.clone(),
        Value::Number(number) => format!("{:.3}", number.as_f64().unwrap_or(f64::NAN)),
        Value::Array(pair) => {
            let ends: Vec<String> = pair
                .iter()
                .filter_map(|end| end.as_f64().map(|x| format!("{x:.3}")))
                .collect();
            ends.join(" to ")
        }
        _ => "-".into(),
    };
    if case["not_available"].is_string() {
        return format!("{}: not available: {}", text("case"), text("not_available"));
    }
    let mut sentence = format!(
        "{}: ours {} {}, peer {}, ratio {} ({}; {} is better)",
        text("case"),
        text("ours"),
        text("units"),
        text("peer"),
        text("ratio"),
        text("ratio_range"),
        text("better"),
    );
    for (key, what) in [
        ("cpu_ms_per_image", "ms of processor time per image"),
        ("peak_mib", "MiB at most"),
    ] {
        if let Value::Array(sides) = &case[key] {
            let side = |side: &Value| side.as_f64().map_or("-".into(), |x| format!("{x:.1}"));
            let sides: Vec<String> = sides.iter().map(side).collect();
            sentence += &format!("; {what} {}", sides.join(" and "));
        }
    }
    sentence
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_and_ranges() {
        let turns = Turns {
            ours: vec![3.0, 1.0, 2.0],
            peer: vec![1.0, 1.0, 4.0],
        };
        let report = turns.report(json!({"case": "c"}), "images/s", Better::Higher);
        assert_eq!(
            [&report["ours"], &report["peer"], &report["ratio"]],
            [2.0, 1.0, 2.0]
        );
        assert_eq!(report["ratio_range"], json!([0.5, 3.0]));
        assert_eq!(
            sentence(&report),
            "c: ours 2.000 images/s, peer 1.000, ratio 2.000 (0.500 to 3.000; higher is better)"
        );
        let case =
            json!({"case": "c", "peak_mib": [100.0, 200.5], "cpu_ms_per_image": [3.0, null]});
        let report = turns.report(case, "images/s", Better::Higher);
        let said = sentence(&report);
        let more = "; ms of processor time per image 3.0 and -; MiB at most 100.0 and 200.5";
        assert!(said.ends_with(more), "{said}");
    }

    #[test]
    fn without_a_peer_there_is_no_ratio() {
        let turns = Turns {
            ours: vec![3.0],
            peer: vec![],
        };
        let report = turns.report(json!({}), "ms", Better::Lower);
        assert!(report["ratio"].is_null() && report["ratio_range"].is_null());
        assert_eq!(report["better"], "lower");
    }
}
