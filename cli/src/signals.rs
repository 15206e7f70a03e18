//! What people and systems ask of a running training: to stop, or to make room and be started again.
//!
//! | signal | who sends it | meaning |
//! |---|---|---|
//! | SIGINT | Ctrl-C | stop after a checkpoint; at once if it was asked before |
//! | SIGTERM, SIGHUP | `kill`, `scancel`, a closed terminal, a launcher | stop after a checkpoint |
//! | SIGUSR1 | Slurm's `--signal=USR1@120` before time runs out | the same, and ask to be started again |
//!
//! SIGINT and SIGHUP that were ignored when it was started stay so: `nohup` and shells that start something in the
//! background want that.
//!
//! So it ends, too, when `selfcls-cli launch` or torchrun, which started it, is gone.
//!
//! Before the training itself has begun there is nothing to save, and all of them end the process at once.
//!
//! The first request counts: what follows it, such as the SIGTERM with which Slurm ends a step whose first task has
//! gone, changes nothing any more.

use crate::error::{INTERRUPTED, REQUEUE};
use crate::run_log::RunLog;
#[cfg(unix)]
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1};
use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Once, OnceLock};

/// Why a training is to end early.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Request {
    /// Somebody no longer wants it to run.
    Stop,
    /// The machine is needed for something else, and the training is to go on later.
    Requeue,
}

#[cfg(unix)]
impl Request {
    /// What a signal asks for, one of [`NUMBERS`].
    pub(crate) fn by(signal: i32) -> Self {
        match signal {
            SIGUSR1 => Self::Requeue,
            _ => Self::Stop,
        }
    }
}

/// The signals above.
#[cfg(unix)]
pub(crate) const NUMBERS: [i32; 4] = [SIGHUP, SIGINT, SIGTERM, SIGUSR1];

static TRAINING: AtomicBool = AtomicBool::new(false);
static STEPPING: AtomicBool = AtomicBool::new(false);
/// Set when the first request has been said: the training may end the process in the next moment.
static ASKED: AtomicBool = AtomicBool::new(false);
static FIRST: OnceLock<Request> = OnceLock::new();
static LOG: OnceLock<RunLog> = OnceLock::new();

/// Gives the signals above their meaning: without it SIGUSR1 ends a process with no exit code of ours.
pub(crate) fn install() {
    static INSTALLED: Once = Once::new();
    INSTALLED.call_once(listen);
}

/// While it lives, the signals above wait for this thread. A process that is started meanwhile inherits that, and hears them when it
/// is [`ready`].
#[cfg(unix)]
pub(crate) struct Held(Option<nix::sys::signal::SigSet>);

#[cfg(unix)]
impl Held {
    pub(crate) fn new() -> Self {
        use nix::sys::signal::SigmaskHow::SIG_BLOCK;
        Self(signals().thread_swap_mask(SIG_BLOCK).ok())
    }
}

#[cfg(unix)]
impl Drop for Held {
    fn drop(&mut self) {
        if let Some(before) = &self.0 {
            // It fails for values that are no mask only.
            let _ = before.thread_set_mask();
        }
    }
}

#[cfg(unix)]
fn signals() -> nix::sys::signal::SigSet {
    use nix::sys::signal::{SigSet, Signal};
    let known = |number| Signal::try_from(number).ok();
    NUMBERS.into_iter().filter_map(known).collect::<SigSet>()
}

/// Hears the signals that `selfcls-cli launch` has [`Held`] since it started this process.
#[cfg(unix)]
pub(crate) fn ready() {
    use selfcls_backends::Rendezvous;
    if std::env::var_os(Rendezvous::LAUNCHED_BY).is_some() {
        // It fails for values that are no mask only.
        let _ = signals().thread_unblock();
    }
}

/// Ctrl-C cannot wait.
#[cfg(not(unix))]
pub(crate) struct Held;

#[cfg(not(unix))]
impl Held {
    pub(crate) fn new() -> Self {
        Self
    }
}

#[cfg(not(unix))]
pub(crate) fn ready() {}

/// True once the process has been asked to end. From now on it ends after a checkpoint.
pub(crate) fn stop_flag() -> &'static AtomicBool {
    install();
    TRAINING.store(true, Ordering::SeqCst);
    &ASKED
}

/// From now on there are steps to finish and something to save. Before, a training may wait for its folder, or read.
pub(crate) fn steps_begin() {
    STEPPING.store(true, Ordering::SeqCst);
}

/// What the first request was, if there was one.
pub(crate) fn request() -> Option<Request> {
    FIRST.get().copied()
}

