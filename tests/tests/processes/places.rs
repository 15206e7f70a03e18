//! Which rank each process takes itself for: `devices` says it.

use crate::cluster::Cluster;
use crate::or_not_run;
use crate::program::{command, selfcls, torchrun};
use crate::ran::Ran;

/// What follows `process` in the output of `devices`, once per rank, sorted.
fn places(stdout: &str) -> Vec<&str> {
    let mut places: Vec<&str> = stdout
        .lines()
        .filter_map(|line| line.split_once("process  rank "))
        .map(|(_, place)| place)
        .collect();
    places.sort_unstable();
    places
}

#[test]
fn under_torchrun() {
    let selfcls = or_not_run!("places::under_torchrun", selfcls());
    let mut torchrun = or_not_run!("places::under_torchrun", torchrun());
    let ran = Ran::of(
        torchrun
            .arg("--nproc-per-node=2")
            .arg(selfcls)
            .arg("devices"),
    )
    .succeeded();
    let places = places(&ran.stdout);
    assert_eq!(places.len(), 2, "{ran:#?}");
    for (rank, place) in places.iter().enumerate() {
        let start = format!(
            "{rank} of 2, number {rank} of 2 on this machine, launched by torchrun, meeting at "
        );
        assert!(place.starts_with(&start), "{place}");
    }
}

/// Tasks in a step of their own, in a step of a job, and shells that are no tasks.
#[test]
fn under_slurm() {
    let selfcls = or_not_run!("places::under_slurm", selfcls());
    let cluster = or_not_run!("places::under_slurm", Cluster::start());
    let mut srun = cluster.command("srun");
    srun.args(["--nodes=2", "--ntasks=4"])
        .arg(&selfcls)
        .arg("devices");
    let ran = Ran::of(&mut srun).succeeded();
    let places_of_step = places(&ran.stdout);
    assert_eq!(places_of_step.len(), 4, "{ran:#?}");
    for (rank, place) in places_of_step.iter().enumerate() {
        let local = rank % 2;
        let start = format!(
            "{rank} of 4, number {local} of 2 on this machine, launched by Slurm, meeting at 127.0.0.1:"
        );
        assert!(place.starts_with(&start), "{place}");
    }
    // All at one port, which they have worked out for themselves.
    let port = |place: &str| place.rsplit(':').next().map(str::to_owned);
    assert!(
        places_of_step
            .iter()
            .all(|place| port(place) == port(places_of_step[0]))
    );
    // Without the variable the first node is where they meet.
    let mut srun = cluster.command("srun");
    srun.args(["--nodes=2", "--ntasks=2"])
        .arg(&selfcls)
        .arg("devices");
    let ran = Ran::of(srun.env_remove("MASTER_ADDR")).succeeded();
    assert!(
        places(&ran.stdout)
            .iter()
            .all(|place| place.contains("meeting at n1:")),
        "{ran:#?}"
    );

    // The batch script, an only task, and a step of the job that uses less than all of it.
    let script = format!(
        "#!/bin/bash\n#SBATCH --nodes=2 --ntasks=4 --output=job.log\n\
         echo script; {0} devices; echo one; srun -n1 -N1 {0} devices; echo two; srun -n2 -N2 {0} devices\n",
        selfcls.display()
    );
    std::fs::write(cluster.folder().join("job.sh"), script).expect("writes");
    let ran = Ran::of(cluster.command("sbatch").args(["--wait", "job.sh"])).succeeded();
    let log = std::fs::read_to_string(cluster.folder().join("job.log")).expect("a log");
    let (script, rest) = log.split_once("one\n").expect("ran the only task");
    let (one, two) = rest.split_once("two\n").expect("ran two tasks");
    assert!(
        script.contains("flex") && places(script).is_empty(),
        "{ran:#?} {script}"
    );
    assert!(one.contains("flex") && places(one).is_empty(), "{one}");
    let two = places(two);
    assert_eq!(two.len(), 2, "{log}");
    for (rank, place) in two.iter().enumerate() {
        assert!(
            place.starts_with(&format!("{rank} of 2, number 0 of 1 on this machine")),
            "{place}"
        );
    }
}

#[test]
fn broken_variables_are_an_error_below_the_devices() {
    let selfcls = or_not_run!(
        "places::broken_variables_are_an_error_below_the_devices",
        selfcls()
    );
    let ran = Ran::of(command(selfcls).arg("devices").env("WORLD_SIZE", "4"));
    assert_eq!(ran.code, Some(2), "{ran:#?}");
    assert!(ran.stdout.contains("flex"), "{ran:#?}");
    assert!(
        ran.stderr
            .contains("RANK is not set, but WORLD_SIZE = \"4\""),
        "{ran:#?}"
    );
}
