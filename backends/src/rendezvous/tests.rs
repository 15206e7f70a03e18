//! Environments as launchers make them, and as scripts break them.

use super::slurm::parse_tasks_per_node;
use super::variables::port_from;
use super::{Launcher, Rendezvous, RendezvousError};
use proptest::prelude::*;
use std::collections::HashMap;
use std::io;

pub(super) const TORCHRUN: &[(&str, &str)] = &[
    ("RANK", "3"),
    ("WORLD_SIZE", "4"),
    ("LOCAL_RANK", "1"),
    ("LOCAL_WORLD_SIZE", "2"),
    ("MASTER_ADDR", "n1"),
    ("MASTER_PORT", "29500"),
    ("TORCHELASTIC_USE_AGENT_STORE", "True"),
    ("TORCHELASTIC_RESTART_COUNT", "2"),
];

/// A task of `srun -N3` with 2, 2 and 1 tasks, in a job of more nodes.
pub(super) const SRUN: &[(&str, &str)] = &[
    ("SLURM_JOB_ID", "81234"),
    ("SLURM_JOB_NODELIST", "n[01-08]"),
    ("SLURM_LOCALID", "1"),
    ("SLURM_NODEID", "1"),
    ("SLURM_NTASKS", "16"),
    ("SLURM_PROCID", "3"),
    ("SLURM_RESTART_COUNT", "1"),
    ("SLURM_STEP_ID", "4"),
    ("SLURM_STEP_NODELIST", "n[03-05]"),
    ("SLURM_STEP_NUM_TASKS", "5"),
    ("SLURM_STEP_TASKS_PER_NODE", "2(x2),1"),
    ("SLURM_TASKS_PER_NODE", "2(x8)"),
];

const JSRUN: &[(&str, &str)] = &[
    ("LSB_JOBID", "4711"),
    ("LSB_MCPU_HOSTS", "batch5 1 h41n08 42 h41n09 42"),
    ("JSM_NAMESPACE_RANK", "7"),
    ("JSM_NAMESPACE_SIZE", "12"),
    ("JSM_NAMESPACE_LOCAL_RANK", "1"),
    ("JSM_NAMESPACE_LOCAL_SIZE", "6"),
    ("PMIX_RANK", "7"),
];

const MPIRUN: &[(&str, &str)] = &[
    ("OMPI_COMM_WORLD_RANK", "1"),
    ("OMPI_COMM_WORLD_SIZE", "2"),
    ("OMPI_COMM_WORLD_LOCAL_RANK", "1"),
    ("OMPI_COMM_WORLD_LOCAL_SIZE", "2"),
];

/// `base`, with variables replaced, or removed where there is no value.
pub(super) fn read(
    base: &[(&str, &str)],
    changes: &[(&str, Option<&str>)],
) -> Result<Option<Rendezvous>, RendezvousError> {
    let mut variables: HashMap<&str, &str> = base.iter().copied().collect();
    for (name, value) in changes {
        match value {
            Some(value) => variables.insert(name, value),
            None => variables.remove(name),
        };
    }
    Rendezvous::from_lookup(
        &|name| variables.get(name).map(|value| (*value).to_owned()),
        &|path| match path {
            "/lsf/hosts" => Ok("batch5\nh1\nh1\nh2\n".to_owned()),
            _ => Err(io::Error::from(io::ErrorKind::NotFound)),
        },
    )
}

#[track_caller]
pub(super) fn found(base: &[(&str, &str)], changes: &[(&str, Option<&str>)]) -> Rendezvous {
    read(base, changes)
        .expect("agrees")
        .expect("is one of several")
}

/// The message has all of `parts`.
#[track_caller]
pub(super) fn refused(base: &[(&str, &str)], changes: &[(&str, Option<&str>)], parts: &[&str]) {
    let message = read(base, changes).expect_err("is refused").to_string();
    for part in parts {
        assert!(message.contains(part), "{message}: lacks {part}");
    }
}

#[test]
fn no_variables_are_one_process() {
    assert_eq!(read(&[], &[]), Ok(None));
    // Left in a shell by other work, they say nothing of ranks.
    let meeting = &TORCHRUN[4..6];
    assert_eq!(read(meeting, &[("WORLD_SIZE", Some("1"))]), Ok(None));
    assert_eq!(read(&[], &[("RANK", Some(" "))]), Ok(None));
}

