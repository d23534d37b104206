//! G0 to G13, row by row.

use super::*;
use crate::support::nd::{OVERRIDE, nonce, source_option, target_option};
use crate::support::packet::{AH, DEST_OPTIONS, ESP, HOP_BY_HOP, Packet};
use crate::support::want::{Ipv4Mode, NicExt as _};
use crate::support::who::{
    A_DELEGATED, ALL_NODES, C_DELEGATED, DHCP_SERVERS, HOST, STRANGER, UNSPECIFIED, ip, solicited,
};

fn udp() -> Packet {
    A.to(STRANGER).udp(1000, 2000)
}

#[test]
fn g0_g1_g2_ethernet() {
    let open = usual();
    assert_eq!(sent(&open, &udp()), "");
    assert_eq!(
        sent(&open, &udp().eth_dst([1, 0x80, 0xc2, 0, 0, 0x0e])),
        "G0"
    );
    assert_eq!(sent(&open, &udp().eth_dst([1, 0x80, 0xc2, 0, 0, 0x10])), "");
    assert_eq!(sent(&open, &udp().eth_src(B.mac)), "G1");
    for tag in [0x8100, 0x88a8, 0x9100] {
        assert_eq!(sent(&open, &udp().tagged(tag, 0)), "G2");
    }
    assert_eq!(sent(&open, &udp().ether_type(&[0, 46])), "G2");
    let blocked = world(nic(A).ipv4(Ipv4Mode::Block));
    for kind in [[8, 0], [8, 6]] {
        assert_eq!(sent(&open, &udp().ether_type(&kind)), "");
        assert_eq!(sent(&blocked, &udp().ether_type(&kind)), "G2");
    }
    assert_eq!(sent(&blocked, &udp().ether_type(&[0x80, 0x35])), "");
    assert_eq!(
        sent(&open, &udp().ether_type(&[0x80, 0x35]).eth_src(B.mac)),
        "G1 G2"
    );
}

#[test]
fn a_lying_header_is_malformed() {
    let open = usual();
    assert_eq!(sent(&open, &udp().length(25)), "malformed");
    let mut frame = udp().frame();
    frame[14] = 0x40;
    assert_eq!(asked(&open, Direction::Egress).rows(&[frame]), "malformed");
    let short = vec![udp().frame()[..13].to_vec()];
    assert_eq!(asked(&open, Direction::Egress).rows(&short), "malformed");
    // Ethernet's padding is no part of the packet.
    let padded = [udp().frame(), vec![7; 5]].concat();
    assert_eq!(asked(&open, Direction::Egress).rows(&[padded]), "");
    // What is behind the length is looked at by the guard, and by nobody behind it.
    assert_eq!(sent(&open, &A.to(STRANGER).udp(1, 546).length(0)), "G11 S1");
    assert_eq!(sent(&open, &udp().length(0)), "S1");
}

