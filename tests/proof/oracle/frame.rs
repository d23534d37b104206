//! Frames taken apart octet by octet: Ethernet, IPv6 (RFC 8200 §3), extension headers (§4),
//! fragments put together (§4.5).

use std::net::Ipv6Addr;

const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
pub(super) const AUTHENTICATION: u8 = 51;
const DESTINATION: u8 = 60;

pub(super) const UDP: u8 = 17;
pub(super) const ICMPV6: u8 = 58;

/// An Ethernet frame.
#[derive(Debug, Clone)]
pub(super) struct Ethernet {
    pub destination: [u8; 6],
    pub source: [u8; 6],
    /// The `EtherType`, or the length of an LLC frame.
    pub kind: u16,
    pub rest: Vec<u8>,
}

/// The frame's header; none in what is shorter than one.
pub(super) fn ethernet(frame: &[u8]) -> Option<Ethernet> {
    if frame.len() < 14 {
        return None;
    }
    Some(Ethernet {
        destination: frame[0..6].try_into().unwrap(),
        source: frame[6..12].try_into().unwrap(),
        kind: u16_at(frame, 12),
        rest: frame[14..].to_vec(),
    })
}

/// An extension header, whole.
#[derive(Debug, Clone)]
pub(super) struct Header {
    pub number: u8,
    pub octets: Vec<u8>,
}

impl Header {
    pub(super) fn is_fragment(&self) -> bool {
        self.number == FRAGMENT
    }

    pub(super) fn is_authentication(&self) -> bool {
        self.number == AUTHENTICATION
    }

    /// A routing header's type and segments left (RFC 8200 §4.4).
    pub(super) fn routing(&self) -> Option<(u8, u8)> {
        (self.number == ROUTING).then(|| (self.octets[2], self.octets[3]))
    }
}

/// Where a walk along the extension headers ended.
#[derive(Debug, Clone)]
pub(super) enum End {
    /// At an upper layer of this number, with what there is of it.
    Upper(u8, Vec<u8>),
    /// At an upper layer of the number `next`, behind a header of the number `cut` that is longer
    /// than what is there.
    Beyond { cut: u8, next: u8 },
    /// Nowhere.
    Broken,
    /// In a fragment that is not the first.
    LaterFragment,
}

/// What a fragment header says, and what it carries.
#[derive(Debug, Clone)]
pub(super) struct Piece {
    pub id: u32,
    pub offset: usize,
    pub more: bool,
    pub next: u8,
    pub data: Vec<u8>,
    /// How many headers come before it.
    pub before: usize,
}

/// An IPv6 packet as it can be looked at: a frame on its own, or fragments joined.
#[derive(Debug, Clone)]
pub(super) struct Look {
    pub ethernet_source: [u8; 6],
    pub ethernet_destination: [u8; 6],
    pub source: Ipv6Addr,
    pub destination: Ipv6Addr,
    pub hop_limit: u8,
    pub headers: Vec<Header>,
    pub end: End,
    /// The outermost fragment header's.
    pub piece: Option<Piece>,
    /// What the IPv6 header says of its length.
    pub length: usize,
    /// How many octets of what is looked at are behind that.
    pub padding: usize,
}

impl Look {
    /// The packet in this frame, as who receives it takes it; none where the IPv6 header lies. What
    /// is behind its length is Ethernet's padding.
    pub(super) fn at(frame: &Ethernet) -> Option<Self> {
        Self::up_to(frame, |end| end)
    }

    /// The same with the padding, which to a guard is like the rest.
    pub(super) fn padded(frame: &Ethernet) -> Option<Self> {
        Self::up_to(frame, |_| frame.rest.len())
    }

    /// Up to what is made of where its length ends.
    fn up_to(frame: &Ethernet, last: impl Fn(usize) -> usize) -> Option<Self> {
        let octets = &frame.rest;
        if octets.len() < 40 || octets[0] >> 4 != 6 {
            return None;
        }
        let end = 40 + usize::from(u16_at(octets, 4));
        if octets.len() < end {
            return None;
        }
        let mut look = Self {
            ethernet_source: frame.source,
            ethernet_destination: frame.destination,
            source: address_at(octets, 8),
            destination: address_at(octets, 24),
            hop_limit: octets[7],
            headers: Vec::new(),
            end: End::Broken,
            piece: None,
            length: end - 40,
            padding: last(end) - end,
        };
        look.walk(octets[6], &octets[40..last(end)]);
        Some(look)
    }

    fn walk(&mut self, mut number: u8, octets: &[u8]) {
        let mut rest = octets;
        loop {
            if !is_extension(number) {
                self.end = End::Upper(number, rest.to_vec());
                return;
            }
            if rest.len() < 2 {
                self.end = End::Broken;
                return;
            }
            let length = length_of(number, rest[1]);
            let next = rest[0];
            if rest.len() < length {
                let hidden = number == FRAGMENT || is_extension(next);
                self.end = if hidden {
                    End::Broken
                } else {
                    End::Beyond { cut: number, next }
                };
                return;
            }
            let header = &rest[..length];
            rest = &rest[length..];
            self.headers.push(Header {
                number,
                octets: header.to_vec(),
            });
            if number == FRAGMENT {
                let piece = Piece {
                    id: u32::from_be_bytes(header[4..8].try_into().unwrap()),
                    offset: usize::from(u16_at(header, 2) & 0xfff8),
                    more: header[3] & 1 == 1,
                    next,
                    data: rest.to_vec(),
                    before: self.headers.len() - 1,
                };
                let later = piece.offset != 0;
                // What is behind AH is not looked for when fragments are joined.
                let behind_ah = self.headers.iter().any(Header::is_authentication);
                if self.piece.is_none() && !behind_ah {
                    self.piece = Some(piece);
                }
                if later {
                    self.end = End::LaterFragment;
                    return;
                }
            }
            number = next;
        }
    }

