//! Fragments: cutting a packet up, and joining what arrived.

use super::packet::{DEST_OPTIONS, FRAGMENT, Frames, HOP_BY_HOP, Packet, ROUTING};

/// How a packet is cut.
pub(crate) struct Cut<'a> {
    /// How many of its extension headers stay before the fragment header.
    pub before: usize,
    pub id: u32,
    /// The lengths of all pieces but the last, multiples of 8.
    pub lengths: &'a [usize],
}

impl Packet {
    /// Fragments of these lengths, all extension headers inside the fragmented part.
    pub(crate) fn cut(&self, id: u32, lengths: &[usize]) -> Frames {
        self.cut_as(&Cut {
            before: 0,
            id,
            lengths,
        })
    }

    pub(crate) fn cut_as(&self, cut: &Cut<'_>) -> Frames {
        let (kind, payload) = self.chain(cut.before);
        let mut frames = Vec::new();
        let mut offset = 0_usize;
        for length in cut.lengths.iter().copied().chain([usize::MAX]) {
            let end = payload.len().min(offset.saturating_add(length));
            let more = end < payload.len();
            frames.push(self.piece(cut, (kind, offset, more), &payload[offset..end]));
            offset = end;
            if !more {
                break;
            }
        }
        Frames {
            port: self.port,
            frames,
        }
    }

    /// One fragment: `kind` is the next header, `offset` in octets, `more` the M flag.
    pub(crate) fn piece(
        &self,
        cut: &Cut<'_>,
        (kind, offset, more): (u8, usize, bool),
        data: &[u8],
    ) -> Vec<u8> {
        let field = u16::try_from(offset).unwrap() | u16::from(more);
        let mut rest = vec![0];
        rest.extend(field.to_be_bytes());
        rest.extend(cut.id.to_be_bytes());
        let mut outer = self.clone();
        outer.headers.truncate(cut.before);
        outer.header(FRAGMENT, &rest).upper(kind, data).raw_frame()
    }

    /// The frame without any checksum being filled in: the body is a piece of something.
    fn raw_frame(&self) -> Vec<u8> {
        let (first, mut payload) = Self {
            body: Vec::new(),
            ..self.clone()
        }
        .chain(0);
        payload.extend_from_slice(&self.body);
        self.ethernet(first, &payload)
    }
}

/// A datagram put together again: its upper layer. Extension headers are left out, because a
/// kernel that joins fragments and cuts them again puts destination options into every one
/// (`ip6_find_1stfragopt`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Datagram {
    /// MACs and IPv6 addresses.
    pub addresses: Vec<u8>,
    pub kind: u8,
    pub payload: Vec<u8>,
}

/// What the frames make: whole packets as they are, fragments joined, incomplete ones left out.
pub(crate) fn join(frames: &[Vec<u8>]) -> Vec<Datagram> {
    let mut whole = Vec::new();
    let mut parts: Vec<(u32, Datagram, Vec<Piece>)> = Vec::new();
    for frame in frames
        .iter()
        .filter(|frame| frame.len() >= 54 && frame[12..14] == [0x86, 0xdd])
    {
        let addresses = [&frame[..12], &frame[22..54]].concat();
        let Some((kind, at)) = fragment_header(frame) else {
            whole.push(upper(Datagram {
                addresses,
                kind: frame[20],
                payload: frame[54..].to_vec(),
            }));
            continue;
        };
        let field = u16::from_be_bytes([frame[at + 2], frame[at + 3]]);
        let id = u32::from_be_bytes([frame[at + 4], frame[at + 5], frame[at + 6], frame[at + 7]]);
        let piece = Piece {
            offset: usize::from(field & 0xfff8),
            more: field & 1 == 1,
            data: frame[at + 8..].to_vec(),
        };
        match parts
            .iter_mut()
            .find(|(old, whole, _)| *old == id && whole.addresses == addresses)
        {
            Some((_, _, pieces)) => pieces.push(piece),
            None => {
                parts.push((
                    id,
                    Datagram {
                        addresses,
                        kind,
                        payload: Vec::new(),
                    },
                    vec![piece],
                ));
            }
        }
    }
    for (_, mut datagram, mut pieces) in parts {
        pieces.sort_by_key(|piece| piece.offset);
        if complete(&pieces) {
            datagram.payload = pieces.into_iter().flat_map(|piece| piece.data).collect();
            whole.push(upper(datagram));
        }
    }
    whole
}

struct Piece {
    offset: usize,
    more: bool,
    data: Vec<u8>,
}

fn complete(pieces: &[Piece]) -> bool {
    let mut next = 0;
    for piece in pieces {
        if piece.offset != next {
            return false;
        }
        next += piece.data.len();
    }
    pieces.last().is_some_and(|last| !last.more)
}

/// Leaves out options and routing headers.
fn upper(mut datagram: Datagram) -> Datagram {
    while let (HOP_BY_HOP | DEST_OPTIONS | ROUTING, [next, length, ..]) =
        (datagram.kind, &datagram.payload[..])
    {
        let end = 8 + 8 * usize::from(*length);
        datagram.kind = *next;
        datagram.payload = datagram.payload.get(end..).unwrap_or_default().to_vec();
    }
    datagram
}

/// Where the fragment header is, behind options and routing headers only, and what follows it.
fn fragment_header(frame: &[u8]) -> Option<(u8, usize)> {
    let (mut kind, mut at) = (frame[20], 54);
    loop {
        let next = *frame.get(at)?;
        match kind {
            FRAGMENT if frame.len() >= at + 8 => return Some((next, at)),
            HOP_BY_HOP | DEST_OPTIONS | ROUTING => {
                let length = usize::from(*frame.get(at + 1)?);
                (kind, at) = (next, at + 8 + 8 * length);
            }
            _ => return None,
        }
    }
}
