//! G3: chains of extension headers, and what hides behind them.

use super::counters::drops;
use crate::support::frag::Cut;
use crate::support::packet::{
    AH, DEST_OPTIONS, ESP, FRAGMENT, Frames, HOP_BY_HOP, ICMP, Packet, UDP,
};
use crate::support::plan::standard;
use crate::support::who::{A, ALL_NODES, B, R, STRANGER};

fn ping() -> Packet {
    A.to(STRANGER).ping()
}

/// `ping` passes and each of `bad` doesn't.
fn dropped(good: &Packet, bad: &[Packet]) {
    let mut net = standard().start();
    net.passes(good, R);
    for packet in bad {
        net.dropped(packet);
    }
    net.passes(good, R);
}

#[test]
fn g3_options_before_the_upper_layer_pass() {
    let mut net = standard().start();
    net.passes(&ping().padded(DEST_OPTIONS), R);
    net.passes(&ping().padded(HOP_BY_HOP), R);
    net.passes(&ping().padded(HOP_BY_HOP).padded(DEST_OPTIONS), R);
}

#[test]
fn g3_esp_passes() {
    let mut net = standard().start();
    net.passes(
        &A.to(STRANGER)
            .upper(ESP, &[0, 0, 1, 0, 0, 0, 0, 1, 9, 9, 9, 9, 9, 9, 9, 9]),
        R,
    );
}

#[test]
fn g3_routing_header_type_0_with_segments_left_is_dropped() {
    dropped(&ping(), &[ping().routing(0, 1)]);
}

#[test]
fn g3_segment_routing_header_with_segments_left_is_dropped() {
    dropped(
        &ping(),
        &[
            ping().routing(4, 1),
            ping().routing(3, 1),
            ping().routing(253, 1),
        ],
    );
}

#[test]
fn g3_routing_header_type_2_passes() {
    let mut net = standard().start();
    net.passes(&ping().routing(2, 1), R);
}

#[test]
fn g3_routing_header_without_segments_left_passes() {
    let mut net = standard().start();
    net.passes(&ping().routing(0, 0), R);
    net.passes(&ping().routing(4, 0), R);
}

#[test]
fn g3_routing_header_behind_options_is_dropped() {
    dropped(
        &ping().padded(DEST_OPTIONS),
        &[
            ping().padded(DEST_OPTIONS).routing(0, 1),
            ping().padded(HOP_BY_HOP).routing(0, 1),
            ping().padded(HOP_BY_HOP).padded(DEST_OPTIONS).routing(4, 1),
        ],
    );
}

#[test]
fn g3_second_routing_header_is_looked_at() {
    dropped(
        &ping().routing(2, 1),
        &[
            ping().routing(0, 0).routing(0, 1),
            ping().routing(2, 1).routing(0, 1),
            ping().routing(0, 0).routing(4, 1),
            ping().routing(0, 0).atomic().routing(0, 1),
            ping()
                .routing(2, 1)
                .atomic()
                .padded(DEST_OPTIONS)
                .routing(0, 1),
        ],
    );
}

#[test]
fn g3_routing_header_in_a_fragmented_part_is_dropped() {
    let mut net = standard().start();
    let large = A.to(STRANGER).echo(128, 9, 2000);
    net.passes(&large.cut(1, &[1440]), R);
    net.dropped(&large.clone().routing(0, 1).cut(2, &[1440]));
    net.dropped(&large.routing(0, 1).cut_as(&Cut {
        before: 1,
        id: 3,
        lengths: &[1400],
    }));
    net.dropped(&ping().routing(0, 1).atomic());
}

#[test]
fn g3_authentication_header_is_dropped() {
    let ah = [
        4, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9,
    ];
    dropped(
        &ping(),
        &[
            ping().header(AH, &ah),
            ping().padded(DEST_OPTIONS).header(AH, &ah),
        ],
    );
}

fn opaque(kind: u8) {
    let hidden = ping().header(kind, &[0, 0, 0, 0, 0, 0, 0]);
    let rogue = A.to(ALL_NODES).ra().header(kind, &[0, 0, 0, 0, 0, 0, 0]);
    let alone = A.to(STRANGER).upper(kind, &[59, 0, 0, 0, 0, 0, 0, 0]);
    dropped(
        &ping(),
        &[hidden.clone(), rogue, alone, hidden.padded(DEST_OPTIONS)],
    );
}

#[test]
fn g3_mobility_header_is_dropped() {
    opaque(135);
}

#[test]
fn g3_hip_header_is_dropped() {
    opaque(139);
}

#[test]
fn g3_shim6_header_is_dropped() {
    opaque(140);
}

#[test]
fn g3_experimental_headers_are_dropped() {
    opaque(253);
    opaque(254);
}

#[test]
fn g3_opaque_header_behind_a_fragment_header_is_dropped() {
    let mut net = standard().start();
    net.passes_in_a_small_fragment(&ping().atomic(), R);
    for kind in [AH, 135, 139, 140, 253, 254] {
        net.dropped(&ping().atomic().header(kind, &[0, 0, 0, 0, 0, 0, 0]));
        let large = A
            .to(STRANGER)
            .echo(128, 9, 2000)
            .header(kind, &[0, 0, 0, 0, 0, 0, 0]);
        net.dropped(&large.cut(u32::from(kind), &[1440]));
    }
}

