//! Frames that are not IPv6.

use super::packet::Frames;
use super::who::{Mac, Machine};

pub(crate) const BROADCAST: Mac = [0xff; 6];

/// A frame of `machine` that is not IPv6.
pub(crate) fn other(machine: Machine, dst: Mac, ether_type: u16, payload: &[u8]) -> Frames {
    let mut frame = dst.to_vec();
    frame.extend(machine.mac);
    frame.extend(ether_type.to_be_bytes());
    frame.extend_from_slice(payload);
    frame.resize(60, 0);
    Frames {
        port: machine.port,
        frames: vec![frame],
    }
}

pub(crate) fn arp(machine: Machine, dst: Mac) -> Frames {
    let mut payload = vec![0, 1, 8, 0, 6, 4, 0, 1];
    payload.extend(machine.mac);
    payload.extend([198, 51, 100, 1, 0, 0, 0, 0, 0, 0, 198, 51, 100, 2]);
    other(machine, dst, 0x0806, &payload)
}

/// UDP to the discard port; the header's checksum is right. As long as the shortest frame: the
/// bridge's own tracking takes off what is behind a packet.
pub(crate) fn ipv4(machine: Machine, dst: Mac) -> Frames {
    let mut payload = vec![0x45, 0, 0, 46, 0, 1, 0, 0, 64, 17, 0x8d, 0xbe];
    payload.extend([198, 51, 100, 1, 198, 51, 100, 2, 0, 9, 0, 9, 0, 26, 0, 0]);
    payload.extend([0; 18]);
    other(machine, dst, 0x0800, &payload)
}
