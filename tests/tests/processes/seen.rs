//! Processes as the system shows them.

use std::path::Path;

/// The number of the process that trains in `run` and has `variable` in its environment.
pub(crate) fn rank_process(run: &Path, variable: &str) -> String {
    let processes = std::fs::read_dir("/proc").expect("a Linux");
    let is_it = |path: &Path| {
        let read = |name| std::fs::read(path.join(name)).unwrap_or_default();
        let (arguments, environment) = (read("cmdline"), read("environ"));
        let run = run.as_os_str().as_encoded_bytes();
        let words =
            |list: &[u8], is_it: &dyn Fn(&[u8]) -> bool| list.split(|byte| *byte == 0).any(is_it);
        // As an argument of its own, or `--out=run`.
        let out = |word: &[u8]| word.strip_prefix(b"--out=").unwrap_or(word) == run;
        // Slurm's own processes have the same arguments, and not the variable.
        words(&arguments, &out) && words(&environment, &|word| word == variable.as_bytes())
    };
    let found = processes
        .flatten()
        .map(|entry| entry.path())
        .find(|path| is_it(path));
    let found = found.expect("the rank runs");
    let number = found.file_name().expect("a number");
    number.to_string_lossy().into_owned()
}

/// The processes that a process has started and not yet waited for.
pub(crate) fn children(process: u32) -> Vec<String> {
    let path = format!("/proc/{process}/task/{process}/children");
    let children = std::fs::read_to_string(path).unwrap_or_default();
    children.split_whitespace().map(str::to_owned).collect()
}

/// The state of a process as `ps` shows it: `T` for one that is stopped, `Z` for one whose end nobody has seen yet; none for one
/// that is gone.
pub(crate) fn state(process: &str) -> Option<char> {
    status(process, "State:")?.chars().next()
}

/// Whether a signal, by its name without `SIG`, has come to a process that is stopped or does not listen yet.
pub(crate) fn is_pending(process: &str, signal: &str) -> bool {
    let number = match signal {
        "USR1" => 10,
        "TERM" => 15,
        other => panic!("the number of {other}, as Linux has it, is missing here"),
    };
    let pending = status(process, "ShdPnd:");
    let pending = pending.and_then(|pending| u64::from_str_radix(&pending, 16).ok());
    pending.is_some_and(|pending| (pending >> (number - 1)) & 1 == 1)
}

/// A line of what the system tells of a process.
fn status(process: &str, name: &str) -> Option<String> {
    let text = std::fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    line.map(|line| line.trim().to_owned())
}
