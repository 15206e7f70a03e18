//! Ranks as threads of one process: each has its own connection to the store and its own groups, as
//! processes have. All through Gloo, which takes tensors of GPUs as well: so several can share one, which NCCL refuses.

#![allow(deprecated, reason = "burn 0.22 is the last line with burn-tch")]

pub(crate) mod alone;
pub(in crate::distributed) mod gathering;
mod gradients;
mod many;
mod meetings;
mod watched;

use std::io::Read;
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use burn::backend::LibTorch;
use burn::tensor::{Device, Int, Tensor};
use selfcls_core::collective::{Collective, PendingSum, Reduction};
use selfcls_core::config::{Arch, Config, Stem};

use self::gathering::Gathering;
use super::ffi::Store;
use crate::on_devices::on_devices;
use crate::{Launcher, Rendezvous, Selection, TchDevice, open};

on_devices!(
    reductions_reach_every_rank,
    every_length_is_reduced_and_gathered,
    sums_go_on_by_themselves,
    pieces_of_a_sum_are_written_to_in_place,
    rows_of_unequal_number_come_in_order,
    groups_see_their_own_ranks_only,
);

pub(in crate::distributed) const TIMEOUT: Duration = Duration::from_secs(20);

/// A port on which nobody listens, and which no other test or program is given for the next minute: the end of a connection that
/// has been closed keeps it, and is in nobody's way who asks for this very port with `SO_REUSEADDR`, as stores and Rust's
/// listeners do.
pub(in crate::distributed) fn port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    let mut far = TcpStream::connect(address).expect("listens");
    let (near, _) = listener.accept().expect("has come");
    // The end that closes first is the one that is kept.
    drop(near);
    assert_eq!(far.read(&mut [0]).expect("the end"), 0);
    address.port()
}

pub(in crate::distributed) fn place(
    rank: usize,
    world_size: usize,
    master_port: u16,
) -> Rendezvous {
    Rendezvous {
        rank,
        world_size,
        local_rank: rank,
        local_world_size: world_size,
        master_addr: "127.0.0.1".into(),
        master_port,
        attempt: 0,
        run: String::new(),
        agent_store: false,
        launcher: Launcher::Torchrun,
    }
}

fn joined(place: &Rendezvous, timeout: Duration) -> Result<Arc<dyn Collective>, String> {
    let device = open(&Selection::Tch(TchDevice::Cpu)).expect("libtorch's CPU");
    let end = Arc::new(|reason: &str| eprintln!("a rank would be ended: {reason}"));
    super::join_or_end(place, &device, tch::Device::Cpu, timeout, end)
        .map_err(|error| error.to_string())
}

/// A training of a network that is small enough to be compared value by value.
pub(crate) fn small_network() -> Config {
    let mut config = Config::default();
    config.views.global_size = 16;
    config.model.backbone = Arch::ResNet10;
    config.model.stem = Stem::CifarStride2;
    config.model.width = 4;
    config.model.hidden_dim = 16;
    config.model.dim = 8;
    config.model.heads = vec![5, 7];
    config
}

/// What `rank` returns on each of `size` ranks.
pub(crate) fn on_ranks<T: Send>(
    size: usize,
    rank: impl Fn(Arc<dyn Collective>) -> T + Sync,
) -> Vec<T> {
    let port = port();
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..size)
            .map(|number| {
                let rank = &rank;
                scope.spawn(move || {
                    let peers = joined(&place(number, size, port), TIMEOUT).expect("joins");
                    assert_eq!((peers.rank(), peers.world_size()), (number, size));
                    // One that ends while others still connect would fail them there.
                    peers.barrier().expect("all are there");
                    rank(peers)
                })
            })
            .collect();
        let results = threads.into_iter().map(|thread| thread.join());
        results.map(|result| result.expect("a rank")).collect()
    })
}

fn device() -> Device {
    open(&Selection::Tch(TchDevice::Cpu))
        .expect("libtorch's CPU")
        .device
}

fn floats<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.into_data().try_into_vec().expect("floats")
}

fn reductions_reach_every_rank(device: &Device) {
    let results = on_ranks(3, |peers| {
        let own = peers.rank() as f32;
        let values = Tensor::<1>::from_floats([own, -own, 1.0], device);
        let kept = values.clone();
        let sum = peers
            .all_reduce(values.clone(), Reduction::Sum)
            .expect("a sum");
        let largest = peers.all_reduce(values, Reduction::Max).expect("maxima");
        peers.barrier().expect("all come");
        (floats(sum), floats(largest), floats(kept), own)
    });
    for (sum, largest, kept, own) in results {
        assert_eq!(sum, [3.0, -3.0, 3.0]);
        assert_eq!(largest, [2.0, 0.0, 1.0]);
        assert_eq!(kept, [own, -own, 1.0], "a tensor that is still needed");
    }
}

