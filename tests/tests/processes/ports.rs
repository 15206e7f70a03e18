//! TCP ports for ranks and daemons, which open them seconds after they were chosen.

use std::net::{Ipv4Addr, TcpListener};
use std::sync::atomic::{AtomicUsize, Ordering};

/// Below those that batch systems' trainings work out and `launch` takes, and those that the system gives to whoever asks for any
/// (Linux: from 32768 on, unless it is told otherwise), as ranks that run at the same time do for their connections.
const FIRST: usize = 3_000;
const COUNT: usize = 7_000;
/// So many can each test process take before it comes to those of the next.
const EACH: usize = 50;

/// A port that nobody listens on, and that no test of this process was given before.
pub(crate) fn free_port() -> u16 {
    static TAKEN: AtomicUsize = AtomicUsize::new(0);
    let begin = std::process::id() as usize * EACH;
    loop {
        let taken = TAKEN.fetch_add(1, Ordering::Relaxed);
        assert!(taken < COUNT, "no port is to be had");
        let port = u16::try_from(FIRST + (begin + taken) % COUNT).expect("is below 10000");
        if TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).is_ok() {
            return port;
        }
    }
}

#[test]
fn no_port_is_given_twice() {
    let ports = [(); 3].map(|()| free_port());
    assert!(ports[0] != ports[1] && ports[0] != ports[2] && ports[1] != ports[2]);
    assert!(ports.iter().all(|port| (3_000..10_000).contains(port)));
}
