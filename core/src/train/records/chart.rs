//! Line charts as SVG.

use crate::{Error, Result};
use plotters::prelude::*;
use plotters::style::Color;

/// Curves over a common axis.
pub(super) struct Chart<'a> {
    /// What the vertical axis shows.
    pub(super) title: &'a str,
    /// What the horizontal axis shows.
    pub(super) x: &'a str,
    pub(super) curves: Vec<Curve<'a>>,
    /// A value to compare with, drawn as a level line.
    pub(super) level: Option<(&'a str, f64)>,
}

/// One curve.
pub(super) struct Curve<'a> {
    pub(super) name: &'a str,
    pub(super) colour: RGBColor,
    /// Points by rising x.
    pub(super) points: Vec<(f64, f64)>,
}

const SIZE: (u32, u32) = (760, 280);
/// More points than pixels only make a file slow to open.
const MOST_POINTS: usize = 1500;

impl Chart<'_> {
    /// The chart as an `<svg>` element.
    ///
    /// # Errors
    /// If the chart cannot be drawn.
    pub(super) fn svg(&self) -> Result<String> {
        let mut svg = String::new();
        self.draw(&mut svg)
            .map_err(|error| Error::Invalid(format!("cannot draw {}: {error}", self.title)))?;
        Ok(svg)
    }

    fn draw(&self, svg: &mut String) -> std::result::Result<(), Box<dyn std::error::Error>> {
        let area = SVGBackend::with_string(svg, SIZE).into_drawing_area();
        area.fill(&WHITE)?;
        let points = || self.curves.iter().flat_map(|curve| &curve.points);
        let (left, right) = range(points().map(|point| point.0));
        let levels = self.level.iter().map(|level| level.1);
        let (low, high) = range(points().map(|point| point.1).chain(levels));
        let margin = 0.05 * (high - low);
        let mut chart = ChartBuilder::on(&area)
            .caption(self.title, ("sans-serif", 15))
            .margin(8)
            .x_label_area_size(36)
            .y_label_area_size(60)
            .build_cartesian_2d(left..right, low - margin..high + margin)?;
        chart
            .configure_mesh()
            .light_line_style(WHITE)
            .bold_line_style(BLACK.mix(0.1))
            .axis_style(BLACK.mix(0.5))
            .x_desc(self.x)
            .y_label_formatter(&|value| short(*value))
            .draw()?;
        for curve in &self.curves {
            let colour = curve.colour;
            chart
                .draw_series(LineSeries::new(thinned(&curve.points), colour))?
                .label(curve.name)
                .legend(move |(x, y)| PathElement::new([(x, y), (x + 16, y)], colour));
        }
        if let Some((name, value)) = self.level {
            let line = [(left, value), (right, value)];
            chart
                .draw_series(DashedLineSeries::new(line, 6, 4, BLACK.mix(0.6).into()))?
                .label(name)
                .legend(|(x, y)| PathElement::new([(x, y), (x + 16, y)], BLACK.mix(0.6)));
        }
        chart
            .configure_series_labels()
            .background_style(WHITE.mix(0.8))
            .draw()?;
        area.present()?;
        Ok(())
    }
}

/// Smallest and largest value, apart even where all are equal or there are none.
fn range(values: impl Iterator<Item = f64>) -> (f64, f64) {
    let (low, high) = values.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| {
        (low.min(value), high.max(value))
    });
    if low > high {
        (0.0, 1.0)
    } else if low == high {
        let apart = if low == 0.0 { 1.0 } else { 0.1 * low.abs() };
        (low - apart, high + apart)
    } else {
        (low, high)
    }
}

/// At most [`MOST_POINTS`] points: the mean of each run of neighbours.
fn thinned(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    points
        .chunks(points.len().div_ceil(MOST_POINTS).max(1))
        .map(|run| {
            let sum = run.iter().fold((0.0, 0.0), |s, p| (s.0 + p.0, s.1 + p.1));
            (sum.0 / run.len() as f64, sum.1 / run.len() as f64)
        })
        .collect()
}

/// A number for an axis: short, and scientific where it is small.
fn short(value: f64) -> String {
    match value.abs() {
        0.0 => "0".into(),
        size if size < 0.01 => format!("{value:.1e}"),
        size if size < 10.0 => format!("{value:.2}"),
        _ => format!("{value:.0}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chart_of_anything_is_drawn() {
        let many = (0..5000).map(|x| (x as f64, (x as f64).sin())).collect();
        for points in [vec![], vec![(1.0, 2.0)], vec![(1.0, 2.0), (2.0, 2.0)], many] {
            let chart = Chart {
                title: "loss",
                x: "epoch",
                curves: vec![Curve {
                    name: "ours",
                    colour: BLUE,
                    points,
                }],
                level: Some(("collapse", 2.3)),
            };
            let svg = chart.svg().expect("drawn");
            assert!(svg.starts_with("<svg") && svg.contains("collapse"), "{svg}");
            assert!(svg.len() < 100_000);
        }
    }

    #[test]
    fn points_are_thinned_to_means() {
        let points: Vec<_> = (0..3000).map(|x| (f64::from(x), 1.0)).collect();
        let thin = thinned(&points);
        assert_eq!(thin.len(), MOST_POINTS);
        assert_eq!(thin[0], (0.5, 1.0));
        assert_eq!(thinned(&points[..3]), points[..3]);
    }
}
