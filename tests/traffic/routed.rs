//! S6 where the host is its guests' router: it owns `fe80::1` on the bridge, each guest has a
//! host route, one has a delegated prefix, and the world is behind another interface.
//!
//! What the host routes is subject to its sender's guard and egress in both placements. In
//! placement `bridge` the receiver's ingress judges it as well; `br_netfilter` never shows it
//! on its way out of the host.

use std::fmt::Write as _;

use crate::support::frag::join;
use crate::support::net::{Net, contains};
use crate::support::packet::{ACK, ESP, Packet, SYN, Wire as _};
use crate::support::plan::{NO_BRIDGE, Placement, placement, plan};
use crate::support::want::{
    ChangeExt as _, DefaultAction, NicExt as _, RuleExt as _, allow_in, change, group, nic, open,
    web,
};
use crate::support::who::{A, A_DELEGATED, B, C, HOST, Machine, R, STRANGER, ip};
use sgagent::pb::Protocol;

/// Behind another interface of the host.
const OUTSIDE: Machine = Machine {
    mac: [2, 0, 0, 0, 0, 9],
    ..R.at("ext0")
};

/// A is in no group, B takes TCP to 443 and UDP to 53, C takes everything and may send nothing.
fn host_routes() -> Net {
    let dns = group("dns", &[allow_in(Protocol::Udp).port(53)]);
    let nics = [
        nic(A),
        nic(B).groups(&["web", "dns"]),
        nic(C).groups(&["open"]).egress(DefaultAction::Deny),
    ];
    let net = plan()
        .port(OUTSIDE, NO_BRIDGE)
        .nics(nics)
        .group(open())
        .group(web())
        .group(dns)
        .start();
    net.namespace.sysctl("net/ipv6/conf/ext0/disable_ipv6", "0");
    net.namespace.sysctl("net/ipv6/conf/all/forwarding", "1");
    net.host_address("br0", ip("fe80::1"));
    let mut routes = "route add 2001:db8:ffff::/48 dev ext0\n\
                      neigh add 2001:db8:ffff::1 lladdr 02:00:00:00:00:09 dev ext0\n"
        .to_owned();
    for guest in [A, B, C] {
        let _ = writeln!(routes, "route add {}/128 dev br0", guest.ip);
        net.host_knows(guest.ip, guest.mac);
        net.host_knows(guest.ll, guest.mac);
    }
    let _ = writeln!(
        routes,
        "route add 2001:db8:100:1010::/60 via {} dev br0",
        A.ll
    );
    net.namespace.ip_batch(&routes);
    net
}

/// What the host puts out at a port for these frames, which go to its own MAC.
fn put_out(net: &Net, from: Machine, frames: &[Vec<u8>], to: Machine) -> Vec<Vec<u8>> {
    let host = if from.port == OUTSIDE.port {
        let text = net.namespace.read("/sys/class/net/ext0/address");
        let octet = |octet| u8::from_str_radix(octet, 16).unwrap();
        text.split(':').map(octet).collect()
    } else {
        HOST.mac.to_vec()
    };
    net.drain();
    for frame in frames {
        let mut frame = frame.clone();
        frame[..6].copy_from_slice(&host);
        net.tap(from).send(&frame);
    }
    std::iter::from_fn(|| net.tap(to).pending()).collect()
}

/// Whether the host routes it there: a hop less, all else the same.
fn routed(net: &Net, (from, packet): (Machine, &Packet), to: Machine) -> bool {
    let expected = packet.clone().hop(packet.hop - 1).packet();
    let out = put_out(net, from, &packet.frames(), to);
    out.iter().any(|frame| frame[14..] == expected)
}

/// In placement `bridge` the receiver's ingress has a say.
fn unless_judged_on_delivery() -> bool {
    placement() == Placement::BrNetfilter
}

