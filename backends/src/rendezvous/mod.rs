//! Who this process is among the processes of one training: read from the variables that a launcher
//! sets, whichever it was.
//!
//! | launcher | variables | store at |
//! |---|---|---|
//! | `torchrun`, `selfcls-cli launch` | `RANK`, `WORLD_SIZE`, `LOCAL_RANK`, `LOCAL_WORLD_SIZE` | `MASTER_ADDR`, `MASTER_PORT` |
//! | Slurm's `srun` | `SLURM_PROCID`, `SLURM_STEP_NUM_TASKS`, `SLURM_LOCALID`, `SLURM_STEP_TASKS_PER_NODE` | the step's first node, a port from the numbers of job and step |
//! | LSF's `jsrun`, or `mpirun` | `JSM_NAMESPACE_*`, `OMPI_COMM_WORLD_*`, `MV2_COMM_WORLD_*`, or `PMI_*` with `MPI_LOCAL*` | the job's first compute host, a port from the job's number, its index and `PMIX_NAMESPACE` |
//!
//! `RANK` wins over all others, for `torchrun` is started by them, and `mpirun` over Slurm, by whose help it starts. `MASTER_ADDR` and `MASTER_PORT`,
//! where they are set, win over what would be derived.

mod hostlist;
mod mpi;
mod slurm;
#[cfg(test)]
mod tests;
mod torchrun;
mod variables;

use std::fmt;
use variables::Variables;

/// Who started the processes and set their variables.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Launcher {
    /// PyTorch's `torchrun`, or whoever set the same variables.
    Torchrun,
    /// Slurm's `srun`.
    Slurm,
    /// LSF, through `jsrun` or `mpirun`.
    Lsf,
    /// `mpirun` of Open MPI, MVAPICH, MPICH or Intel MPI, under Slurm or without a scheduler.
    Mpi,
    /// `selfcls-cli launch`.
    Selfcls,
}

impl fmt::Display for Launcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Torchrun => "torchrun",
            Self::Slurm => "Slurm",
            Self::Lsf => "LSF",
            Self::Mpi => "mpirun",
            Self::Selfcls => "selfcls-cli launch",
        })
    }
}

/// A process's place among all, and where they meet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rendezvous {
    /// Number of this process, from 0 to `world_size - 1`.
    pub rank: usize,
    /// How many processes there are: at least 2.
    pub world_size: usize,
    /// Number of this process on its machine: the index of its GPU.
    pub local_rank: usize,
    /// How many processes this machine runs.
    pub local_world_size: usize,
    /// Name or address of the machine that holds the store.
    pub master_addr: String,
    /// The store's TCP port.
    pub master_port: u16,
    /// How often the processes were started before. With torchrun it is how often their agent has started some because one of
    /// its own had failed, and agents may differ.
    pub attempt: u32,
    /// What tells this run from others that may meet at the same place, as far as the launcher says it: the same for
    /// all ranks of a run, and empty where variables were set by hand.
    pub run: String,
    /// The launcher itself holds the store, and rank 0 is a client of it like the others.
    pub agent_store: bool,
    /// Who set the variables.
    pub launcher: Launcher,
}

impl Rendezvous {
    /// Reads this process's environment. `None` for a process that runs alone, which includes the only task of a
    /// Slurm step and the shell of `salloc` or `sbatch`, whose variables speak of tasks not yet started.
    ///
    /// # Errors
    ///
    /// [`RendezvousError`] where variables are missing, malformed or contradict each other.
    pub fn from_env() -> Result<Option<Self>, RendezvousError> {
        Self::from_lookup(
            &|name| std::env::var_os(name).map(|value| value.to_string_lossy().into_owned()),
            &|path| std::fs::read_to_string(path),
        )
    }

    /// Set by `selfcls-cli launch`, to its process id.
    pub const LAUNCHED_BY: &str = "SELFCLS_LAUNCH";

    /// What `torchrun` would set for a process at this place, by name. A launcher adds
    /// [`LAUNCHED_BY`](Self::LAUNCHED_BY), which tells its runs apart where [`run`](Self::run) is empty.
    pub fn variables(&self) -> [(&'static str, String); 9] {
        let agent_store = match self.agent_store {
            true => "True",
            false => "False",
        };
        [
            ("RANK", self.rank.to_string()),
            ("WORLD_SIZE", self.world_size.to_string()),
            ("LOCAL_RANK", self.local_rank.to_string()),
            ("LOCAL_WORLD_SIZE", self.local_world_size.to_string()),
            ("MASTER_ADDR", self.master_addr.clone()),
            ("MASTER_PORT", self.master_port.to_string()),
            ("TORCHELASTIC_RESTART_COUNT", self.attempt.to_string()),
            ("TORCHELASTIC_RUN_ID", self.run.clone()),
            ("TORCHELASTIC_USE_AGENT_STORE", agent_store.to_owned()),
        ]
    }

    /// [`Rendezvous::from_env`], from any source of variables and of files that variables name.
    fn from_lookup(
        variable: &dyn Fn(&str) -> Option<String>,
        file: &dyn Fn(&str) -> std::io::Result<String>,
    ) -> Result<Option<Self>, RendezvousError> {
        let variables = Variables::new(variable, file);
        let found = if variables.get("RANK").is_some() {
            Some(torchrun::read(&variables)?)
        } else if let Some(place) = mpi::read(&variables)? {
            Some(place)
        } else if let Some(place) = slurm::read(&variables)? {
            Some(place)
        } else {
            torchrun::refuse_remains(&variables)?;
            None
        };
        Ok(found.filter(|found| found.world_size > 1))
    }
}

impl fmt::Display for Rendezvous {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "rank {} of {}, number {} of {} on this machine, launched by {}, meeting at {}:{}",
            self.rank,
            self.world_size,
            self.local_rank,
            self.local_world_size,
            self.launcher,
            self.master_addr,
            self.master_port
        )?;
        match self.attempt {
            0 => Ok(()),
            1 => f.write_str(", restarted once"),
            n => write!(f, ", restarted {n} times"),
        }
    }
}

/// Variables from which no place among the processes follows.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RendezvousError {
    /// Some are set, and one that belongs to them is not.
    #[error("{name} is not set, but {because}: {fix}")]
    Missing {
        /// What is missing.
        name: String,
        /// The variable that asks for it, with its value.
        because: String,
        /// What to do.
        fix: String,
    },
    /// A value that is malformed or contradicts another.
    #[error("{name} = \"{value}\" {problem}: {fix}")]
    Invalid {
        /// The variable.
        name: String,
        /// Its value.
        value: String,
        /// What is wrong with it.
        problem: String,
        /// What to do.
        fix: String,
    },
}
