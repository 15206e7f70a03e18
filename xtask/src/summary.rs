//! What was done, how long it took, and what could not be done here.

use std::fmt;
use std::time::{Duration, Instant};

/// The marker with which a test says that it cannot run on this machine.
const NOT_RUN: &str = "NOT RUN: ";
/// The marker of the lines of the suite's parity table.
const PARITY: &str = "parity | ";

#[derive(Default)]
pub(crate) struct Summary {
    parts: Vec<Part>,
    not_run: Vec<String>,
    parity: Vec<String>,
    tests: Counts,
}

struct Part {
    name: &'static str,
    took: Duration,
    passed: bool,
}

/// Totals of the `test result:` lines.
#[derive(Default, Clone, Copy, PartialEq, Eq, Debug)]
struct Counts {
    passed: usize,
    failed: usize,
    ignored: usize,
}

impl Summary {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// Does one part of the work and notes its time and outcome.
    pub(crate) fn part(
        &mut self,
        name: &'static str,
        work: impl FnOnce(&mut Self) -> bool,
    ) -> bool {
        println!("\n== {name}");
        let start = Instant::now();
        let passed = work(self);
        self.parts.push(Part {
            name,
            took: start.elapsed(),
            passed,
        });
        passed
    }

    /// Notes that something cannot run on this machine.
    pub(crate) fn not_run(&mut self, what: &str, why: &str) {
        let line = format!("{what}: {why}");
        if !self.not_run.contains(&line) {
            self.not_run.push(line);
        }
    }

    /// Takes what matters from a line of `cargo test`.
    pub(crate) fn read_test_output(&mut self, line: &str) {
        if let Some((_, said)) = line.split_once(NOT_RUN) {
            let (what, why) = said.split_once(": ").unwrap_or((said, "no reason given"));
            self.not_run(what, why);
        } else if let Some((_, result)) = line.split_once("test result: ") {
            let counts = Counts::parse(result);
            self.tests.passed += counts.passed;
            self.tests.failed += counts.failed;
            self.tests.ignored += counts.ignored;
        } else if let Some((test, why)) = ignored(line) {
            self.not_run(test, why);
        } else if let Some(row) = line.strip_prefix(PARITY.trim_end()) {
            self.parity.push(row.trim().to_owned());
        }
    }

    pub(crate) fn has_failed(&self) -> bool {
        self.parts.iter().any(|part| !part.passed)
    }
}

/// `test NAME ... ignored, REASON`, which is how the harness reports `#[ignore = "REASON"]`.
fn ignored(line: &str) -> Option<(&str, &str)> {
    let (test, outcome) = line.strip_prefix("test ")?.split_once(" ... ")?;
    let why = outcome.strip_prefix("ignored")?;
    Some((test, why.strip_prefix(", ").unwrap_or("ignored")))
}

impl Counts {
    /// Reads `ok. 12 passed; 0 failed; 1 ignored; 0 measured; ...`.
    fn parse(result: &str) -> Self {
        let words: Vec<&str> = result
            .split([' ', ';'])
            .filter(|word| !word.is_empty())
            .collect();
        let before = |name| {
            let at = words.iter().position(|&word| word == name)?;
            words.get(at.checked_sub(1)?)?.parse().ok()
        };
        Self {
            passed: before("passed").unwrap_or(0),
            failed: before("failed").unwrap_or(0),
            ignored: before("ignored").unwrap_or(0),
        }
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.parity.is_empty() {
            writeln!(f, "\n== parity with the authors' numbers")?;
            for row in &self.parity {
                writeln!(f, "{row}")?;
            }
        }
        writeln!(f, "\n== summary")?;
        for part in &self.parts {
            let outcome = if part.passed { "ok" } else { "FAILED" };
            writeln!(f, "{:<22} {:>9}  {outcome}", part.name, clock(part.took))?;
        }
        let total = self.parts.iter().map(|part| part.took).sum();
        writeln!(f, "{:<22} {:>9}", "total", clock(total))?;
        if self.tests != Counts::default() {
            let Counts {
                passed,
                failed,
                ignored,
            } = self.tests;
            writeln!(
                f,
                "tests: {passed} passed, {failed} failed, {ignored} ignored"
            )?;
        }
        if self.not_run.is_empty() {
            return writeln!(f, "nothing was left out");
        }
        writeln!(f, "not run on this machine:")?;
        for line in &self.not_run {
            writeln!(f, "  {line}")?;
        }
        Ok(())
    }
}

/// `3.2 s`, `4 min 05 s`.
fn clock(time: Duration) -> String {
    let seconds = time.as_secs();
    if seconds < 60 {
        format!("{:.1} s", time.as_secs_f64())
    } else {
        format!("{} min {:02} s", seconds / 60, seconds % 60)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_output_is_counted_and_what_did_not_run_is_kept_once() {
        let mut summary = Summary::new();
        for line in [
            "running 3 tests",
            "test a ... ok",
            "test b ... ignored, needs a GPU",
            "test c ... ignored",
            "test d ... NOT RUN: d[wgpu]: no adapter: install one",
            "NOT RUN: d[wgpu]: no adapter: install one",
            "test result: ok. 12 passed; 0 failed; 2 ignored; 0 measured; 0 filtered out; finished in 0.1s",
            "test result: FAILED. 1 passed; 3 failed; 0 ignored; 0 measured; 0 filtered out",
            "parity | case   allowed  flex",
            "parity |",
            "parity | loss   1e-6     2e-7",
        ] {
            summary.read_test_output(line);
        }
        let counts = Counts {
            passed: 13,
            failed: 3,
            ignored: 2,
        };
        assert_eq!(summary.tests, counts);
        assert_eq!(
            summary.not_run,
            [
                "b: needs a GPU",
                "c: ignored",
                "d[wgpu]: no adapter: install one"
            ]
        );
        let table = "case   allowed  flex\n\nloss   1e-6     2e-7\n\n== summary";
        assert!(summary.to_string().contains(table), "{summary}");
    }

    #[test]
    fn one_failed_part_fails_the_whole() {
        let mut summary = Summary::new();
        summary.part("good", |_| true);
        assert!(!summary.has_failed());
        summary.part("bad", |_| false);
        summary.part("good again", |_| true);
        assert!(summary.has_failed());
        assert!(summary.to_string().contains("FAILED"));
    }

    #[test]
    fn times_are_readable() {
        assert_eq!(clock(Duration::from_millis(3240)), "3.2 s");
        assert_eq!(clock(Duration::from_secs(245)), "4 min 05 s");
    }
}
