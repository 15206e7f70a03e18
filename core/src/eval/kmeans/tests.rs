use super::*;
use crate::metrics::ClusterReport;
use crate::random::{Draw, Purpose, stream};

/// `per` rows around each of `centres`, spread evenly over a cube of side 2 `noise`, with the number of their centre.
fn clouds(centres: &[[f32; 3]], per: usize, noise: f64) -> (Vec<f32>, Vec<usize>) {
    let mut random = stream(5, Purpose::Evaluation, [9; 3]);
    let (mut rows, mut labels) = (Vec::new(), Vec::new());
    for index in 0..centres.len() * per {
        let label = index % centres.len();
        rows.extend(centres[label].map(|x| x + random.uniform(-noise, noise) as f32));
        labels.push(label);
    }
    (rows, labels)
}

const CORNERS: [[f32; 3]; 4] = [
    [0.0, 0.0, 0.0],
    [8.0, 0.0, 0.0],
    [0.0, 8.0, 0.0],
    [0.0, 0.0, 8.0],
];

fn fit(config: KMeansConfig, rows: &[f32]) -> Fit {
    config.fit(rows, 3, &mut |_| ()).expect("fits")
}

#[test]
fn separate_clouds_are_found_exactly() {
    let (rows, labels) = clouds(&CORNERS, 60, 1.0);
    for batch in [0, 40] {
        let config = KMeansConfig {
            clusters: 4,
            batch,
            restarts: 3,
            ..Default::default()
        };
        let found = fit(config.clone(), &rows);
        let nearest = found.model.assign(&rows, 3).expect("assigns");
        let report = ClusterReport::new(&labels, &nearest).expect("compares");
        assert_eq!(report.acc, 1.0, "batch {batch}");
        assert!(found.converged && found.inertias.len() == 3);
        assert_eq!(
            found,
            fit(config, &rows),
            "the same seed gave another result"
        );
    }
}

#[test]
fn full_batches_end_in_a_fixed_point_with_the_inertia_of_the_definition() {
    let (rows, _) = clouds(&CORNERS, 50, 5.0);
    let found = fit(
        KMeansConfig {
            clusters: 5,
            tolerance: 0.0,
            restarts: 2,
            ..Default::default()
        },
        &rows,
    );
    assert!(found.converged);
    let nearest = found.model.assign(&rows, 3).expect("assigns");
    let mut inertia = 0.0;
    for cluster in 0..5 {
        let members: Vec<&[f32]> = rows
            .chunks_exact(3)
            .zip(&nearest)
            .filter_map(|(row, &of)| (of == cluster).then_some(row))
            .collect();
        assert!(!members.is_empty());
        for column in 0..3 {
            let mean = members
                .iter()
                .map(|row| f64::from(row[column]))
                .sum::<f64>()
                / members.len() as f64;
            let centre = f64::from(found.model.centres()[cluster * 3 + column]);
            assert!((mean - centre).abs() < 1e-5, "{mean} {centre}");
            inertia += members
                .iter()
                .map(|row| (f64::from(row[column]) - mean).powi(2))
                .sum::<f64>();
        }
    }
    assert!(
        (inertia / found.inertia - 1.0).abs() < 1e-5,
        "{inertia} {}",
        found.inertia
    );
    assert!(found.inertias.iter().all(|&other| other >= found.inertia));
}

