//! The text of a job script.

use super::directive::Directive;
use crate::error::REQUEUE;
use std::fmt;

/// How a shell, and so `srun`, tells that a process died of SIGUSR1 (10 on Linux).
const KILLED_BY_USR1: u8 = 128 + 10;

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
    /// Of these, for images.
    pub(super) image_threads: usize,
    /// Whether several ranks write into the log.
    pub(super) several: bool,
    pub(super) data: Place,
    pub(super) out: Place,
    /// What runs the program, such as a container, and the program.
    pub(super) program: Vec<String>,
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
        let is_given = |name: &str| self.directives.iter().any(|one| one.name() == name);
        let log = match is_given("open-mode") {
            true => "",
            false => ", and then continues its log",
        };
        writeln!(
            f,
            "\
# Every rank is told {grace} seconds before time runs out, or up to a minute earlier; the batch script is not.
#SBATCH --signal=USR1@{grace}
# The job may go back into the queue{log}.
#SBATCH --requeue"
        )?;
        // Of several lines sbatch takes the last, which would not be the user's.
        for (name, value) in [("open-mode", "append"), ("output", "%x-%j.log")] {
            if !is_given(name) {
                writeln!(f, "#SBATCH --{name}={value}")?;
            }
        }
        writeln!(f)?;
        writeln!(f, "data={}", variable("DATA", &self.data))?;
        writeln!(f, "out={}", variable("OUT", &self.out))?;
        let label = if self.several { " --label" } else { "" };
        let program: Vec<String> = self.program.iter().map(|word| quote(word)).collect();
        write!(
            f,
            "
export OMP_NUM_THREADS={cores} RAYON_NUM_THREADS={}

newest() {{
    ls -d -- \"$out\"/checkpoints/step-* 2> /dev/null | sort | tail -n 1
}}
before=$(newest)

# Ranks learn their numbers from Slurm's variables. When one dies, the others are ended at once.
srun --kill-on-bad-exit=1 --cpus-per-task={cores}{label} \\
    {} train --data=\"$data\" --out=\"$out\"",
            self.image_threads,
            program.join(" ")
        )?;
        for option in self.train.chunk_by(|_, next| !next.starts_with("--")) {
            let words: Vec<String> = option.iter().map(|word| quote(word)).collect();
            write!(f, " \\\n    {}", words.join(" "))?;
        }
        write!(f, "\ncode=$?\n{}", requeue())
    }
}

/// What follows the training, with its exit code in `code`.
fn requeue() -> String {
    format!(
        "
# Slurm wanted the machines for another job, and has noted when; what lies before this start was another time.
preempted() {{
    local job start
    job=$(SLURM_TIME_FORMAT=standard scontrol show --oneliner job \"$SLURM_JOB_ID\")
    [[ $job =~ \\ StartTime=([0-9][^ ]*) ]] && start=${{BASH_REMATCH[1]}}
    [[ $job =~ \\ PreemptTime=([0-9][^ ]*) && ! ${{BASH_REMATCH[1]}} < ${{start:-}} ]]
}}

# {REQUEUE}: told to make room, and everything is in a checkpoint; {KILLED_BY_USR1}: a wrapper around the program died of the same signal.
# Failures and `scancel` end the job for good.
case $code in
0) ;;
{REQUEUE} | {KILLED_BY_USR1})
    if preempted || [ \"$(newest)\" != \"$before\" ]; then
        scontrol requeue \"$SLURM_JOB_ID\"
    else
        echo 'not put back into the queue: this start wrote no checkpoint, and the next would not either; give it more time' >&2
    fi
    ;;
*)
    if preempted; then
        scontrol requeue \"$SLURM_JOB_ID\"
    fi
    ;;
esac
exit \"$code\"
"
    )
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
