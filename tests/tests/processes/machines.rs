//! Two machines, each of which is a network of its own on this one: the ranks reach each other through a cable only, and
//! each machine's own name stands for a loopback, as Debian has it.

use crate::binary_for;
use crate::cluster::Cluster;
use crate::equality::assert_equal;
use crate::faults::{assert_blames, endless};
use crate::launchers::assert_same_to_the_bit;
use crate::or_not_run;
use crate::program::{command, train_in};
use crate::ran::Ran;
use crate::start::{Place, Site, config};
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use tempfile::TempDir;

/// Their names, and what follows 10.9.0. and fd09:: in their addresses.
const NAMES: [&str; 2] = ["one", "two"];
/// The end of the cable in each.
const CABLE: &str = "cable";
/// Nobody else is in these networks.
const PORT: u16 = 29_500;

/// Network namespaces, which end with it.
struct Machines {
    namespaces: [String; 2],
    folder: TempDir,
}

impl Machines {
    /// Makes them, or says why that is not possible here.
    fn start() -> Result<Self, String> {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = |machine| format!("selfcls-{}-{number}-{machine}", std::process::id());
        let machines = Self {
            namespaces: NAMES.map(name),
            folder: tempfile::tempdir().expect("a folder"),
        };
        let [first, second] = &machines.namespaces;
        let mut steps = vec![
            format!("netns add {first}"),
            format!("netns add {second}"),
            format!("-n {first} link add {CABLE} type veth peer name {CABLE} netns {second}"),
        ];
        for (number, space) in (1..).zip(&machines.namespaces) {
            steps.extend([
                format!("-n {space} addr add 10.9.0.{number}/24 dev {CABLE}"),
                format!("-n {space} addr add fd09::{number}/64 dev {CABLE} nodad"),
                format!("-n {space} link set {CABLE} up"),
                format!("-n {space} link set lo up"),
            ]);
        }
        for step in steps {
            ip(&step)?;
        }
        for (machine, name) in NAMES.iter().enumerate() {
            let other = 1 - machine;
            let hosts = format!(
                "127.0.0.1 localhost\n127.0.1.1 {name}\n10.9.0.{} {}\n",
                other + 1,
                NAMES[other]
            );
            std::fs::write(machines.hosts(machine), hosts).expect("writes");
        }
        let mut tried = machines.command(0, OsStr::new("true"));
        let tried = tried.output().map_err(|error| error.to_string())?;
        match tried.status.success() {
            true => Ok(machines),
            false => Err(String::from_utf8_lossy(&tried.stderr).trim().to_owned()),
        }
    }

    fn hosts(&self, machine: usize) -> PathBuf {
        self.folder.path().join(NAMES[machine])
    }

    /// A program on a machine.
    fn command(&self, machine: usize, program: &OsStr) -> Command {
        let mut command = command("ip");
        command.args(["netns", "exec", &self.namespaces[machine]]);
        with_hosts(&mut command, NAMES[machine], &self.hosts(machine));
        command.arg(program);
        command
    }
}

impl Drop for Machines {
    fn drop(&mut self) {
        for space in &self.namespaces {
            // One that could not be made is not there.
            let _ = ip(&format!("netns del {space}"));
        }
    }
}

fn ip(arguments: &str) -> Result<(), String> {
    let ran = Command::new("ip").args(arguments.split(' ')).output();
    let ran = ran.map_err(|error| format!("ip does not start: {error}"))?;
    match ran.status.success() {
        true => Ok(()),
        false => Err(format!(
            "ip {arguments}: {}",
            String::from_utf8_lossy(&ran.stderr).trim()
        )),
    }
}

/// The rest of `command` under another name of the machine and with names of its own. It keeps its process id.
fn with_hosts(command: &mut Command, name: &str, hosts: &Path) {
    let script = r#"hostname "$1" && mount --bind "$2" /etc/hosts && shift 2 && exec "$@""#;
    command.args([
        "unshare", "--mount", "--uts", "sh", "-c", script, "sh", name,
    ]);
    command.arg(hosts);
}

