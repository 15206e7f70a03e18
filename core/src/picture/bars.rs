//! Bars side by side: several measures of several things.

use super::figure::{Anchor, Figure};
use super::{FAINT, GRID, INK, PAPER, colour};
use crate::{Error, Result};

/// Measures between 0 and 1 of several things, a group of horizontal bars for each thing.
#[derive(Debug, Clone, PartialEq)]
pub struct BarChart {
    /// What is compared.
    pub title: String,
    /// Names of the measures.
    pub measures: Vec<String>,
    /// The things.
    pub groups: Vec<BarGroup>,
}

/// One thing.
#[derive(Debug, Clone, PartialEq)]
pub struct BarGroup {
    /// What it is; a long name is cut at its front, for names of runs differ at their end.
    pub name: String,
    /// A value per measure, drawn up to 1, and the standard deviation where it is known.
    pub bars: Vec<(f64, Option<f64>)>,
}

const LETTERS: usize = 2;
const LINE: usize = 22;
/// Length of a bar of value 1.
const WIDE: usize = 640;
/// Thickness of a bar.
const BAR: usize = 14;
/// Between groups.
const GAP: usize = 14;
/// Longest name of a group, in characters.
const NAME: usize = 32;

impl BarChart {
    /// The chart as a figure.
    ///
    /// # Errors
    /// [`Error::Invalid`] if a group has another number of bars than there are measures, a value is not a number, or
    /// there are more groups than a picture can hold.
    pub fn figure(&self) -> Result<Figure> {
        for group in &self.groups {
            let well = group.bars.iter().all(|(value, _)| value.is_finite());
            if group.bars.len() != self.measures.len() || !well {
                return Err(Error::Invalid(format!(
                    "the bars of {} are not a number for each of {} measures",
                    group.name,
                    self.measures.len()
                )));
            }
        }
        let names: Vec<String> = self
            .groups
            .iter()
            .map(|group| ending(&group.name))
            .collect();
        let widths = names.iter().map(|name| Figure::text_width(name, LETTERS));
        let left = LINE + widths.max().unwrap_or(0);
        let legend = self.measures.len().max(1) * LINE;
        let top = 2 * LINE + legend;
        let step = self.measures.len() * BAR + GAP;
        let high = self.groups.len().saturating_mul(step);
        // Values stand behind the bars.
        let value = Figure::text_width("0.0000 +- 0.0000", 1) + LINE;
        let title = Figure::text_width(&self.title, LETTERS) + LINE;
        let width = (left + WIDE + value).max(title);
        let mut figure = Figure::new(width, top + high + 2 * LINE, PAPER)?;
        let start = (LINE / 2, LINE / 2);
        figure.text(start, Anchor::Start, LETTERS, INK, self.title.as_str());
        for (place, name) in self.measures.iter().enumerate() {
            let y = LINE * (place + 1) + LINE / 2;
            figure.fill(left, y + 2, BAR, BAR, colour(place, self.measures.len()));
            let at = (left + BAR + 8, y);
            figure.text(at, Anchor::Start, LETTERS, FAINT, name.as_str());
        }
        for tenth in (0..=10usize).step_by(2) {
            let x = left + WIDE * tenth / 10;
            figure.fill(x, top, 1, high, GRID);
            let text = format!("{:.1}", tenth as f64 / 10.0);
            figure.text((x, top + high + 6), Anchor::Middle, LETTERS, FAINT, text);
        }
        for (place, (group, name)) in self.groups.iter().zip(&names).enumerate() {
            let y = top + place * step + GAP / 2;
            let middle = y + (self.measures.len() * BAR).saturating_sub(18) / 2;
            figure.text((left - 8, middle), Anchor::End, LETTERS, INK, name.as_str());
            for (place, &bar) in group.bars.iter().enumerate() {
                let colour = colour(place, self.measures.len());
                draw(&mut figure, (left, y + place * BAR), bar, colour);
            }
        }
        Ok(figure)
    }
}

/// A bar, a whisker of one deviation to either side, and the value in figures.
fn draw(
    figure: &mut Figure,
    (x, y): (usize, usize),
    (value, deviation): (f64, Option<f64>),
    colour: [u8; 3],
) {
    let length = |value: f64| (value.clamp(0.0, 1.0) * WIDE as f64).round() as usize;
    figure.fill(x, y, length(value), BAR - 2, colour);
    let mut end = length(value);
    let mut text = format!("{value:.4}");
    if let Some(deviation) = deviation {
        let (low, high) = (length(value - deviation), length(value + deviation));
        figure.fill(x + low, y + BAR / 2 - 2, (high - low).max(1), 2, INK);
        text.push_str(&format!(" +- {deviation:.4}"));
        end = end.max(high);
    }
    let at = (x + end + 6, y + 2);
    figure.text(at, Anchor::Start, 1, FAINT, text);
}

/// The end of a long name.
fn ending(name: &str) -> String {
    let length = name.chars().count();
    if length <= NAME {
        return name.to_owned();
    }
    let end: String = name.chars().skip(length - (NAME - 2)).collect();
    format!("..{end}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(name: &str, bars: &[(f64, Option<f64>)]) -> BarGroup {
        BarGroup {
            name: name.into(),
            bars: bars.to_vec(),
        }
    }

    fn chart(groups: Vec<BarGroup>) -> BarChart {
        BarChart {
            title: "two things".into(),
            measures: vec!["NMI".into(), "accuracy".into()],
            groups,
        }
    }

    #[test]
    fn bars_are_as_long_as_their_values() {
        let half = group("half", &[(0.5, None), (0.25, Some(0.05))]);
        let figure = chart(vec![half, group("whole", &[(1.0, None), (-0.1, None)])]);
        let figure = figure.figure().expect("draws");
        let image = figure.pixels().expect("draws");
        let count = |wanted: [u8; 3]| {
            let pixels = image.data().chunks_exact(3);
            pixels.filter(|pixel| **pixel == wanted).count()
        };
        // The legend's square, and 12 rows of each bar.
        assert_eq!(count(colour(0, 2)), BAR * BAR + 12 * (320 + 640));
        // Less the half of the whisker that lies on the bar, two rows of a twentieth; a value below 0 has no bar.
        assert_eq!(count(colour(1, 2)), BAR * BAR + 12 * 160 - 2 * 32);
        let svg = figure.svg();
        assert!(svg.contains("0.2500 +- 0.0500") && svg.contains(">-0.1000<"));
    }

    #[test]
    fn bars_without_a_measure_are_refused() {
        let one = chart(vec![group("one", &[(0.5, None)])]);
        let told = one.figure().expect_err("refused").to_string();
        assert!(told.contains("the bars of one"), "{told}");
        let nan = chart(vec![group("nan", &[(0.5, None), (f64::NAN, None)])]);
        assert!(nan.figure().is_err());
        assert!(chart(Vec::new()).figure().is_ok());
    }

    #[test]
    fn of_long_names_the_end_is_shown() {
        assert_eq!(ending("runs/a"), "runs/a");
        let long = format!("{}seed-4", "é".repeat(40));
        assert!(ending(&long).ends_with("seed-4") && ending(&long).chars().count() == NAME);
    }
}
