//! `ANY_UNOWNED`: link-local addresses by first come (RFC 6620), four at a time.

use std::net::Ipv6Addr;

use super::counters::drops;
use crate::support::frag::Cut;
use crate::support::net::Net;
use crate::support::packet::{AH, DEST_OPTIONS, FRAGMENT, Frames, HOP_BY_HOP, Packet, UDP};
use crate::support::plan::plan;
use crate::support::want::{
    ChangeExt as _, DefaultAction, LinkLocalMode, NicExt as _, bare_nic, change, nic,
};
use crate::support::who::{A, A_DELEGATED, B, C, HOST, Machine, R, STRANGER, ip};

fn any(machine: Machine) -> sgagent::pb::Nic {
    nic(machine).link_local(LinkLocalMode::AnyUnowned)
}

/// A and B may choose, C has its EUI-64 address, the router is known by its configuration.
fn net() -> Net {
    plan()
        .routers(&["fe80::1"])
        .nics([any(A), any(B), nic(C)])
        .start()
}

fn own(n: u16) -> Ipv6Addr {
    Ipv6Addr::new(0xfe80, 0, 0, 0, 0x1234, 0x5678, 0x9abc, n)
}

fn from(machine: Machine, src: Ipv6Addr) -> Packet {
    machine.to(R.ll).src(src).ping()
}

#[test]
fn g13_any_unowned_link_local_passes() {
    let mut net = net();
    net.passes(&A.probes(own(1)), R);
    net.passes(&from(A, own(1)), R);
    net.passes(&A.claims(own(1)).src(own(1)), R);
    net.passes(&A.solicits_routers().src(own(1)), R);
    net.passes(&A.asks_for(R.ll).src(own(1)), R);
    net.passes(&A.joins(&[ip("ff02::1:ffbc:1")]).src(own(1)), R);
    net.passes(&from(B, own(2)), R);
}

/// No configuration names the router: that it has spoken is enough, even where a guest
/// was first.
#[test]
fn g9_any_unowned_is_not_the_address_of_a_router_that_was_heard() {
    let mut net = plan().nics([any(A), nic(B)]).start();
    net.passes(&A.claims(R.ll).src(R.ll), R);
    net.passes(&from(A, R.ll), R);
    net.passes(&R.advertises(), B);
    net.dropped(&A.claims(R.ll).src(R.ll));
    net.dropped(&A.claims(R.ll).src(own(1)));
    net.dropped(&A.probes(R.ll));
    net.dropped(&from(A, R.ll));
    net.passes(&from(A, own(1)), R);
}

#[test]
fn g13_any_unowned_is_link_local_only() {
    let mut net = net();
    net.passes(&from(A, own(1)), R);
    net.dropped(&from(A, ip("2001:db8:100:1::77")));
    net.dropped(&from(A, ip("fe80:0:0:1::1")));
    net.dropped(&from(A, ip("fe90::1")));
    net.dropped(&A.claims(ip("2001:db8:100:1::77")));
}

#[test]
fn g13_any_unowned_is_not_somebody_elses_address() {
    let mut net = net();
    net.passes(&from(A, own(1)), R);
    for owned in [C.ll, R.ll, HOST.ll] {
        net.dropped(&from(A, owned));
        net.dropped(&A.probes(owned));
        net.dropped(&A.claims(owned));
        net.dropped(&A.to(R.ll).src(own(1)).na(owned, 0x20, &[]));
        net.dropped(&A.asks_for(R.ll).src(owned));
    }
    net.passes(&from(A, own(1)), R);
}

#[test]
fn g13_any_unowned_takes_four_addresses_at_most() {
    let mut net = net();
    for n in 1..=4 {
        net.passes(&from(A, own(n)), R);
    }
    net.dropped(&from(A, own(5)));
    net.dropped(&A.probes(own(6)));
    net.dropped(&A.claims(own(7)).src(own(7)));
    for n in 1..=4 {
        net.passes(&from(A, own(n)), R);
    }
    // A's limit is not B's.
    net.passes(&from(B, own(5)), R);
}

