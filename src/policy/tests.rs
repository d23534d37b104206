//! What becomes of NICs and ports, case by case.

use std::{net::Ipv6Addr, sync::Arc};

use super::*;
use crate::{
    model::{
        BridgeConfig, IfName, InterfaceSelector, Interfaces, Link, LinkKind, LinkLocal, Mac, Nic,
        OwnedAddress, Permission, SecurityGroup,
    },
    ruleset::EgressMode,
};

mod xen;

/// A host from lines of text: `bridge NAME`, `switch NAME` (of Open vSwitch) or `port NAME MAC BRIDGE`;
/// br0 and br1 are managed, with uplinks eth*.
fn host(text: &str) -> Interfaces {
    let mut links: BTreeMap<u32, Link> = BTreeMap::new();
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let words: Vec<_> = line.split(' ').collect();
        let index = u32::try_from(links.len() + 1).unwrap();
        let master = words.get(3).and_then(|bridge| {
            links
                .values()
                .find(|link| link.name.as_str() == *bridge)
                .map(|link| link.index)
        });
        let mac = words
            .get(2)
            .map(|text| text.parse::<Mac>().unwrap().octets());
        let link = Link {
            index,
            name: words[1].parse().unwrap(),
            mac: mac.unwrap_or([2, 0, 0, 0, 0, 1]),
            master,
            kind: match words[0] {
                "bridge" => LinkKind::Bridge,
                "switch" => LinkKind::OpenVswitch,
                _ => LinkKind::Other,
            },
            multicast_snooping: false,
        };
        links.insert(index, link);
    }
    let managed = |name: &str| BridgeConfig {
        uplinks: vec!["eth*".parse().unwrap()],
        routers: vec!["fe80::1".parse().unwrap()],
        ..BridgeConfig::new(name.parse().unwrap())
    };
    Interfaces {
        links,
        bridges: vec![managed("br0"), managed("br1")],
        guest_patterns: vec!["vnet*".parse().unwrap()],
        ..Interfaces::default()
    }
}

const HOST: &str = "
    bridge br0
    bridge br1
    bridge br9
    port eth0 02:00:00:00:00:e0 br0
    port vnet0 fe:b2:00:00:00:01 br0
    port vnet1 fe:b2:00:00:00:02 br0
    port vnet2 fe:b2:00:00:00:01 br1
    port vnet9 fe:b2:00:00:00:09 br9
    port veth5 02:00:00:00:00:05 br0";

fn nic(id: &str, mac: &str, interface: &str) -> Nic {
    let selector = match interface.strip_prefix("on ") {
        Some(bridge) => InterfaceSelector::MacOnBridge(bridge.parse().unwrap()),
        None => InterfaceSelector::Name(interface.parse().unwrap()),
    };
    Nic {
        id: id.parse().unwrap(),
        instance_id: crate::model::Label::default(),
        instance_name: crate::model::Label::default(),
        mac: mac.parse().unwrap(),
        interfaces: vec![selector],
        addresses: Vec::new(),
        slaac_prefix: None,
        link_local: None,
        virtual_macs: Vec::new(),
        delegated_prefixes: Vec::new(),
        on_link_prefix: None,
        groups: Vec::new(),
        permissions: BTreeSet::new(),
        icmpv6_default: None,
        egress_default: None,
        ipv4: None,
    }
}

fn compiled(nics: Vec<Nic>, host: &Interfaces) -> Compiled {
    let mut desired = Desired::default();
    for nic in nics {
        desired.nics.insert(nic.id.clone(), Arc::new(nic));
    }
    compile(
        &desired,
        &Arc::new(host.clone().into()),
        &mut Numbering::default(),
    )
}

/// State, reason and interfaces of the NIC `a`.
fn outcome(nics: Vec<Nic>) -> String {
    outcome_of_a(&compiled(nics, &host(HOST)))
}

fn outcome_of_a(compiled: &Compiled) -> String {
    let outcome = &compiled.outcomes[&"a".parse::<NicId>().unwrap()];
    let names: Vec<_> = outcome.bound.iter().map(|b| b.name.as_str()).collect();
    match &outcome.state {
        NicState::Active => format!("active {}", names.join(" ")),
        NicState::Pending(reason) => format!("pending {reason}"),
        NicState::Quarantined(reason) => format!("quarantined {reason}"),
    }
}

