//! Whether a ruleset lets a flow begin: what the stateful stage says of the packet that
//! begins it, once more, for flows that exist already (S7).
//!
//! This repeats the chains `egress` and `ingress` of the stateful stage and the rules that
//! groups and policies become, from the flow's original direction. It says nothing of the
//! guard, which judges every packet and needs no second look.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv6Addr,
    sync::Arc,
};

use super::{Allow, EgressMode, GroupNumber, NicRules, Policy, RemoteRules, Ruleset};
use crate::model::{
    Direction, Icmpv6Match, Permission, PortRange, Prefix, Protocol, is_link_local,
};

pub(crate) const TCP: u8 = 6;
pub(crate) const UDP: u8 = 17;
pub(crate) const ICMPV6: u8 = 58;
pub(crate) const SCTP: u8 = 132;

/// Where every DHCPv6 server listens (RFC 8415 §7.1).
const DHCPV6_SERVERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 1, 2);

/// What a flow's first packet had behind its addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Upper {
    /// Ports, of TCP, UDP, SCTP, DCCP or UDP-Lite.
    Ports {
        /// The sender's.
        source: u16,
        /// The receiver's.
        destination: u16,
    },
    /// An ICMPv6 message.
    Icmpv6 {
        /// Its type.
        kind: u8,
        /// Its code.
        code: u8,
    },
    /// Nothing that connection tracking looks at.
    Other,
}

/// A flow, as its first packet went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Flow {
    /// Its conntrack zone: a bridge's number, or 0 where the host is an end of it or
    /// routes it.
    pub zone: u16,
    /// The protocol's number.
    pub protocol: u8,
    /// Who began it.
    pub source: Ipv6Addr,
    /// With whom.
    pub destination: Ipv6Addr,
    /// What is behind the addresses.
    pub upper: Upper,
}

impl Flow {
    fn ports_of(&self, protocol: u8) -> Option<(u16, u16)> {
        match self.upper {
            Upper::Ports {
                source,
                destination,
            } if self.protocol == protocol => Some((source, destination)),
            Upper::Ports { .. } | Upper::Icmpv6 { .. } | Upper::Other => None,
        }
    }

    fn icmpv6(&self) -> Option<(u8, u8)> {
        match self.upper {
            Upper::Icmpv6 { kind, code } if self.protocol == ICMPV6 => Some((kind, code)),
            Upper::Ports { .. } | Upper::Icmpv6 { .. } | Upper::Other => None,
        }
    }

    fn is(&self, protocol: Protocol) -> bool {
        let to = |number, range: PortRange| {
            self.protocol == number
                && (range == PortRange::ALL
                    || self
                        .ports_of(number)
                        .is_some_and(|(_, port)| range.first() <= port && port <= range.last()))
        };
        match protocol {
            Protocol::Any => true,
            Protocol::Tcp(range) => to(TCP, range),
            Protocol::Udp(range) => to(UDP, range),
            Protocol::Sctp(range) => to(SCTP, range),
            Protocol::Icmpv6(Icmpv6Match::Any) => self.protocol == ICMPV6,
            Protocol::Icmpv6(Icmpv6Match::Type(wanted)) => {
                self.icmpv6().is_some_and(|(kind, _)| kind == wanted)
            }
            Protocol::Icmpv6(Icmpv6Match::TypeAndCode(kind, code)) => {
                self.icmpv6() == Some((kind, code))
            }
            Protocol::Number(number) => self.protocol == number,
        }
    }
}

/// A ruleset with what it takes to judge many flows by it.
#[derive(Debug)]
pub struct Judge {
    ruleset: Arc<Ruleset>,
    /// The delegated prefixes by which members are recognised, none within another.
    prefixes: BTreeMap<GroupNumber, BTreeSet<Prefix>>,
}

impl Judge {
    /// Judges by a ruleset.
    pub fn new(ruleset: &Arc<Ruleset>) -> Self {
        let mut prefixes = BTreeMap::new();
        for (group, members) in &ruleset.members {
            let all = members
                .values()
                .flat_map(|m| &m.delegated_prefixes)
                .copied();
            let all: BTreeSet<_> = Prefix::aggregate(all).into_iter().collect();
            if !all.is_empty() {
                prefixes.insert(*group, all);
            }
        }
        Self {
            ruleset: Arc::clone(ruleset),
            prefixes,
        }
    }

