//! Feature vectors of a data set: in memory, or in a file that is read in parts.

mod file;
mod key;
mod share;

pub(super) use file::FileWriter;
pub use file::{Cached, read as read_cache};
pub use key::{Key, file_fingerprint, source_fingerprint};
pub use share::Share;
pub(super) use share::join as join_shares;

use crate::{Error, Result};
use file::FileRows;
use half::f16;
use half::slice::HalfFloatSliceExt;
use std::ops::Range;

/// How features are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Precision {
    /// 32 bits.
    #[default]
    Single,
    /// 16 bits (IEEE half precision: 11 significant bits, up to 65504): half the memory and disk. Sums over them are
    /// still made in 32 bits.
    Half,
}

/// `[rows, width]` features. Reading gives `f32` whatever they are kept in.
#[derive(Debug)]
pub struct FeatureTable {
    width: usize,
    rows: Rows,
}

#[derive(Debug)]
enum Rows {
    Single(Vec<f32>),
    Half(Vec<f16>),
    File(FileRows),
}

impl Default for FeatureTable {
    fn default() -> Self {
        Self {
            width: 0,
            rows: Rows::Single(Vec::new()),
        }
    }
}

impl FeatureTable {
    /// Features in memory, `[rows, width]`, row-major.
    ///
    /// # Errors
    /// [`Error::Invalid`] if the length is not a multiple of `width`.
    pub fn new(values: Vec<f32>, width: usize) -> Result<Self> {
        if width == 0 || !values.len().is_multiple_of(width) {
            return Err(Error::Invalid(format!(
                "{} values do not make rows of {width}",
                values.len()
            )));
        }
        Ok(Self {
            width,
            rows: Rows::Single(values),
        })
    }

    /// Number of feature vectors.
    pub fn len(&self) -> usize {
        match &self.rows {
            Rows::Single(values) => values.len() / self.width.max(1),
            Rows::Half(values) => values.len() / self.width.max(1),
            Rows::File(file) => file.rows(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Values per feature vector.
    pub fn width(&self) -> usize {
        self.width
    }

    /// How they are kept.
    fn precision(&self) -> Precision {
        match &self.rows {
            Rows::Single(_) => Precision::Single,
            Rows::Half(_) => Precision::Half,
            Rows::File(file) => file.precision(),
        }
    }

    /// The rows of `range`, row-major.
    ///
    /// # Errors
    /// [`Error::Invalid`] if there are fewer rows, [`Error::Io`] if the file cannot be read.
    pub fn read(&self, range: Range<usize>) -> Result<Vec<f32>> {
        if range.start > range.end || range.end > self.len() {
            return Err(Error::Invalid(format!(
                "rows {} to {} of {} features",
                range.start,
                range.end,
                self.len()
            )));
        }
        let values = range.start * self.width..range.end * self.width;
        match &self.rows {
            Rows::Single(all) => Ok(all[values].to_vec()),
            Rows::Half(all) => Ok(all[values].to_f32_vec()),
            Rows::File(file) => file.read(values),
        }
    }

    /// All rows. Those in memory are not copied.
    ///
    /// # Errors
    /// [`Error::Io`] if the file cannot be read.
    pub fn into_values(self) -> Result<Vec<f32>> {
        match self.rows {
            Rows::Single(values) => Ok(values),
            _ => self.read(0..self.len()),
        }
    }

    /// The rows in parts of at most `rows`, each with the number of its first.
    pub fn parts(&self, rows: usize) -> impl Iterator<Item = Result<(usize, Vec<f32>)>> {
        let rows = rows.max(1);
        (0..self.len()).step_by(rows).map(move |first| {
            let part = self.read(first..(first + rows).min(self.len()))?;
            Ok((first, part))
        })
    }

    /// The rows of those numbers, in their order.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub fn gather(&self, rows: &[usize]) -> Result<Vec<f32>> {
        let mut gathered = Vec::with_capacity(rows.len() * self.width);
        for &row in rows {
            gathered.extend(self.read(row..row + 1)?);
        }
        Ok(gathered)
    }
}

/// Features in memory in the making.
pub(super) struct MemoryWriter {
    width: usize,
    rows: Rows,
}

impl MemoryWriter {
    /// For `rows` features: room for all at once, since growing would take twice the memory for a moment.
    pub(super) fn new(rows: usize, width: usize, precision: Precision) -> Self {
        Self {
            width,
            rows: match precision {
                Precision::Single => Rows::Single(Vec::with_capacity(rows * width)),
                Precision::Half => Rows::Half(Vec::with_capacity(rows * width)),
            },
        }
    }

    pub(super) fn append(&mut self, values: Vec<f32>) {
        match &mut self.rows {
            Rows::Single(all) => all.extend(values),
            Rows::Half(all) => all.extend(values.into_iter().map(f16::from_f32)),
            // Not made by `new`.
            Rows::File(_) => {}
        }
    }

    pub(super) fn finish(self) -> FeatureTable {
        FeatureTable {
            width: self.width,
            rows: self.rows,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values() -> Vec<f32> {
        (0..15).map(|i| i as f32 / 7.0).collect()
    }

    #[test]
    fn rows_are_read_in_any_part() {
        let table = FeatureTable::new(values(), 3).expect("a table");
        assert_eq!((table.len(), table.width()), (5, 3));
        assert_eq!(table.read(1..3).expect("reads"), values()[3..9]);
        assert_eq!(
            table.gather(&[4, 0]).expect("reads")[..4],
            [12.0 / 7.0, 13.0 / 7.0, 2.0, 0.0]
        );
        let parts: Vec<(usize, usize)> = table
            .parts(2)
            .map(|part| {
                part.map(|(first, values)| (first, values.len()))
                    .expect("reads")
            })
            .collect();
        assert_eq!(parts, [(0, 6), (2, 6), (4, 3)]);
        assert!(table.read(4..6).is_err() && table.gather(&[5]).is_err());
        assert_eq!(table.into_values().expect("all"), values());
        assert!(FeatureTable::new(vec![0.0; 4], 3).is_err());
        assert!(FeatureTable::default().is_empty());
    }

    #[test]
    fn half_precision_keeps_eleven_bits() {
        let mut writer = MemoryWriter::new(5, 3, Precision::Half);
        writer.append(values());
        let table = writer.finish();
        let kept = table.read(0..5).expect("reads");
        for (kept, value) in kept.iter().zip(values()) {
            assert!(
                (kept - value).abs() <= value * f32::powi(2.0, -11),
                "{kept} {value}"
            );
        }
        assert_ne!(kept, values());
    }
}