#[test]
fn spherical_k_means_sees_directions_only() {
    let mut rows = Vec::new();
    let mut labels = Vec::new();
    for (label, direction) in [[1.0f32, 0.1, 0.0], [0.0, 1.0, 0.1]].iter().enumerate() {
        for length in 1..40 {
            let wobble = (length % 5) as f32 * 0.02;
            let row = [direction[0] + wobble, direction[1], direction[2] - wobble];
            rows.extend(row.map(|x| x * (length * length) as f32));
            labels.push(label);
        }
    }
    let of = |geometry| {
        let config = KMeansConfig {
            clusters: 2,
            geometry,
            ..Default::default()
        };
        let found = fit(config, &rows);
        let nearest = found.model.assign(&rows, 3).expect("assigns");
        (
            ClusterReport::new(&labels, &nearest).expect("compares").acc,
            found,
        )
    };
    let (right, found) = of(Geometry::Spherical);
    assert_eq!(right, 1.0);
    for centre in found.model.centres().chunks_exact(3) {
        assert!((centre.iter().map(|x| x * x).sum::<f32>() - 1.0).abs() < 1e-5);
    }
    // Sum of 1 - cos.
    let cosines: f64 = rows
        .chunks_exact(3)
        .map(|row| {
            let norm = row.iter().map(|x| x * x).sum::<f32>().sqrt();
            let products = found.model.centres().chunks_exact(3);
            let best = products
                .map(|centre| centre.iter().zip(row).map(|(a, b)| a * b).sum::<f32>() / norm);
            f64::from(1.0 - best.fold(f32::MIN, f32::max))
        })
        .sum();
    assert!(
        (cosines - found.inertia).abs() < 1e-4,
        "{cosines} {}",
        found.inertia
    );
    // Lengths matter to the other.
    assert!(of(Geometry::Euclidean).0 < 1.0);
}

#[test]
fn as_many_clusters_as_rows_and_equal_rows() {
    let (rows, _) = clouds(&CORNERS, 2, 1.0);
    let found = fit(
        KMeansConfig {
            clusters: 8,
            restarts: 1,
            ..Default::default()
        },
        &rows,
    );
    assert!(found.inertia < 1e-6);
    let mut nearest = found.model.assign(&rows, 3).expect("assigns");
    nearest.sort_unstable();
    nearest.dedup();
    assert_eq!(nearest.len(), 8);
    let equal = [1.0f32; 30];
    let found = fit(
        KMeansConfig {
            clusters: 4,
            ..Default::default()
        },
        &equal,
    );
    assert_eq!((found.inertia, found.model.clusters()), (0.0, 4));
}

#[test]
fn centres_are_read_back() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("centroids.safetensors");
    let (rows, _) = clouds(&CORNERS, 5, 1.0);
    for geometry in [Geometry::Euclidean, Geometry::Spherical] {
        let model = fit(
            KMeansConfig {
                clusters: 3,
                geometry,
                ..Default::default()
            },
            &rows,
        )
        .model;
        model.save(&path).expect("written");
        assert_eq!(KMeans::load(&path).expect("read"), model);
    }
    let mut bytes = std::fs::read(&path).expect("bytes");
    let place = bytes
        .windows(9)
        .position(|w| w == b"spherical")
        .expect("the geometry");
    bytes[place] = b'S';
    for bytes in [&bytes[..], &bytes[..20], b""] {
        std::fs::write(&path, bytes).expect("written");
        let error = KMeans::load(&path).expect_err("refused").to_string();
        assert!(
            error.contains("centroids.safetensors: no k-means centres"),
            "{error}"
        );
    }
}

#[test]
fn impossible_requests_are_refused() {
    let (rows, _) = clouds(&CORNERS, 1, 1.0);
    let refusal = |config: KMeansConfig, rows: &[f32]| {
        config
            .fit(rows, 3, &mut |_| ())
            .expect_err("refused")
            .to_string()
    };
    let with = |clusters| KMeansConfig {
        clusters,
        ..Default::default()
    };
    assert!(refusal(with(5), &rows).contains("5 clusters cannot be made of 4 samples"));
    assert!(refusal(with(0), &rows).contains("ask for 1 to 4"));
    assert!(refusal(with(2), &rows[..4]).contains("4 values do not make rows of 3"));
    assert!(refusal(with(1), &[0.0, f32::NAN, 0.0]).contains("sample 0 contain NaN"));
    assert!(
        refusal(
            KMeansConfig {
                restarts: 0,
                ..with(1)
            },
            &rows
        )
        .contains("at least one run")
    );
    assert!(
        refusal(
            KMeansConfig {
                tolerance: f64::NAN,
                ..with(1)
            },
            &rows
        )
        .contains("tolerance")
    );
    let model = fit(with(2), &rows).model;
    let error = model.assign(&rows, 6).expect_err("refused").to_string();
    assert!(
        error.contains("width 6 cannot be assigned to centres of width 3"),
        "{error}"
    );
}
