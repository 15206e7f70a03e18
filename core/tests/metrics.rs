//! Cluster and nearest-neighbour measures against scikit-learn and the authors' evaluation.
//!
//! `fixtures/clusters.*` and `fixtures/knn.*` hold inputs and outputs of the authors' evaluation functions (official
//! Self-Classifier code with scikit-learn 1.9.1); the generated cases further down were computed with scikit-learn 1.9.1
//! and SciPy's assignment solver on the same integer-hash data.

#![allow(clippy::unwrap_used)]

use proptest::prelude::*;
use safetensors::SafeTensors;
use selfcls_core::metrics::knn::{Neighbours, UnitEmbeddings};
use selfcls_core::metrics::{ClusterReport, Contingency, Rule, SuperclassMap};
use serde::Deserialize;
use std::time::{Duration, Instant};

const TOLERANCE: f64 = 1e-12;

struct Fixture(Vec<u8>);

impl Fixture {
    fn read(name: &str) -> Self {
        let path = format!("{}/tests/fixtures/{name}", env!("CARGO_MANIFEST_DIR"));
        Self(std::fs::read(path).unwrap())
    }

    fn text(self) -> String {
        String::from_utf8(self.0).unwrap()
    }

    fn find<T>(&self, name: &str, decode: fn(&[u8]) -> T, width: usize) -> Option<Vec<T>> {
        let tensors = SafeTensors::deserialize(&self.0).unwrap();
        let tensor = tensors.tensor(name).ok()?;
        Some(tensor.data().chunks_exact(width).map(decode).collect())
    }

    fn labels(&self, name: &str) -> Option<Vec<u16>> {
        self.find(name, |b| u16::from_le_bytes(b.try_into().unwrap()), 2)
    }

    fn floats(&self, name: &str) -> Vec<f32> {
        self.find(name, |b| f32::from_le_bytes(b.try_into().unwrap()), 4)
            .unwrap()
    }
}

#[derive(Deserialize)]
struct ClusterCase {
    name: String,
    nmi: f64,
    ami: f64,
    ari: f64,
    correct: u64,
    samples: u64,
    classes: usize,
    clusters: usize,
}

#[track_caller]
fn assert_close(what: &str, ours: f64, reference: f64) {
    assert!(
        (ours - reference).abs() <= TOLERANCE,
        "{what}: {ours} instead of {reference}, off by {:e}",
        ours - reference
    );
}

#[test]
fn clusters_equal_the_authors_evaluation() {
    let cases: Vec<ClusterCase> =
        serde_json::from_str(&Fixture::read("clusters.json").text()).unwrap();
    let arrays = Fixture::read("clusters.safetensors");
    assert_eq!(cases.len(), 7);
    for case in cases {
        let name = &case.name;
        let targets = arrays.labels(&format!("{name}.targets")).unwrap();
        let predictions = arrays.labels(&format!("{name}.predictions")).unwrap();
        let superclasses = arrays.labels(&format!("{name}.superclass"));
        let map: Option<SuperclassMap> = superclasses
            .as_ref()
            .map(|of| (0..).zip(of.iter().map(|&id| u64::from(id))).collect());
        let report = match &map {
            Some(map) => ClusterReport::with_superclasses(&targets, &predictions, map),
            None => ClusterReport::new(&targets, &predictions),
        }
        .unwrap();
        assert_close(&format!("{name} nmi"), report.nmi, case.nmi);
        assert_close(&format!("{name} ami"), report.ami, case.ami);
        assert_close(&format!("{name} ari"), report.ari, case.ari);
        assert_eq!(
            report.acc,
            case.correct as f64 / case.samples as f64,
            "{name}"
        );
        assert_eq!(report.samples, case.samples, "{name}");
        assert_eq!(report.classes, case.classes, "{name}");
        assert_eq!(report.clusters, case.clusters, "{name}");

        // Their array holds superclasses where there are any.
        let reassigned: Vec<u64> = report
            .assigned
            .iter()
            .map(|cluster| match &superclasses {
                Some(of) => u64::from(of[cluster.class as usize]),
                None => cluster.class,
            })
            .collect();
        let theirs: Vec<u64> = arrays
            .labels(&format!("{name}.reassigned"))
            .unwrap()
            .into_iter()
            .map(u64::from)
            .collect();
        assert_eq!(reassigned, theirs, "{name}");
    }
}

