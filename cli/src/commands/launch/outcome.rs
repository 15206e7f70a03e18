//! What the ends of the processes mean together.

use crate::error::{CliError, INTERRUPTED, REQUEUE, USAGE};
use crate::signals::Request;
use std::process::ExitStatus;
use std::time::Duration;

/// How all processes ended.
#[derive(Debug)]
pub(super) enum Outcome {
    /// Every one did what it was to do.
    Success,
    /// They stopped after a checkpoint, because they were asked to.
    Stopped(CliError),
    /// One of them failed, and `error` says which, and of what.
    Failed {
        error: CliError,
        /// Whether another attempt may succeed.
        retry: bool,
    },
}

/// How one process ended.
#[derive(Debug, Clone)]
pub(super) struct End {
    code: Option<i32>,
    signal: Option<i32>,
    after: Duration,
    killed: bool,
}

impl End {
    /// The end of a process `after` the start of all; `killed` if it was us who ended it.
    pub(super) fn new(status: ExitStatus, after: Duration, killed: bool) -> Self {
        Self {
            code: status.code(),
            signal: signal(status),
            after,
            killed,
        }
    }

    /// Neither a success nor a stop after a checkpoint.
    pub(super) fn is_failure(&self) -> bool {
        !self.has_code(0) && !self.is_stop()
    }

    fn is_stop(&self) -> bool {
        self.has_code(REQUEUE) || self.has_code(INTERRUPTED)
    }

    /// After a checkpoint, or by a signal that asks for an end, which came before it could be heard.
    fn is_as_asked(&self) -> bool {
        self.is_stop() || self.signal.is_some_and(asks_for_an_end)
    }

    fn has_code(&self, code: u8) -> bool {
        self.code == Some(i32::from(code))
    }

    /// To follow `rank 3 `.
    fn describe(&self) -> String {
        match (self.signal, self.code) {
            _ if self.killed => "did not end by itself and was killed".to_owned(),
            (Some(signal), _) => format!("died of signal {}", signal_name(signal)),
            (None, Some(code)) => format!("ended with exit code {code}"),
            (None, None) => "ended without an exit code".to_owned(),
        }
    }
}

/// That somebody has asked the launch to end, and how long after the start of all.
#[derive(Debug, Clone, Copy)]
pub(super) struct Asked {
    pub(super) request: Request,
    pub(super) after: Duration,
}

/// Judges the ends of ranks 0, 1, ..., which were `asked` to end if somebody asked the launch; `last_lines` are those of
/// a rank's output that nobody has seen.
pub(super) fn judge(
    ends: &[End],
    asked: Option<Asked>,
    last_lines: impl Fn(usize) -> Vec<String>,
) -> Outcome {
    let stops = || ends.iter().filter(|end| end.is_stop());
    if let Some(Asked { request, .. }) = asked
        && began_as_asked(ends)
    {
        let code = stops().filter_map(|end| end.code).max();
        return Outcome::Stopped(match code {
            Some(code) if code == i32::from(INTERRUPTED) => stopped(Request::Stop),
            Some(_) => stopped(Request::Requeue),
            None => stopped(request),
        });
    }
    let failures = || {
        let numbered = ends.iter().enumerate();
        numbered.filter(|(_, end)| end.is_failure())
    };
    // Those that end in the same moment: a signal is a cause, an exit code may be an effect.
    let first = failures().min_by_key(|(_, end)| (end.killed, end.after, end.signal.is_none()));
    let Some((rank, end)) = first else {
        return match stops().max_by_key(|end| end.code) {
            None => Outcome::Success,
            Some(end) if end.has_code(INTERRUPTED) => Outcome::Stopped(stopped(Request::Stop)),
            Some(_) => Outcome::Stopped(stopped(Request::Requeue)),
        };
    };
    let others = failures().filter(|(other, _)| *other != rank);
    let others: Vec<String> = others
        .map(|(other, end)| format!("rank {other} {}", end.describe()))
        .collect();
    let mut message = format!(
        "rank {rank} of {} {}, {:.1} s after the start",
        ends.len(),
        end.describe(),
        end.after.as_secs_f64()
    );
    if !others.is_empty() {
        message.push_str(&format!("; then {}", others.join(", ")));
    }
    let lines = last_lines(rank);
    if !lines.is_empty() {
        message.push_str(&format!("\nthe last lines of rank {rank}:"));
        for line in lines {
            message.push_str(&format!("\n  {line}"));
        }
    }
    let usage = end.has_code(USAGE);
    // What fails once it was asked to end, such as a checkpoint that cannot be written, is no matter of another attempt; and where
    // nobody asked us, somebody asked a rank.
    let retry = match asked {
        Some(asked) => end.after <= asked.after,
        None => stops().next().is_none(),
    };
    let error = match usage {
        true => CliError::usage(message),
        false => CliError::failure(message),
    };
    Outcome::Failed {
        error: match end.signal.filter(|_| !end.killed).and_then(likely_cause) {
            Some(cause) => error.hint(cause),
            None => error,
        },
        retry: retry && !usage,
    }
}

