//! Line charts: curves over a common axis.

use super::figure::{Anchor, Figure};
use super::{FAINT, GRID, INK, PAPER};
use crate::Result;

/// Curves over a common axis.
#[derive(Debug, Clone, PartialEq)]
pub struct LineChart {
    /// What the vertical axis shows.
    pub title: String,
    /// What the horizontal axis shows.
    pub x: String,
    /// The curves; later ones over earlier ones.
    pub curves: Vec<Curve>,
    /// A value to compare with, drawn as a dashed line.
    pub level: Option<(String, f64)>,
}

/// One curve.
#[derive(Debug, Clone, PartialEq)]
pub struct Curve {
    /// What it is of.
    pub name: String,
    /// Its colour.
    pub colour: [u8; 3],
    /// Points by rising x.
    pub points: Vec<(f64, f64)>,
}

const WIDTH: usize = 1140;
/// Height of the area of the curves.
const HIGH: usize = 300;
const LETTERS: usize = 2;
const LINE: usize = 22;
/// Length of a curve's sample in the legend.
const SAMPLE: usize = 28;
/// More points than pixels only make a file slow to open.
const MOST_POINTS: usize = 1500;

impl LineChart {
    /// The chart as a figure of fixed width; names of many curves take more rows.
    ///
    /// # Errors
    /// None for fewer than a hundred thousand curves.
    pub fn figure(&self) -> Result<Figure> {
        let points = || self.curves.iter().flat_map(|curve| &curve.points);
        let levels = self.level.iter().map(|level| level.1);
        let (left, right) = range(points().map(|point| point.0));
        let (low, high) = range(points().map(|point| point.1).chain(levels));
        let margin = 0.05 * (high - low);
        let (low, high) = (low - margin, high + margin);

        let ticks = ticks(low, high);
        let widest = ticks
            .iter()
            .map(|&tick| Figure::text_width(&short(tick), LETTERS));
        let x0 = LINE + widest.max().unwrap_or(0);
        let wide = WIDTH - x0 - LINE;
        let legend = self.legend(wide);
        let rows = legend.last().map_or(0, |&(_, row, _)| row + 1);
        let y0 = LINE / 2 + LINE * (1 + rows) + LINE / 2;
        let mut figure = Figure::new(WIDTH, y0 + HIGH + 3 * LINE, PAPER)?;
        figure.text(
            (LINE / 2, LINE / 2),
            Anchor::Start,
            LETTERS,
            INK,
            self.title.as_str(),
        );

        let x_of = |x: f64| x0 as f64 + (x - left) / (right - left) * wide as f64;
        let y_of = |y: f64| (y0 + HIGH) as f64 - (y - low) / (high - low) * HIGH as f64;
        for &tick in &ticks {
            let y = y_of(tick).round() as usize;
            figure.fill(x0, y, wide, 1, GRID);
            let at = (x0 - LINE / 2, y.saturating_sub(8));
            figure.text(at, Anchor::End, LETTERS, FAINT, short(tick));
        }
        figure.fill(x0, y0 + HIGH, wide, 1, FAINT);
        for tick in self::ticks(left, right) {
            let x = x_of(tick).round() as usize;
            figure.fill(x, y0 + HIGH, 1, 5, FAINT);
            let at = (x, y0 + HIGH + 8);
            figure.text(at, Anchor::Middle, LETTERS, FAINT, short(tick));
        }
        let at = (x0 + wide / 2, y0 + HIGH + 8 + LINE);
        figure.text(at, Anchor::Middle, LETTERS, FAINT, self.x.as_str());

        for curve in &self.curves {
            let points = thinned(&curve.points);
            let places: Vec<(f64, f64)> = points.iter().map(|&(x, y)| (x_of(x), y_of(y))).collect();
            // A single point is no line.
            if let [(x, y)] = places[..] {
                figure.dot(x, y, 3.0, curve.colour);
            }
            figure.line(places, 2.0, curve.colour);
        }
        if let Some((_, value)) = &self.level {
            dashes(&mut figure, (x0, x0 + wide), y_of(*value));
        }
        for (place, row, x) in legend {
            let (x, y) = (x0 + x, LINE / 2 + LINE * (1 + row));
            let middle = (y + 8) as f64;
            let name = match self.curves.get(place) {
                Some(curve) => {
                    let ends = vec![(x as f64, middle), ((x + SAMPLE) as f64, middle)];
                    figure.line(ends, 4.0, curve.colour);
                    curve.name.as_str()
                }
                None => {
                    dashes(&mut figure, (x, x + SAMPLE), middle);
                    self.level.as_ref().map_or("", |level| level.0.as_str())
                }
            };
            figure.text((x + SAMPLE + 8, y), Anchor::Start, LETTERS, FAINT, name);
        }
        Ok(figure)
    }

