//! The sets, chains and elements of each object of a ruleset.
//!
//! No two objects share an element, so that one can change without a look at the
//! others.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    element::{Element, Part, SetRef, Value},
    rule,
    skeleton::Placement,
};
use crate::{
    model::{Direction, IfName, Mac, Members, Permission, Prefix},
    ruleset::{
        BridgeRules, GroupNumber, NicNumber, NicRules, Object, PolicyNumber, PortRole, RemoteRules,
        Ruleset,
        name::{self, DELIVERED, SENT},
    },
};

const GUARD: &str = "bridge";

/// A chain, by its family and name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct ChainRef {
    pub(super) family: &'static str,
    pub(super) name: String,
}

/// What the kernel holds for one object.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Fragment {
    placement: Placement,
    /// Sets and maps of its own, with what is between the braces of their declaration.
    pub(super) sets: BTreeMap<SetRef, Declaration>,
    /// Chains of its own.
    pub(super) chains: BTreeMap<ChainRef, Vec<String>>,
    /// Chains of the skeleton whose rules are its own.
    pub(super) refilled: BTreeMap<ChainRef, Vec<String>>,
    /// Elements, in its own sets and in the skeleton's.
    pub(super) elements: BTreeSet<(SetRef, Element)>,
}

/// The kind of a set and what is between the braces of its declaration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Declaration {
    pub(super) kind: &'static str,
    pub(super) body: &'static str,
}

impl Fragment {
    pub(super) fn of(object: &Object, ruleset: &Ruleset, placement: Placement) -> Self {
        let mut fragment = Self::empty(placement);
        match object {
            Object::Lengths => fragment.lengths(ruleset),
            // A table of its own: skeleton::ports.
            Object::GuestPorts => {}
            Object::Bridge(bridge) => {
                if let Some(rules) = ruleset.bridges.get(bridge) {
                    fragment.bridge(bridge, rules);
                }
            }
            Object::Port(port) => {
                if let Some(role) = ruleset.ports.get(port) {
                    fragment.port(port, *role);
                }
            }
            Object::Group(group) => fragment.group(*group, ruleset),
            Object::Members(group) => {
                if let Some(members) = ruleset.members.get(group) {
                    fragment.members(*group, members);
                }
            }
            Object::Policy(policy) => fragment.policy(*policy, ruleset),
            Object::Nic(nic) => {
                if let Some(rules) = ruleset.nics.get(nic) {
                    fragment.nic(*nic, rules);
                }
            }
        }
        fragment
    }

    fn add(&mut self, family: &'static str, set: &str, key: Vec<Part>, value: Option<Value>) {
        let set = SetRef {
            family,
            name: set.to_owned(),
        };
        self.elements.insert((set, Element { key, value }));
    }

    fn guard(&mut self, set: &str, key: Vec<Part>) {
        self.add(GUARD, set, key, None);
    }

    fn groups(&mut self, set: &str, key: Vec<Part>) {
        self.add(self.placement.family(), set, key, None);
    }

    fn declare(
        &mut self,
        family: &'static str,
        name: String,
        kind: &'static str,
        body: &'static str,
    ) {
        self.sets
            .insert(SetRef { family, name }, Declaration { kind, body });
    }

    fn lengths(&mut self, ruleset: &Ruleset) {
        let (mut source, mut destination) = (Vec::new(), Vec::new());
        for length in &ruleset.lengths.source {
            let (map, mask) = (name::bound_prefix(*length), mask(*length));
            source.push(format!(
                "meta mark set iifname . ether saddr . (ip6 saddr & {mask}) map @{map} goto mark_doubtful"
            ));
            destination.push(format!(
                "meta mark set oifname . ether daddr . (ip6 daddr & {mask}) map @{map} \
                 goto from_dhcpv6_server"
            ));
            self.declare(
                GUARD,
                map,
                "map",
                "type ifname . ether_addr . ipv6_addr : mark;",
            );
        }
        source.push("goto claim_source".to_owned());
        let mut target = Vec::new();
        for length in &ruleset.lengths.on_link {
            let (set, raw) = (name::target_prefix(*length), u128::from(mask(*length)));
            target.push(format!(
                "iifname . (@th,64,128 & {raw:#034x}) @{set} return"
            ));
            self.declare(GUARD, set, "set", "typeof iifname . @th,64,128;");
        }
        target.push("goto claim_target".to_owned());
        destination.push("goto drop_rogue_dhcpv6".to_owned());
        for (chain, rules) in [
            ("prefix_source", source),
            ("prefix_target", target),
            ("prefix_destination", destination),
        ] {
            let chain = ChainRef {
                family: GUARD,
                name: chain.to_owned(),
            };
            self.refilled.insert(chain, rules);
        }
    }

