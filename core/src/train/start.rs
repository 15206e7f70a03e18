//! How ranks begin alike: the same settings, data, checkpoint and weights, those of rank 0.

use super::compatibility::differences;
use super::event::EpochEvent;
use crate::checkpoint::Files;
use crate::collective::Collective;
use crate::config::Config;
use crate::data::{Source, digest};
use crate::weights::StateDict;
use crate::{Error, Result};
use serde::{Deserialize, Serialize};

/// What must be equal before anything is computed: ranks that differ would wait for each other in vain, or
/// learn something that nobody asked for.
#[derive(Serialize, Deserialize)]
struct Premises {
    config: Config,
    samples: usize,
    /// Of their names and labels: see [`digest`].
    images: [u8; 32],
}

/// Refuses to begin where this rank's settings or data are not those of rank 0.
///
/// # Errors
/// [`Error::Invalid`] naming what differs; a peer's failure.
pub(super) fn compare(peers: &dyn Collective, config: &Config, source: &dyn Source) -> Result<()> {
    if peers.world_size() == 1 {
        return Ok(());
    }
    let own = Premises {
        config: config.clone(),
        samples: source.len(),
        images: digest(source),
    };
    let bytes = serde_json::to_vec(&own).map_err(|error| Error::Invalid(error.to_string()))?;
    let bytes = peers.broadcast(bytes, 0)?;
    let first: Premises = serde_json::from_slice(&bytes).map_err(|error| {
        Error::Invalid(format!(
            "rank 0 sent settings that this program does not know ({error}); run the same version everywhere"
        ))
    })?;
    let mut different = differences(&first.config, config);
    // Free to change from one part of a run to the next, but not from rank to rank: all take part.
    if first.config.monitor != config.monitor {
        different.push("the section [monitor] is another".into());
    }
    if first.samples != own.samples {
        let (there, here) = (first.samples, own.samples);
        different.push(format!("{there} images there, {here} here"));
    } else if first.images != own.images {
        different.push(format!(
            "the {} images of {} have other names, another order or other labels than those of rank 0",
            own.samples, config.data.source
        ));
    }
    if different.is_empty() {
        return Ok(());
    }
    Err(Error::Invalid(format!(
        "rank {} was not started as rank 0 was: {}; give all ranks the same command and the same data",
        peers.rank(),
        different.join("; ")
    )))
}

/// What rank 0 needs to begin, unless it was asked to stop while it waited for that: then no rank begins, and all end alike.
///
/// # Errors
/// What `taken` has; [`Error::Stopped`] where rank 0 has it; a peer's failure.
pub(super) fn share_stop<T>(peers: &dyn Collective, taken: Result<T>) -> Result<T> {
    let why = match &taken {
        Ok(_) => Vec::new(),
        Err(Error::Stopped(why)) => why.clone().into_bytes(),
        Err(_) => return taken,
    };
    if peers.world_size() == 1 {
        return taken;
    }
    let why = peers.broadcast(why, 0)?;
    if why.is_empty() {
        return taken;
    }
    Err(Error::Stopped(String::from_utf8_lossy(&why).into_owned()))
}

/// The checkpoint of rank 0 on all ranks, if it has one: they need not see its disk.
///
/// # Errors
/// If a peer fails.
pub(super) fn share_checkpoint(
    peers: &dyn Collective,
    files: Option<Files>,
) -> Result<Option<Files>> {
    if peers.world_size() == 1 {
        return Ok(files);
    }
    let names = files.as_ref().map(Files::names).unwrap_or_default();
    let names = peers.broadcast(names.join("\n").into_bytes(), 0)?;
    let names = String::from_utf8_lossy(&names).into_owned();
    if names.is_empty() {
        return Ok(None);
    }
    let mut files = files.unwrap_or_else(|| Files::empty("the checkpoint of rank 0"));
    for name in names.lines() {
        let bytes = peers.broadcast(files.take(name), 0)?;
        files.put(name, bytes);
    }
    Ok(Some(files))
}

/// What rank 0 found in its records, on all ranks.
///
/// # Errors
/// If a peer fails.
pub(super) fn share_epoch(
    peers: &dyn Collective,
    epoch: Option<EpochEvent>,
) -> Result<Option<EpochEvent>> {
    if peers.world_size() == 1 {
        return Ok(epoch);
    }
    let sent = serde_json::to_vec(&epoch).map_err(|error| Error::Invalid(error.to_string()))?;
    let sent = peers.broadcast(sent, 0)?;
    serde_json::from_slice(&sent)
        .map_err(|error| Error::Invalid(format!("rank 0 sent an epoch that is none: {error}")))
}

/// The weights and running statistics of rank 0, whatever this rank has.
///
/// # Errors
/// If a peer fails.
pub(super) fn share_weights(peers: &dyn Collective, mut state: StateDict) -> Result<StateDict> {
    // Ranks have the same model, hence the same names and shapes.
    let bytes = state
        .values()
        .flat_map(|array| &array.data)
        .flat_map(|value| value.to_le_bytes())
        .collect();
    let bytes = peers.broadcast(bytes, 0)?;
    let (values, _) = bytes.as_chunks();
    let mut values = values.iter().map(|&bytes| f32::from_le_bytes(bytes));
    for array in state.values_mut() {
        for (own, first) in array.data.iter_mut().zip(&mut values) {
            *own = first;
        }
    }
    Ok(state)
}
