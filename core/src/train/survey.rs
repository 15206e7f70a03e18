//! A pass over images that the ranks share: each embeds some of them, and all learn what all have found.

use crate::collective::Collective;
use crate::config::Config;
use crate::data::{Shares, Source};
use crate::eval::features::{FeatureTable, Precision};
use crate::eval::{Extracted, Extractor, Features, Keep, ModelNetwork, Selection};
use crate::model::SelfClassifier;
use crate::runtime::Runtime;
use crate::{Error, Result};
use burn::tensor::{Int, Tensor, TensorData};
use std::sync::Arc;

/// Which images, and how they are embedded.
pub(super) struct Survey {
    images: Arc<dyn Source>,
    own: Arc<dyn Source>,
    shares: Shares,
    extractor: Extractor,
    runtime: Runtime,
    heads: usize,
    width: usize,
}

impl Survey {
    /// A pass over `images`, of which this rank takes its share. All ranks make theirs together.
    ///
    /// # Errors
    /// If a peer fails.
    pub(super) fn new(config: &Config, images: Arc<dyn Source>, runtime: &Runtime) -> Result<Self> {
        let peers = &*runtime.collective;
        let shares = Shares::new(images.len(), peers.world_size());
        let own = Selection::of_range(Arc::clone(&images), shares.of(peers.rank()));
        Ok(Self {
            images,
            own: Arc::new(own),
            shares,
            extractor: Extractor {
                preprocess: config.preprocess(),
                batch_size: config.eval.batch_size,
                workers: super::processors::workers(config.data.workers, runtime)?,
                temperature: config.loss.row_temperature as f32,
                keep: Keep::Memory(Precision::Single),
            },
            runtime: runtime.clone(),
            heads: config.model.heads.len(),
            width: config.model.backbone_dim(),
        })
    }

    /// The images of all ranks.
    pub(super) fn images(&self) -> &dyn Source {
        &*self.images
    }

    /// What `model` says of all images, on every rank: assignments, labels and features of the backbone. All
    /// ranks call it together.
    ///
    /// # Errors
    /// On every rank if an image of one cannot be read or its model's answers are not finite; if a peer fails.
    pub(super) fn run(&self, model: SelfClassifier) -> Result<Extracted> {
        let own = self.share(model);
        let peers = &*self.runtime.collective;
        if peers.world_size() == 1 {
            return own;
        }
        let own = agreed(peers, own, self.images.len(), |value| self.ints(&[value]))?;
        let counts = self.shares.sizes();
        let assignments = own.assignments.iter().map(|own| {
            let own: Vec<i64> = own.iter().map(|&class| class as i64).collect();
            let all = peers.all_gather_int(self.ints(&own), &counts)?;
            let all = integers(all)?.into_iter();
            Ok(all.map(|class| class as usize).collect())
        });
        let assignments = assignments.collect::<Result<_>>()?;
        let shape = [own.features.len(), self.width];
        let features = TensorData::new(own.features.into_values()?, shape);
        let features = Tensor::<2>::from_data(features, &self.runtime.device);
        let features = peers.all_gather(features, &counts)?.into_data();
        let features = features.convert::<f32>().try_into_vec().map_err(|error| {
            Error::Invalid(format!("the device did not return features: {error:?}"))
        })?;
        Ok(Extracted {
            labels: (0..self.images.len())
                .map(|index| self.images.label(index))
                .collect(),
            assignments,
            features: FeatureTable::new(features, self.width)?,
            ..Extracted::default()
        })
    }

    /// What `model` says of this rank's images.
    fn share(&self, model: SelfClassifier) -> Result<Extracted> {
        if self.own.is_empty() {
            // Fewer images than ranks.
            return Ok(Extracted {
                assignments: vec![Vec::new(); self.heads],
                ..Extracted::default()
            });
        }
        let mut network = ModelNetwork::new(model, self.runtime.clone(), Features::Backbone);
        self.extractor.run(&self.own, &mut network, &mut |_| ())
    }

    fn ints(&self, values: &[i64]) -> Tensor<1, Int> {
        let data = TensorData::new(values.to_vec(), [values.len()]);
        Tensor::from_data(data, &self.runtime.device)
    }
}

/// This rank's result if all have one, and as many images, `total`; or else what is wrong, on every rank.
fn agreed<T>(
    peers: &dyn Collective,
    own: Result<T>,
    total: usize,
    number: impl Fn(i64) -> Tensor<1, Int>,
) -> Result<T> {
    const FAILED: i64 = -1;
    let said = number(if own.is_ok() { total as i64 } else { FAILED });
    let said = integers(peers.all_gather_int(said, &vec![1; peers.world_size()])?)?;
    if let Some(first) = said.iter().position(|&said| said == FAILED) {
        let reason = own.err().map(|error| error.to_string());
        let reason = peers.broadcast(reason.unwrap_or_default().into_bytes(), first)?;
        return Err(Error::Data(format!(
            "rank {first}: {}",
            String::from_utf8_lossy(&reason)
        )));
    }
    match said.iter().position(|&count| count != said[0]) {
        None => own,
        Some(other) => Err(Error::Data(format!(
            "monitor.data holds {} images on rank 0 and {} on rank {other}; give all ranks the same data",
            said[0], said[other]
        ))),
    }
}

pub(super) fn integers(tensor: Tensor<1, Int>) -> Result<Vec<i64>> {
    let values = tensor.into_data().convert::<i64>().try_into_vec();
    values.map_err(|error| Error::Invalid(format!("the device did not return integers: {error:?}")))
}
