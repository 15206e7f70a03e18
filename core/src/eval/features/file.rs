//! The cache file: a safetensors file with the features first, so that they can be written while they are made and read
//! in parts.
//!
//! | array | type and shape |
//! |---|---|
//! | `features` | F32 or F16 `[images, width]` |
//! | `assignments` | U32 `[heads, images]` |
//! | `confidences` | F32 `[heads, images]` |
//! | `labels` | U32 `[images]`, in a labelled set |
//!
//! The metadata entry `selfcls.features` holds the [`Key`] as JSON.

use super::super::Extracted;
use super::{FeatureTable, Key, Precision, Rows};
use crate::atomic::Staged;
use crate::{Error, Result};
use half::f16;
use half::slice::HalfFloatSliceExt;
use safetensors::tensor::{Dtype, Metadata, TensorInfo};
use std::collections::HashMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

const KEY: &str = "selfcls.features";
const FEATURES: &str = "features";
const ASSIGNMENTS: &str = "assignments";
const CONFIDENCES: &str = "confidences";
const LABELS: &str = "labels";

/// Largest header read; ours are below a kilobyte.
const MAX_HEADER: u64 = 1 << 20;

/// Features in a file.
#[derive(Debug)]
pub(super) struct FileRows {
    path: PathBuf,
    /// Behind a lock: reading moves the file's position.
    file: Mutex<File>,
    /// Bytes before the first value.
    start: u64,
    rows: usize,
    precision: Precision,
}

impl FileRows {
    pub(super) fn rows(&self) -> usize {
        self.rows
    }

    pub(super) fn precision(&self) -> Precision {
        self.precision
    }

    /// The values of `range`.
    pub(super) fn read(&self, range: Range<usize>) -> Result<Vec<f32>> {
        let size = bytes_of(self.precision);
        let mut bytes = vec![0; range.len() * size];
        {
            // A panic elsewhere cannot leave the position in a state that matters: it is set here.
            let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
            file.seek(SeekFrom::Start(self.start + (range.start * size) as u64))
                .and_then(|_| file.read_exact(&mut bytes))
                .map_err(Error::io("read", &self.path))?;
        }
        Ok(match self.precision {
            Precision::Single => words(&bytes, f32::from_le_bytes),
            Precision::Half => words(&bytes, f16::from_le_bytes).to_f32_vec(),
        })
    }
}

/// A cache file in the making.
pub(in super::super) struct FileWriter {
    staged: Staged,
    path: PathBuf,
    precision: Precision,
    values: usize,
    expected: usize,
}

impl FileWriter {
    /// Begins a file for `rows` features of `width` values and as many assignments for each of `heads` heads.
    pub(in super::super) fn new(
        path: &Path,
        key: &Key,
        [rows, width, heads]: [usize; 3],
        labelled: bool,
        precision: Precision,
    ) -> Result<Self> {
        let mut staged = Staged::new(path)?;
        staged.write(&header(key, [rows, width, heads], labelled, precision)?)?;
        Ok(Self {
            staged,
            path: path.to_path_buf(),
            precision,
            values: 0,
            expected: rows * width,
        })
    }

    pub(in super::super) fn append(&mut self, values: &[f32]) -> Result<()> {
        self.values += values.len();
        let bytes: Vec<u8> = match self.precision {
            Precision::Single => values.iter().flat_map(|x| x.to_le_bytes()).collect(),
            Precision::Half => {
                let halves = values.iter().map(|&x| f16::from_f32(x));
                halves.flat_map(f16::to_le_bytes).collect()
            }
        };
        self.staged.write(&bytes)
    }

    /// Writes what is small, and gives the file its name.
    pub(in super::super) fn finish(mut self, rest: &Extracted) -> Result<()> {
        if self.values != self.expected {
            return Err(Error::Data(format!(
                "{}: {} of {} feature values were made",
                self.path.display(),
                self.values,
                self.expected
            )));
        }
        let word = |&value: &usize| {
            u32::try_from(value).map(u32::to_le_bytes).map_err(|_| {
                Error::Invalid(format!(
                    "{value} classes are more than a cache file can number"
                ))
            })
        };
        let assignments = rest.assignments.iter().flatten().map(word);
        let assignments = assignments.collect::<Result<Vec<_>>>()?;
        self.staged.write(assignments.as_flattened())?;
        let confidences = rest.confidences.iter().flatten().map(|x| x.to_le_bytes());
        self.staged
            .write(confidences.collect::<Vec<_>>().as_flattened())?;
        if let Some(labels) = &rest.labels {
            let labels = labels.iter().map(word).collect::<Result<Vec<_>>>()?;
            self.staged.write(labels.as_flattened())?;
        }
        self.staged.commit()
    }
}

