//! T1, T3, T4 and T5 for what the host itself sends: the guard knows no friends.

use crate::support::net::Net;
use crate::support::packet::Packet;
use crate::support::plan::standard;
use crate::support::who::{A, ALL_NODES, B, HOST, Machine, R};

/// Whether the host's datagram to this machine's port 546 or 545 arrives.
fn udp_arrives(net: &Net, machine: Machine, to: std::net::Ipv6Addr, port: u16) -> bool {
    let socket = net.host_socket(0);
    net.drain();
    socket.send(to, port);
    net.host_datagrams(machine) > 0
}

fn arrives(net: &Net, machine: Machine, is: impl Fn(&[u8]) -> bool) -> bool {
    net.host_frames(machine).iter().any(|frame| is(frame))
}

/// Whether an ICMPv6 message of the host arrives as the kernel sends it.
fn icmp_arrives(net: &Net, machine: Machine, hop: u8, message: &Packet) -> bool {
    net.drain();
    net.host_sends(message.dst, hop, &message.body);
    arrives(net, machine, |frame| {
        frame.get(54) == message.body.first() && frame[58..] == message.body[4..]
    })
}

#[test]
fn t1_hosts_frame_for_somebody_else_is_not_delivered() {
    let net = standard().start();
    net.host_knows(A.ll, A.mac);
    assert!(udp_arrives(&net, A, A.ll, 9));
    net.host_knows(A.ll, [6, 0, 0, 0, 9, 9]);
    assert!(!udp_arrives(&net, A, A.ll, 9), "flooded, with another MAC");
    net.host_knows(A.ll, B.mac);
    assert!(!udp_arrives(&net, A, A.ll, 9));
}

#[test]
fn t3_hosts_router_advertisement_is_delivered() {
    let net = standard().start();
    net.host_knows(A.ll, A.mac);
    assert!(icmp_arrives(&net, A, 255, &HOST.to(ALL_NODES).ra()));
    assert!(icmp_arrives(&net, A, 255, &HOST.to(A.ll).ra()));
}

#[test]
fn t3_hosts_router_advertisement_with_a_wrong_hop_limit_is_dropped() {
    let net = standard().start();
    assert!(icmp_arrives(&net, A, 255, &HOST.to(ALL_NODES).ra()));
    assert!(!icmp_arrives(&net, A, 64, &HOST.to(ALL_NODES).ra()));
}

#[test]
fn t3_hosts_router_advertisement_is_dropped_where_it_is_not_listed() {
    let net = standard().routers(&["fe80::1"]).start();
    assert!(!icmp_arrives(&net, A, 255, &HOST.to(ALL_NODES).ra()));
    let mut net = standard()
        .routers(&["fe80::1", &HOST.ll.to_string()])
        .start();
    assert!(icmp_arrives(&net, A, 255, &HOST.to(ALL_NODES).ra()));
    net.passes(&R.advertises(), A);
}

#[test]
fn t4_hosts_neighbour_advertisement_with_a_wrong_hop_limit_is_dropped() {
    let net = standard().start();
    let claim = HOST.claims(HOST.ll);
    assert!(icmp_arrives(&net, A, 255, &claim));
    assert!(!icmp_arrives(&net, A, 64, &claim));
    assert!(!icmp_arrives(&net, A, 255, &claim.code(1)));
}

#[test]
fn t5_hosts_dhcpv6_reply_is_delivered_from_its_link_local_address_only() {
    let net = standard().start();
    net.host_address("br0", HOST.ip);
    net.host_knows(A.ll, A.mac);
    net.host_knows(A.ip, A.mac);
    assert!(udp_arrives(&net, A, A.ll, 546));
    assert!(
        udp_arrives(&net, A, A.ip, 545),
        "the global source may send anything else"
    );
    assert!(!udp_arrives(&net, A, A.ip, 546));
    assert!(
        !udp_arrives(&net, A, ALL_NODES, 546),
        "that is no address of A's"
    );
}
