//! `metrics.jsonl`: one JSON object per logged step and per epoch.

use super::Row;
use crate::{Error, Result, atomic};
use serde::Deserialize;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

/// Appends metrics to a file, keeping it consistent with the checkpoints across restarts.
pub(super) struct Journal {
    path: PathBuf,
    file: File,
}

impl Journal {
    /// Opens the journal of `run` as of `step` steps: lines of later steps, written after the last
    /// checkpoint of an interrupted run, are dropped, since those steps will be made again.
    pub(super) fn open(run: &Path, step: usize) -> Result<Self> {
        #[derive(Deserialize)]
        struct Stamp {
            step: usize,
        }
        let path = run.join("metrics.jsonl");
        if let Ok(text) = fs::read_to_string(&path) {
            let kept: String = text
                .split_inclusive('\n')
                .filter(|line| {
                    // A line cut off by a crash does not parse, and goes too.
                    serde_json::from_str::<Stamp>(line).is_ok_and(|stamp| stamp.step <= step)
                })
                .collect();
            if kept.len() != text.len() {
                atomic::write(&path, kept.as_bytes())?;
            }
        }
        let file = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&path)
            .map_err(Error::io("open", &path))?;
        Ok(Self { path, file })
    }

    pub(super) fn append(&mut self, row: &Row) -> Result<()> {
        let line =
            serde_json::to_string(row).map_err(|error| Error::malformed(&self.path, error))?;
        // One write per line: a crash leaves at most one line cut off.
        self.file
            .write_all(format!("{line}\n").as_bytes())
            .map_err(Error::io("write", &self.path))
    }

    /// Everything recorded so far, restarts included.
    pub(super) fn rows(&self) -> Result<Vec<Row>> {
        let text = fs::read_to_string(&self.path).map_err(Error::io("read", &self.path))?;
        text.lines()
            .map(|line| {
                serde_json::from_str(line).map_err(|error| Error::malformed(&self.path, error))
            })
            .collect()
    }
}
