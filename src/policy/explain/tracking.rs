//! What connection tracking says of a packet that belongs to no flow it knows
//! (`net/netfilter/nf_conntrack_proto_*.c` of Linux).
//!
//! Two protocols are left out: of DCCP and UDP-Lite, which kernels of this range treat
//! differently or not at all, the first packet always begins a flow here.

use etherparse::checksum::Sum16BitWords;

use super::octets::{NO_NEXT, Packet, octet, word};
use crate::ruleset::{ICMPV6, SCTP, TCP, UDP};

/// Of IPv4.
const ICMP: u8 = 1;
const GRE: u8 = 47;

/// What a packet of no known flow is to connection tracking.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum First {
    /// It begins a flow.
    New,
    /// It makes no sense in any flow, and why.
    Broken(&'static str),
    /// It makes sense in a flow that began before, and why in no other.
    Unanswered(&'static str),
    /// Flows are no matter of its: neighbour discovery and MLD.
    Untracked,
}

use First::{Broken, New, Unanswered, Untracked};

/// Judges a packet without padding. Checksums that hardware was to fill in look wrong where
/// a packet was captured before it did, so whether to look at them is the caller's choice.
pub(super) fn first(packet: &Packet<'_>, checksums: bool) -> First {
    let packet = &packet.tracked();
    let Some(upper) = packet.upper else {
        return Broken("its headers can't be followed to their end");
    };
    let data = packet.octets.get(upper.at..).unwrap_or_default();
    let summed = |protocol| !checksums || checksum(packet, protocol, data) == 0;
    match upper.protocol {
        NO_NEXT => Broken("there is nothing behind its headers"),
        ICMP => Broken("it is ICMP of IPv4"),
        // PPTP's, of another protocol (`gre_pkt_to_tuple`).
        GRE if octet(data, 1).is_some_and(|flags| flags & 7 == 1)
            && data.len() >= 8
            && word(data, 2) != Some(0x880b) =>
        {
            Broken("its GRE header is of version 1, but not PPTP's")
        }
        TCP => tcp(data, summed(TCP)),
        UDP => udp(data, summed(UDP)),
        ICMPV6 => icmpv6(data, summed(ICMPV6)),
        SCTP => sctp(data, checksums),
        _ => New,
    }
}

const BAD_SUM: First = Broken("its checksum is wrong");

fn tcp(data: &[u8], summed: bool) -> First {
    const FIN: u8 = 1;
    const SYN: u8 = 2;
    const RST: u8 = 4;
    const ACK: u8 = 16;
    const URG: u8 = 32;
    let (Some(offset), Some(flags), true) = (octet(data, 12), octet(data, 13), data.len() >= 20)
    else {
        return Broken("its TCP header is cut off");
    };
    let header = usize::from(offset >> 4) * 4;
    if header < 20 || header > data.len() {
        return Broken("its TCP header is as long as none can be");
    }
    if !summed {
        return BAD_SUM;
    }
    // PSH, ECE and CWR go with anything (`tcp_valid_flags`).
    let flags = flags & (FIN | SYN | RST | ACK | URG);
    match flags {
        _ if flags == SYN || flags == SYN | URG || flags == ACK || flags == ACK | URG => New,
        _ if flags == SYN | ACK => Unanswered("it answers a SYN that was not seen"),
        _ if flags == RST || flags == RST | ACK => {
            Unanswered("it ends a connection that is not known")
        }
        _ if flags == FIN | ACK || flags == FIN | ACK | URG => {
            Unanswered("it ends a connection that is not known")
        }
        _ => Broken("its TCP flags contradict each other"),
    }
}

fn udp(data: &[u8], summed: bool) -> First {
    let (Some(length), Some(sum)) = (word(data, 4), word(data, 6)) else {
        return Broken("its UDP header is cut off");
    };
    if usize::from(length) > data.len() || length < 8 {
        return Broken("its UDP length is wrong");
    }
    if sum != 0 && !summed {
        return BAD_SUM;
    }
    New
}

fn icmpv6(data: &[u8], summed: bool) -> First {
    // MRD (RFC 4286): the rules take it for untracked, whatever the kernel calls it.
    if let Some(151..=153) = octet(data, 0) {
        return Untracked;
    }
    let (Some(kind), true) = (octet(data, 0), data.len() >= 8) else {
        return Broken("its ICMPv6 header is cut off");
    };
    if !summed {
        return BAD_SUM;
    }
    match kind {
        // The kernel leaves these untracked; a redirect is not among them.
        130..=136 | 143 => Untracked,
        0..=127 => Unanswered("it is an error about a flow that is not known"),
        128 | 139 => New,
        129 => Unanswered("it answers an echo request that was not seen"),
        _ => Unanswered("it can't begin a flow"),
    }
}

fn sctp(data: &[u8], checksums: bool) -> First {
    if data.len() < 12 {
        return Broken("its SCTP header is cut off");
    }
    if checksums && !crc32c_is_right(data) {
        return BAD_SUM;
    }
    let Some(chunks) = chunks(data) else {
        return Broken("its SCTP chunks contradict each other");
    };
    let tagged = data.get(4..8).unwrap_or_default() != [0; 4];
    for kind in chunks {
        match kind {
            INIT | INIT_ACK | SHUTDOWN | ERROR | COOKIE_ECHO if tagged => {
                return Unanswered("its SCTP verification tag is of no known association");
            }
            INIT..=COOKIE_ECHO if !matches!(kind, SACK | ABORT) => {}
            _ => return Unanswered("it is of an association that is not known"),
        }
    }
    New
}

const INIT: u8 = 1;
const INIT_ACK: u8 = 2;
const SACK: u8 = 3;
const ABORT: u8 = 6;
const SHUTDOWN: u8 = 7;
const ERROR: u8 = 9;
const COOKIE_ECHO: u8 = 10;
const COOKIE_ACK: u8 = 11;
const SHUTDOWN_COMPLETE: u8 = 14;

/// The types of the chunks, where these go together (`do_basic_checks`).
fn chunks(data: &[u8]) -> Option<Vec<u8>> {
    let (mut at, mut kinds, mut alone) = (12, Vec::new(), false);
    while let (Some(kind), Some(length)) = (octet(data, at), word(data, at + 2)) {
        alone |= matches!(kind, INIT | INIT_ACK | SHUTDOWN_COMPLETE);
        let first = alone || matches!(kind, COOKIE_ECHO | COOKIE_ACK);
        let cut_off = kind == INIT && data.len() < at + 20;
        if (first && !kinds.is_empty()) || length == 0 || cut_off {
            return None;
        }
        kinds.push(kind);
        at += (usize::from(length) + 3) & !3;
    }
    (!kinds.is_empty()).then_some(kinds)
}

/// RFC 8200 §8.1: zero where what is there sums up.
fn checksum(packet: &Packet<'_>, protocol: u8, data: &[u8]) -> u16 {
    let length = u32::try_from(data.len()).unwrap_or(u32::MAX);
    Sum16BitWords::new()
        .add_16bytes(packet.source.octets())
        .add_16bytes(packet.destination.octets())
        .add_4bytes(length.to_be_bytes())
        .add_2bytes([0, protocol])
        .add_slice(data)
        .ones_complement()
}

/// RFC 9260 appendix A, the field itself taken as zero.
fn crc32c_is_right(data: &[u8]) -> bool {
    let zeroed = |(i, octet): (usize, &u8)| if (8..12).contains(&i) { 0 } else { *octet };
    let sum = data
        .iter()
        .enumerate()
        .map(zeroed)
        .fold(!0_u32, |sum, octet| {
            (0..8).fold(sum ^ u32::from(octet), |sum, _| {
                let shifted = sum >> 1;
                if sum & 1 == 1 {
                    shifted ^ 0x82f6_3b78
                } else {
                    shifted
                }
            })
        });
    data.get(8..12) == Some(&(!sum).to_le_bytes())
}
