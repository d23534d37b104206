//! G14: what is behind a packet's length is an Ethernet frame's padding. Who reads it as part of
//! the packet sees what no receiver will: reassembly, tracking and the receiver throw it away.

use super::counters::drops;
use crate::support::frag::Cut;
use crate::support::nd::{OVERRIDE, target_option};
use crate::support::net::Net;
use crate::support::packet::{AH, DEST_OPTIONS, ESP, Frames, Packet};
use crate::support::plan::standard;
use crate::support::who::{A, ALL_NODES, B, DHCP_SERVERS, Machine, R, STRANGER, UNSPECIFIED};

/// A message behind destination options, in two fragments: the first has only the options, and
/// `shown` in the padding behind them, where the message should begin.
fn disguised(bad: &Packet, shown: &[u8], id: u32) -> Frames {
    let behind = bad.clone().padded(DEST_OPTIONS);
    let mut all = behind.cut(id, &[8]);
    all.frames[0].extend_from_slice(shown);
    all
}

/// An echo request to whoever reads padding.
const PING: [u8; 16] = [128, 0, 0, 0, 0, 1, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0];

/// It is the fragment that is dropped, at the port where it enters, and not what Linux since 5.11
/// makes of it (`ipv6frag_thdr_truncated`).
fn never_comes_out(net: &mut Net, bad: &Packet, shown: &[u8], to: Machine) {
    let dropped = |net: &Net| drops(net, A).1.get("ext-header").copied().unwrap_or(0);
    let before = dropped(net);
    let whole = disguised(bad, shown, 7);
    net.blocked(&whole, to);
    let mut backwards = disguised(bad, shown, 8);
    backwards.frames.reverse();
    net.blocked(&backwards, to);
    assert_eq!(dropped(net), before + 2);
}

#[test]
fn g14_type_in_the_padding_hides_no_neighbour_advertisement() {
    let mut net = standard().start();
    let forged = A.to(ALL_NODES).na(R.ll, OVERRIDE, &target_option(A.mac));
    never_comes_out(&mut net, &forged, &PING, B);
    let probe = A.to(ALL_NODES).ns(B.ll, &[]);
    never_comes_out(&mut net, &probe, &PING, B);
}

#[test]
fn g14_type_in_the_padding_hides_no_router_advertisement() {
    let mut net = standard().start();
    never_comes_out(&mut net, &A.advertises(), &PING, B);
    never_comes_out(&mut net, &A.to(B.ll).redirect(A.ll, STRANGER), &PING, B);
}

#[test]
fn g14_ports_in_the_padding_hide_no_dhcpv6() {
    let mut net = standard().start();
    let udp = [0, 53, 0, 53, 0, 24, 0, 0];
    never_comes_out(&mut net, &A.to(B.ll).dhcp(547, 546, 7), &udp, B);
    // A relay's message, that a server would take for another client's.
    never_comes_out(&mut net, &A.to(DHCP_SERVERS).dhcp(546, 547, 12), &udp, R);
}

#[test]
fn t4_type_in_the_padding_hides_no_neighbour_discovery_from_outside() {
    let mut net = standard().start();
    let forged = R.to(ALL_NODES).na(B.ll, OVERRIDE, &target_option(R.mac));
    never_comes_out(&mut net, &forged, &PING, A);
    never_comes_out(&mut net, &R.advertises(), &PING, A);
}

/// A report whose header the packet does not reach is a header without a message.
#[test]
fn g14_message_in_the_padding_is_none() {
    let mut net = standard().start();
    for report in [A.joins(&[]), A.joins(&[]).src(UNSPECIFIED)] {
        net.dropped(&report.length(8));
    }
}

/// The stage behind reassembly sees a message without a type.
#[test]
fn g14_type_in_the_padding_alone_is_none() {
    let mut net = standard().start();
    net.dropped(&A.to(STRANGER).ping().length(0));
    let (of_nic, total) = drops(&net, A);
    assert_eq!(of_nic.get("icmpv6-type"), Some(&1));
    assert_eq!(total.get("icmpv6-type"), Some(&1));
}