    /// Number, row and place in the row of each name; the level's number follows the curves'.
    fn legend(&self, wide: usize) -> Vec<(usize, usize, usize)> {
        let names = self.curves.iter().map(|curve| &curve.name);
        let names = names.chain(self.level.iter().map(|level| &level.0));
        let (mut row, mut x) = (0, 0);
        let mut places = Vec::new();
        for (number, name) in names.enumerate() {
            let width = SAMPLE + 8 + Figure::text_width(name, LETTERS) + LINE;
            if x > 0 && x + width > wide {
                (row, x) = (row + 1, 0);
            }
            places.push((number, row, x));
            x += width;
        }
        places
    }
}

fn dashes(figure: &mut Figure, (from, to): (usize, usize), y: f64) {
    let y = y.round() as usize;
    for x in (from..to).step_by(12) {
        figure.fill(x, y, 7.min(to - x), 2, FAINT);
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

/// Round numbers from `low` to `high`, four to nine of them.
fn ticks(low: f64, high: f64) -> Vec<f64> {
    let rough = (high - low) / 5.0;
    let power = 10f64.powf(rough.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0]
        .map(|factor| factor * power)
        .into_iter()
        .find(|&step| step >= rough * 0.999)
        .unwrap_or(rough);
    let (first, last) = ((low / step).ceil() as i64, (high / step).floor() as i64);
    (first..=last).map(|n| n as f64 * step).collect()
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

/// A number for an axis: no digits that say nothing, scientific where it is small or large.
fn short(value: f64) -> String {
    // Multiples of a step come with the rounding of the product.
    if value.abs() < 1e-12 {
        return "0".into();
    }
    if value.abs() < 1e-3 || value.abs() >= 1e6 {
        return format!("{value:.1e}");
    }
    let text = format!("{value:.4}");
    text.trim_end_matches('0').trim_end_matches('.').to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chart(points: Vec<(f64, f64)>) -> LineChart {
        LineChart {
            title: "loss".into(),
            x: "epoch".into(),
            curves: vec![Curve {
                name: "ours".into(),
                colour: [0, 0, 255],
                points,
            }],
            level: Some(("collapse".into(), 2.3)),
        }
    }

    #[test]
    fn a_chart_of_anything_is_drawn() {
        let many = (0..5000).map(|x| (x as f64, (x as f64).sin())).collect();
        for points in [vec![], vec![(1.0, 2.0)], vec![(1.0, 2.0), (2.0, 2.0)], many] {
            let figure = chart(points).figure().expect("drawn");
            let svg = figure.svg();
            assert!(svg.contains("collapse") && svg.contains(">epoch<"), "{svg}");
            assert!(svg.len() < 100_000);
            figure.pixels().expect("pixels");
        }
    }

    #[test]
    fn curves_go_through_their_points() {
        // From the bottom left to the top right: 5 % of the height is left free below and above.
        let figure = chart(vec![(0.0, 0.0), (10.0, 2.3)])
            .figure()
            .expect("drawn");
        let image = figure.pixels().expect("pixels");
        let blue: Vec<(usize, usize)> = image
            .data()
            .chunks_exact(3)
            .enumerate()
            .filter(|(_, pixel)| **pixel == [0, 0, 255])
            .map(|(at, _)| (at % image.width(), at / image.width()))
            // Not the legend's.
            .filter(|&(_, y)| y > 3 * LINE)
            .collect();
        let (first, last) = (blue.iter().min(), blue.iter().max());
        let (&(x, y), &(to_x, to_y)) = first.zip(last).expect("a line");
        assert!(
            to_x - x > WIDTH - 200 && (260..290).contains(&(y - to_y)),
            "{first:?} {last:?}"
        );
    }

    #[test]
    fn ticks_are_round_and_cover_the_range() {
        assert_eq!(
            ticks(0.0, 1.0),
            [0.0, 0.2, 0.4, 0.6000000000000001, 0.8, 1.0]
        );
        assert_eq!(ticks(1.0, 15.0), [5.0, 10.0, 15.0]);
        for (low, high) in [(0.013, 0.0131), (-7.0, 123.0), (1e-9, 3e-9), (0.5, 99.5)] {
            let ticks = ticks(low, high);
            assert!((3..=10).contains(&ticks.len()), "{ticks:?}");
            // A multiple of the step may lie outside by its rounding.
            let slack = 1e-9 * (high - low);
            assert!(
                ticks
                    .iter()
                    .all(|tick| (low - slack..=high + slack).contains(tick))
            );
        }
        for (value, text) in [
            (0.6000000000000001, "0.6"),
            (1e-17, "0"),
            (-2.5, "-2.5"),
            (100.0, "100"),
            (0.00012, "1.2e-4"),
            (3e7, "3.0e7"),
        ] {
            assert_eq!(short(value), text);
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

    #[test]
    fn many_names_take_several_rows() {
        let mut chart = chart(vec![(0.0, 1.0), (1.0, 2.0)]);
        let one = chart.figure().expect("drawn").pixels().expect("pixels");
        chart.curves = vec![chart.curves[0].clone(); 60];
        let many = chart.figure().expect("drawn").pixels().expect("pixels");
        assert!(many.height() > one.height() + 4 * LINE);
    }
}
