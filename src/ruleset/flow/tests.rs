use super::*;
use crate::{
    model::Member,
    ruleset::{BridgeNumber, BridgeRules, GroupRules, NicNumber, PolicyNumber},
};

pub(in crate::ruleset) const A: &str = "2001:db8::a";

/// A flow in zone 3: protocol, source, its port or the `ICMPv6` type, destination, its port
/// or the code.
pub(in crate::ruleset) fn flow(text: &str) -> Flow {
    let words: Vec<_> = text.split(' ').collect();
    let [protocol, source, from, destination, to] = words[..] else {
        panic!("{text}");
    };
    let protocol = match protocol {
        "tcp" => TCP,
        "udp" => UDP,
        "sctp" => SCTP,
        "icmpv6" => ICMPV6,
        number => number.parse().unwrap(),
    };
    let (first, second): (u16, u16) = (from.parse().unwrap(), to.parse().unwrap());
    let upper = match protocol {
        TCP | UDP | SCTP => Upper::Ports {
            source: first,
            destination: second,
        },
        ICMPV6 => Upper::Icmpv6 {
            kind: u8::try_from(first).unwrap(),
            code: u8::try_from(second).unwrap(),
        },
        _ => Upper::Other,
    };
    Flow {
        zone: 3,
        protocol,
        source: source.parse().unwrap(),
        destination: destination.parse().unwrap(),
        upper,
    }
}

fn allow(text: &str) -> Allow {
    let words: Vec<_> = text.split(' ').collect();
    let [way, protocol, remote] = words[..] else {
        panic!("{text}");
    };
    let (name, range) = protocol.split_once(':').unwrap_or((protocol, ""));
    let ports = || match range.split_once('-') {
        Some((first, last)) => {
            PortRange::new(first.parse().unwrap(), last.parse().unwrap()).unwrap()
        }
        None if range.is_empty() => PortRange::ALL,
        None => PortRange::new(range.parse().unwrap(), range.parse().unwrap()).unwrap(),
    };
    let icmpv6 = || match range.split_once('/') {
        Some((kind, code)) => {
            Icmpv6Match::TypeAndCode(kind.parse().unwrap(), code.parse().unwrap())
        }
        None if range.is_empty() => Icmpv6Match::Any,
        None => Icmpv6Match::Type(range.parse().unwrap()),
    };
    Allow {
        direction: if way == "in" {
            Direction::Ingress
        } else {
            Direction::Egress
        },
        protocol: match name {
            "any" => Protocol::Any,
            "tcp" => Protocol::Tcp(ports()),
            "udp" => Protocol::Udp(ports()),
            "sctp" => Protocol::Sctp(ports()),
            "icmpv6" => Protocol::Icmpv6(icmpv6()),
            number => Protocol::Number(number.parse().unwrap()),
        },
        remote: match remote.strip_prefix("members") {
            Some(with) => RemoteRules::Members {
                group: GroupNumber(9),
                with_prefixes: with == "+",
            },
            None if remote == "anyone" => RemoteRules::Anyone,
            None => RemoteRules::Prefixes(remote.split(',').map(|p| p.parse().unwrap()).collect()),
        },
    }
}

