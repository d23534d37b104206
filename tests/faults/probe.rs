//! Questions to the kernel beside the traffic: does this packet come out there?

use std::time::{Duration, Instant};

use super::fixture::{PROBED, outside};
use super::traffic::{PROBE, Traffic};
use super::wire::{Label, payload};
use crate::support::net::slowness;
use crate::support::packet::Packet;
use crate::support::who::{Machine, R, STRANGER};

/// How long a packet may take that has to come out.
const PATIENCE: Duration = Duration::from_secs(5);

/// The port of `PROBED` that is open whatever its groups' rules are: what follows another packet
/// to it and has come out says that the other would have, too.
pub(super) const ALWAYS: u16 = 9;

/// A datagram and the ports that it goes from and to.
pub(super) struct Question {
    pub packet: Packet,
    pub from: u16,
    pub to: u16,
}

/// From somebody outside to the guest that is changed.
pub(super) fn inward(from: u16, to: u16) -> Question {
    let packet = outside(PROBED);
    Question { packet, from, to }
}

/// From the guest that is changed to somebody outside.
pub(super) fn outward(from: u16, to: u16) -> Question {
    let packet = PROBED.to(STRANGER);
    Question { packet, from, to }
}

impl Traffic {
    /// Whether it comes out at the other end.
    pub(super) fn passes(&mut self, question: Question) -> bool {
        let (number, end) = (self.number(), self.number());
        let (to, after) = if question.packet.port == R.port {
            (PROBED, inward(2_000, ALWAYS))
        } else {
            (R, outward(2_000, ALWAYS))
        };
        self.ask(number, question);
        self.ask(end, after);
        self.wait_for(end, to);
        self.probed(number).iter().any(|port| port == to.port)
    }

    fn ask(&self, number: u32, question: Question) {
        let Question { packet, from, to } = question;
        let label = Label {
            stream: PROBE,
            number,
        };
        let port = packet.port;
        let packet = packet.udp_with(from, to, &payload(label, from));
        self.send(port, &packet.frame());
    }

    fn wait_for(&self, number: u32, machine: Machine) {
        let deadline = Instant::now() + PATIENCE * slowness();
        while !self.probed(number).iter().any(|port| port == machine.port) {
            assert!(
                Instant::now() < deadline,
                "what is always allowed does not come out at {}",
                machine.port
            );
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}
