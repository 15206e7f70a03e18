//! Signals that were ignored when `launch` was started, as `nohup` and shells do for what is to run in the background.

use crate::binary_for;
use crate::program::{command, send_signal, train_in};
use crate::ran::Ran;
use crate::start::{Place, config};
use crate::waiting::journal_lines;

#[test]
fn launch_and_its_ranks_let_ignored_signals_be() {
    let Some(binary) = binary_for("nohup::launch_and_its_ranks_let_ignored_signals_be") else {
        return;
    };
    let place = Place::new(binary.clone());
    let mut long = config();
    long.train.epochs = 100_000;
    long.checkpoint.milestone_epochs = 0;
    let mut launch = command("sh");
    launch
        .args(["-c", r#"trap "" HUP INT; exec "$@""#, "sh"])
        .arg(binary)
        .args(["launch", "--nproc", "2", "--"])
        .args(train_in(&place, &long));
    let run = place.path("run");
    let ran = Ran::while_running(&mut launch, |launch| {
        launch.reached(&run, 3);
        send_signal(launch.id(), "HUP");
        send_signal(launch.id(), "INT");
        // More than can have been under way.
        launch.reached(&run, journal_lines(&run) + 20);
        send_signal(launch.id(), "USR1");
    });
    assert_eq!(ran.code, Some(75), "{ran:#?}");
}
