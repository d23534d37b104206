//! G6 to G9: for whom a guest speaks in Neighbor Discovery.

use std::net::Ipv6Addr;

use crate::support::nd::{nonce, rs_rest, source_option, target_option};
use crate::support::packet::Packet;
use crate::support::plan::standard;
use crate::support::who::{
    A, A_DELEGATED, ALL_NODES, ALL_ROUTERS, B, C, R, STRANGER, UNSPECIFIED, ip, solicited,
};

/// `good` passes, each of `bad` doesn't.
fn only(good: &Packet, bad: &[Packet]) {
    let mut net = standard().start();
    net.passes(good, R);
    for packet in bad {
        net.dropped(packet);
    }
    net.passes(good, R);
}

fn twice(option: &[u8]) -> Vec<u8> {
    [option, option].concat()
}

/// A prefix information option.
fn prefix_option() -> Vec<u8> {
    let mut option = vec![3, 4, 64, 0xc0];
    option.extend([0; 28]);
    option
}

// ---- G6: router solicitations

fn rs(options: &[u8]) -> Packet {
    A.to(ALL_ROUTERS).hop(255).icmp(133, 0, &rs_rest(options))
}

fn own() -> Vec<u8> {
    source_option(A.mac)
}

#[test]
fn g6_solicitations_of_routers_pass() {
    let mut net = standard().start();
    net.passes(&rs(&own()), R);
    net.passes(&rs(&[]), R);
    net.passes(&rs(&own()).src(A.ip), R);
    net.passes(&rs(&[]).src(UNSPECIFIED), R);
}

#[test]
fn g6_rs_to_another_destination_is_dropped() {
    let elsewhere = [ALL_NODES, R.ll, B.ll, STRANGER, ip("ff05::2")];
    only(&rs(&own()), &elsewhere.map(|dst| rs(&own()).dst(dst)));
}

#[test]
fn g6_rs_from_a_foreign_source_is_dropped() {
    only(
        &rs(&own()),
        &[B.ll, B.ip, R.ll, STRANGER].map(|src| rs(&own()).src(src)),
    );
}

#[test]
fn g6_rs_from_nowhere_with_an_option_is_dropped() {
    let from_nowhere = rs(&[]).src(UNSPECIFIED);
    only(
        &from_nowhere,
        &[rs(&own()).src(UNSPECIFIED), rs(&nonce()).src(UNSPECIFIED)],
    );
}

#[test]
fn g6_rs_that_names_anothers_mac_is_dropped() {
    only(
        &rs(&own()),
        &[rs(&source_option(B.mac)), rs(&source_option(R.mac))],
    );
}

#[test]
fn g6_rs_with_a_wrong_option_is_dropped() {
    let long = [&[1, 2][..], &A.mac, &[0; 8]].concat();
    let empty = [&[1, 0][..], &A.mac].concat();
    let options = [target_option(A.mac), nonce(), prefix_option(), long, empty];
    only(&rs(&own()), &options.map(|option| rs(&option)));
}

#[test]
fn g6_rs_with_two_options_is_dropped() {
    let options = [
        twice(&own()),
        [own(), source_option(B.mac)].concat(),
        [own(), nonce()].concat(),
    ];
    only(&rs(&own()), &options.map(|option| rs(&option)));
}

// ---- G7: neighbour solicitations

fn ns(options: &[u8]) -> Packet {
    A.to(solicited(R.ll)).ns(R.ll, options)
}

#[test]
fn g7_solicitations_of_neighbours_pass() {
    let mut net = standard().start();
    net.passes(&ns(&own()), R);
    net.passes(&ns(&[]), R);
    net.passes(&ns(&own()).src(A.ip), R);
    net.passes(&A.to(R.ll).ns(R.ll, &own()), R);
    net.passes(&A.asks_for(B.ip), B);
    net.passes(&ns(&own()).src(A_DELEGATED), R);
}

#[test]
fn g7_ns_from_a_foreign_source_is_dropped() {
    let foreign = [
        B.ll,
        B.ip,
        C.ip,
        R.ll,
        STRANGER,
        ip("fe80::2"),
        ip("2001:db8:100:1::2"),
    ];
    only(&ns(&own()), &foreign.map(|src| ns(&own()).src(src)));
}

#[test]
fn g7_ns_without_option_from_a_foreign_source_is_dropped() {
    only(&ns(&[]), &[B.ll, B.ip, R.ll].map(|src| ns(&[]).src(src)));
}

