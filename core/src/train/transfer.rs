//! Between host and device.

use super::step::Batch;
use crate::config::ViewsConfig;
use crate::data::TrainBatch;
use crate::kernels::{Kernels, PendingRead};
use crate::model::ViewBatch;
use crate::{Error, Result};
use burn::tensor::{Device, Int, Tensor};
use std::collections::BTreeSet;

/// A batch on `device`, or on its way there.
pub(super) fn upload(
    batch: TrainBatch,
    views: &ViewsConfig,
    kernels: &dyn Kernels,
    device: &Device,
) -> Batch {
    let images = |values: Vec<f32>, size: usize| -> Tensor<4> {
        let count = values.len() / (3 * size * size);
        let values = kernels.upload(values, device);
        values.reshape([count, 3, size, size])
    };
    let samples = batch.indices.len();
    let labels = match batch.labels {
        Some(labels) => labels.into_iter().map(|label| label as i64).collect(),
        None => vec![-1; samples],
    };
    let indices = batch.indices.into_iter().map(|index| index as i64);
    Batch {
        views: ViewBatch {
            global: images(batch.global, views.global_size),
            local: batch.local.map(|local| images(local, views.local_size)),
        },
        indices: kernels.upload_ints(indices.collect(), device),
        labels: kernels.upload_ints(labels, device),
    }
}

/// Three numbers, once the device has computed them.
pub(super) fn numbers(pending: PendingRead) -> Result<[f64; 3]> {
    match pending()?.as_slice() {
        &[a, b, c] => Ok([a, b, c].map(f64::from)),
        other => Err(Error::Invalid(format!(
            "the device did not return three values: {other:?}"
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