    pub(super) fn has_fragment_header(&self) -> bool {
        self.headers.iter().any(Header::is_fragment)
    }

    /// Whether this is a fragment of a length that only the last may have (RFC 8200 §4.5).
    pub(super) fn ends_off_8_octets(&self) -> bool {
        self.piece.as_ref().is_some_and(|piece| piece.more) && !self.length.is_multiple_of(8)
    }

    /// Whether this is a first fragment, with more to come.
    pub(super) fn is_beginning(&self) -> bool {
        self.piece
            .as_ref()
            .is_some_and(|piece| piece.offset == 0 && piece.more)
    }

    /// The upper layer, as far as it is there: of what is behind AH, nothing.
    pub(super) fn upper(&self) -> Option<(u8, &[u8])> {
        let cut = matches!(
            self.end,
            End::Beyond {
                cut: AUTHENTICATION,
                ..
            }
        );
        if cut || self.headers.iter().any(Header::is_authentication) {
            return Some((AUTHENTICATION, &[]));
        }
        self.tracked()
    }

    /// The upper layer as conntrack finds it, which looks behind AH.
    pub(super) fn tracked(&self) -> Option<(u8, &[u8])> {
        match &self.end {
            End::Upper(number, octets) => Some((*number, octets)),
            End::Beyond { next, .. } => Some((*next, &[])),
            End::Broken | End::LaterFragment => None,
        }
    }

    /// The octets of an upper layer of this number.
    pub(super) fn octets_of(&self, wanted: u8) -> Option<&[u8]> {
        self.upper()
            .and_then(|(number, octets)| (number == wanted).then_some(octets))
    }

    /// Those of them that are within the packet's length.
    pub(super) fn whole_octets_of(&self, wanted: u8) -> Option<&[u8]> {
        let octets = self.octets_of(wanted)?;
        Some(&octets[..octets.len().saturating_sub(self.padding)])
    }

    /// The type of an `ICMPv6` message.
    pub(super) fn icmp_type(&self) -> Option<u8> {
        self.octets_of(ICMPV6)?.first().copied()
    }

    /// The code of an `ICMPv6` message.
    pub(super) fn icmp_code(&self) -> Option<u8> {
        self.octets_of(ICMPV6)?.get(1).copied()
    }

    /// Source and destination port of this upper layer.
    pub(super) fn ports(&self, number: u8) -> Option<(u16, u16)> {
        let octets = self.octets_of(number)?;
        (octets.len() >= 4).then(|| (u16_at(octets, 0), u16_at(octets, 2)))
    }
}

/// What goes on of these: one packet without a fragment header, or every fragment of one, joined, or
/// a first one that no other is joined with. Fragments that overlap make nothing (RFC 5722).
pub(super) fn join(looks: &[Look]) -> Option<Look> {
    if let [only] = looks
        && only.piece.is_none()
    {
        return Some(only.clone());
    }
    let alone = |look: &&Look| look.is_beginning() && is_truncated(look);
    if let Some(alone) = looks.iter().find(alone) {
        return Some(alone.clone());
    }
    let mut parts = Vec::new();
    for look in looks {
        parts.push((look, look.piece.as_ref()?));
    }
    let (of, same) = *parts.first()?;
    let one_datagram = parts.iter().all(|(look, piece)| {
        piece.id == same.id && look.source == of.source && look.destination == of.destination
    });
    if !one_datagram {
        return None;
    }
    parts.sort_by_key(|(_, piece)| piece.offset);
    let mut data = Vec::new();
    for (_, piece) in &parts {
        if piece.offset != data.len() {
            return None;
        }
        data.extend_from_slice(&piece.data);
    }
    let ends = |piece: &&Piece| !piece.more;
    let lasts = parts.iter().map(|(_, piece)| *piece).filter(ends).count();
    let (_, last) = parts.last()?;
    if lasts != 1 || last.more || data.len() > 0xffff {
        return None;
    }
    let (first, piece) = parts.first()?;
    let mut whole = (*first).clone();
    whole.headers.truncate(piece.before + 1);
    whole.walk(piece.next, &data);
    whole.piece = Some(Piece {
        more: false,
        ..(*piece).clone()
    });
    Some(whole)
}

/// Whether a first fragment lacks some of its upper-layer header: Linux joins no others with it.
fn is_truncated(first: &Look) -> bool {
    match &first.end {
        End::Upper(6, octets) => octets.len() < 20,
        End::Upper(UDP | ICMPV6, octets) => octets.len() < 8,
        End::Upper(_, octets) => octets.is_empty(),
        End::Beyond { .. } => true,
        End::Broken | End::LaterFragment => false,
    }
}

fn is_extension(number: u8) -> bool {
    matches!(
        number,
        HOP_BY_HOP | ROUTING | FRAGMENT | AUTHENTICATION | DESTINATION
    )
}

/// How long an extension header is, from its second octet (RFC 8200 §4, RFC 4302 §2.2).
fn length_of(number: u8, second: u8) -> usize {
    match number {
        FRAGMENT => 8,
        AUTHENTICATION => 4 * (usize::from(second) + 2),
        _ => 8 * (usize::from(second) + 1),
    }
}

pub(super) fn u16_at(octets: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([octets[at], octets[at + 1]])
}

pub(super) fn address_at(octets: &[u8], at: usize) -> Ipv6Addr {
    let sixteen: [u8; 16] = octets[at..at + 16].try_into().unwrap();
    sixteen.into()
}
