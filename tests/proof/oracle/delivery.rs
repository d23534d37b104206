//! The ingress guard, a function for each row: whether the row is violated.

use sgagent::model::Ipv4Mode;

use super::Question;
use super::frame::{AUTHENTICATION, End, Ethernet, ICMPV6, Look, UDP};
use super::guard::pretends;
use super::owned::{config, has, in_link_local_10, is_virtual_of, nic};

/// The rows that a frame violates below IPv6.
pub(super) fn of_frame(question: &Question<'_>, frame: &Ethernet) -> Vec<&'static str> {
    let mut violated = Vec::new();
    if t1(question, frame) {
        violated.push("T1");
    }
    if t2(question, frame) {
        violated.push("T2");
    }
    violated
}

/// The rows that a packet violates.
pub(super) fn of_packet(question: &Question<'_>, packet: &Look) -> Vec<&'static str> {
    let mut violated = Vec::new();
    if t3(question, packet) {
        violated.push("T3");
    }
    if t4(packet) {
        violated.push("T4");
    }
    if t5(question, packet) {
        violated.push("T5");
    }
    violated
}

fn t1(question: &Question<'_>, frame: &Ethernet) -> bool {
    let to_all = frame.destination[0] & 1 == 1;
    let nic = nic(question);
    let own = nic.mac.octets() == frame.destination || is_virtual_of(nic, frame.destination);
    !to_all && !own
}

fn t2(question: &Question<'_>, frame: &Ethernet) -> bool {
    match frame.kind {
        0x86dd => false,
        0x0800 | 0x0806 => nic(question).ipv4 == Some(Ipv4Mode::Block),
        _ => true,
    }
}

/// Where it entered is beyond doubt: by an uplink or from the host.
fn t3(question: &Question<'_>, packet: &Look) -> bool {
    if !matches!(packet.icmp_type(), Some(134 | 137)) {
        return false;
    }
    let listed = match config(question) {
        Some(config) if !config.routers.is_empty() => config.routers.contains(&packet.source),
        _ => true,
    };
    !in_link_local_10(packet.source) || packet.hop_limit != 255 || !listed
}

fn t4(packet: &Look) -> bool {
    matches!(packet.icmp_type(), Some(135 | 136))
        && (packet.hop_limit != 255 || packet.icmp_code() != Some(0))
}

/// The half of T4 that holds for every port that a frame enters by.
pub(super) fn t4_fragment(packet: &Look) -> bool {
    matches!(packet.icmp_type(), Some(133..=137)) && packet.has_fragment_header()
}

/// A fragment that could hide neighbour discovery: a first one that does not reach the type,
/// or one that is never joined with others.
pub(super) fn t4_hides(packet: &Look) -> bool {
    // AH is an upper layer to whoever delivers.
    let hides = !matches!(packet.upper(), Some((AUTHENTICATION, _)));
    let hidden = match &packet.end {
        End::Broken => true,
        End::Beyond { next, .. } => *next == ICMPV6,
        End::Upper(number, octets) => *number == ICMPV6 && octets.is_empty(),
        End::LaterFragment => false,
    };
    packet.ends_off_8_octets()
        || pretends(packet)
        || (packet.has_fragment_header() && hides && hidden)
}

fn t5(question: &Question<'_>, packet: &Look) -> bool {
    let Some((_, 546)) = packet.ports(UDP) else {
        return false;
    };
    let server = match config(question) {
        Some(config) if !config.dhcpv6_servers.is_empty() => {
            config.dhcpv6_servers.contains(&packet.source)
        }
        _ => in_link_local_10(packet.source),
    };
    !server || !has(question, packet.ethernet_destination, packet.destination)
}