    fn bridge(&mut self, bridge: &IfName, rules: &BridgeRules) {
        let number = || Part::Mark(u32::from(rules.number.0));
        let port = || Part::IfName(bridge.clone());
        for address in &rules.owned_link_locals {
            self.guard(
                "owned_link_local",
                vec![number(), Part::RawAddress(*address)],
            );
        }
        if rules.routers.is_empty() {
            self.guard("any_router", vec![number()]);
        }
        for router in &rules.routers {
            self.guard("router", vec![number(), Part::Address(*router)]);
        }
        if rules.dhcpv6_servers.is_empty() {
            self.guard("any_dhcpv6_server", vec![number()]);
        }
        for server in &rules.dhcpv6_servers {
            self.guard("dhcpv6_server", vec![number(), Part::Address(*server)]);
            self.groups("bridge_dhcpv6_server", vec![port(), Part::Address(*server)]);
        }
        self.add("ip6", "managed_bridge", vec![port()], None);
        let family = self.placement.family();
        let name = name::zone_chain(rules.number);
        let to_host = rules
            .host_mac
            .map(|mac| format!("ether daddr {mac} accept"));
        let zone = format!("ct zone set {}", rules.number.0);
        let to_zone = Some(Value::Goto(name.clone()));
        self.add(family, "zone", vec![port()], to_zone);
        self.chains.insert(
            ChainRef { family, name },
            to_host.into_iter().chain([zone]).collect(),
        );
    }

    fn port(&mut self, port: &IfName, role: PortRole) {
        let (inward, outward) = match role {
            PortRole::Uplink => (Value::Goto("uplink".to_owned()), Value::Accept),
            PortRole::Unmanaged => (Value::Accept, Value::Accept),
            PortRole::Closed => {
                let closed = Value::Goto("drop_unbound".to_owned());
                (closed.clone(), closed)
            }
        };
        self.add(
            GUARD,
            "port_in",
            vec![Part::IfName(port.clone())],
            Some(inward),
        );
        self.add(
            GUARD,
            "port_out",
            vec![Part::IfName(port.clone())],
            Some(outward),
        );
    }

    fn group(&mut self, number: GroupNumber, ruleset: &Ruleset) {
        let Some(group) = ruleset.groups.get(&number) else {
            return;
        };
        for direction in [Direction::Ingress, Direction::Egress] {
            let chain = ChainRef {
                family: self.placement.family(),
                name: name::group_chain(direction, number),
            };
            self.chains
                .insert(chain, rule::group(number, group, direction));
        }
        for (i, allow) in group.rules.iter().enumerate() {
            if let RemoteRules::Prefixes(prefixes) = &allow.remote
                && prefixes.len() > 1
            {
                let set = name::rule_prefixes(number, i);
                for prefix in prefixes {
                    self.groups(&set, vec![Part::Prefix(*prefix)]);
                }
                self.declare(
                    self.placement.family(),
                    set,
                    "set",
                    "type ipv6_addr; flags interval;",
                );
            }
        }
    }

    /// Some members of a group: a change of one must not cost what all of them do.
    pub(super) fn of_members(number: GroupNumber, members: &Members, placement: Placement) -> Self {
        let mut fragment = Self::empty(placement);
        fragment.members(number, members);
        fragment
    }

    fn empty(placement: Placement) -> Self {
        Self {
            placement,
            sets: BTreeMap::new(),
            chains: BTreeMap::new(),
            refilled: BTreeMap::new(),
            elements: BTreeSet::new(),
        }
    }

    fn members(&mut self, number: GroupNumber, members: &Members) {
        let set = name::members(number);
        for address in members.keys() {
            self.groups(&set, vec![Part::Address(*address)]);
        }
        self.declare(self.placement.family(), set, "set", "type ipv6_addr;");
        let prefixes = members
            .values()
            .flat_map(|m| m.delegated_prefixes.iter().copied());
        let set = name::member_prefixes(number);
        for prefix in Prefix::aggregate(prefixes) {
            self.groups(&set, vec![Part::Prefix(prefix)]);
        }
        self.declare(
            self.placement.family(),
            set,
            "set",
            "type ipv6_addr; flags interval;",
        );
    }