#[test]
fn a_nic_is_bound_where_its_selector_says() {
    for (mac, interface, expected) in [
        ("06:b2:00:00:00:07", "veth5", "active veth5"),
        ("06:b2:00:00:00:01", "on br0", "active vnet0"),
        ("06:b2:00:00:00:01", "on br1", "active vnet2"),
        (
            "06:b2:00:00:00:07",
            "on br0",
            "pending no port of bridge br0 has MAC fe:b2:00:00:00:07",
        ),
        (
            "06:b2:00:00:00:07",
            "vnet7",
            "pending interface vnet7 does not exist",
        ),
        (
            "06:b2:00:00:00:07",
            "br0",
            "pending interface br0 is not a port of a bridge",
        ),
        (
            "06:b2:00:00:00:09",
            "on br7",
            "pending bridge br7 does not exist",
        ),
        (
            "06:b2:00:00:00:09",
            "on br9",
            "pending interface vnet9 is a port of bridge br9, which the configuration does not manage",
        ),
        (
            "06:b2:00:00:00:07",
            "eth0",
            "quarantined interface eth0 is an uplink of bridge br0",
        ),
    ] {
        assert_eq!(outcome(vec![nic("a", mac, interface)]), expected);
    }
}

/// It was said to be active once.
#[test]
fn a_port_of_what_is_no_bridge_is_nobodys() {
    let mut host = host(HOST);
    for link in host.links.values_mut().filter(|link| link.index == 1) {
        link.kind = LinkKind::Other;
    }
    for interface in ["on br0", "vnet0"] {
        let compiled = compiled(vec![nic("a", "06:b2:00:00:00:01", interface)], &host);
        let outcome = &compiled.outcomes[&"a".parse::<NicId>().unwrap()];
        assert!(matches!(outcome.state, NicState::Pending(_)), "{outcome:?}");
        assert!(compiled.ruleset.nics.is_empty(), "{interface}");
    }
}

#[test]
fn two_ports_of_one_mac_quarantine_the_nic_that_is_found_by_it() {
    let twice =
        host("bridge br0\nport vnet0 fe:b2:00:00:00:01 br0\nport vnet1 fe:b2:00:00:00:01 br0");
    let compiled = compiled(vec![nic("a", "06:b2:00:00:00:01", "on br0")], &twice);
    assert!(compiled.ruleset.nics.is_empty());
    let state = &compiled.outcomes.values().next().unwrap().state;
    let reason =
        "ports vnet0 and vnet1 of bridge br0 are of two guests, both with MAC 06:b2:00:00:00:01";
    assert_eq!(*state, NicState::Quarantined(reason.to_owned()));
}

#[test]
fn what_the_host_reveals_to_be_a_conflict_quarantines_one() {
    let other = || nic("0", "06:b2:00:00:00:02", "vnet1");
    assert_eq!(
        outcome(vec![
            nic("0", "06:b2:00:00:00:03", "veth5"),
            nic("a", "06:b2:00:00:00:04", "veth5")
        ]),
        "quarantined interfaces[0].name: interface veth5 is already owned by NIC 0"
    );
    assert_eq!(
        outcome(vec![other(), nic("a", "06:b2:00:00:00:02", "veth5")]),
        "quarantined mac: fe80::4b2:ff:fe00:2/128 is already owned by NIC 0"
    );
    // The same MAC on another bridge is somebody else's.
    assert_eq!(
        outcome(vec![
            nic("0", "06:b2:00:00:00:01", "vnet0"),
            nic("a", "06:b2:00:00:00:01", "vnet2")
        ]),
        "active vnet2"
    );
}

#[test]
fn an_interface_that_another_nic_is_found_by_cannot_be_named() {
    let push = |desired: &Desired, nic| {
        let delta = crate::model::Delta {
            nics: vec![nic],
            ..crate::model::Delta::default()
        };
        desired.change(&delta, &crate::model::Limits::default(), &host(HOST).into())
    };
    let by_mac = nic("b", "06:b2:00:00:00:01", "on br0");
    let desired = push(&Desired::default(), by_mac).unwrap();
    let faults = push(&desired, nic("a", "06:b2:00:00:00:07", "vnet0")).unwrap_err();
    let said: Vec<_> = faults.iter().map(ToString::to_string).collect();
    let expected = "nics[0].interfaces[0].name: interface vnet0 is already owned by NIC b";
    assert_eq!(said, [expected]);
}

