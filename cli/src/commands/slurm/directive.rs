//! `#SBATCH` lines: read by sbatch itself, whose quoting is not the shell's.

use crate::error::{CliError, Result};
use std::fmt;
use std::str::FromStr;

/// One option of sbatch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Directive {
    name: String,
    value: Option<String>,
}

impl Directive {
    /// `--name=value`.
    pub(super) fn new(name: &str, value: &str) -> Result<Self> {
        // Nothing here needs quotes, so none are allowed to mean something.
        let is_plain = |byte: u8| byte.is_ascii_graphic() && !b"\"'`\\#$".contains(&byte);
        if value.is_empty() || !value.bytes().all(is_plain) {
            return Err(CliError::usage(format!(
                "{value:?} cannot be the value of sbatch's --{name}: it may hold letters, digits and signs, but no space, \
                 quote, backslash, # or $"
            )));
        }
        Ok(Self {
            name: name.to_owned(),
            value: Some(value.to_owned()),
        })
    }

    /// `name` or `name=value`, of an option that is not among `taken`.
    pub(super) fn parse(text: &str, taken: &[String]) -> Result<Self> {
        let (name, value) = match text.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (text, None),
        };
        let is_name = |byte: u8| byte.is_ascii_lowercase() || byte == b'-';
        if name.is_empty() || name.starts_with('-') || !name.bytes().all(is_name) {
            return Err(CliError::usage(format!(
                "--sbatch {text:?} is no long option of sbatch without its dashes, such as mem=0 or exclusive"
            )));
        }
        if name == "no-requeue" {
            return Err(CliError::usage(format!(
                "--sbatch {text:?}: the script puts the job back into the queue when its time runs out or it is preempted, \
                 which --{name} forbids"
            ))
            .hint("without it take `#SBATCH --requeue` out of the script, and what stands between `code=$?` and `exit`"));
        }
        if taken.iter().any(|taken| taken == name) || ["signal", "requeue"].contains(&name) {
            return Err(CliError::usage(format!(
                "--sbatch {text:?}: the script sets --{name} itself"
            ))
            .hint("`selfcls-cli slurm --help` lists the option for it, or edit the script"));
        }
        match value {
            // Those that it would take the place of in the script have one.
            None if ["output", "open-mode"].contains(&name) => Err(CliError::usage(format!(
                "--sbatch {text:?} lacks its value: --sbatch {name}=VALUE"
            ))),
            Some(value) => Self::new(name, value),
            None => Ok(Self {
                name: name.to_owned(),
                value: None,
            }),
        }
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }
}

impl fmt::Display for Directive {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "#SBATCH --{}", self.name)?;
        match &self.value {
            Some(value) => write!(f, "={value}"),
            None => Ok(()),
        }
    }
}

/// A span of time as sbatch reads it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Time {
    text: String,
    seconds: u64,
}

impl Time {
    pub(super) fn as_str(&self) -> &str {
        &self.text
    }

    pub(super) fn seconds(&self) -> u64 {
        self.seconds
    }
}

impl FromStr for Time {
    type Err = String;

    /// The forms of sbatch(1): `M`, `M:S`, `H:M:S`, `D-H`, `D-H:M`, `D-H:M:S`.
    fn from_str(text: &str) -> Result<Self, String> {
        let (days, rest) = match text.split_once('-') {
            Some((days, rest)) => (Some(days), rest),
            None => (None, text),
        };
        let parts: Vec<&str> = rest.split(':').collect();
        let is_number = |part: &&str| {
            !part.is_empty() && part.len() <= 6 && part.bytes().all(|byte| byte.is_ascii_digit())
        };
        if parts.len() > 3 || !days.iter().chain(&parts).all(is_number) {
            return Err("a time is minutes, M:S, H:M:S, D-H, D-H:M or D-H:M:S".to_owned());
        }
        // Of six digits at most by the line above.
        let number = |part: &str| part.parse::<u64>().unwrap_or_default();
        let units: &[u64] = match (days, parts.len()) {
            (Some(_), _) | (None, 3) => &[3600, 60, 1],
            (None, _) => &[60, 1],
        };
        let days_seconds = days.map_or(0, number) * 24 * 3600;
        let seconds = parts
            .iter()
            .zip(units)
            .map(|(part, unit)| number(part) * unit);
        let seconds = days_seconds + seconds.sum::<u64>();
        if seconds == 0 {
            return Err("no time at all".to_owned());
        }
        Ok(Self {
            text: text.to_owned(),
            seconds,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_in_sbatchs_forms() {
        for (good, seconds) in [
            ("90", 5400),
            ("90:05", 5405),
            ("24:00:00", 86_400),
            ("2-12", 216_000),
            ("2-12:30", 217_800),
            ("2-12:30:15", 217_815),
        ] {
            let time = good.parse::<Time>().expect(good);
            assert_eq!((time.as_str(), time.seconds()), (good, seconds));
        }
        for bad in [
            "", "x", "1h", "1:2:3:4", "1-", "-1", "0", "00:00:00", "1 2", "1;reboot",
        ] {
            assert!(bad.parse::<Time>().is_err(), "{bad}");
        }
    }

    #[test]
    fn values_cannot_leave_their_line_or_mean_something_else() {
        for good in ["a100|h100", "gpu:4", "n[1-4,7]", "%x-%j.log", "name@host"] {
            let directive = Directive::new("x", good).expect(good);
            assert_eq!(directive.to_string(), format!("#SBATCH --x={good}"));
        }
        for bad in [
            "",
            "a b",
            "a\n#SBATCH --uid=0",
            "a\"b",
            "$(x)",
            "a#b",
            "`x`",
            "ä",
        ] {
            assert!(Directive::new("x", bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn further_options_are_long_ones_that_are_not_set_already() {
        let taken = ["nodes".to_owned()];
        let parse = |text| Directive::parse(text, &taken).map(|directive| directive.to_string());
        assert_eq!(parse("mem=0").ok().as_deref(), Some("#SBATCH --mem=0"));
        assert_eq!(
            parse("exclusive").ok().as_deref(),
            Some("#SBATCH --exclusive")
        );
        for bad in [
            "--mem=0",
            "",
            "=0",
            "nodes=9",
            "signal=USR2",
            "requeue",
            "no-requeue",
            "open-mode",
            "mem=a b",
            "Mem=0",
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