/// Whether the first that ended did so as it was asked to. Before the training a rank does not wait for the others, and may leave
/// one that has begun with it behind, which then fails for its absence.
fn began_as_asked(ends: &[End]) -> bool {
    let ended = ends.iter().filter(|end| !end.has_code(0));
    let first = ended.min_by_key(|end| (end.after, !end.is_as_asked()));
    first.is_some_and(End::is_as_asked)
}

/// The end of all that `request` asked for.
fn stopped(request: Request) -> CliError {
    CliError::as_asked(request, "all ranks stopped, as they were asked to")
}

/// The end of those of which one had failed before `request` came, instead of another start.
pub(super) fn not_started_again(request: Request) -> CliError {
    CliError::as_asked(
        request,
        "the ranks are not started again, for the launch was asked to end",
    )
}

#[cfg(unix)]
fn signal(status: ExitStatus) -> Option<i32> {
    std::os::unix::process::ExitStatusExt::signal(&status)
}

#[cfg(unix)]
fn asks_for_an_end(signal: i32) -> bool {
    crate::signals::NUMBERS.contains(&signal)
}

#[cfg(unix)]
fn signal_name(signal: i32) -> String {
    let name = nix::sys::signal::Signal::try_from(signal);
    name.map_or_else(|_| signal.to_string(), |name| format!("{signal} ({name})"))
}

/// Why systems send a signal that no user has sent.
#[cfg(unix)]
fn likely_cause(signal: i32) -> Option<&'static str> {
    use nix::libc::{SIGBUS, SIGKILL};
    match signal {
        SIGKILL => Some(
            "systems do that to a process where memory runs out (dmesg tells): fewer ranks on a machine, or a smaller data.cache_mib, take less",
        ),
        SIGBUS => Some(
            "a file that is mapped into memory has no room or has gone: in a container that is often /dev/shm, which needs to be larger for NCCL",
        ),
        _ => None,
    }
}

#[cfg(not(unix))]
fn likely_cause(_signal: i32) -> Option<&'static str> {
    None
}

#[cfg(not(unix))]
fn signal(_status: ExitStatus) -> Option<i32> {
    None
}

#[cfg(not(unix))]
fn asks_for_an_end(_signal: i32) -> bool {
    false
}

