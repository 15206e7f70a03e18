//! The distribution of random views against torchvision's.
#![allow(clippy::unwrap_used)]

use selfcls_core::config::{Config, ViewsConfig};
use selfcls_core::pixels::Rgb8;
use selfcls_core::random::{Purpose, stream};
use selfcls_core::views::{ColourOp, CropBox, Recipe};

const QUANTILES: [f64; 7] = [0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99];
const DRAWS: u64 = 20_000;

/// 5000 draws of torchvision 0.24's `RandomResizedCrop.get_params`: image, scale, quantiles of area and of
/// ratio.
#[expect(clippy::type_complexity, reason = "one table, read in one place")]
const TORCHVISION: [((usize, usize), [f64; 2], [f64; 7], [f64; 7]); 4] = [
    (
        (500, 375),
        [0.4, 1.0],
        [
            0.40314, 0.41737, 0.49270, 0.58195, 0.69859, 0.86713, 0.94012,
        ],
        [
            0.75926, 0.79733, 0.94245, 1.09147, 1.21524, 1.31086, 1.32917,
        ],
    ),
    (
        (500, 375),
        [0.05, 0.4],
        [
            0.05386, 0.06679, 0.13499, 0.21943, 0.30838, 0.37920, 0.39514,
        ],
        [0.75439, 0.77419, 0.87044, 1.0, 1.15240, 1.29832, 1.32521],
    ),
    (
        (375, 500),
        [0.2, 1.0],
        [
            0.20645, 0.22963, 0.34145, 0.47633, 0.62561, 0.83124, 0.92386,
        ],
        [
            0.75254, 0.76761, 0.82949, 0.94236, 1.08740, 1.27746, 1.32114,
        ],
    ),
    (
        (32, 32),
        [0.4, 1.0],
        [
            0.40430, 0.42676, 0.51660, 0.65137, 0.76465, 0.90635, 0.96875,
        ],
        [0.75, 0.77778, 0.875, 1.0, 1.13636, 1.28571, 1.33333],
    ),
];

/// The largest distance between the quantiles of `values` and `expected`, in units of their 5-95 % range.
fn quantile_distance(mut values: Vec<f64>, expected: &[f64; 7]) -> f64 {
    values.sort_by(f64::total_cmp);
    let range = expected[5] - expected[1];
    let at = |q: f64| values[(q * (values.len() - 1) as f64).round() as usize];
    let distances = QUANTILES
        .iter()
        .zip(expected)
        .map(|(&q, e)| (at(q) - e).abs() / range);
    distances.fold(0.0, f64::max)
}

#[test]
fn crops_are_distributed_as_torchvisions() {
    for ((width, height), scale, areas, ratios) in TORCHVISION {
        let mut draw = stream(1, Purpose::View, [0; 3]);
        let boxes: Vec<_> = (0..DRAWS)
            .map(|_| CropBox::random((width, height), scale, [3.0 / 4.0, 4.0 / 3.0], &mut draw))
            .collect();
        let total = (width * height) as f64;
        let area = boxes
            .iter()
            .map(|b| (b.width * b.height) as f64 / total)
            .collect();
        let ratio = boxes
            .iter()
            .map(|b| b.width as f64 / b.height as f64)
            .collect();
        let (area, ratio) = (
            quantile_distance(area, &areas),
            quantile_distance(ratio, &ratios),
        );
        assert!(
            area < 0.03 && ratio < 0.03,
            "{width} x {height} {scale:?}: {area} {ratio}"
        );
        let offsets = boxes.iter().filter(|b| b.height < height);
        let centre: Vec<_> = offsets
            .map(|b| b.top as f64 / (height - b.height) as f64)
            .collect();
        let mean = centre.iter().sum::<f64>() / centre.len() as f64;
        assert!((mean - 0.5).abs() < 0.015, "mean position {mean}");
    }
}

