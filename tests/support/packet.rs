//! Frames from Ethernet to the upper layer, right by default, wrong where a test says so.

use std::net::Ipv6Addr;

use super::who::{Mac, mac_of};

pub(crate) const HOP_BY_HOP: u8 = 0;
pub(crate) const TCP: u8 = 6;
pub(crate) const UDP: u8 = 17;
pub(crate) const ROUTING: u8 = 43;
pub(crate) const FRAGMENT: u8 = 44;
pub(crate) const ESP: u8 = 50;
pub(crate) const AH: u8 = 51;
pub(crate) const ICMP: u8 = 58;
pub(crate) const DEST_OPTIONS: u8 = 60;
pub(crate) const SCTP: u8 = 132;

pub(crate) const SYN: u8 = 2;
pub(crate) const RST: u8 = 4;
pub(crate) const ACK: u8 = 16;

/// What goes over a port: where it enters, and its frames in order.
pub(crate) trait Wire {
    fn port(&self) -> &str;
    fn frames(&self) -> Vec<Vec<u8>>;
}

/// Frames without a builder: fragments, or octets a test made itself.
#[derive(Clone, Debug)]
pub(crate) struct Frames {
    pub port: &'static str,
    pub frames: Vec<Vec<u8>>,
}

impl Wire for Frames {
    fn port(&self) -> &str {
        self.port
    }
    fn frames(&self) -> Vec<Vec<u8>> {
        self.frames.clone()
    }
}

/// One IPv6 packet in a frame.
#[derive(Clone, Debug)]
pub(crate) struct Packet {
    pub port: &'static str,
    pub eth_src: Mac,
    pub eth_dst: Mac,
    /// What stands between the MACs and the payload: tags and the `EtherType`.
    pub ether_type: Vec<u8>,
    pub src: Ipv6Addr,
    pub dst: Ipv6Addr,
    pub hop: u8,
    /// Extension headers: their type, and their octets after the next-header field.
    pub headers: Vec<(u8, Vec<u8>)>,
    pub upper: u8,
    pub body: Vec<u8>,
    /// What the IPv6 header says of its length, when it lies.
    pub length: Option<u16>,
}

impl Wire for Packet {
    fn port(&self) -> &str {
        self.port
    }
    fn frames(&self) -> Vec<Vec<u8>> {
        vec![self.frame()]
    }
}

impl Packet {
    pub(crate) fn new(port: &'static str, mac: Mac, src: Ipv6Addr, dst: Ipv6Addr) -> Self {
        Self {
            port,
            eth_src: mac,
            eth_dst: mac_of(dst),
            ether_type: vec![0x86, 0xdd],
            src,
            dst,
            hop: 64,
            headers: Vec::new(),
            upper: 59,
            body: Vec::new(),
            length: None,
        }
    }

    // ---- Ethernet

    pub(crate) fn eth_src(mut self, mac: Mac) -> Self {
        self.eth_src = mac;
        self
    }

    pub(crate) fn eth_dst(mut self, mac: Mac) -> Self {
        self.eth_dst = mac;
        self
    }

    /// Puts a tag (its `EtherType` and its tag control information) before what is there.
    pub(crate) fn tagged(mut self, ether_type: u16, control: u16) -> Self {
        let mut tag = ether_type.to_be_bytes().to_vec();
        tag.extend(control.to_be_bytes());
        tag.append(&mut self.ether_type);
        self.ether_type = tag;
        self
    }

    /// Replaces the `EtherType` by these octets.
    pub(crate) fn ether_type(mut self, octets: &[u8]) -> Self {
        self.ether_type = octets.to_vec();
        self
    }

    // ---- IPv6

    pub(crate) fn src(mut self, src: Ipv6Addr) -> Self {
        self.src = src;
        self
    }

    /// Another destination, the frame still going to the same MAC.
    pub(crate) fn dst(mut self, dst: Ipv6Addr) -> Self {
        self.dst = dst;
        self
    }

    pub(crate) fn hop(mut self, hop: u8) -> Self {
        self.hop = hop;
        self
    }

