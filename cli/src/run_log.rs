//! `log.txt` of a run directory: what the terminal said.

use crate::error::CliError;
use selfcls_core::checkpoint::RunLock;
use std::fs::OpenOptions;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// The log of one rank: `log.txt` of rank 0, `log.rankN.txt` of the others.
#[derive(Debug, Clone)]
pub(crate) struct RunLog {
    run: PathBuf,
    path: PathBuf,
    /// Whether the folder is known to be this run's.
    ours: Arc<AtomicBool>,
    rank: usize,
}

impl RunLog {
    pub(crate) fn of_rank(run: &Path, rank: usize) -> Self {
        Self {
            run: run.to_path_buf(),
            path: run.join(Self::name_of_rank(rank)),
            ours: Arc::default(),
            rank,
        }
    }

    /// The file in the run directory.
    pub(crate) fn name_of_rank(rank: usize) -> String {
        match rank {
            0 => "log.txt".to_owned(),
            rank => format!("log.rank{rank}.txt"),
        }
    }

    /// Appends a line, where the folder is this run's: one that was refused stays as it was, and so does one that another
    /// process has.
    pub(crate) fn note(&self, line: &str) {
        if !self.ours.load(Ordering::Relaxed) {
            // Rank 0 takes the lock for all.
            let is_anothers = self.rank == 0 && RunLock::is_held_elsewhere(&self.run);
            if is_anothers || !self.run.join(".lock").is_file() {
                return;
            }
            self.ours.store(true, Ordering::Relaxed);
        }
        let file = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&self.path);
        // The log is a convenience: a full disk shows itself at the next checkpoint, with an error.
        let _ = file.and_then(|mut file| writeln!(file, "{line}"));
    }

    /// Appends an error and its hints.
    pub(crate) fn note_error(&self, error: &CliError) {
        self.note(&error.to_string());
    }
}