#[cfg(not(unix))]
fn signal_name(signal: i32) -> String {
    signal.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ended(code: i32, after: u64) -> End {
        End {
            code: Some(code),
            signal: None,
            after: Duration::from_millis(after),
            killed: false,
        }
    }

    fn died(signal: i32, after: u64, killed: bool) -> End {
        End {
            code: None,
            signal: Some(signal),
            killed,
            ..ended(0, after)
        }
    }

    fn failure(ends: &[End]) -> (String, bool) {
        match judge(ends, None, |rank| vec![format!("words of {rank}")]) {
            Outcome::Failed { error, retry } => (format!("{error:?}"), retry),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn all_well_is_success_and_stops_are_the_largest_code() {
        let none = |_| Vec::new();
        assert!(matches!(
            judge(&[ended(0, 1), ended(0, 9)], None, none),
            Outcome::Success
        ));
        for (codes, expected) in [
            ([75, 75], "Requeue"),
            ([75, 130], "Interrupted"),
            ([130, 0], "Interrupted"),
        ] {
            let ends = codes.map(|code| ended(code, 5));
            match judge(&ends, None, none) {
                Outcome::Stopped(error) => assert!(format!("{error:?}").contains(expected)),
                other => panic!("{other:?}"),
            }
        }
    }

    #[test]
    fn the_first_failure_is_named_and_quoted() {
        let ends = [
            ended(1, 700),
            ended(1, 650),
            died(9, 40, false),
            died(9, 900, true),
        ];
        let (message, retry) = failure(&ends);
        let first = "rank 2 of 4 died of signal 9";
        let parts = [
            first,
            "0.0 s after",
            "rank 0 ended with exit code 1",
            "rank 3 did not end by itself",
            "words of 2",
        ];
        for part in parts {
            assert!(message.contains(part), "{message}: lacks {part}");
        }
        assert!(retry);
        #[cfg(unix)]
        assert!(message.contains("where memory runs out"), "{message}");
        // Seen in the same look.
        let (message, _) = failure(&[ended(1, 40), died(11, 40, false)]);
        assert!(
            message.contains("rank 1 of 2 died of signal 11") && message.contains("hints: []"),
            "{message}"
        );
    }

    #[test]
    fn usage_and_stops_are_not_tried_again() {
        let (message, retry) = failure(&[ended(2, 5), ended(2, 6)]);
        assert!(message.contains("Usage") && !retry, "{message}");
        let (message, retry) = failure(&[ended(130, 5), ended(1, 6)]);
        assert!(
            message.contains("rank 1 of 2 ended with exit code 1") && !retry,
            "{message}"
        );
    }

    #[cfg(unix)]
    #[test]
    fn what_was_asked_for_is_no_failure() {
        let none = |_| Vec::new();
        let asked = |request, after| {
            let after = Duration::from_millis(after);
            Some(Asked { request, after })
        };
        let requeue = asked(Request::Requeue, 20);
        for (ends, asked, expected) in [
            // Before they could listen.
            (
                [died(10, 40, false), died(10, 40, false)],
                requeue,
                "Requeue",
            ),
            (
                [died(15, 40, false), ended(0, 40)],
                asked(Request::Stop, 20),
                "Interrupted",
            ),
            // One was not yet training, the other was, and misses it.
            ([ended(1, 90), ended(75, 40)], requeue, "Requeue"),
            ([ended(1, 40), ended(75, 40)], requeue, "Requeue"),
            ([died(9, 900, true), ended(130, 40)], requeue, "Interrupted"),
        ] {
            match judge(&ends, asked, none) {
                Outcome::Stopped(error) => assert!(format!("{error:?}").contains(expected)),
                other => panic!("{ends:?}: {other:?}"),
            }
        }
        // A checkpoint that could not be written.
        for asked in [requeue, asked(Request::Stop, 20)] {
            match judge(&[ended(1, 30), ended(75, 90)], asked, none) {
                Outcome::Failed { retry, .. } => assert!(!retry),
                other => panic!("{other:?}"),
            }
        }
        // Nobody asked us: somebody killed a rank.
        let (message, retry) = failure(&[died(15, 40, false), ended(1, 60)]);
        assert!(message.contains("rank 0 of 2 died of signal 15") && retry);
        // One that had failed before is as it was: whether it would be started again is for the launch to say.
        for (ends, expected) in [
            ([ended(1, 30), ended(1, 90)], true),
            ([died(9, 30, false), ended(130, 90)], true),
            ([ended(2, 30), ended(1, 90)], false),
        ] {
            match judge(&ends, asked(Request::Stop, 40), none) {
                Outcome::Failed { retry, .. } => assert_eq!(retry, expected, "{ends:?}"),
                other => panic!("{other:?}"),
            }
        }
    }
}
