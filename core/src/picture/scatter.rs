//! Points in the plane, coloured by group.

use super::figure::{Anchor, Figure};
use super::palette::colour;
use super::{FAINT, INK, PAPER};
use crate::random::{Draw, Purpose, stream};
use crate::{Error, Result};

const SIDE: usize = 900;
const LETTERS: usize = 2;
const LINE: usize = 22;
/// Longest name in the legend, in characters.
const NAME: usize = 20;
/// Groups that a legend names; of more it says how many there are.
const NAMED: usize = 40;

/// A scatter plot of `points`. `groups` gives the group of each, `names` the groups' names; groups that do not occur are
/// not in the legend. Points are drawn in random order, so that no group lies over all others.
///
/// # Errors
/// [`Error::Invalid`] if there is not a group for each point, or a point is not finite.
pub fn scatter(
    title: &str,
    points: &[[f64; 2]],
    groups: &[usize],
    names: &[String],
) -> Result<Figure> {
    if points.len() != groups.len() {
        return Err(Error::Invalid(format!(
            "{} points and {} groups; one for each is needed",
            points.len(),
            groups.len()
        )));
    }
    if points.iter().flatten().any(|value| !value.is_finite()) {
        return Err(Error::Invalid("a point to be drawn is not finite".into()));
    }
    let mut present: Vec<usize> = groups.to_vec();
    present.sort_unstable();
    present.dedup();
    let named = present.len().min(NAMED);
    let legend = LINE * 3 + NAME * Figure::text_width("m", LETTERS);
    let top = 2 * LINE;
    let high = SIDE.max(LINE * (named + 2));
    let mut figure = Figure::new(SIDE + legend, top + high, PAPER)?;
    figure.text((LINE / 2, LINE / 2), Anchor::Start, LETTERS, INK, title);
    figure.fill(LINE / 2, top, SIDE - LINE, SIDE - LINE / 2, [255; 3]);

    // One scale for both axes: distances mean something, directions do not.
    let range = |axis: usize| {
        let values = points.iter().map(|point| point[axis]);
        values.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| {
            (low.min(value), high.max(value))
        })
    };
    let ranges = [range(0), range(1)];
    let extent = ranges
        .iter()
        .map(|(low, high)| high - low)
        .fold(0.0, f64::max);
    let scale = (SIDE - 3 * LINE) as f64 / if extent > 0.0 { extent } else { 1.0 };
    let place = |point: &[f64; 2], axis: usize| {
        let (low, high) = ranges[axis];
        (point[axis] - (low + high) / 2.0) * scale + SIDE as f64 / 2.0
    };
    let radius = (250.0 / (points.len().max(1) as f64).sqrt()).clamp(1.5, 6.0);
    let of = |group: usize| {
        // Invariant: every group is among those present.
        let index = present.binary_search(&group).unwrap_or_default();
        colour(index, present.len())
    };
    let mut order: Vec<usize> = (0..points.len()).collect();
    stream(0, Purpose::Evaluation, [0, 6, 0]).shuffle(&mut order);
    for index in order {
        let point = &points[index];
        // The second axis points upwards.
        let y = top as f64 + SIDE as f64 - place(point, 1) - LINE as f64 / 4.0;
        figure.dot(place(point, 0), y, radius, of(groups[index]));
    }
    for (row, &group) in present.iter().take(named).enumerate() {
        let y = top + row * LINE;
        figure.dot((SIDE + LINE / 2) as f64, (y + 9) as f64, 6.0, of(group));
        let name = names
            .get(group)
            .cloned()
            .unwrap_or_else(|| group.to_string());
        let name: String = name.chars().take(NAME).collect();
        figure.text((SIDE + LINE, y), Anchor::Start, LETTERS, FAINT, name);
    }
    if present.len() > named {
        let more = format!("and {} more", present.len() - named);
        figure.text(
            (SIDE + LINE, top + named * LINE),
            Anchor::Start,
            LETTERS,
            FAINT,
            more,
        );
    }
    Ok(figure)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_point_is_drawn_in_the_colour_of_its_group() {
        let points = [[0.0, 0.0], [1.0, 0.0], [0.0, 1.0], [1.0, 1.0]];
        let names = ["a", "b", "c"].map(String::from);
        let figure = scatter("a map", &points, &[0, 2, 2, 0], &names).expect("draws");
        let svg = figure.svg();
        // A dot for each point, and one for each of the two groups that occur.
        assert_eq!(svg.matches("<circle").count(), 6);
        assert_eq!(svg.matches("#0072b2").count(), 3);
        assert!(svg.contains(">c</text>") && !svg.contains(">b</text>"));
        figure.pixels().expect("pixels");
        let none = scatter("none", &[], &[], &names).expect("draws");
        none.pixels().expect("pixels");
        let one = scatter("one", &[[3.0, 4.0]], &[7], &names).expect("draws");
        assert!(one.svg().contains("cx=\"450.0\"") && one.svg().contains(">7</text>"));
    }

    #[test]
    fn impossible_points_are_refused_and_many_groups_counted() {
        assert!(scatter("", &[[0.0, 0.0]], &[], &[]).is_err());
        assert!(scatter("", &[[0.0, f64::NAN]], &[0], &[]).is_err());
        let points: Vec<[f64; 2]> = (0..100).map(|x| [f64::from(x), 0.0]).collect();
        let groups: Vec<usize> = (0..100).collect();
        let svg = scatter("", &points, &groups, &[]).expect("draws").svg();
        assert!(svg.contains("and 60 more"));
    }
}
