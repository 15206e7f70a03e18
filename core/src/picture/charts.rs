//! The charts of cluster evaluation.

use super::figure::{Anchor, Figure};
use super::{FAINT, GRID, INK, PAPER};
use crate::metrics::{Assigned, Contingency, Usage};
use crate::{Error, Result};
use std::collections::HashMap;

const BAR: [u8; 3] = [46, 99, 163];
const MARK: [u8; 3] = [196, 78, 42];

/// Size of the letters of labels.
const LETTERS: usize = 2;
const LINE: usize = 20;
/// Longest class name beside a row, in characters.
const NAME: usize = 16;

/// Most cells of a side that are drawn one by one; of more, neighbouring ones are added up.
const CELLS: usize = 400;

/// The confusion matrix as a figure: a row per cluster, a column per class, darker for a larger share of the cluster.
///
/// Clusters are sorted by the class they stand for (`assigned`, of [`Contingency::assign`]), so that a perfect clustering
/// is a dark diagonal. `names` are the classes' by id; up to 60 rows and columns are labelled. Beyond 400 classes or
/// clusters neighbouring ones share a cell, which shows their joint share.
///
/// # Errors
/// [`Error::Invalid`] if `assigned` is not of `table`.
pub fn confusion_matrix(
    table: &Contingency,
    assigned: &[Assigned],
    names: &[String],
) -> Result<Figure> {
    if assigned.len() != table.clusters().len() {
        return Err(Error::Invalid(format!(
            "{} clusters with a class and {} in the table",
            assigned.len(),
            table.clusters().len()
        )));
    }
    let class_place: HashMap<u64, usize> = table
        .classes()
        .iter()
        .enumerate()
        .map(|(place, &id)| (id, place))
        .collect();
    let mut order: Vec<usize> = (0..assigned.len()).collect();
    order.sort_by_key(|&row| (class_place.get(&assigned[row].class), assigned[row].cluster));
    let (rows, columns) = (order.len(), table.classes().len());
    let (rows_per, columns_per) = (rows.div_ceil(CELLS), columns.div_ceil(CELLS));
    let (high, wide) = (rows.div_ceil(rows_per), columns.div_ceil(columns_per));
    let side = (900 / high.max(wide)).clamp(2, 48);

    let named = rows <= 60 && columns <= 60 && side * 3 >= LINE;
    let name_of = |class: u64| -> String {
        let name = usize::try_from(class)
            .ok()
            .and_then(|class| names.get(class));
        name.map_or_else(
            || class.to_string(),
            |name| name.chars().take(NAME).collect(),
        )
    };
    let labels: Vec<String> = order
        .iter()
        .map(|&row| format!("{} {}", assigned[row].cluster, name_of(assigned[row].class)))
        .collect();
    let widest = if named {
        labels
            .iter()
            .map(|label| Figure::text_width(label, LETTERS))
            .max()
    } else {
        None
    };
    let left = 2 * LINE + widest.unwrap_or(0);
    let top = 3 * LINE;
    let legend = LINE * 3;
    // Column labels are numbers that the legend below explains by name.
    let keys = if named { columns * LINE + LINE } else { 0 };
    let width = (left + wide * side + LINE).max(36 * 6 * LETTERS);
    let mut figure = Figure::new(width, top + high * side + legend + keys, PAPER)?;
    figure.text(
        (LINE / 2, LINE / 2),
        Anchor::Start,
        LETTERS,
        INK,
        format!("{rows} clusters (rows), {columns} classes"),
    );
    figure.fill(left, top, wide * side, high * side, [255; 3]);
    let mut cells = vec![0u64; high * wide];
    let mut sizes = vec![0u64; high];
    for (row, &cluster) in order.iter().enumerate() {
        for cell in table.cluster_cells(cluster) {
            cells[row / rows_per * wide + cell.class / columns_per] += cell.count;
            sizes[row / rows_per] += cell.count;
        }
    }
    for (place, &count) in cells.iter().enumerate().filter(|&(_, &count)| count > 0) {
        let (row, column) = (place / wide, place % wide);
        let colour = shade(count as f64 / sizes[row] as f64);
        figure.fill(left + column * side, top + row * side, side, side, colour);
    }
    if named {
        let middle = (side.saturating_sub(LINE - 2)) / 2;
        for (row, label) in labels.iter().enumerate() {
            let at = (left - LINE / 2, top + row * side + middle);
            if side >= LINE || row % LINE.div_ceil(side) == 0 {
                figure.text(at, Anchor::End, LETTERS, FAINT, label.as_str());
            }
        }
        for (column, &class) in table.classes().iter().enumerate() {
            let number = column.to_string();
            if side >= LINE + 4 || column % (3 * LINE).div_ceil(2 * side) == 0 {
                let at = (left + column * side + side / 2, top - LINE);
                figure.text(at, Anchor::Middle, LETTERS, FAINT, number.as_str());
            }
            let at = (left, top + high * side + legend + column * LINE);
            figure.text(
                at,
                Anchor::Start,
                LETTERS,
                FAINT,
                format!("{number:>2} {}", name_of(class)),
            );
        }
    }
    let y = top + high * side + LINE;
    for step in 0..=10 {
        figure.fill(left + step * 12, y, 12, LINE, shade(step as f64 / 10.0));
    }
    figure.text(
        (left + 11 * 12 + 8, y),
        Anchor::Start,
        LETTERS,
        FAINT,
        "0..100 % of a row",
    );
    Ok(figure)
}

