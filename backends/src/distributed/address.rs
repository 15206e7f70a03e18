//! Under which address the other ranks reach this machine.
//!
//! A machine's own name often stands for 127.0.1.1 there, so that it is no answer; nor is a list of network interfaces,
//! of which some lead elsewhere. The way to the store is one that the others can go too: its near end is an address of
//! this machine. On the store's own machine that may be a loopback, and there the far end counts that another machine
//! has seen.

use std::net::{IpAddr, SocketAddr, TcpStream, ToSocketAddrs, UdpSocket};
use std::time::Duration;

/// How long one address of the store's machine is tried.
const PATIENCE: Duration = Duration::from_secs(5);

/// The two ends of a connection to the store.
#[derive(Debug, Clone, Copy)]
pub(super) struct Way {
    own: SocketAddr,
    other: SocketAddr,
}

impl Way {
    /// The way to the store at `host:port`, where it is there.
    pub(super) fn to(host: &str, port: u16, timeout: Duration) -> Option<Self> {
        let mut addresses = (host, port).to_socket_addrs().ok()?;
        let connection = addresses
            .find_map(|address| TcpStream::connect_timeout(&address, timeout.min(PATIENCE)).ok())?;
        Some(Self {
            own: connection.local_addr().ok()?,
            other: connection.peer_addr().ok()?,
        })
    }

    /// Whether another machine could have gone it.
    pub(super) fn is_between_machines(&self) -> bool {
        !self.own.ip().to_canonical().is_loopback()
    }

    /// The far end.
    pub(super) fn other(&self) -> String {
        text(&self.other)
    }
}

/// The address of this machine to give to the others: `way` is its way to the store, and `reached_at` the store's
/// machine as another has seen it, if one has. None where it cannot be told.
pub(super) fn own(way: Option<&Way>, reached_at: Option<&str>) -> Option<String> {
    let way = way?;
    match reached_at {
        Some(address) if !way.is_between_machines() => {
            is_of_this_machine(address).then(|| address.to_owned())
        }
        // All are on this machine, or this is none that another could have seen.
        _ => Some(text(&way.own)),
    }
}

/// The network interfaces that a variable names, with commas between them. None where it names none: scripts set a
/// variable to nothing where others would leave it out.
pub(super) fn interfaces(value: Option<String>) -> Option<String> {
    let value = value?;
    let names = value.split(',').map(str::trim);
    let names: Vec<&str> = names.filter(|name| !name.is_empty()).collect();
    (!names.is_empty()).then(|| names.join(","))
}

fn is_of_this_machine(address: &str) -> bool {
    let (ip, scope) = address.split_once('%').unwrap_or((address, "0"));
    let bound = match (ip.parse(), scope.parse()) {
        (Ok(IpAddr::V6(ip)), Ok(scope)) => {
            UdpSocket::bind(std::net::SocketAddrV6::new(ip, 0, 0, scope))
        }
        (Ok(ip), _) => UdpSocket::bind((ip, 0)),
        _ => return false,
    };
    bound.is_ok()
}

/// Without the port; link-local addresses with the number of their interface, which gloo understands.
fn text(address: &SocketAddr) -> String {
    match address {
        SocketAddr::V6(address) if address.scope_id() != 0 => {
            format!("{}%{}", address.ip(), address.scope_id())
        }
        _ => address.ip().to_canonical().to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::distributed::tests::port;
    use std::net::TcpListener;

    fn way(own: &str) -> Way {
        Way {
            own: own.parse().expect("an address"),
            other: "10.9.0.1:29500".parse().expect("an address"),
        }
    }

    #[test]
    fn the_near_end_of_the_way_to_the_store() {
        let outside = way("10.9.0.2:40000");
        assert!(outside.is_between_machines());
        assert_eq!(outside.other(), "10.9.0.1");
        assert_eq!(
            own(Some(&outside), Some("10.9.0.1")).as_deref(),
            Some("10.9.0.2")
        );
        let six = way("[fd00::2]:40000");
        assert_eq!(own(Some(&six), None).as_deref(), Some("fd00::2"));
        assert_eq!(own(None, Some("10.9.0.1")), None);
    }

    /// Its own name stands for a loopback.
    #[test]
    fn the_machine_of_the_store_is_what_another_has_seen() {
        for loopback in ["127.0.1.1:40000", "[::1]:40000", "[::ffff:127.0.0.1]:40000"] {
            let inside = way(loopback);
            assert!(!inside.is_between_machines());
            // An address that is of this machine, and one that is none of its own.
            assert_eq!(
                own(Some(&inside), Some("127.0.0.3")).as_deref(),
                Some("127.0.0.3")
            );
            assert_eq!(own(Some(&inside), Some("192.0.2.1")), None);
        }
        let alone = own(Some(&way("[::ffff:127.0.0.1]:1")), None);
        assert_eq!(alone.as_deref(), Some("127.0.0.1"));
    }

    #[test]
    fn a_variable_without_a_name_names_no_interface() {
        let interfaces = |value: &str| interfaces(Some(value.to_owned()));
        for empty in ["", " ", ",", " , ,"] {
            assert_eq!(interfaces(empty), None, "{empty:?}");
        }
        assert_eq!(interfaces("eth0").as_deref(), Some("eth0"));
        assert_eq!(interfaces(" eth0, ,ib0 ,").as_deref(), Some("eth0,ib0"));
        assert_eq!(super::interfaces(None), None);
    }

    #[test]
    fn a_way_has_two_ends() {
        let port = port();
        let listener = TcpListener::bind(("127.0.0.1", port)).expect("nobody's");
        let way = Way::to("localhost", port, PATIENCE).expect("a way");
        assert_eq!(way.other.port(), port);
        assert!(way.own.ip().is_loopback());
        drop(listener);
        assert!(Way::to("127.0.0.1", port, PATIENCE).is_none());
    }
}
