//! What answers a frame, and what a router says of it.

use std::net::Ipv6Addr;

use crate::support::packet::{ACK, ICMP, Packet, SYN, TCP, UDP};
use crate::support::who::R;

/// The answer to a TCP SYN, a UDP datagram or an echo request in a frame without extension
/// headers.
pub(crate) fn reply_to(frame: &[u8]) -> Option<Vec<u8>> {
    let (packet, body) = taken_apart(frame)?;
    let port = |at: usize| u16::from_be_bytes([body[at], body[at + 1]]);
    let answer = match packet.upper {
        TCP if body.len() >= 20 && body[13] & 0x3f == SYN => {
            let sequence = u32::from_be_bytes([body[4], body[5], body[6], body[7]]);
            let numbers = (77, sequence.wrapping_add(1));
            packet.tcp_at(port(2), port(0), SYN | ACK, numbers)
        }
        // DHCPv6 is delivered whatever connection tracking says of it.
        UDP if body.len() >= 8 && !(546..=547).contains(&port(2)) => packet.udp(port(2), port(0)),
        ICMP if body.len() >= 8 && body[0] == 128 => {
            let rest = body[4..].to_vec();
            packet.icmp(129, body[1], &rest)
        }
        _ => return None,
    };
    Some(answer.frame())
}

/// The router's word that a frame's packet did not get there.
pub(crate) fn error_about(frame: &[u8]) -> Vec<u8> {
    let source = address(frame, 22).unwrap();
    let mut rest = vec![0; 4];
    rest.extend(&frame[14..]);
    let mac = frame[6..12].try_into().unwrap();
    let error = R.to(source).src(R.ip).eth_dst(mac);
    error.icmp(1, 0, &rest).frame()
}

/// A packet that goes back where a frame came from, without a body, and the body of the frame.
fn taken_apart(frame: &[u8]) -> Option<(Packet, Vec<u8>)> {
    if frame.get(12..14)? != [0x86, 0xdd] {
        return None;
    }
    let (source, destination) = (address(frame, 22)?, address(frame, 38)?);
    let (from, to): ([u8; 6], [u8; 6]) =
        (frame[6..12].try_into().ok()?, frame[..6].try_into().ok()?);
    if destination.is_multicast() || to[0] & 1 == 1 {
        return None;
    }
    let mut packet = Packet::new("", to, destination, source).eth_dst(from);
    packet.upper = *frame.get(20)?;
    Some((packet, frame.get(54..)?.to_vec()))
}

fn address(frame: &[u8], at: usize) -> Option<Ipv6Addr> {
    let octets: [u8; 16] = frame.get(at..at + 16)?.try_into().ok()?;
    Some(octets.into())
}