/// Between CPUs a small tensor travels in one step and a large one around a ring; one number less or more decides.
fn every_length_is_reduced_and_gathered(device: &Device) {
    let in_one_step = (1 << 20) / (size_of::<f32>() * 2);
    for length in [1, 2, 5, 1000, in_one_step, in_one_step + 1, 300_000] {
        let value = |rank: usize, i: usize| ((i * 7 + rank * 13) % 101) as f32 / 7.0 - 5.0;
        let own = |rank: usize| (0..length).map(move |i| value(rank, i)).collect::<Vec<_>>();
        let results = on_ranks(3, |peers| {
            let tensor = Tensor::<1>::from_floats(own(peers.rank()).as_slice(), device);
            let sum = peers.all_reduce(tensor.clone(), Reduction::Sum);
            let largest = peers.all_reduce(tensor.clone(), Reduction::Max);
            let rows = peers.all_gather(tensor.reshape([1, length]), &[1; 3]);
            peers.barrier().expect("all come");
            let sum = floats(sum.expect("a sum"));
            let largest = floats(largest.expect("maxima"));
            (sum, largest, floats(rows.expect("rows")))
        });
        for (rank, (sum, largest, rows)) in results.iter().enumerate() {
            assert_eq!(sum, &results[0].0, "rank {rank} has other bits, {length}");
            assert_eq!([sum.len(), largest.len()], [length; 2]);
            for i in 0..length {
                let values = [0, 1, 2].map(|rank| value(rank, i));
                assert_eq!(largest[i], values.iter().copied().fold(f32::MIN, f32::max));
                let expected: f32 = values.iter().sum();
                assert!((sum[i] - expected).abs() < 1e-5, "{length}: {i}");
            }
            assert_eq!(rows, &[own(0), own(1), own(2)].concat(), "{length}");
        }
    }
}

/// Ranks take the sums, and do other things meanwhile, each in an order of its own.
fn sums_go_on_by_themselves(device: &Device) {
    let results = on_ranks(3, |peers| {
        let own = peers.rank() as f32;
        let values = |count: usize| Tensor::<1>::from_floats(vec![own; count].as_slice(), device);
        let kept = values(2);
        let small = peers.begin_sum(kept.clone()).expect("begins");
        let large = peers.begin_sum(values(100_000)).expect("begins");
        let most = peers
            .all_reduce(values(1), Reduction::Max)
            .expect("a maximum");
        let take = |sum: Box<dyn PendingSum>| floats(sum.wait().expect("a sum"));
        let (small, large) = if peers.rank() == 1 {
            let large = take(large);
            (take(small), large)
        } else {
            (take(small), take(large))
        };
        (small, large, floats(most), floats(kept), own)
    });
    for (small, large, most, kept, own) in results {
        assert_eq!(small, [3.0; 2]);
        assert!(large.len() == 100_000 && large.iter().all(|&sum| sum == 3.0));
        assert_eq!((most, kept), (vec![2.0], vec![own; 2]));
    }
}

/// Several gradients that travel together are each for the optimiser to write to, though they lie in one piece.
fn pieces_of_a_sum_are_written_to_in_place(device: &Device) {
    let results = on_ranks(2, |peers| {
        let values = Tensor::<1>::from_floats([1.0, 2.0, 3.0, 4.0, 5.0], device);
        let sum = peers.begin_sum(values).expect("begins");
        let pieces = sum.wait_in_pieces(&[2, 3]).expect("a sum");
        let pieces = pieces.into_iter().map(|piece| {
            let count = piece.dims()[0];
            let gradient: Tensor<4> = piece.reshape([1, 1, 1, count]).permute([0, 3, 1, 2]);
            let gradient = gradient
                .try_into_primitive::<LibTorch>()
                .expect("libtorch's");
            assert!(gradient.can_mut());
            Tensor::<4>::from_primitive::<LibTorch>(gradient) + 1.0
        });
        pieces.map(floats).collect::<Vec<_>>()
    });
    for pieces in results {
        assert_eq!(pieces, [vec![3.0, 5.0], vec![7.0, 9.0, 11.0]]);
    }
}

/// One that is under way when a rank leaves fails as all else does.
#[test]
fn a_sum_under_way_fails_with_its_ranks() {
    let messages = on_ranks(2, |peers| {
        if peers.rank() == 1 {
            peers.leave("enough");
            return None;
        }
        let own = Tensor::<1>::from_floats([1.0], &device());
        let sum = peers.begin_sum(own).and_then(|sum| sum.wait());
        let message = sum.expect_err("a failure").to_string();
        assert_eq!(peers.check().expect_err("remembered").to_string(), message);
        Some(message)
    });
    let message = messages[0].as_deref().expect("a failure");
    assert!(message.contains("rank 1 has ended: enough"), "{message}");
}