#[test]
fn g7_ns_that_names_anothers_mac_is_dropped() {
    only(
        &ns(&own()),
        &[ns(&source_option(B.mac)), ns(&source_option(R.mac))],
    );
}

#[test]
fn g7_ns_with_a_wrong_option_is_dropped() {
    let long = [&[1, 2][..], &A.mac, &[0; 8]].concat();
    let empty = [&[1, 0][..], &A.mac].concat();
    let options = [target_option(A.mac), nonce(), prefix_option(), long, empty];
    only(&ns(&own()), &options.map(|option| ns(&option)));
}

#[test]
fn g7_ns_with_two_options_is_dropped() {
    let options = [
        twice(&own()),
        [own(), source_option(B.mac)].concat(),
        [source_option(B.mac), own()].concat(),
        [own(), nonce()].concat(),
    ];
    only(&ns(&own()), &options.map(|option| ns(&option)));
}

/// What the IPv6 header says of the length and what is in the frame differ.
#[test]
fn g7_ns_with_a_length_trick_is_dropped() {
    let mut net = standard().start();
    net.passes(&ns(&own()), R);
    // The second option lies beyond the length that the header names, or half of it does.
    net.dropped(&ns(&[own(), source_option(B.mac)].concat()).length(36));
    net.dropped(&ns(&[]).length(16));
    net.dropped(&ns(&own()).length(40));
    net.dropped(&ns(&own()).length(0));
    net.dropped(&ns(&own()[..4]));
    net.dropped(&A.to(solicited(R.ll)).hop(255).icmp(135, 0, &[0; 12]));
    net.dropped(&A.to(solicited(R.ll)).hop(255).icmp(135, 0, &[]));
    net.passes(&ns(&own()), R);
}

// ---- G8: probes

fn probe(target: Ipv6Addr, options: &[u8]) -> Packet {
    A.to(solicited(target)).src(UNSPECIFIED).ns(target, options)
}

#[test]
fn g8_probes_for_own_addresses_pass() {
    let mut net = standard().start();
    net.passes(&probe(A.ll, &[]), R);
    net.passes(&probe(A.ip, &[]), R);
    net.passes(&probe(A.ip, &nonce()), R);
    net.passes(&C.probes(C.ip), R);
    net.passes(&probe(A.ip, &[]), B);
}

#[test]
fn g8_probe_for_somebody_elses_address_is_dropped() {
    let foreign = [B.ll, B.ip, C.ip, R.ll, R.ip, STRANGER];
    only(&probe(A.ip, &[]), &foreign.map(|target| probe(target, &[])));
    only(
        &probe(A.ip, &nonce()),
        &foreign.map(|target| probe(target, &nonce())),
    );
}

#[test]
fn g8_probe_for_an_unowned_address_is_dropped() {
    let unowned = [
        ip("fe80::2"),
        ip("2001:db8:100:1::2"),
        ip("::"),
        ip("ff02::1"),
        ip("::1"),
    ];
    only(&probe(A.ip, &[]), &unowned.map(|target| probe(target, &[])));
}

/// Delegated prefixes are routed: nobody resolves an address in one.
#[test]
fn g8_probe_for_a_delegated_address_is_dropped() {
    only(&probe(A.ip, &[]), &[probe(A_DELEGATED, &[])]);
}

#[test]
fn g8_probe_to_another_destination_is_dropped() {
    let elsewhere = [
        ALL_NODES,
        ALL_ROUTERS,
        R.ll,
        B.ll,
        STRANGER,
        ip("ff02::1:fe00:479"),
    ];
    only(
        &probe(A.ip, &[]),
        &elsewhere.map(|dst| probe(A.ip, &[]).dst(dst)),
    );
}

#[test]
fn g8_probe_with_another_option_is_dropped() {
    let long = [&[14, 2][..], &[0; 14]].concat();
    let options = [own(), target_option(A.mac), prefix_option(), long];
    only(
        &probe(A.ip, &nonce()),
        &options.map(|option| probe(A.ip, &option)),
    );
}

#[test]
fn g8_probe_with_two_options_is_dropped() {
    let options = [
        twice(&nonce()),
        [nonce(), own()].concat(),
        [nonce(), source_option(B.mac)].concat(),
    ];
    only(
        &probe(A.ip, &nonce()),
        &options.map(|option| probe(A.ip, &option)),
    );
}