/// A fragment that is shorter than it says, or of what no fragments are made.
#[test]
fn g13_any_unowned_is_not_taken_by_what_is_no_packet() {
    let mut net = net();
    let later = |n, kind| {
        let packet = from(A, own(n));
        let cut = Cut {
            before: 0,
            id: 7,
            lengths: &[],
        };
        packet.piece(&cut, (kind, 1440, true), &[0; 16])
    };
    let mut lying = later(1, UDP);
    lying[19] += 8;
    let mut other = later(5, DEST_OPTIONS);
    other[14] = 0x40;
    let frames = vec![
        lying,
        later(2, HOP_BY_HOP),
        later(3, AH),
        later(4, FRAGMENT),
        other,
    ];
    let port = A.port;
    net.dropped(&Frames { port, frames });
    assert_eq!(drops(&net, A).0.get("ext-header"), Some(&5));
    for n in 6..=9 {
        net.passes(&from(A, own(n)), R);
    }
}

/// The same by probes and advertisements alone, which claim addresses, too.
#[test]
fn g13_any_unowned_speaks_for_four_addresses_at_most() {
    let mut net = net();
    for n in 1..=4 {
        net.passes(&A.probes(own(n)), R);
    }
    net.dropped(&A.probes(own(5)));
    net.dropped(&A.claims(own(6)).src(own(1)));
    for n in 1..=4 {
        net.passes(&A.probes(own(n)), R);
        net.passes(&A.claims(own(n)).src(own(n)), R);
        net.dropped(&B.probes(own(n)));
    }
    net.dropped(&A.probes(own(5)));
    net.passes(&B.probes(own(5)), R);
}

/// An advertisement that is cut off before its target is about no address, and takes none.
#[test]
fn g9_advertisement_without_a_target_takes_no_address() {
    let mut net = net();
    for length in [8, 11, 20, 23] {
        let mut cut_off = A.claims(own(9)).src(own(1));
        cut_off.body.truncate(length);
        net.dropped(&cut_off);
    }
    for n in 1..=4 {
        net.passes(&from(A, own(n)), R);
    }
}

#[test]
fn g13_any_unowned_belongs_to_who_came_first() {
    let mut net = net();
    net.passes(&from(A, own(1)), R);
    net.dropped(&from(B, own(1)));
    net.dropped(&B.probes(own(1)));
    net.dropped(&B.claims(own(1)).src(own(2)));
    net.passes(&from(B, own(2)), R);
    net.passes(&from(A, own(1)), R);
}

/// A probe is how an address is claimed; it counts before any packet comes from it.
#[test]
fn g13_any_unowned_is_taken_by_a_probe() {
    let mut net = net();
    net.passes(&A.probes(own(1)), R);
    net.dropped(&from(B, own(1)));
    net.dropped(&B.claims(own(1)).src(own(2)));
    net.passes(&from(A, own(1)), R);
}

#[test]
fn g13_any_unowned_loses_what_a_new_nic_owns() {
    let mut net = plan().nics([any(A), nic(C)]).start();
    net.passes(&from(A, B.ll), R);
    net.apply(change().nic(nic(B)));
    net.dropped(&from(A, B.ll));
    net.dropped(&A.claims(B.ll));
    net.passes(&from(B, B.ll), R);
}

#[test]
fn g13_on_link_prefix_implies_any_unowned() {
    let nic = bare_nic(A).on_link("2001:db8:100:7::/64");
    let mut net = plan().nics([nic, nic_of_c()]).start();
    net.passes(&from(A, own(1)), R);
    net.dropped(&from(A, C.ll));
}

fn nic_of_c() -> sgagent::pb::Nic {
    nic(C)
}

