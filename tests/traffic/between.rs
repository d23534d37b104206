//! S6: guest to guest, guest to host, and what the host routes for its guests.

use crate::support::net::Net;
use crate::support::packet::Packet;
use crate::support::plan::{NO_BRIDGE, plan, standard};
use crate::support::want::{
    DefaultAction, NicExt as _, RuleExt as _, allow_out, group, nic, open, web,
};
use crate::support::who::{A, ALL_NODES, B, HOST, Machine, R, STRANGER, ip};
use sgagent::pb::Protocol;

#[test]
fn s6_guest_to_guest_needs_the_senders_egress_and_the_receivers_ingress() {
    let dns = group("dns-out", &[allow_out(Protocol::Udp).port(53)]);
    let nics = [
        nic(A).groups(&["dns-out"]),
        nic(B).groups(&["web", "dns-in"]),
    ];
    let dns_in = group(
        "dns-in",
        &[crate::support::want::allow_in(Protocol::Udp).ports(53, 54)],
    );
    let mut net = plan()
        .nics(nics)
        .group(dns)
        .group(web())
        .group(dns_in)
        .start();
    // Both allow it.
    net.passes(&A.to(B.ip).udp(4000, 53), B);
    net.passes(&B.to(A.ip).udp(53, 4000), A);
    // Only the receiver.
    net.dropped(&A.to(B.ip).udp(4001, 54));
    net.dropped(&A.to(B.ip).syn(4001, 443));
    net.passes(&R.to(B.ip).src(STRANGER).syn(4001, 443), B);
    // Only the sender.
    net.blocked(&B.to(A.ip).udp(4002, 53), A);
    net.passes(&B.to(R.ip).udp(4002, 53), R);
}

#[test]
fn s6_flow_between_guests_is_judged_by_both_though_it_is_one() {
    let nics = [nic(A), nic(B)];
    let mut net = plan().nics(nics).start();
    // What is flooded to the uplink, too, would be a flow that was let out.
    net.passes(&B.to(R.ip).udp(9, 9), R);
    // A may send, B lets nothing in: no flow begins, so B's answer is none.
    net.blocked(&A.to(B.ip).udp(4000, 53), B);
    net.blocked(&B.to(A.ip).udp(53, 4000), A);
    net.passes(&A.to(B.ip).ping_id(1), B);
    net.passes(&B.to(A.ip).pong_id(1), A);
}

#[test]
fn s6_guest_to_host_is_the_senders_egress() {
    let nics = [nic(A), nic(B).egress(DefaultAction::Deny)];
    let mut net = plan().nics(nics).start();
    let socket = net.host_socket(7000);
    let to_host = |guest: Machine| guest.to(HOST.ll).udp(4000, 7000);
    net.arrivals(&to_host(A));
    assert_eq!(socket.sources(), [A.ll]);
    net.arrivals(&to_host(B));
    net.arrivals(&to_host(A));
    assert_eq!(socket.sources(), [A.ll], "B's datagram came before");
}

#[test]
fn s6_host_answers_a_guests_ping() {
    let net = standard().start();
    net.drain();
    let ping = A.to(HOST.ll).ping_id(77);
    for frame in crate::support::packet::Wire::frames(&ping) {
        net.tap(A).send(&frame);
    }
    // The host resolves A's address first.
    let asked = |frames: &[Vec<u8>]| frames.iter().any(|frame| frame.get(54) == Some(&135));
    assert!(asked(&net.host_frames(A)), "the host asks for A");
    net.tap(A)
        .send(&A.to(HOST.ll).na(A.ll, 0x60, &mac_option(A)).frame());
    let answers = net.host_frames(A);
    assert!(
        answers.iter().any(|frame| frame.get(54) == Some(&129)),
        "and answers"
    );
}

fn mac_option(machine: Machine) -> Vec<u8> {
    crate::support::nd::target_option(machine.mac)
}

