//! Security groups, S1 to S5, in the order of S1.

use std::net::Ipv6Addr;

use sgagent::model::{
    DefaultAction, Direction, GroupId, GroupRule, Icmpv6Match, Permission, Protocol, Remote,
};

use super::Question;
use super::frame::{ICMPV6, Look, UDP};
use super::owned::{config, in_link_local_10, nic};
use super::tracking::{State, state};

/// The row that a whole packet violates, if any.
pub(super) fn of_packet(question: &Question<'_>, packet: &Look) -> Option<&'static str> {
    let ingress = question.direction == Direction::Ingress;
    let exempt = if ingress {
        let_in_by_permission(question, packet)
    } else {
        let_out_by_permission(question, packet) || never_asked(question, packet)
    };
    if always_delivered(packet) || exempt {
        return None;
    }
    match state(packet, question.flow) {
        State::Established => return None,
        State::Related if is_error(packet) => return None,
        State::Invalid => return Some("S1"),
        State::New | State::Related | State::Untracked => {}
    }
    if s5(question, packet) {
        return None;
    }
    if is_echo_request(packet) {
        return s2(question).then_some("S2");
    }
    if packet.octets_of(ICMPV6).is_some() && s2(question) {
        return Some("S2");
    }
    if ingress {
        return Some("S3");
    }
    s4(question).then_some("S4")
}

/// The list of S1 (a), but for errors that belong to a flow, which is for connection tracking
/// to say, and replies, which are established.
fn always_delivered(packet: &Look) -> bool {
    let discovery = matches!(packet.icmp_type(), Some(134..=137));
    let mld = matches!(packet.icmp_type(), Some(130 | 131 | 132 | 143));
    let dhcp = matches!(packet.ports(UDP), Some((_, 546)));
    discovery || mld || dhcp
}

fn is_error(packet: &Look) -> bool {
    matches!(packet.icmp_type(), Some(1..=4))
}

fn is_echo_request(packet: &Look) -> bool {
    packet.icmp_type() == Some(128)
}

fn let_in_by_permission(question: &Question<'_>, packet: &Look) -> bool {
    let nic = nic(question);
    let rs = nic.may(Permission::RouterAdvertisements) && packet.icmp_type() == Some(133);
    let to_server = matches!(packet.ports(UDP), Some((_, 547)));
    rs || (nic.may(Permission::Dhcpv6Server) && to_server)
}

/// What a router may send (134, 137, 130) is in the list of S1 (a) already.
fn let_out_by_permission(question: &Question<'_>, packet: &Look) -> bool {
    let servers = matches!(packet.ports(UDP), Some((_, 546 | 547) | (547, _)));
    nic(question).may(Permission::Dhcpv6Server) && servers
}

/// What S4 does not speak of.
fn never_asked(question: &Question<'_>, packet: &Look) -> bool {
    let discovery = matches!(packet.icmp_type(), Some(133 | 135 | 136));
    let mld = matches!(packet.icmp_type(), Some(131 | 132 | 143));
    let client = packet.ports(UDP) == Some((546, 547));
    discovery || mld || (client && to_dhcp_server(question, packet.destination))
}

fn to_dhcp_server(question: &Question<'_>, address: Ipv6Addr) -> bool {
    let all_servers: Ipv6Addr = "ff02::1:2".parse().unwrap();
    let named = config(question).is_some_and(|config| config.dhcpv6_servers.contains(&address));
    address == all_servers || in_link_local_10(address) || named
}

/// Whether echo requests need a rule and there is none.
fn s2(question: &Question<'_>) -> bool {
    nic(question).icmpv6_default == Some(DefaultAction::Deny)
}

/// Whether sending needs a rule.
fn s4(question: &Question<'_>) -> bool {
    let mut all = rules(question).into_iter();
    let any = all.any(|rule| rule.direction == Direction::Egress);
    any || nic(question).egress_default == Some(DefaultAction::Deny)
}

/// Whether a rule of the NIC's groups allows the packet.
fn s5(question: &Question<'_>, packet: &Look) -> bool {
    let remote = match question.direction {
        Direction::Ingress => packet.source,
        Direction::Egress => packet.destination,
    };
    rules(question).into_iter().any(|rule| {
        rule.direction == question.direction
            && speaks_of(rule.protocol, packet)
            && means(question, &rule.remote, remote)
    })
}

fn rules<'a>(question: &'a Question<'_>) -> Vec<&'a GroupRule> {
    let mut all = Vec::new();
    for id in &nic(question).groups {
        all.extend(&question.desired.groups[id].rules);
    }
    all
}

fn speaks_of(protocol: Protocol, packet: &Look) -> bool {
    let to = |number, first, last| {
        let ports = packet.ports(number);
        ports.is_some_and(|(_, to)| first <= to && to <= last)
    };
    match protocol {
        Protocol::Any => true,
        Protocol::Tcp(range) => to(6, range.first(), range.last()),
        Protocol::Udp(range) => to(UDP, range.first(), range.last()),
        Protocol::Sctp(range) => to(132, range.first(), range.last()),
        Protocol::Icmpv6(Icmpv6Match::Any) => packet.octets_of(ICMPV6).is_some(),
        Protocol::Icmpv6(Icmpv6Match::Type(kind)) => packet.icmp_type() == Some(kind),
        Protocol::Icmpv6(Icmpv6Match::TypeAndCode(kind, code)) => {
            packet.icmp_type() == Some(kind) && packet.icmp_code() == Some(code)
        }
        Protocol::Number(number) => packet.octets_of(number).is_some(),
    }
}

fn means(question: &Question<'_>, remote: &Remote, address: Ipv6Addr) -> bool {
    match remote {
        Remote::Anyone => true,
        Remote::Prefixes(list) => list.iter().any(|prefix| prefix.contains(address)),
        Remote::Group(id) => is_member(question, id, address),
    }
}

/// By its exact address, or by a delegated prefix of a member that opted in.
fn is_member(question: &Question<'_>, group: &GroupId, address: Ipv6Addr) -> bool {
    let members = question.desired.members[group].values();
    members.into_iter().any(|member| {
        let mut delegated = member.delegated_prefixes.iter();
        member.address == address || delegated.any(|prefix| prefix.contains(address))
    })
}