/// The sizes of the clusters as a figure: a bar for each, largest first, and a line where all would be equal. With more
/// clusters than pixels, each column of pixels shows the cluster of its rank.
///
/// # Errors
/// None for a [`Usage`] that was counted.
pub fn size_chart(usage: &Usage) -> Result<Figure> {
    let mut sizes = usage.sizes.clone();
    sizes.sort_unstable_by(|a, b| b.cmp(a));
    const WIDE: usize = 800;
    const HIGH: usize = 320;
    let bar = (WIDE / sizes.len()).clamp(1, 64);
    let bars = sizes.len().min(WIDE);
    let largest = sizes.first().copied().unwrap_or(0).max(1);
    let left = LINE + Figure::text_width(&largest.to_string(), LETTERS);
    let top = 3 * LINE;
    let width = left + (bars * bar).max(38 * 6 * LETTERS) + LINE;
    let mut figure = Figure::new(width, top + HIGH + 3 * LINE, PAPER)?;
    let title = format!(
        "{} of {} clusters used, {:.1} effective",
        usage.used,
        sizes.len(),
        usage.effective()
    );
    figure.text((LINE / 2, LINE / 2), Anchor::Start, LETTERS, INK, title);
    let height = |size: f64| (size / largest as f64 * HIGH as f64).round() as usize;
    for step in 0..=4 {
        let size = largest as f64 * f64::from(step) / 4.0;
        let y = top + HIGH - height(size);
        figure.fill(left, y, bars * bar, 1, GRID);
        let at = (left - 8, y.saturating_sub(8));
        figure.text(at, Anchor::End, LETTERS, FAINT, format!("{size:.0}"));
    }
    let gap = usize::from(bar > 3);
    for place in 0..bars {
        let size = sizes[place * sizes.len() / bars];
        let high = height(size as f64);
        figure.fill(left + place * bar, top + HIGH - high, bar - gap, high, BAR);
    }
    let equal = usage.samples as f64 / sizes.len() as f64;
    figure.fill(left, top + HIGH - height(equal), bars * bar, 2, MARK);
    let y = top + HIGH + LINE / 2;
    figure.text(
        (left, y),
        Anchor::Start,
        LETTERS,
        FAINT,
        "samples per cluster, largest first",
    );
    figure.text(
        (left, y + LINE),
        Anchor::Start,
        LETTERS,
        MARK,
        format!("equal sizes: {equal:.1}"),
    );
    Ok(figure)
}

