//! The host of these tests, and what flows over it.
//!
//! A and B are in `open`, C in `web`, as everywhere; besides, there is a guest of which the tests
//! change what it is and may (`PROBED`), and a port that no NIC is bound to (`CLOSED`).

use std::fmt::Write as _;
use std::net::Ipv6Addr;

use super::wire::Numbered;
use crate::support::net::Net;
use crate::support::packet::{ACK, ICMP, Packet, SYN};
use crate::support::plan::{Plan, standard};
use crate::support::who::{A, B, C, HOST, Machine, R, STRANGER, UNBOUND};

/// The guest that is changed.
pub(super) const PROBED: Machine = UNBOUND;

/// A port that nobody has described.
pub(super) const CLOSED: Machine = Machine {
    port: "vnet4",
    mac: [6, 0xb2, 0, 0, 4, 0x7e],
    ..UNBOUND
};

/// How much a guest has room for that is not read yet: seconds of all that flows, so that a
/// receiver that has to wait for the processor loses nothing.
const QUEUE: &str = "20000";

/// The fixture's plan: to be started by [`start`].
pub(super) fn host() -> Plan {
    let mut ip = String::new();
    for machine in [R, A, B, C, PROBED, CLOSED] {
        let _ = writeln!(ip, "link set {} txqueuelen {QUEUE}", machine.port);
    }
    standard().port(PROBED, "br0").port(CLOSED, "br0").ip(&ip)
}

/// Starts the host and establishes the flows.
pub(super) fn start(plan: Plan) -> Net {
    let mut net = plan.start();
    // A new flow each packet: what is over must not fill the table.
    for timeout in ["udp_timeout", "udp_timeout_stream"] {
        let path = format!("net/netfilter/nf_conntrack_{timeout}");
        net.namespace
            .sysctl(&path, if timeout == "udp_timeout" { "2" } else { "120" });
    }
    net.wait_until_closed(CLOSED);
    establish(&mut net);
    net
}

fn establish(net: &mut Net) {
    net.passes(&outside(C).tcp_at(40_000, 443, SYN, (1000, 0)), C);
    net.passes(
        &C.to(STRANGER).tcp_at(443, 40_000, SYN | ACK, (5000, 1001)),
        R,
    );
    net.passes(&outside(C).tcp_at(40_000, 443, ACK, (1001, 5001)), C);
    net.passes(&A.to(B.ip).udp(5_000, 5_001), B);
    net.passes(&B.to(A.ip).udp(5_001, 5_000), A);
}

/// A packet of the stranger to a guest.
pub(super) fn outside(guest: Machine) -> Packet {
    R.to(guest.ip).src(STRANGER)
}

pub(super) const STREAMS: usize = 11;

/// Frames of one kind.
pub(super) struct Stream {
    pub name: &'static str,
    pub port: &'static str,
    /// Where it comes out.
    pub to: &'static str,
    pub permitted: bool,
    what: What,
}

enum What {
    /// Packets of one flow.
    Flow(Numbered),
    /// A flow each.
    Flows(Numbered),
    /// Always the same, without a number.
    Same(Vec<u8>),
}

impl Stream {
    pub(super) fn frame(&mut self, number: u32) -> &[u8] {
        match &mut self.what {
            What::Flow(numbered) => numbered.number(number),
            What::Flows(numbered) => {
                let port = 10_000 + u16::try_from(number % 50_000).unwrap();
                numbered.number_from(number, port)
            }
            What::Same(frame) => frame,
        }
    }

    /// Whether this frame without a number is of this kind.
    pub(super) fn is(&self, frame: &[u8]) -> bool {
        matches!(&self.what, What::Same(same) if same == frame)
    }
}

/// What flows. The place in the list is the label.
pub(super) fn streams() -> [Stream; STREAMS] {
    let good = |name, from: Machine, to: Machine, what| Stream {
        name,
        port: from.port,
        to: to.port,
        permitted: true,
        what,
    };
    let bad = |name, from: Machine, what| Stream {
        name,
        port: from.port,
        to: "",
        permitted: false,
        what,
    };
    let flow = What::Flow;
    let inward = outside(C).tcp_at(40_000, 443, ACK, (1001, 5001));
    let answer = C.to(STRANGER).tcp_at(443, 40_000, ACK, (5001, 1001));
    let spoofed = A.to(STRANGER).src(B.ip);
    [
        good("established", R, C, flow(Numbered::tcp(0, inward))),
        good("its replies", C, R, flow(Numbered::tcp(1, answer))),
        good(
            "new flows in",
            R,
            A,
            What::Flows(Numbered::udp(2, outside(A), 0, 4000)),
        ),
        good(
            "new flows out",
            B,
            R,
            What::Flows(Numbered::udp(3, B.to(STRANGER), 0, 4000)),
        ),
        good(
            "guest to guest",
            A,
            B,
            flow(Numbered::udp(4, A.to(B.ip), 5_000, 5_001)),
        ),
        good(
            "its replies",
            B,
            A,
            flow(Numbered::udp(5, B.to(A.ip), 5_001, 5_000)),
        ),
        bad(
            "a spoofed source",
            A,
            What::Flows(Numbered::udp(6, spoofed, 0, 4001)),
        ),
        bad(
            "a rogue router advertisement",
            A,
            What::Same(A.advertises().frame()),
        ),
        bad(
            "what no group allows",
            R,
            What::Flows(Numbered::udp(8, outside(C), 0, 53)),
        ),
        bad(
            "a forged neighbour advertisement",
            A,
            What::Same(A.claims(R.ll).frame()),
        ),
        bad(
            "an unbound port",
            CLOSED,
            flow(Numbered::udp(10, CLOSED.to(STRANGER), 1, 2)),
        ),
    ]
}

/// In which order: seven permitted for five forbidden.
pub(super) fn cycle() -> &'static [usize] {
    &[0, 6, 1, 7, 2, 4, 8, 5, 9, 0, 1, 10, 3, 4, 6, 5, 8]
}

/// Whether it is IPv6 of a guest or the router that nobody may send: all that has no number, but
/// what the guest that floods is permitted, under its own addresses.
pub(super) fn is_strange(frame: &[u8]) -> bool {
    if frame[12..14] != [0x86, 0xdd] || frame[6..11] == HOST.mac[..5] && frame[6..12] != R.mac {
        return false;
    }
    let is = |own: Ipv6Addr| frame[22..38] == own.octets();
    let permitted = is(PROBED.ip) || is(PROBED.ll);
    let advertises = frame[20] == ICMP && frame.get(54) == Some(&134);
    frame[6..12] != PROBED.mac || !permitted || advertises
}
