//! The variables of IBM's `jsrun`, used under LSF, and of the `mpirun` of Open MPI, MVAPICH, MPICH and Intel MPI, used under
//! LSF, under Slurm and without a scheduler.
//!
//! Sources: IBM's documentation of LSF ("Environment variable reference") and of the Job Step Manager; Open MPI's manual,
//! "Environment variables defined during execution"; MVAPICH2's user guide; what `mpiexec` of MPICH 4.0 (Hydra, which
//! Intel MPI's comes from) sets.

#[cfg(test)]
mod tests;

use super::slurm;
use super::variables::{Place, Variables, invalid, port_from};
use super::{Launcher, Rendezvous, RendezvousError};

const FIX: &str = "start the program with `jsrun` or `mpirun`, or set RANK, WORLD_SIZE, LOCAL_RANK, \
                   LOCAL_WORLD_SIZE, MASTER_ADDR and MASTER_PORT yourself";

/// The names that one launcher gives to the numbers.
struct Names {
    /// Set by this launcher alone.
    witness: &'static str,
    rank: &'static str,
    world_size: &'static str,
    local_rank: &'static str,
    local_world_size: &'static str,
}

const JSRUN: Names = Names {
    witness: "JSM_NAMESPACE_RANK",
    rank: "JSM_NAMESPACE_RANK",
    world_size: "JSM_NAMESPACE_SIZE",
    local_rank: "JSM_NAMESPACE_LOCAL_RANK",
    local_world_size: "JSM_NAMESPACE_LOCAL_SIZE",
};

const MPIRUN: Names = Names {
    witness: "OMPI_COMM_WORLD_RANK",
    rank: "OMPI_COMM_WORLD_RANK",
    world_size: "OMPI_COMM_WORLD_SIZE",
    local_rank: "OMPI_COMM_WORLD_LOCAL_RANK",
    local_world_size: "OMPI_COMM_WORLD_LOCAL_SIZE",
};

const MVAPICH: Names = Names {
    witness: "MV2_COMM_WORLD_RANK",
    rank: "MV2_COMM_WORLD_RANK",
    world_size: "MV2_COMM_WORLD_SIZE",
    local_rank: "MV2_COMM_WORLD_LOCAL_RANK",
    local_world_size: "MV2_COMM_WORLD_LOCAL_SIZE",
};

/// Of MPICH and Intel MPI. `srun --mpi=pmi2` sets PMI_RANK too.
const HYDRA: Names = Names {
    witness: "MPI_LOCALRANKID",
    rank: "PMI_RANK",
    world_size: "PMI_SIZE",
    local_rank: "MPI_LOCALRANKID",
    local_world_size: "MPI_LOCALNRANKS",
};

/// The place of a process that `jsrun` or `mpirun` started; `None` for others, such as a job's script.
pub(super) fn read(variables: &Variables<'_>) -> Result<Option<Rendezvous>, RendezvousError> {
    let names = [&JSRUN, &MPIRUN, &MVAPICH, &HYDRA]
        .into_iter()
        .find(|names| variables.get(names.witness).is_some());
    let Some(names) = names else {
        // Another PMIx launcher: it tells a process its rank, and the size only to those who speak its protocol.
        return match (variables.get("LSB_JOBID"), variables.get("PMIX_RANK")) {
            (Some(_), Some(_)) => Err(variables.missing(MPIRUN.world_size, "PMIX_RANK", FIX)),
            _ => Ok(None),
        };
    };
    let required = |name| variables.required(name, names.witness, FIX);
    let place = Place {
        rank: (names.rank, required(names.rank)?),
        world_size: (names.world_size, required(names.world_size)?),
        local_rank: (names.local_rank, required(names.local_rank)?),
        local_world_size: (names.local_world_size, required(names.local_world_size)?),
    };
    let lsf = variables.number::<u64>("LSB_JOBID", FIX)?;
    let slurm = variables.number::<u64>("SLURM_JOB_ID", FIX)?;
    let launcher = match lsf {
        Some(_) => Launcher::Lsf,
        None => Launcher::Mpi,
    };
    let mut found = variables.rendezvous(&place, launcher, FIX)?;
    let one_machine = found.local_world_size == found.world_size;
    if found.master_addr.is_empty() {
        found.master_addr = match (lsf, slurm) {
            _ if one_machine => "127.0.0.1".to_owned(),
            (Some(_), _) => first_host(variables, std::ptr::eq(names, &JSRUN))?,
            // mpirun's own daemons are a step of Slurm, which the node of rank 0 may be no part of.
            (None, Some(_)) => slurm::first_node(variables, &["SLURM_JOB_NODELIST"])?,
            (None, None) => {
                let fix = "without a scheduler, export it as the name of the machine of rank 0 \
                           (Open MPI: `mpirun -x MASTER_ADDR=... -x MASTER_PORT=...`; others: `mpirun -genv MASTER_ADDR ... -genv MASTER_PORT ...`)";
                return Err(variables.missing("MASTER_ADDR", names.world_size, fix));
            }
        };
    }
    // The same in all processes of one `jsrun` or `mpirun`, and in no others of the machine.
    let launch = variables.get("PMIX_NAMESPACE");
    let index = variables.number::<u64>("LSB_JOBINDEX", FIX)?.unwrap_or(0);
    let job = lsf.or(slurm);
    found.run = format!(
        "mpi {}[{index}] {}",
        job.unwrap_or(0),
        launch.as_deref().unwrap_or_default()
    );
    if found.master_port == 0 {
        found.master_port = match job {
            Some(job) => port_from(job, index, launch.as_deref()),
            None => {
                let fix = "without a scheduler, export a free port \
                           (Open MPI: `mpirun -x MASTER_PORT=29500`; others: `mpirun -genv MASTER_PORT 29500`)";
                return Err(variables.missing("MASTER_PORT", names.world_size, fix));
            }
        };
    }
    Ok(Some(found))
}

/// The job's first host that computes. `jsrun` works from a launch node of its own, the first of the list.
fn first_host(variables: &Variables<'_>, jsrun: bool) -> Result<String, RendezvousError> {
    let fix = "set MASTER_ADDR to the name of the machine of rank 0";
    // Not set where the list is too long for a variable.
    let (name, value, mut hosts) = if let Some(value) = variables.get("LSB_MCPU_HOSTS") {
        // `host1 16 host2 16`
        let words: Vec<String> = value.split_whitespace().map(str::to_owned).collect();
        let hosts: Vec<String> = words.into_iter().step_by(2).collect();
        ("LSB_MCPU_HOSTS", value, hosts)
    } else if let Some(path) = variables.get("LSB_DJOB_HOSTFILE") {
        // A line per slot.
        let text = variables.read(&path).map_err(|error| {
            let problem = format!("cannot be read ({error})");
            invalid("LSB_DJOB_HOSTFILE", &path, &problem, fix)
        })?;
        let hosts = text.lines().map(|line| line.trim().to_owned());
        let hosts = hosts.filter(|host| !host.is_empty()).collect();
        ("LSB_DJOB_HOSTFILE", path, hosts)
    } else {
        return Err(variables.missing("LSB_MCPU_HOSTS", "LSB_JOBID", fix));
    };
    hosts.dedup();
    if jsrun && hosts.len() > 1 {
        hosts.remove(0);
    }
    let first = hosts.into_iter().next();
    first.ok_or_else(|| invalid(name, &value, "names no host", fix))
}