#[test]
fn every_overlap_is_told_not_only_the_first() {
    let owner = |id: &str, mac, interface, prefix: &str| {
        let mut nic = nic(id, mac, interface);
        nic.delegated_prefixes = vec![prefix.parse().unwrap()];
        nic
    };
    let nics = vec![
        owner("a", "06:b2:00:00:00:01", "vnet0", "2001:db8::/56"),
        owner("b", "06:b2:00:00:00:02", "vnet1", "2001:db8::/60"),
        owner("c", "06:b2:00:00:00:05", "veth5", "2001:db8::/64"),
    ];
    let compiled = compiled(nics, &host(HOST));
    let active: Vec<_> = compiled
        .ruleset
        .nics
        .values()
        .map(|nic| nic.id.as_str())
        .collect();
    assert_eq!(active, ["a"]);
}

#[test]
fn the_routers_address_belongs_to_the_router() {
    let mut router = nic("a", "06:b2:00:00:00:01", "vnet0");
    router.link_local = Some(LinkLocal::Explicit(vec!["fe80::1".parse().unwrap()]));
    assert_eq!(
        outcome(vec![router.clone()]),
        "quarantined fe80::1 belongs to a router on bridge br0"
    );
    router.permissions.insert(Permission::RouterAdvertisements);
    assert_eq!(outcome(vec![router]), "active vnet0");
}

#[test]
fn every_port_of_a_managed_bridge_has_a_role() {
    let compiled = compiled(vec![nic("a", "06:b2:00:00:00:01", "vnet0")], &host(HOST));
    let roles: Vec<_> = compiled
        .ruleset
        .ports
        .iter()
        .map(|(n, r)| (n.as_str(), *r))
        .collect();
    // vnet1 and vnet2 are closed by their names.
    assert_eq!(
        roles,
        [
            ("eth0", PortRole::Uplink),
            ("veth5", PortRole::Closed),
            ("vnet9", PortRole::Unmanaged)
        ]
    );
    let guests: Vec<_> = compiled
        .ruleset
        .guest_ports
        .iter()
        .map(IfName::as_str)
        .collect();
    assert_eq!(guests, ["veth5", "vnet0", "vnet1", "vnet2"]);
}

#[test]
fn without_a_managed_bridge_there_is_nothing_to_enforce() {
    let mut interfaces = host(HOST);
    interfaces.bridges.clear();
    let compiled = compiled(vec![nic("a", "06:b2:00:00:00:01", "vnet0")], &interfaces);
    assert!(compiled.ruleset.is_empty());
    assert!(compiled.ruleset.ports.is_empty() && compiled.ruleset.nics.is_empty());
}

#[test]
fn neighbours_link_locals_are_owned_and_two_bridges_share_none() {
    let mut any = nic("a", "06:b2:00:00:00:01", "vnet0");
    any.link_local = Some(LinkLocal::AnyUnowned);
    let nics = vec![
        any,
        nic("b", "06:b2:00:00:00:02", "vnet1"),
        nic("c", "06:b2:00:00:00:01", "vnet2"),
    ];
    let compiled = compiled(nics, &host(HOST));
    let owned = |bridge: &str| {
        let rules = &compiled.ruleset.bridges[&bridge.parse::<IfName>().unwrap()];
        rules
            .owned_link_locals
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
    };
    assert_eq!(owned("br0"), ["fe80::1", "fe80::4b2:ff:fe00:2"]);
    assert_eq!(owned("br1"), ["fe80::1", "fe80::4b2:ff:fe00:1"]);
}

