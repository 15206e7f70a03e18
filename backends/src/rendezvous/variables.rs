//! Reading variables, with errors that name them.

use super::{Launcher, Rendezvous, RendezvousError};
use std::io;
use std::str::FromStr;

/// Where variables, and the files they name, come from.
pub(super) struct Variables<'a> {
    variable: &'a dyn Fn(&str) -> Option<String>,
    file: &'a dyn Fn(&str) -> io::Result<String>,
}

/// What a launcher says of a process, before it is known to agree with itself. Each number stands with the
/// name of the variable it comes from.
pub(super) struct Place<'a> {
    pub(super) rank: (&'a str, usize),
    pub(super) world_size: (&'a str, usize),
    pub(super) local_rank: (&'a str, usize),
    pub(super) local_world_size: (&'a str, usize),
}

impl<'a> Variables<'a> {
    pub(super) fn new(
        variable: &'a dyn Fn(&str) -> Option<String>,
        file: &'a dyn Fn(&str) -> io::Result<String>,
    ) -> Self {
        Self { variable, file }
    }

    /// The variable's value; one that is empty counts as not set.
    pub(super) fn get(&self, name: &str) -> Option<String> {
        let value = (self.variable)(name)?;
        let value = value.trim();
        (!value.is_empty()).then(|| value.to_owned())
    }

    /// The first of `names` that is set, with its value.
    pub(super) fn first<'n>(&self, names: &[&'n str]) -> Option<(&'n str, String)> {
        names.iter().find_map(|name| Some((*name, self.get(name)?)))
    }

    /// The text of a file.
    pub(super) fn read(&self, path: &str) -> io::Result<String> {
        (self.file)(path)
    }

    /// The value as a number, where it is set.
    pub(super) fn number<T: FromStr>(
        &self,
        name: &str,
        fix: &str,
    ) -> Result<Option<T>, RendezvousError> {
        self.get(name)
            .map(|value| {
                value
                    .parse()
                    .map_err(|_| invalid(name, &value, "is not a number that can be here", fix))
            })
            .transpose()
    }

    /// The value as a number, of a variable that has to be set because another (`witness`) is.
    pub(super) fn required<T: FromStr>(
        &self,
        name: &str,
        witness: &str,
        fix: &str,
    ) -> Result<T, RendezvousError> {
        self.number(name, fix)?
            .ok_or_else(|| self.missing(name, witness, fix))
    }

    /// The error of a variable that has to be set because another (`witness`) is.
    pub(super) fn missing(&self, name: &str, witness: &str, fix: &str) -> RendezvousError {
        RendezvousError::Missing {
            name: name.to_owned(),
            because: format!("{witness} = \"{}\"", self.get(witness).unwrap_or_default()),
            fix: fix.to_owned(),
        }
    }

    /// `MASTER_PORT`, where it is set.
    pub(super) fn master_port(&self) -> Result<Option<u16>, RendezvousError> {
        let fix = "set it to a free TCP port between 1 and 65535, the same for every process";
        let port = self.number::<u16>("MASTER_PORT", fix)?;
        match port {
            Some(0) => Err(invalid("MASTER_PORT", "0", "is no port to meet at", fix)),
            port => Ok(port),
        }
    }

    /// The rendezvous of `place`, if its numbers agree with each other, and with a `WORLD_SIZE` that a script may
    /// have exported.
    pub(super) fn rendezvous(
        &self,
        place: &Place<'_>,
        launcher: Launcher,
        fix: &str,
    ) -> Result<Rendezvous, RendezvousError> {
        let below = |(name, value): (&str, usize), (limit_name, limit): (&str, usize)| {
            if value < limit {
                return Ok(());
            }
            let problem =
                format!("contradicts {limit_name} = {limit}, which it has to be less than");
            Err(invalid(name, &value.to_string(), &problem, fix))
        };
        below(place.rank, place.world_size)?;
        below(place.local_rank, place.local_world_size)?;
        let (name, local) = place.local_world_size;
        let (world_name, world) = place.world_size;
        if local > world {
            let problem = format!("contradicts {world_name} = {world}, of which it is a part");
            return Err(invalid(name, &local.to_string(), &problem, fix));
        }
        if place.local_rank.1 > place.rank.1 {
            let problem = format!(
                "contradicts {} = {}, which it cannot exceed",
                place.rank.0, place.rank.1
            );
            let value = place.local_rank.1.to_string();
            return Err(invalid(place.local_rank.0, &value, &problem, fix));
        }
        let exported = self.number::<usize>("WORLD_SIZE", fix)?;
        if let Some(exported) = exported.filter(|exported| *exported != world) {
            let problem = format!("contradicts {world_name} = {world}");
            let fix = format!("unset WORLD_SIZE, or start {exported} processes");
            return Err(invalid("WORLD_SIZE", &exported.to_string(), &problem, &fix));
        }
        Ok(Rendezvous {
            rank: place.rank.1,
            world_size: world,
            local_rank: place.local_rank.1,
            local_world_size: local,
            master_addr: self.get("MASTER_ADDR").unwrap_or_default(),
            master_port: self.master_port()?.unwrap_or_default(),
            attempt: 0,
            run: String::new(),
            agent_store: false,
            launcher,
        })
    }
}

/// The error of a value that is malformed, or contradicts another.
pub(super) fn invalid(name: &str, value: &str, problem: &str, fix: &str) -> RendezvousError {
    RendezvousError::Invalid {
        name: name.to_owned(),
        value: value.to_owned(),
        problem: problem.to_owned(),
        fix: fix.to_owned(),
    }
}

/// A port for the store from the numbers of a job and of a part of it (a step, an index of an array): the same on every
/// machine without a word between them, outside the ports that systems give to outgoing connections (Linux: 32768 to
/// 60999), and never the same for jobs and parts that are near to each other. `launch` moves it, where one part starts several runs.
pub(super) fn port_from(job: u64, part: u64, launch: Option<&str>) -> u16 {
    const FIRST: u16 = 10_000;
    const COUNT: u64 = 20_000;
    const OF_A_JOB: u64 = 31;
    const OF_A_PART: u64 = 709;
    // FNV-1a.
    let hash = |text: &str| {
        text.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        })
    };
    let moved = launch.map_or(0, hash) % COUNT;
    let number = (job % COUNT * OF_A_JOB + part % COUNT * OF_A_PART + moved) % COUNT;
    // Below 20,000 by the line above.
    FIRST + number as u16
}
