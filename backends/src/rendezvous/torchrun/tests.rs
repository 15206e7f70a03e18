//! Environments as torchrun makes them, and as scripts break them.

use super::super::tests::{SRUN, TORCHRUN, found, read, refused};
use super::super::{Launcher, Rendezvous};

#[test]
fn torchrun() {
    let expected = Rendezvous {
        rank: 3,
        world_size: 4,
        local_rank: 1,
        local_world_size: 2,
        master_addr: "n1".to_owned(),
        master_port: 29500,
        attempt: 2,
        run: String::new(),
        agent_store: true,
        launcher: Launcher::Torchrun,
    };
    assert_eq!(read(TORCHRUN, &[]), Ok(Some(expected.clone())));
    assert_eq!(
        expected.to_string(),
        "rank 3 of 4, number 1 of 2 on this machine, launched by torchrun, meeting at n1:29500, restarted 2 times"
    );
    let written = expected.variables();
    let written: Vec<(&str, &str)> = written
        .iter()
        .map(|(name, value)| (*name, &**value))
        .collect();
    assert_eq!(read(&written, &[]), Ok(Some(expected)));
    let hand_made = [
        ("TORCHELASTIC_USE_AGENT_STORE", None),
        ("TORCHELASTIC_RESTART_COUNT", None),
    ];
    let plain = found(TORCHRUN, &hand_made);
    assert_eq!((plain.agent_store, plain.attempt), (false, 0));
    let ours = found(TORCHRUN, &[("SELFCLS_LAUNCH", Some("1"))]);
    assert_eq!(ours.launcher, Launcher::Selfcls);
    assert_eq!(ours.run, "launch 1");
    let named = found(TORCHRUN, &[("TORCHELASTIC_RUN_ID", Some("c0ffee"))]);
    assert_eq!(named.run, "c0ffee");
    assert_eq!(named.variables()[7].1, "c0ffee");
    // The only process of a launcher is a single process.
    let one = [
        ("RANK", Some("0")),
        ("WORLD_SIZE", Some("1")),
        ("LOCAL_RANK", Some("0")),
        ("LOCAL_WORLD_SIZE", Some("1")),
    ];
    assert_eq!(read(TORCHRUN, &one), Ok(None));
}

#[test]
fn torchrun_inside_slurm_is_torchrun() {
    let mut both = SRUN.to_vec();
    both.extend(TORCHRUN);
    assert_eq!(found(&both, &[]).launcher, Launcher::Torchrun);
}

#[test]
fn broken_torchrun_variables_are_refused() {
    for name in [
        "WORLD_SIZE",
        "LOCAL_RANK",
        "LOCAL_WORLD_SIZE",
        "MASTER_ADDR",
        "MASTER_PORT",
    ] {
        let parts = [&format!("{name} is not set"), "RANK = \"3\"", "torchrun"];
        refused(TORCHRUN, &[(name, None)], &parts);
    }
    refused(
        TORCHRUN,
        &[("RANK", None)],
        &["RANK is not set", "LOCAL_RANK = \"1\""],
    );
    refused(
        &[],
        &[("WORLD_SIZE", Some("8"))],
        &["RANK is not set", "WORLD_SIZE = \"8\""],
    );
    refused(
        TORCHRUN,
        &[("RANK", Some("4"))],
        &["RANK = \"4\"", "WORLD_SIZE = 4"],
    );
    refused(
        TORCHRUN,
        &[("RANK", Some("-1"))],
        &["RANK = \"-1\"", "not a number"],
    );
    refused(
        TORCHRUN,
        &[("LOCAL_RANK", Some("2"))],
        &["LOCAL_RANK = \"2\"", "LOCAL_WORLD_SIZE = 2"],
    );
    refused(
        TORCHRUN,
        &[("LOCAL_WORLD_SIZE", Some("5"))],
        &["LOCAL_WORLD_SIZE = \"5\"", "WORLD_SIZE = 4"],
    );
    refused(
        TORCHRUN,
        &[("RANK", Some("0"))],
        &["LOCAL_RANK = \"1\"", "RANK = 0"],
    );
    refused(
        TORCHRUN,
        &[("MASTER_PORT", Some("0"))],
        &["MASTER_PORT = \"0\"", "between 1 and 65535"],
    );
    refused(
        TORCHRUN,
        &[("MASTER_PORT", Some("70000"))],
        &["MASTER_PORT = \"70000\""],
    );
    refused(
        TORCHRUN,
        &[("TORCHELASTIC_USE_AGENT_STORE", Some("maybe"))],
        &["TORCHELASTIC_USE_AGENT_STORE = \"maybe\""],
    );
}
