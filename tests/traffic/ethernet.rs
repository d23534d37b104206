//! G1, G2, T1 and T2: MAC addresses, `EtherTypes` and tags, in both directions.

use crate::support::frames::{BROADCAST, arp, ipv4, other};
use crate::support::net::Net;
use crate::support::packet::Frames;
use crate::support::plan::{plan, standard};
use crate::support::want::{Ipv4Mode, NicExt as _, nic, open};
use crate::support::who::{A, ALL_NODES, B, C, Mac, Machine, R, STRANGER, ip};

#[test]
fn g1_spoofed_source_mac_is_dropped() {
    let mut net = standard().start();
    let ping = A.to(STRANGER).ping();
    net.only(&ping, &ping.clone().eth_src(B.mac), R);
    net.dropped(&ping.clone().eth_src(R.mac));
    net.dropped(&ping.eth_src([0xfe, 0xb2, 0, 0, 4, 0x79]));
}

#[test]
fn g1_spoofed_source_mac_of_arp_and_ipv4_is_dropped() {
    let mut net = standard().start();
    let liar = Machine { mac: B.mac, ..A };
    net.only(&arp(A, BROADCAST), &arp(liar, BROADCAST), R);
    net.only(&ipv4(A, R.mac), &ipv4(liar, R.mac), R);
}

/// A NIC may be declared a VRRP MAC for the address it shares with another.
fn with_virtual_mac() -> Net {
    let mut first = nic(A)
        .groups(&["open"])
        .shared_address("2001:db8:100:1::aa");
    first.virtual_macs.push("00:00:5e:00:02:07".to_owned());
    let second = nic(B).shared_address("2001:db8:100:1::aa");
    plan().nics([first, second, nic(C)]).group(open()).start()
}

const VIRTUAL: Mac = [0, 0, 0x5e, 0, 2, 7];

#[test]
fn g1_virtual_mac_sends_from_shared_addresses_only() {
    let mut net = with_virtual_mac();
    let shared = A.to(STRANGER).src(ip("2001:db8:100:1::aa")).ping();
    net.passes(&shared, R);
    net.passes(&shared.clone().eth_src(VIRTUAL), R);
    net.dropped(&A.to(STRANGER).ping().eth_src(VIRTUAL));
    net.dropped(&shared.clone().eth_src([0, 0, 0x5e, 0, 2, 8]));
    net.passes(&shared.eth_src(VIRTUAL), R);
}

#[test]
fn g1_virtual_mac_of_another_nic_is_dropped() {
    let mut net = with_virtual_mac();
    let shared = B.to(STRANGER).src(ip("2001:db8:100:1::aa")).ping();
    net.only(&shared, &shared.clone().eth_src(VIRTUAL), R);
}

#[test]
fn g2_arp_ipv4_and_rarp_pass_by_default() {
    let mut net = standard().start();
    net.passes(&arp(A, BROADCAST), R);
    net.passes(&arp(A, BROADCAST), B);
    net.passes(&ipv4(A, R.mac), R);
    net.passes(&other(A, BROADCAST, 0x8035, &[0, 1, 8, 0, 6, 4, 0, 3]), R);
}

#[test]
fn g2_arp_and_ipv4_are_dropped_where_blocked() {
    let mut net = standard()
        .nic(nic(A).groups(&["open"]).ipv4(Ipv4Mode::Block))
        .start();
    net.passes(&arp(B, BROADCAST), R);
    net.passes(&ipv4(B, R.mac), R);
    net.dropped(&arp(A, BROADCAST));
    net.dropped(&ipv4(A, R.mac));
    net.passes(&A.to(STRANGER).ping(), R);
}

#[test]
fn g2_other_ethertypes_are_dropped() {
    let mut net = standard().start();
    let ping = A.to(STRANGER).ping();
    net.passes(&ping, R);
    // PPPoE, MPLS, LLDP, EAPOL, FCoE, MACsec, loopback, batman, the local experimental ones.
    let types = [
        0x8863, 0x8864, 0x8847, 0x8848, 0x88cc, 0x888e, 0x8906, 0x88e5, 0x9000, 0x4305, 0x88b5,
        0x88f7, 0x22f3, 0x8137, 0x0600, 0xffff,
    ];
    for ether_type in types {
        net.dropped(&other(A, R.mac, ether_type, &[0; 50]));
        net.dropped(&other(A, BROADCAST, ether_type, &[0; 50]));
    }
    net.passes(&ping, R);
}

/// IPv6 within `PPPoE`: what `br_netfilter` would look into (`nf_call_pppoe`).
#[test]
fn g2_ipv6_in_pppoe_is_dropped() {
    let mut net = standard().start();
    let ping = A.to(STRANGER).ping();
    let length = u16::try_from(ping.packet().len() + 2)
        .unwrap()
        .to_be_bytes();
    let session = [0x88, 0x64, 0x11, 0, 0, 1, length[0], length[1], 0, 0x57];
    net.only(&ping, &ping.clone().ether_type(&session), R);
}

#[test]
fn g2_ipv6_in_mpls_is_dropped() {
    let mut net = standard().start();
    let ping = A.to(STRANGER).ping();
    net.only(
        &ping,
        &ping.clone().ether_type(&[0x88, 0x47, 0, 0, 0x21, 0x40]),
        R,
    );
}

#[test]
fn g2_llc_is_dropped() {
    let mut net = standard().start();
    let ping = A.to(STRANGER).ping();
    // A length instead of a type; IPv6 within SNAP (RFC 1042); a NetBEUI-like frame.
    let length = u16::try_from(ping.packet().len() + 8)
        .unwrap()
        .to_be_bytes();
    let snap = [length[0], length[1], 0xaa, 0xaa, 3, 0, 0, 0, 0x86, 0xdd];
    net.only(&ping, &ping.clone().ether_type(&snap), R);
    net.dropped(&other(A, BROADCAST, 46, &[0xf0, 0xf0, 3]));
}