fn rows_of_unequal_number_come_in_order(device: &Device) {
    let rows = [2, 0, 1];
    let results = on_ranks(3, |peers| {
        let (rank, count) = (peers.rank(), rows[peers.rank()]);
        let own: Vec<f32> = (0..2 * count).map(|i| (10 * rank + i) as f32).collect();
        let own = Tensor::<1>::from_floats(own.as_slice(), device).reshape([count, 2]);
        let labels = Tensor::<1, Int>::from_ints(&[7_i64, 8][..count], device) + rank as i64;
        let gathered = peers.all_gather(own.clone(), &rows).expect("gathers");
        let labels = peers.all_gather_int(labels, &rows).expect("gathers");
        let labels: Vec<i64> = labels.into_data().try_into_vec().expect("integers");
        let wrong = peers
            .all_gather(own, &[5, 5, 5])
            .expect_err("other numbers");
        assert!(wrong.to_string().contains("[5, 5, 5]"), "{wrong}");
        (floats(gathered), labels)
    });
    for (gathered, labels) in results {
        assert_eq!(gathered, [0.0, 1.0, 2.0, 3.0, 20.0, 21.0]);
        assert_eq!(labels, [7, 8, 9]);
    }
}

#[test]
fn bytes_come_from_one_rank() {
    let results = on_ranks(2, |peers| {
        let own = format!("rank {}", peers.rank()).into_bytes();
        let second = peers.broadcast(own.clone(), 1).expect("sends");
        let nothing = if peers.rank() == 0 { Vec::new() } else { own };
        (second, peers.broadcast(nothing, 0).expect("sends"))
    });
    for (second, nothing) in results {
        assert_eq!(second, b"rank 1");
        assert!(nothing.is_empty());
    }
}

fn groups_see_their_own_ranks_only(device: &Device) {
    let results = on_ranks(4, |peers| {
        let group = peers.in_groups_of(2).expect("pairs");
        assert_eq!((group.rank(), group.world_size()), (peers.rank() % 2, 2));
        assert!(peers.in_groups_of(3).is_err());
        let own = Tensor::<1>::from_floats([peers.rank() as f32], device);
        let of_pair = group
            .all_reduce(own.clone(), Reduction::Sum)
            .expect("a sum");
        let of_all = peers.all_reduce(own, Reduction::Sum).expect("a sum");
        (floats(of_pair)[0], floats(of_all)[0])
    });
    assert_eq!(results, [(1.0, 6.0), (1.0, 6.0), (5.0, 6.0), (5.0, 6.0)]);
}

/// The others hear the reason, at once, and whatever they try later gives the same answer.
#[test]
fn a_rank_that_leaves_is_named_with_its_reason() {
    let began = Instant::now();
    let results = on_ranks(3, |peers| {
        let group = peers.in_groups_of(3).expect("a group");
        // One that leaves while others still connect would fail them there.
        group.barrier().expect("all are there");
        if peers.rank() == 2 {
            peers.leave("cannot read 7.jpg");
            return String::new();
        }
        let own = Tensor::<1>::from_floats([1.0], &device());
        let first = group.all_reduce(own.clone(), Reduction::Sum);
        let first = first.expect_err("a failure").to_string();
        let again = peers
            .all_reduce(own, Reduction::Sum)
            .expect_err("still failed");
        assert_eq!(again.to_string(), first);
        assert_eq!(peers.check().expect_err("remembered").to_string(), first);
        first
    });
    for message in &results[..2] {
        assert!(
            message.contains("rank 2 has ended: cannot read 7.jpg"),
            "{message}"
        );
    }
    assert!(
        began.elapsed() < TIMEOUT,
        "they did not wait for the timeout"
    );
}

#[test]
fn ranks_that_never_come_are_named() {
    let port = port();
    let short = Duration::from_secs(6);
    let messages = std::thread::scope(|scope| {
        let ranks = [0, 2].map(|rank| scope.spawn(move || joined(&place(rank, 4, port), short)));
        ranks.map(|thread| thread.join().expect("a rank").expect_err("two are missing"))
    });
    for message in &messages {
        assert!(
            message.contains("ranks 1 and 3 of 4 did not come"),
            "{message}"
        );
    }
    let alone = joined(&place(1, 2, port), short).expect_err("nobody there");
    assert!(alone.contains("did not reach rank 0"), "{alone}");
}

/// As with torchrun, whose agent keeps the store: rank 0 is a client, and training does not end with it.
#[test]
fn a_launcher_may_keep_the_store() {
    let port = port();
    let timeout = Duration::from_secs(6);
    let store = Store::open("127.0.0.1", port, true, timeout, "agent").expect("serves");
    let store = Mutex::new(Some(store));
    let (there, gone) = (
        Gathering::new(3, 4 * timeout),
        Gathering::new(3, 4 * timeout),
    );
    std::thread::scope(|scope| {
        for rank in 0..3 {
            let (store, there, gone) = (&store, &there, &gone);
            scope.spawn(move || {
                let mut place = place(rank, 3, port);
                place.agent_store = true;
                let peers = joined(&place, timeout).expect("joins");
                let sum = || {
                    let own = Tensor::<1>::from_floats([1.0], &device());
                    floats(peers.all_reduce(own, Reduction::Sum).expect("a sum"))
                };
                assert_eq!(sum(), [3.0]);
                there.wait();
                drop(store.lock().expect("not poisoned").take());
                gone.wait();
                // Longer than a rank may be silent.
                std::thread::sleep(2 * timeout);
                assert_eq!(sum(), [3.0]);
            });
        }
    });
}
