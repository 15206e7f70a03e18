//! The scripts that `selfcls-cli slurm` prints, submitted to two nodes: what puts a job back into the queue, and what does not.

use crate::binary_for;
use crate::cluster::Cluster;
use crate::equality::newest;
use crate::faults::endless;
use crate::launchers::assert_same_to_the_bit;
use crate::or_not_run;
use crate::preemption::{ask_in_time, long};
use crate::program::command;
use crate::ran::Ran;
use crate::start::{Place, SAMPLES};
use crate::waiting::{LIMIT, wait_for_lines, wait_until};
use selfcls_core::{Config, checkpoint};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

/// A job of a cluster, which trains in `run` of `place`.
struct Job<'a> {
    cluster: &'a Cluster,
    place: &'a Place,
    id: String,
}

impl<'a> Job<'a> {
    /// Submits the script of a training with `config` by one rank per node; `more` are further options of `slurm`.
    fn submit(
        cluster: &'a Cluster,
        place: &'a Place,
        binary: &Path,
        config: &Config,
        more: &[&str],
    ) -> Self {
        let settings = place.path("run.toml");
        fs::write(&settings, config.to_toml()).expect("writes");
        let mut slurm = command(binary);
        slurm
            .args(["slurm", "shapes-demo", "--nodes", "2"])
            .args(["--gpus-per-node", "0", "--cpus-per-rank", "1"])
            .args(more)
            .arg("--program")
            .arg(binary)
            .args(["--data", &format!("shapes:{SAMPLES}"), "--out"])
            .arg(place.path("run"))
            .args(["--", "--config"])
            .arg(&settings);
        let script = Ran::of(&mut slurm).succeeded().stdout;
        fs::write(cluster.folder().join("job.sbatch"), script).expect("writes");
        let submitted =
            Ran::of(cluster.command("sbatch").args(["--parsable", "job.sbatch"])).succeeded();
        Self {
            cluster,
            place,
            id: submitted.stdout.trim().to_owned(),
        }
    }

    /// What the job's starts said.
    fn log(&self) -> String {
        let end = format!("-{}.log", self.id);
        let entries = fs::read_dir(self.cluster.folder()).expect("a folder");
        let logs = entries
            .flatten()
            .filter(|entry| entry.file_name().to_string_lossy().ends_with(&end));
        logs.map(|entry| fs::read_to_string(entry.path()).unwrap_or_default())
            .collect()
    }

    /// Waits until Slurm shows the job in a state, and gives what it shows.
    fn wait_for(&self, state: &str) -> String {
        let deadline = Instant::now() + LIMIT;
        loop {
            let mut scontrol = self.cluster.command("scontrol");
            let shown = Ran::of(scontrol.args(["show", "job", &self.id])).stdout;
            if shown.contains(&format!("JobState={state}")) {
                return shown;
            }
            assert!(
                Instant::now() < deadline,
                "not {state}: {shown} {}",
                self.log()
            );
            std::thread::sleep(Duration::from_millis(200));
        }
    }

    /// Waits until `steps` steps are made.
    fn reaches(&self, steps: usize) {
        wait_for_lines(&self.place.path("run"), steps, || {
            (!self.is_over(), self.log())
        });
    }

    /// Slurm will do nothing more for it, or knows it no longer.
    fn is_over(&self) -> bool {
        let mut squeue = self.cluster.command("squeue");
        let ran = Ran::of(squeue.args(["--noheader", "--jobs", &self.id]));
        ran.stdout.trim().is_empty()
    }

    /// Sends a signal to the ranks.
    fn signal(&self, signal: &str) {
        let mut scancel = self.cluster.command("scancel");
        Ran::of(scancel.args([&format!("--signal={signal}"), &self.id])).succeeded();
    }

    /// It waits for its second start, with a checkpoint, whose step this gives.
    fn is_back_in_the_queue(&self) -> usize {
        let shown = self.wait_for("PENDING");
        assert!(shown.contains("Restarts=1"), "{shown} {}", self.log());
        let step = newest(&self.place.path("run")).manifest.position.step;
        assert!(step >= 3, "{step}");
        step
    }
}