#[test]
fn g2_vlan_tag_is_dropped() {
    let mut net = standard().start();
    let ping = A.to(STRANGER).ping();
    net.only(&ping, &ping.clone().tagged(0x8100, 100), R);
    net.dropped(&A.to(ALL_NODES).ra().tagged(0x8100, 100));
}

#[test]
fn g2_priority_tag_is_dropped() {
    let mut net = standard().start();
    let ping = A.to(STRANGER).ping();
    net.only(&ping, &ping.clone().tagged(0x8100, 0xe000), R);
    net.dropped(&ping.tagged(0x8100, 0));
}

#[test]
fn g2_service_tag_is_dropped() {
    let mut net = standard().start();
    let ping = A.to(STRANGER).ping();
    net.only(&ping, &ping.clone().tagged(0x88a8, 100), R);
    net.dropped(&ping.clone().tagged(0x9100, 100));
    net.dropped(&ping.tagged(0x88a8, 0));
}

#[test]
fn g2_double_tag_is_dropped() {
    let mut net = standard().start();
    let ping = A.to(STRANGER).ping();
    net.only(
        &ping,
        &ping.clone().tagged(0x8100, 7).tagged(0x88a8, 100),
        R,
    );
    net.dropped(&ping.clone().tagged(0x8100, 7).tagged(0x8100, 0));
    net.dropped(&ping.tagged(0x8100, 7).tagged(0x8100, 7).tagged(0x8100, 7));
}

#[test]
fn g2_tagged_arp_and_ipv4_are_dropped() {
    let mut net = standard().start();
    let tag = |mut frames: Frames| {
        frames.frames[0].splice(12..12, [0x81, 0, 0, 7]);
        frames
    };
    net.only(&arp(A, BROADCAST), &tag(arp(A, BROADCAST)), R);
    net.only(&ipv4(A, R.mac), &tag(ipv4(A, R.mac)), R);
}

#[test]
fn t1_unicast_for_somebody_else_is_not_delivered() {
    let mut net = standard().start();
    let ping = R.to(A.ip).src(STRANGER).ping();
    net.passes(&ping, A);
    // Unknown to the bridge, so it is flooded.
    net.blocked(&ping.clone().eth_dst([0x06, 0xb2, 0, 0, 9, 9]), A);
    net.passes(&R.to(B.ip).src(STRANGER).ping(), B);
    net.blocked(&R.to(B.ip).src(STRANGER).ping(), A);
    net.blocked(&arp(R, [0x06, 0xb2, 0, 0, 9, 9]), A);
    net.blocked(&ipv4(R, [0x06, 0xb2, 0, 0, 9, 9]), A);
    net.passes(&arp(R, A.mac), A);
    net.passes(&ping, A);
}

#[test]
fn t1_unicast_between_others_is_not_delivered() {
    let mut net = standard().start();
    let ping = A.to(STRANGER).ping();
    // The router has sent nothing: the frame is flooded, but for B it is not.
    net.blocked(&ping, B);
    net.passes(&ping, R);
}

#[test]
fn t1_virtual_mac_is_delivered_to_the_nic_that_has_it() {
    let mut net = with_virtual_mac();
    let ping = R
        .to(ip("2001:db8:100:1::aa"))
        .src(STRANGER)
        .ping()
        .eth_dst(VIRTUAL);
    net.passes(&ping, A);
    net.blocked(&ping, B);
    net.blocked(&ping.eth_dst([0, 0, 0x5e, 0, 2, 8]), A);
}

#[test]
fn t2_arp_and_ipv4_are_delivered_by_default_and_not_where_blocked() {
    let mut net = standard()
        .nic(nic(B).groups(&["open"]).ipv4(Ipv4Mode::Block))
        .start();
    net.passes(&arp(R, BROADCAST), A);
    net.passes(&ipv4(R, A.mac), A);
    net.blocked(&arp(R, BROADCAST), B);
    net.blocked(&ipv4(R, B.mac), B);
    net.passes(&R.to(B.ip).src(STRANGER).ping(), B);
}

#[test]
fn t2_rarp_is_not_delivered() {
    let mut net = standard().start();
    let rarp = other(R, BROADCAST, 0x8035, &[0, 1, 8, 0, 6, 4, 0, 3]);
    net.passes(&arp(R, BROADCAST), A);
    net.blocked(&rarp, A);
    net.blocked(&other(A, BROADCAST, 0x8035, &[0, 1, 8, 0, 6, 4, 0, 3]), B);
}

#[test]
fn t2_tagged_frames_are_not_delivered() {
    let mut net = standard().start();
    let ping = R.to(A.ip).src(STRANGER).ping();
    net.passes(&ping, A);
    for (ether_type, control) in [(0x8100, 100), (0x8100, 0), (0x88a8, 100), (0x9100, 1)] {
        net.blocked(&ping.clone().tagged(ether_type, control), A);
    }
    net.blocked(&ping.clone().tagged(0x8100, 1).tagged(0x88a8, 1), A);
    net.passes(&ping, A);
}

#[test]
fn t2_other_ethertypes_are_not_delivered() {
    let mut net = standard().start();
    net.passes(&arp(R, BROADCAST), A);
    for ether_type in [0x8863, 0x8864, 0x8847, 0x88cc, 0x888e, 0x88b5, 0x9000, 46] {
        net.blocked(&other(R, A.mac, ether_type, &[0; 46]), A);
        net.blocked(&other(R, BROADCAST, ether_type, &[0; 46]), A);
    }
    net.passes(&ipv4(R, A.mac), A);
}
