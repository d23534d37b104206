//! T3 and T4: router advertisements, redirects and Neighbor Discovery that a guest receives.

use super::counters::drops;
use crate::support::bridge_kind::{BridgeKind, bridge_kind};
use crate::support::nd::{OVERRIDE, SOLICITED, source_option, target_option};
use crate::support::packet::Packet;
use crate::support::plan::{plan, standard};
use crate::support::want::{NicExt as _, Permission, nic};
use crate::support::who::{A, ALL_NODES, B, C, R, STRANGER, ip, solicited};

/// RAs and redirects as a router sends them to A.
fn from_router() -> [Packet; 3] {
    [
        R.advertises(),
        R.to(A.ll).ra(),
        R.to(A.ll).redirect(ip("fe80::5"), STRANGER),
    ]
}

/// The change makes them undeliverable.
fn rogue(bad: impl Fn(Packet) -> Packet) {
    let mut net = standard().start();
    for good in from_router() {
        net.passes(&good, A);
        net.blocked(&bad(good.clone()), A);
        net.passes(&good, A);
    }
}

#[test]
fn t3_ra_and_redirect_from_a_router_are_delivered() {
    let mut net = standard().start();
    for good in from_router() {
        net.passes(&good, A);
    }
    net.passes(&R.advertises(), C);
    net.passes(&R.to(C.ll).ra(), C);
    net.passes(&R.to(C.ll).redirect(ip("fe80::5"), STRANGER), C);
    net.passes(&R.advertises().src(ip("fe80::77")), A);
}

#[test]
fn t3_ra_from_a_global_source_is_dropped() {
    rogue(|good| good.src(R.ip));
    rogue(|good| good.src(STRANGER));
    rogue(|good| good.src(ip("::")));
}

#[test]
fn t3_ra_from_a_distance_is_dropped() {
    rogue(|good| good.hop(254));
    rogue(|good| good.hop(64));
}

#[test]
fn t3_ra_from_unlisted_router_is_dropped() {
    let mut net = standard().routers(&["fe80::1", "fe80::2"]).start();
    for good in from_router() {
        net.passes(&good, A);
        net.passes(&good.clone().src(ip("fe80::2")), A);
        net.blocked(&good.clone().src(ip("fe80::3")), A);
        net.blocked(&good.clone().src(B.ll), A);
    }
}

#[test]
fn t3_ra_from_another_guest_is_dropped() {
    let mut net = standard().start();
    net.passes(&R.advertises(), A);
    net.blocked(&B.advertises(), A);
    net.blocked(&B.to(A.ll).ra(), A);
    net.blocked(&B.advertises().src(R.ll), A);
    net.blocked(&B.to(A.ll).redirect(B.ll, STRANGER), A);
    net.blocked(&B.to(A.ll).src(R.ll).redirect(B.ll, STRANGER), A);
}

#[test]
fn t3_ra_from_a_permitted_guest_is_delivered() {
    let router = nic(B).permit(Permission::RouterAdvertisements);
    let mut net = plan().nics([nic(A), router, nic(C)]).start();
    net.passes(&B.advertises(), A);
    net.passes(&B.to(A.ll).ra(), A);
    net.passes(&B.to(A.ll).redirect(B.ll, STRANGER), A);
    net.blocked(&C.advertises(), A);
}

/// The list is the list: a permission doesn't add to it.
#[test]
fn t3_ra_from_a_permitted_guest_that_is_not_listed_is_dropped() {
    let router = |machine| nic(machine).permit(Permission::RouterAdvertisements);
    let listed = ["fe80::1", &C.ll.to_string()];
    let mut net = plan()
        .routers(&listed)
        .nics([nic(A), router(B), router(C)])
        .start();
    net.passes(&C.advertises(), A);
    net.blocked(&B.advertises(), A);
}

#[test]
fn t3_ra_with_a_fragment_header_is_dropped_whatever_port_it_enters_by() {
    let mut net = standard().start();
    for (id, good) in (1..).zip(from_router()) {
        net.passes(&good, A);
        net.dropped(&good.clone().atomic());
        net.dropped(&good.cut(id, &[16]));
    }
}

#[test]
fn t3_rogue_router_advertisement_behind_extension_headers_is_dropped() {
    let mut net = standard().start();
    net.passes(&R.advertises(), A);
    for kind in [0, 60] {
        net.blocked(&R.advertises().src(STRANGER).padded(kind), A);
        net.blocked(&R.advertises().hop(64).padded(kind), A);
        net.blocked(&R.to(A.ll).redirect(R.ll, STRANGER).hop(64).padded(kind), A);
    }
    net.blocked(&R.advertises().src(STRANGER).routing(0, 0), A);
    // Behind what nothing can be seen behind, not even where all is allowed.
    net.blocked(&R.advertises().src(STRANGER).padded(60).atomic(), A);
}

