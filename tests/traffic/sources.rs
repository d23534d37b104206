//! G13: the source addresses a guest may use, by what its NIC owns.

use std::net::Ipv6Addr;

use crate::support::net::Net;
use crate::support::packet::Packet;
use crate::support::plan::{plan, standard};
use crate::support::want::{
    ChangeExt as _, LinkLocalMode, NicExt as _, bare_nic, change, nic, open,
};
use crate::support::who::{
    A, A_DELEGATED, ALL_NODES, B, C, C_DELEGATED, HOST, R, STRANGER, UNSPECIFIED, ip,
};

/// What is not ICMPv6, UDP or TCP takes the same way as these.
fn forms(src: Ipv6Addr) -> [Packet; 4] {
    let to = A.to(STRANGER).src(src);
    let tcp = to.clone().syn(4000, 80);
    [
        to.clone().ping(),
        to.clone().udp(4000, 53),
        tcp,
        to.upper(47, &[0, 0, 8, 0, 1, 2, 3, 4]),
    ]
}

fn dropped_from(sources: &[Ipv6Addr]) {
    let mut net = standard().start();
    for good in forms(A.ip) {
        net.passes(&good, R);
    }
    for src in sources {
        for bad in forms(*src) {
            net.dropped(&bad);
        }
    }
    net.passes(&A.to(STRANGER).ping(), R);
}

fn passes_from(net: &mut Net, src: &str) {
    for good in forms(ip(src)) {
        net.passes(&good, R);
    }
}

fn is_dropped_from(net: &mut Net, src: &str) {
    for bad in forms(ip(src)) {
        net.dropped(&bad);
    }
}

#[test]
fn g13_own_addresses_pass() {
    let mut net = standard().start();
    passes_from(&mut net, &A.ip.to_string());
    net.passes(&A.to(R.ll).udp(4000, 53), R);
    net.passes(&C.to(STRANGER).udp(4000, 53), R);
    net.passes(&A.to(STRANGER).sctp_init(4000, 5060), R);
}

#[test]
fn g13_unspecified_source_is_dropped() {
    dropped_from(&[UNSPECIFIED]);
}

#[test]
fn g13_multicast_source_is_dropped() {
    dropped_from(&[ALL_NODES, ip("ff0e::1"), ip("ff02::1:ff00:479")]);
}

#[test]
fn g13_loopback_and_mapped_sources_are_dropped() {
    dropped_from(&[ip("::1"), ip("::ffff:198.51.100.1"), ip("64:ff9b::1")]);
}

#[test]
fn g13_another_guests_address_is_dropped() {
    dropped_from(&[B.ip, B.ll, C.ip, C.ll]);
}

#[test]
fn g13_another_guests_prefix_is_dropped() {
    dropped_from(&[C_DELEGATED, ip("2001:db8:100:1030::")]);
}

#[test]
fn g13_routers_and_hosts_addresses_are_dropped() {
    dropped_from(&[R.ll, R.ip, HOST.ll]);
}

#[test]
fn g13_unowned_address_is_dropped() {
    dropped_from(&[
        ip("2001:db8:100:1::2"),
        ip("fe80::2"),
        ip("fec0::1"),
        STRANGER,
    ]);
}

#[test]
fn g13_fragments_from_a_foreign_source_are_dropped() {
    let mut net = standard().start();
    let large = A.to(STRANGER).echo(128, 3, 2000);
    let spoofed = large.clone().src(B.ip);
    net.only(&large.cut(1, &[1440]), &spoofed.cut(2, &[1440]), R);
    // The later ones alone, too.
    let mut later = spoofed.cut(3, &[1440]);
    later.frames.remove(0);
    net.dropped(&later);
}

// ---- what a NIC may own

#[test]
fn g13_delegated_60_is_the_guests_up_to_its_borders() {
    let mut net = standard().start();
    passes_from(&mut net, &A_DELEGATED.to_string());
    passes_from(&mut net, "2001:db8:100:1010::");
    passes_from(&mut net, "2001:db8:100:101f:ffff:ffff:ffff:ffff");
    is_dropped_from(&mut net, "2001:db8:100:100f:ffff:ffff:ffff:ffff");
    is_dropped_from(&mut net, "2001:db8:100:1020::");
}

fn delegated(prefix: &str, inside: &[&str], outside: &[&str]) {
    let mut net = plan().nic(nic(A).delegated(prefix)).start();
    for src in inside {
        passes_from(&mut net, src);
    }
    for src in outside {
        is_dropped_from(&mut net, src);
    }
}

#[test]
fn g13_delegated_56_is_the_guests_up_to_its_borders() {
    delegated(
        "2001:db8:200:4200::/56",
        &[
            "2001:db8:200:4200::1",
            "2001:db8:200:42ff:ffff:ffff:ffff:ffff",
        ],
        &[
            "2001:db8:200:41ff:ffff:ffff:ffff:ffff",
            "2001:db8:200:4300::",
        ],
    );
}

#[test]
fn g13_delegated_127_is_the_guests_up_to_its_borders() {
    delegated(
        "2001:db8:300::4/127",
        &["2001:db8:300::4", "2001:db8:300::5"],
        &["2001:db8:300::3", "2001:db8:300::6"],
    );
}

