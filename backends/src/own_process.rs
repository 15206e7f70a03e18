//! Tests of what a process has once, in which other tests of this library run.

use std::process::Command;

/// Set where a test has a process for itself.
const ALONE: &str = "SELFCLS_TEST_ALONE";

/// Whether this is a process for the test `name` alone (its path, without that of the crate). Else it is run in one, and has passed
/// there.
pub(crate) fn own_process(name: &str) -> bool {
    if std::env::var_os(ALONE).is_some_and(|alone| alone == name) {
        return true;
    }
    let tests = std::env::current_exe().expect("these tests");
    let mut alone = Command::new(tests);
    let output = alone.args([name, "--exact", "--nocapture"]);
    let output = output.env(ALONE, name).output().expect("starts");
    let said =
        [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
    assert!(
        output.status.success() && said[0].contains("1 passed"),
        "{}{}",
        said[0],
        said[1]
    );
    false
}
