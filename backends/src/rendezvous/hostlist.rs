//! Slurm's short form of lists of hosts: `n[1-4,7],login1`, `rack[1-2]n[01-10]`.
//!
//! Source: Slurm's manual page scontrol(1), "show hostnames", which does the same; it need not be installed where a
//! program runs.

/// Slurm's own limit on nodes.
const LIMIT: usize = 65_536;

/// The hosts of a list, in its order; the first pair of brackets changes slowest.
///
/// # Errors
///
/// What is wrong with the list, to follow its name and value in a sentence.
pub(super) fn expand(list: &str) -> Result<Vec<String>, String> {
    let mut hosts = Vec::new();
    for pattern in split(list)? {
        for host in expand_pattern(pattern)? {
            if hosts.len() == LIMIT {
                return Err(format!("is a list of more than {LIMIT} hosts"));
            }
            hosts.push(host);
        }
    }
    Ok(hosts)
}

/// Splits at the commas outside brackets.
fn split(list: &str) -> Result<Vec<&str>, String> {
    let mut patterns = Vec::new();
    let (mut start, mut inside) = (0, false);
    for (at, character) in list.char_indices() {
        match character {
            '[' if inside => return Err("has a bracket within brackets".to_owned()),
            '[' => inside = true,
            ']' if !inside => return Err("closes a bracket that is not open".to_owned()),
            ']' => inside = false,
            ',' if !inside => {
                patterns.push(&list[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    if inside {
        return Err("leaves a bracket open".to_owned());
    }
    patterns.push(&list[start..]);
    if patterns.iter().any(|pattern| pattern.is_empty()) {
        return Err("has a host without a name".to_owned());
    }
    Ok(patterns)
}

/// The hosts of one pattern, whose brackets are balanced.
fn expand_pattern(pattern: &str) -> Result<Vec<String>, String> {
    let Some((prefix, rest)) = pattern.split_once('[') else {
        return Ok(vec![pattern.to_owned()]);
    };
    let (ranges, rest) = rest
        .split_once(']')
        .ok_or_else(|| "leaves a bracket open".to_owned())?;
    let numbers = expand_ranges(ranges)?;
    let suffixes = match rest {
        "" => vec![String::new()],
        rest => expand_pattern(rest)?,
    };
    if numbers.len().saturating_mul(suffixes.len()) > LIMIT {
        return Err(format!("is a list of more than {LIMIT} hosts"));
    }
    let join = |number: &String, suffix: &String| format!("{prefix}{number}{suffix}");
    Ok(numbers
        .iter()
        .flat_map(|number| suffixes.iter().map(move |suffix| join(number, suffix)))
        .collect())
}

/// `1-4,07` as `1 2 3 4 07`. A range's numbers are as wide as its first.
fn expand_ranges(ranges: &str) -> Result<Vec<String>, String> {
    let mut numbers = Vec::new();
    for range in ranges.split(',') {
        let (low, high) = range.split_once('-').unwrap_or((range, range));
        let is_number =
            |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        let bounds = (is_number(low) && is_number(high))
            .then(|| Some((low.parse::<u64>().ok()?, high.parse::<u64>().ok()?)))
            .flatten();
        let Some((first, last)) = bounds.filter(|(first, last)| first <= last) else {
            return Err(format!(
                "has \"{range}\" in brackets, which is no range of numbers"
            ));
        };
        if last - first >= LIMIT as u64 || numbers.len() > LIMIT {
            return Err(format!("is a list of more than {LIMIT} hosts"));
        }
        let width = low.len();
        numbers.extend((first..=last).map(|number| format!("{number:0width$}")));
    }
    Ok(numbers)
}

#[cfg(test)]
mod tests {
    use super::expand;
    use proptest::prelude::*;

    #[test]
    fn the_forms_of_the_manual() {
        let cases = [
            ("n1", "n1"),
            ("n[1-4,7]", "n1 n2 n3 n4 n7"),
            ("n[1-2],login,gpu[08-10]", "n1 n2 login gpu08 gpu09 gpu10"),
            ("rack[1-2]n[01-02]", "rack1n01 rack1n02 rack2n01 rack2n02"),
            (
                "n[9-11]-ib.cluster",
                "n9-ib.cluster n10-ib.cluster n11-ib.cluster",
            ),
            ("n[098-101]", "n098 n099 n100 n101"),
        ];
        for (list, hosts) in cases {
            assert_eq!(
                expand(list).map(|hosts| hosts.join(" ")).as_deref(),
                Ok(hosts)
            );
        }
    }

    #[test]
    fn malformed_lists_are_refused_with_the_reason() {
        let cases = [
            ("", "without a name"),
            ("n1,,n2", "without a name"),
            ("n[1-2", "leaves a bracket open"),
            ("n1-2]", "not open"),
            ("n[[1]]", "within brackets"),
            ("n[]", "\"\" in brackets"),
            ("n[4-1]", "\"4-1\" in brackets"),
            ("n[a-b]", "\"a-b\" in brackets"),
            ("n[1-99999999999999999999]", "in brackets"),
            ("n[0-18446744073709551615]", "more than 65536"),
            ("n[1-300][1-300]", "more than 65536"),
            ("n[1-40000],m[1-40000]", "more than 65536"),
        ];
        for (list, reason) in cases {
            let message = expand(list).expect_err(list);
            assert!(message.contains(reason), "{list}: {message}");
        }
    }

    /// One pattern in Slurm's short form, beside the hosts it stands for.
    fn pattern() -> impl Strategy<Value = (String, Vec<String>)> {
        let range = (0_u64..5000, 0_u64..4, 1_usize..6);
        let ranges = prop::collection::vec(range, 0..4);
        ("[a-z]{1,4}", ranges, "(-[a-z]{1,3})?").prop_map(|(prefix, ranges, suffix)| {
            if ranges.is_empty() {
                let host = format!("{prefix}{suffix}");
                return (host.clone(), vec![host]);
            }
            let (mut short, mut hosts) = (Vec::new(), Vec::new());
            for (first, more, width) in ranges {
                let last = first + more;
                short.push(match more {
                    0 => format!("{first:0width$}"),
                    _ => format!("{first:0width$}-{last:0width$}"),
                });
                for number in first..=last {
                    hosts.push(format!("{prefix}{number:0width$}{suffix}"));
                }
            }
            (format!("{prefix}[{}]{suffix}", short.join(",")), hosts)
        })
    }

    proptest! {
        #[test]
        fn what_was_written_short_is_read_in_full(patterns in prop::collection::vec(pattern(), 1..5)) {
            let (short, hosts): (Vec<_>, Vec<_>) = patterns.into_iter().unzip();
            prop_assert_eq!(expand(&short.join(",")), Ok(hosts.concat()));
        }

        /// Neither panics nor takes all memory, and what it gives has no brackets left.
        #[test]
        fn any_text_is_read_or_refused(list in "[n0-9,\\-\\[\\]é]{0,24}") {
            if let Ok(hosts) = expand(&list) {
                prop_assert!(!hosts.is_empty());
                prop_assert!(hosts.iter().all(|host| !host.is_empty() && !host.contains(['[', ']', ','])));
            }
        }
    }
}
