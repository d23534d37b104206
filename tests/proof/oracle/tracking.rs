//! What Linux' connection tracking says of a packet: facts of `net/netfilter/nf_conntrack_core.c`
//! and `nf_conntrack_proto_*.c`, for `nf_conntrack_checksum=1` and `nf_conntrack_tcp_loose=1`,
//! the kernel's defaults.
//!
//! Not modelled: windows and states of a TCP or SCTP flow that is known (such a packet is
//! established when it is sound in itself), UDP-Lite and DCCP (taken for any other protocol).

use super::FlowState;
use super::frame::{End, ICMPV6, Look, UDP, u16_at};

const ICMPV4: u8 = 1;
const TCP: u8 = 6;
const GRE: u8 = 47;
const NONE: u8 = 59;
const SCTP: u8 = 132;

/// What a packet is of which no flow is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum First {
    New,
    Invalid,
    Untracked,
}

/// The state that the rules of S1 ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    New,
    Established,
    Related,
    Invalid,
    Untracked,
}

/// The state of a whole packet. A broken one belongs to no flow, whatever is known.
pub(super) fn state(packet: &Look, flow: FlowState) -> State {
    // Multicast router discovery, behind AH too: kernels differ.
    if matches!(packet.tracked(), Some((ICMPV6, [151..=153, ..]))) {
        return State::Untracked;
    }
    if !sound(packet) {
        return State::Invalid;
    }
    match (first(packet), flow) {
        (First::Untracked, _) => State::Untracked,
        (_, FlowState::Established) => State::Established,
        (_, FlowState::Related) => State::Related,
        (First::New, FlowState::None) => State::New,
        (First::Invalid, FlowState::None) => State::Invalid,
    }
}

/// What a packet begins.
pub(super) fn first(packet: &Look) -> First {
    let Some((number, octets)) = packet.tracked() else {
        return First::Invalid;
    };
    if !sound(packet) {
        return First::Invalid;
    }
    let begins = match number {
        TCP => begins_tcp(octets),
        SCTP => begins_sctp(octets),
        ICMPV6 => return icmpv6(octets),
        _ => true,
    };
    if begins { First::New } else { First::Invalid }
}

/// Whether a packet is what its protocol says, by itself.
fn sound(packet: &Look) -> bool {
    match &packet.end {
        End::Broken | End::LaterFragment => false,
        End::Upper(..) | End::Beyond { .. } => match packet.tracked() {
            // ipv6_skip_exthdr finds nothing; icmp over IPv6 is nobody's.
            None | Some((NONE | ICMPV4, _)) => false,
            Some((TCP, octets)) => sound_tcp(packet, octets),
            Some((UDP, octets)) => sound_udp(packet, octets),
            Some((ICMPV6, octets)) => octets.len() >= 8 && sums_up(packet, ICMPV6, octets),
            Some((SCTP, octets)) => sound_sctp(octets),
            Some((GRE, octets)) => sound_gre(octets),
            Some(_) => true,
        },
    }
}

/// `tcp_error`.
fn sound_tcp(packet: &Look, octets: &[u8]) -> bool {
    if octets.len() < 20 {
        return false;
    }
    let header = 4 * usize::from(octets[12] >> 4);
    header >= 20 && header <= octets.len() && sums_up(packet, TCP, octets) && known_flags(octets)
}

const FIN: u8 = 0x01;
const SYN: u8 = 0x02;
const RST: u8 = 0x04;
const ACK: u8 = 0x10;
const URG: u8 = 0x20;

/// The flags without PSH, ECE and CWR.
fn flags(octets: &[u8]) -> u8 {
    octets[13] & (FIN | SYN | RST | ACK | URG)
}

fn known_flags(octets: &[u8]) -> bool {
    let known = [
        SYN,
        SYN | URG,
        SYN | ACK,
        RST,
        RST | ACK,
        FIN | ACK,
        FIN | ACK | URG,
        ACK,
        ACK | URG,
    ];
    known.contains(&flags(octets))
}

/// `tcp_new`: a SYN, or a segment out of the middle.
fn begins_tcp(octets: &[u8]) -> bool {
    let flags = flags(octets);
    let (fin, syn, rst, ack) = (flags & FIN, flags & SYN, flags & RST, flags & ACK);
    if rst != 0 || (fin != 0 && syn == 0) {
        return false;
    }
    if syn != 0 { ack == 0 } else { ack != 0 }
}

/// `udp_error`. Its sum is taken over all that is there, whatever UDP's own length says.
fn sound_udp(packet: &Look, octets: &[u8]) -> bool {
    if octets.len() < 8 {
        return false;
    }
    let length = usize::from(u16_at(octets, 4));
    if length < 8 || length > octets.len() {
        return false;
    }
    u16_at(octets, 6) == 0 || sums_up(packet, UDP, octets)
}

