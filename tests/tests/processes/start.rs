//! Starting ranks and waiting for them.

use crate::ports::free_port;
use crate::program::{command, send_signal};
use crate::waiting::{LIMIT, wait_for_lines, wait_until};
use selfcls_core::Config;
use selfcls_core::config::OptimKind;
use selfcls_tests::small_config;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};
use std::time::{Duration, Instant};

/// Two epochs of four steps of ten images.
pub(crate) fn config() -> Config {
    let mut config = small_config();
    config.model.heads = vec![5, 7];
    config.queue.length = 20;
    config.optim.kind = OptimKind::Sgd;
    // Steps so small that the rounding of one is hardly seen in the next: with 0.1 a process of two threads is
    // a hundred times farther from one of a single thread than these tests allow.
    config.optim.lr = 0.0002;
    config.optim.start_lr = 0.0002;
    config.optim.final_lr = 0.0002;
    config.optim.warmup_epochs = 0;
    config.train.epochs = 2;
    config.train.batch_size = 10;
    // So small that most gradients have one of their own.
    config.train.bucket_mib = 0.001;
    config.train.timeout_seconds = 60;
    config
}

/// Images in the data.
pub(crate) const SAMPLES: usize = 40;

/// A folder for one test: run directories and what the processes said.
pub(crate) struct Place {
    binary: PathBuf,
    folder: tempfile::TempDir,
    backend: &'static str,
    /// Variables of the processes', and their values.
    variables: Vec<(&'static str, &'static str)>,
}

/// Processes that were started. They do not outlive the test.
pub(crate) struct Ranks {
    children: Vec<Child>,
    talk: Vec<PathBuf>,
    results: Vec<PathBuf>,
    began: Instant,
    signalled: Option<Instant>,
}

/// Where ranks run and meet.
pub(crate) struct Site<'a> {
    pub(crate) address: &'a str,
    pub(crate) port: u16,
    pub(crate) ranks_of_a_machine: usize,
    /// The program on the machine of a rank, without arguments: made by [`command`](crate::program::command).
    pub(crate) command: &'a dyn Fn(usize) -> Command,
}

/// How a process ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) status: ExitStatus,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    /// Since all were started, or since the last signal.
    pub(crate) after: Duration,
}

impl Place {
    pub(crate) fn new(binary: PathBuf) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        Self {
            binary,
            folder,
            backend: "tch:cpu",
            variables: Vec::new(),
        }
    }

    /// Whose processes take a GPU each, and compute in all of f32 and by the same kernels every time.
    pub(crate) fn on_gpus(binary: PathBuf) -> Self {
        let place = Self {
            backend: "tch:cuda",
            ..Self::new(binary)
        };
        place
            .with("NVIDIA_TF32_OVERRIDE", "0")
            .with("SELFCLS_CUDNN_BENCHMARK", "0")
    }

    /// Whose processes have one more variable.
    pub(crate) fn with(mut self, name: &'static str, value: &'static str) -> Self {
        self.variables.push((name, value));
        self
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Starts `world` ranks (1: a process of its own) that train in `run`; `more` are further arguments of
    /// the rank with a number, images of its own among them. Ranks for which it gives none are not started.
    pub(crate) fn start(
        &self,
        run: &str,
        config: &Config,
        world: usize,
        more: impl Fn(usize) -> Option<Vec<String>>,
    ) -> Ranks {
        let here = Site {
            address: "127.0.0.1",
            port: free_port(),
            ranks_of_a_machine: world,
            command: &|_| command(&self.binary),
        };
        self.start_at(&here, run, config, world, more)
    }

    /// [`Place::start`], where `site` says.
    pub(crate) fn start_at(
        &self,
        site: &Site<'_>,
        run: &str,
        config: &Config,
        world: usize,
        more: impl Fn(usize) -> Option<Vec<String>>,
    ) -> Ranks {
        let settings = self.path(&format!("{run}.toml"));
        std::fs::write(&settings, config.to_toml()).expect("writes");
        let mut ranks = Ranks {
            children: Vec::new(),
            talk: Vec::new(),
            results: Vec::new(),
            began: Instant::now(),
            signalled: None,
        };
        for rank in 0..world {
            let Some(more) = more(rank) else {
                continue;
            };
            let talk = self.path(&format!("{run}.{world}.{rank}.stderr"));
            let results = self.path(&format!("{run}.{world}.{rank}.stdout"));
            let mut command = (site.command)(rank);
            command.args(["train", "--backend", self.backend]);
            if !more.iter().any(|argument| argument == "--data") {
                command.args(["--data", &format!("shapes:{SAMPLES}")]);
            }
            command
                .arg("--config")
                .arg(&settings)
                .arg("--out")
                .arg(self.path(run))
                .args(more)
                .envs(self.variables.iter().copied())
                .stdout(File::create(&results).expect("creates"))
                .stderr(File::create(&talk).expect("creates"));
            if world > 1 {
                for (name, value) in [
                    ("RANK", rank),
                    ("WORLD_SIZE", world),
                    ("LOCAL_RANK", rank % site.ranks_of_a_machine),
                    ("LOCAL_WORLD_SIZE", site.ranks_of_a_machine),
                    ("MASTER_PORT", site.port.into()),
                ] {
                    command.env(name, value.to_string());
                }
                command.env("MASTER_ADDR", site.address);
            }
            ranks.children.push(command.spawn().expect("starts"));
            ranks.talk.push(talk);
            ranks.results.push(results);
        }
        ranks
    }

    /// Trains to the end.
    pub(crate) fn train(&self, run: &str, config: &Config, world: usize) -> Vec<Ended> {
        let ended = self.start(run, config, world, |_| Some(Vec::new())).wait();
        for (rank, ended) in ended.iter().enumerate() {
            assert!(
                ended.status.success(),
                "rank {rank} of {world}: {}",
                ended.stderr
            );
        }
        ended
    }
}

