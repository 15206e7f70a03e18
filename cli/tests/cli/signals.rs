//! A run that is asked to end writes a checkpoint at that very step, and goes on from it; or ends at once.

use super::images::train_for;
use super::killed::{lines, newest};
use super::preloaded::preloaded;
use super::ran::{command, run_in};
use nix::sys::signal::{SigHandler, Signal, kill, signal};
use nix::unistd::Pid;
use selfcls_core::checkpoint::RunLock;
use std::fs::OpenOptions;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

/// Six epochs of 16 steps; checkpoints at the ends of epochs only.
fn train(out: &str) -> Vec<&str> {
    train_for("6", "shapes:256", out)
}

/// How long a test waits for one thing, however busy the machine.
const LIMIT: Duration = Duration::from_secs(300);

fn send(child: &Child, signal: Signal) {
    kill(Pid::from_raw(child.id().try_into().unwrap()), signal).unwrap();
}

/// Waits until `steps` steps are noted in the run directory `run`.
fn reached(child: &mut Child, run: &Path, steps: usize) {
    let journal = run.join("metrics.jsonl");
    let deadline = Instant::now() + LIMIT;
    while lines(&journal).len() < steps {
        assert!(
            child.try_wait().unwrap().is_none(),
            "it ended before {steps} steps"
        );
        assert!(Instant::now() < deadline, "no {steps} lines in {LIMIT:?}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Waits until it is in the middle of a step that takes seconds: a step is noted before it is asked whether it was the last.
#[cfg(target_os = "linux")]
fn in_a_step(child: &mut Child, run: &Path) {
    reached(child, run, 1);
    let ticks = || {
        // After the name, which is in brackets and whatever it likes, the twelfth and the next number are what it has used.
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", child.id())).unwrap();
        let (_, rest) = stat.rsplit_once(')').unwrap();
        let used = rest.split_whitespace().skip(11).take(2);
        used.map(|ticks| ticks.parse::<u64>().unwrap()).sum::<u64>()
    };
    let deadline = Instant::now() + LIMIT;
    let before = ticks();
    // A tick is a hundredth of a second.
    while ticks() < before + 20 {
        assert!(Instant::now() < deadline, "it does nothing");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Sends `signals`, and gives exit code and standard error.
fn ended_by(mut child: Child, signals: &[Signal]) -> (Option<i32>, String) {
    // Heard one by one: of signals that come together the system keeps no order.
    let mut stderr = BufReader::new(child.stderr.take().unwrap());
    let mut said = String::new();
    for signal in signals {
        send(&child, *signal);
        while !said.contains("finishing the step") {
            assert_ne!(
                stderr.read_line(&mut said).unwrap(),
                0,
                "it said only {said}"
            );
        }
    }
    stderr.read_to_string(&mut said).unwrap();
    (child.wait().unwrap().code(), said)
}

/// Starts `program`, whose standard error is to be read.
fn start(program: &mut Command) -> Child {
    let program = program.stdout(Stdio::null()).stderr(Stdio::piped());
    program.spawn().unwrap()
}

/// Trains in `path` until `steps` steps are noted, sends `signals`, and gives exit code and standard error.
fn signalled(path: &Path, out: &str, steps: usize, signals: &[Signal]) -> (Option<i32>, String) {
    hear_interrupts();
    let run = path.join(out);
    // At least one step of its own: before it would end at once.
    let steps = steps.max(lines(&run.join("metrics.jsonl")).len() + 2);
    let mut child = start(&mut command(path, &train(out)));
    reached(&mut child, &run, steps);
    ended_by(child, signals)
}

/// A shell that has started the tests in the background had them ignore SIGINT, which what they start inherits.
#[allow(
    unsafe_code,
    reason = "what a signal does cannot be changed in a safe way"
)]
fn hear_interrupts() {
    // SAFETY: no handler is set, and none was.
    unsafe { signal(Signal::SIGINT, SigHandler::SigDfl) }.unwrap();
}

/// The step of the newest checkpoint, by its name.
fn checkpoint_step(run: &Path) -> usize {
    let path = selfcls_core::checkpoint::find(run).unwrap();
    let name = path.file_name().unwrap().to_str().unwrap();
    name.trim_start_matches("step-").parse().unwrap()
}

#[test]
fn a_run_that_made_room_goes_on_at_the_very_step() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    assert_eq!(run_in(path, &train("calm")).code, Some(0));

    let cases: [(usize, &[Signal], i32); 4] = [
        (5, &[Signal::SIGUSR1], 75),
        // The first request counts.
        (25, &[Signal::SIGUSR1, Signal::SIGTERM], 75),
        (40, &[Signal::SIGTERM, Signal::SIGUSR1], 130),
        (55, &[Signal::SIGINT], 130),
    ];
    for (steps, signals, expected) in cases {
        let (code, stderr) = signalled(path, "asked", steps, signals);
        assert_eq!(code, Some(expected), "{signals:?}: {stderr}");
        assert!(stderr.contains("give the same command again"), "{stderr}");
        let run = path.join("asked");
        let step = checkpoint_step(&run);
        assert!(
            stderr.contains(&format!("stopped after step {step};")),
            "{stderr}"
        );
        let noted = lines(&run.join("metrics.jsonl"));
        let noted = noted
            .iter()
            .filter(|line| line.contains("\"kind\":\"step\""));
        assert_eq!(
            noted.count(),
            step,
            "the checkpoint is of the last step made"
        );
        // The log has what the terminal said, the end included.
        let log = std::fs::read_to_string(run.join("log.txt")).unwrap();
        for line in stderr
            .lines()
            .filter(|line| line.contains("finishing the step") || line.contains("stopped after"))
        {
            assert!(log.contains(line), "no {line:?} in {log}");
        }
        assert!(log.contains(&format!("error: stopped after step {step};")));
        assert!(log.contains(": finishing the step"));
    }
    assert_eq!(run_in(path, &train("asked")).code, Some(0));

    let (calm, asked) = (newest(&path.join("calm")), newest(&path.join("asked")));
    assert!(calm.keys().eq(asked.keys()));
    for (name, bytes) in &calm {
        assert!(bytes == &asked[name], "{name} differs");
    }
}

/// SIGINT does not wait for the step once somebody has asked for an end. The step takes seconds, and signals do not.
#[test]
#[cfg(target_os = "linux")]
fn the_impatient_are_heard() {
    let folder = tempfile::tempdir().unwrap();
    let slow = "train --preset shapes-demo --data shapes:6144 --out run --batch-size 2048 --queue.length 0 --train.log_every 1";
    let slow: Vec<&str> = slow.split(' ').collect();
    hear_interrupts();
    let mut child = start(&mut command(folder.path(), &slow));
    in_a_step(&mut child, &folder.path().join("run"));
    let (code, said) = ended_by(child, &[Signal::SIGUSR1, Signal::SIGINT]);
    // 75 would be the answer to the first alone.
    assert_eq!(code, Some(130), "{said}");
    assert!(!said.contains("stopped after"), "{said}");
}

/// Nothing has begun, so that there is nothing to save, and it is no failure.
#[test]
fn a_run_that_waits_for_another_ends_as_it_is_asked_to() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    let free = AtomicBool::new(false);
    let held = RunLock::acquire(&run, Duration::ZERO, &free, &mut |_| ()).unwrap();
    let log = run.join("log.txt");
    std::fs::write(&log, "words of the other\n").unwrap();
    for (signal, expected) in [(Signal::SIGUSR1, 75), (Signal::SIGTERM, 130)] {
        let mut child = command(folder.path(), &train("run"))
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stderr = BufReader::new(child.stderr.take().unwrap());
        let mut said = String::new();
        while !said.contains("waiting for it") {
            assert_ne!(stderr.read_line(&mut said).unwrap(), 0, "{said}");
        }
        send(&child, signal);
        stderr.read_to_string(&mut said).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(expected), "{said}");
        let holder = format!("(process {} on ", std::process::id());
        let ended = "error: stopped before it began; another process";
        // There is no step to finish.
        assert!(!said.contains("the step"), "{said}");
        for part in [
            "ending as soon as nothing is lost",
            ended,
            &holder,
            "give the same command again",
        ] {
            assert!(said.contains(part), "no {part:?} in {said}");
        }
        assert_eq!(
            std::fs::read_to_string(&log).unwrap(),
            "words of the other\n"
        );
    }
    drop(held);
}