/// From white (0) through blue to near black (1). The square root lifts small shares, which would be invisible.
fn shade(share: f64) -> [u8; 3] {
    const STOPS: [[f64; 3]; 3] = [
        [255.0, 255.0, 255.0],
        [90.0, 150.0, 205.0],
        [12.0, 28.0, 66.0],
    ];
    let place = share.clamp(0.0, 1.0).sqrt() * 2.0;
    let (from, part) = if place < 1.0 {
        (0, place)
    } else {
        (1, place - 1.0)
    };
    std::array::from_fn(|channel| {
        let (low, high) = (STOPS[from][channel], STOPS[from + 1][channel]);
        (low + (high - low) * part).round() as u8
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pixels::Rgb8;

    fn count(image: &Rgb8, colour: [u8; 3]) -> usize {
        let pixels = image.data().chunks_exact(3);
        pixels.filter(|pixel| **pixel == colour).count()
    }

    #[test]
    fn a_perfect_clustering_is_a_dark_diagonal() {
        // Cluster 9 - c holds class c.
        let classes: Vec<u32> = (0..100).map(|i| i % 10).collect();
        let clusters: Vec<u32> = classes.iter().map(|class| 9 - class).collect();
        let table = Contingency::new(&classes, &clusters).expect("counts");
        let names: Vec<String> = (0..10).map(|class| format!("class {class}")).collect();
        let figure = confusion_matrix(&table, &table.assign(), &names).expect("draws");
        let image = figure.pixels().expect("draws");
        // Ten cells of 48 pixels, and the end of the scale below.
        assert_eq!(count(&image, shade(1.0)), 10 * 48 * 48 + 12 * LINE);
        let dark: Vec<(usize, usize)> = image
            .data()
            .chunks_exact(3)
            .enumerate()
            .filter(|(_, pixel)| **pixel == shade(1.0))
            .map(|(at, _)| (at % image.width(), at / image.width()))
            .take_while(|&(_, y)| y < 3 * LINE + 480)
            .collect();
        let (left, top) = dark[0];
        assert!(dark.iter().all(|&(x, y)| (x - left) / 48 == (y - top) / 48));
        let svg = figure.svg();
        assert!(svg.contains(">9 class 0<") && svg.contains("> 3 class 3<"));
    }

    #[test]
    fn large_tables_share_cells() {
        let classes: Vec<u32> = (0..50_000).map(|i| i % 1000).collect();
        let clusters: Vec<u32> = (0..50_000).map(|i| (i * 7 + i / 1000) % 2000).collect();
        let table = Contingency::new(&classes, &clusters).expect("counts");
        let figure = confusion_matrix(&table, &table.assign(), &[]).expect("draws");
        let image = figure.pixels().expect("draws");
        assert!(image.width() < 1000 && image.height() < 1100, "{image:?}");
        assert!(confusion_matrix(&table, &[], &[]).is_err());
    }

    #[test]
    fn bars_are_as_high_as_clusters_are_large() {
        let usage = Usage::new(&[0u8, 0, 0, 0, 2, 2], 4).expect("counts");
        let image = size_chart(&usage).expect("draws").pixels().expect("draws");
        // 320 pixels for four samples and 160 for two, less the line of equal sizes across both.
        assert_eq!(count(&image, BAR), 63 * (320 - 2) + 63 * (160 - 2));
        let many: Vec<u32> = (0..9000).map(|i| i % 3000).collect();
        let usage = Usage::new(&many, 3000).expect("counts");
        let image = size_chart(&usage).expect("draws").pixels().expect("draws");
        assert_eq!(count(&image, BAR), 800 * (320 - 2));
    }

    #[test]
    fn shades_darken() {
        assert_eq!((shade(0.0), shade(1.0)), ([255; 3], [12, 28, 66]));
        let sum = |share| shade(share).iter().map(|&x| u32::from(x)).sum::<u32>();
        assert!((0..10).all(|i| sum(f64::from(i) / 10.0) > sum(f64::from(i + 1) / 10.0)));
    }
}