/// With the options of a size that somebody uses, and all that has to be there.
#[test]
fn g14_fragments_with_options_pass() {
    let mut net = standard().start();
    for (id, size, length) in [(1, 2000, 1440), (2, 1200, 72)] {
        let large = A.to(STRANGER).echo(128, 1, size).padded(DEST_OPTIONS);
        let pieces = large.cut(id, &[length]);
        if length > 1280 {
            net.passes(&pieces, R);
        } else {
            net.passes_in_a_small_fragment(&pieces, R);
        }
    }
}

/// A second one could be longer than the fragment, and what is behind it in the padding.
#[test]
fn g3_options_behind_options_in_fragments_are_dropped() {
    let mut net = standard().start();
    let behind = |packet: Packet| packet.padded(DEST_OPTIONS).padded(DEST_OPTIONS);
    let large = behind(A.to(STRANGER).echo(128, 1, 2000));
    net.dropped(&large.cut(1, &[1440]));
    net.passes(&behind(A.to(STRANGER).ping()), R);
}

/// Reassembly lets such a fragment go on by itself (RFC 8200 §4.5 has it thrown away).
#[test]
fn g3_t4_fragment_that_ends_off_8_octets_is_dropped() {
    let mut net = standard().start();
    let piece = |packet: &Packet, length: usize| {
        let cut = Cut {
            before: 0,
            id: 9,
            lengths: &[],
        };
        let frames = vec![packet.piece(&cut, (ESP, 0, true), &vec![7; length])];
        let port = packet.port;
        Frames { port, frames }
    };
    net.blocked(&piece(&R.to(A.ip).src(STRANGER), 17), A);
    net.dropped(&piece(&A.to(STRANGER), 17));
}

/// An authentication header may be as long as the fragment, or longer: no octet behind it, and
/// the fragment goes on by itself.
#[test]
fn t4_first_fragment_that_ends_in_its_ah_is_dropped() {
    let mut net = standard().start();
    let behind_ah = |octets: u16, payload: usize| {
        let mut ah = vec![0; usize::from(octets) - 1];
        ah[0] = u8::try_from(octets / 4 - 2).unwrap();
        let packet = R.to(A.ip).src(STRANGER);
        packet.upper(ESP, &vec![7; payload]).header(AH, &ah)
    };
    let pieces = |packet: &Packet, id, length| packet.cut(id, &[length]);
    let usual = behind_ah(24, 1440);
    net.blocked(&pieces(&usual, 1, 16), A);
    net.blocked(&pieces(&usual, 2, 24), A);
    net.passes(&pieces(&usual, 3, 56), A);
    net.passes(&pieces(&usual, 4, 1440), A);
    let long = behind_ah(1016, 1440);
    net.blocked(&pieces(&long, 5, 1016), A);
    net.passes(&pieces(&long, 6, 1040), A);
    // One that is whole in itself waits for no others.
    net.passes_in_a_small_fragment(&pieces(&behind_ah(24, 8), 7, 32), A);
}

#[test]
fn s1_packet_without_an_ipv6_header_is_not_delivered() {
    let mut net = standard().start();
    let packet = R.to(A.ip).src(STRANGER).upper(ESP, &[7; 16]);
    net.passes(&packet, A);
    let mut frames = vec![packet.frame()];
    frames[0][14] = 0x40;
    let port = R.port;
    net.blocked(&Frames { port, frames }, A);
    net.blocked(&packet.length(17), A);
}

/// What is no packet is no fragment either, whoever owns the address in it.
#[test]
fn g3_fragment_without_an_ipv6_header_is_dropped() {
    let mut net = standard().start();
    let cut = Cut {
        before: 0,
        id: 9,
        lengths: &[],
    };
    let (good, port) = (A.to(STRANGER), A.port);
    let long = good.clone().length(200);
    for (packet, version) in [(&good, 0x40), (&good, 0), (&long, 0x60)] {
        let mut frames = vec![packet.piece(&cut, (ESP, 8, false), &[7; 16])];
        frames[0][14] = version;
        net.dropped(&Frames { port, frames });
    }
    // Reassembly would keep them, so that they arrive nowhere is no proof.
    assert_eq!(drops(&net, A).0.get("ext-header"), Some(&3));
}
