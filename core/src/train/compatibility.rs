//! Whether a run may continue under another configuration.

use crate::config::Config;
use crate::{Error, Result};
use std::path::Path;

/// Keys that may change between the parts of a run: they do not touch what is learnt.
const FREE: [&str; 5] = [
    "data.source",
    "data.workers",
    "data.cache_mib",
    "train.log_every",
    "train.timeout_seconds",
];
const FREE_SECTIONS: [&str; 3] = ["checkpoint", "eval", "monitor"];

/// The keys that change what is learnt and whose values differ, each as `key is A, now B`.
pub(super) fn differences(before: &Config, now: &Config) -> Vec<String> {
    let value = |config: &Config, section: &str, name: &str| {
        toml::Table::try_from(config)
            .ok()
            .and_then(|table| table.get(section)?.get(name).cloned())
    };
    let mut changed = Vec::new();
    for key in Config::keys() {
        let path = key.path();
        if FREE.contains(&path.as_str()) || FREE_SECTIONS.contains(&key.section) {
            continue;
        }
        let (old, new) = (
            value(before, key.section, key.name),
            value(now, key.section, key.name),
        );
        if let (Some(old), Some(new)) = (old, new)
            && old != new
        {
            changed.push(format!("{path} is {old}, now {new}"));
        }
    }
    changed
}

/// Follow the number of ranks, which may change between the parts of a run.
const OF_THE_RANKS: [&str; 2] = ["train.syncbn_group_size ", "train.bucket_mib "];

/// Refuses to continue `run`, begun with `before`, under `now` where that would change its course.
pub(super) fn check(run: &Path, before: &Config, now: &Config) -> Result<()> {
    let mut changed = differences(before, now);
    let of_the_ranks =
        |difference: &str| OF_THE_RANKS.iter().any(|key| difference.starts_with(key));
    changed.retain(|difference| !of_the_ranks(difference));
    if changed.is_empty() {
        return Ok(());
    }
    Err(Error::Checkpoint(format!(
        "{} holds a run with other settings, and continuing it under these would be neither run: {}; use the settings it was begun with, or another --out",
        run.display(),
        changed.join("; ")
    )))
}
