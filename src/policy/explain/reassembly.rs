//! One packet of the fragments that are there, as defragmentation makes it
//! (`nf_ct_frag6_gather`, `net/ipv6/netfilter/nf_conntrack_reasm.c`).

use super::octets::{Fragment, Packet};
use crate::ruleset::{ICMPV6, TCP, UDP};

/// What became of fragments.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Joined {
    /// One packet, without fragment headers and without padding.
    Whole(Vec<u8>),
    /// The first, which goes on by itself: it does not show what it is of, and no other is joined
    /// with it (`ipv6frag_thdr_truncated`, since Linux 5.11).
    Alone(Vec<u8>),
    /// Not all are there: nothing goes on.
    Missing,
    /// They don't fit together, and are thrown away.
    Contradictory(&'static str),
}

/// The most that a packet can have behind its IPv6 header.
const MOST: usize = 65_535;

/// Joins packets (IPv6 header first) that are one, or one that is whole already.
pub(super) fn join(packets: &[&[u8]]) -> Joined {
    let trimmed: Vec<_> = packets.iter().map(|p| Packet::trimmed(p)).collect();
    let pieces: Vec<_> = trimmed.iter().map(|octets| Packet::of(octets)).collect();
    if let Some(first) = pieces.iter().flatten().find(|piece| is_truncated(piece)) {
        return Joined::Alone(first.octets.to_vec());
    }
    let mut parts = Vec::new();
    for piece in pieces {
        let Ok(packet) = piece else {
            return Joined::Contradictory("a piece has no IPv6 header");
        };
        match packet.fragment {
            Some(fragment) => parts.push((fragment, packet)),
            None if trimmed.len() == 1 => return Joined::Whole(packet.octets.to_vec()),
            None => return Joined::Contradictory("a piece has no fragment header"),
        }
    }
    let Some((first, _)) = parts.first() else {
        return Joined::Missing;
    };
    let id = first.id;
    let (mut head, mut pieces, mut end) = (None, Vec::new(), None);
    for (fragment, packet) in &parts {
        if fragment.id != id {
            return Joined::Missing;
        }
        let Some(data) = packet.octets.get(fragment.at + 8..) else {
            return Joined::Contradictory("a fragment header is cut off");
        };
        let after = fragment.offset + data.len();
        if after > MOST {
            return Joined::Contradictory("the fragments are too long for a packet");
        }
        if fragment.more && data.len() % 8 != 0 {
            return Joined::Contradictory("a fragment that is not the last ends off 8 octets");
        }
        if !fragment.more && end.is_some_and(|end| end != after) {
            return Joined::Contradictory("two last fragments end in different places");
        }
        if !fragment.more {
            end = Some(after);
        }
        if fragment.offset == 0 && head.is_none() {
            head = Some((fragment, packet));
        }
        pieces.push((fragment.offset, after, data));
    }
    pieces.sort_unstable_by_key(|(offset, after, _)| (*offset, *after));
    pieces.dedup_by_key(|(offset, after, _)| (*offset, *after));
    let at = match without_gap(&pieces) {
        Ok(at) => at,
        Err(joined) => return joined,
    };
    match (head, end) {
        (Some((fragment, packet)), Some(end)) if end == at => whole(fragment, packet, &pieces),
        (Some(_), Some(_)) => Joined::Contradictory("a fragment goes on behind the last"),
        _ => Joined::Missing,
    }
}

/// Where pieces end that follow each other.
fn without_gap(pieces: &[(usize, usize, &[u8])]) -> Result<usize, Joined> {
    let mut at = 0;
    for (offset, after, _) in pieces {
        if *offset < at {
            return Err(Joined::Contradictory("the fragments overlap (RFC 5722)"));
        }
        if *offset > at {
            return Err(Joined::Missing);
        }
        at = *after;
    }
    Ok(at)
}

/// Whether this is a first fragment, more to come, that does not show what it is of.
fn is_truncated(packet: &Packet<'_>) -> bool {
    if packet
        .fragment
        .is_none_or(|fragment| fragment.offset != 0 || !fragment.more)
    {
        return false;
    }
    let least = |protocol| match protocol {
        TCP => 20,
        UDP | ICMPV6 => 8,
        _ => 1,
    };
    let upper = packet.tracked().upper;
    upper.is_some_and(|upper| packet.octets.len() < upper.at + least(upper.protocol))
}

fn whole(fragment: &Fragment, head: &Packet<'_>, pieces: &[(usize, usize, &[u8])]) -> Joined {
    let mut octets = head.octets.get(..fragment.at).unwrap_or_default().to_vec();
    // What named the fragment header names what it named.
    let before = head.headers.iter().rev().find(|h| h.at < fragment.at);
    let names = before.map_or(6, |header| header.at);
    if let Some(octet) = octets.get_mut(names) {
        *octet = fragment.next;
    }
    octets.extend(pieces.iter().flat_map(|(_, _, data)| data.iter()));
    let Ok(length) = u16::try_from(octets.len() - 40) else {
        return Joined::Contradictory("the fragments are too long for a packet");
    };
    if let Some(field) = octets.get_mut(4..6) {
        field.copy_from_slice(&length.to_be_bytes());
    }
    Joined::Whole(octets)
}
