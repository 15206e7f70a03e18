//! The text of a job script.

use super::directive::Directive;
use crate::error::REQUEUE;
use std::fmt;

/// Where something lies.
#[derive(Debug, Clone)]
pub(super) enum Place {
    /// There.
    Given(String),
    /// There, unless the environment says otherwise.
    Default(String),
    /// The environment has to say it.
    Asked,
}

/// A job that trains.
#[derive(Debug, Clone)]
pub(super) struct Script {
    /// What it does, in one line.
    pub(super) summary: String,
    pub(super) directives: Vec<Directive>,
    /// Seconds between SIGUSR1 and the end.
    pub(super) grace: u16,
    pub(super) cpus_per_rank: usize,
    pub(super) data: Place,
    pub(super) out: Place,
    pub(super) program: String,
    /// Options of `train`.
    pub(super) train: Vec<String>,
}

impl fmt::Display for Script {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "#!/bin/bash")?;
        writeln!(f, "# {}. Written by `selfcls-cli slurm`.", self.summary)?;
        for directive in &self.directives {
            writeln!(f, "{directive}")?;
        }
        let (grace, cores) = (self.grace, self.cpus_per_rank);
        writeln!(
            f,
            "\
# Every rank is told {grace} seconds before time runs out; the batch script is not.
#SBATCH --signal=USR1@{grace}
# The job may go back into the queue, and then continues its log.
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=%x-%j.log
"
        )?;
        writeln!(f, "data={}", variable("DATA", &self.data))?;
        writeln!(f, "out={}", variable("OUT", &self.out))?;
        write!(
            f,
            "
export OMP_NUM_THREADS={cores} RAYON_NUM_THREADS={cores}

# Ranks learn their numbers from Slurm's variables. When one dies, the others are ended at once.
srun --kill-on-bad-exit=1 --cpus-per-task={cores} \\
    {} train --data=\"$data\" --out=\"$out\"",
            quote(&self.program)
        )?;
        for option in self.train.chunk_by(|_, next| !next.starts_with("--")) {
            let words: Vec<String> = option.iter().map(|word| quote(word)).collect();
            write!(f, " \\\n    {}", words.join(" "))?;
        }
        write!(
            f,
            "
code=$?

# {REQUEUE}: told to make room, and everything is in a checkpoint. Failures and `scancel` end the job for good.
if [ \"$code\" -eq {REQUEUE} ]; then
    scontrol requeue \"$SLURM_JOB_ID\"
fi
exit \"$code\"
"
        )
    }
}

/// The value of an assignment.
fn variable(name: &str, place: &Place) -> String {
    match place {
        Place::Given(value) => quote(value),
        // A preset's name, which needs no quotes.
        Place::Default(value) => format!("${{{name}:-{value}}}"),
        Place::Asked => format!("${{{name}:?is not set: where are the training images?}}"),
    }
}

/// One word for a POSIX shell. (What cannot be quoted, a zero byte, is refused before: it is a control character.)
fn quote(word: &str) -> String {
    let quoter = shlex::Quoter::new().allow_nul(true);
    quoter
        .quote(word)
        .map_or_else(|_| String::new(), |word| word.into_owned())
}
