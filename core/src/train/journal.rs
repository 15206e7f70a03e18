//! `metrics.jsonl`: one JSON object per logged step and per epoch.

use super::event::Event;
use crate::{Error, Result, atomic};
use serde::{Deserialize, Serialize};
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

/// Appends metrics to a file, keeping it consistent with the checkpoints across restarts.
pub(super) struct Journal {
    path: PathBuf,
    file: File,
    every: usize,
}

#[derive(Serialize)]
struct Line<'a, T> {
    kind: &'a str,
    #[serde(flatten)]
    event: &'a T,
}

impl Journal {
    /// Opens the journal of `run` as of `step` steps: lines of later steps, written after the last
    /// checkpoint of an interrupted run, are dropped, since those steps will be made again.
    pub(super) fn open(run: &Path, step: usize, every: usize) -> Result<Self> {
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
        Ok(Self { path, file, every })
    }

    /// Writes the event's line, if it has one.
    pub(super) fn record(&mut self, event: &Event) -> Result<()> {
        let line = match event {
            Event::Step(event) if event.step.is_multiple_of(self.every) => {
                serde_json::to_string(&Line {
                    kind: "step",
                    event,
                })
            }
            Event::Epoch(event) => serde_json::to_string(&Line {
                kind: "epoch",
                event,
            }),
            _ => return Ok(()),
        };
        let line = line.map_err(|error| Error::malformed(&self.path, error))?;
        // One write per line: a crash leaves at most one line cut off.
        self.file
            .write_all(format!("{line}\n").as_bytes())
            .map_err(Error::io("write", &self.path))
    }
}