#[test]
fn srun() {
    let expected = Rendezvous {
        rank: 3,
        world_size: 5,
        local_rank: 1,
        local_world_size: 2,
        master_addr: "n03".to_owned(),
        master_port: 10_000 + 1_090,
        attempt: 1,
        run: "slurm 81234.4".to_owned(),
        agent_store: false,
        launcher: Launcher::Slurm,
    };
    // 81234 mod 20000 = 1234; 1234 * 31 + 4 * 709 = 41090.
    assert_eq!(read(SRUN, &[]), Ok(Some(expected)));
    let last = found(
        SRUN,
        &[
            ("SLURM_PROCID", Some("4")),
            ("SLURM_LOCALID", Some("0")),
            ("SLURM_NODEID", Some("2")),
        ],
    );
    assert_eq!((last.rank, last.local_world_size), (4, 1));
    let named = found(
        SRUN,
        &[
            ("MASTER_ADDR", Some("10.0.0.1")),
            ("MASTER_PORT", Some("1234")),
        ],
    );
    assert_eq!(
        (named.master_addr.as_str(), named.master_port),
        ("10.0.0.1", 1234)
    );
    // Older versions lack the step's variables.
    let older = found(
        SRUN,
        &[
            ("SLURM_STEP_NODELIST", None),
            ("SLURM_STEP_NUM_TASKS", None),
            ("SLURM_STEP_TASKS_PER_NODE", None),
        ],
    );
    assert_eq!((older.world_size, older.master_addr.as_str()), (16, "n01"));
    // A script's own WORLD_SIZE is welcome where it is right.
    assert_eq!(
        found(SRUN, &[("WORLD_SIZE", Some("5"))]).launcher,
        Launcher::Slurm
    );
    refused(
        SRUN,
        &[("WORLD_SIZE", Some("8"))],
        &["WORLD_SIZE = \"8\"", "SLURM_STEP_NUM_TASKS = 5"],
    );
}

/// `salloc` and `sbatch` set the job's variables; that several tasks are to be had does not make a shell one of them.
#[test]
fn shells_inside_a_slurm_job_are_one_process() {
    let batch = [
        ("SLURM_STEP_ID", None),
        ("SLURM_STEP_NUM_TASKS", None),
        ("SLURM_PROCID", Some("0")),
    ];
    assert_eq!(read(SRUN, &batch), Ok(None));
    let allocation = [("SLURM_STEP_ID", None), ("SLURM_PROCID", None)];
    assert_eq!(read(SRUN, &allocation), Ok(None));
    // LaunchParameters=use_interactive_step: the shell is a step of its own.
    let interactive = [
        ("SLURM_STEP_ID", Some("4294967290")),
        ("SLURM_PROCID", Some("0")),
    ];
    assert_eq!(read(SRUN, &interactive), Ok(None));
    let one_task = [
        ("SLURM_PROCID", Some("0")),
        ("SLURM_LOCALID", Some("0")),
        ("SLURM_NODEID", Some("0")),
        ("SLURM_STEP_NUM_TASKS", Some("1")),
        ("SLURM_STEP_TASKS_PER_NODE", Some("1")),
    ];
    assert_eq!(read(SRUN, &one_task), Ok(None));
}

#[test]
fn broken_slurm_variables_are_refused() {
    refused(
        SRUN,
        &[("SLURM_LOCALID", None)],
        &["SLURM_LOCALID is not set", "SLURM_PROCID = \"3\"", "srun"],
    );
    refused(
        SRUN,
        &[("SLURM_NODEID", Some("3"))],
        &["SLURM_STEP_TASKS_PER_NODE", "3 nodes", "SLURM_NODEID = 3"],
    );
    refused(
        SRUN,
        &[("SLURM_STEP_TASKS_PER_NODE", Some("2(x2"))],
        &["= \"2(x2\"", "16(x8),4"],
    );
    refused(
        SRUN,
        &[("SLURM_STEP_NODELIST", Some("n[3"))],
        &["= \"n[3\"", "leaves a bracket open", "MASTER_ADDR"],
    );
    refused(
        SRUN,
        &[("SLURM_PROCID", Some("5"))],
        &["SLURM_PROCID = \"5\"", "SLURM_STEP_NUM_TASKS = 5"],
    );
    refused(
        SRUN,
        &[("SLURM_JOB_ID", None)],
        &["SLURM_JOB_ID is not set"],
    );
}

#[test]
fn lsf() {
    let expected = Rendezvous {
        rank: 7,
        world_size: 12,
        local_rank: 1,
        local_world_size: 6,
        // The launch node computes nothing.
        master_addr: "h41n08".to_owned(),
        // 4711 * 31 mod 20000.
        master_port: 10_000 + 6_041,
        attempt: 0,
        run: "mpi 4711[0] ".to_owned(),
        agent_store: false,
        launcher: Launcher::Lsf,
    };
    assert_eq!(read(JSRUN, &[]), Ok(Some(expected)));
    let file = [
        ("LSB_MCPU_HOSTS", None),
        ("LSB_DJOB_HOSTFILE", Some("/lsf/hosts")),
    ];
    assert_eq!(found(JSRUN, &file).master_addr, "h1");
    let absent = [
        ("LSB_MCPU_HOSTS", None),
        ("LSB_DJOB_HOSTFILE", Some("/gone")),
    ];
    refused(
        JSRUN,
        &absent,
        &["LSB_DJOB_HOSTFILE = \"/gone\"", "MASTER_ADDR"],
    );
    refused(
        JSRUN,
        &[("LSB_MCPU_HOSTS", None)],
        &["LSB_MCPU_HOSTS is not set", "LSB_JOBID = \"4711\""],
    );
    refused(
        JSRUN,
        &[("JSM_NAMESPACE_SIZE", None)],
        &["JSM_NAMESPACE_SIZE is not set", "JSM_NAMESPACE_RANK"],
    );
    // A job's script is no rank, and a launcher that hides the number of processes is refused.
    assert_eq!(read(&JSRUN[..2], &[]), Ok(None));
    refused(
        &JSRUN[..2],
        &[("PMIX_RANK", Some("1"))],
        &["OMPI_COMM_WORLD_SIZE is not set", "PMIX_RANK = \"1\""],
    );
    let mut mpirun = JSRUN[..2].to_vec();
    mpirun.extend(MPIRUN);
    let spread = [
        ("OMPI_COMM_WORLD_LOCAL_SIZE", Some("1")),
        ("OMPI_COMM_WORLD_LOCAL_RANK", Some("0")),
    ];
    let found = found(&mpirun, &spread);
    assert_eq!(
        (found.launcher, found.master_addr.as_str()),
        (Launcher::Lsf, "batch5")
    );
}