/// NS and NA as a neighbour behind the uplink sends them to A.
fn from_neighbour() -> [Packet; 4] {
    let option = target_option(R.mac);
    [
        R.asks_for(A.ip),
        R.to(A.ip).src(R.ll).ns(A.ip, &source_option(R.mac)),
        R.to(A.ip).src(R.ll).na(R.ll, SOLICITED | OVERRIDE, &option),
        R.to(ALL_NODES).na(R.ll, OVERRIDE, &option),
    ]
}

fn malformed(bad: impl Fn(Packet) -> Packet) {
    let mut net = standard().start();
    for good in from_neighbour() {
        net.passes(&good, A);
        net.blocked(&bad(good.clone()), A);
        net.passes(&good, A);
    }
}

#[test]
fn t4_neighbours_reach_a_guest_in_no_group() {
    let mut net = plan().nic(nic(A)).start();
    for good in from_neighbour() {
        net.passes(&good, A);
    }
    net.passes(&R.probes(A.ip), A);
}

#[test]
fn t4_discovery_from_a_distance_is_dropped() {
    malformed(|good| good.hop(254));
    malformed(|good| good.hop(64));
}

#[test]
fn t4_discovery_with_a_code_is_dropped() {
    malformed(|good| good.code(1));
}

#[test]
fn t4_discovery_with_an_atomic_fragment_header_is_dropped_whatever_port_it_enters_by() {
    let mut net = standard().start();
    for good in from_neighbour() {
        net.passes(&good, A);
        net.dropped(&good.clone().atomic());
        net.dropped(&good.padded(60).atomic());
    }
}

#[test]
fn t4_discovery_in_fragments_is_dropped_whatever_port_it_enters_by() {
    let mut net = standard().start();
    for (id, good) in (1..).zip(from_neighbour()) {
        net.passes(&good, A);
        net.dropped(&good.cut(id, &[8]));
        let mut backwards = good.cut(id + 10, &[16]);
        backwards.frames.reverse();
        net.dropped(&backwards);
    }
}

/// A VLAN-filtering bridge takes the tag off after the guard has looked; any other drops what has
/// one at the guest, so the reasons are what tells.
#[test]
fn t4_fragments_are_looked_at_behind_a_tag() {
    let mut net = standard().start();
    let on_a_trunk = |packet: Packet| match bridge_kind() {
        BridgeKind::Filtering => packet,
        BridgeKind::Plain | BridgeKind::Snooping => packet.tagged(0x8100, 10),
    };
    let large = R.to(A.ip).src(STRANGER).echo(128, 1, 2000);
    let behind_options = R.asks_for(A.ip).padded(60).padded(60);
    for (pieces, reason) in [
        (on_a_trunk(R.asks_for(A.ip)).cut(1, &[8]), "nd-malformed"),
        (on_a_trunk(behind_options).cut(2, &[8]), "ext-header"),
        (on_a_trunk(large).cut(3, &[1440]), ""),
    ] {
        let before = drops(&net, A).1;
        net.arrivals(&pieces);
        let after = drops(&net, A).1;
        for counted in ["nd-malformed", "ext-header"] {
            let more = after.get(counted).unwrap_or(&0) - before.get(counted).unwrap_or(&0);
            assert_eq!(more, u64::from(counted == reason), "{counted} {pieces:?}");
        }
    }
}

/// RFC 7112: the first fragment hides what the datagram is.
#[test]
fn t4_discovery_whose_first_fragment_hides_it_is_dropped_whatever_port_it_enters_by() {
    let mut net = standard().start();
    let hidden = |good: Packet| good.padded(60).padded(60).padded(60);
    for (id, good) in (1..).zip(from_neighbour().into_iter().chain([R.advertises()])) {
        net.passes(&good, A);
        net.dropped(&hidden(good.clone()).cut(id, &[8]));
        net.dropped(&hidden(good.clone()).cut(id + 10, &[16, 8]));
        net.dropped(&hidden(good.padded(60)).cut(id + 20, &[24]));
    }
    net.passes(
        &R.to(A.ip).src(STRANGER).echo(128, 1, 2000).cut(99, &[1440]),
        A,
    );
}

#[test]
fn t4_router_solicitation_in_fragments_is_dropped_whatever_port_it_enters_by() {
    let router = nic(A).permit(Permission::RouterAdvertisements);
    let mut net = plan().nics([router, nic(B)]).start();
    net.passes(&R.solicits_routers(), A);
    net.dropped(&R.solicits_routers().atomic());
    net.passes(&R.solicits_routers(), A);
}

#[test]
fn always_delivered_to_a_guest_in_no_group() {
    let mut net = plan().nics([nic(A), nic(B)]).start();
    net.passes(&R.queries(), A);
    net.passes(&R.joins(&[solicited(R.ll)]), A);
    net.passes(&R.mld1(131, ip("ff02::1:ff00:1")), A);
    net.passes(&B.asks_for(A.ip), A);
    net.passes(&B.to(A.ll).na(B.ll, SOLICITED, &[]), A);
    net.passes(&R.advertises(), A);
    net.blocked(&R.to(A.ip).src(STRANGER).udp(1, 2), A);
}
