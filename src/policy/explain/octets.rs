//! Frames and packets as octets, read the way the kernel reads them: headers by what is in
//! the frame, and not by what a length field claims (`ipv6_find_hdr`, `net/ipv6/exthdrs_core.c`).

use std::net::Ipv6Addr;

pub(super) const HOP_BY_HOP: u8 = 0;
pub(super) const ROUTING: u8 = 43;
pub(super) const FRAGMENT: u8 = 44;
pub(super) const AUTHENTICATION: u8 = 51;
pub(super) const NO_NEXT: u8 = 59;
pub(super) const DESTINATION: u8 = 60;

pub(super) const IPV6: u16 = 0x86dd;

const IPV6_HEADER: usize = 40;

pub(super) fn octet(octets: &[u8], at: usize) -> Option<u8> {
    octets.get(at).copied()
}

pub(super) fn word(octets: &[u8], at: usize) -> Option<u16> {
    let two = octets.get(at..)?.first_chunk()?;
    Some(u16::from_be_bytes(*two))
}

pub(super) fn address(octets: &[u8], at: usize) -> Option<Ipv6Addr> {
    let all = octets.get(at..)?.first_chunk::<16>()?;
    Some(Ipv6Addr::from(*all))
}

pub(super) fn link_layer(octets: &[u8], at: usize) -> Option<[u8; 6]> {
    octets.get(at..)?.first_chunk().copied()
}

/// An Ethernet frame, as a port carries it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Frame<'a> {
    pub(super) destination: [u8; 6],
    pub(super) source: [u8; 6],
    /// A tag's, where there is one.
    pub(super) ether_type: u16,
    pub(super) payload: &'a [u8],
}

impl<'a> Frame<'a> {
    /// Nothing where it is shorter than its header.
    pub(super) fn of(octets: &'a [u8]) -> Option<Self> {
        Some(Self {
            destination: link_layer(octets, 0)?,
            source: link_layer(octets, 6)?,
            ether_type: word(octets, 12)?,
            payload: octets.get(14..)?,
        })
    }

    /// Without its outer tag, if it has one: as it is to a bridge.
    pub(super) fn untagged(self) -> Self {
        let inner = word(self.payload, 2).zip(self.payload.get(4..));
        match (self.ether_type, inner) {
            (0x8100 | 0x88a8, Some((ether_type, payload))) => Self {
                ether_type,
                payload,
                ..self
            },
            _ => self,
        }
    }
}

/// An extension header.
#[derive(Debug, Clone, Copy)]
pub(super) struct Header {
    pub(super) kind: u8,
    pub(super) at: usize,
    pub(super) next: u8,
}

/// What a fragment header says.
#[derive(Debug, Clone, Copy)]
pub(super) struct Fragment {
    /// Where its header is.
    pub(super) at: usize,
    pub(super) next: u8,
    /// In octets.
    pub(super) offset: usize,
    pub(super) more: bool,
    pub(super) id: u32,
}

/// What is behind the extension headers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Upper {
    pub(super) protocol: u8,
    pub(super) at: usize,
}

/// An IPv6 packet, to the end of its frame.
#[derive(Debug, Clone)]
pub(super) struct Packet<'a> {
    pub(super) octets: &'a [u8],
    pub(super) source: Ipv6Addr,
    pub(super) destination: Ipv6Addr,
    pub(super) next: u8,
    pub(super) hop_limit: u8,
    /// Of what is behind the IPv6 header, as that says it.
    pub(super) length: u16,
    pub(super) headers: Vec<Header>,
    pub(super) fragment: Option<Fragment>,
    /// Nothing: the headers can't be followed to their end.
    pub(super) upper: Option<Upper>,
}