#[test]
fn s6_spoofed_packets_do_not_reach_the_host() {
    let mut net = standard().start();
    let socket = net.host_socket(7000);
    let good = A.to(HOST.ll).udp(4000, 7000);
    net.arrivals(&good);
    assert_eq!(socket.sources(), [A.ll]);
    net.arrivals(&good.clone().src(B.ll));
    net.arrivals(&good.clone().src(R.ll));
    net.arrivals(&good.clone().eth_src(B.mac));
    net.arrivals(&good.clone().tagged(0x8100, 0));
    net.arrivals(&A.to(ALL_NODES).src(B.ll).udp(4000, 7000));
    net.arrivals(&good);
    assert_eq!(socket.sources(), [A.ll]);
}

#[test]
fn s6_answer_to_the_host_passes_where_egress_is_denied() {
    let mut net = plan().nic(nic(A).egress(DefaultAction::Deny)).start();
    let socket = net.host_socket(7000);
    net.host_knows(A.ll, A.mac);
    net.arrivals(&A.to(HOST.ll).udp(9, 7000));
    assert!(socket.sources().is_empty(), "nobody asked");
    socket.send(A.ll, 10);
    net.arrivals(&A.to(HOST.ll).udp(11, 7000));
    net.arrivals(&A.to(HOST.ll).udp(10, 7000));
    assert_eq!(socket.sources(), [A.ll]);
}

/// What an RA of a guest would make of the hypervisor.
#[test]
fn s6_router_advertisement_of_a_guest_does_not_configure_the_host() {
    let mut net = standard().start();
    let addresses = |net: &Net| net.namespace.command("ip -6 addr show dev br0");
    net.dropped(&A.advertises());
    net.dropped(&A.to(HOST.ll).ra());
    assert!(
        !addresses(&net).contains("2001:db8:bad"),
        "{}",
        addresses(&net)
    );
    net.arrivals(&R.advertises());
    assert!(
        addresses(&net).contains("2001:db8:bad"),
        "the router's RA does: {}",
        addresses(&net)
    );
}

// ---- the host as its guests' router

/// Behind another interface of the host.
const OUTSIDE: Machine = Machine {
    mac: [2, 0, 0, 0, 0, 9],
    ..R.at("ext0")
};

fn routing_host(nics: [sgagent::pb::Nic; 2]) -> Net {
    let net = plan()
        .port(OUTSIDE, NO_BRIDGE)
        .nics(nics)
        .group(open())
        .start();
    net.namespace.sysctl("net/ipv6/conf/ext0/disable_ipv6", "0");
    net.namespace.sysctl("net/ipv6/conf/all/forwarding", "1");
    net.namespace.ip_batch(
        "route add 2001:db8:ffff::/48 dev ext0\n\
         neigh add 2001:db8:ffff::1 lladdr 02:00:00:00:00:09 dev ext0\n\
         neigh add 2001:db8:100:1:4b2:ff:fe00:479 lladdr 06:b2:00:00:04:79 dev br0\n",
    );
    net.host_address("br0", HOST.ip);
    net.drain();
    net
}

/// Whether the host routed it: a hop less, all else the same.
fn routed(net: &mut Net, packet: &Packet) -> bool {
    let sent = packet.clone().eth_dst(HOST.mac);
    let arrived = net.arrivals(&sent);
    let expected = packet.clone().hop(packet.hop - 1).packet();
    arrived[OUTSIDE.port]
        .iter()
        .any(|frame| frame[14..] == expected)
}

#[test]
fn s6_what_the_host_routes_is_subject_to_nobodys_ingress() {
    // A is in no group: its ingress allows nothing.
    let mut net = routing_host([nic(A), nic(B).groups(&["open"])]);
    assert!(routed(&mut net, &A.to(STRANGER).udp(4000, 53)));
    assert!(routed(&mut net, &A.to(STRANGER).syn(4000, 443)));
    assert!(routed(&mut net, &B.to(STRANGER).udp(4000, 53)));
}

