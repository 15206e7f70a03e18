//! Making room: SIGUSR1 ends all ranks after a checkpoint, and the next start goes on at that step.

use crate::binary_for;
use crate::cluster::Cluster;
use crate::equality::newest;
use crate::launchers::assert_same_to_the_bit;
use crate::or_not_run;
use crate::program::{Ran, command, train_in};
use crate::start::{Place, SAMPLES, config};
use selfcls_core::Config;
use std::time::{Duration, Instant};

/// Long enough to be interrupted, short enough to be waited for.
pub(crate) fn long() -> Config {
    let mut config = config();
    config.train.epochs = 20;
    config.checkpoint.milestone_epochs = 0;
    config
}

/// Twice, and the end is that of undisturbed ranks. (With other numbers of ranks: `equality`.)
#[test]
fn launch_passes_the_request_on() {
    let Some(binary) = binary_for("launch_passes_the_request_on") else {
        return;
    };
    let place = Place::new(binary.clone());
    place.train("undisturbed", &long(), 2);
    let run = place.path("run");
    let launch = || {
        let mut launch = command(&binary);
        launch
            .args(["launch", "--nproc", "2", "--"])
            .args(train_in(&place, &long()));
        launch
    };
    let mut stopped_at = 0;
    for lines in [3, 30] {
        let mut launch = launch();
        let ran = Ran::while_running_with(&mut launch, |launcher| {
            place.reached("run", lines);
            let id = launcher.to_string();
            let sent = std::process::Command::new("kill")
                .args(["-USR1", &id])
                .status();
            assert!(sent.expect("kill runs").success());
        });
        assert_eq!(ran.code, Some(75), "{ran:#?}");
        let step = newest(&run).manifest.position.step;
        assert!(step > stopped_at && step < 20 * 4, "{step}: {ran:#?}");
        stopped_at = step;
        assert!(
            ran.stderr.contains(&format!("stopped after step {step};")),
            "{ran:#?}"
        );
    }
    Ran::of(&mut launch()).succeeded();
    assert_same_to_the_bit(&run, &place.path("undisturbed"));
}

/// The whole way: the script that `selfcls-cli slurm` prints, submitted to two nodes, signalled as Slurm does before time
/// runs out, back in the queue by its own doing, and to the end.
#[test]
fn a_slurm_job_makes_room_and_goes_on() {
    let Some(binary) = binary_for("a_slurm_job_makes_room_and_goes_on") else {
        return;
    };
    let cluster = or_not_run!("a_slurm_job_makes_room_and_goes_on", Cluster::start());
    let place = Place::new(binary.clone());
    let config = long();
    place.train("undisturbed", &config, 2);
    let run = place.path("run");
    let settings = place.path("run.toml");
    std::fs::write(&settings, config.to_toml()).expect("writes");
    let mut slurm = command(&binary);
    slurm
        .args([
            "slurm",
            "shapes-demo",
            "--nodes",
            "2",
            "--gpus-per-node",
            "0",
            "--cpus-per-rank",
            "1",
            "--time",
            "10",
        ])
        .arg("--program")
        .arg(&binary)
        .args(["--data", &format!("shapes:{SAMPLES}"), "--out"])
        .arg(&run)
        .args(["--", "--config"])
        .arg(&settings);
    let script = Ran::of(&mut slurm).succeeded().stdout;
    std::fs::write(cluster.folder().join("job.sbatch"), script).expect("writes");
    let submitted =
        Ran::of(cluster.command("sbatch").args(["--parsable", "job.sbatch"])).succeeded();
    let job = submitted.stdout.trim().to_owned();
    let log = || {
        let entries = std::fs::read_dir(cluster.folder())
            .expect("a folder")
            .flatten();
        let logs = entries.filter(|entry| entry.file_name().to_string_lossy().ends_with(".log"));
        let jobs = logs.filter(|entry| entry.file_name().to_string_lossy().starts_with("selfcls-"));
        jobs.map(|entry| std::fs::read_to_string(entry.path()).unwrap_or_default())
            .collect::<String>()
    };
    let wait_for_state = |wanted: &str| {
        let deadline = Instant::now() + Duration::from_secs(120);
        loop {
            let shown = Ran::of(cluster.command("scontrol").args(["show", "job", &job]));
            if shown.stdout.contains(&format!("JobState={wanted}")) {
                return shown.stdout;
            }
            assert!(
                Instant::now() < deadline,
                "not {wanted}: {} {}",
                shown.stdout,
                log()
            );
            std::thread::sleep(Duration::from_millis(200));
        }
    };
    wait_for_state("RUNNING");
    place.reached("run", 3);
    // To the steps, as --signal does.
    Ran::of(cluster.command("scancel").args(["--signal=USR1", &job])).succeeded();
    let shown = wait_for_state("PENDING");
    assert!(shown.contains("Restarts=1"), "{shown} {}", log());
    let step = newest(&run).manifest.position.step;
    assert!((3..20 * 4).contains(&step), "{step}");
    // Until its nodes are free the end of the first start could be taken for that of the second.
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let nodes = cluster
            .command("sinfo")
            .args(["--noheader", "--Node", "--format=%T"])
            .output()
            .expect("sinfo starts");
        let states = String::from_utf8_lossy(&nodes.stdout).into_owned();
        if states.lines().all(|state| state == "idle") {
            break;
        }
        assert!(Instant::now() < deadline, "{states} {}", log());
        std::thread::sleep(Duration::from_millis(200));
    }
    // Slurm would wait for two minutes.
    Ran::of(
        cluster
            .command("scontrol")
            .args(["update", &format!("JobId={job}"), "StartTime=now"]),
    )
    .succeeded();
    let shown = wait_for_state("COMPLETED");
    assert!(shown.contains("ExitCode=0:0"), "{shown}");
    let log = log();
    for part in [
        format!("stopped after step {step};"),
        format!("continuing after step {step}"),
        "rank 0 of 2, number 0 of 1 on this machine, launched by Slurm".to_owned(),
        "restarted once".to_owned(),
    ] {
        assert!(log.contains(&part), "no {part:?} in {log}");
    }
    assert_same_to_the_bit(&run, &place.path("undisturbed"));
}
