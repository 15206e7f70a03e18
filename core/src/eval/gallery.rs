//! Which images show best what a cluster is.

use super::Extracted;
use crate::data::Source;
use crate::metrics::ClusterReport;
use crate::picture::{ClusterRow, Majority};
use crate::{Error, Result};

/// The rows of a [picture](crate::picture::cluster_grid) of `head`'s clusters: of each that occurs, by
/// rising id, the `columns` images that it is most sure of.
///
/// # Errors
/// If there is no such head, or an image cannot be read.
pub fn cluster_rows(
    source: &dyn Source,
    extracted: &Extracted,
    head: usize,
    columns: usize,
) -> Result<Vec<ClusterRow>> {
    let (Some(assignments), Some(confidences)) = (
        extracted.assignments.get(head),
        extracted.confidences.get(head),
    ) else {
        return Err(Error::Invalid(format!(
            "head {head} does not exist; there are {}",
            extracted.assignments.len()
        )));
    };
    let clusters = assignments.iter().max().map_or(0, |&largest| largest + 1);
    let mut members: Vec<Vec<usize>> = vec![Vec::new(); clusters];
    for (index, &cluster) in assignments.iter().enumerate() {
        members[cluster].push(index);
    }
    let report = match &extracted.labels {
        Some(labels) => Some(ClusterReport::new(labels, assignments)?),
        None => None,
    };
    let mut rows = Vec::new();
    for (cluster, mut members) in members.into_iter().enumerate() {
        if members.is_empty() {
            continue;
        }
        let size = members.len() as u64;
        members.sort_by(|&a, &b| confidences[b].total_cmp(&confidences[a]).then(a.cmp(&b)));
        members.truncate(columns);
        let majority = report.as_ref().and_then(|report| {
            let found = report
                .assigned
                .iter()
                .find(|found| found.cluster == cluster as u64)?;
            let class = found.majority;
            let pairs = assignments.iter().zip(extracted.labels.as_ref()?);
            let same = pairs.filter(|&(&a, &label)| a == cluster && label as u64 == class);
            let count = same.count();
            Some(Majority {
                name: source.classes().get(class as usize)?.clone(),
                share: count as f64 / size as f64,
            })
        });
        let images = members
            .into_iter()
            .map(|index| Ok((*source.image(index)?).clone()))
            .collect::<Result<_>>()?;
        rows.push(ClusterRow {
            cluster: cluster as u64,
            size,
            majority,
            images,
        });
    }
    Ok(rows)
}