/// As `nohup` starts it, and a shell what is to run in the background.
#[test]
fn what_was_ignored_stays_so() {
    let folder = tempfile::tempdir().unwrap();
    let program = command(folder.path(), &train("run"));
    let mut shell = Command::new("sh");
    shell
        .args(["-c", r#"trap "" HUP INT; exec "$@""#, "sh"])
        .arg(program.get_program())
        .args(program.get_args())
        .current_dir(folder.path());
    let mut child = start(&mut shell);
    let run = folder.path().join("run");
    reached(&mut child, &run, 3);
    send(&child, Signal::SIGHUP);
    send(&child, Signal::SIGINT);
    reached(&mut child, &run, 20);
    let (code, said) = ended_by(child, &[Signal::SIGUSR1]);
    assert_eq!(code, Some(75), "{said}");
}

/// A library for `LD_PRELOAD` in whose destructor a process crashes.
fn crashing(folder: &Path) -> PathBuf {
    let text =
        "#include <stdlib.h>\n__attribute__((destructor)) static void end(void) { abort(); }\n";
    preloaded(folder, "crash", text)
}

/// No destructor is called while other threads work: one that crashes has an exit code of its own.
#[test]
#[cfg(target_os = "linux")]
fn an_end_at_once_cannot_crash() {
    hear_interrupts();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let library = crashing(path);
    let crashing = |args: &[&str]| {
        let mut program = command(path, args);
        program.env("LD_PRELOAD", &library);
        program
    };
    let usual = crashing(&["presets"]).output().unwrap().status;
    assert_eq!(usual.code(), None, "{usual}");

    // Before the training: it reads settings, and waits for them.
    let settings = path.join("settings");
    let made = Command::new("mkfifo").arg(&settings).status().unwrap();
    assert!(made.success());
    let waiting = [&train("run")[..], &["--config", "settings"]].concat();
    for (signal, expected) in [(Signal::SIGTERM, 130), (Signal::SIGUSR1, 75)] {
        let child = start(&mut crashing(&waiting));
        // It waits for the other end.
        let writer = OpenOptions::new().write(true).open(&settings).unwrap();
        send(&child, signal);
        let ended = child.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&ended.stderr);
        assert_eq!(ended.status.code(), Some(expected), "{said}");
        assert!(said.contains("before the training began"), "{said}");
        drop(writer);
    }

    // In the middle of a step, which takes seconds.
    let slow = "train --preset shapes-demo --data shapes:2048 --out slow --batch-size 1024 --epochs 9 --train.log_every 1";
    let mut child = start(&mut crashing(&slow.split(' ').collect::<Vec<_>>()));
    in_a_step(&mut child, &path.join("slow"));
    let (code, said) = ended_by(child, &[Signal::SIGTERM, Signal::SIGINT]);
    assert_eq!(code, Some(130), "{said}");
    assert!(!said.contains("stopped after"), "{said}");
}
