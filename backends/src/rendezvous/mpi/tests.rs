//! Environments of other MPIs than Open MPI's, and of launchers that say only how many there are.

use super::super::tests::{SRUN, found, read, refused};
use crate::Launcher;

/// What `mpiexec` of MPICH sets, which Intel MPI's descends from, and MVAPICH's.
#[test]
fn other_mpis_are_understood() {
    let hydra = [
        ("PMI_RANK", "1"),
        ("PMI_SIZE", "4"),
        ("MPI_LOCALRANKID", "1"),
        ("MPI_LOCALNRANKS", "2"),
    ];
    let mvapich = [
        ("MV2_COMM_WORLD_RANK", "1"),
        ("MV2_COMM_WORLD_SIZE", "4"),
        ("MV2_COMM_WORLD_LOCAL_RANK", "1"),
        ("MV2_COMM_WORLD_LOCAL_SIZE", "2"),
    ];
    let meet = [("MASTER_ADDR", Some("n1")), ("MASTER_PORT", Some("29500"))];
    for variables in [&hydra, &mvapich] {
        let found = found(variables, &meet);
        assert_eq!(
            (found.rank, found.world_size, found.launcher),
            (1, 4, Launcher::Mpi)
        );
        assert_eq!((found.local_rank, found.local_world_size), (1, 2));
        refused(variables, &[], &["MASTER_ADDR is not set", "-genv"]);
    }
    // The proxies are a step of Slurm, which knows nothing of their processes.
    let mut both = SRUN.to_vec();
    both.extend(hydra);
    let place = found(&both, &[]);
    assert_eq!((place.launcher, place.world_size), (Launcher::Mpi, 4));
    // `srun --mpi=pmi2` says the same twice.
    let pmi2 = [("PMI_RANK", Some("3")), ("PMI_SIZE", Some("5"))];
    assert_eq!(found(SRUN, &pmi2).launcher, Launcher::Slurm);
}

/// Each would train alone, in the same folder.
#[test]
fn sizes_without_a_rank_are_refused() {
    for (variable, value) in [
        ("PMI_SIZE", "4"),
        ("MV2_COMM_WORLD_SIZE", "4"),
        ("PMIX_RANK", "0"),
    ] {
        let named = format!("{variable} = \"{value}\"");
        refused(&[(variable, value)], &[], &["RANK is not set", &named]);
    }
    assert_eq!(read(&[("PMI_SIZE", "1")], &[]), Ok(None));
    let salloc = [("SLURM_JOB_ID", "7"), ("PMIX_RANK", "0")];
    assert_eq!(read(&salloc, &[]), Ok(None));
}
