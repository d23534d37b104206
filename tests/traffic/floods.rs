//! G15 and G16: one guest's flood is not its neighbours' loss.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::support::frag::Cut;
use crate::support::net::{Net, contains, slowness};
use crate::support::packet::{Frames, ICMP, Packet, Wire as _};
use crate::support::plan::{Plan, standard};
use crate::support::tap::Tap;
use crate::support::who::{A, B, Machine, R, STRANGER};

/// Frames a millisecond of a flood: enough to fill `nf_conntrack_frag6_high_thresh` within its
/// time-out (128 MiB, 3 s, about 2.5 KiB a fragment) if nothing stopped them.
/// A machine too busy for this pace does not notice a missing limit here, but in the tests
/// that use up a budget.
const PER_MILLISECOND: u32 = 25;

/// So few that a test can use them up.
fn few_fragments() -> Plan {
    standard().limits("fragments_per_second = 1\nfragment_burst = 20")
}

fn large(machine: Machine) -> Packet {
    machine.to(STRANGER).echo(128, 4, 3000)
}

/// A first (offset 0) or a later fragment of a datagram that is never completed.
fn lonely(machine: Machine, id: u32, offset: usize) -> Frames {
    let cut = Cut {
        before: 0,
        id,
        lengths: &[],
    };
    let ping = machine.to(STRANGER).echo(128, 4, 1400);
    let piece = ping.piece(&cut, (ICMP, offset, true), &ping.body[..1400]);
    Frames {
        port: machine.port,
        frames: vec![piece],
    }
}

/// What one guest sent leaves it no budget, and its neighbour all of its own.
fn uses_up_the_budget(flood: impl Fn(u32) -> Frames) {
    let mut net = few_fragments().start();
    net.passes(&large(A).cut(1, &[1440, 1440]), R);
    for id in 0..40 {
        for frame in flood(1000 + id).frames() {
            net.tap(A).send(&frame);
        }
    }
    net.blocked(&large(A).cut(2, &[1440, 1440]), R);
    net.passes(&A.to(STRANGER).ping(), R);
    for id in 0..5 {
        net.passes(&large(B).cut(id, &[1440, 1440]), R);
    }
}

#[test]
fn g15_first_fragments_are_limited() {
    uses_up_the_budget(|id| lonely(A, id, 0));
}

#[test]
fn g15_later_fragments_are_limited() {
    uses_up_the_budget(|id| lonely(A, id, 1400));
}

#[test]
fn g15_atomic_fragments_are_limited() {
    uses_up_the_budget(|_| Frames {
        port: A.port,
        frames: vec![A.to(STRANGER).ping().atomic().frame()],
    });
}

#[test]
fn g15_fragments_behind_options_are_limited() {
    uses_up_the_budget(|id| {
        let ping = A.to(STRANGER).echo(128, 4, 1000).padded(60);
        let cut = Cut {
            before: 1,
            id,
            lengths: &[],
        };
        let later = ping.piece(&cut, (ICMP, 1000, true), &ping.body[..1000]);
        Frames {
            port: A.port,
            frames: vec![later],
        }
    });
}

#[test]
fn g15_reassembly_is_given_less_time_and_more_room() {
    let net = standard().start();
    let sysctl = |name| {
        net.namespace
            .read(&format!("/proc/sys/net/netfilter/{name}"))
    };
    assert_eq!(sysctl("nf_conntrack_frag6_timeout"), "3");
    assert_eq!(
        sysctl("nf_conntrack_frag6_high_thresh"),
        (128 << 20).to_string()
    );
}

/// The flood goes on in one thread while B and the world exchange large pings in another.
fn survives(offset: usize) {
    let long = std::env::var_os("SGAGENT_TEST_LONG").is_some();
    let mut net = standard().start();
    net.passes(&large(B).cut(1, &[1440, 1440]), R);
    net.drain();
    // A slow machine takes as long to start.
    let end = Instant::now() + Duration::from_secs(if long { 90 } else { 20 });
    let (flooder, guest, router) = (net.tap(A), net.tap(B), net.tap(R));
    let stop = AtomicBool::new(false);
    let (sent, exchanged) = std::thread::scope(|scope| {
        let sent = scope.spawn(|| flood(flooder, &stop, |id| lonely(A, id, offset).frames));
        let mut exchanged = 0;
        while Instant::now() < end {
            exchanged += 1;
            let request = large(B).cut(exchanged, &[1440, 1440]);
            let arrived = exchange(guest, router, &request.frames);
            let back = R
                .to(B.ip)
                .src(STRANGER)
                .echo(129, 4, 3000)
                .cut(exchanged, &[1440, 1440]);
            let ok = arrived && exchange(router, guest, &back.frames);
            if !ok {
                stop.store(true, Ordering::Relaxed);
            }
            assert!(ok, "ping {exchanged} of B is lost");
            std::thread::sleep(Duration::from_millis(20));
        }
        stop.store(true, Ordering::Relaxed);
        (sent.join().unwrap(), exchanged)
    });
    // Where all is slow the memory is not filled, and the two have to get on all the same.
    let (least, pings) = if slowness() == 1 {
        (20 * 5000, 100)
    } else {
        (1000, 5)
    };
    assert!(sent > least, "the flood was {sent} fragments only");
    assert!(exchanged > pings, "B sent {exchanged} pings only");
}

