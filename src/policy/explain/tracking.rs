//! What connection tracking says of a packet that belongs to no flow it knows
//! (`net/netfilter/nf_conntrack_proto_*.c` of Linux).
//!
//! Two protocols are left out: of DCCP and UDP-Lite, which kernels of this range treat
//! differently or not at all, the first packet always begins a flow here.

use super::octets::{NO_NEXT, Packet, octet, word};
use crate::ruleset::{ICMPV6, SCTP, TCP, UDP};

/// What a packet of no known flow is to connection tracking.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum First {
    /// It begins a flow.
    New,
    /// It makes no sense, and why.
    Invalid(&'static str),
    /// Flows are no matter of its: neighbour discovery and MLD.
    Untracked,
}

use First::{Invalid, New, Untracked};

/// Judges a packet without padding. Checksums that hardware was to fill in look wrong where
/// a packet was captured before it did, so whether to look at them is the caller's choice.
pub(super) fn first(packet: &Packet<'_>, checksums: bool) -> First {
    let Some(upper) = packet.upper else {
        return Invalid("its headers can't be followed to their end");
    };
    let data = packet.octets.get(upper.at..).unwrap_or_default();
    let summed = |protocol| !checksums || checksum(packet, protocol, data) == 0;
    match upper.protocol {
        NO_NEXT => Invalid("there is nothing behind its headers"),
        TCP => tcp(data, summed(TCP)),
        UDP => udp(data, summed(UDP)),
        ICMPV6 => icmpv6(data, summed(ICMPV6)),
        SCTP => sctp(data, checksums),
        _ => New,
    }
}

const BAD_SUM: First = Invalid("its checksum is wrong");

fn tcp(data: &[u8], summed: bool) -> First {
    const FIN: u8 = 1;
    const SYN: u8 = 2;
    const RST: u8 = 4;
    const ACK: u8 = 16;
    const URG: u8 = 32;
    let (Some(offset), Some(flags), true) = (octet(data, 12), octet(data, 13), data.len() >= 20)
    else {
        return Invalid("its TCP header is cut off");
    };
    let header = usize::from(offset >> 4) * 4;
    if header < 20 || header > data.len() {
        return Invalid("its TCP header is as long as none can be");
    }
    if !summed {
        return BAD_SUM;
    }
    // PSH, ECE and CWR go with anything (`tcp_valid_flags`).
    let flags = flags & (FIN | SYN | RST | ACK | URG);
    match flags {
        _ if flags == SYN || flags == SYN | URG || flags == ACK || flags == ACK | URG => New,
        _ if flags == SYN | ACK => Invalid("it answers a SYN that was not seen"),
        _ if flags == RST || flags == RST | ACK => {
            Invalid("it ends a connection that is not known")
        }
        _ if flags == FIN | ACK || flags == FIN | ACK | URG => {
            Invalid("it ends a connection that is not known")
        }
        _ => Invalid("its TCP flags contradict each other"),
    }
}

fn udp(data: &[u8], summed: bool) -> First {
    let (Some(length), Some(sum)) = (word(data, 4), word(data, 6)) else {
        return Invalid("its UDP header is cut off");
    };
    if usize::from(length) > data.len() || length < 8 {
        return Invalid("its UDP length is wrong");
    }
    if sum != 0 && !summed {
        return BAD_SUM;
    }
    New
}

fn icmpv6(data: &[u8], summed: bool) -> First {
    let (Some(kind), true) = (octet(data, 0), data.len() >= 8) else {
        return Invalid("its ICMPv6 header is cut off");
    };
    if !summed {
        return BAD_SUM;
    }
    match kind {
        // A redirect is not in the kernel's list of what it leaves untracked.
        130..=136 | 143 => Untracked,
        0..=127 => Invalid("it is an error about a flow that is not known"),
        128 | 139 => New,
        129 => Invalid("it answers an echo request that was not seen"),
        _ => Invalid("it can't begin a flow"),
    }
}

fn sctp(data: &[u8], checksums: bool) -> First {
    const INIT: u8 = 1;
    const INIT_ACK: u8 = 2;
    const SACK: u8 = 3;
    const ABORT: u8 = 6;
    const SHUTDOWN: u8 = 7;
    const ERROR: u8 = 9;
    const COOKIE_ECHO: u8 = 10;
    const COOKIE_ACK: u8 = 11;
    const SHUTDOWN_COMPLETE: u8 = 14;
    if data.len() < 12 {
        return Invalid("its SCTP header is cut off");
    }
    if checksums && !crc32c_is_right(data) {
        return BAD_SUM;
    }
    let tag = data.get(4..8).unwrap_or_default() != [0; 4];
    let (mut at, mut count, mut alone) = (12, 0, false);
    while let (Some(kind), Some(length)) = (octet(data, at), word(data, at + 2)) {
        alone |= matches!(kind, INIT | INIT_ACK | SHUTDOWN_COMPLETE);
        let first = alone || matches!(kind, COOKIE_ECHO | COOKIE_ACK);
        if (first && count != 0) || length == 0 {
            return Invalid("its SCTP chunks contradict each other");
        }
        match kind {
            ABORT | SHUTDOWN_COMPLETE | COOKIE_ACK => {
                return Invalid("it is of an association that is not known");
            }
            INIT if data.len() < at + 20 => return Invalid("its SCTP INIT is cut off"),
            INIT | INIT_ACK | SHUTDOWN | ERROR | COOKIE_ECHO if tag => {
                return Invalid("its SCTP verification tag is of no known association");
            }
            INIT..=COOKIE_ECHO if kind != SACK => {}
            _ => return Invalid("it is of an association that is not known"),
        }
        at += (usize::from(length) + 3) & !3;
        count += 1;
    }
    if count == 0 {
        return Invalid("it has no SCTP chunk");
    }
    New
}

/// RFC 8200 §8.1: zero where what is there sums up.
fn checksum(packet: &Packet<'_>, protocol: u8, data: &[u8]) -> u16 {
    let length = u32::try_from(data.len()).unwrap_or(u32::MAX);
    let (source, destination) = (packet.source.octets(), packet.destination.octets());
    let pseudo = [
        &source[..],
        &destination,
        &length.to_be_bytes(),
        &[0, 0, 0, protocol],
    ]
    .concat();
    let pairs = pseudo.chunks(2).chain(data.chunks(2));
    let sum = pairs.fold(0_u32, |sum, pair| {
        let high = u32::from(octet(pair, 0).unwrap_or(0)) << 8;
        let sum = sum + high + u32::from(octet(pair, 1).unwrap_or(0));
        (sum & 0xffff) + (sum >> 16)
    });
    !u16::try_from(sum).unwrap_or(0)
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