/// A ruleset with one NIC, number 1, at `2001:db8::a`, with these rules. Words before the
/// rules: `deny-icmpv6`, `rules-only`, `router`, `dhcpv6-server`.
#[expect(clippy::too_many_lines, reason = "one value, written out")]
pub(in crate::ruleset) fn ruleset(words: &[&str], rules: &[&str]) -> Ruleset {
    let is = |word: &str| words.contains(&word);
    let mut permissions = BTreeSet::new();
    if is("router") {
        permissions.insert(Permission::RouterAdvertisements);
    }
    if is("dhcpv6-server") {
        permissions.insert(Permission::Dhcpv6Server);
    }
    let bridge = BridgeRules {
        number: BridgeNumber(3),
        host_mac: None,
        routers: BTreeSet::new(),
        dhcpv6_servers: BTreeSet::from(["2001:db8::547".parse().unwrap()]),
        owned_link_locals: BTreeSet::new(),
    };
    let nic = NicRules {
        id: "a".parse().unwrap(),
        interfaces: BTreeMap::from([(
            "vnet0".parse().unwrap(),
            ("br0".parse().unwrap(), BridgeNumber(3)),
        )]),
        mac: "06:00:00:00:00:01".parse().unwrap(),
        virtual_macs: BTreeSet::new(),
        on_link: BTreeSet::from([A.parse().unwrap()]),
        shared: BTreeSet::new(),
        delegated: BTreeSet::new(),
        on_link_prefix: None,
        any_link_local: false,
        permissions,
        ipv4: true,
        policy: PolicyNumber(1),
    };
    let member = |address: &str, prefixes: &[&str]| {
        let address = address.parse().unwrap();
        let delegated_prefixes = prefixes.iter().map(|p| p.parse().unwrap()).collect();
        let member = Member {
            address,
            delegated_prefixes,
        };
        (address, member)
    };
    let members = [
        member("2001:db8:5::1", &["2001:db8:50::/48"]),
        member("2001:db8:5::2", &[]),
    ];
    let group = GroupRules {
        id: "g".parse().unwrap(),
        rules: rules.iter().map(|rule| allow(rule)).collect(),
    };
    let policy = Policy {
        groups: BTreeSet::from([GroupNumber(1)]),
        icmpv6: !is("deny-icmpv6"),
        egress: if is("rules-only") {
            EgressMode::RulesOnly
        } else {
            EgressMode::Open
        },
    };
    Ruleset {
        enforced: true,
        bridges: BTreeMap::from([("br0".parse().unwrap(), Arc::new(bridge))]),
        groups: BTreeMap::from([(GroupNumber(1), group)]),
        members: BTreeMap::from([(GroupNumber(9), Arc::new(members.into()))]),
        policies: BTreeMap::from([(PolicyNumber(1), policy)]),
        nics: BTreeMap::from([(NicNumber(1), Arc::new(nic))]),
        ..Ruleset::default()
    }
}

