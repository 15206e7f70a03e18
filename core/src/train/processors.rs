//! How the ranks of a machine share its processors.
//!
//! Launchers tell each rank how many run on its machine, but not whether each may use all of its processors or was bound to
//! some of its own, as Slurm does with `TaskPlugin=task/affinity`. So ranks tell each other which machine they are on and which of
//! its processors they may use; those that say the same share them.

use super::survey::integers;
use crate::Result;
use crate::runtime::Runtime;
use burn::tensor::{Int, Tensor, TensorData};
use sha2::{Digest, Sha256};
use std::fs;

/// How many cores each thread pool of this rank may take, so that the ranks of its machine share them. All ranks call it
/// together.
///
/// # Errors
/// If a peer fails.
pub fn cores_of_rank(runtime: &Runtime) -> Result<usize> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    Ok((cores / sharers(runtime)?).max(1))
}

/// Threads for images: as many as are configured, or those that rayon's variable asks for, or this rank's share of the cores.
/// 0 leaves it to rayon: its variable, or all cores. A device that works by itself waits where the thread that gives it
/// its work does, so that one keeps a core. All ranks call it together.
///
/// # Errors
/// If a peer fails.
pub(super) fn workers(configured: usize, runtime: &Runtime) -> Result<usize> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let asked = std::env::var("RAYON_NUM_THREADS").ok();
    let sharers = sharers(runtime)?;
    let others = usize::from(runtime.asynchronous);
    Ok(workers_of(
        configured,
        asked.as_deref(),
        [cores, sharers, others],
    ))
}

/// `others` of this rank's cores are for other threads.
fn workers_of(
    configured: usize,
    asked: Option<&str>,
    [cores, sharers, others]: [usize; 3],
) -> usize {
    let asked = asked.and_then(|value| value.parse::<usize>().ok());
    if configured > 0 || asked.is_some_and(|threads| threads > 0) || (sharers, others) == (1, 0) {
        return configured;
    }
    (cores / sharers).saturating_sub(others).max(1)
}

/// How many ranks use this rank's processors, itself included.
fn sharers(runtime: &Runtime) -> Result<usize> {
    let peers = &*runtime.collective;
    let world = peers.world_size();
    if world == 1 {
        return Ok(1);
    }
    let own = fingerprint(&machine(), &processors());
    let sent: Tensor<1, Int> = Tensor::from_data(TensorData::from([own]), &runtime.device);
    let all = integers(peers.all_gather_int(sent, &vec![1; world])?)?;
    Ok(alike(i64::from(own), &all, peers.local_size()))
}

/// How many of `all` are `own`. Of `local` processes of this machine no more: containers with a share of a machine's time
/// each, by which their number of cores is told, see the same processors.
fn alike(own: i64, all: &[i64], local: usize) -> usize {
    let alike = all.iter().filter(|&&other| other == own).count();
    alike.min(local).max(1)
}

/// A number that stands for some processors of a machine; two of them are rarely the same.
fn fingerprint(machine: &str, processors: &str) -> i32 {
    let digest = Sha256::digest(format!("{machine}\n{processors}"));
    let bytes = [digest[0], digest[1], digest[2], digest[3]];
    // Not negative: -1 means something else in other exchanges.
    i32::from_le_bytes(bytes) & i32::MAX
}

/// What all processes of this machine have in common, and none of another. Empty where it cannot be told.
fn machine() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default()
}

/// The processors that this process may use: `0-3,8`. Empty where it cannot be told.
fn processors() -> String {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let allowed = status
        .lines()
        .find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
    allowed.unwrap_or_default().trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn those_that_may_use_the_same_processors_share_them() {
        let [first, second, elsewhere] = [("a", "0-7"), ("a", "8-15"), ("b", "0-7")]
            .map(|(machine, list)| i64::from(fingerprint(machine, list)));
        assert!(first != second && first != elsewhere && first >= 0);
        // Four ranks per machine of two, not bound: each has 2 of 8 cores.
        let all = [
            first, first, first, first, elsewhere, elsewhere, elsewhere, elsewhere,
        ];
        assert_eq!(alike(first, &all, 4), 4);
        assert_eq!(workers_of(0, None, [8, 4, 0]), 2);
        // Bound to 8 cores of their own each: `cores` is those, and nobody shares them.
        let all = [first, second, elsewhere, i64::MAX];
        assert_eq!(alike(first, &all, 2), 1);
        assert_eq!(workers_of(0, None, [8, 1, 0]), 0);
        // Containers, each of which is a machine for its launcher.
        assert_eq!(alike(first, &[first; 4], 1), 1);
    }

    #[test]
    fn what_was_asked_for_is_not_divided() {
        assert_eq!(workers_of(6, None, [8, 4, 0]), 6);
        assert_eq!(workers_of(6, Some("3"), [8, 4, 0]), 6);
        // rayon reads its variable itself.
        assert_eq!(workers_of(0, Some("3"), [8, 4, 0]), 0);
        for none in ["0", "many", ""] {
            assert_eq!(workers_of(0, Some(none), [8, 4, 0]), 2);
        }
        assert_eq!(workers_of(0, None, [2, 8, 0]), 1);
    }

    #[test]
    fn who_gives_a_device_its_work_has_a_core() {
        assert_eq!(workers_of(0, None, [16, 1, 1]), 15);
        assert_eq!(workers_of(0, None, [16, 4, 1]), 3);
        assert_eq!(workers_of(0, None, [1, 1, 1]), 1);
        assert_eq!(workers_of(0, None, [8, 8, 1]), 1);
        assert_eq!(workers_of(16, None, [16, 1, 1]), 16);
        assert_eq!(workers_of(0, Some("16"), [16, 1, 1]), 0);
    }

    #[test]
    fn a_process_knows_its_processors() {
        if cfg!(target_os = "linux") {
            assert!(!machine().is_empty());
            assert!(processors().starts_with(|first: char| first.is_ascii_digit()));
        }
    }
}
