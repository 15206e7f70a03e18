//! How the classes do while a run goes on: after epochs, on a bounded sample of images.
//!
//! With labels: agreement of each head with them, and k-NN accuracy of the features. Without: how each head is used, and
//! how much the heads agree. Nothing of the training depends on it: it looks at a copy of the model for inference, and
//! draws its sample from a stream of its own.

use super::event::{EpochEvent, HeadMeasures, MonitorEvent};
use super::survey::Survey;
use crate::config::{Config, DataConfig};
use crate::data::{self, Source};
use crate::eval::{Extracted, Selection, agreement};
use crate::metrics::knn::{Neighbours, UnitEmbeddings};
use crate::metrics::{ClusterReport, Usage};
use crate::model::SelfClassifier;
use crate::runtime::Runtime;
use crate::{Error, Result};
use std::sync::Arc;
use std::time::Instant;

/// A neighbour votes with weight exp(similarity / T); the authors' T.
const TEMPERATURE: f64 = 0.1;

/// Measures a model after epochs.
pub(super) struct Monitor {
    every: usize,
    knn: usize,
    survey: Survey,
    /// Whether this is the rank that measures what all have found.
    measures: bool,
    /// Classes of each head.
    heads: Vec<usize>,
}

impl Monitor {
    /// What `[monitor]` asks for; none if that is nothing.
    ///
    /// # Errors
    /// If its images cannot be opened.
    pub(super) fn new(
        config: &Config,
        training: &Arc<dyn Source>,
        runtime: &Runtime,
    ) -> Result<Option<Self>> {
        let settings = &config.monitor;
        if settings.every_epochs == 0 {
            return Ok(None);
        }
        let all = if settings.data.is_empty() {
            Arc::clone(training)
        } else {
            let others = DataConfig {
                source: settings.data.clone(),
                limit_per_class: 0,
                ..config.data.clone()
            };
            data::open(&settings.data, &others)?
        };
        if all.len() < 2 {
            return Err(Error::Data(format!(
                "monitor.data = {:?} holds {} image; at least 2 are needed",
                settings.data,
                all.len()
            )));
        }
        let images = Selection::sample(all, settings.samples, config.train.seed);
        Ok(Some(Self {
            every: settings.every_epochs,
            knn: settings.knn,
            survey: Survey::new(config, Arc::new(images), runtime)?,
            measures: runtime.collective.rank() == 0,
            heads: config.model.heads.clone(),
        }))
    }

    /// Whether it is this epoch's turn.
    pub(super) fn is_due(&self, epoch: &EpochEvent) -> bool {
        epoch.epoch.is_multiple_of(self.every)
    }

    /// Measures `model`, as it is after `epoch`. All ranks embed their share of the images, and rank 0 gets the result.
    ///
    /// # Errors
    /// On every rank if an image cannot be read, the model's answers are not finite, or a peer fails.
    pub(super) fn measure(
        &self,
        model: SelfClassifier,
        epoch: &EpochEvent,
    ) -> Result<Option<MonitorEvent>> {
        let began = Instant::now();
        let found = self.survey.run(model)?;
        if !self.measures {
            return Ok(None);
        }
        let heads = (0..self.heads.len()).map(|head| self.head(head, &found));
        Ok(Some(MonitorEvent {
            epoch: epoch.epoch,
            step: epoch.step,
            samples: self.survey.images().len(),
            heads: heads.collect::<Result<_>>()?,
            agreement: mean_agreement(&found.assignments)?,
            knn: self.neighbours(found)?,
            seconds: began.elapsed().as_secs_f64(),
        }))
    }

    fn head(&self, head: usize, found: &Extracted) -> Result<HeadMeasures> {
        let assigned = &found.assignments[head];
        let usage = Usage::new(assigned, self.heads[head])?;
        let report = match &found.labels {
            Some(labels) => Some(ClusterReport::new(labels, assigned)?),
            None => None,
        };
        let report = report.as_ref();
        Ok(HeadMeasures {
            head,
            clusters: self.heads[head],
            used: usage.used,
            effective: usage.effective(),
            nmi: report.map(|report| report.nmi),
            ami: report.map(|report| report.ami),
            ari: report.map(|report| report.ari),
            acc: report.map(|report| report.acc),
        })
    }

    /// Accuracy of each image's class among its neighbours', itself left out.
    fn neighbours(&self, found: Extracted) -> Result<Option<f64>> {
        let k = self.knn.min(self.survey.images().len() - 1);
        let Some(labels) = found.labels.filter(|_| k > 0) else {
            return Ok(None);
        };
        let width = found.features.width();
        let features = UnitEmbeddings::new(found.features.into_values()?, width)?;
        let neighbours = Neighbours::search_others(&features, k)?;
        let score = neighbours.score(&labels, &labels, k, TEMPERATURE)?;
        Ok(Some(score.top1))
    }
}

/// Mean over all pairs of heads; none of a single head.
fn mean_agreement(assignments: &[Vec<usize>]) -> Result<Option<f64>> {
    let heads = assignments.len();
    if heads < 2 {
        return Ok(None);
    }
    let table = agreement(assignments)?;
    let sum: f64 = table.iter().flatten().sum();
    Ok(Some((sum - heads as f64) / (heads * (heads - 1)) as f64))
}
