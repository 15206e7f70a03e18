//! The variables that Slurm sets for the tasks of a step.
//!
//! Source: Slurm's manual pages srun(1), "OUTPUT ENVIRONMENT VARIABLES", and sbatch(1). Those that begin with
//! `SLURM_STEP_` speak of the step; the others (`SLURM_NTASKS`) may speak of the job around it.

use super::hostlist;
use super::variables::{Place, Variables, invalid, port_from};
use super::{Launcher, Rendezvous, RendezvousError};

const FIX: &str = "start the program with `srun` inside a job, or set MASTER_ADDR, MASTER_PORT, RANK, WORLD_SIZE, \
                   LOCAL_RANK and LOCAL_WORLD_SIZE yourself";

/// Steps that Slurm makes for itself (batch script, interactive shell of `salloc`, ...) have the numbers from here on.
const FIRST_OWN_STEP: u64 = 0xffff_fff0;

/// The place of a task; `None` for a process that is none.
pub(super) fn read(variables: &Variables<'_>) -> Result<Option<Rendezvous>, RendezvousError> {
    // A batch script has SLURM_PROCID too, but is no step that `srun` made.
    let Some(step) = variables.number::<u64>("SLURM_STEP_ID", FIX)? else {
        return Ok(None);
    };
    if step >= FIRST_OWN_STEP || variables.get("SLURM_PROCID").is_none() {
        return Ok(None);
    }
    let required = |name| variables.required(name, "SLURM_PROCID", FIX);
    let world_name = variables
        .first(&["SLURM_STEP_NUM_TASKS", "SLURM_NTASKS"])
        .map_or("SLURM_STEP_NUM_TASKS", |(name, _)| name);
    let (local_name, local_world_size) = tasks_on_this_node(variables)?;
    let place = Place {
        rank: ("SLURM_PROCID", required("SLURM_PROCID")?),
        world_size: (world_name, required(world_name)?),
        local_rank: ("SLURM_LOCALID", required("SLURM_LOCALID")?),
        local_world_size: (local_name, local_world_size),
    };
    let mut found = variables.rendezvous(&place, Launcher::Slurm, FIX)?;
    if found.master_addr.is_empty() {
        let names = [
            "SLURM_STEP_NODELIST",
            "SLURM_JOB_NODELIST",
            "SLURM_NODELIST",
        ];
        found.master_addr = first_node(variables, &names)?;
    }
    if found.master_port == 0 {
        let job = variables.required("SLURM_JOB_ID", "SLURM_PROCID", FIX)?;
        found.master_port = port_from(job, step, None);
    }
    // A task of an array is a job with a number of its own.
    let job = variables.get("SLURM_JOB_ID").unwrap_or_default();
    found.run = format!("slurm {job}.{step}");
    // How often the job was requeued.
    let attempt = variables.number("SLURM_RESTART_COUNT", FIX)?;
    found.attempt = attempt.unwrap_or_default();
    Ok(Some(found))
}

/// The number of tasks on the node that `SLURM_NODEID` names, with the variable it comes from.
fn tasks_on_this_node(variables: &Variables<'_>) -> Result<(&'static str, usize), RendezvousError> {
    let names = ["SLURM_STEP_TASKS_PER_NODE", "SLURM_TASKS_PER_NODE"];
    let Some((name, value)) = variables.first(&names) else {
        return Err(variables.missing(names[0], "SLURM_PROCID", FIX));
    };
    let node: usize = variables.required("SLURM_NODEID", "SLURM_PROCID", FIX)?;
    let counts = parse_tasks_per_node(&value)
        .ok_or_else(|| invalid(name, &value, "is not of the form 16(x8),4", FIX))?;
    let mut nodes_before = 0_usize;
    for (tasks, nodes) in counts {
        nodes_before = nodes_before.saturating_add(nodes);
        if node < nodes_before {
            return Ok((name, tasks));
        }
    }
    let problem =
        format!("speaks of {nodes_before} nodes, and SLURM_NODEID = {node} is none of them");
    Err(invalid(name, &value, &problem, FIX))
}

/// `16(x8),4` as pairs of (tasks, number of nodes with so many): `[(16, 8), (4, 1)]`.
pub(super) fn parse_tasks_per_node(text: &str) -> Option<Vec<(usize, usize)>> {
    text.split(',')
        .map(|part| {
            let part = part.trim();
            let Some((tasks, rest)) = part.split_once("(x") else {
                return Some((part.parse().ok()?, 1));
            };
            Some((tasks.parse().ok()?, rest.strip_suffix(')')?.parse().ok()?))
        })
        .collect()
}

/// The first node of the first list of `names` that is set: that of task 0.
pub(super) fn first_node(
    variables: &Variables<'_>,
    names: &[&str],
) -> Result<String, RendezvousError> {
    let Some((name, value)) = variables.first(names) else {
        return Err(variables.missing(names[0], "SLURM_JOB_ID", FIX));
    };
    let fix = "set MASTER_ADDR to the first node's name";
    let hosts = hostlist::expand(&value).map_err(|problem| invalid(name, &value, &problem, fix))?;
    // An expansion that succeeds has at least one host.
    Ok(hosts.into_iter().next().unwrap_or_default())
}