    fn policy(&mut self, number: PolicyNumber, ruleset: &Ruleset) {
        let Some(policy) = ruleset.policies.get(&number) else {
            return;
        };
        for direction in [Direction::Ingress, Direction::Egress] {
            let chain = ChainRef {
                family: self.placement.family(),
                name: name::policy_chain(direction, number),
            };
            self.chains
                .insert(chain, rule::policy(policy, ruleset, direction));
        }
    }

    fn nic(&mut self, number: NicNumber, nic: &NicRules) {
        let (sent, delivered) = (SENT | number.0, DELIVERED | number.0);
        for (interface, (_, bridge)) in &nic.interfaces {
            let port = || Part::IfName(interface.clone());
            let to = |chain: &str| Some(Value::Goto(chain.to_owned()));
            self.add(GUARD, "port_in", vec![port()], to("guest"));
            self.add(GUARD, "port_out", vec![port()], to("to_guest"));
            self.add(
                GUARD,
                "nic_mark",
                vec![port()],
                Some(Value::Mark(delivered)),
            );
            self.add(
                GUARD,
                "bridge_of",
                vec![port()],
                Some(Value::Mark(u32::from(bridge.0))),
            );
            self.guard("nic_mac", vec![port(), Part::Mac(nic.mac)]);
            self.guard("own_lladdr", vec![port(), Part::RawMac(nic.mac)]);
            if nic.ipv4 {
                self.guard("passes_ipv4", vec![port()]);
            }
            if nic.any_link_local {
                self.guard("any_link_local", vec![port()]);
            }
            for permission in &nic.permissions {
                self.guard(permission_set(*permission), vec![port()]);
            }
            self.owned(interface, nic, sent);
        }
        for permission in &nic.permissions {
            let by_mark = match permission {
                Permission::RouterAdvertisements => "nic_may_advertise",
                Permission::Dhcpv6Server => "nic_may_serve_dhcpv6",
                Permission::AnySource => continue,
            };
            self.groups(by_mark, vec![Part::Mark(sent)]);
            self.groups(by_mark, vec![Part::Mark(delivered)]);
        }
        for (direction, map, mark) in [
            (Direction::Egress, "egress_policy", sent),
            (Direction::Ingress, "ingress_policy", delivered),
        ] {
            let chain = name::policy_chain(direction, nic.policy);
            self.add(
                self.placement.family(),
                map,
                vec![Part::Mark(mark)],
                Some(Value::Goto(chain)),
            );
        }
    }

    /// Which MACs, addresses and prefixes go together at one interface.
    fn owned(&mut self, interface: &IfName, nic: &NicRules, mark: u32) {
        let port = || Part::IfName(interface.clone());
        let sent = || Some(Value::Mark(mark));
        let bound = |mac: Mac, rest: Part| vec![port(), Part::Mac(mac), rest];
        for mac in std::iter::once(&nic.mac).chain(&nic.virtual_macs) {
            self.guard("own_mac", vec![port(), Part::Mac(*mac)]);
        }
        for address in &nic.on_link {
            self.add(
                GUARD,
                "bound",
                bound(nic.mac, Part::Address(*address)),
                sent(),
            );
            self.guard("on_link_target", vec![port(), Part::RawAddress(*address)]);
        }
        for mac in &nic.virtual_macs {
            for address in &nic.shared {
                self.add(GUARD, "bound", bound(*mac, Part::Address(*address)), sent());
                let key = vec![port(), Part::RawAddress(*address), Part::RawMac(*mac)];
                self.guard("shared_lladdr", key);
            }
        }
        for prefix in nic.delegated.iter().chain(&nic.on_link_prefix) {
            let map = name::bound_prefix(prefix.length());
            self.add(
                GUARD,
                &map,
                bound(nic.mac, Part::Address(prefix.network())),
                sent(),
            );
        }
        if let Some(prefix) = nic.on_link_prefix {
            let targets = name::target_prefix(prefix.length());
            self.guard(&targets, vec![port(), Part::RawAddress(prefix.network())]);
        }
    }
}

fn mask(length: u8) -> std::net::Ipv6Addr {
    let bits = u32::from(length.min(128));
    std::net::Ipv6Addr::from(u128::MAX.checked_shl(128 - bits).unwrap_or(0))
}

fn permission_set(permission: Permission) -> &'static str {
    match permission {
        Permission::RouterAdvertisements => "may_advertise",
        Permission::Dhcpv6Server => "may_serve_dhcpv6",
        Permission::AnySource => "any_source",
    }
}
