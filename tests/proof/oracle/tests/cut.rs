//! Fragments: judged one by one, and joined (G3, G14).

use super::super::complete;
use super::*;
use crate::support::frag::Cut;
use crate::support::packet::{DEST_OPTIONS, Packet};
use crate::support::who::{ALL_NODES, STRANGER};

fn long() -> Packet {
    A.to(STRANGER).udp_with(1, 2, &[7; 60])
}

#[test]
fn fragments_of_an_allowed_datagram_pass() {
    let open = usual();
    let mut frames = long().cut(7, &[16, 24]).frames;
    assert!(complete(&frames));
    assert_eq!(asked(&open, Direction::Egress).rows(&frames), "");
    frames.reverse();
    assert!(complete(&frames));
    assert_eq!(asked(&open, Direction::Egress).rows(&frames), "");
}

#[test]
fn what_is_missing_or_overlaps_is_no_datagram() {
    let frames = long().cut(7, &[16, 24]).frames;
    assert!(!complete(&frames[1..]));
    assert!(!complete(&frames[..2]));
    assert!(!complete(&[frames[0].clone()]));
    assert!(!complete(&[frames[0].clone(), frames[2].clone()]));
    let mut other_id = frames.clone();
    other_id[1][61] ^= 1;
    assert!(!complete(&other_id));
    let twice = [&frames[..], &frames[1..2]].concat();
    assert!(!complete(&twice));
    assert!(complete(&[long().frame()]));
    assert!(complete(&[long().atomic().frame()]));
    assert!(complete(&[long().tagged(0x8100, 1).frame()]));
}

#[test]
fn incomplete_datagram_is_not_judged_by_groups() {
    let nothing_in = usual();
    let mut frames = R.to(A.ip).udp_with(1, 2, &[7; 60]).cut(7, &[16, 24]).frames;
    assert_eq!(asked(&nothing_in, Direction::Ingress).rows(&frames), "S3");
    frames.pop();
    assert_eq!(asked(&nothing_in, Direction::Ingress).rows(&frames), "");
}

#[test]
fn g3_upper_layer_begins_in_the_first_fragment() {
    let open = usual();
    let long = || A.to(STRANGER).udp_with(1, 2, &[7; 200]);
    let behind = || long().padded(DEST_OPTIONS);
    assert_eq!(sent(&open, &behind().cut(7, &[72])), "");
    // Eight octets of UDP are there, but 80 are asked for.
    assert_eq!(sent(&open, &behind().cut(7, &[64])), "G3");
    assert_eq!(sent(&open, &behind().cut(7, &[8])), "G3 S1");
    let two = long().padded(DEST_OPTIONS).padded(DEST_OPTIONS);
    assert_eq!(sent(&open, &two.cut(7, &[8])), "G3");
    let outside = Cut {
        before: 2,
        id: 7,
        lengths: &[8],
    };
    assert_eq!(sent(&open, &two.cut_as(&outside)), "");
}

#[test]
fn g13_holds_for_every_fragment() {
    let open = usual();
    let mut frames = long().cut(7, &[16, 24]).frames;
    frames.truncate(2);
    frames[1][22..38].copy_from_slice(&B.ip.octets());
    assert_eq!(asked(&open, Direction::Egress).rows(&frames), "G13");
}

#[test]
fn g14_rows_hold_for_what_is_joined() {
    let open = usual();
    // Eight octets of the message are in the first fragment.
    let hidden = |packet: Packet| packet.padded(DEST_OPTIONS).cut(7, &[16]);
    assert_eq!(sent(&open, &hidden(A.to(STRANGER).udp(547, 9))), "G11 G3");
    assert_eq!(sent(&open, &hidden(A.advertises())), "G3 G4 G5 T4");
    assert_eq!(
        sent(&open, &hidden(A.to(ALL_NODES).icmp(130, 0, &[0; 20]))),
        "G10 G3 G4"
    );
    let reply = R.to(A.ll).src(R.ip).dhcp(547, 546, 7);
    assert_eq!(received(&open, &hidden(reply)), "T4 T5");
}