#[test]
fn an_egress_rule_in_any_group_ends_the_open_egress() {
    let group = |json: &str| serde_json::from_str::<SecurityGroup>(json).unwrap();
    let rule = r#"{"direction":"egress","protocol":"any","remote":"anyone","description":""}"#;
    let mut desired = Desired::default();
    for group in [
        group(r#"{"id":"in","name":"","rules":[]}"#),
        group(&format!(r#"{{"id":"out","name":"","rules":[{rule}]}}"#)),
    ] {
        desired.members.insert(group.id.clone(), Arc::default());
        desired.groups.insert(group.id.clone(), Arc::new(group));
    }
    for (groups, expected) in [
        (vec![], EgressMode::Open),
        (vec!["in"], EgressMode::Open),
        (vec!["in", "out"], EgressMode::RulesOnly),
    ] {
        let mut one = nic("a", "06:b2:00:00:00:01", "vnet0");
        one.groups = groups.iter().map(|id| id.parse().unwrap()).collect();
        desired.nics.insert(one.id.clone(), Arc::new(one));
        let compiled = compile(
            &desired,
            &Arc::new(host(HOST).into()),
            &mut Numbering::default(),
        );
        let modes: Vec<_> = compiled
            .ruleset
            .policies
            .values()
            .map(|p| p.egress)
            .collect();
        assert_eq!(modes, [expected]);
    }
}

#[test]
fn a_shared_address_is_bound_to_each_of_its_owners() {
    let vip: Ipv6Addr = "2001:db8::99".parse().unwrap();
    let owner = |id, mac, interface| {
        let mut nic = nic(id, mac, interface);
        nic.addresses = vec![OwnedAddress {
            address: vip,
            shared: true,
        }];
        nic
    };
    let nics = vec![
        owner("a", "06:b2:00:00:00:01", "vnet0"),
        owner("b", "06:b2:00:00:00:02", "vnet1"),
    ];
    let compiled = compiled(nics, &host(HOST));
    assert_eq!(compiled.ruleset.nics.len(), 2);
    assert!(
        compiled
            .ruleset
            .nics
            .values()
            .all(|nic| nic.shared.contains(&vip))
    );
}

/// Whether NIC a, found by the name of its interface, is bound to one of this MAC; NIC b
/// is wanted too.
fn binds_to(interface: &str, mac: &str) -> bool {
    let a = nic("a", "06:b2:00:00:00:01", interface);
    let b = nic("b", "06:b2:00:00:00:02", "on br1");
    let host = host(&format!(
        "bridge br0\nbridge br1\nport {interface} {mac} br0"
    ));
    let compiled = compiled(vec![a, b], &host);
    let outcome = &compiled.outcomes[&"a".parse().unwrap()];
    outcome.state == NicState::Active
}

#[test]
fn an_interface_that_is_another_guests_is_not_bound_by_its_name() {
    for (interface, mac, bound) in [
        ("vnet0", "fe:b2:00:00:00:01", true),
        ("vnet0", "02:11:22:33:44:55", true),
        ("vnet0", "fe:ff:ff:ff:ff:ff", true),
        ("vnet0", "fe:b2:00:00:00:02", false),
        ("vnet0", "fe:b2:00:00:00:99", false),
        ("vnet0", "fa:b2:00:00:00:99", false),
        ("tap0", "fe:b2:00:00:00:02", false),
        ("tap0", "fe:b2:00:00:00:99", true),
        ("vif1.0", "fe:ff:ff:ff:ff:ff", true),
    ] {
        assert_eq!(binds_to(interface, mac), bound, "{interface} {mac}");
    }
}

#[test]
fn another_interface_of_the_name_must_not_have_lost_the_guests_mac() {
    let mut desired = Desired::default();
    let nic = nic("a", "06:b2:00:00:00:01", "tap0");
    desired.nics.insert(nic.id.clone(), Arc::new(nic));
    let mut numbering = Numbering::default();
    let mut state = |lines: &str| {
        let compiled = compile(&desired, &Arc::new(host(lines).into()), &mut numbering);
        compiled.outcomes[&"a".parse().unwrap()].state.clone()
    };
    let first = "bridge br0\nport tap0 fe:b2:00:00:00:01 br0";
    let other = "bridge br0\nbridge br1\nport tap0 02:00:00:00:00:99 br0";
    let own = "bridge br0\nbridge br1\nport tap0 fe:b2:00:00:00:01 br0";
    assert_eq!(state(other), NicState::Active, "never seen with its MAC");
    assert_eq!(state(first), NicState::Active);
    assert_eq!(
        state(other),
        NicState::Pending(
            "interface tap0 had MAC fe:b2:00:00:00:01 and is another one with MAC \
             02:00:00:00:00:99"
                .to_owned()
        )
    );
    assert_eq!(state(own), NicState::Active);
}
