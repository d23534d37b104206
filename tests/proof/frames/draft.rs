//! A datagram before it is octets: right in itself until a mutation says otherwise.

use std::net::Ipv6Addr;

pub(super) const HOP_BY_HOP: u8 = 0;
pub(super) const TCP: u8 = 6;
pub(super) const UDP: u8 = 17;
pub(super) const FRAGMENT: u8 = 44;
pub(super) const ICMP: u8 = 58;
pub(super) const SCTP: u8 = 132;
pub(super) const IPV6: u16 = 0x86dd;

/// How a datagram is cut up.
#[derive(Debug, Clone)]
pub(super) struct Cut {
    /// How many extension headers stay before the fragment header.
    pub before: usize,
    pub id: u32,
    /// The lengths of all pieces but the last, in units of eight octets.
    pub units: Vec<usize>,
    /// Whether the last piece is lost.
    pub lossy: bool,
}

#[derive(Debug, Clone)]
pub(super) struct Draft {
    pub eth_src: [u8; 6],
    pub eth_dst: [u8; 6],
    /// VLAN tags, the outermost first.
    pub tags: Vec<[u8; 4]>,
    pub ether_type: u16,
    pub version: u8,
    pub src: Ipv6Addr,
    pub dst: Ipv6Addr,
    pub hop: u8,
    /// Extension headers: number, and the octets behind the next-header field.
    pub headers: Vec<(u8, Vec<u8>)>,
    pub upper: u8,
    /// The upper layer with a zero for its checksum.
    pub body: Vec<u8>,
    pub wrong_sum: bool,
    /// UDP's "none given".
    pub no_sum: bool,
    /// What is added to the length in the IPv6 header.
    pub length_error: i16,
    /// What is added to the length in the UDP header.
    pub udp_length_error: i16,
    /// Octets behind the packet.
    pub padding: usize,
    pub cut: Option<Cut>,
    /// What follows the `EtherType` of a frame that is not of IPv6.
    pub other: Option<Vec<u8>>,
}

impl Draft {
    pub(super) fn frames(&self) -> Vec<Vec<u8>> {
        if let Some(other) = &self.other {
            return vec![[self.ethernet(), other.clone()].concat()];
        }
        let Some(cut) = &self.cut else {
            let (first, payload) = chain(&self.headers, self.upper, &self.summed());
            return vec![self.packet(first, &payload)];
        };
        let before = cut.before.min(self.headers.len());
        let (outer, inner) = self.headers.split_at(before);
        let (next, data) = chain(inner, self.upper, &self.summed());
        let mut frames = Vec::new();
        let mut offset = 0_usize;
        for units in cut.units.iter().copied().chain([usize::MAX / 8]) {
            let end = data.len().min(offset.saturating_add(units * 8));
            let more = end < data.len();
            let mut rest = vec![0];
            rest.extend((u16::try_from(offset).unwrap() | u16::from(more)).to_be_bytes());
            rest.extend(cut.id.to_be_bytes());
            let headers = [outer, &[(FRAGMENT, rest)]].concat();
            let (first, payload) = chain(&headers, next, &data[offset..end]);
            frames.push(self.packet(first, &payload));
            offset = end;
            if !more {
                break;
            }
        }
        if cut.lossy {
            frames.pop();
        }
        if frames.is_empty() {
            frames.push(self.packet(59, &[]));
        }
        frames
    }

    fn ethernet(&self) -> Vec<u8> {
        let mut frame = self.eth_dst.to_vec();
        frame.extend(self.eth_src);
        frame.extend(self.tags.concat());
        frame.extend(self.ether_type.to_be_bytes());
        frame
    }

    fn packet(&self, first: u8, payload: &[u8]) -> Vec<u8> {
        let mut frame = self.ethernet();
        frame.extend([self.version << 4, 0, 0, 0]);
        let length = u16::try_from(payload.len()).unwrap();
        frame.extend(
            length
                .saturating_add_signed(self.length_error)
                .to_be_bytes(),
        );
        frame.extend([first, self.hop]);
        frame.extend(self.src.octets());
        frame.extend(self.dst.octets());
        frame.extend_from_slice(payload);
        frame.extend(std::iter::repeat_n(0, self.padding));
        frame
    }

    /// The upper layer with its length and checksum.
    fn summed(&self) -> Vec<u8> {
        let mut body = self.body.clone();
        if self.upper == UDP && body.len() >= 6 {
            let length = u16::try_from(body.len()).unwrap();
            let said = length.saturating_add_signed(self.udp_length_error);
            body[4..6].copy_from_slice(&said.to_be_bytes());
        }
        if self.upper == SCTP && body.len() >= 12 {
            let sum = castagnoli(&body) ^ u32::from(self.wrong_sum);
            body[8..12].copy_from_slice(&sum.to_le_bytes());
        }
        let at = match self.upper {
            TCP => 16,
            UDP => 6,
            ICMP => 2,
            _ => return body,
        };
        if body.len() >= at + 2 && !(self.no_sum && self.upper == UDP) {
            let sum = internet(self.src, self.dst, self.upper, &body);
            // Neither zero, which UDP takes for no checksum, nor its other form.
            let sum = if self.wrong_sum { sum ^ 0x5555 } else { sum };
            body[at..at + 2].copy_from_slice(&sum.to_be_bytes());
        }
        body
    }
}

/// Extension headers with what is behind them, and the number of the first of these.
fn chain(headers: &[(u8, Vec<u8>)], last: u8, behind: &[u8]) -> (u8, Vec<u8>) {
    let mut octets = behind.to_vec();
    let mut next = last;
    for (number, rest) in headers.iter().rev() {
        octets = [&[next], &rest[..], &octets].concat();
        next = *number;
    }
    (next, octets)
}

fn internet(src: Ipv6Addr, dst: Ipv6Addr, number: u8, body: &[u8]) -> u16 {
    let length = u32::try_from(body.len()).unwrap().to_be_bytes();
    let parts = [
        &src.octets()[..],
        &dst.octets(),
        &length,
        &[0, 0, 0, number],
        body,
    ];
    let all = parts.concat();
    let word = |pair: &[u8]| u32::from(pair[0]) << 8 | pair.get(1).map_or(0, |low| u32::from(*low));
    let mut sum: u32 = all.chunks(2).map(word).sum();
    while sum >> 16 != 0 {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    let sum = !u16::try_from(sum).unwrap();
    if sum == 0 { 0xffff } else { sum }
}

fn castagnoli(octets: &[u8]) -> u32 {
    let mut sum = !0_u32;
    for octet in octets {
        sum ^= u32::from(*octet);
        for _ in 0..8 {
            sum = sum >> 1 ^ if sum & 1 == 1 { 0x82f6_3b78 } else { 0 };
        }
    }
    !sum
}
