//! Frames that carry a number, so that what is lost can be told.
//!
//! A number changes with every frame and the checksum doesn't: beside the number, and beside the
//! source port, is its complement.

use crate::support::packet::{Packet, TCP, UDP};

/// What frames with a number begin with, behind the upper layer's header.
const MAGIC: [u8; 4] = *b"sgfT";

/// Where the upper layer begins.
const UPPER: usize = 54;

/// A frame that is sent again and again with another number.
pub(super) struct Numbered {
    frame: Vec<u8>,
    /// Where the payload begins.
    payload: usize,
}

/// What a frame that came says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Label {
    pub stream: u16,
    pub number: u32,
}

/// The payload of a datagram from `port`.
pub(super) fn payload(label: Label, port: u16) -> Vec<u8> {
    let mut all = MAGIC.to_vec();
    all.extend(label.stream.to_be_bytes());
    all.extend(label.number.to_be_bytes());
    all.extend((!label.number).to_be_bytes());
    all.extend((!port).to_be_bytes());
    all
}

impl Numbered {
    /// UDP from a port to a port.
    pub(super) fn udp(stream: u16, packet: Packet, from: u16, to: u16) -> Self {
        let label = Label { stream, number: 0 };
        let packet = packet.udp_with(from, to, &payload(label, from));
        Self {
            frame: packet.frame(),
            payload: UPPER + 8,
        }
    }

    /// TCP with data; `packet` has the header.
    pub(super) fn tcp(stream: u16, mut packet: Packet) -> Self {
        let label = Label { stream, number: 0 };
        packet.body.extend(payload(label, 0));
        Self {
            frame: packet.frame(),
            payload: UPPER + 20,
        }
    }

    /// The next frame, with this number.
    pub(super) fn number(&mut self, number: u32) -> &[u8] {
        let at = self.payload + 6;
        self.frame[at..at + 4].copy_from_slice(&number.to_be_bytes());
        self.frame[at + 4..at + 8].copy_from_slice(&(!number).to_be_bytes());
        &self.frame
    }

    /// The next frame from this port, with this number.
    pub(super) fn number_from(&mut self, number: u32, port: u16) -> &[u8] {
        self.frame[UPPER..UPPER + 2].copy_from_slice(&port.to_be_bytes());
        let at = self.payload + 14;
        self.frame[at..at + 2].copy_from_slice(&(!port).to_be_bytes());
        self.number(number)
    }
}

/// What a frame says of itself, if it is one of these.
pub(super) fn label(frame: &[u8]) -> Option<Label> {
    let payload = match *frame.get(20)? {
        UDP => UPPER + 8,
        TCP => UPPER + 20,
        _ => return None,
    };
    let data = frame.get(payload..payload + 10)?;
    let (magic, rest) = data.split_at(4);
    (magic == MAGIC).then(|| Label {
        stream: u16::from_be_bytes([rest[0], rest[1]]),
        number: u32::from_be_bytes([rest[2], rest[3], rest[4], rest[5]]),
    })
}
