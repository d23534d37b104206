//! Virtual MACs with shared addresses, `ANY_SOURCE`, `ANY_UNOWNED`.

use std::net::Ipv6Addr;

use super::*;
use crate::support::nd::{OVERRIDE, target_option};
use crate::support::packet::Packet;
use crate::support::want::{LinkLocalMode, NicExt as _, Permission};
use crate::support::who::{ALL_NODES, HOST, OTHER, STRANGER, UNSPECIFIED, ip, solicited};

const VIRTUAL: [u8; 6] = [0, 0, 0x5e, 0, 2, 1];

fn vip() -> Ipv6Addr {
    ip("2001:db8:100:1::99")
}

fn shared() -> World {
    let mut nic = nic(A).shared_address(&vip().to_string());
    nic.virtual_macs = vec!["00:00:5e:00:02:01".to_owned()];
    world(nic)
}

#[test]
fn only_shared_addresses_go_with_a_virtual_mac() {
    let world = shared();
    let udp = |src| A.to(STRANGER).src(src).udp(1, 2);
    assert_eq!(sent(&world, &udp(vip())), "");
    assert_eq!(sent(&world, &udp(vip()).eth_src(VIRTUAL)), "");
    assert_eq!(sent(&world, &udp(A.ip).eth_src(VIRTUAL)), "G13");
    assert_eq!(sent(&usual(), &udp(A.ip).eth_src(VIRTUAL)), "G1");
    assert_eq!(sent(&world, &A.probes(vip()).eth_src(VIRTUAL)), "");
    assert_eq!(sent(&world, &A.probes(A.ip).eth_src(VIRTUAL)), "");
    assert_eq!(sent(&world, &A.joins(&[]).eth_src(VIRTUAL)), "G10");
    assert_eq!(
        sent(&world, &A.joins(&[]).src(UNSPECIFIED).eth_src(VIRTUAL)),
        ""
    );
    let na = |target, mac| {
        A.to(ALL_NODES)
            .src(target)
            .na(target, OVERRIDE, &target_option(mac))
    };
    assert_eq!(sent(&world, &na(vip(), VIRTUAL).eth_src(VIRTUAL)), "");
    assert_eq!(sent(&world, &na(vip(), A.mac)), "");
    assert_eq!(sent(&world, &na(vip(), VIRTUAL)), "");
    assert_eq!(sent(&world, &na(A.ip, VIRTUAL)), "G9");
    assert_eq!(received(&world, &R.to(vip()).ping().eth_dst(VIRTUAL)), "");
    assert_eq!(
        received(&usual(), &R.to(vip()).ping().eth_dst(VIRTUAL)),
        "T1"
    );
}

#[test]
fn any_source_lifts_sources_and_targets_with_the_real_mac() {
    let mut nic = nic(A)
        .permit(Permission::AnySource)
        .shared_address(&vip().to_string());
    nic.virtual_macs = vec!["00:00:5e:00:02:01".to_owned()];
    let world = world(nic);
    let udp = A.to(STRANGER).src(OTHER).udp(1, 2);
    assert_eq!(sent(&world, &udp), "");
    assert_eq!(sent(&world, &udp.eth_src(VIRTUAL)), "G13");
    assert_eq!(sent(&world, &A.asks_for(R.ip).src(OTHER)), "");
    assert_eq!(sent(&world, &A.probes(OTHER)), "");
    assert_eq!(sent(&world, &A.claims(OTHER)), "");
    assert_eq!(sent(&world, &A.claims(OTHER).src(OTHER)), "G9");
    assert_eq!(sent(&world, &A.solicits_routers().src(OTHER)), "G6");
    assert_eq!(sent(&world, &A.joins(&[]).src(R.ll)), "G10");
}

fn any() -> World {
    world(bare().link_local(LinkLocalMode::AnyUnowned))
}

fn from(src: Ipv6Addr) -> Packet {
    A.to(R.ll).src(src).udp(1, 2)
}

fn come(claims: &[(Machine, &[Ipv6Addr])], heard: &[Ipv6Addr]) -> FirstCome {
    let claim = |(machine, list): &(Machine, &[Ipv6Addr])| {
        (
            machine.port.parse().unwrap(),
            list.iter().copied().collect(),
        )
    };
    FirstCome {
        claims: claims.iter().map(claim).collect(),
        heard_routers: heard.iter().copied().collect(),
    }
}

fn sent_after(world: &World, first_come: FirstCome, wire: &impl Wire) -> String {
    Asked {
        first_come,
        ..asked(world, Direction::Egress)
    }
    .rows(&wire.frames())
}

#[test]
fn any_unowned_excludes_what_others_own() {
    let mut world = any();
    let free = ip("fe80::a1");
    assert_eq!(sent(&world, &from(free)), "");
    assert_eq!(sent(&world, &A.probes(free)), "");
    assert_eq!(sent(&world, &A.asks_for(R.ll).src(free)), "");
    assert_eq!(sent(&usual(), &from(free)), "G13");
    for other in [B.ll, HOST.ll, ip("fe80:0:0:1::1"), ip("2001:db8::1")] {
        assert_eq!(sent(&world, &from(other)), "G13", "{other}");
    }
    assert_eq!(sent(&world, &from(R.ll)), "");
    assert_eq!(sent_after(&world, come(&[], &[R.ll]), &from(R.ll)), "G13");
    assert_eq!(
        sent_after(&world, come(&[(B, &[free])], &[]), &from(free)),
        "G13"
    );
    world.routers = vec![R.ll];
    assert_eq!(sent(&world, &from(R.ll)), "G13");
}

#[test]
fn any_unowned_is_four_at_a_time() {
    let world = any();
    let list = ["fe80::a1", "fe80::a2", "fe80::a3", "fe80::a4", "fe80::a5"].map(ip);
    let after = |had: &[Ipv6Addr], src| sent_after(&world, come(&[(A, had)], &[]), &from(src));
    assert_eq!(after(&list[..3], list[4]), "");
    assert_eq!(after(&list[..4], list[4]), "G13");
    assert_eq!(after(&list[..4], list[3]), "");
}

#[test]
fn any_unowned_is_implied_by_an_on_link_prefix() {
    let world = world(bare().on_link("2001:db8:100:a0::/64"));
    assert_eq!(sent(&world, &from(ip("fe80::a1"))), "");
    assert_eq!(
        sent(
            &world,
            &A.claims(ip("2001:db8:100:a0::77")).src(ip("fe80::a1"))
        ),
        ""
    );
    let last = ip("2001:db8:100:a0:ffff:ffff:ffff:ffff");
    assert_eq!(
        sent(
            &world,
            &A.to(solicited(last)).src(UNSPECIFIED).ns(last, &[])
        ),
        ""
    );
    assert_eq!(sent(&world, &from(ip("2001:db8:100:a1::"))), "G13");
}

#[test]
fn t5_reply_goes_to_a_claimed_link_local_address() {
    let world = any();
    let to = ip("fe80::a1");
    let reply = to_a(&R.to(A.ll).dst(to).dhcp(547, 546, 7));
    assert_eq!(received(&world, &reply), "T5");
    let asked = Asked {
        first_come: come(&[(A, &[to])], &[]),
        ..asked(&world, Direction::Ingress)
    };
    assert_eq!(asked.rows(&reply.frames()), "");
}
