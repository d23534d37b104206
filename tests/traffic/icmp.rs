//! G4 and G5: the ICMPv6 types a guest may send, and the shape of Neighbor Discovery.

use crate::support::packet::{DEST_OPTIONS, HOP_BY_HOP, Packet};
use crate::support::plan::standard;
use crate::support::who::{A, ALL_NODES, B, HOST, R, STRANGER};

/// `bad` is dropped where a ping of the same guest to the same group passes.
fn never_sent(bad: &[Packet]) {
    let mut net = standard().start();
    let good = A.to(ALL_NODES).ping();
    net.passes(&good, R);
    for packet in bad {
        net.dropped(packet);
    }
    net.passes(&good, R);
}

#[test]
fn g4_router_advertisement_is_dropped() {
    never_sent(&[
        A.advertises(),
        A.to(B.ll).ra(),
        A.to(R.ll).ra(),
        A.to(HOST.ll).ra(),
    ]);
}

#[test]
fn g4_router_advertisement_with_any_code_and_hop_limit_is_dropped() {
    never_sent(&[
        A.advertises().code(1),
        A.advertises().hop(64),
        A.advertises().src(A.ip),
    ]);
}

#[test]
fn g4_redirect_is_dropped() {
    never_sent(&[
        A.to(B.ll).redirect(A.ll, STRANGER),
        A.to(R.ll).redirect(A.ll, STRANGER),
    ]);
}

#[test]
fn g4_mld_query_is_dropped() {
    never_sent(&[A.queries(), A.to(ALL_NODES).hop(1).icmp(130, 0, &[0; 20])]);
}

#[test]
fn g4_router_renumbering_is_dropped() {
    never_sent(&[
        A.to(ALL_NODES).icmp(138, 0, &[0; 12]),
        A.to(STRANGER).icmp(138, 1, &[0; 12]),
    ]);
}

#[test]
fn g4_node_information_is_dropped() {
    never_sent(&[139, 140].map(|kind| A.to(B.ip).icmp(kind, 0, &[0; 28])));
}

#[test]
fn g4_inverse_discovery_is_dropped() {
    never_sent(&[141, 142].map(|kind| A.to(ALL_NODES).hop(255).icmp(kind, 0, &[0; 20])));
}

#[test]
fn g4_mobility_messages_are_dropped() {
    never_sent(&[144, 145, 146, 147].map(|kind| A.to(STRANGER).icmp(kind, 0, &[0; 20])));
}

#[test]
fn g4_certification_paths_are_dropped() {
    never_sent(&[148, 149].map(|kind| A.to(ALL_NODES).hop(255).icmp(kind, 0, &[0; 20])));
}

#[test]
fn g4_multicast_router_discovery_is_dropped() {
    never_sent(&[151, 152, 153].map(|kind| A.to(ALL_NODES).hop(1).icmp(kind, 0, &[0; 20])));
}

#[test]
fn g4_rpl_control_is_dropped() {
    never_sent(&[A.to(ALL_NODES).icmp(155, 0, &[0; 20])]);
}

#[test]
fn g4_every_type_that_is_not_listed_is_dropped() {
    let mut net = standard().start();
    net.passes(&A.to(ALL_NODES).ping(), R);
    let listed = [1, 2, 3, 4, 128, 129, 131, 132, 133, 135, 136, 143];
    for kind in (0..=255).filter(|kind| !listed.contains(kind)) {
        net.dropped(&A.to(ALL_NODES).hop(255).icmp(kind, 0, &[0; 24]));
        net.dropped(&A.to(STRANGER).icmp(kind, 0, &[0; 24]));
    }
    net.passes(&A.to(STRANGER).ping(), R);
}

#[test]
fn g4_forbidden_type_behind_extension_headers_is_dropped() {
    let mut net = standard().start();
    net.passes(&A.to(ALL_NODES).ping().padded(DEST_OPTIONS), R);
    for rogue in [
        A.advertises(),
        A.to(B.ll).redirect(A.ll, STRANGER),
        A.queries(),
    ] {
        net.dropped(&rogue.clone().padded(DEST_OPTIONS));
        net.dropped(&rogue.clone().padded(HOP_BY_HOP));
        net.dropped(&rogue.clone().padded(HOP_BY_HOP).padded(DEST_OPTIONS));
        net.dropped(&rogue.clone().routing(0, 0));
        net.dropped(&rogue.atomic());
    }
}

#[test]
fn g4_errors_and_echoes_from_a_foreign_source_are_dropped() {
    let mut net = standard().start();
    net.passes(&A.to(STRANGER).ping(), R);
    for kind in [1, 2, 3, 4] {
        let about = R.to(B.ip).src(STRANGER).udp(53, 53);
        net.dropped(&A.to(STRANGER).src(B.ip).error(kind, &about));
    }
    net.dropped(&A.to(STRANGER).src(B.ip).ping());
    net.dropped(&A.to(STRANGER).src(B.ip).pong_id(1));
}

/// The three kinds of Neighbor Discovery that a guest sends.
fn discovery() -> [Packet; 3] {
    [A.solicits_routers(), A.asks_for(R.ll), A.claims(A.ll)]
}

fn malformed(bad: impl Fn(Packet) -> Packet) {
    let mut net = standard().start();
    for good in discovery() {
        net.only(&good, &bad(good.clone()), R);
    }
}

#[test]
fn g5_discovery_from_a_distance_is_dropped() {
    malformed(|good| good.hop(254));
    malformed(|good| good.hop(1));
}

#[test]
fn g5_discovery_with_a_code_is_dropped() {
    malformed(|good| good.code(1));
    malformed(|good| good.code(255));
}

#[test]
fn g5_discovery_behind_destination_options_is_dropped() {
    malformed(|good| good.padded(DEST_OPTIONS));
}

#[test]
fn g5_discovery_behind_hop_by_hop_options_is_dropped() {
    malformed(|good| good.padded(HOP_BY_HOP));
}

#[test]
fn g5_discovery_behind_a_routing_header_is_dropped() {
    malformed(|good| good.routing(0, 0));
}

#[test]
fn g5_discovery_with_an_atomic_fragment_header_is_dropped() {
    malformed(Packet::atomic);
    malformed(|good| good.padded(DEST_OPTIONS).atomic());
}

#[test]
fn g5_discovery_in_two_fragments_is_dropped() {
    let mut net = standard().start();
    for (id, good) in (0..).zip(discovery()) {
        net.only(&good, &good.cut(id, &[8]), R);
    }
    net.only(&A.claims(A.ll), &A.claims(A.ll).cut(8, &[16, 8]), R);
}

#[test]
fn g5_discovery_with_a_probe_from_nowhere_is_checked_too() {
    let mut net = standard().start();
    let probe = A.probes(A.ll);
    net.only(&probe, &probe.clone().hop(254), R);
    net.only(&probe, &probe.clone().code(1), R);
    net.only(&probe, &probe.clone().atomic(), R);
    net.only(&probe, &probe.clone().padded(DEST_OPTIONS), R);
}