#[test]
fn s6_routed_between_guests_needs_the_senders_egress() {
    let net = host_routes();
    assert!(routed(&net, (A, &A.to(B.ip).syn(4000, 443)), B));
    assert!(routed(&net, (A, &A.to(B.ip).udp(4000, 53)), B));
    assert!(routed(&net, (A, &A.to(C.ip).udp(4000, 99)), C));
    assert!(!routed(&net, (C, &C.to(B.ip).syn(4001, 443)), B));
    assert!(!routed(&net, (C, &C.to(STRANGER).udp(4001, 53)), OUTSIDE));
    // It may answer.
    assert!(routed(&net, (C, &C.to(A.ip).udp(99, 4000)), A));
}

#[test]
fn s6_routed_between_guests_is_the_receivers_ingress_in_placement_bridge() {
    let net = host_routes();
    let passes = unless_judged_on_delivery();
    assert_eq!(routed(&net, (A, &A.to(B.ip).syn(4000, 22)), B), passes);
    assert_eq!(routed(&net, (A, &A.to(B.ip).udp(4000, 54)), B), passes);
    assert_eq!(routed(&net, (B, &B.to(A.ip).udp(4000, 53)), A), passes);
    assert!(routed(&net, (B, &B.to(A.ip).ping()), A), "S2");
}

#[test]
fn s6_answer_is_routed_back_whatever_the_groups_say() {
    let net = host_routes();
    assert!(routed(
        &net,
        (A, &A.to(B.ip).tcp_at(4000, 443, SYN, (1000, 0))),
        B
    ));
    let answer = B.to(A.ip).tcp_at(443, 4000, SYN | ACK, (5000, 1001));
    assert!(routed(&net, (B, &answer), A));
    let more = A.to(B.ip).tcp_at(4000, 443, ACK, (1001, 5001));
    assert!(routed(&net, (A, &more), B));
}

/// S7: what the host routes to a guest is tracked before any bridge sees it.
#[test]
fn s7_routed_flow_does_not_come_back_from_outside() {
    let mut net = host_routes();
    let out = |net: &Net, packet: &Packet| routed(net, (A, packet), OUTSIDE);
    let back = |net: &Net, packet: &Packet| routed(net, (OUTSIDE, packet), A);
    let (there, here) = (A.to(STRANGER), OUTSIDE.to(A.ip).src(STRANGER));
    let begin = [
        there.clone().tcp_at(4000, 443, SYN, (1000, 0)),
        there.clone().udp(4000, 53),
        there.clone().sctp_init(4000, 5000),
        there.upper(ESP, &[0; 16]),
    ];
    let revive = [
        here.clone().tcp_at(443, 4000, ACK, (5001, 1001)),
        here.clone().udp(53, 4000),
        here.clone().sctp_init(5000, 4000),
        here.clone().upper(ESP, &[0; 16]),
    ];
    for packet in &begin {
        assert!(out(&net, packet));
    }
    assert!(back(
        &net,
        &here.clone().tcp_at(443, 4000, SYN | ACK, (5000, 1001))
    ));
    assert!(back(&net, &revive[1]));
    let silent = change().nic(nic(A).egress(DefaultAction::Deny));
    assert_eq!(net.apply(silent).flows_cut, 4);
    for packet in &revive {
        assert!(!back(&net, packet), "{packet:?}");
    }
    for packet in &begin {
        assert!(!out(&net, packet), "{packet:?}");
    }
    // What is no answer to any of them is judged as ever.
    let judged = unless_judged_on_delivery();
    assert_eq!(back(&net, &here.clone().syn(443, 4000)), judged);
    assert_eq!(back(&net, &here.clone().udp(54, 4000)), judged);
}

#[test]
fn s6_routed_packets_are_held_to_the_guard() {
    let net = host_routes();
    assert!(routed(&net, (A, &A.to(B.ip).udp(4000, 53)), B));
    let spoofed = |src| A.to(B.ip).src(src).udp(4000, 53);
    assert!(!routed(&net, (A, &spoofed(C.ip)), B));
    assert!(!routed(&net, (A, &spoofed(STRANGER)), B));
    assert!(!routed(&net, (A, &spoofed(ip("fe80::1"))), B));
    assert!(!routed(&net, (A, &spoofed(ip("2001:db8:100:1030::1"))), B));
    assert!(!routed(
        &net,
        (A, &A.to(B.ip).eth_src(C.mac).udp(4000, 53)),
        B
    ));
    assert!(!routed(
        &net,
        (A, &A.to(B.ip).routing(0, 1).udp(4000, 53)),
        B
    ));
    assert!(routed(&net, (A, &A.to(B.ip).udp(4001, 53)), B));
}