#[test]
fn g13_delegated_32_57_and_128_are_the_guests_up_to_their_borders() {
    delegated(
        "2001:db9::/32",
        &["2001:db9:ffff::1"],
        &["2001:dba::", "2001:db7::1"],
    );
    delegated(
        "2001:db8:0:80::/57",
        &["2001:db8:0:ff::1"],
        &["2001:db8:0:7f::1"],
    );
    delegated(
        "2001:db8:400::7/128",
        &["2001:db8:400::7"],
        &["2001:db8:400::6"],
    );
}

#[test]
fn g13_prefixes_of_several_lengths_live_side_by_side() {
    let first = nic(A)
        .delegated("2001:db8:200:4200::/56")
        .delegated("2001:db8:300::4/127");
    let second = nic(B).delegated("2001:db8:300::6/127");
    let mut net = plan().nics([first, second]).start();
    passes_from(&mut net, "2001:db8:200:4201::1");
    passes_from(&mut net, "2001:db8:300::5");
    passes_from(&mut net, "2001:db8:100:1011::1");
    is_dropped_from(&mut net, "2001:db8:300::7");
    net.passes(&B.to(STRANGER).src(ip("2001:db8:300::7")).ping(), R);
    net.dropped(&B.to(STRANGER).src(ip("2001:db8:300::5")).ping());
}

#[test]
fn g13_on_link_prefix_is_the_guests_in_every_respect() {
    let mut net = plan()
        .nics([bare_nic(A).on_link("2001:db8:100:7::/64"), nic(B)])
        .start();
    passes_from(&mut net, "2001:db8:100:7::1");
    passes_from(&mut net, "2001:db8:100:7:ffff:ffff:ffff:ffff");
    is_dropped_from(&mut net, "2001:db8:100:8::");
    is_dropped_from(&mut net, "2001:db8:100:6:ffff:ffff:ffff:ffff");
    let inside = ip("2001:db8:100:7::abcd");
    net.passes(&A.claims(inside), R);
    net.passes(&A.probes(inside), R);
    net.dropped(&A.claims(ip("2001:db8:100:8::abcd")));
    net.dropped(&A.probes(ip("2001:db8:100:8::abcd")));
    net.dropped(&B.claims(inside));
    net.dropped(&B.to(STRANGER).src(inside).ping());
}

#[test]
fn g13_on_link_prefix_longer_than_64_has_borders_too() {
    let mut net = plan()
        .nic(bare_nic(A).on_link("2001:db8:100:7::10/124"))
        .start();
    passes_from(&mut net, "2001:db8:100:7::1f");
    is_dropped_from(&mut net, "2001:db8:100:7::20");
    net.only(
        &A.claims(ip("2001:db8:100:7::1f")),
        &A.claims(ip("2001:db8:100:7::f")),
        R,
    );
}

#[test]
fn g13_shared_address_is_each_owners() {
    let shared = "2001:db8:100:1::aa";
    let owners = [
        nic(A).shared_address(shared),
        nic(B).shared_address(shared),
        nic(C),
    ];
    let mut net = plan().nics(owners).start();
    for owner in [A, B] {
        net.passes(&owner.to(STRANGER).src(ip(shared)).ping(), R);
        net.passes(&owner.claims(ip(shared)), R);
        net.passes(&owner.probes(ip(shared)), R);
    }
    net.dropped(&C.to(STRANGER).src(ip(shared)).ping());
    net.dropped(&C.claims(ip(shared)));
    net.dropped(&C.probes(ip(shared)));
}

#[test]
fn g13_explicit_link_local_replaces_the_derived_one() {
    let mut explicit = nic(A).link_local(LinkLocalMode::Explicit);
    explicit.link_local_addresses = vec!["fe80::a".to_owned(), "fe80::b".to_owned()];
    let mut net = plan().nics([explicit, nic(B)]).start();
    for own in ["fe80::a", "fe80::b"] {
        net.passes(&A.to(R.ll).src(ip(own)).ping(), R);
        net.passes(&A.claims(ip(own)).src(ip(own)), R);
        net.passes(&A.probes(ip(own)), R);
        net.passes(&A.joins(&[ip("ff02::1:ff00:a")]).src(ip(own)), R);
    }
    net.dropped(&A.to(R.ll).ping());
    net.dropped(&A.to(R.ll).src(ip("fe80::c")).ping());
    net.dropped(&A.probes(A.ll));
    net.dropped(&A.joins(&[ip("ff02::1:ff00:a")]));
    net.dropped(&B.to(R.ll).src(ip("fe80::a")).ping());
}

#[test]
fn g13_slaac_prefix_gives_the_derived_address_only() {
    let mut net = plan().nic(nic(A)).start();
    passes_from(&mut net, &A.ip.to_string());
    is_dropped_from(&mut net, "2001:db8:100:1:4b2:ff:fe00:478");
    is_dropped_from(&mut net, "2001:db8:100:1:6b2:ff:fe00:479");
}

#[test]
fn g13_address_of_a_nic_that_is_gone_can_be_anothers() {
    let mut net = standard().start();
    let taken = B.to(STRANGER).src(C.ip).ping();
    net.dropped(&taken);
    net.apply(
        change()
            .remove_nic(C)
            .nic(nic(B).address(&C.ip.to_string()))
            .group(open()),
    );
    net.passes(&taken, R);
    net.dropped(&C.to(STRANGER).ping());
}