/// Tasks of an array, and several `mpirun` of one job.
#[test]
fn runs_of_one_job_meet_at_different_ports() {
    let place = |index: &str, launch: Option<&str>| {
        let changes = [("LSB_JOBINDEX", Some(index)), ("PMIX_NAMESPACE", launch)];
        let found = found(JSRUN, &changes);
        (found.master_port, found.run)
    };
    let places = [
        place("1", None),
        place("2", None),
        place("1", Some("prterun-h41n08-2231@1")),
        place("1", Some("prterun-h41n08-2232@1")),
    ];
    for (number, place) in places.iter().enumerate() {
        assert!((10_000..30_000).contains(&place.0), "{place:?}");
        for other in &places[..number] {
            assert!(place.0 != other.0 && place.1 != other.1, "{places:?}");
        }
    }
}

/// Not even the last steps of one with the first of the next.
#[test]
fn neighbouring_jobs_meet_at_different_ports() {
    let jobs = 19_950..20_090;
    let ports: std::collections::HashSet<u16> = jobs
        .clone()
        .flat_map(|job| [0, 1, 2, 31, 32, 138, 139].map(|step| port_from(job, step, None)))
        .collect();
    assert_eq!(ports.len(), 7 * jobs.count());
}

#[test]
fn mpirun_without_a_scheduler_needs_a_meeting_point() {
    let port = ("MASTER_PORT", Some("29500"));
    let found = found(MPIRUN, &[port]);
    assert_eq!(
        (found.launcher, found.master_addr.as_str()),
        (Launcher::Mpi, "127.0.0.1")
    );
    refused(
        MPIRUN,
        &[],
        &["MASTER_PORT is not set", "mpirun -x MASTER_PORT"],
    );
    let spread = [
        ("OMPI_COMM_WORLD_LOCAL_SIZE", Some("1")),
        ("OMPI_COMM_WORLD_LOCAL_RANK", Some("0")),
        port,
    ];
    refused(
        MPIRUN,
        &spread,
        &["MASTER_ADDR is not set", "mpirun -x MASTER_ADDR"],
    );
}

/// Its processes descend from a step of Slurm that knows nothing of them.
#[test]
fn mpirun_inside_slurm_is_mpirun() {
    let mut both = SRUN.to_vec();
    both.extend(MPIRUN);
    let spread = [
        ("OMPI_COMM_WORLD_LOCAL_SIZE", Some("1")),
        ("OMPI_COMM_WORLD_LOCAL_RANK", Some("0")),
    ];
    let found = found(&both, &spread);
    assert_eq!(
        (found.launcher, found.rank, found.world_size),
        (Launcher::Mpi, 1, 2)
    );
    assert_eq!(
        (found.master_addr.as_str(), found.master_port),
        ("n01", 10_000 + 18_254)
    );
}

proptest! {
    #[test]
    fn tasks_per_node_in_short_form(runs in prop::collection::vec((1_usize..200, 1_usize..50), 1..6)) {
        let part = |(tasks, nodes): &(usize, usize)| match nodes {
            1 => tasks.to_string(),
            _ => format!("{tasks}(x{nodes})"),
        };
        let text: Vec<String> = runs.iter().map(part).collect();
        prop_assert_eq!(parse_tasks_per_node(&text.join(",")), Some(runs));
    }

    /// Whatever the variables hold, the answer is a place that agrees with itself, or an error.
    #[test]
    fn any_values_are_read_or_refused(
        base in prop::sample::select(vec![TORCHRUN, SRUN, JSRUN, MPIRUN]),
        at in any::<prop::sample::Index>(),
        value in "(-?[0-9]{0,20}|[a-z0-9\\[\\](),x\\- ]{0,12})",
    ) {
        let name = base[at.index(base.len())].0;
        if let Ok(Some(found)) = read(base, &[(name, Some(&value))]) {
            prop_assert!(found.rank < found.world_size && found.local_rank < found.local_world_size);
            prop_assert!(found.local_world_size <= found.world_size && found.world_size > 1);
            prop_assert!(!found.master_addr.is_empty() && found.master_port > 0);
        }
    }
}
