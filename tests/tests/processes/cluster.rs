//! A Slurm of two nodes, `n1` and `n2`, both of which are this machine. Jobs of its partition `urgent` take the nodes from
//! those of `main`, which are told a minute before.

use crate::ports::free_port;
use crate::program::command;
use crate::ran::Ran;
use std::fs;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// How long its daemons get to find each other.
const START: Duration = Duration::from_secs(60);

/// The daemons, which end with it.
pub(crate) struct Cluster {
    /// In the order of their start.
    daemons: Vec<Child>,
    folder: TempDir,
}

impl Cluster {
    /// Starts one, or says why that is not possible here.
    pub(crate) fn start() -> Result<Self, String> {
        let programs = [
            "munged",
            "squeue",
            "slurmctld",
            "slurmd",
            "srun",
            "sbatch",
            "scancel",
            "scontrol",
            "sinfo",
        ];
        if let Some(missing) = programs.into_iter().find(|program| find(program).is_none()) {
            return Err(format!(
                "{missing} is not installed: cargo xtask setup slurm"
            ));
        }
        let user = Command::new("id").arg("-u").output().expect("id runs");
        if user.stdout.trim_ascii() != b"0" {
            return Err("Slurm's daemons need root".to_owned());
        }
        let folder = tempfile::tempdir().expect("a folder");
        // munged wants its socket where everybody may reach it.
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).expect("is ours");
        let mut cluster = Self {
            daemons: Vec::new(),
            folder,
        };
        cluster.start_munge();
        cluster.start_slurm();
        cluster.wait_until_idle()?;
        Ok(cluster)
    }

    /// A program of Slurm that talks to this cluster.
    pub(crate) fn command(&self, program: &str) -> Command {
        let mut command = command(find(program).expect("checked at the start"));
        command
            .env("SLURM_CONF", self.path("slurm.conf"))
            // Its nodes' names are known to it alone.
            .env("MASTER_ADDR", "127.0.0.1")
            .current_dir(self.folder.path());
        command
    }

    /// A folder that all nodes share.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn start_munge(&mut self) {
        let key = self.path("munge.key");
        let mut bytes = [0; 1024];
        let random =
            fs::File::open("/dev/urandom").and_then(|mut file| file.read_exact(&mut bytes));
        random.expect("random bytes");
        fs::write(&key, bytes).expect("writes");
        fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).expect("is ours");
        let mut munged = command(find("munged").expect("checked at the start"));
        munged.args(["--foreground", "--force", "--num-threads=2"]);
        for (option, name) in [
            ("key-file", "munge.key"),
            ("socket", "munge.socket"),
            ("pid-file", "munged.pid"),
            ("log-file", "munged.log"),
            ("seed-file", "munge.seed"),
        ] {
            munged.arg(format!("--{option}={}", self.path(name).display()));
        }
        self.daemon(munged);
        let deadline = Instant::now() + START;
        while !self.path("munge.socket").exists() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    fn start_slurm(&mut self) {
        let host = Command::new("hostname")
            .arg("-s")
            .output()
            .expect("hostname runs");
        let host = String::from_utf8(host.stdout).expect("a name");
        let configuration = configuration(self.folder.path(), host.trim());
        fs::write(self.path("slurm.conf"), configuration).expect("writes");
        fs::create_dir(self.path("state")).expect("creates");
        for (program, arguments) in [
            ("slurmctld", &["-D", "-i", "-c"][..]),
            ("slurmd", &["-D", "-N", "n1"]),
            ("slurmd", &["-D", "-N", "n2"]),
        ] {
            let mut daemon = command(find(program).expect("checked at the start"));
            daemon
                .args(arguments)
                .env("SLURM_CONF", self.path("slurm.conf"));
            self.daemon(daemon);
        }
    }

    fn daemon(&mut self, mut command: Command) {
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        self.daemons.push(command.spawn().expect("starts"));
    }

    pub(crate) fn wait_until_idle(&self) -> Result<(), String> {
        let deadline = Instant::now() + START;
        loop {
            let ran = Ran::of(self.command("sinfo").args(["--noheader", "--format=%D %t"]));
            if ran.stdout.trim() == "2 idle" {
                return Ok(());
            }
            if Instant::now() >= deadline {
                let log = fs::read_to_string(self.path("slurmctld.log")).unwrap_or_default();
                let last: Vec<&str> = log.lines().rev().take(3).collect();
                return Err(format!(
                    "its nodes did not become idle: {} {}; {last:?}",
                    ran.stdout, ran.stderr
                ));
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // Steps are no children of the daemons that started them.
        let _ = self
            .command("scancel")
            .args(["--full", "--signal=KILL", "--user=root"])
            .output();
        let deadline = Instant::now() + Duration::from_secs(10);
        while Instant::now() < deadline {
            let queue = self
                .command("squeue")
                .args(["--noheader", "--states=running,completing"])
                .output();
            if queue.is_ok_and(|output| output.stdout.is_empty()) {
                break;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        for daemon in self.daemons.iter_mut().rev() {
            let _ = daemon.kill();
            let _ = daemon.wait();
        }
    }
}

/// Where a program lies. Those of administrators need not be in PATH.
fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain([PathBuf::from("/usr/sbin")]);
    folders
        .map(|folder| folder.join(program))
        .find(|path| path.is_file())
}

fn configuration(folder: &Path, host: &str) -> String {
    let folder = folder.display();
    let [controller, daemons, first, second] = [(); 4].map(|()| free_port());
    format!(
        "\
ClusterName=selfcls
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller}
# Ranks meet at a port that follows from the job's number; other clusters of this machine have jobs, too.
FirstJobId={controller}
SlurmdPort={daemons}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CredType=cred/munge
SlurmUser=root
SlurmdUser=root
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerType=sched/builtin
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SlurmdParameters=config_overrides
MpiDefault=none
ReturnToService=2
NodeName=n1 NodeHostname={host} NodeAddr=127.0.0.1 Port={first} CPUs=2 RealMemory=1000
NodeName=n2 NodeHostname={host} NodeAddr=127.0.0.1 Port={second} CPUs=2 RealMemory=1000
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP PriorityTier=1 GraceTime=60
PartitionName=urgent Nodes=ALL MaxTime=INFINITE State=UP PriorityTier=10
"
    )
}
