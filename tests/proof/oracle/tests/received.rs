//! T1 to T5, row by row.

use super::*;
use crate::support::packet::{DEST_OPTIONS, Packet};
use crate::support::want::{Ipv4Mode, NicExt as _};
use crate::support::who::{A_DELEGATED, ALL_NODES, STRANGER, ip};

#[test]
fn t1_t2_ethernet() {
    let open = usual();
    let ping = R.to(A.ip).ping();
    assert_eq!(received(&open, &ping), "");
    assert_eq!(received(&open, &ping.clone().eth_dst(OTHERS.mac)), "T1");
    assert_eq!(received(&open, &ping.clone().eth_dst([0xff; 6])), "");
    assert_eq!(received(&open, &ping.clone().tagged(0x8100, 5)), "T2");
    assert_eq!(
        received(&open, &ping.clone().ether_type(&[0x80, 0x35])),
        "T2"
    );
    assert_eq!(received(&open, &ping.clone().ether_type(&[8, 6])), "");
    let blocked = world(nic(A).ipv4(Ipv4Mode::Block));
    assert_eq!(received(&blocked, &ping.ether_type(&[8, 6])), "T2");
}

#[test]
fn t3_routers() {
    let open = usual();
    let ra = R.advertises();
    assert_eq!(received(&open, &ra), "");
    assert_eq!(received(&open, &to_a(&ra).dst(A.ll)), "");
    assert_eq!(received(&open, &ra.clone().src(R.ip)), "T3");
    assert_eq!(received(&open, &ra.clone().hop(254)), "T3");
    assert_eq!(received(&open, &ra.clone().src(ip("fe80:0:0:1::1"))), "");
    assert_eq!(received(&open, &R.to(A.ll).redirect(R.ll, STRANGER)), "");
    let mut named = usual();
    named.routers = vec![ip("fe80::2")];
    assert_eq!(received(&named, &ra), "T3");
    assert_eq!(received(&named, &ra.src(ip("fe80::2"))), "");
}

#[test]
fn t4_discovery() {
    let open = usual();
    let ns = R.asks_for(A.ip);
    assert_eq!(received(&open, &ns), "");
    assert_eq!(received(&open, &ns.clone().hop(254)), "T4");
    assert_eq!(received(&open, &ns.clone().code(1)), "T4");
    assert_eq!(received(&open, &ns.clone().padded(DEST_OPTIONS)), "");
    assert_eq!(received(&open, &ns.atomic()), "T4");
    assert_eq!(received(&open, &R.advertises().atomic()), "T4");
    assert_eq!(received(&open, &R.asks_for(A.ip).cut(1, &[8])), "T4");
}

#[test]
fn t4_holds_where_the_first_fragment_tells_nothing() {
    let open = usual();
    // The first fragment is the options alone.
    let hidden = R.asks_for(A.ip).padded(DEST_OPTIONS).cut(1, &[8]);
    assert_eq!(received(&open, &hidden), "S1 T4");
    assert_eq!(
        sent(&open, &A.asks_for(R.ip).padded(DEST_OPTIONS).cut(1, &[8])),
        "G3 S1"
    );
}

#[test]
fn t5_servers() {
    let open = usual();
    let reply = R.to(A.ll).dhcp(547, 546, 7);
    assert_eq!(received(&open, &reply), "");
    assert_eq!(received(&open, &R.to(A.ll).dhcp(9, 546, 7)), "");
    assert_eq!(received(&open, &reply.clone().src(R.ip)), "T5");
    assert_eq!(received(&open, &reply.clone().dst(OTHERS.ll)), "T5");
    assert_eq!(received(&open, &reply.clone().dst(ALL_NODES)), "T5");
    assert_eq!(received(&open, &reply.clone().dst(A_DELEGATED)), "");
    let mut named = usual();
    named.dhcpv6_servers = vec![STRANGER];
    assert_eq!(received(&named, &reply), "T5");
    assert_eq!(received(&named, &reply.src(STRANGER)), "");
}

#[test]
fn always_delivered_goes_before_invalid() {
    let open = usual();
    let broken = |packet: Packet| {
        let mut frame = packet.frame();
        frame[57] ^= 1;
        [frame]
    };
    let ns = broken(R.asks_for(A.ip));
    assert_eq!(asked(&open, Direction::Ingress).rows(&ns), "");
    let ns = broken(A.asks_for(R.ip));
    assert_eq!(asked(&open, Direction::Egress).rows(&ns), "");
    let rs = broken(A.solicits_routers());
    assert_eq!(asked(&open, Direction::Egress).rows(&rs), "");
}

#[test]
fn mld_is_delivered() {
    let open = usual();
    assert_eq!(received(&open, &R.queries()), "");
    assert_eq!(received(&open, &R.joins(&[ALL_NODES])), "");
    assert_eq!(received(&open, &R.mld1(131, ALL_NODES)), "");
    assert_eq!(received(&open, &R.mld1(132, ALL_NODES)), "");
    assert_eq!(received(&open, &R.solicits_routers()), "S3");
}