#[test]
fn g3_hop_by_hop_header_that_is_not_first_is_dropped() {
    dropped(
        &ping().padded(HOP_BY_HOP),
        &[A.to(ALL_NODES).ra().padded(60).padded(HOP_BY_HOP)],
    );
}

/// RFC 7112: the whole chain is in the first fragment.
#[test]
fn g3_upper_layer_in_the_second_fragment_is_dropped() {
    let mut net = standard().start();
    let long = A
        .to(STRANGER)
        .echo(128, 9, 2000)
        .header(DEST_OPTIONS, &options(120));
    net.passes(&long.cut(1, &[1440]), R);
    net.dropped(&long.cut(2, &[64, 1376]));
    net.dropped(&long.cut(3, &[8, 1432]));
    let rogue = A.to(ALL_NODES).ra().header(DEST_OPTIONS, &options(120));
    net.dropped(&rogue.cut(4, &[64]));
    net.dropped(&rogue.cut(5, &[120]));
}

/// The octets of an options header of `length` octets, without its first.
fn options(length: u8) -> Vec<u8> {
    let mut header = vec![length / 8 - 1, 1, length - 4];
    header.resize(usize::from(length) - 1, 0);
    header
}

#[test]
fn g3_first_fragment_too_short_for_the_upper_header_is_dropped() {
    let mut net = standard().start();
    let udp = A.to(STRANGER).udp_with(5000, 5001, &[7; 2000]);
    net.passes(&udp.cut(1, &[1440]), R);
    // A TCP header of 20 octets of which 8 are in the first fragment hides the flags.
    let tcp = A.to(STRANGER).syn(5000, 5001);
    let cut = Cut {
        before: 0,
        id: 2,
        lengths: &[8],
    };
    net.dropped(&Frames {
        port: A.port,
        frames: vec![tcp.piece(&cut, (6, 0, true), &[])],
    });
    let sctp = A.to(STRANGER).sctp_init(5000, 5001);
    let short = sctp.piece(&cut, (132, 0, false), &sctp.body[..8]);
    net.dropped(&Frames {
        port: A.port,
        frames: vec![short],
    });
    // In no fragment, half of UDP's; without options it is tracking that makes no sense of it.
    let half = A.to(STRANGER).upper(UDP, &[0, 1, 0, 2]);
    net.dropped(&half);
    net.dropped(&half.padded(DEST_OPTIONS));
    assert_eq!(drops(&net, A).0.get("ext-header"), Some(&3));
    let empty = ping().piece(&cut, (ICMP, 0, true), &[]);
    net.dropped(&Frames {
        port: A.port,
        frames: vec![empty],
    });
}

#[test]
fn g3_nested_fragment_headers_are_dropped() {
    let mut net = standard().start();
    net.passes_in_a_small_fragment(&ping().atomic(), R);
    // A header occurs once (RFC 8200 4.1): harmless or not, a second one may hide things.
    net.dropped(&ping().atomic().atomic());
    net.dropped(&ping().atomic().padded(DEST_OPTIONS).atomic());
    net.dropped(&A.to(ALL_NODES).ra().atomic().atomic());
    net.dropped(&A.claims(A.ll).atomic().atomic());
    net.dropped(&A.to(ALL_NODES).ra().atomic().padded(DEST_OPTIONS).atomic());
    // A first fragment within an atomic one, and a later one, which hides the upper layer.
    for inner in [[0, 0, 1], [0, 0, 9], [0, 5, 0]] {
        let inner = [&inner[..], &[0, 0, 0, 9]].concat();
        net.dropped(&A.to(ALL_NODES).ra().atomic().header(FRAGMENT, &inner));
        net.dropped(
            &A.to(B.ll)
                .dhcp(547, 546, 7)
                .atomic()
                .header(FRAGMENT, &inner),
        );
    }
}

#[test]
fn g3_truncated_chain_is_dropped() {
    let mut net = standard().start();
    net.passes(&ping(), R);
    // The last header says it is longer than the packet.
    net.dropped(&ping().header(DEST_OPTIONS, &[200, 1, 4, 0, 0, 0, 0]));
    net.dropped(&ping().header(43, &[200, 0, 0, 0, 0, 0, 0]));
    for kind in [HOP_BY_HOP, 43, FRAGMENT, AH, DEST_OPTIONS, 135] {
        net.dropped(&A.to(STRANGER).upper(kind, &[]));
        net.dropped(&A.to(STRANGER).upper(kind, &[ICMP, 0]));
    }
    net.passes(&ping(), R);
}

#[test]
fn g3_frame_too_short_for_an_ipv6_header_is_dropped() {
    let mut net = standard().start();
    net.passes(&ping(), R);
    let whole = ping().frame();
    for length in [14, 20, 34, 53] {
        let frames = vec![whole[..length].to_vec()];
        net.dropped(&Frames {
            port: A.port,
            frames,
        });
    }
    net.passes(&ping(), R);
}

#[test]
fn g3_router_advertisement_behind_a_long_chain_is_dropped() {
    let mut net = standard().start();
    net.passes(&ping().padded(DEST_OPTIONS), R);
    let mut rogue = A.to(ALL_NODES).ra();
    for _ in 0..20 {
        rogue = rogue.padded(DEST_OPTIONS);
        net.dropped(&rogue);
    }
    net.dropped(&A.to(ALL_NODES).ra().routing(0, 0));
    net.dropped(
        &A.to(ALL_NODES)
            .ra()
            .padded(HOP_BY_HOP)
            .padded(DEST_OPTIONS)
            .routing(2, 1),
    );
}
