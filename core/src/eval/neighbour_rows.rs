//! What the nearest neighbours of images look like.

use super::Selection;
use crate::data::Source;
use crate::metrics::knn::Neighbours;
use crate::picture::GridRow;
use crate::{Error, Result};

/// Images with their labels.
#[derive(Clone, Copy)]
pub struct Labelled<'a> {
    /// The images.
    pub source: &'a dyn Source,
    /// The class of each.
    pub labels: &'a [usize],
}

impl Labelled<'_> {
    fn class_name(&self, index: usize) -> String {
        let class = self.labels[index];
        let name = self.source.classes().get(class);
        name.cloned().unwrap_or_else(|| class.to_string())
    }
}

/// A row for each of `count` queries, drawn with `seed`: the query, then its nearest references, `columns` images in all;
/// at the left its class and how many of the references shown are of it too.
///
/// # Errors
/// [`Error::Invalid`] if `found` is not of as many queries and references; otherwise if an image cannot be read.
pub fn neighbour_rows(
    queries: Labelled<'_>,
    references: Labelled<'_>,
    found: &Neighbours,
    (count, columns): (usize, usize),
    seed: u64,
) -> Result<Vec<GridRow>> {
    let rows: Vec<_> = found.rows().collect();
    if rows.len() != queries.labels.len() || found.references() != references.labels.len() {
        return Err(Error::Invalid(format!(
            "neighbours of {} images among {}, but labels of {} and {}",
            rows.len(),
            found.references(),
            queries.labels.len(),
            references.labels.len()
        )));
    }
    let row = |index: usize| {
        let nearest = rows[index].iter().take(columns.saturating_sub(1));
        let nearest: Vec<usize> = nearest.map(|found| found.index as usize).collect();
        let class = queries.class_name(index);
        // By name: the two sources need not number their classes alike.
        let names: Vec<String> = nearest
            .iter()
            .map(|&at| references.class_name(at))
            .collect();
        let alike = names.iter().filter(|&name| *name == class).count();
        let mut images = vec![(*queries.source.image(index)?).clone()];
        for &at in &nearest {
            images.push((*references.source.image(at)?).clone());
        }
        Ok(GridRow {
            label: vec![class, format!("{alike} of {} alike", nearest.len())],
            images,
            captions: std::iter::once("query".to_owned()).chain(names).collect(),
        })
    };
    Selection::draw(rows.len(), count, seed)
        .into_iter()
        .map(row)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::Shapes;
    use crate::metrics::knn::UnitEmbeddings;

    #[test]
    fn a_row_is_the_query_and_its_nearest() {
        let shapes = Shapes::new(16, 0, 8);
        let labels: Vec<usize> = (0..16).map(|index| index % 8).collect();
        let all = Labelled {
            source: &shapes,
            labels: &labels,
        };
        // Images on a quarter of a circle, in their order.
        let places = (0..16u8).flat_map(|index| {
            let angle = f32::from(index) * 0.1;
            [angle.cos(), angle.sin()]
        });
        let places = UnitEmbeddings::new(places.collect(), 2).expect("finite rows");
        let found = Neighbours::search_others(&places, 9).expect("searches");
        let rows = neighbour_rows(all, all, &found, (16, 4), 0).expect("rows");
        assert_eq!(rows.len(), 16);
        let first = rows
            .iter()
            .find(|row| row.images[0] == *shapes.image(0).expect("an image"))
            .expect("the first image");
        assert_eq!(first.captions, ["query", "ring", "triangle", "cross"]);
        assert_eq!(first.images[3], *shapes.image(3).expect("an image"));
        assert_eq!(first.label, ["disc", "0 of 3 alike"]);
        // Its eighth neighbour is of its class.
        let rows = neighbour_rows(all, all, &found, (16, 99), 0).expect("rows");
        assert!(rows.iter().any(|row| row.label == ["disc", "1 of 9 alike"]));
        let few = Labelled {
            labels: &labels[..3],
            ..all
        };
        assert!(neighbour_rows(few, all, &found, (1, 2), 0).is_err());
        assert!(neighbour_rows(all, few, &found, (1, 2), 0).is_err());
    }
}