#[test]
fn choices_have_their_probabilities() {
    let recipe = Recipe::new(&ViewsConfig::default());
    let share = |view: usize, chosen: &dyn Fn(&selfcls_core::views::Plan) -> bool| {
        let plans = (0..DRAWS).filter(|&sample| {
            let mut draw = stream(3, Purpose::View, [0, sample, view as u64]);
            chosen(&recipe.plan((90, 60), view, &mut draw))
        });
        plans.count() as f64 / DRAWS as f64
    };
    let close = |share: f64, p: f64| assert!((share - p).abs() < 0.012, "{share} instead of {p}");
    close(share(0, &|p| p.flip), 0.5);
    close(share(0, &|p| p.jitter.is_some()), 0.8);
    close(share(0, &|p| p.grey), 0.2);
    for (view, blur, solarise) in [(0, 0.1, 0.0), (1, 1.0, 0.2), (2, 0.5, 0.0), (7, 0.5, 0.0)] {
        close(share(view, &|p| p.blur.is_some()), blur);
        close(share(view, &|p| p.solarise), solarise);
    }
    // Each operation comes first equally often, with a factor uniform around 1.
    let first =
        |wanted: fn(&ColourOp) -> bool| share(0, &|p| p.jitter.is_some_and(|ops| wanted(&ops[0])));
    close(first(|op| matches!(op, ColourOp::Hue(_))), 0.2);
    close(first(|op| matches!(op, ColourOp::Brightness(_))), 0.2);
    close(
        first(|op| matches!(op, ColourOp::Contrast(x) if *x < 1.0)),
        0.1,
    );
    close(
        first(|op| matches!(op, ColourOp::Saturation(x) if *x < 0.9)),
        0.05,
    );
    close(share(1, &|p| p.blur.is_some_and(|x| x < 0.575)), 0.25);
}

/// A picture with a colour gradient in every direction, and edges.
fn test_card(width: usize, height: usize) -> Rgb8 {
    let pixel = |i: usize| {
        let (x, y) = (i % width, i / width);
        let edge = if (x / 7 + y / 5) % 2 == 0 { 0 } else { 60 };
        [
            x * 195 / width + edge,
            y * 195 / height + edge,
            (x + y) * 97 / (width + height),
        ]
    };
    let data = (0..width * height)
        .flat_map(pixel)
        .map(|v| v as u8)
        .collect();
    Rgb8::new(width, height, data).unwrap()
}

#[test]
fn a_view_depends_on_its_key_alone() {
    let config = ViewsConfig {
        global_size: 24,
        local_size: 16,
        ..ViewsConfig::default()
    };
    let recipe = Recipe::new(&config);
    assert_eq!(
        (
            recipe.count(),
            recipe.global_count(),
            recipe.size(1),
            recipe.size(2)
        ),
        (8, 2, 24, 16)
    );
    let (small, large) = (test_card(40, 30), test_card(90, 120));
    let make = |image, epoch, sample, view| {
        let mut out = vec![f32::NAN; recipe.view_len(view)];
        recipe.make(image, 5, epoch, sample, view, &mut out);
        assert!(out.iter().all(|x| x.is_finite()));
        out
    };
    let base = make(&small, 1, 2, 3);
    // Buffers are reused: what was made before must not show.
    make(&large, 9, 9, 0);
    assert_eq!(base, make(&small, 1, 2, 3));
    let elsewhere = std::thread::scope(|s| s.spawn(|| make(&small, 1, 2, 3)).join().unwrap());
    assert_eq!(base, elsewhere);
    for other in [
        make(&small, 2, 2, 3),
        make(&small, 1, 3, 3),
        make(&small, 1, 2, 4),
    ] {
        assert_ne!(base, other);
    }
}

#[test]
fn all_views_at_once_are_the_views_one_by_one() {
    let recipe = Recipe::new(&ViewsConfig {
        global_size: 40,
        local_size: 21,
        ..ViewsConfig::default()
    });
    // Flat, tall (which resizes some views by height first), smaller than a view, and a single line.
    for (width, height) in [(150, 70), (90, 160), (33, 31), (700, 1), (1, 90)] {
        let image = test_card(width, height);
        for sample in 0..10 {
            let mut all: Vec<Vec<f32>> = (0..recipe.count())
                .map(|view| vec![f32::NAN; recipe.view_len(view)])
                .collect();
            let mut outs: Vec<&mut [f32]> = all.iter_mut().map(Vec::as_mut_slice).collect();
            recipe.make_all(&image, 5, 1, sample, &mut outs);
            for (view, made) in all.iter().enumerate() {
                let mut alone = vec![f32::NAN; recipe.view_len(view)];
                recipe.make(&image, 5, 1, sample, view, &mut alone);
                assert!(
                    *made == alone,
                    "{width} x {height}, sample {sample}, view {view}"
                );
            }
        }
    }
}

#[test]
fn images_of_any_size_make_views() {
    let mut config = Config::default();
    config.views.global_size = 9;
    config.views.local_size = 8;
    config.validate().unwrap();
    let recipe = Recipe::new(&config.views);
    for (width, height) in [(1, 1), (1, 50), (50, 1), (2, 3), (33, 31), (700, 5)] {
        let image = test_card(width, height);
        for sample in 0..20 {
            for view in 0..recipe.count() {
                let mut out = vec![f32::NAN; recipe.view_len(view)];
                recipe.make(&image, 0, 0, sample, view, &mut out);
                assert!(out.iter().all(|x| x.abs() < 3.0), "{width} x {height}");
            }
        }
    }
}
