//! G11, G12 and T5: DHCPv6.

use std::net::Ipv6Addr;

use crate::support::packet::{DEST_OPTIONS, Packet};
use crate::support::plan::{plan, standard};
use crate::support::want::{NicExt as _, bare_nic};
use crate::support::who::{A, ALL_NODES, B, C, DHCP_SERVERS, OTHER, R, STRANGER, ip};

const CLIENT: u16 = 546;
const SERVER: u16 = 547;
const REPLY: u8 = 7;
/// Where the spec lets a client's message go: RFC 8415 §7.3, RFC 7653, RFC 9686.
const FROM_CLIENTS: [u8; 9] = [1, 3, 4, 5, 6, 8, 9, 11, 36];

fn solicit() -> Packet {
    A.to(DHCP_SERVERS).dhcp(CLIENT, SERVER, 1)
}

fn only(good: &Packet, bad: &[Packet]) {
    let mut net = standard().start();
    net.passes(good, R);
    for packet in bad {
        net.dropped(packet);
    }
    net.passes(good, R);
}

#[test]
fn g11_server_messages_of_a_guest_are_dropped() {
    let reply = |dst| A.to(dst).dhcp(SERVER, CLIENT, REPLY);
    only(
        &solicit(),
        &[
            reply(B.ll),
            reply(B.ip),
            reply(R.ll),
            reply(ALL_NODES),
            reply(STRANGER),
        ],
    );
}

#[test]
fn g11_udp_to_the_client_port_is_dropped_whatever_its_source_port() {
    let bad = [CLIENT, 1, 53, 5000, 65535].map(|port| A.to(B.ll).dhcp(port, CLIENT, REPLY));
    only(&A.to(B.ll).udp(5000, 545).eth_dst(R.mac), &bad);
}

#[test]
fn g11_udp_from_the_server_port_is_dropped_whatever_its_destination_port() {
    let bad = [SERVER, 1, 53, 5000, 65535].map(|port| A.to(STRANGER).dhcp(SERVER, port, 13));
    only(&A.to(STRANGER).udp(548, 5000), &bad);
}

#[test]
fn g11_server_message_behind_extension_headers_is_dropped() {
    let reply = A.to(B.ll).dhcp(SERVER, CLIENT, REPLY);
    only(
        &A.to(STRANGER).udp(5000, 5000).padded(DEST_OPTIONS),
        &[
            reply.clone().padded(DEST_OPTIONS),
            reply.clone().padded(0),
            reply.clone().routing(0, 0),
            reply.atomic(),
        ],
    );
}

#[test]
fn g11_server_message_in_fragments_is_dropped() {
    let mut net = standard().start();
    let large = |from, to| A.to(B.ip).udp_with(from, to, &[REPLY; 2000]);
    net.passes(&large(5000, 5001).cut(1, &[1440]), B);
    net.dropped(&large(SERVER, CLIENT).cut(2, &[1440]));
    net.dropped(&large(5000, CLIENT).cut(3, &[1440]));
    net.dropped(&large(SERVER, 5001).cut(4, &[1440]));
    net.dropped(&large(SERVER, CLIENT).cut(5, &[8, 1432]));
}

#[test]
fn g12_client_messages_pass() {
    let mut net = standard().start();
    for message in FROM_CLIENTS {
        net.passes(&A.to(DHCP_SERVERS).dhcp(CLIENT, SERVER, message), R);
    }
    net.passes(&A.to(R.ll).dhcp(CLIENT, SERVER, 3), R);
    net.passes(&A.to(STRANGER).dhcp(CLIENT, SERVER, 5), R);
}

#[test]
fn g12_relay_forward_is_dropped() {
    let relay = |dst| A.to(dst).dhcp(CLIENT, SERVER, 12);
    only(
        &solicit(),
        &[
            relay(DHCP_SERVERS),
            relay(R.ll),
            relay(STRANGER),
            relay(ip("ff05::1:3")),
        ],
    );
    only(&solicit(), &[A.to(R.ll).dhcp(SERVER, SERVER, 12)]);
}

#[test]
fn g12_every_message_that_is_not_a_clients_is_dropped() {
    let mut net = standard().start();
    net.passes(&solicit(), R);
    for message in (0..=255).filter(|message| !FROM_CLIENTS.contains(message)) {
        net.dropped(&A.to(DHCP_SERVERS).dhcp(CLIENT, SERVER, message));
    }
    net.passes(&solicit(), R);
}

#[test]
fn g12_client_message_from_another_port_is_dropped() {
    let bad = [SERVER, 1, 5000, 65535].map(|port| A.to(DHCP_SERVERS).dhcp(port, SERVER, 1));
    only(&solicit(), &bad);
}