    pub(crate) fn length(mut self, length: u16) -> Self {
        self.length = Some(length);
        self
    }

    /// Appends an extension header; `rest` is what follows its next-header field.
    pub(crate) fn header(mut self, kind: u8, rest: &[u8]) -> Self {
        self.headers.push((kind, rest.to_vec()));
        self
    }

    /// Appends an options header (hop-by-hop or destination) with one `PadN`.
    pub(crate) fn padded(self, kind: u8) -> Self {
        self.header(kind, &[0, 1, 4, 0, 0, 0, 0])
    }

    /// Appends a routing header with one address (RFC 8200 §4.4).
    pub(crate) fn routing(self, kind: u8, segments_left: u8) -> Self {
        let mut rest = vec![2, kind, segments_left, 0, 0, 0, 0];
        rest.extend(super::who::OTHER.octets());
        self.header(ROUTING, &rest)
    }

    /// Appends a fragment header that fragments nothing (RFC 6946).
    pub(crate) fn atomic(self) -> Self {
        self.header(FRAGMENT, &[0, 0, 0, 0xa7, 0, 0, 1])
    }

    // ---- upper layers

    pub(crate) fn upper(mut self, protocol: u8, body: &[u8]) -> Self {
        self.upper = protocol;
        self.body = body.to_vec();
        self
    }

    /// ICMPv6 without its checksum, which is made when the frame is.
    pub(crate) fn icmp(self, kind: u8, code: u8, rest: &[u8]) -> Self {
        let mut body = vec![kind, code, 0, 0];
        body.extend_from_slice(rest);
        self.upper(ICMP, &body)
    }

    /// Another code in the ICMPv6 header that is there.
    pub(crate) fn code(mut self, code: u8) -> Self {
        self.body[1] = code;
        self
    }

    pub(crate) fn ping(self) -> Self {
        self.ping_id(0x5a5a)
    }

    pub(crate) fn ping_id(self, id: u16) -> Self {
        self.echo(128, id, 16)
    }

    pub(crate) fn pong_id(self, id: u16) -> Self {
        self.echo(129, id, 16)
    }

    pub(crate) fn echo(self, kind: u8, id: u16, size: usize) -> Self {
        let mut rest = id.to_be_bytes().to_vec();
        rest.extend([0, 1]);
        rest.extend((0..size).map(|i| u8::try_from(i % 251).unwrap_or(0)));
        self.icmp(kind, 0, &rest)
    }

    pub(crate) fn udp(self, from: u16, to: u16) -> Self {
        self.udp_with(from, to, b"0123456789abcdef")
    }

    pub(crate) fn udp_with(self, from: u16, to: u16, data: &[u8]) -> Self {
        let mut body = from.to_be_bytes().to_vec();
        body.extend(to.to_be_bytes());
        body.extend(u16::try_from(8 + data.len()).unwrap().to_be_bytes());
        body.extend([0, 0]);
        body.extend_from_slice(data);
        self.upper(UDP, &body)
    }

    /// A DHCPv6 client, relay or server message with a client identifier (RFC 8415 §8).
    pub(crate) fn dhcp(self, from: u16, to: u16, message: u8) -> Self {
        self.udp_with(from, to, &[message, 1, 2, 3, 0, 1, 0, 4, 0, 3, 0, 1])
    }

    pub(crate) fn tcp(self, from: u16, to: u16, flags: u8) -> Self {
        self.tcp_at(
            from,
            to,
            flags,
            (1000, if flags & ACK == 0 { 0 } else { 1001 }),
        )
    }

    /// TCP with the given sequence and acknowledgement numbers.
    pub(crate) fn tcp_at(self, from: u16, to: u16, flags: u8, (seq, ack): (u32, u32)) -> Self {
        let mut body = from.to_be_bytes().to_vec();
        body.extend(to.to_be_bytes());
        body.extend(seq.to_be_bytes());
        body.extend(ack.to_be_bytes());
        body.extend([0x50, flags, 0xff, 0xff, 0, 0, 0, 0]);
        self.upper(TCP, &body)
    }

