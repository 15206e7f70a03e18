//! The variables of PyTorch's `torchrun`, which `selfcls-cli launch` sets too.
//!
//! Source: PyTorch's documentation of torchrun (Elastic Launch), "Environment Variables".

#[cfg(test)]
mod tests;

use super::variables::{Place, Variables, invalid};
use super::{Launcher, Rendezvous, RendezvousError};

const FIX: &str = "let torchrun or `selfcls-cli launch` set all of RANK, WORLD_SIZE, LOCAL_RANK, \
                   LOCAL_WORLD_SIZE, MASTER_ADDR and MASTER_PORT, or unset them to train in one process";

/// The place that `RANK` and its companions give.
pub(super) fn read(variables: &Variables<'_>) -> Result<Rendezvous, RendezvousError> {
    let required = |name| variables.required(name, "RANK", FIX);
    let place = Place {
        rank: ("RANK", required("RANK")?),
        world_size: ("WORLD_SIZE", required("WORLD_SIZE")?),
        local_rank: ("LOCAL_RANK", required("LOCAL_RANK")?),
        local_world_size: ("LOCAL_WORLD_SIZE", required("LOCAL_WORLD_SIZE")?),
    };
    let launcher = match variables.get(Rendezvous::LAUNCHED_BY) {
        Some(_) => Launcher::Selfcls,
        None => Launcher::Torchrun,
    };
    let found = variables.rendezvous(&place, launcher, FIX)?;
    if found.master_addr.is_empty() {
        return Err(variables.missing("MASTER_ADDR", "RANK", FIX));
    }
    if found.master_port == 0 {
        return Err(variables.missing("MASTER_PORT", "RANK", FIX));
    }
    // Jobs and steps of a scheduler are not asked: of processes started through ssh only some are inside one.
    let run = match variables.get("TORCHELASTIC_RUN_ID") {
        Some(id) => id,
        None => variables
            .get(Rendezvous::LAUNCHED_BY)
            .map_or_else(String::new, |launcher| format!("launch {launcher}")),
    };
    let attempt = variables.number("TORCHELASTIC_RESTART_COUNT", FIX)?;
    Ok(Rendezvous {
        attempt: attempt.unwrap_or_default(),
        run,
        agent_store: agent_store(variables)?,
        ..found
    })
}

/// Python's `str(bool)`, as torchrun writes it.
fn agent_store(variables: &Variables<'_>) -> Result<bool, RendezvousError> {
    const NAME: &str = "TORCHELASTIC_USE_AGENT_STORE";
    match variables.get(NAME) {
        None => Ok(false),
        Some(value) => match value.to_ascii_lowercase().as_str() {
            "true" | "1" => Ok(true),
            "false" | "0" => Ok(false),
            _ => Err(invalid(NAME, &value, "is neither True nor False", FIX)),
        },
    }
}

/// Refuses a process of which some variables say that it is one of several, while `RANK` is missing and no other launcher
/// knows it: it would train alone, as would each of its siblings, in the same run directory.
pub(super) fn refuse_remains(variables: &Variables<'_>) -> Result<(), RendezvousError> {
    if let Some((name, _)) = variables.first(&["LOCAL_RANK", "LOCAL_WORLD_SIZE"]) {
        return Err(variables.missing("RANK", name, FIX));
    }
    // Of launchers that tell the rest in a way that is not known here.
    for name in ["PMI_SIZE", "MV2_COMM_WORLD_SIZE"] {
        if variables
            .number::<usize>(name, FIX)?
            .is_some_and(|size| size > 1)
        {
            return Err(variables.missing("RANK", name, FIX));
        }
    }
    // The shell of `salloc` may have it, and is one process.
    if variables.get("PMIX_RANK").is_some() && variables.get("SLURM_JOB_ID").is_none() {
        return Err(variables.missing("RANK", "PMIX_RANK", FIX));
    }
    match variables.number::<usize>("WORLD_SIZE", FIX)? {
        Some(0) => Err(invalid(
            "WORLD_SIZE",
            "0",
            "would be no process at all",
            FIX,
        )),
        None | Some(1) => Ok(()),
        Some(_) => Err(variables.missing("RANK", "WORLD_SIZE", FIX)),
    }
}
