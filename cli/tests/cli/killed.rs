//! A run that is killed, at whatever moment, goes on as if nothing had happened.

use super::images::train_for;
use super::ran::{command, run_in};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

/// The files of the run's newest checkpoint.
pub(crate) fn newest(run: &Path) -> BTreeMap<String, Vec<u8>> {
    let checkpoint = selfcls_core::checkpoint::find(run).unwrap();
    fs::read_dir(checkpoint)
        .unwrap()
        .map(|entry| {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            (name, fs::read(path).unwrap())
        })
        .collect()
}

pub(crate) fn lines(file: &Path) -> Vec<String> {
    let text = fs::read_to_string(file).unwrap_or_default();
    text.lines().map(String::from).collect()
}

#[test]
fn a_killed_run_ends_as_an_undisturbed_one() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let train = |out: &'static str| {
        let arguments = train_for("3", "shapes:128", out);
        [&arguments[..], &["--checkpoint.every_steps", "1"]].concat()
    };
    assert_eq!(run_in(path, &train("calm")).code, Some(0));

    let journal = path.join("killed/metrics.jsonl");
    for reached in [1, 6, 7, 15] {
        let mut child = command(path, &train("killed"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let deadline = Instant::now() + Duration::from_secs(120);
        while lines(&journal).len() < reached && child.try_wait().unwrap().is_none() {
            assert!(
                Instant::now() < deadline,
                "no {reached} lines in two minutes"
            );
            std::thread::sleep(Duration::from_millis(2));
        }
        // SIGKILL: nothing in the process gets a chance to tidy up.
        child.kill().unwrap();
        child.wait().unwrap();
    }
    assert_eq!(run_in(path, &train("killed")).code, Some(0));

    let (calm, killed) = (newest(&path.join("calm")), newest(&path.join("killed")));
    let names: Vec<&String> = calm.keys().collect();
    assert_eq!(names, killed.keys().collect::<Vec<_>>());
    for (name, bytes) in &calm {
        assert!(bytes == &killed[name], "{name} differs");
    }
    // Every step once: 3 epochs of 8.
    let steps = lines(&journal)
        .iter()
        .filter(|line| line.contains("\"kind\":\"step\""))
        .count();
    assert_eq!(steps, 24);
}