/// The length of the JSON, and the JSON, padded so that the arrays are aligned.
fn header(
    key: &Key,
    [rows, width, heads]: [usize; 3],
    labelled: bool,
    precision: Precision,
) -> Result<Vec<u8>> {
    let fail = |error: &dyn std::fmt::Display| {
        Error::Invalid(format!(
            "cannot describe {rows} x {width} features: {error}"
        ))
    };
    let feature_type = match precision {
        Precision::Single => Dtype::F32,
        Precision::Half => Dtype::F16,
    };
    let mut arrays = vec![
        (FEATURES, feature_type, vec![rows, width]),
        (ASSIGNMENTS, Dtype::U32, vec![heads, rows]),
        (CONFIDENCES, Dtype::F32, vec![heads, rows]),
    ];
    if labelled {
        arrays.push((LABELS, Dtype::U32, vec![rows]));
    }
    let mut end = 0;
    let infos = arrays.into_iter().map(|(name, dtype, shape)| {
        let start = end;
        end += shape.iter().product::<usize>() * dtype.bitsize() / 8;
        let info = TensorInfo {
            dtype,
            shape,
            data_offsets: (start, end),
        };
        (name.to_string(), info)
    });
    let key = serde_json::to_string(key).map_err(|error| fail(&error))?;
    let metadata = HashMap::from([(KEY.to_string(), key)]);
    let metadata = Metadata::new(Some(metadata), infos.collect()).map_err(|error| fail(&error))?;
    let mut json = serde_json::to_vec(&metadata).map_err(|error| fail(&error))?;
    json.resize(json.len().next_multiple_of(8), b' ');
    Ok([&(json.len() as u64).to_le_bytes()[..], &json].concat())
}

/// What a cache file holds.
#[derive(Debug)]
pub struct Cached {
    /// What it was made from.
    pub key: Key,
    /// Assignments, confidences, labels and features; the features stay in the file.
    pub extracted: Extracted,
}

impl Cached {
    /// What the file holds, if it was made from what `key` says. With `any_features`, it does not matter whether its
    /// features are the backbone's or the head's.
    ///
    /// # Errors
    /// [`Error::Data`] saying what the file was made from that differs.
    pub fn checked(self, path: &Path, key: &Key, any_features: bool) -> Result<Extracted> {
        let mut wanted = key.clone();
        if any_features {
            wanted.features.clone_from(&self.key.features);
        }
        self.check(path, &wanted)?;
        Ok(self.extracted)
    }

    /// Whether it was made from what `key` says.
    pub(super) fn check(&self, path: &Path, key: &Key) -> Result<()> {
        let differences = key.differences(&self.key);
        if differences.is_empty() {
            return Ok(());
        }
        Err(Error::Data(format!(
            "{} is stale: it was made from {} ({} features); recompute it, or keep the caches of different evaluations in different folders",
            path.display(),
            differences.join(" and "),
            self.key.features
        )))
    }
}

/// Reads the cache file at `path`, all but the features.
///
/// # Errors
/// [`Error::Io`] if it cannot be read, [`Error::Malformed`] if it is not a complete cache file.
pub fn read(path: &Path) -> Result<Cached> {
    let io = || Error::io("read", path);
    let mut file = File::open(path).map_err(io())?;
    let length = file.metadata().map_err(io())?.len();
    let mut size = [0; 8];
    file.read_exact(&mut size)
        .map_err(|_| Error::malformed(path, "too short for a cache of features"))?;
    let size = u64::from_le_bytes(size);
    if size > MAX_HEADER.min(length) {
        return Err(Error::malformed(path, "not a cache of features"));
    }
    let mut json = vec![0; size as usize];
    file.read_exact(&mut json).map_err(io())?;
    let header: Metadata = serde_json::from_slice(&json)
        .map_err(|error| Error::malformed(path, format!("not a cache of features: {error}")))?;
    let entries = header.metadata().as_ref();
    let key = entries
        .and_then(|entries| entries.get(KEY))
        .ok_or_else(|| Error::malformed(path, format!("not a cache of features: no {KEY}")))?;
    let key: Key = serde_json::from_str(key)
        .map_err(|error| Error::malformed(path, format!("its {KEY}: {error}")))?;
    let start = 8 + size;
    let expected = start.checked_add(header.data_len() as u64);
    if expected != Some(length) {
        return Err(Error::malformed(
            path,
            format!(
                "{length} bytes long instead of {}; recompute it",
                start.saturating_add(header.data_len() as u64)
            ),
        ));
    }
    let mut reader = Reader {
        path,
        file,
        start,
        header,
    };
    let extracted = reader.rest()?;
    let features = reader.features()?;
    if extracted
        .assignments
        .iter()
        .any(|head| head.len() != features.len())
        || extracted
            .labels
            .as_ref()
            .is_some_and(|labels| labels.len() != features.len())
    {
        return Err(Error::malformed(
            path,
            "its arrays are of different numbers of images",
        ));
    }
    Ok(Cached {
        key,
        extracted: Extracted {
            features,
            ..extracted
        },
    })
}

