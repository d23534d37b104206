//! Groups, rules and members as the API carries them, into the model's.

use super::{Faults, Path, enums, enums::ProtocolName, text};
use crate::{
    model::{GroupRule, Icmpv6Match, Member, PortRange, Protocol, Remote, SecurityGroup},
    pb,
};

const DELEGATED: (u8, u8) = (32, 128);

/// The group, or notes of all that is wrong with it.
pub(super) fn group(f: &mut Faults, at: &Path<'_>, group: pb::Group) -> Option<SecurityGroup> {
    let pb::Group { id, name, rules } = group;
    let before = f.count();
    let id = text::group_id(f, &at.field("id"), id);
    let name = text::label(f, &at.field("name"), name);
    let rules = f.each(&at.field("rules"), rules, rule);
    if f.count() > before {
        return None;
    }
    Some(SecurityGroup {
        id: id?,
        name: name?,
        rules: rules.into_iter().flatten().collect(),
    })
}

/// The member, or notes of all that is wrong with it.
pub(super) fn member(f: &mut Faults, at: &Path<'_>, member: pb::Member) -> Option<Member> {
    let pb::Member {
        address,
        delegated_prefixes,
    } = member;
    let before = f.count();
    let address = text::address(f, &at.field("address"), &address);
    let at = at.field("delegated_prefixes");
    let prefixes = f.each(&at, delegated_prefixes, |f, at, text| {
        text::owned_prefix(f, at, text, DELEGATED)
    });
    f.unique(&at, &prefixes);
    if f.count() > before {
        return None;
    }
    let delegated_prefixes = prefixes.into_iter().flatten().collect();
    Some(Member {
        address: address?,
        delegated_prefixes,
    })
}

fn rule(f: &mut Faults, at: &Path<'_>, rule: pb::Rule) -> Option<GroupRule> {
    let pb::Rule {
        direction,
        protocol,
        protocol_number,
        ports,
        icmpv6_type,
        icmpv6_code,
        remote,
        description,
    } = rule;
    let before = f.count();
    let direction = enums::direction(f, &at.field("direction"), direction);
    let protocol = enums::protocol(f, &at.field("protocol"), protocol);
    let number = number_of(f, at, protocol, protocol_number);
    let ports = self::ports(f, &at.field("ports"), protocol, ports);
    let icmpv6 = icmpv6(f, at, protocol, (icmpv6_type, icmpv6_code));
    let remote = self::remote(f, &at.field("remote"), remote);
    let description = text::label(f, &at.field("description"), description);
    if f.count() > before {
        return None;
    }
    let protocol = match protocol? {
        ProtocolName::Any => Protocol::Any,
        ProtocolName::Tcp => Protocol::Tcp(ports),
        ProtocolName::Udp => Protocol::Udp(ports),
        ProtocolName::Sctp => Protocol::Sctp(ports),
        ProtocolName::Icmpv6 => Protocol::Icmpv6(icmpv6),
        ProtocolName::Number => Protocol::Number(number?),
    };
    Some(GroupRule {
        direction: direction?,
        protocol,
        remote: remote?,
        description: description?,
    })
}

/// Notes where a field is given with a protocol that has no such thing. A protocol that
/// is itself at fault may have been meant to have it.
pub(super) fn goes_with(
    f: &mut Faults,
    at: &Path<'_>,
    protocol: Option<ProtocolName>,
    (wanted, names): (&[ProtocolName], &str),
) {
    if protocol.is_some_and(|protocol| !wanted.contains(&protocol)) {
        f.invalid(at, format_args!("goes with {names} only"));
    }
}

pub(super) fn octet(f: &mut Faults, at: &Path<'_>, value: u32) -> Option<u8> {
    let octet = u8::try_from(value).ok();
    if octet.is_none() {
        f.invalid(at, format_args!("{value} is not in 0-255"));
    }
    octet
}

fn number_of(
    f: &mut Faults,
    at: &Path<'_>,
    protocol: Option<ProtocolName>,
    number: Option<u32>,
) -> Option<u8> {
    let at = at.field("protocol_number");
    let Some(number) = number else {
        if protocol == Some(ProtocolName::Number) {
            f.invalid(&at, "must be given with PROTOCOL_NUMBER");
        }
        return None;
    };
    goes_with(
        f,
        &at,
        protocol,
        (&[ProtocolName::Number], "PROTOCOL_NUMBER"),
    );
    octet(f, &at, number)
}

fn ports(
    f: &mut Faults,
    at: &Path<'_>,
    protocol: Option<ProtocolName>,
    ports: Option<pb::PortRange>,
) -> PortRange {
    let Some(pb::PortRange { first, last }) = ports else {
        return PortRange::ALL;
    };
    let with_ports = [ProtocolName::Tcp, ProtocolName::Udp, ProtocolName::Sctp];
    goes_with(
        f,
        at,
        protocol,
        (&with_ports, "PROTOCOL_TCP, PROTOCOL_UDP and PROTOCOL_SCTP"),
    );
    let mut port = |field, value: u32| {
        let port = u16::try_from(value).ok();
        if port.is_none() {
            f.invalid(&at.field(field), format_args!("{value} is not in 0-65535"));
        }
        port
    };
    let (Some(first), Some(last)) = (port("first", first), port("last", last)) else {
        return PortRange::ALL;
    };
    f.check(at, PortRange::new(first, last))
        .unwrap_or(PortRange::ALL)
}

fn icmpv6(
    f: &mut Faults,
    at: &Path<'_>,
    protocol: Option<ProtocolName>,
    (kind, code): (Option<u32>, Option<u32>),
) -> Icmpv6Match {
    if let Some(value) = kind {
        let at = at.field("icmpv6_type");
        goes_with(
            f,
            &at,
            protocol,
            (&[ProtocolName::Icmpv6], "PROTOCOL_ICMPV6"),
        );
        octet(f, &at, value);
    }
    if let Some(value) = code {
        let at = at.field("icmpv6_code");
        if kind.is_none() {
            f.invalid(&at, "goes with icmpv6_type only");
        }
        octet(f, &at, value);
    }
    let small = |value: Option<u32>| u8::try_from(value?).ok();
    match (small(kind), small(code)) {
        (None, _) => Icmpv6Match::Any,
        (Some(kind), None) => Icmpv6Match::Type(kind),
        (Some(kind), Some(code)) => Icmpv6Match::TypeAndCode(kind, code),
    }
}

fn remote(f: &mut Faults, at: &Path<'_>, remote: Option<pb::Remote>) -> Option<Remote> {
    let pb::Remote {
        anyone,
        prefixes,
        group_id,
    } = remote.unwrap_or_default();
    let given =
        usize::from(anyone) + usize::from(!prefixes.is_empty()) + usize::from(!group_id.is_empty());
    if given != 1 {
        let what = if given == 0 { "none" } else { "more than one" };
        f.invalid(
            at,
            format_args!("exactly one of anyone, prefixes and group_id must be given, {what} is"),
        );
    }
    let before = f.count();
    let list = f.each(&at.field("prefixes"), prefixes, text::prefix);
    let group = if group_id.is_empty() {
        None
    } else {
        text::group_id(f, &at.field("group_id"), group_id)
    };
    if given != 1 || f.count() > before {
        return None;
    }
    match group {
        Some(group) => Some(Remote::Group(group)),
        None if anyone => Some(Remote::Anyone),
        None => Some(Remote::Prefixes(list.into_iter().flatten().collect())),
    }
}
