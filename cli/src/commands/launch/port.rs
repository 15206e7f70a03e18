//! The TCP port at which the ranks of a launch meet, where the user names none.
//!
//! Rank 0 opens it, seconds after it was chosen: it loads libtorch first. Meanwhile nothing holds it, so that it is none of those
//! that the system gives to whoever asks for any, as each rank of another training does for its connections.

use crate::error::{CliError, Result};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::{Ipv4Addr, TcpListener};
use std::ops::Range;

/// The first that is tried: above those that trainings of batch systems work out from a job's number.
const FIRST: u16 = 30_000;
/// As many must there be for each of some launches to find one.
const ENOUGH: usize = 100;

/// A port that nobody listens on. Another process may take it before rank 0 does, which then says so.
pub(super) fn free(attempt: u32) -> Result<u16> {
    match ours().and_then(|ports| free_among(ports, begin(attempt))) {
        Some(port) => Ok(port),
        None => any(),
    }
}

/// Where the search begins: launches of the same moment differ in their process ids, or in who counts these, as containers do.
fn begin(attempt: u32) -> usize {
    const BETWEEN_ATTEMPTS: usize = 331;
    let mut hasher = DefaultHasher::new();
    let counted_by = std::fs::read_link("/proc/self/ns/pid");
    counted_by.unwrap_or_default().hash(&mut hasher);
    let moved = BETWEEN_ATTEMPTS.wrapping_mul(attempt as usize) + std::process::id() as usize;
    (hasher.finish() as usize).wrapping_add(moved)
}

/// Those that the system gives to nobody by itself, where it tells.
fn ours() -> Option<Range<u16>> {
    let theirs = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").ok()?;
    below(&theirs)
}

/// From [`FIRST`] to the first of `theirs`, two numbers as Linux writes them, if these are [`ENOUGH`].
fn below(theirs: &str) -> Option<Range<u16>> {
    let end = theirs.split_whitespace().next()?.parse().ok()?;
    let ours = FIRST..end;
    (ours.len() >= ENOUGH).then_some(ours)
}

/// The first of `ports` that is free, from the one of number `begin` on and round.
fn free_among(ports: Range<u16>, begin: usize) -> Option<u16> {
    let begin = begin % ports.len().max(1);
    let is_free = |port: &u16| TcpListener::bind((Ipv4Addr::UNSPECIFIED, *port)).is_ok();
    ports
        .clone()
        .skip(begin)
        .chain(ports.take(begin))
        .find(is_free)
}

/// The one that the system gives.
fn any() -> Result<u16> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0));
    let address = listener.and_then(|listener| listener.local_addr());
    let address = address.map_err(|error| {
        CliError::failure(format!("no TCP port is to be had on 127.0.0.1: {error}"))
    })?;
    Ok(address.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_system_gives_away_is_left_to_it() {
        assert_eq!(below("32768\t60999\n"), Some(FIRST..32_768));
        for theirs in ["1024\t65535\n", "30099 60999", "", "any"] {
            assert_eq!(below(theirs), None, "{theirs:?}");
        }
        assert!(free(u32::MAX).expect("there are enough") > 0);
    }

    #[test]
    fn ports_in_use_are_passed_over() {
        let held = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let port = held.local_addr().expect("is bound").port();
        let around = port - 2..port + 1;
        // Others may have the two beside it at the moment.
        for begin in 0..6 {
            assert_ne!(free_among(around.clone(), begin), Some(port));
        }
        assert_eq!(free_among(port..port + 1, 7), None);
        assert_eq!(free_among(port..port, 7), None);
    }
}
