//! Several agents of torchrun, as on several machines. When a rank of one has died both start theirs again, in the store that they had,
//! and only that one counts it as a start.

use crate::binary_for;
use crate::equality::newest;
use crate::or_not_run;
use crate::ports::free_port;
use crate::program::{command, send_signal, torchrun, train_in};
use crate::ran::{Ran, Running};
use crate::seen::rank_process;
use crate::start::{Place, config};
use crate::waiting::journal_lines;

/// Epochs of four steps: long enough for two ranks to die one after the other.
const EPOCHS: usize = 40;

#[test]
fn agents_start_their_ranks_again_together() {
    let name = "agents::agents_start_their_ranks_again_together";
    let Some(binary) = binary_for(name) else {
        return;
    };
    let torchrun = or_not_run!(
        "agents::agents_start_their_ranks_again_together",
        torchrun()
    );
    let place = Place::new(binary.clone());
    let mut long = config();
    long.train.epochs = EPOCHS;
    long.checkpoint.every_steps = 1;
    long.checkpoint.milestone_epochs = 0;
    let endpoint = format!("127.0.0.1:{}", free_port());
    let mut agents = [(); 2].map(|()| {
        let mut command = command(torchrun.get_program());
        command
            // For its own libraries, not ours.
            .env_remove("LD_LIBRARY_PATH")
            .args(["-m", "torch.distributed.run", "--no-python"])
            .args(["--nnodes=2", "--nproc-per-node=1", "--max-restarts=2"])
            .args(["--rdzv-backend=c10d", "--rdzv-id=agents"])
            .args(["--local-addr=127.0.0.1", "--rdzv-endpoint", &endpoint])
            .arg(&binary)
            .args(train_in(&place, &long));
        Running::start(&mut command)
    });
    let run = place.path("run");
    let mut lines = 3;
    for rank in ["RANK=1", "RANK=0"] {
        agents[0].reached(&run, lines);
        send_signal(rank_process(&run, rank), "KILL");
        // More than can have been under way.
        lines = journal_lines(&run) + 8;
    }
    let said = agents.map(|agent| {
        let Ran { stdout, stderr, .. } = agent.end().succeeded();
        stdout + &stderr
    });
    let said = said.concat();
    assert!(said.matches("continuing after step").count() >= 2, "{said}");
    assert!(!said.contains("another run meets"), "{said}");
    assert_eq!(newest(&run).manifest.position.step, EPOCHS * 4, "{said}");
}
