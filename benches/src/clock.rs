//! Two ways of telling time.

use crate::Outcome;
use std::path::Path;
use std::time::Instant;

/// What a benchmark is timed by.
#[derive(Debug, Clone, Copy)]
pub enum Clock {
    /// The time that passes, since then.
    Wall(Instant),
    /// What the processor has given to the threads of this process: other programs on the machine do not count.
    Processor,
}

impl Clock {
    /// Milliseconds since some beginning.
    ///
    /// # Errors
    /// If the operating system does not tell processor time by thread; Linux does.
    pub fn now(self) -> Outcome<f64> {
        match self {
            Self::Wall(start) => Ok(start.elapsed().as_secs_f64() * 1e3),
            Self::Processor => processor_time(Path::new("/proc/self/task"))
                .map_err(|error| format!("no processor time on this system: {error}").into()),
        }
    }
}

/// The first number of each thread's `schedstat`, nanoseconds on a processor, added up.
fn processor_time(threads: &Path) -> Outcome<f64> {
    let mut nanoseconds = 0_u64;
    for thread in std::fs::read_dir(threads)? {
        let text = std::fs::read_to_string(thread?.path().join("schedstat"))?;
        let first = text.split_whitespace().next().unwrap_or_default();
        nanoseconds += first.parse::<u64>()?;
    }
    Ok(nanoseconds as f64 / 1e6)
}
