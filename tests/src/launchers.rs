//! Variables of launchers. The tests of the binary, which are no part of this crate, have this file, too.

/// By which launchers tell processes their place, and which the program heeds: no test may inherit them.
const LAUNCHERS: [&str; 8] = [
    "RANK",
    "WORLD_SIZE",
    "LOCAL_RANK",
    "LOCAL_WORLD_SIZE",
    "MASTER_ADDR",
    "MASTER_PORT",
    "SELFCLS_LAUNCH",
    "GLOO_SOCKET_IFNAME",
];
/// How the names of others of theirs begin.
const PREFIXES: [&str; 9] = [
    "TORCHELASTIC_",
    "SLURM_",
    "LSB_",
    "JSM_",
    "OMPI_",
    "PMIX_",
    "PMI_",
    "MPI_LOCAL",
    "MV2_",
];

/// Whether a program under test must not inherit `variable`, for it would take itself for one of several.
pub fn is_of_a_launcher(variable: &str) -> bool {
    let begins = |prefix: &&str| variable.starts_with(*prefix);
    LAUNCHERS.contains(&variable) || PREFIXES.iter().any(begins)
}

#[test]
fn what_launchers_say_is_not_inherited() {
    for name in [
        "RANK",
        "LOCAL_WORLD_SIZE",
        "MASTER_PORT",
        "SELFCLS_LAUNCH",
        "TORCHELASTIC_RUN_ID",
        "SLURM_STEP_ID",
        "LSB_JOBID",
        "JSM_NAMESPACE_RANK",
        "OMPI_COMM_WORLD_RANK",
        "PMIX_RANK",
        "PMI_SIZE",
        "MPI_LOCALRANKID",
        "MPI_LOCALNRANKS",
        "MV2_COMM_WORLD_SIZE",
        "GLOO_SOCKET_IFNAME",
    ] {
        assert!(is_of_a_launcher(name), "{name}");
    }
    for name in ["PATH", "LD_LIBRARY_PATH", "SELFCLS_BIN", "RANKS"] {
        assert!(!is_of_a_launcher(name), "{name}");
    }
}
