//! Centres in a safetensors file: `centroids`, F32 `[clusters, width]`; the metadata entry `selfcls.kmeans` is
//! `euclidean` or `spherical`.

use super::{Geometry, KMeans, check_rows};
use crate::{Error, Result, atomic};
use safetensors::tensor::{Dtype, SafeTensors, TensorView, serialize};
use std::collections::HashMap;
use std::path::Path;

const CENTRES: &str = "centroids";
const GEOMETRY: &str = "selfcls.kmeans";

impl KMeans {
    /// Writes the centres, all or nothing.
    ///
    /// # Errors
    /// [`Error::Io`] if the file cannot be written.
    pub fn save(&self, path: &Path) -> Result<()> {
        let fail = |error| Error::malformed(path, format!("cannot pack the centres: {error}"));
        let bytes: Vec<u8> = self.centres.iter().flat_map(|x| x.to_le_bytes()).collect();
        let shape = vec![self.clusters(), self.width];
        let view = TensorView::new(Dtype::F32, shape, &bytes).map_err(fail)?;
        let metadata = HashMap::from([(GEOMETRY.to_string(), self.geometry.name().to_string())]);
        atomic::write(
            path,
            &serialize([(CENTRES, view)], Some(metadata)).map_err(fail)?,
        )
    }

    /// Reads what [`save`](Self::save) wrote.
    ///
    /// # Errors
    /// [`Error::Io`] if the file cannot be read, [`Error::Malformed`] if it holds something else.
    pub fn load(path: &Path) -> Result<Self> {
        let bytes = std::fs::read(path).map_err(Error::io("read", path))?;
        let fail = |error: &dyn std::fmt::Display| {
            Error::malformed(path, format!("no k-means centres: {error}"))
        };
        let (_, header) = SafeTensors::read_metadata(&bytes).map_err(|error| fail(&error))?;
        let name = header
            .metadata()
            .as_ref()
            .and_then(|entries| entries.get(GEOMETRY));
        let geometry = [Geometry::Euclidean, Geometry::Spherical]
            .into_iter()
            .find(|geometry| name.is_some_and(|name| name == geometry.name()))
            .ok_or_else(|| fail(&format!("{GEOMETRY} is {name:?}")))?;
        let file = SafeTensors::deserialize(&bytes).map_err(|error| fail(&error))?;
        let view = file.tensor(CENTRES).map_err(|error| fail(&error))?;
        let (Dtype::F32, &[clusters, width]) = (view.dtype(), view.shape()) else {
            return Err(fail(&format!("{:?} {:?}", view.dtype(), view.shape())));
        };
        let (words, _) = view.data().as_chunks();
        let centres: Vec<f32> = words.iter().map(|&word| f32::from_le_bytes(word)).collect();
        if clusters == 0 {
            return Err(fail(&"there are none"));
        }
        check_rows(&centres, width).map_err(|error| fail(&error))?;
        Ok(Self {
            geometry,
            width,
            centres,
        })
    }
}

impl Geometry {
    /// `euclidean` or `spherical`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Euclidean => "euclidean",
            Self::Spherical => "spherical",
        }
    }
}
