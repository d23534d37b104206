//! What connection tracking makes of a packet that belongs to no flow.

use super::super::frame::{Look, ethernet};
use super::super::tracking::First::{self, Invalid, New, Untracked};
use super::super::tracking::first;
use crate::support::packet::{Packet, UDP};
use crate::support::who::{A, R, STRANGER};

fn of(packet: &Packet) -> First {
    of_frame(&packet.frame())
}

fn of_frame(frame: &[u8]) -> First {
    first(&Look::at(&ethernet(frame).unwrap()).unwrap())
}

#[test]
fn tcp() {
    let with = |flags| of(&A.to(STRANGER).tcp(1, 2, flags));
    for begins in [0x02, 0x22, 0x10, 0x30, 0x18, 0xc2, 0x90] {
        assert_eq!(with(begins), New, "{begins:#x}");
    }
    for not in [0, 1, 4, 6, 0x12, 0x11, 0x14, 0x29, 0x31, 0x3f, 3, 8] {
        assert_eq!(with(not), Invalid, "{not:#x}");
    }
    let mut frame = A.to(STRANGER).syn(1, 2).frame();
    frame[54 + 8] ^= 1;
    assert_eq!(of_frame(&frame), Invalid);
    let mut short = A.to(STRANGER).syn(1, 2);
    short.body.truncate(19);
    assert_eq!(of(&short), Invalid);
    for offset in [0x40, 0x60] {
        let mut packet = A.to(STRANGER).syn(1, 2);
        packet.body[12] = offset;
        assert_eq!(of(&packet), Invalid);
    }
}

#[test]
fn udp() {
    let packet = || A.to(STRANGER).udp_with(1, 2, &[]);
    assert_eq!(of(&packet()), New);
    for (length, wanted) in [(7, Invalid), (8, New), (9, Invalid)] {
        let mut lying = packet();
        lying.body[5] = length;
        assert_eq!(of(&lying), wanted, "{length}");
    }
    // Less than is there is sound, as long as the sum is over all that is there.
    let mut trailing = packet();
    trailing.body.push(0xff);
    assert_eq!(of(&trailing), New);
    let mut frame = packet().frame();
    frame[60..62].copy_from_slice(&[0, 0]);
    assert_eq!(of_frame(&frame), New);
    frame[60] = 1;
    assert_eq!(of_frame(&frame), Invalid);
    assert_eq!(of(&packet().upper(UDP, &[0; 7])), Invalid);
}

#[test]
fn icmpv6() {
    let with = |kind| of(&A.to(STRANGER).icmp(kind, 0, &[0; 20]));
    for kind in 0..=255 {
        let wanted = match kind {
            128 | 139 => New,
            130..=136 | 143 => Untracked,
            _ => Invalid,
        };
        assert_eq!(with(kind), wanted, "{kind}");
    }
    assert_eq!(of(&A.to(R.ip).icmp(128, 0, &[0; 4])), New);
    assert_eq!(of(&A.to(R.ip).icmp(128, 0, &[0; 3])), Invalid);
    let mut frame = A.to(R.ip).ping().frame();
    frame[60] ^= 1;
    assert_eq!(of_frame(&frame), Invalid);
}

#[test]
fn sctp() {
    let init = || A.to(STRANGER).sctp_init(1, 2);
    assert_eq!(of(&init()), New);
    let mut frame = init().frame();
    frame[62] ^= 1;
    assert_eq!(of_frame(&frame), Invalid);
    let mut short = init();
    short.body.truncate(11);
    assert_eq!(of(&short), Invalid);
}

#[test]
fn others() {
    let with = |number, body: &[u8]| of(&A.to(STRANGER).upper(number, body));
    for number in [50, 89, 112, 200] {
        assert_eq!(with(number, &[]), New, "{number}");
    }
    assert_eq!(with(59, &[]), Invalid);
    assert_eq!(with(1, &[8, 0, 0, 0, 0, 0, 0, 0]), Invalid);
    assert_eq!(with(47, &[0, 1, 0x88, 0x0b, 0, 0, 0, 0]), New);
    assert_eq!(with(47, &[0, 1, 8, 0, 0, 0, 0, 0]), Invalid);
    // Behind AH, and behind options that are longer than the packet.
    let ah = A
        .to(STRANGER)
        .syn(1, 2)
        .header(51, &[1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(of(&ah), New);
    let beyond = |next, body: &[u8]| {
        of(&A
            .to(STRANGER)
            .upper(next, body)
            .header(60, &[9, 1, 4, 0, 0, 0, 0]))
    };
    assert_eq!(beyond(50, &[0; 4]), New);
    assert_eq!(beyond(17, &[0; 4]), Invalid);
    assert_eq!(beyond(60, &[0; 4]), Invalid);
}