impl<'a> Packet<'a> {
    /// Says what is wrong with an IPv6 header that is none.
    pub(super) fn of(octets: &'a [u8]) -> Result<Self, &'static str> {
        let packet = Self::cut_off(octets)?;
        if octets.len() < IPV6_HEADER + usize::from(packet.length) {
            return Err("the IPv6 header claims more octets than there are");
        }
        Ok(packet)
    }

    /// The same of a packet that is not all there.
    pub(super) fn cut_off(octets: &'a [u8]) -> Result<Self, &'static str> {
        let short = "the IPv6 header is cut off";
        let version = octet(octets, 0).ok_or(short)? >> 4;
        if octets.len() < IPV6_HEADER {
            return Err(short);
        }
        if version != 6 {
            return Err("the version in the IPv6 header is not 6");
        }
        let mut packet = Self {
            octets,
            source: address(octets, 8).ok_or(short)?,
            destination: address(octets, 24).ok_or(short)?,
            next: octet(octets, 6).ok_or(short)?,
            hop_limit: octet(octets, 7).ok_or(short)?,
            length: word(octets, 4).ok_or(short)?,
            headers: Vec::new(),
            fragment: None,
            upper: None,
        };
        packet.upper = packet.walk(Some(AUTHENTICATION));
        Ok(packet)
    }

    /// Without the octets behind its length: a frame's padding.
    pub(super) fn trimmed(octets: &[u8]) -> &[u8] {
        let end = word(octets, 4).map_or(0, |length| IPV6_HEADER + usize::from(length));
        octets.get(..end).unwrap_or(octets)
    }

    /// The same as connection tracking reads it, which looks behind AH
    /// (`ipv6_skip_exthdr`).
    pub(super) fn tracked(&self) -> Self {
        let mut packet = Self {
            headers: Vec::new(),
            fragment: None,
            ..self.clone()
        };
        packet.upper = packet.walk(None);
        packet
    }

    /// Follows the headers up to one that is none, or of this kind.
    fn walk(&mut self, last: Option<u8>) -> Option<Upper> {
        let (mut kind, mut at) = (self.next, IPV6_HEADER);
        loop {
            if !is_extension(kind) || kind == NO_NEXT || Some(kind) == last {
                return Some(Upper { protocol: kind, at });
            }
            let next = octet(self.octets, at)?;
            let units = usize::from(octet(self.octets, at + 1)?);
            self.headers.push(Header { kind, at, next });
            if kind == FRAGMENT {
                let field = word(self.octets, at + 2)?;
                let id = self.octets.get(at + 4..).and_then(<[u8]>::first_chunk);
                let fragment = Fragment {
                    at,
                    next,
                    offset: usize::from(field & 0xfff8),
                    more: field & 1 == 1,
                    id: id.map_or(0, |id| u32::from_be_bytes(*id)),
                };
                self.fragment.get_or_insert(fragment);
                if fragment.offset != 0 {
                    return None;
                }
                at += 8;
            } else if kind == AUTHENTICATION {
                at += 4 * (units + 2);
            } else {
                at += 8 + 8 * units;
            }
            kind = next;
        }
    }

    /// The first header of a kind.
    pub(super) fn header(&self, kind: u8) -> Option<Header> {
        self.headers.iter().find(|h| h.kind == kind).copied()
    }

    /// Whether it is a fragment, and not the first.
    pub(super) fn is_later_fragment(&self) -> bool {
        self.fragment.is_some_and(|fragment| fragment.offset != 0)
    }

    /// Whether it is a fragment with a length that only the last may have: the headers before
    /// it are multiples of 8 octets.
    pub(super) fn ends_off_8_octets(&self) -> bool {
        self.fragment.is_some_and(|fragment| fragment.more) && !self.length.is_multiple_of(8)
    }

    /// Where the upper layer begins, where it is this one.
    pub(super) fn upper(&self, protocol: u8) -> Option<&'a [u8]> {
        let upper = self.upper.filter(|upper| upper.protocol == protocol)?;
        self.octets.get(upper.at..)
    }
}

/// What the kernel walks over (`ipv6_ext_hdr`).
fn is_extension(kind: u8) -> bool {
    matches!(
        kind,
        HOP_BY_HOP | ROUTING | FRAGMENT | AUTHENTICATION | NO_NEXT | DESTINATION
    )
}
