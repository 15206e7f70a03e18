//! Progress on standard error: a bar on a terminal, a line now and then anywhere else.

use crate::output;
use indicatif::{ProgressBar, ProgressStyle};
use std::io::IsTerminal;
use std::time::{Duration, Instant};

/// Time between two lines of a stage where there is no terminal.
const LINE_INTERVAL: Duration = Duration::from_secs(10);

const TEMPLATE: &str = "{prefix} [{bar:24}] {pos}/{len} {msg} ({eta} left)";

/// How progress is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Progress {
    /// Not at all.
    Quiet,
    /// As lines, for log files.
    Lines,
    /// As a bar that is drawn over.
    Bar,
}

impl Progress {
    /// A bar if standard error is a terminal, lines if not, nothing if `quiet`.
    pub(crate) fn new(quiet: bool) -> Self {
        if quiet {
            Self::Quiet
        } else if std::io::stderr().is_terminal() {
            Self::Bar
        } else {
            Self::Lines
        }
    }

    /// Prints one line, unless quiet.
    pub(crate) fn note(self, line: &str) {
        if self != Self::Quiet {
            anstream::eprintln!("{}", output::shown(line));
        }
    }

    /// Begins a stage of `total` parts, e.g. `("training", 450)`.
    pub(crate) fn stage(self, name: &'static str, total: u64) -> Stage {
        let bar = match self {
            Self::Bar => ProgressBar::new(total).with_style(bar_style()),
            // Not drawn, but still counting.
            Self::Quiet | Self::Lines => ProgressBar::hidden(),
        };
        bar.set_length(total);
        bar.set_prefix(name);
        Stage {
            progress: self,
            name,
            total,
            bar,
            next_line: Instant::now() + LINE_INTERVAL,
        }
    }
}

/// A stage in progress. Dropped without [`Stage::finish`], its bar disappears.
pub(crate) struct Stage {
    progress: Progress,
    name: &'static str,
    total: u64,
    bar: ProgressBar,
    next_line: Instant,
}

impl Stage {
    /// `done` parts are finished; `message` says how it goes, e.g. "loss 2.731".
    pub(crate) fn set(&mut self, done: u64, message: &str) {
        self.bar.set_position(done);
        self.bar.set_message(message.to_string());
        if self.progress == Progress::Lines && self.is_due(Instant::now()) {
            anstream::eprintln!("{}", line(self.name, done, self.total, message));
        }
    }

    /// Prints one line above the bar.
    pub(crate) fn note(&self, line: &str) {
        self.bar.suspend(|| self.progress.note(line));
    }

    /// Ends the stage with a last line.
    pub(crate) fn finish(self, message: &str) {
        self.bar.finish_and_clear();
        self.progress.note(&format!("{}: {message}", self.name));
    }

    /// Whether a line is due `now`; if so the next is due an interval later.
    fn is_due(&mut self, now: Instant) -> bool {
        let due = now >= self.next_line;
        if due {
            self.next_line = now + LINE_INTERVAL;
        }
        due
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        if !self.bar.is_finished() {
            self.bar.finish_and_clear();
        }
    }
}

fn bar_style() -> ProgressStyle {
    ProgressStyle::with_template(TEMPLATE)
        // Only a mistyped template fails, and the test below would see it.
        .unwrap_or_else(|_| ProgressStyle::default_bar())
        .progress_chars("=> ")
}

fn line(name: &str, done: u64, total: u64, message: &str) -> String {
    let separator = if message.is_empty() { "" } else { ", " };
    format!("{name}: {done}/{total}{separator}{message}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_come_once_per_interval() {
        let mut stage = Progress::Lines.stage("training", 450);
        let start = stage.next_line;
        assert!(!stage.is_due(start - Duration::from_millis(1)));
        assert!(stage.is_due(start));
        assert!(!stage.is_due(start + LINE_INTERVAL / 2));
        assert!(stage.is_due(start + LINE_INTERVAL * 3));
        assert_eq!(
            line("training", 3, 450, "loss 2.7"),
            "training: 3/450, loss 2.7"
        );
        assert_eq!(line("reading", 3, 4, ""), "reading: 3/4");
    }

    #[test]
    fn the_template_of_the_bar_is_valid() {
        assert!(ProgressStyle::with_template(TEMPLATE).is_ok());
    }
}