struct Reader<'a> {
    path: &'a Path,
    file: File,
    start: u64,
    header: Metadata,
}

impl Reader<'_> {
    /// An array's description, if it is of one of `types` and has `dimensions` dimensions.
    fn info(&self, name: &str, types: &[Dtype], dimensions: usize) -> Result<&TensorInfo> {
        let info = self
            .header
            .info(name)
            .ok_or_else(|| Error::malformed(self.path, format!("it has no array {name:?}")))?;
        if !types.contains(&info.dtype) || info.shape.len() != dimensions {
            return Err(Error::malformed(
                self.path,
                format!("its array {name:?} is {:?} {:?}", info.dtype, info.shape),
            ));
        }
        Ok(info)
    }

    fn array<const N: usize, T>(
        &mut self,
        name: &str,
        dtype: Dtype,
        dimensions: usize,
        decode: fn([u8; N]) -> T,
    ) -> Result<(Vec<usize>, Vec<T>)> {
        let info = self.info(name, &[dtype], dimensions)?;
        let ((from, to), shape) = (info.data_offsets, info.shape.clone());
        let mut bytes = vec![0; to - from];
        self.file
            .seek(SeekFrom::Start(self.start + from as u64))
            .and_then(|_| self.file.read_exact(&mut bytes))
            .map_err(Error::io("read", self.path))?;
        Ok((shape, words(&bytes, decode)))
    }

    fn rest(&mut self) -> Result<Extracted> {
        let (shape, assignments) = self.array(ASSIGNMENTS, Dtype::U32, 2, u32::from_le_bytes)?;
        let (_, confidences) = self.array(CONFIDENCES, Dtype::F32, 2, f32::from_le_bytes)?;
        if assignments.len() != confidences.len() {
            return Err(Error::malformed(
                self.path,
                "assignments and confidences differ in number",
            ));
        }
        let images = shape[1].max(1);
        let ids = |row: &[u32]| row.iter().map(|&id| id as usize).collect();
        let labels = match self.header.info(LABELS) {
            Some(_) => Some(ids(&self
                .array(LABELS, Dtype::U32, 1, u32::from_le_bytes)?
                .1)),
            None => None,
        };
        Ok(Extracted {
            labels,
            assignments: assignments.chunks_exact(images).map(ids).collect(),
            confidences: confidences
                .chunks_exact(images)
                .map(<[f32]>::to_vec)
                .collect(),
            features: FeatureTable::default(),
        })
    }

    fn features(self) -> Result<FeatureTable> {
        let info = self.info(FEATURES, &[Dtype::F32, Dtype::F16], 2)?;
        let precision = match info.dtype {
            Dtype::F16 => Precision::Half,
            _ => Precision::Single,
        };
        let (rows, width) = (info.shape[0], info.shape[1]);
        let start = self.start + info.data_offsets.0 as u64;
        Ok(FeatureTable {
            width,
            rows: Rows::File(FileRows {
                path: self.path.to_path_buf(),
                file: Mutex::new(self.file),
                start,
                rows,
                precision,
            }),
        })
    }
}

fn bytes_of(precision: Precision) -> usize {
    match precision {
        Precision::Single => 4,
        Precision::Half => 2,
    }
}

fn words<const N: usize, T>(bytes: &[u8], decode: fn([u8; N]) -> T) -> Vec<T> {
    let (words, _) = bytes.as_chunks();
    words.iter().map(|&word| decode(word)).collect()
}

#[cfg(test)]
mod tests;