/// The whole way: signalled as Slurm does before time runs out, back in the queue by its own doing, and to the end.
#[test]
fn a_slurm_job_makes_room_and_goes_on() {
    let Some(binary) = binary_for("a_slurm_job_makes_room_and_goes_on") else {
        return;
    };
    let cluster = or_not_run!("a_slurm_job_makes_room_and_goes_on", Cluster::start());
    let place = Place::new(binary.clone());
    let config = long();
    place.train("undisturbed", &config, 2);
    let job = Job::submit(&cluster, &place, &binary, &config, &["--time", "10"]);
    job.reaches(3);
    let look = || (!job.is_over(), job.log());
    let ask = || job.signal("USR1");
    ask_in_time(&place.path("run"), "SLURM_PROCID=1", ask, look);
    let step = job.is_back_in_the_queue();
    assert!(step < 20 * 4, "{step}");
    // Until its nodes are free the end of the first start could be taken for that of the second.
    cluster.wait_until_idle().expect("nodes become free");
    // Slurm would wait for two minutes.
    let mut scontrol = cluster.command("scontrol");
    Ran::of(scontrol.args(["update", &format!("JobId={}", job.id), "StartTime=now"])).succeeded();
    let shown = job.wait_for("COMPLETED");
    assert!(shown.contains("ExitCode=0:0"), "{shown}");
    let log = job.log();
    for part in [
        // `srun --label` says who speaks.
        format!("0: error: stopped after step {step};"),
        format!("0: {SAMPLES} images"),
        format!("continuing after step {step}"),
        "rank 0 of 2, number 0 of 1 on this machine, launched by Slurm".to_owned(),
        "restarted once".to_owned(),
    ] {
        assert!(log.contains(&part), "no {part:?} in {log}");
    }
    assert_same_to_the_bit(&place.path("run"), &place.path("undisturbed"));
}

/// Slurm sends SIGTERM when it wants the nodes for a job of a higher tier; so does somebody who wants the training to end.
#[test]
fn a_preempted_slurm_job_goes_back_into_the_queue() {
    let Some(binary) = binary_for("a_preempted_slurm_job_goes_back_into_the_queue") else {
        return;
    };
    let cluster = or_not_run!(
        "a_preempted_slurm_job_goes_back_into_the_queue",
        Cluster::start()
    );
    let place = Place::new(binary.clone());
    let stopped = Job::submit(&cluster, &place, &binary, &slow(), &["--time", "10"]);
    stopped.reaches(3);
    stopped.signal("TERM");
    let shown = stopped.wait_for("FAILED");
    assert!(
        shown.contains("Restarts=0") && shown.contains("ExitCode=130:0"),
        "{shown} {}",
        stopped.log()
    );
    cluster.wait_until_idle().expect("nodes become free");

    let place = Place::new(binary.clone());
    let job = Job::submit(&cluster, &place, &binary, &slow(), &["--time", "10"]);
    job.reaches(3);
    let mut urgent = cluster.command("sbatch");
    urgent.args(["--partition=urgent", "--nodes=2", "--exclusive"]);
    Ran::of(urgent.args(["--output=/dev/null", "--wrap=sleep 1"])).succeeded();
    let step = job.is_back_in_the_queue();
    let log = job.log();
    assert!(
        log.contains(&format!("stopped after step {step};")),
        "{log}"
    );
}

/// A wrapper dies of the signal that it passes on to nobody; the ranks, whom Slurm tells as well, write their checkpoint.
#[test]
fn a_slurm_job_survives_its_wrapper() {
    let Some(binary) = binary_for("a_slurm_job_survives_its_wrapper") else {
        return;
    };
    let cluster = or_not_run!("a_slurm_job_survives_its_wrapper", Cluster::start());
    let place = Place::new(binary.clone());
    let wrapper = place.path("wrapper");
    fs::write(&wrapper, "#!/bin/bash\n\"$@\"\nexit $?\n").expect("writes");
    fs::set_permissions(&wrapper, fs::Permissions::from_mode(0o755)).expect("is ours");
    let prefix = format!("'{}'", wrapper.display());
    let options = ["--time", "10", "--prefix", &prefix];
    let job = Job::submit(&cluster, &place, &binary, &slow(), &options);
    // The ranks need not come to one more than they have.
    let run = place.path("run");
    let saved = || checkpoint::list(&run).is_ok_and(|checkpoints| !checkpoints.is_empty());
    wait_until("checkpoint", saved, || (!job.is_over(), job.log()));
    job.signal("USR1");
    job.is_back_in_the_queue();
}

/// Slurm itself sends the signal: between 50 and 80 seconds after the start, for it looks twice a minute and is early by half of one.
#[test]
fn time_that_runs_out_puts_a_slurm_job_back() {
    let Some(binary) = binary_for("time_that_runs_out_puts_a_slurm_job_back") else {
        return;
    };
    let cluster = or_not_run!("time_that_runs_out_puts_a_slurm_job_back", Cluster::start());
    let place = Place::new(binary.clone());
    let options = ["--time", "2", "--grace", "40"];
    let job = Job::submit(&cluster, &place, &binary, &slow(), &options);
    job.reaches(3);
    let step = job.is_back_in_the_queue();
    let log = job.log();
    assert!(log.contains("asked to make room (SIGUSR1)"), "{log}");
    assert!(
        log.contains(&format!("stopped after step {step};")),
        "{log}"
    );
}

/// Without an end, and whose ranks are patient with each other.
fn slow() -> Config {
    let mut config = endless();
    config.train.timeout_seconds = 60;
    config
}