impl Ranks {
    /// Sends a signal by its name (`KILL`, `STOP`, `TERM`) to a rank.
    pub(crate) fn signal(&mut self, rank: usize, name: &str) {
        send_signal(self.children[rank].id(), name);
        self.mark();
    }

    /// Something happens to them now.
    pub(crate) fn mark(&mut self) {
        self.signalled = Some(Instant::now());
    }

    /// Waits until the journal of the run in the folder `run` has so many lines.
    #[track_caller]
    pub(crate) fn reached(&mut self, run: &Path, lines: usize) {
        wait_for_lines(run, lines, || self.look());
    }

    /// Waits until a rank has said `text`.
    #[track_caller]
    pub(crate) fn says(&mut self, rank: usize, text: &str) {
        let talk = self.talk[rank].clone();
        let said = || std::fs::read_to_string(&talk).is_ok_and(|said| said.contains(text));
        wait_until(&format!("{text:?} of rank {rank}"), said, || self.look());
    }

    /// Whether all of them still run, and what those have said that do not.
    fn look(&mut self) -> (bool, String) {
        let mut said = String::new();
        for (child, talk) in self.children.iter_mut().zip(&self.talk) {
            if let Some(status) = child.try_wait().expect("waits") {
                let text = std::fs::read_to_string(talk).unwrap_or_default();
                said += &format!("{status}: {text}\n");
            }
        }
        (said.is_empty(), said)
    }

    /// Waits for all that have not been stopped.
    pub(crate) fn wait(mut self) -> Vec<Ended> {
        let all: Vec<usize> = (0..self.children.len()).collect();
        self.wait_for(&all)
    }

    /// Waits for these.
    pub(crate) fn wait_for(&mut self, ranks: &[usize]) -> Vec<Ended> {
        let since = self.signalled.unwrap_or(self.began);
        let mut ended: Vec<Option<(ExitStatus, Duration)>> = vec![None; self.children.len()];
        while ranks.iter().any(|&rank| ended[rank].is_none()) {
            for &rank in ranks {
                if ended[rank].is_none()
                    && let Some(status) = self.children[rank].try_wait().expect("waits")
                {
                    ended[rank] = Some((status, since.elapsed()));
                }
            }
            assert!(
                self.began.elapsed() < LIMIT,
                "not all ended in {LIMIT:?}: {ended:?}"
            );
            std::thread::sleep(Duration::from_millis(20));
        }
        let text = |path: &Path| std::fs::read_to_string(path).expect("reads");
        ranks
            .iter()
            .map(|&rank| {
                let (status, after) = ended[rank].expect("waited for");
                Ended {
                    status,
                    stdout: text(&self.results[rank]),
                    stderr: text(&self.talk[rank]),
                    after,
                }
            })
            .collect()
    }
}

impl Drop for Ranks {
    fn drop(&mut self) {
        for child in &mut self.children {
            // Those that have ended already need it no more.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