fn splitmix64(x: u64) -> u64 {
    let z = x.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// `n` samples; `keep` per cent of each class lie in two clusters of its own, the others anywhere.
fn generated(n: u64, classes: u64, clusters: u64, keep: u64) -> (Vec<u64>, Vec<u64>) {
    (0..n)
        .map(|i| {
            let h = splitmix64(i);
            let class = h % classes;
            let r = splitmix64(h);
            let cluster = if (r >> 40) % 100 < keep {
                (class * 2 + (r >> 20) % 2) % clusters
            } else {
                (r >> 10) % clusters
            };
            (class, cluster)
        })
        .unzip()
}

#[test]
fn generated_cases_equal_scikit_learn() {
    // n, classes, clusters, keep, nmi, ami, ari, correct samples.
    for (n, classes, clusters, keep, nmi, ami, ari, correct) in [
        (
            3000,
            7,
            50,
            50,
            0.28591275738489996,
            0.27244147572678873,
            0.18833777476065885,
            1844,
        ),
        (
            200,
            5,
            100,
            30,
            0.3920546567535298,
            0.17921513073499823,
            0.08918805777345437,
            145,
        ),
        (1, 1, 1, 0, 1.0, 1.0, 1.0, 1),
        (40, 1, 1, 0, 1.0, 1.0, 1.0, 40),
        (60, 1, 7, 0, 0.0, 0.0, 0.0, 60),
        (60, 7, 1, 0, 0.0, 0.0, 0.0, 12),
    ] {
        let (targets, predictions) = generated(n, classes, clusters, keep);
        let report = ClusterReport::new(&targets, &predictions).unwrap();
        let case = format!("{n} samples, {classes} classes, {clusters} clusters");
        assert_close(&format!("{case}: nmi"), report.nmi, nmi);
        assert_close(&format!("{case}: ami"), report.ami, ami);
        assert_close(&format!("{case}: ari"), report.ari, ari);
        assert_eq!(report.acc, f64::from(correct) / n as f64, "{case}");
    }
}

#[test]
fn imagenet_sized_cases_are_exact_and_fast() {
    // scikit-learn's own AMI rests on log-gamma values near 5e5 and is good to some 1e-11 here.
    for (clusters, keep, nmi, ami, ari, correct) in [
        (
            2000,
            60,
            0.7328921388265234,
            0.45730551605459996,
            0.23890916357468614,
            29993,
        ),
        (
            1000,
            40,
            0.5701495917775109,
            0.23739278365846658,
            0.07978901263108962,
            11246,
        ),
    ] {
        let (targets, predictions) = generated(50_000, 1000, clusters, keep);
        let start = Instant::now();
        let report = ClusterReport::new(&targets, &predictions).unwrap();
        let elapsed = start.elapsed();
        assert_close("nmi", report.nmi, nmi);
        assert!((report.ami - ami).abs() < 1e-10, "{} {ami}", report.ami);
        assert_close("ari", report.ari, ari);
        assert_eq!(report.acc, f64::from(correct) / 50_000.0);
        // It takes well under a second; the rest is patience with busy machines.
        assert!(elapsed < Duration::from_secs(10), "{elapsed:?}");
    }
}

#[test]
fn leftover_clusters_take_their_majority_and_the_lowest_of_equals() {
    // Class 3: clusters 0 (3 samples), 1 (2) and half of 2; class 8: the other half of 2 and cluster 5.
    let targets = [3u8, 3, 3, 3, 3, 3, 8, 8, 8];
    let predictions = [0u8, 0, 0, 1, 1, 2, 2, 5, 5];
    let report = ClusterReport::new(&targets, &predictions).unwrap();
    let summary: Vec<(u64, u64, Rule)> = report
        .assigned
        .iter()
        .map(|a| (a.cluster, a.class, a.rule))
        .collect();
    assert_eq!(
        summary,
        [
            (0, 3, Rule::Matched),
            (1, 3, Rule::Majority),
            (2, 3, Rule::Majority),
            (5, 8, Rule::Matched),
        ]
    );
    assert_eq!(report.acc, 8.0 / 9.0);
    assert_eq!(report.assigned[3].size, 2);
}

#[test]
fn a_class_without_superclass_is_no_superclass() {
    // Class 7 has no superclass; classes 0 and 1 belong to a superclass that happens to be called 7.
    let map: SuperclassMap = [(0, 7), (1, 7)].into_iter().collect();
    let targets = [0u8, 0, 1, 7, 7, 7];
    let predictions = [0u8, 0, 0, 1, 1, 0];
    let report = ClusterReport::with_superclasses(&targets, &predictions, &map).unwrap();
    // Cluster 0 stands for class 0, so its sample of class 1 counts and that of class 7 does not.
    assert_eq!(report.acc, 5.0 / 6.0);
    let without = ClusterReport::new(&targets, &predictions).unwrap();
    assert_eq!(without.acc, 4.0 / 6.0);
    assert_eq!(without.nmi, report.nmi);
}

#[derive(Deserialize)]
struct KnnCase {
    k: usize,
    temperature: f64,
    top1: f64,
    /// Theirs, where the order of classes with equal votes is arbitrary.
    top5: f64,
    /// With every tie resolved against the target.
    top5_unfavourable: Option<f64>,
}

#[test]
fn nearest_neighbours_equal_the_authors_evaluation() {
    let arrays = Fixture::read("knn.safetensors");
    let cases: Vec<KnnCase> = serde_json::from_str(&Fixture::read("knn.json").text()).unwrap();
    let references = UnitEmbeddings::new(arrays.floats("references"), 16).unwrap();
    let queries = UnitEmbeddings::new(arrays.floats("queries"), 16).unwrap();
    let labels = arrays.labels("labels").unwrap();
    let targets = arrays.labels("targets").unwrap();
    let found = Neighbours::search(&queries, &references, 100).unwrap();
    assert_eq!(cases.len(), 10);
    for case in cases {
        let score = found
            .score(&labels, &targets, case.k, case.temperature)
            .unwrap();
        let name = format!("k = {}, T = {}", case.k, case.temperature);
        assert!(
            (score.top1 * 100.0 - case.top1).abs() < 1e-9,
            "{name}: {score:?}"
        );
        // From k = 10 on at least five classes have votes, and no tie matters.
        let top5 = match (case.k, case.top5_unfavourable) {
            (10.., _) => case.top5,
            (_, Some(unfavourable)) => unfavourable,
            (_, None) => continue,
        };
        assert!(
            (score.top5 * 100.0 - top5).abs() < 1e-9,
            "{name}: {score:?}"
        );
    }
}

fn labelling() -> impl Strategy<Value = (Vec<u8>, Vec<u8>)> {
    (1usize..60, 1u8..9, 1u8..12).prop_flat_map(|(n, classes, clusters)| {
        (
            prop::collection::vec(0..classes, n),
            prop::collection::vec(0..clusters, n),
        )
    })
}

/// Renumbers ids one to one, with gaps.
fn renumber(labels: &[u8], key: u64) -> Vec<u64> {
    labels
        .iter()
        .map(|&label| splitmix64(key ^ u64::from(label)))
        .collect()
}

proptest! {
    #[test]
    fn measures_stay_in_their_bounds((targets, predictions) in labelling()) {
        let report = ClusterReport::new(&targets, &predictions).unwrap();
        prop_assert!((0.0..=1.0).contains(&report.nmi));
        prop_assert!((-1.0..=1.0).contains(&report.ami));
        prop_assert!((-0.5..=1.0).contains(&report.ari));
        prop_assert!(report.acc > 0.0 && report.acc <= 1.0);
        prop_assert!(report.cluster_entropy <= (report.clusters as f64).ln() + TOLERANCE);
        let size: u64 = report.assigned.iter().map(|a| a.size).sum();
        prop_assert_eq!(size, report.samples);
        let matched = report.assigned.iter().filter(|a| a.rule == Rule::Matched).count();
        prop_assert_eq!(matched, report.classes.min(report.clusters));
    }

    #[test]
    fn names_and_order_of_samples_do_not_matter(
        (targets, predictions) in labelling(),
        keys in any::<(u64, u64)>(),
        turn in any::<prop::sample::Index>(),
    ) {
        let before = ClusterReport::new(&targets, &predictions).unwrap();
        let (mut t, mut p) = (renumber(&targets, keys.0), renumber(&predictions, keys.1));
        let places = turn.index(t.len());
        t.rotate_left(places);
        p.rotate_left(places);
        let after = ClusterReport::new(&t, &p).unwrap();
        for (a, b) in [
            (before.nmi, after.nmi),
            (before.ami, after.ami),
            (before.ari, after.ari),
            (before.acc, after.acc),
            (before.cluster_entropy, after.cluster_entropy),
        ] {
            prop_assert!((a - b).abs() <= TOLERANCE, "{a} {b}");
        }
    }

    #[test]
    fn nmi_ami_ari_are_symmetric((targets, predictions) in labelling()) {
        let one = Contingency::new(&targets, &predictions).unwrap();
        let other = Contingency::new(&predictions, &targets).unwrap();
        prop_assert!((one.nmi() - other.nmi()).abs() <= TOLERANCE);
        prop_assert!((one.ami() - other.ami()).abs() <= TOLERANCE);
        prop_assert!((one.ari() - other.ari()).abs() <= TOLERANCE);
    }

    #[test]
    fn a_renamed_partition_matches_perfectly((targets, _) in labelling(), key in any::<u64>()) {
        let report = ClusterReport::new(&targets, &renumber(&targets, key)).unwrap();
        prop_assert!((report.nmi - 1.0).abs() <= TOLERANCE);
        prop_assert!((report.ami - 1.0).abs() <= TOLERANCE);
        prop_assert_eq!((report.ari, report.acc), (1.0, 1.0));
    }
}