/// T5: what a guest has claimed is its own, each of the four.
#[test]
fn t5_reply_to_a_claimed_link_local_is_delivered() {
    let mut net = net();
    let reply = |dst| R.to(A.ll).dst(dst).dhcp(547, 546, 7);
    net.blocked(&reply(own(1)), A);
    for n in 1..=4 {
        net.passes(&from(A, own(n)), R);
        net.passes(&reply(own(n)), A);
    }
    net.blocked(&reply(own(5)), A);
    net.blocked(&reply(C.ll), A);
}

/// Answers to what a claimed address sent come in, and nothing else does.
#[test]
fn s1_claimed_link_local_is_tracked_like_any_other() {
    let mut net = net();
    let answer = |port| R.to(A.ll).dst(own(1)).udp(53, port);
    net.blocked(&answer(4000), A);
    net.passes(&A.to(R.ll).src(own(1)).udp(4001, 53), R);
    net.passes(&answer(4001), A);
    net.blocked(&answer(4002), A);
}

/// A virtual MAC is for shared addresses only.
#[test]
fn g1_virtual_mac_does_not_send_from_a_claimed_link_local() {
    let mut first = any(A).shared_address("2001:db8:100:1::aa");
    first.virtual_macs.push("00:00:5e:00:02:07".to_owned());
    let mut net = plan().nics([first, nic(C)]).start();
    let virtual_mac = [0, 0, 0x5e, 0, 2, 7];
    net.only(&from(A, own(1)), &from(A, own(1)).eth_src(virtual_mac), R);
    net.dropped(&from(A, own(2)).eth_src(virtual_mac));
    net.dropped(&A.to(R.ip).ping().eth_src(virtual_mac));
}

/// Marks are how the stages tell each other whose a frame is; nobody else is to find them.
/// (The host's own MLD reports have one of the kernel's: `mark` and `reserved_tailroom` of
/// `struct sk_buff` are the same field.)
#[test]
fn no_frame_leaves_with_a_mark() {
    let mut net = net();
    net.namespace.command(
        "nft add table bridge spy; add counter bridge spy marked; \
         add chain bridge spy last { type filter hook postrouting priority 200; }; \
         add rule bridge spy last ether saddr 02:00:00:00:00:b0 accept; \
         add rule bridge spy last meta mark != 0 counter name marked",
    );
    net.passes(&A.probes(own(1)), R);
    net.passes(&A.claims(own(2)).src(own(1)), R);
    net.passes(&A.joins(&[ip("ff02::1:ffbc:1")]).src(own(1)), R);
    net.passes(&A.joins(&[ip("ff02::1:ffbc:2")]).src(ip("::")), R);
    net.passes(&A.asks_for(R.ll), R);
    net.passes(&A.to(STRANGER).ping(), R);
    net.passes(&A.to(STRANGER).udp(4000, 7000), R);
    net.passes(&R.to(A.ip).src(STRANGER).udp(7000, 4000), A);
    net.passes(&R.to(A.ip).src(STRANGER).ping(), A);
    net.passes(&A.to(B.ip).ping(), B);
    net.passes(&R.advertises(), A);
    net.passes(&R.to(A.ll).dhcp(547, 546, 7), A);
    let counter = net.namespace.command("nft list counter bridge spy marked");
    assert!(counter.contains("packets 0 "), "{counter}");
}

#[test]
fn s4_denied_egress_is_denied_from_every_source_a_nic_may_use() {
    let denied = |nic: sgagent::pb::Nic| nic.egress(DefaultAction::Deny);
    let on_link = bare_nic(B).on_link("2001:db8:100:7::/64");
    let mut net = plan().nics([denied(any(A)), denied(on_link)]).start();
    let sources = [
        (A, own(1)),
        (A, A.ip),
        (A, A_DELEGATED),
        (B, ip("2001:db8:100:7::1")),
        (B, own(2)),
    ];
    for (machine, src) in sources {
        let to = machine.to(R.ip).src(src);
        net.only(&to.clone().ping(), &to.clone().udp(4000, 53), R);
        net.dropped(&to.syn(4000, 80));
    }
}
