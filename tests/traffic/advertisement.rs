//! G9: what a guest may claim with a neighbour advertisement.

use std::net::Ipv6Addr;

use crate::support::nd::{OVERRIDE, ROUTER_FLAG, SOLICITED, nonce, source_option, target_option};
use crate::support::packet::Packet;
use crate::support::plan::{plan, standard};
use crate::support::want::{NicExt as _, nic};
use crate::support::who::{A, A_DELEGATED, ALL_NODES, B, C, HOST, R, STRANGER, UNSPECIFIED, ip};

fn only(good: &Packet, bad: &[Packet]) {
    let mut net = standard().start();
    net.passes(good, R);
    for packet in bad {
        net.dropped(packet);
    }
    net.passes(good, R);
}

fn na(target: Ipv6Addr, options: &[u8]) -> Packet {
    A.to(ALL_NODES).na(target, OVERRIDE, options)
}

fn own() -> Vec<u8> {
    target_option(A.mac)
}

#[test]
fn g9_advertisements_of_own_addresses_pass() {
    let mut net = standard().start();
    net.passes(&na(A.ll, &own()), R);
    net.passes(&na(A.ip, &own()), R);
    net.passes(&na(A.ip, &[]), R);
    net.passes(&na(A.ip, &own()).src(A.ip), R);
    net.passes(&A.to(R.ll).na(A.ip, SOLICITED, &[]), R);
    net.passes(&A.to(R.ll).na(A.ip, SOLICITED | OVERRIDE, &own()), R);
    net.passes(&A.to(B.ll).na(A.ip, SOLICITED | OVERRIDE, &own()), B);
    net.passes(&C.claims(C.ip), R);
}

#[test]
fn g9_na_for_somebody_elses_address_is_dropped() {
    let foreign = [B.ll, B.ip, C.ip, HOST.ll, STRANGER];
    only(&na(A.ip, &own()), &foreign.map(|target| na(target, &own())));
    only(&na(A.ip, &[]), &foreign.map(|target| na(target, &[])));
}

#[test]
fn g9_na_override_for_the_routers_address_is_dropped() {
    let to_victim = |target| A.to(B.ll).na(target, SOLICITED | OVERRIDE, &own());
    let as_router = A.to(ALL_NODES).na(R.ll, ROUTER_FLAG | OVERRIDE, &own());
    only(
        &to_victim(A.ip).eth_dst(R.mac),
        &[
            na(R.ll, &own()),
            na(R.ip, &own()),
            to_victim(R.ll),
            to_victim(R.ip),
            as_router,
        ],
    );
}

#[test]
fn g9_na_for_an_unowned_address_is_dropped() {
    let unowned = [
        ip("fe80::2"),
        ip("2001:db8:100:1::2"),
        ip("::"),
        ip("ff02::1"),
    ];
    only(&na(A.ip, &own()), &unowned.map(|target| na(target, &own())));
}

#[test]
fn g9_na_for_a_delegated_address_is_dropped() {
    only(
        &na(A.ip, &own()),
        &[na(A_DELEGATED, &own()), na(A_DELEGATED, &[])],
    );
}

#[test]
fn g9_na_from_a_foreign_source_is_dropped() {
    let foreign = [
        B.ll,
        B.ip,
        R.ll,
        STRANGER,
        UNSPECIFIED,
        ip("2001:db8:100:1::2"),
    ];
    only(
        &na(A.ip, &own()),
        &foreign.map(|src| na(A.ip, &own()).src(src)),
    );
    only(&na(A.ip, &[]), &foreign.map(|src| na(A.ip, &[]).src(src)));
}

#[test]
fn g9_na_that_names_anothers_mac_is_dropped() {
    only(
        &na(A.ip, &own()),
        &[
            na(A.ip, &target_option(B.mac)),
            na(A.ip, &target_option(R.mac)),
        ],
    );
}

#[test]
fn g9_na_with_a_wrong_option_is_dropped() {
    let long = [&[2, 2][..], &A.mac, &[0; 8]].concat();
    let empty = [&[2, 0][..], &A.mac].concat();
    let options = [source_option(A.mac), nonce(), long, empty];
    only(&na(A.ip, &own()), &options.map(|option| na(A.ip, &option)));
}

#[test]
fn g9_na_with_two_options_is_dropped() {
    let options = [
        [own(), own()].concat(),
        [own(), target_option(B.mac)].concat(),
        [target_option(B.mac), own()].concat(),
        [own(), nonce()].concat(),
    ];
    only(&na(A.ip, &own()), &options.map(|option| na(A.ip, &option)));
}

#[test]
fn g9_na_with_a_length_trick_is_dropped() {
    let mut net = standard().start();
    net.passes(&na(A.ip, &own()), R);
    net.dropped(&na(A.ip, &[own(), target_option(B.mac)].concat()).length(36));
    net.dropped(&na(A.ip, &own()).length(40));
    net.dropped(&na(A.ip, &own()).length(0));
    net.dropped(&na(A.ip, &own()[..4]));
    net.dropped(&A.to(ALL_NODES).hop(255).icmp(136, 0, &[0; 12]));
    net.passes(&na(A.ip, &own()), R);
}

// ---- a shared address with a virtual MAC

const VIRTUAL: [u8; 6] = [0, 0, 0x5e, 0, 2, 7];

#[test]
fn g9_na_for_a_shared_address_may_name_the_own_or_the_virtual_mac() {
    let mut first = nic(A).shared_address("2001:db8:100:1::aa");
    first.virtual_macs.push("00:00:5e:00:02:07".to_owned());
    let mut net = plan()
        .nics([first, nic(B).shared_address("2001:db8:100:1::aa")])
        .start();
    let shared = ip("2001:db8:100:1::aa");
    net.passes(&na(shared, &own()), R);
    net.passes(&na(shared, &target_option(VIRTUAL)), R);
    net.passes(
        &na(shared, &target_option(VIRTUAL))
            .src(shared)
            .eth_src(VIRTUAL),
        R,
    );
    net.passes(&B.claims(shared), R);
    net.dropped(&na(shared, &target_option([0, 0, 0x5e, 0, 2, 8])));
    net.dropped(&na(shared, &target_option(B.mac)));
    net.dropped(&na(A.ip, &target_option(VIRTUAL)));
    net.dropped(
        &B.to(ALL_NODES)
            .na(shared, OVERRIDE, &target_option(VIRTUAL)),
    );
    net.passes(&na(shared, &target_option(VIRTUAL)), R);
}