    pub(crate) fn syn(self, from: u16, to: u16) -> Self {
        self.tcp(from, to, SYN)
    }

    /// An SCTP INIT chunk (RFC 9260 §3.3.2).
    pub(crate) fn sctp_init(self, from: u16, to: u16) -> Self {
        let mut body = from.to_be_bytes().to_vec();
        body.extend(to.to_be_bytes());
        body.extend([0; 8]);
        body.extend([
            1, 0, 0, 20, 0, 0, 0, 9, 0, 0, 0xff, 0xff, 0, 10, 0, 10, 0, 0, 0, 1,
        ]);
        let sum = crc32c(&body);
        body[8..12].copy_from_slice(&sum.to_le_bytes());
        self.upper(SCTP, &body)
    }

    // ---- octets

    pub(crate) fn frame(&self) -> Vec<u8> {
        let (first, payload) = self.chain(0);
        self.ethernet(first, &payload)
    }

    /// The IPv6 packet alone, as an ICMPv6 error quotes it.
    pub(crate) fn packet(&self) -> Vec<u8> {
        self.frame()[12 + self.ether_type.len()..].to_vec()
    }

    /// An Ethernet frame with an IPv6 header whose next header is `first`.
    pub(crate) fn ethernet(&self, first: u8, payload: &[u8]) -> Vec<u8> {
        let mut frame = self.eth_dst.to_vec();
        frame.extend(self.eth_src);
        frame.extend_from_slice(&self.ether_type);
        frame.extend([0x60, 0, 0, 0]);
        let length = self
            .length
            .unwrap_or_else(|| u16::try_from(payload.len()).unwrap());
        frame.extend(length.to_be_bytes());
        frame.extend([first, self.hop]);
        frame.extend(self.src.octets());
        frame.extend(self.dst.octets());
        frame.extend_from_slice(payload);
        frame
    }

    /// The extension headers from the `from`-th on with the upper layer behind them, and the
    /// type of the first of these.
    pub(crate) fn chain(&self, from: usize) -> (u8, Vec<u8>) {
        let headers = &self.headers[from..];
        let mut bytes = Vec::new();
        for (i, (_, rest)) in headers.iter().enumerate() {
            bytes.push(headers.get(i + 1).map_or(self.upper, |(kind, _)| *kind));
            bytes.extend_from_slice(rest);
        }
        bytes.extend(self.summed_body());
        (headers.first().map_or(self.upper, |(kind, _)| *kind), bytes)
    }

    fn summed_body(&self) -> Vec<u8> {
        let mut body = self.body.clone();
        let at = match self.upper {
            ICMP => 2,
            UDP => 6,
            TCP => 16,
            _ => return body,
        };
        if body.len() >= at + 2 {
            let sum = checksum(self.src, self.dst, self.upper, &body);
            body[at..at + 2].copy_from_slice(&sum.to_be_bytes());
        }
        body
    }
}

/// The checksum of RFC 8200 §8.1; the field itself must be zero.
fn checksum(src: Ipv6Addr, dst: Ipv6Addr, protocol: u8, body: &[u8]) -> u16 {
    let mut all = src.octets().to_vec();
    all.extend(dst.octets());
    all.extend(u32::try_from(body.len()).unwrap().to_be_bytes());
    all.extend([0, 0, 0, protocol]);
    all.extend_from_slice(body);
    let mut sum: u32 = all
        .chunks(2)
        .map(|pair| u32::from(u16::from_be_bytes([pair[0], *pair.get(1).unwrap_or(&0)])))
        .sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    // UDP's zero means "no checksum", so it is sent as its other form.
    match !u16::try_from(sum).unwrap() {
        0 => 0xffff,
        sum => sum,
    }
}

/// SCTP's checksum (RFC 9260 appendix A); conntrack drops what has a wrong one.
fn crc32c(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |sum, byte| {
        (0..8).fold(sum ^ u32::from(*byte), |sum, _| {
            if sum & 1 == 1 {
                (sum >> 1) ^ 0x82f6_3b78
            } else {
                sum >> 1
            }
        })
    })
}