/// Whether the first request has been said, and why it came.
pub(crate) fn has_said_why() -> bool {
    ASKED.load(Ordering::SeqCst)
}

/// Notes a request, and says what it is `because` of.
fn ask(request: Request, because: &str) {
    let is_first = FIRST.set(request).is_ok();
    if !TRAINING.load(Ordering::SeqCst) {
        say(&format!("{because} before the training began"));
        end_at_once(match request {
            Request::Stop => INTERRUPTED,
            Request::Requeue => REQUEUE,
        });
    }
    if is_first {
        let how = match STEPPING.load(Ordering::SeqCst) {
            true => "finishing the step and writing a checkpoint",
            false => "ending as soon as nothing is lost",
        };
        say(&format!("{because}: {how} (Ctrl-C stops at once)"));
        ASKED.store(true, Ordering::SeqCst);
    }
}

/// Ends the process as it is: what has been said is written. A normal end would call destructors of libraries while their other
/// threads work, and a crash in one has an exit code of its own.
#[cfg(unix)]
fn end_at_once(code: u8) -> ! {
    signal_hook::low_level::exit(code.into())
}

#[cfg(not(unix))]
fn end_at_once(code: u8) -> ! {
    std::process::exit(code.into())
}

/// From now on what is said of signals goes into `log` as well.
pub(crate) fn log_to(log: &RunLog) {
    let _ = LOG.set(log.clone());
}

/// Says it, if anybody still reads: a launcher that is gone has closed the pipe.
fn say(line: &str) {
    if let Some(log) = LOG.get() {
        log.note(line);
    }
    let _ = writeln!(anstream::stderr(), "{line}");
}

/// The numbers of the signals above that this process is to hear.
#[cfg(unix)]
pub(crate) fn heard() -> Vec<i32> {
    let of_terminals = [SIGHUP, SIGINT];
    let wanted = |signal: &i32| !(of_terminals.contains(signal) && is_ignored(*signal));
    NUMBERS.into_iter().filter(wanted).collect()
}

#[cfg(unix)]
#[allow(
    unsafe_code,
    reason = "nobody offers a safe way to ask what a signal does"
)]
fn is_ignored(signal: i32) -> bool {
    use nix::libc::{SIG_IGN, sigaction};
    let mut now = std::mem::MaybeUninit::<sigaction>::uninit();
    // SAFETY: where no new action is given none is set; the present one is written to `now` where 0 is returned.
    unsafe {
        sigaction(signal, std::ptr::null(), now.as_mut_ptr()) == 0
            && now.assume_init().sa_sigaction == SIG_IGN
    }
}

#[cfg(unix)]
fn listen() {
    // It fails for signals that cannot be caught only, and these can.
    if let Ok(mut signals) = signal_hook::iterator::Signals::new(heard()) {
        std::thread::spawn(move || {
            for signal in signals.forever() {
                let because = match signal {
                    SIGINT if ASKED.load(Ordering::SeqCst) => end_at_once(INTERRUPTED),
                    SIGINT => "interrupted",
                    SIGUSR1 => "asked to make room (SIGUSR1)",
                    _ => "asked to stop",
                };
                ask(Request::by(signal), because);
            }
        });
    }
    watch_launcher();
}

#[cfg(not(unix))]
fn listen() {
    let _ = ctrlc::set_handler(|| {
        if ASKED.load(Ordering::SeqCst) {
            end_at_once(INTERRUPTED);
        }
        ask(Request::Stop, "interrupted");
    });
}

/// Ends the training when the launcher that started this process has gone without a word: nobody would end the ranks
/// otherwise.
#[cfg(unix)]
fn watch_launcher() {
    use std::os::unix::process::parent_id;
    use std::time::Duration;

    let Some(launcher) = launcher() else {
        return;
    };
    std::thread::spawn(move || {
        while parent_id() == launcher {
            std::thread::sleep(Duration::from_millis(500));
        }
        ask(Request::Stop, "the launcher is gone");
    });
}

/// The process id of a launcher that watches over this process: `selfcls-cli launch`, whose id its variable holds, or torchrun,
/// which starts ranks itself.
#[cfg(unix)]
fn launcher() -> Option<u32> {
    use selfcls_backends::Rendezvous;
    let parent = std::os::unix::process::parent_id();
    if let Ok(launcher) = std::env::var(Rendezvous::LAUNCHED_BY) {
        // Another parent was started by something in between, or the variable set by hand.
        return launcher.parse().ok().filter(|launcher| *launcher == parent);
    }
    std::env::var_os("TORCHELASTIC_RUN_ID").map(|_| parent)
}