#[test]
fn g12_client_message_with_a_fragment_header_is_dropped() {
    only(
        &solicit(),
        &[solicit().atomic(), solicit().padded(DEST_OPTIONS).atomic()],
    );
}

#[test]
fn g12_client_message_in_two_fragments_is_dropped() {
    let mut net = standard().start();
    net.only(&solicit(), &solicit().cut(1, &[8]), R);
    net.only(&solicit(), &solicit().cut(2, &[16]), R);
}

#[test]
fn g12_client_message_without_a_message_is_dropped() {
    only(
        &solicit(),
        &[A.to(DHCP_SERVERS).udp_with(CLIENT, SERVER, &[])],
    );
}

#[test]
fn g12_client_message_from_a_foreign_source_is_dropped() {
    only(
        &solicit(),
        &[B.ll, B.ip, R.ll].map(|src| solicit().src(src)),
    );
}

// ---- T5

fn reply_from(src: Ipv6Addr, dst: Ipv6Addr) -> Packet {
    R.to(dst).src(src).dhcp(SERVER, CLIENT, REPLY)
}

/// What is not DHCPv6 is dropped for C, whose group allows 443 only.
#[test]
fn t5_replies_from_link_local_servers_are_delivered() {
    let mut net = standard().start();
    net.passes(&reply_from(R.ll, C.ll), C);
    net.passes(&reply_from(R.ll, C.ip), C);
    net.passes(&reply_from(ip("fe80::77"), C.ll), C);
    net.blocked(&R.to(C.ll).udp(547, 545), C);
}

#[test]
fn t5_reply_from_any_source_port_is_delivered() {
    let mut net = standard().start();
    for port in [1, 546, 5000, 65535] {
        net.passes(&R.to(C.ll).dhcp(port, CLIENT, REPLY), C);
    }
}

/// A and B are in a group that allows everything; this is no rule's business.
#[test]
fn t5_reply_from_a_global_source_is_dropped() {
    let mut net = standard().start();
    net.passes(&R.to(A.ip).src(STRANGER).udp(SERVER, 545), A);
    net.blocked(&reply_from(STRANGER, A.ip), A);
    net.blocked(&reply_from(R.ip, A.ip), A);
    net.passes(&reply_from(R.ll, A.ll), A);
}

#[test]
fn t5_reply_to_an_address_that_is_not_the_nics_is_dropped() {
    let mut net = standard().start();
    net.passes(&reply_from(R.ll, A.ll), A);
    for dst in [ALL_NODES, B.ll, B.ip, ip("ff02::1:2"), ip("fe80::2")] {
        net.blocked(&reply_from(R.ll, A.ll).dst(dst), A);
    }
    net.blocked(&reply_from(R.ll, ALL_NODES), A);
    net.passes(&reply_from(R.ll, A.ip), A);
}

#[test]
fn t5_reply_from_an_unlisted_server_is_dropped() {
    let listed = ["fe80::1", "2001:db8:ffff::1"];
    let mut net = standard().dhcpv6_servers(&listed).start();
    net.passes(&reply_from(R.ll, A.ll), A);
    net.passes(&reply_from(STRANGER, A.ip), A);
    net.blocked(&reply_from(ip("fe80::77"), A.ll), A);
    net.blocked(&reply_from(OTHER, A.ip), A);
    net.passes(&reply_from(R.ll, C.ll), C);
    net.blocked(&reply_from(ip("fe80::77"), C.ll), C);
}

#[test]
fn t5_reply_from_another_guest_is_dropped() {
    let mut net = standard().start();
    net.passes(&reply_from(R.ll, B.ll), B);
    net.blocked(&A.to(B.ll).dhcp(SERVER, CLIENT, REPLY), B);
    net.blocked(&A.to(B.ll).dhcp(5000, CLIENT, REPLY), B);
    net.passes(&A.to(B.ll).udp(5000, 545), B);
}

#[test]
fn t5_reply_in_fragments_is_delivered() {
    let mut net = standard().start();
    let large = R.to(C.ll).udp_with(SERVER, CLIENT, &[REPLY; 2000]);
    net.passes(&large.cut(1, &[1440]), C);
    net.blocked(&large.src(STRANGER).cut(2, &[1440]), C);
}

#[test]
fn t5_reply_into_the_on_link_prefix_is_delivered() {
    let nic = bare_nic(C).on_link("2001:db8:100:7::/64");
    let mut net = plan().nic(nic).start();
    let to = |dst| reply_from(R.ll, C.ll).dst(dst);
    net.passes(&to(ip("2001:db8:100:7::abcd")), C);
    net.blocked(&to(ip("2001:db8:100:8::abcd")), C);
}