#[test]
fn s6_what_the_host_routes_is_subject_to_the_senders_egress() {
    let mut net = routing_host([nic(A), nic(B).egress(DefaultAction::Deny)]);
    assert!(routed(&mut net, &A.to(STRANGER).udp(4000, 53)));
    assert!(!routed(&mut net, &B.to(STRANGER).udp(4000, 53)));
    assert!(routed(&mut net, &A.to(STRANGER).udp(4001, 53)));
}

#[test]
fn s6_what_the_host_routes_is_subject_to_the_guard() {
    let mut net = routing_host([nic(A), nic(B)]);
    assert!(routed(&mut net, &A.to(STRANGER).udp(4000, 53)));
    assert!(!routed(&mut net, &A.to(STRANGER).src(B.ip).udp(4000, 53)));
    assert!(!routed(
        &mut net,
        &A.to(STRANGER).src(ip("2001:db8:100:1::2")).udp(4000, 53)
    ));
    assert!(!routed(
        &mut net,
        &A.to(STRANGER).routing(0, 1).udp(4000, 53)
    ));
}

/// A guest's mark must not stay on what the host routes: foreign traffic is not ours.
#[test]
fn s6_hosts_own_traffic_is_left_alone() {
    let net = routing_host([nic(A), nic(B)]);
    let socket = net.host_socket(7000);
    let to_host = OUTSIDE.to(HOST.ip).src(STRANGER).udp(4000, 7000);
    net.tap(OUTSIDE)
        .send(&to_host.eth_dst(mac_of_ext(&net)).frame());
    assert_eq!(socket.sources(), [STRANGER]);
    socket.send(STRANGER, 9);
    let frames: Vec<_> = std::iter::from_fn(|| net.tap(OUTSIDE).pending()).collect();
    assert!(frames.iter().any(|frame| frame.ends_with(b"from the host")));
}

fn mac_of_ext(net: &Net) -> [u8; 6] {
    let text = net.namespace.read("/sys/class/net/ext0/address");
    let octets: Vec<u8> = text
        .split(':')
        .map(|octet| u8::from_str_radix(octet, 16).unwrap())
        .collect();
    octets.try_into().unwrap()
}

/// Somebody else on this host marks packets, too.
#[test]
fn s6_foreign_packet_with_a_mark_like_ours_is_left_alone() {
    let denied = |machine| nic(machine).egress(DefaultAction::Deny);
    let net = routing_host([denied(A), denied(B)]);
    let socket = net.host_socket(7000);
    net.namespace.command("nft add table ip6 other");
    net.namespace
        .command("nft add chain ip6 other marks { type filter hook prerouting priority -290 ; }");
    let to_host = OUTSIDE.to(HOST.ip).src(STRANGER).udp(4000, 7000);
    let frame = to_host.eth_dst(mac_of_ext(&net)).frame();
    // In by ext0 and out by it again: the host routes it, and no guest has to do with it.
    let through = OUTSIDE.to(STRANGER).src(ip("2001:db8:eeee::1"));
    let through = through.udp(4000, 7001).eth_dst(mac_of_ext(&net));
    let expected = through.clone().hop(through.hop - 1).packet();
    for mark in [
        "0x1",
        "0x5e000001",
        "0x5e000002",
        "0x51000001",
        "0x51000002",
    ] {
        net.namespace.command("nft flush chain ip6 other marks");
        let rule = format!("nft add rule ip6 other marks iifname ext0 meta mark set {mark}");
        net.namespace.command(&rule);
        net.tap(OUTSIDE).send(&frame);
        assert_eq!(socket.sources(), [STRANGER], "{mark}");
        net.drain();
        net.tap(OUTSIDE).send(&through.frame());
        let mut back = std::iter::from_fn(|| net.tap(OUTSIDE).pending());
        assert!(back.any(|frame| frame[14..] == expected), "{mark}");
    }
}