#[test]
fn s6_world_behind_the_host_is_judged_on_delivery_in_placement_bridge() {
    let net = host_routes();
    let inbound = |to| OUTSIDE.to(to).src(STRANGER);
    assert!(routed(&net, (OUTSIDE, &inbound(B.ip).syn(4000, 443)), B));
    assert!(routed(&net, (OUTSIDE, &inbound(C.ip).udp(4000, 99)), C));
    let passes = unless_judged_on_delivery();
    let refused = inbound(B.ip).syn(4000, 22);
    assert_eq!(routed(&net, (OUTSIDE, &refused), B), passes);
    let refused = inbound(A.ip).udp(4000, 53);
    assert_eq!(routed(&net, (OUTSIDE, &refused), A), passes);
}

#[test]
fn s6_delegated_prefix_is_routed_like_any_address() {
    let net = host_routes();
    let passes = unless_judged_on_delivery();
    let inbound = OUTSIDE.to(A_DELEGATED).src(STRANGER);
    let unasked = inbound.clone().udp(53, 4000);
    assert_eq!(routed(&net, (OUTSIDE, &unasked), A), passes);
    assert!(routed(&net, (OUTSIDE, &inbound.clone().ping()), A), "S2");
    let asks = A.to(STRANGER).src(A_DELEGATED).udp(4001, 53);
    assert!(routed(&net, (A, &asks), OUTSIDE));
    assert!(routed(&net, (OUTSIDE, &inbound.udp(53, 4001)), A));
    // And from guest to guest.
    let asks = A.to(B.ip).src(A_DELEGATED).udp(4002, 53);
    assert!(routed(&net, (A, &asks), B));
    let answer = B.to(A_DELEGATED).udp(53, 4002);
    assert!(routed(&net, (B, &answer), A));
    assert!(!routed(
        &net,
        (B, &B.to(C.ip).src(A_DELEGATED).udp(1, 2)),
        C
    ));
}

/// The host joins them to track them and cuts them again before the bridge.
#[test]
fn s6_fragments_are_routed_and_judged_as_one() {
    let net = host_routes();
    let large = |from: Machine, src, to, port| {
        let packet = from.to(to).src(src).udp_with(4000, port, &[7; 2500]);
        let hop = packet.hop;
        (packet.cut(9, &[1440]).frames, packet.hop(hop - 1).frame())
    };
    let arrives = |(frames, whole): (Vec<Vec<u8>>, Vec<u8>), from, to| {
        let out = put_out(&net, from, &frames, to);
        let payload = &join(std::slice::from_ref(&whole))[0].payload;
        join(&out)
            .iter()
            .any(|datagram| &datagram.payload == payload)
    };
    assert!(arrives(large(OUTSIDE, STRANGER, B.ip, 53), OUTSIDE, B));
    assert!(arrives(large(A, A.ip, B.ip, 53), A, B));
    let passes = unless_judged_on_delivery();
    assert_eq!(
        arrives(large(OUTSIDE, STRANGER, B.ip, 54), OUTSIDE, B),
        passes
    );
    assert_eq!(arrives(large(A, A.ip, B.ip, 54), A, B), passes);
    assert!(!arrives(large(C, C.ip, B.ip, 53), C, B), "its egress");
}

/// What goes straight from guest to guest is a flow of the bridge, not of the host.
#[test]
fn s6_guests_talk_past_the_router_as_well() {
    let mut net = host_routes();
    net.passes(&A.to(B.ip).udp(4000, 53), B);
    net.passes(&B.to(A.ip).udp(53, 4000), A);
    net.blocked(&A.to(B.ip).udp(4000, 54), B);
    let frames = net.arrivals(&A.to(B.ip).udp(4001, 53));
    assert!(contains(
        &frames[B.port],
        &A.to(B.ip).udp(4001, 53).frames()
    ));
}