    /// Whether a NIC may begin a flow: the chain `egress`, then its policy.
    pub fn may_send(&self, nic: &NicRules, flow: &Flow) -> bool {
        if let Some((kind, _)) = flow.icmpv6() {
            match kind {
                131 | 132 | 133 | 135 | 136 | 143 => return true,
                130 | 134 | 137 => {
                    return nic.permissions.contains(&Permission::RouterAdvertisements);
                }
                1..=4 | 128 | 129 => {}
                _ => return false,
            }
        }
        if let Some((from, to)) = flow.ports_of(UDP) {
            let serves = nic.permissions.contains(&Permission::Dhcpv6Server);
            if from == 547 || to == 546 {
                return serves;
            }
            if to == 547 && (serves || self.is_dhcpv6_server(nic, flow.destination)) {
                return true;
            }
        }
        self.policy(nic).is_some_and(|policy| {
            let open = policy.egress == EgressMode::Open;
            let icmpv6 = flow.protocol == ICMPV6;
            (policy.icmpv6 && flow.icmpv6().is_some_and(|(kind, _)| kind == 128))
                || self.allowed(policy, Direction::Egress, flow, flow.destination)
                || (open && (policy.icmpv6 || !icmpv6))
        })
    }

    /// Whether a flow may begin that is delivered to a NIC: the chain `ingress`, then its
    /// policy.
    pub fn may_receive(&self, nic: &NicRules, flow: &Flow) -> bool {
        if let Some((kind, _)) = flow.icmpv6() {
            match kind {
                130..=132 | 134..=137 | 143 => return true,
                133 if nic.permissions.contains(&Permission::RouterAdvertisements) => return true,
                _ => {}
            }
        }
        match flow.ports_of(UDP) {
            Some((_, 546)) => return true,
            Some((_, 547)) if nic.permissions.contains(&Permission::Dhcpv6Server) => return true,
            Some(_) | None => {}
        }
        self.policy(nic).is_some_and(|policy| {
            (policy.icmpv6 && flow.icmpv6().is_some_and(|(kind, _)| kind == 128))
                || self.allowed(policy, Direction::Ingress, flow, flow.source)
        })
    }

    fn policy(&self, nic: &NicRules) -> Option<&Policy> {
        self.ruleset.policies.get(&nic.policy)
    }

    fn is_dhcpv6_server(&self, nic: &NicRules, address: Ipv6Addr) -> bool {
        address == DHCPV6_SERVERS
            || is_link_local(address)
            || nic.interfaces.values().any(|(bridge, _)| {
                let rules = self.ruleset.bridges.get(bridge);
                rules.is_some_and(|rules| rules.dhcpv6_servers.contains(&address))
            })
    }

    fn allowed(&self, policy: &Policy, way: Direction, flow: &Flow, other: Ipv6Addr) -> bool {
        let groups = policy.groups.iter();
        groups
            .filter_map(|group| self.ruleset.groups.get(group))
            .flat_map(|group| &group.rules)
            .any(|rule| self.matches(rule, way, flow, other))
    }

    fn matches(&self, rule: &Allow, way: Direction, flow: &Flow, other: Ipv6Addr) -> bool {
        rule.direction == way
            && flow.is(rule.protocol)
            && match &rule.remote {
                RemoteRules::Anyone => true,
                RemoteRules::Prefixes(prefixes) => any_holds(prefixes, other),
                RemoteRules::Members {
                    group,
                    with_prefixes,
                } => {
                    let members = self.ruleset.members.get(group);
                    members.is_some_and(|members| members.contains_key(&other))
                        || (*with_prefixes
                            && self
                                .prefixes
                                .get(group)
                                .is_some_and(|prefixes| any_holds(prefixes, other)))
                }
            }
    }
}

/// Whether one of these prefixes, of which none is within another, holds the address: only
/// the last that doesn't begin after it can.
fn any_holds(prefixes: &BTreeSet<Prefix>, address: Ipv6Addr) -> bool {
    let before = prefixes.range(..=Prefix::host(address)).next_back();
    before.is_some_and(|prefix| prefix.contains(address))
}

#[cfg(test)]
pub(super) mod tests;
