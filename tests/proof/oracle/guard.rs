//! The egress guard, a function for each row: whether the row is violated.

use std::net::Ipv6Addr;

use sgagent::model::Permission;

use super::Question;
use super::frame::{End, Ethernet, Header, ICMPV6, Look, UDP, address_at};
use super::owned::{
    any_source, bound, is_virtual_of, nic, on_link, own_link_local, room_for_both, shared,
};

const IPV4: u16 = 0x0800;
const ARP: u16 = 0x0806;
const RARP: u16 = 0x8035;
const IPV6: u16 = 0x86dd;

/// The rows that a frame violates below IPv6.
pub(super) fn of_frame(question: &Question<'_>, frame: &Ethernet) -> Vec<&'static str> {
    let mut violated = Vec::new();
    if g0(frame) {
        violated.push("G0");
    }
    if g1(question, frame) {
        violated.push("G1");
    }
    if g2(question, frame) {
        violated.push("G2");
    }
    violated
}

type Row = fn(&Question<'_>, &Look) -> bool;

/// The rows that a packet violates.
pub(super) fn of_packet(question: &Question<'_>, packet: &Look) -> Vec<&'static str> {
    let rows: [(_, Row); 11] = [
        ("G3", g3),
        ("G4", g4),
        ("G5", g5),
        ("G6", g6),
        ("G7", g7),
        ("G8", g8),
        ("G9", g9),
        ("G10", g10),
        ("G11", g11),
        ("G12", g12),
        ("G13", g13),
    ];
    let violated = |(name, row): (_, Row)| row(question, packet).then_some(name);
    rows.into_iter().filter_map(violated).collect()
}

fn g0(frame: &Ethernet) -> bool {
    frame.destination[..5] == [0x01, 0x80, 0xc2, 0, 0] && frame.destination[5] < 0x10
}

fn g1(question: &Question<'_>, frame: &Ethernet) -> bool {
    let nic = nic(question);
    nic.mac.octets() != frame.source && !is_virtual_of(nic, frame.source)
}

fn g2(question: &Question<'_>, frame: &Ethernet) -> bool {
    let nic = nic(question);
    match frame.kind {
        IPV6 => false,
        IPV4 | ARP => !nic.passes_ipv4(),
        RARP => g1(question, frame),
        _ => true,
    }
}

fn g3(_: &Question<'_>, packet: &Look) -> bool {
    let fragment_headers = packet.headers.iter().filter(|header| header.is_fragment());
    let routed = |header: &Header| {
        header
            .routing()
            .is_some_and(|(kind, left)| kind != 2 && left != 0)
    };
    let nowhere = match &packet.end {
        End::Broken | End::Beyond { .. } => true,
        End::Upper(number, octets) => {
            let whole = match number {
                6 => 20,
                17 => 8,
                132 => 12,
                _ => 1,
            };
            opaque(*number) || octets.len() < whole
        }
        End::LaterFragment => {
            let next = packet.piece.as_ref().map(|piece| piece.next);
            matches!(next, Some(0 | 43 | 44 | 51))
        }
    };
    nowhere
        || packet.ends_off_8_octets()
        || fragment_headers.count() > 1
        || packet.headers.iter().any(routed)
        || hides(packet)
        || pretends(packet)
        || packet.headers.iter().any(Header::is_authentication)
}

fn opaque(number: u8) -> bool {
    matches!(number, 135 | 139 | 140 | 253 | 254)
}

/// Whether a header could hide behind another of its kind: nftables finds the first of each.
fn hides(packet: &Look) -> bool {
    let next = |header: &Header| header.octets[0];
    let first = |number| packet.headers.iter().find(|header| header.number == number);
    let behind = |number| first(number).map(next);
    match behind(43) {
        Some(44) => matches!(behind(44), Some(0 | 43 | 44 | 60)),
        other => matches!(other, Some(0 | 43 | 60)),
    }
}

/// Whether a first fragment may show less than it seems to: options in it, which may be longer
/// than it is, with the frame's padding behind them.
pub(super) fn pretends(packet: &Look) -> bool {
    let Some(piece) = packet.piece.as_ref().filter(|piece| piece.offset == 0) else {
        return false;
    };
    match piece.next {
        0 | 43 | 44 => true,
        51 if piece.more => {
            let units = piece.data.get(1).copied().unwrap_or(u8::MAX);
            let room = (units <= 10 && packet.length >= 64) || packet.length >= 1044;
            piece.before != 0 || !room
        }
        60 => {
            let [next, units, ..] = piece.data[..] else {
                return true;
            };
            let room =
                (units <= 7 && packet.length >= 80) || (units <= 143 && packet.length >= 1168);
            matches!(next, 0 | 43 | 44 | 51 | 60) || piece.before != 0 || !room
        }
        _ => false,
    }
}

fn g4(question: &Question<'_>, packet: &Look) -> bool {
    let Some(message) = packet.octets_of(ICMPV6) else {
        return false;
    };
    // What begins in a later fragment is G3's.
    if message.is_empty() && packet.is_beginning() {
        return false;
    }
    match packet.icmp_type() {
        Some(1..=4 | 128 | 129 | 133 | 135 | 136 | 131 | 132 | 143) => false,
        Some(134 | 137 | 130) => !nic(question).may(Permission::RouterAdvertisements),
        _ => true,
    }
}

fn g5(_: &Question<'_>, packet: &Look) -> bool {
    if !matches!(packet.icmp_type(), Some(133..=137)) {
        return false;
    }
    !packet.headers.is_empty() || packet.hop_limit != 255 || packet.icmp_code() != Some(0)
}

fn g6(question: &Question<'_>, packet: &Look) -> bool {
    if packet.icmp_type() != Some(133) {
        return false;
    }
    let all_routers: Ipv6Addr = "ff02::2".parse().unwrap();
    let unspecified = packet.source.is_unspecified();
    let source = unspecified || bound(question, packet.ethernet_source, packet.source);
    let options = match options(packet, 8).as_deref() {
        Some([]) => true,
        Some([option]) => !unspecified && names_own_mac(question, option, 1),
        _ => false,
    };
    packet.destination != all_routers || !source || !options
}

fn g7(question: &Question<'_>, packet: &Look) -> bool {
    if packet.icmp_type() != Some(135) || packet.source.is_unspecified() {
        return false;
    }
    let mac = packet.ethernet_source;
    let source = any_source(question, mac) || bound(question, mac, packet.source);
    let options = match options(packet, 24).as_deref() {
        Some([]) => true,
        Some([option]) => names_own_mac(question, option, 1),
        _ => false,
    };
    !source || !options
}

fn g8(question: &Question<'_>, packet: &Look) -> bool {
    if packet.icmp_type() != Some(135) || !packet.source.is_unspecified() {
        return false;
    }
    // Whatever MAC the frame is from.
    let mac = nic(question).mac.octets();
    let target = target(packet)
        .is_some_and(|target| any_source(question, mac) || on_link(question, mac, target));
    let solicited = [0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff];
    let options = match options(packet, 24).as_deref() {
        Some([]) => true,
        Some([option]) => option.0 == 14 && option.1.len() == 6,
        _ => false,
    };
    !target || packet.destination.octets()[..13] != solicited || !options
}

fn g9(question: &Question<'_>, packet: &Look) -> bool {
    if packet.icmp_type() != Some(136) {
        return false;
    }
    let mac = packet.ethernet_source;
    let Some(target) = target(packet) else {
        return true;
    };
    let real = nic(question).mac.octets();
    let own = any_source(question, real) || on_link(question, real, target);
    let options = match options(packet, 24).as_deref() {
        Some([]) => true,
        Some([option]) => {
            names_own_mac(question, option, 2)
                || (shared(question, target) && names_virtual_mac(question, option))
        }
        _ => false,
    };
    let both = any_source(question, real) || room_for_both(question, target, packet.source);
    !own || !both || !bound(question, mac, packet.source) || !options
}

fn g10(question: &Question<'_>, packet: &Look) -> bool {
    if !is_mld(packet) {
        return false;
    }
    let source = packet.source.is_unspecified()
        || own_link_local(question, packet.ethernet_source, packet.source);
    packet.hop_limit != 1 || !source || !only_router_alert(packet)
}

fn g11(question: &Question<'_>, packet: &Look) -> bool {
    let Some((from, to)) = packet.ports(UDP) else {
        return false;
    };
    (to == 546 || from == 547) && !nic(question).may(Permission::Dhcpv6Server)
}

fn g12(question: &Question<'_>, packet: &Look) -> bool {
    let Some((from, 547)) = packet.ports(UDP) else {
        return false;
    };
    if nic(question).may(Permission::Dhcpv6Server) {
        return false;
    }
    let message = packet.octets_of(UDP).and_then(|octets| octets.get(8));
    let clients = matches!(message, Some(1 | 3 | 4 | 5 | 6 | 8 | 9 | 11 | 36));
    from != 546 || packet.has_fragment_header() || !clients
}

/// Rows 6 to 10 have their own rules for sources.
fn g13(question: &Question<'_>, packet: &Look) -> bool {
    let nd = matches!(packet.icmp_type(), Some(133 | 135 | 136));
    let mac = packet.ethernet_source;
    !nd && !is_mld(packet) && !any_source(question, mac) && !bound(question, mac, packet.source)
}

fn is_mld(packet: &Look) -> bool {
    matches!(packet.icmp_type(), Some(130 | 131 | 132 | 143))
}

/// MLD's own header is there, behind nothing or a router alert.
fn only_router_alert(packet: &Look) -> bool {
    let whole = packet
        .whole_octets_of(ICMPV6)
        .is_some_and(|octets| octets.len() >= 8);
    let alert = match packet.headers.as_slice() {
        [] => true,
        [header] => header.number == 0 && header.octets.len() == 8,
        _ => false,
    };
    whole && alert
}

/// An option's type and value.
type NdOption = (u8, Vec<u8>);

/// The options of a Neighbor Discovery message behind its fixed part (RFC 4861 §4.6); none where
/// they don't add up, or where the fixed part is not whole.
fn options(packet: &Look, fixed: usize) -> Option<Vec<NdOption>> {
    let mut rest = packet.whole_octets_of(ICMPV6)?.get(fixed..)?;
    let mut found = Vec::new();
    while !rest.is_empty() {
        let length = 8 * usize::from(*rest.get(1)?);
        if length == 0 || length > rest.len() {
            return None;
        }
        found.push((rest[0], rest[2..length].to_vec()));
        rest = &rest[length..];
    }
    Some(found)
}

fn names_own_mac(question: &Question<'_>, option: &NdOption, kind: u8) -> bool {
    option.0 == kind && option.1 == nic(question).mac.octets()
}

fn names_virtual_mac(question: &Question<'_>, option: &NdOption) -> bool {
    let mut virtual_macs = nic(question).virtual_macs.iter();
    option.0 == 2 && virtual_macs.any(|mac| option.1 == mac.octets())
}

/// The target of an NS or an NA.
fn target(packet: &Look) -> Option<Ipv6Addr> {
    let octets = packet.whole_octets_of(ICMPV6)?;
    (octets.len() >= 24).then(|| address_at(octets, 8))
}
