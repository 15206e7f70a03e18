//! k-means and silhouettes against scikit-learn 1.9 on the same integer-hash data.

#![allow(clippy::unwrap_used)]

use selfcls_core::eval::kmeans::{Geometry, KMeansConfig};
use selfcls_core::metrics::Separation;
use selfcls_core::metrics::knn::UnitEmbeddings;

fn splitmix64(x: u64) -> u64 {
    let z = x.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

fn uniform(i: u64) -> f64 {
    (splitmix64(i) >> 40) as f64 / f64::from(1 << 24) - 0.5
}

const WIDTH: usize = 5;
const CLOUDS: u64 = 6;

/// 600 points in six overlapping cubes of side 1, `[600, 5]`, and the number of each one's cube.
fn clouds() -> (Vec<f32>, Vec<u64>) {
    let width = WIDTH as u64;
    let rows = (0..600u64).flat_map(|i| {
        (0..width).map(move |j| {
            let centre = 1.5 * uniform(1_000_000 + i % CLOUDS * width + j);
            (centre + uniform(i * width + j)) as f32
        })
    });
    (rows.collect(), (0..600).map(|i| i % CLOUDS).collect())
}

fn inertia(config: KMeansConfig) -> f64 {
    let (rows, _) = clouds();
    let config = KMeansConfig {
        restarts: 60,
        tolerance: 0.0,
        ..config
    };
    config.fit(&rows, WIDTH, &mut |_| ()).unwrap().inertia
}

/// The reference is the best of 200 starts of scikit-learn's KMeans, or of 300 of a plain spherical k-means.
#[track_caller]
fn assert_no_worse(ours: f64, reference: f64) {
    assert!(
        ours < reference * (1.0 + 1e-5),
        "{ours} instead of {reference}"
    );
    // Nor can it be better than what is in all likelihood the optimum.
    assert!(
        ours > reference * (1.0 - 1e-3),
        "{ours} instead of {reference}"
    );
}

#[test]
fn the_best_of_several_starts_is_scikit_learns() {
    for (clusters, reference) in [(6, 237.86324039004035), (9, 209.25190345785754)] {
        assert_no_worse(
            inertia(KMeansConfig {
                clusters,
                ..Default::default()
            }),
            reference,
        );
    }
}

#[test]
fn spherical_k_means_finds_the_same_cosines() {
    assert_no_worse(
        inertia(KMeansConfig {
            clusters: 6,
            geometry: Geometry::Spherical,
            ..Default::default()
        }),
        121.65875075059051,
    );
}

#[test]
fn mini_batches_come_close() {
    let found = inertia(KMeansConfig {
        clusters: 6,
        batch: 100,
        ..Default::default()
    });
    assert!(found < 237.86324039004035 * 1.03, "{found}");
}

#[test]
fn silhouettes_equal_scikit_learns_with_cosine_distances() {
    let (rows, labels) = clouds();
    let embeddings = UnitEmbeddings::new(rows, WIDTH).unwrap();
    let silhouette = Separation::new(&embeddings, &labels)
        .unwrap()
        .silhouette()
        .unwrap();
    assert!(
        (silhouette - 0.3435479867278684).abs() < 1e-6,
        "{silhouette}"
    );
}
