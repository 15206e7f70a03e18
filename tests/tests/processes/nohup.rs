//! Signals that were ignored when `launch` was started, as `nohup` and shells do for what is to run in the background.

use crate::binary_for;
use crate::program::{command, send_signal, train_in};
use crate::start::{Place, config};
use crate::started::{Started, count};

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
    let mut launch = Started::new(&mut launch, place.path("launch.log"));
    let run = place.path("run");
    launch.reached(&run, 3);
    send_signal(launch.id(), "HUP");
    send_signal(launch.id(), "INT");
    // More than can have been under way.
    launch.reached(&run, count(&run) + 20);
    send_signal(launch.id(), "USR1");
    let code = launch.code();
    assert_eq!(code, Some(75), "{}", launch.said());
}