#[test]
fn g3_header_chain() {
    let open = usual();
    for good in [
        udp().padded(HOP_BY_HOP).padded(DEST_OPTIONS),
        udp().routing(2, 1),
        udp().routing(0, 0),
        udp().atomic(),
        udp().upper(ESP, &[0]),
        udp().upper(200, &[0]),
    ] {
        assert_eq!(sent(&open, &good), "");
    }
    for bad in [
        udp().routing(0, 1),
        udp().routing(4, 1),
        udp().header(AH, &[1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
        udp().atomic().atomic(),
        udp().upper(ESP, &[]),
        udp().routing(0, 0).padded(DEST_OPTIONS),
    ] {
        assert_eq!(sent(&open, &bad), "G3", "{bad:?}");
    }
    for opaque in [135, 139, 140, 253, 254] {
        assert_eq!(
            sent(&open, &udp().upper(opaque, &[59, 0, 0, 0, 0, 0, 0, 0])),
            "G3"
        );
    }
    // Longer than the packet.
    let long = udp().header(DEST_OPTIONS, &[9, 1, 4, 0, 0, 0, 0]);
    assert_eq!(sent(&open, &long), "G3 S1");
}

#[test]
fn g4_types() {
    let open = usual();
    let icmp = |kind| A.to(STRANGER).icmp(kind, 0, &[0; 20]);
    for dropped in [130, 134, 137, 139] {
        let rows = sent(&open, &icmp(dropped));
        assert!(rows.split(' ').any(|row| row == "G4"), "{dropped}: {rows}");
    }
    for mrd in 151..=153 {
        assert_eq!(sent(&open, &icmp(mrd)), "G4", "{mrd}");
    }
    for invalid in [138, 140, 141, 142, 144, 155, 200, 0, 100] {
        assert_eq!(sent(&open, &icmp(invalid)), "G4 S1", "{invalid}");
    }
    assert_eq!(sent(&open, &icmp(128)), "");
    // No flow that they belong to.
    for kind in [1, 2, 3, 4, 129] {
        assert_eq!(sent(&open, &icmp(kind)), "S1", "{kind}");
    }
}

#[test]
fn g5_discovery_is_bare() {
    let open = usual();
    let ns = A.asks_for(R.ip);
    assert_eq!(sent(&open, &ns), "");
    assert_eq!(sent(&open, &ns.clone().hop(254)), "G5");
    assert_eq!(sent(&open, &ns.clone().code(1)), "G5");
    assert_eq!(sent(&open, &ns.clone().padded(DEST_OPTIONS)), "G5");
    assert_eq!(sent(&open, &ns.atomic()), "G5 T4");
}

#[test]
fn g6_router_solicitation() {
    let open = usual();
    let rs = A.solicits_routers();
    assert_eq!(sent(&open, &rs), "");
    assert_eq!(sent(&open, &rs.clone().src(A.ip)), "");
    assert_eq!(sent(&open, &rs.clone().src(B.ll)), "G6");
    assert_eq!(sent(&open, &rs.clone().dst(ALL_NODES)), "G6");
    assert_eq!(sent(&open, &rs.clone().src(UNSPECIFIED)), "G6");
    let with = |options: &[u8]| {
        rs.clone()
            .icmp(133, 0, &crate::support::nd::rs_rest(options))
    };
    assert_eq!(sent(&open, &with(&[]).src(UNSPECIFIED)), "");
    assert_eq!(sent(&open, &with(&source_option(B.mac))), "G6");
    assert_eq!(sent(&open, &with(&target_option(A.mac))), "G6");
    assert_eq!(sent(&open, &with(&source_option(A.mac).repeat(2))), "G6");
    assert_eq!(sent(&open, &with(&[1, 0, 0, 0, 0, 0, 0, 0])), "G6");
}

#[test]
fn g7_solicitation() {
    let open = usual();
    let ns = |options: &[u8]| A.to(solicited(R.ip)).ns(R.ip, options);
    assert_eq!(sent(&open, &ns(&[])), "");
    assert_eq!(sent(&open, &ns(&[]).src(A_DELEGATED)), "");
    assert_eq!(sent(&open, &ns(&[]).src(B.ip)), "G7");
    for bad in [
        source_option(B.mac),
        target_option(A.mac),
        nonce(),
        vec![1, 1, 6],
    ] {
        assert_eq!(sent(&open, &ns(&bad)), "G7", "{bad:?}");
    }
    let both = [source_option(A.mac), nonce()].concat();
    assert_eq!(sent(&open, &ns(&both)), "G7");
}

#[test]
fn g8_probe() {
    let open = usual();
    assert_eq!(sent(&open, &A.probes(A.ip)), "");
    assert_eq!(sent(&open, &A.probes(A.ll)), "");
    for others in [B.ip, A_DELEGATED, R.ll, ip("2001:db8:100:1::dead")] {
        assert_eq!(sent(&open, &A.probes(others)), "G8", "{others}");
    }
    let with = |options: &[u8]| A.probes(A.ip).ns(A.ip, options);
    assert_eq!(sent(&open, &with(&nonce())), "");
    assert_eq!(sent(&open, &with(&nonce().repeat(2))), "G8");
    assert_eq!(sent(&open, &with(&source_option(A.mac))), "G8");
    assert_eq!(sent(&open, &A.probes(A.ip).dst(ALL_NODES)), "G8");
}

#[test]
fn g9_advertisement() {
    let open = usual();
    assert_eq!(sent(&open, &A.claims(A.ip)), "");
    for others in [B.ip, A_DELEGATED, R.ll] {
        assert_eq!(sent(&open, &A.claims(others)), "G9", "{others}");
    }
    assert_eq!(sent(&open, &A.claims(A.ip).src(B.ll)), "G9");
    let with = |options: &[u8]| A.to(ALL_NODES).na(A.ip, OVERRIDE, options);
    assert_eq!(sent(&open, &with(&[])), "");
    for bad in [
        target_option(B.mac),
        source_option(A.mac),
        target_option(A.mac).repeat(2),
    ] {
        assert_eq!(sent(&open, &with(&bad)), "G9", "{bad:?}");
    }
    // Without a target.
    let short = A.to(ALL_NODES).hop(255).icmp(136, 0, &[0; 19]);
    assert_eq!(sent(&open, &short), "G9");
}

#[test]
fn g10_mld() {
    let open = usual();
    let report = A.joins(&[ALL_NODES]);
    assert_eq!(sent(&open, &report), "");
    assert_eq!(sent(&open, &report.clone().src(UNSPECIFIED)), "");
    assert_eq!(sent(&open, &report.clone().src(A.ip)), "G10");
    assert_eq!(sent(&open, &report.clone().src(B.ll)), "G10");
    assert_eq!(sent(&open, &report.clone().hop(2)), "G10");
    assert_eq!(sent(&open, &report.atomic()), "G10");
    for kind in [131, 132] {
        assert_eq!(sent(&open, &A.mld1(kind, ALL_NODES)), "");
    }
}

#[test]
fn g11_g12_dhcp() {
    let open = usual();
    let client = |message| A.to(DHCP_SERVERS).dhcp(546, 547, message);
    for message in [1, 3, 4, 5, 6, 8, 9, 11, 36] {
        assert_eq!(sent(&open, &client(message)), "");
    }
    for message in [0, 2, 7, 10, 12, 13, 35, 37] {
        assert_eq!(sent(&open, &client(message)), "G12");
    }
    assert_eq!(sent(&open, &client(1).atomic()), "G12");
    assert_eq!(sent(&open, &A.to(DHCP_SERVERS).dhcp(545, 547, 1)), "G12");
    assert_eq!(
        sent(&open, &A.to(DHCP_SERVERS).udp_with(546, 547, &[])),
        "G12"
    );
    assert_eq!(sent(&open, &A.to(STRANGER).udp(1, 546)), "G11");
    assert_eq!(sent(&open, &A.to(STRANGER).udp(547, 1)), "G11");
    assert_eq!(sent(&open, &A.to(STRANGER).udp(547, 547)), "G11 G12");
}

#[test]
fn g13_sources() {
    let open = usual();
    let first = ip("2001:db8:100:1010::");
    let last = ip("2001:db8:100:101f:ffff:ffff:ffff:ffff");
    for own in [A.ip, A_DELEGATED, first, last] {
        assert_eq!(sent(&open, &udp().src(own)), "", "{own}");
    }
    let beyond = [
        ip("2001:db8:100:1020::"),
        ip("2001:db8:100:100f:ffff:ffff:ffff:ffff"),
    ];
    let fixed = [
        "::",
        "::1",
        "ff02::1",
        "::ffff:192.0.2.1",
        "2001:db8:100:1::dead",
    ]
    .map(ip);
    let others = [B.ip, B.ll, R.ll, HOST.ll, C_DELEGATED];
    for other in others.into_iter().chain(beyond).chain(fixed) {
        assert_eq!(sent(&open, &udp().src(other)), "G13", "{other}");
    }
}
