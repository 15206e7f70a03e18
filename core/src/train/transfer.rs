//! Between host and device.

use super::step::Batch;
use crate::config::ViewsConfig;
use crate::data::TrainBatch;
use crate::kernels::{Kernels, PendingRead, PendingUpload};
use crate::model::ViewBatch;
use crate::{Error, Result};
use burn::tensor::{Device, Int, Tensor};
use std::collections::BTreeSet;

/// A batch that waits on the host for being sent to a device.
pub(super) struct Staged {
    global: PendingUpload,
    local: Option<PendingUpload>,
    indices: Vec<i64>,
    /// -1 where unknown.
    labels: Vec<i64>,
}

/// What the thread that prepares `batch` can do for its way to the device.
///
/// # Errors
/// See [`Kernels::stage`].
pub(super) fn stage(batch: TrainBatch, kernels: &dyn Kernels) -> Result<Staged> {
    let integers = |values: Vec<usize>| values.into_iter().map(|value| value as i64).collect();
    Ok(Staged {
        labels: match batch.labels {
            Some(labels) => integers(labels),
            None => vec![-1; batch.indices.len()],
        },
        indices: integers(batch.indices),
        global: kernels.stage(batch.global)?,
        local: batch.local.map(|local| kernels.stage(local)).transpose()?,
    })
}

impl Staged {
    /// The batch on `device`, or on its way there.
    pub(super) fn upload(
        self,
        views: &ViewsConfig,
        kernels: &dyn Kernels,
        device: &Device,
    ) -> Batch {
        let images = |values: PendingUpload, size: usize| -> Tensor<4> {
            let values = values(device);
            let count = values.dims()[0] / (3 * size * size);
            values.reshape([count, 3, size, size])
        };
        Batch {
            views: ViewBatch {
                global: images(self.global, views.global_size),
                local: self.local.map(|local| images(local, views.local_size)),
            },
            indices: kernels.upload_ints(self.indices, device),
            labels: kernels.upload_ints(self.labels, device),
        }
    }
}

/// As many numbers as are wanted, once the device has computed them.
pub(super) fn numbers<const N: usize>(pending: PendingRead) -> Result<[f64; N]> {
    let values = pending()?;
    match <[f32; N]>::try_from(values.as_slice()) {
        Ok(values) => Ok(values.map(f64::from)),
        Err(_) => Err(Error::Invalid(format!(
            "the device did not return {N} values: {values:?}"
        ))),
    }
}

/// Number of different values.
pub(super) fn distinct(tensor: Tensor<1, Int>) -> Result<usize> {
    let values = tensor
        .into_data()
        .convert::<i64>()
        .try_into_vec::<i64>()
        .map_err(|error| {
            Error::Invalid(format!("the device did not return integers: {error:?}"))
        })?;
    Ok(values.into_iter().collect::<BTreeSet<_>>().len())
}
