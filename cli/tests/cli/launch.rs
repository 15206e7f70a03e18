//! Several processes, as far as they need no libtorch; training in parallel is tested in `tests/`.

use super::ran::{Ran, command, run};

#[test]
fn each_process_is_told_its_rank() {
    let ran = run(&[
        "-q",
        "launch",
        "--nproc",
        "3",
        "--show-all",
        "--",
        "devices",
    ]);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    let place = |rank: usize| {
        format!(
            "process  rank {rank} of 3, number {rank} of 3 on this machine, launched by selfcls-cli launch, meeting at 127.0.0.1:"
        )
    };
    assert!(ran.stdout.contains(&place(0)), "{}", ran.stdout);
    for rank in [1, 2] {
        let line = format!("[{rank}] {}", place(rank));
        assert!(
            ran.stderr.lines().any(|shown| shown.starts_with(&line)),
            "{}",
            ran.stderr
        );
    }
    // Without --show-all the others are silent.
    let ran = run(&["-q", "launch", "--nproc", "3", "--", "devices"]);
    assert!(ran.succeeded().contains(&place(0)));
}

#[test]
fn what_cannot_be_typed_is_said_once() {
    let ran = run(&["launch", "--nproc", "3", "--", "train", "--bogus"]);
    assert_eq!(ran.code, Some(2));
    assert_eq!(ran.stderr.matches("--bogus").count(), 1, "{}", ran.stderr);
    let cases: [(&[&str], &[&str]); 4] = [
        (&["--nproc", "0", "--", "devices"], &["--nproc"]),
        (&["--nproc", "2"], &["COMMAND"]),
        (
            &["--nproc", "2", "--master-port", "0", "--", "devices"],
            &["--master-port"],
        ),
        (
            &["--nproc", "2", "--", "presets"],
            &["`presets`", "hint: run it without launch"],
        ),
    ];
    for (args, parts) in cases {
        run(&[&["launch"], args].concat()).failed(2, parts);
    }
}

/// A launch per node would be a training per node.
#[test]
fn another_launcher_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let task = [
        ("SLURM_JOB_ID", "7"),
        ("SLURM_STEP_ID", "0"),
        ("SLURM_PROCID", "1"),
        ("SLURM_LOCALID", "0"),
        ("SLURM_NODEID", "1"),
        ("SLURM_STEP_NUM_TASKS", "2"),
        ("SLURM_STEP_TASKS_PER_NODE", "1(x2)"),
        ("SLURM_STEP_NODELIST", "n[1-2]"),
    ];
    let half = [("LOCAL_RANK", "1")];
    for (variables, part) in [
        (&task[..], "one of 2 processes that Slurm started"),
        (&half[..], "RANK is not set"),
    ] {
        let mut launch = command(folder.path(), &["launch", "--nproc", "2", "--", "devices"]);
        let ran: Ran = launch
            .envs(variables.iter().copied())
            .output()
            .unwrap()
            .into();
        ran.failed(2, &[part, "hint: start `train`"]);
    }
}

/// Said once, before anything is started, and not by each of nine.
#[test]
fn more_processes_than_images_are_refused() {
    let args = "launch --nproc 9 -- train --data shapes:32 --out run --backend tch --train.batch_size 8 --queue.length 0";
    let ran = run(&args.split(' ').collect::<Vec<_>>());
    assert!(!ran.stderr.contains("launching"), "{}", ran.stderr);
    ran.failed(2, &["batch_size = 8", "9"]);
}

/// The first failure is reported with its rank and its last words. What no attempt could mend is not tried again.
#[test]
fn a_failing_rank_is_named() {
    let args =
        "launch --nproc 2 --max-restarts 2 -- train --data shapes:32 --out run --backend flex";
    let ran = run(&args.split(' ').collect::<Vec<_>>());
    assert_eq!(
        (ran.code, ran.stdout.as_str()),
        (Some(2), ""),
        "{}",
        ran.stderr
    );
    for part in ["of 2 ended with exit code 2", "flex", "--backend tch"] {
        assert!(ran.stderr.contains(part), "no {part:?} in:\n{}", ran.stderr);
    }
    assert!(
        !ran.stderr.contains("starting all ranks again"),
        "{}",
        ran.stderr
    );
}