/// Sends until stopped, at an even pace; returns how many.
fn flood(tap: &Tap, stop: &AtomicBool, frames: impl Fn(u32) -> Vec<Vec<u8>>) -> u32 {
    let start = Instant::now();
    let mut sent = 0;
    while !stop.load(Ordering::Relaxed) {
        let due = u32::try_from(start.elapsed().as_millis()).unwrap() * PER_MILLISECOND;
        while sent < due.min(sent + 5000) && !stop.load(Ordering::Relaxed) {
            for frame in frames(sent) {
                tap.send(&frame);
            }
            sent += 1;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    sent
}

/// Whether what is sent at one tap comes out at the other, within a while.
fn exchange(from: &Tap, to: &Tap, frames: &[Vec<u8>]) -> bool {
    for frame in frames {
        from.send(frame);
    }
    let deadline = Instant::now() + Duration::from_secs(2) * slowness();
    let mut arrived = Vec::new();
    while let Some(frame) = to.receive(deadline) {
        arrived.push(frame);
        if contains(&arrived, frames) {
            return true;
        }
    }
    false
}

#[test]
fn g15_flood_of_first_fragments_costs_the_neighbour_nothing() {
    survives(0);
}

#[test]
fn g15_flood_of_later_fragments_costs_the_neighbour_nothing() {
    survives(1400);
}

// ---- G16

/// How many of `count` such packets come out at the uplink.
fn passing(net: &mut Net, count: u32, packet: &Packet) -> usize {
    let frame = packet.frame();
    let burst = Frames {
        port: packet.port,
        frames: vec![frame; 20],
    };
    (0..count / 20)
        .map(|_| net.arrivals(&burst)[R.port].len())
        .sum()
}

fn few_of_discovery() -> Plan {
    standard().limits("nd_per_second = 5\nnd_burst = 20\nmld_per_second = 5\nmld_burst = 20")
}

/// The burst and what the rate adds in the time that the test took pass, and no more.
fn limited(flood: &Packet, other: &Packet) {
    let mut net = few_of_discovery().start();
    let start = Instant::now();
    let passed = passing(&mut net, 400, flood);
    let most = 20 + 5 * (usize::try_from(start.elapsed().as_secs()).unwrap() + 1) + 1;
    assert!(
        (20..=most).contains(&passed),
        "{passed} of 400 pass, not 20 to {most}"
    );
    for _ in 0..15 {
        net.passes(other, R);
    }
    net.passes(&A.to(STRANGER).ping(), R);
}

#[test]
fn g16_neighbour_solicitations_are_limited_per_nic() {
    limited(&A.asks_for(R.ll), &B.asks_for(R.ll));
}

#[test]
fn g16_neighbour_advertisements_are_limited_per_nic() {
    limited(&A.claims(A.ll), &B.claims(B.ll));
}

#[test]
fn g16_router_solicitations_are_limited_per_nic() {
    limited(&A.solicits_routers(), &B.solicits_routers());
}

#[test]
fn g16_probes_are_limited_per_nic() {
    limited(&A.probes(A.ip), &B.probes(B.ip));
}

#[test]
fn g16_listener_reports_are_limited_per_nic() {
    let group = crate::support::who::solicited(A.ip);
    limited(&A.joins(&[group]), &B.joins(&[group]));
    limited(&A.mld1(131, group), &B.mld1(131, group));
    limited(&A.mld1(132, group), &B.mld1(132, group));
}

#[test]
fn g16_default_limit_of_discovery_is_400_and_200_a_second() {
    let mut net = standard().start();
    let start = Instant::now();
    let passed = passing(&mut net, 2000, &A.asks_for(R.ll));
    let most = 400 + 200 * (usize::try_from(start.elapsed().as_secs()).unwrap() + 1) + 1;
    assert!(
        (400..=most).contains(&passed),
        "{passed} of 2000 pass, not 400 to {most}"
    );
    for _ in 0..100 {
        net.passes(&B.asks_for(R.ll), R);
    }
}
