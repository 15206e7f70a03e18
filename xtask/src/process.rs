//! Running programs: quietly, or in full view with an eye on their output.

use std::io::{BufRead, BufReader, IsTerminal, Read, Write};
use std::process::{Command, Stdio};
use std::thread;

/// Runs `command` and returns its standard output, or a paragraph on why there is none.
pub(crate) fn output(command: &mut Command) -> Result<String, String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command
        .output()
        .map_err(|error| format!("`{name}` cannot be run: {error}"))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    // The last lines say what went wrong; whole logs do not fit a message.
    let talk = String::from_utf8_lossy(&output.stderr);
    let mut last: Vec<&str> = talk.lines().rev().take(4).map(str::trim).collect();
    last.reverse();
    Err(format!(
        "`{name}` failed ({}): {}",
        output.status,
        last.join("; ")
    ))
}

/// Whether `command` runs at all and succeeds.
pub(crate) fn succeeds(command: &mut Command) -> bool {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

/// Runs `command` with its output passed through, and hands every line of it to `watch` as well.
/// Returns whether it succeeded.
pub(crate) fn watched(command: &mut Command, mut watch: impl FnMut(&str)) -> bool {
    announce(command);
    let child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut child = match child {
        Ok(child) => child,
        Err(error) => {
            eprintln!("error: cannot be run: {error}");
            return false;
        }
    };
    let (sender, lines) = std::sync::mpsc::channel();
    let readers: Vec<_> = [
        child.stdout.take().map(|pipe| {
            let sender = sender.clone();
            thread::spawn(move || forward(pipe, std::io::stdout(), &sender))
        }),
        child
            .stderr
            .take()
            .map(|pipe| thread::spawn(move || forward(pipe, std::io::stderr(), &sender))),
    ]
    .into_iter()
    .flatten()
    .collect();
    for line in lines {
        watch(&line);
    }
    for reader in readers {
        // A reader that panicked has lost lines, not the exit code.
        let _ = reader.join();
    }
    child.wait().is_ok_and(|status| status.success())
}

/// Copies `from` to `to` line by line, and each line into the channel.
fn forward(from: impl Read, mut to: impl Write, lines: &std::sync::mpsc::Sender<String>) {
    let mut from = BufReader::new(from);
    let mut line = Vec::new();
    while from.read_until(b'\n', &mut line).is_ok_and(|read| read > 0) {
        // A closed terminal is no reason to stop the work.
        let _ = to.write_all(&line);
        let _ = to.flush();
        let _ = lines.send(String::from_utf8_lossy(&line).trim_end().to_owned());
        line.clear();
    }
}

/// Runs `command` with its output passed through untouched. Returns whether it succeeded.
pub(crate) fn shown(command: &mut Command) -> bool {
    announce(command);
    match command.status() {
        Ok(status) => status.success(),
        Err(error) => {
            eprintln!("error: cannot be run: {error}");
            false
        }
    }
}

/// Lets cargo keep its colours although its output goes through a pipe.
pub(crate) fn colour() -> &'static str {
    if std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none() {
        "--color=always"
    } else {
        "--color=auto"
    }
}

fn announce(command: &Command) {
    let mut line = String::from("$");
    let program = std::path::Path::new(command.get_program());
    let program = program.file_name().unwrap_or(command.get_program());
    for word in std::iter::once(program).chain(command.get_args()) {
        line.push(' ');
        line.push_str(&word.to_string_lossy());
    }
    println!("{line}");
}