/// By the first's name, which is a loopback there, and by an address of IPv6; with one rank on each machine and with two;
/// and with interfaces that are named.
#[test]
fn two_machines_train_as_one() {
    let name = "machines::two_machines_train_as_one";
    let Some(binary) = binary_for(name) else {
        return;
    };
    let machines = or_not_run!("machines::two_machines_train_as_one", Machines::start());
    let place = Place::new(binary.clone());
    place.train("alone", &config(), 1);
    let interfaces = format!("{CABLE},{CABLE}");
    for (address, each, interfaces) in [
        ("one", 2, None),
        ("fd09::1", 1, None),
        ("10.9.0.1", 1, Some(&interfaces)),
    ] {
        let site = Site {
            address,
            port: PORT,
            ranks_of_a_machine: each,
            command: &|rank| {
                let mut command = machines.command(rank / each, binary.as_os_str());
                if let Some(interfaces) = interfaces {
                    command.env("GLOO_SOCKET_IFNAME", interfaces);
                }
                command
            },
        };
        let run = format!("at-{}", address.replace(':', "-"));
        let ranks = place.start_at(&site, &run, &config(), 2 * each, |_| Some(Vec::new()));
        for ended in ranks.wait() {
            assert!(ended.status.success(), "{address}: {}", ended.stderr);
        }
        assert_equal(address, &place.path(&run), &place.path("alone"));
    }
}

/// Nothing tells that the other is not there any more.
#[test]
fn a_cable_that_breaks_ends_both_sides() {
    let Some(binary) = binary_for("machines::a_cable_that_breaks_ends_both_sides") else {
        return;
    };
    let machines = or_not_run!(
        "machines::a_cable_that_breaks_ends_both_sides",
        Machines::start()
    );
    let place = Place::new(binary.clone());
    let config = endless();
    let site = Site {
        address: "one",
        port: PORT,
        ranks_of_a_machine: 1,
        command: &|rank| machines.command(rank, binary.as_os_str()),
    };
    let mut ranks = place.start_at(&site, "run", &config, 2, |_| Some(Vec::new()));
    ranks.reached(&place.path("run"), 3);
    ip(&format!(
        "-n {} link set {CABLE} down",
        machines.namespaces[1]
    ))
    .expect("breaks");
    ranks.mark();
    let ended = ranks.wait();
    assert_blames(
        &ended[0],
        1,
        "no sign of life",
        config.train.timeout_seconds,
    );
    assert_blames(
        &ended[1],
        0,
        "and with it the meeting point",
        config.train.timeout_seconds,
    );
}

/// An interface that leads nowhere is an error that says what to do.
#[test]
fn a_wrong_interface_is_named() {
    let Some(binary) = binary_for("machines::a_wrong_interface_is_named") else {
        return;
    };
    let place = Place::new(binary.clone());
    let site = Site {
        address: "127.0.0.1",
        port: crate::ports::free_port(),
        ranks_of_a_machine: 2,
        command: &|_| {
            let mut command = command(&binary);
            command.env("GLOO_SOCKET_IFNAME", "nowhere0");
            command
        },
    };
    let ranks = place.start_at(&site, "run", &endless(), 2, |_| Some(Vec::new()));
    for ended in ranks.wait() {
        assert_eq!(ended.status.code(), Some(1), "{}", ended.stderr);
        assert!(
            ended.stderr.contains("GLOO_SOCKET_IFNAME = \"nowhere0\""),
            "{}",
            ended.stderr
        );
    }
}

/// The step's first node, whose name all tasks work out and look up.
#[test]
fn slurm_meets_at_the_first_node() {
    let Some(binary) = binary_for("machines::slurm_meets_at_the_first_node") else {
        return;
    };
    let cluster = or_not_run!("machines::slurm_meets_at_the_first_node", Cluster::start());
    let place = Place::new(binary.clone());
    place.train("hand", &config(), 2);
    let hosts = place.path("hosts");
    std::fs::write(&hosts, "127.0.0.1 localhost\n127.0.1.1 n1 n2\n").expect("writes");
    let mut srun = cluster.command("srun");
    srun.env_remove("MASTER_ADDR")
        .args(["--nodes=2", "--ntasks=2"]);
    with_hosts(&mut srun, "n1", &hosts);
    srun.arg(&binary).args(train_in(&place, &config()));
    let ran = Ran::of(&mut srun).succeeded();
    assert!(ran.stderr.contains("meeting at n1:"), "{ran:#?}");
    assert_same_to_the_bit(&place.path("run"), &place.path("hand"));
}
