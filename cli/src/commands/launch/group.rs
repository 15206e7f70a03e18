//! The processes of a launch: started together, watched, ended together.

use super::outcome::{self, Asked, End, Outcome};
use super::output::Output;
use super::signals::Signals;
use crate::error::{CliError, Result};
use crate::signals::Held;
use selfcls_backends::Rendezvous;
use std::ffi::OsString;
use std::fmt;
use std::num::NonZeroUsize;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// How often the processes are looked after.
const INTERVAL: Duration = Duration::from_millis(20);

/// Threads with which each process computes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Threads(usize);

impl Threads {
    /// This machine's cores, as far as this process may use them, among `nproc`.
    pub(super) fn share(nproc: NonZeroUsize) -> Self {
        let cores = thread::available_parallelism().map_or(1, NonZeroUsize::get);
        Self((cores / nproc).max(1))
    }

    /// Tells `command`, unless the user has.
    fn tell(self, command: &mut Command) {
        let name = "OMP_NUM_THREADS";
        if std::env::var_os(name).is_none() {
            command.env(name, self.0.to_string());
        }
    }
}

impl fmt::Display for Threads {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            1 => f.write_str("1 thread"),
            n => write!(f, "{n} threads"),
        }
    }
}

/// One process.
struct Rank {
    child: Child,
    /// What it says, where that does not go straight through.
    output: Option<Output>,
    end: Option<End>,
    /// We have killed it.
    killed: bool,
}

/// All processes. Those that still run are killed when it is dropped.
pub(super) struct Group {
    ranks: Vec<Rank>,
    started: Instant,
}

impl Group {
    /// Starts a copy of this program for each of `places`.
    pub(super) fn start(
        places: impl Iterator<Item = Rendezvous>,
        arguments: &[OsString],
        threads: Threads,
        show_all: bool,
    ) -> Result<Self> {
        let program = std::env::current_exe().map_err(|error| {
            CliError::failure(format!("cannot tell where this program lies: {error}"))
        })?;
        let mut group = Self {
            ranks: Vec::new(),
            started: Instant::now(),
        };
        for place in places {
            let mut command = Command::new(&program);
            command
                .args(arguments)
                .envs(place.variables())
                .env(Rendezvous::LAUNCHED_BY, std::process::id().to_string())
                .stdin(Stdio::null());
            threads.tell(&mut command);
            apart(&mut command);
            if place.rank > 0 {
                command.stdout(Stdio::piped()).stderr(Stdio::piped());
            }
            let held = Held::new();
            let child = command.spawn();
            drop(held);
            let mut child = child.map_err(|error| {
                let program = program.display();
                CliError::failure(format!(
                    "cannot start {program} as rank {}: {error}",
                    place.rank
                ))
            })?;
            group.ranks.push(Rank {
                output: Output::of(place.rank, &mut child, show_all),
                child,
                end: None,
                killed: false,
            });
        }
        Ok(group)
    }

    /// Waits for the end of all, which after the first failure comes within `grace`. Signals go to all that run.
    pub(super) fn watch(mut self, grace: Duration, signals: &mut Signals) -> Result<Outcome> {
        let mut kill_at = None;
        loop {
            // What has ended before a signal is heard did not end for it.
            self.look()?;
            if self.ranks.iter().all(|rank| rank.end.is_some()) {
                break;
            }
            self.forward(signals);
            let ends = self.ranks.iter().filter_map(|rank| rank.end.as_ref());
            if ends.into_iter().any(End::is_failure) {
                let kill_at = *kill_at.get_or_insert_with(|| Instant::now() + grace);
                if Instant::now() >= kill_at {
                    self.kill();
                }
            }
            thread::sleep(INTERVAL);
        }
        Output::wait(self.ranks.iter().filter_map(|rank| rank.output.as_ref()));
        let ends = self.ranks.iter().filter_map(|rank| rank.end.clone());
        let ends: Vec<End> = ends.collect();
        let asked = signals.request().map(|(request, at)| Asked {
            request,
            after: at.saturating_duration_since(self.started),
        });
        Ok(outcome::judge(&ends, asked, |rank| {
            let output = self.ranks[rank].output.as_ref();
            output.map_or_else(Vec::new, Output::last_lines)
        }))
    }

    /// Sends the signals that have come to every process that runs.
    #[cfg(unix)]
    fn forward(&self, signals: &mut Signals) {
        use nix::unistd::Pid;
        for signal in signals.hear() {
            for rank in self.ranks.iter().filter(|rank| rank.end.is_none()) {
                if let Ok(id) = i32::try_from(rank.child.id()) {
                    // Not yet waited for, the process keeps its number even if it has just ended.
                    let _ = nix::sys::signal::kill(Pid::from_raw(id), signal);
                }
            }
        }
    }

    #[cfg(not(unix))]
    fn forward(&self, _signals: &mut Signals) {}

    /// Notes which processes have ended since the last look.
    fn look(&mut self) -> Result<()> {
        let after = self.started.elapsed();
        for (number, rank) in self.ranks.iter_mut().enumerate() {
            if rank.end.is_some() {
                continue;
            }
            let status = rank.child.try_wait().map_err(|error| {
                CliError::failure(format!("cannot tell whether rank {number} runs: {error}"))
            })?;
            rank.end = status.map(|status| End::new(status, after, rank.killed));
        }
        Ok(())
    }

    /// Kills those that still run.
    fn kill(&mut self) {
        for rank in self.ranks.iter_mut().filter(|rank| rank.end.is_none()) {
            rank.killed = true;
            // It fails for one that has just ended, which is as good.
            let _ = rank.child.kill();
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.kill();
        for rank in &mut self.ranks {
            let _ = rank.child.wait();
        }
    }
}

/// Gives the process a group of its own, so that Ctrl-C reaches it through us alone, and once.
#[cfg(unix)]
fn apart(command: &mut Command) {
    use std::os::unix::process::CommandExt;
    command.process_group(0);
}

#[cfg(not(unix))]
fn apart(_command: &mut Command) {}
