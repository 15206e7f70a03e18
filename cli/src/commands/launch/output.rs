//! What the ranks other than 0 say.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read};
use std::process::Child;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// How many of a rank's last lines are kept.
const KEPT: usize = 20;
/// Longer lines are kept in pieces.
const LONGEST_LINE: u64 = 4096;
/// How long the ranks' last words are waited for: a process of their own could keep their pipes open for ever.
const PATIENCE: Duration = Duration::from_secs(3);

/// The last lines of a rank's standard output and standard error.
pub(super) struct Output {
    lines: Arc<Mutex<VecDeque<String>>>,
    readers: Vec<JoinHandle<()>>,
}

impl Output {
    /// Reads the pipes of `child`; `None` if there are none. With `show` each line also goes to standard error.
    pub(super) fn of(rank: usize, child: &mut Child, show: bool) -> Option<Self> {
        let lines = Arc::new(Mutex::new(VecDeque::new()));
        let mut readers = Vec::new();
        let mut read = |pipe: Box<dyn Read + Send>| {
            let lines = Arc::clone(&lines);
            readers.push(thread::spawn(move || keep_lines(rank, pipe, &lines, show)));
        };
        if let Some(pipe) = child.stdout.take() {
            read(Box::new(pipe));
        }
        if let Some(pipe) = child.stderr.take() {
            read(Box::new(pipe));
        }
        (!readers.is_empty()).then_some(Self { lines, readers })
    }

    /// Waits until all that processes which have ended said is read, and shown where it is to be.
    pub(super) fn wait<'a>(outputs: impl Iterator<Item = &'a Self>) {
        let until = Instant::now() + PATIENCE;
        for reader in outputs.flat_map(|output| &output.readers) {
            while !reader.is_finished() && Instant::now() < until {
                thread::sleep(Duration::from_millis(5));
            }
        }
    }

    /// The last lines that were read.
    pub(super) fn last_lines(&self) -> Vec<String> {
        let lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        lines.iter().cloned().collect()
    }
}

fn keep_lines(
    rank: usize,
    pipe: Box<dyn Read + Send>,
    lines: &Mutex<VecDeque<String>>,
    show: bool,
) {
    let mut reader = BufReader::new(pipe);
    let mut bytes = Vec::new();
    // A pipe that cannot be read is as one that has ended.
    while let Ok(1..) = reader
        .by_ref()
        .take(LONGEST_LINE)
        .read_until(b'\n', &mut bytes)
    {
        let line = String::from_utf8_lossy(&bytes).trim_end().to_owned();
        bytes.clear();
        if show {
            anstream::eprintln!("[{rank}] {line}");
        }
        let mut lines = lines.lock().unwrap_or_else(PoisonError::into_inner);
        if lines.len() == KEPT {
            lines.pop_front();
        }
        lines.push_back(line);
    }
}