/// Whether the NIC lets the flow begin; from whom it is says which way it goes.
fn begins(words: &[&str], rules: &[&str], text: &str) -> bool {
    let ruleset = Arc::new(ruleset(words, rules));
    let (judge, flow) = (Judge::new(&ruleset), flow(text));
    let nic = &ruleset.nics[&NicNumber(1)];
    if flow.source == A.parse::<Ipv6Addr>().unwrap() {
        judge.may_send(nic, &flow)
    } else {
        judge.may_receive(nic, &flow)
    }
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table")]
fn s3_ingress_is_what_a_rule_says() {
    for (rule, flow, passes) in [
        (
            "in tcp:443 anyone",
            "tcp 2001:db8::1 9 2001:db8::a 443",
            true,
        ),
        (
            "in tcp:443 anyone",
            "tcp 2001:db8::1 443 2001:db8::a 9",
            false,
        ),
        (
            "in tcp:443 anyone",
            "udp 2001:db8::1 9 2001:db8::a 443",
            false,
        ),
        (
            "in tcp:80-90 anyone",
            "tcp 2001:db8::1 9 2001:db8::a 90",
            true,
        ),
        (
            "in tcp:80-90 anyone",
            "tcp 2001:db8::1 9 2001:db8::a 91",
            false,
        ),
        ("in sctp anyone", "sctp 2001:db8::1 9 2001:db8::a 0", true),
        ("in 6 anyone", "tcp 2001:db8::1 9 2001:db8::a 1", true),
        ("in 50 anyone", "50 2001:db8::1 0 2001:db8::a 0", true),
        ("in any anyone", "51 2001:db8::1 0 2001:db8::a 0", true),
        ("in tcp anyone", "50 2001:db8::1 0 2001:db8::a 0", false),
        ("out tcp anyone", "tcp 2001:db8::1 9 2001:db8::a 1", false),
        (
            "in tcp 2001:db8::/64,2001:db8:7::/48",
            "tcp 2001:db8::1 9 2001:db8::a 1",
            true,
        ),
        (
            "in tcp 2001:db8::/64,2001:db8:7::/48",
            "tcp 2001:db8:7:9::1 9 2001:db8::a 1",
            true,
        ),
        (
            "in tcp 2001:db8::/64,2001:db8:7::/48",
            "tcp 2001:db8:8::1 9 2001:db8::a 1",
            false,
        ),
        ("in tcp members", "tcp 2001:db8:5::1 9 2001:db8::a 1", true),
        ("in tcp members", "tcp 2001:db8:5::3 9 2001:db8::a 1", false),
        (
            "in tcp members",
            "tcp 2001:db8:50::1 9 2001:db8::a 1",
            false,
        ),
        (
            "in tcp members+",
            "tcp 2001:db8:50::1 9 2001:db8::a 1",
            true,
        ),
        (
            "in tcp members+",
            "tcp 2001:db8:51::1 9 2001:db8::a 1",
            false,
        ),
    ] {
        assert_eq!(begins(&[], &[rule], flow), passes, "{rule}: {flow}");
    }
    assert!(!begins(&[], &[], "tcp 2001:db8::1 9 2001:db8::a 443"));
}

#[test]
fn s2_echo_passes_unless_the_nic_opted_out() {
    let (to, from) = (
        "icmpv6 2001:db8::1 128 2001:db8::a 0",
        "icmpv6 2001:db8::a 128 2001:db8::1 0",
    );
    for flow in [to, from] {
        assert!(begins(&["rules-only"], &[], flow), "{flow}");
        assert!(!begins(&["rules-only", "deny-icmpv6"], &[], flow), "{flow}");
        assert!(!begins(&["deny-icmpv6"], &[], flow), "{flow}");
    }
    assert!(begins(&["deny-icmpv6"], &["in icmpv6:128 anyone"], to));
    assert!(begins(&["deny-icmpv6"], &["in icmpv6:128/0 anyone"], to));
    assert!(!begins(&["deny-icmpv6"], &["in icmpv6:128/1 anyone"], to));
    assert!(begins(&["deny-icmpv6"], &["out icmpv6 anyone"], from));
    assert!(!begins(
        &[],
        &["in icmpv6 anyone"],
        "icmpv6 2001:db8::a 139 2001:db8::1 0"
    ));
}

#[test]
fn s4_egress_is_open_or_what_a_rule_says() {
    let flow = "udp 2001:db8::a 9 2001:db8::1 53";
    assert!(begins(&[], &[], flow));
    assert!(begins(&["deny-icmpv6"], &[], flow));
    assert!(!begins(&["rules-only"], &[], flow));
    assert!(begins(&["rules-only"], &["out udp:53 anyone"], flow));
    assert!(!begins(
        &["rules-only"],
        &["out udp:53 2001:db8:1::/48"],
        flow
    ));
}

#[test]
fn discovery_and_dhcpv6_are_exempt() {
    let closed = ["rules-only", "deny-icmpv6"];
    for flow in [
        "icmpv6 2001:db8::a 135 2001:db8::1 0",
        "icmpv6 fe80::1 134 2001:db8::a 0",
        "udp 2001:db8::a 546 ff02::1:2 547",
        "udp 2001:db8::a 546 fe80::1 547",
        "udp 2001:db8::a 546 2001:db8::547 547",
        "udp fe80::1 547 2001:db8::a 546",
    ] {
        assert!(begins(&closed, &[], flow), "{flow}");
    }
    for (flow, permission) in [
        ("udp 2001:db8::a 547 2001:db8::1 546", "dhcpv6-server"),
        ("udp 2001:db8::1 546 2001:db8::a 547", "dhcpv6-server"),
        ("icmpv6 2001:db8::a 134 2001:db8::1 0", "router"),
        ("icmpv6 2001:db8::1 133 2001:db8::a 0", "router"),
    ] {
        assert!(begins(&["rules-only", permission], &[], flow), "{flow}");
        assert!(!begins(&closed, &[], flow), "{flow}");
    }
    assert!(!begins(
        &closed,
        &[],
        "udp 2001:db8::a 546 2001:db8::548 547"
    ));
}