/// `nf_conntrack_icmpv6_error` and `nf_conntrack_icmpv6_packet`: 137 is not among what is left
/// untracked.
fn icmpv6(octets: &[u8]) -> First {
    match octets[0] {
        130..=136 | 143 => First::Untracked,
        128 | 139 => First::New,
        _ => First::Invalid,
    }
}

/// `gre_pkt_to_tuple`: of version 1 only what carries PPP is known.
fn sound_gre(octets: &[u8]) -> bool {
    octets.len() < 8 || octets[1] & 7 != 1 || u16_at(octets, 2) == 0x880b
}

/// The Internet checksum with the pseudo-header of RFC 8200 §8.1, as `nf_ip6_checksum` takes it:
/// with the destination of the IPv6 header even where a routing header follows.
fn sums_up(packet: &Look, number: u8, octets: &[u8]) -> bool {
    let mut all = packet.source.octets().to_vec();
    all.extend(packet.destination.octets());
    all.extend(u32::try_from(octets.len()).unwrap().to_be_bytes());
    all.extend([0, 0, 0, number]);
    all.extend_from_slice(octets);
    if all.len() % 2 == 1 {
        all.push(0);
    }
    let mut sum: u64 = 0;
    for at in (0..all.len()).step_by(2) {
        sum += u64::from(u16_at(&all, at));
    }
    while sum > 0xffff {
        sum = (sum >> 16) + (sum & 0xffff);
    }
    sum == 0xffff
}

const INIT: u8 = 1;
const INIT_ACK: u8 = 2;
const HEARTBEAT: u8 = 4;
const HEARTBEAT_ACK: u8 = 5;
const ABORT: u8 = 6;
const SHUTDOWN: u8 = 7;
const SHUTDOWN_ACK: u8 = 8;
const ERROR: u8 = 9;
const COOKIE_ECHO: u8 = 10;
const COOKIE_ACK: u8 = 11;
const SHUTDOWN_COMPLETE: u8 = 14;

/// The types of an SCTP packet's chunks with the octets behind each one's header; none where a
/// chunk says that it is of no length.
fn chunks(octets: &[u8]) -> Option<Vec<(u8, usize)>> {
    let mut found = Vec::new();
    let mut at = 12;
    while at + 4 <= octets.len() {
        let length = usize::from(u16_at(octets, at + 2));
        if length == 0 {
            return None;
        }
        found.push((octets[at], octets.len() - at - 4));
        at += length.div_ceil(4) * 4;
    }
    Some(found)
}

/// `sctp_error` and `do_basic_checks`.
fn sound_sctp(octets: &[u8]) -> bool {
    if octets.len() < 12 || !castagnoli(octets) {
        return false;
    }
    let Some(chunks) = chunks(octets) else {
        return false;
    };
    let alone = |kind| matches!(kind, INIT | INIT_ACK | SHUTDOWN_COMPLETE);
    let leading = |kind| matches!(kind, COOKIE_ACK | COOKIE_ECHO);
    let mut seen_alone = false;
    for (count, (kind, behind)) in chunks.iter().enumerate() {
        seen_alone |= alone(*kind);
        if count != 0 && (seen_alone || leading(*kind)) {
            return false;
        }
        if *kind == INIT && *behind < 16 {
            return false;
        }
    }
    !chunks.is_empty()
}

/// `sctp_new` and the checks of the verification tag that follow it.
fn begins_sctp(octets: &[u8]) -> bool {
    let untagged = octets[4..8] == [0; 4];
    let chunks = chunks(octets).unwrap_or_default();
    let has = |wanted| chunks.iter().any(|(kind, _)| *kind == wanted);
    if has(ABORT) || has(SHUTDOWN_COMPLETE) || has(COOKIE_ACK) {
        return false;
    }
    let each = chunks.iter().all(|(kind, _)| match *kind {
        INIT | COOKIE_ECHO => untagged,
        INIT_ACK | HEARTBEAT | HEARTBEAT_ACK | SHUTDOWN | SHUTDOWN_ACK | ERROR => true,
        // Data and all else begins nothing.
        _ => false,
    });
    let free = [INIT, COOKIE_ECHO, SHUTDOWN_ACK, HEARTBEAT, HEARTBEAT_ACK];
    each && (untagged || free.into_iter().any(has))
}

/// SCTP's checksum (RFC 9260 §6.8), bit by bit.
fn castagnoli(octets: &[u8]) -> bool {
    let mut sum = !0_u32;
    for (at, octet) in octets.iter().enumerate() {
        let octet = if (8..12).contains(&at) { 0 } else { *octet };
        sum ^= u32::from(octet);
        for _ in 0..8 {
            let low = sum & 1;
            sum >>= 1;
            if low == 1 {
                sum ^= 0x82f6_3b78;
            }
        }
    }
    (!sum).to_le_bytes() == octets[8..12]
}
