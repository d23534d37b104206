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

use super::{Allow, EgressMode, GroupNumber, NicRules, Policy, Reason, RemoteRules, Ruleset};
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

/// What lets a flow begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ground {
    /// It is no group's to judge: neighbour discovery, MLD, DHCPv6 (S1, S4).
    Exempt,
    /// A permission, which exempts from S3 and S4.
    Permission,
    /// It is an echo request (S2).
    Echo,
    /// A rule.
    Rule {
        /// Of which group.
        group: GroupNumber,
        /// Which of its rules, from 0.
        index: usize,
    },
    /// The NIC's default for what it sends (S4).
    Default,
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

    /// Whether a NIC may begin a flow.
    pub fn may_send(&self, nic: &NicRules, flow: &Flow) -> bool {
        self.sends(nic, flow).is_ok()
    }

    /// Whether a flow may begin that is delivered to a NIC.
    pub fn may_receive(&self, nic: &NicRules, flow: &Flow) -> bool {
        self.receives(nic, flow).is_ok()
    }

    /// What lets a NIC begin a flow, or doesn't: the chain `egress`, then its policy.
    pub fn sends(&self, nic: &NicRules, flow: &Flow) -> Result<Ground, Reason> {
        if let Some((kind, _)) = flow.icmpv6() {
            let advertises = nic.permissions.contains(&Permission::RouterAdvertisements);
            match kind {
                131 | 132 | 133 | 135 | 136 | 143 => return Ok(Ground::Exempt),
                130 | 134 | 137 if advertises => return Ok(Ground::Permission),
                134 | 137 => return Err(Reason::RogueRa),
                1..=4 | 128 | 129 => {}
                _ => return Err(Reason::Icmpv6Type),
            }
        }
        if let Some((from, to)) = flow.ports_of(UDP) {
            let serves = nic.permissions.contains(&Permission::Dhcpv6Server);
            match (from == 547 || to == 546, serves) {
                (true, true) => return Ok(Ground::Permission),
                (true, false) => return Err(Reason::RogueDhcpv6),
                (false, true) if to == 547 => return Ok(Ground::Permission),
                (false, _) => {}
            }
            if to == 547 && self.is_dhcpv6_server(nic, flow.destination) {
                return Ok(Ground::Exempt);
            }
        }
        let policy = self.policy(nic).ok_or(Reason::GroupEgress)?;
        let icmpv6 = flow.protocol == ICMPV6;
        let open = policy.egress == EgressMode::Open && (policy.icmpv6 || !icmpv6);
        self.by_policy(policy, Direction::Egress, flow)
            .or(open.then_some(Ground::Default))
            .ok_or(Reason::GroupEgress)
    }

    /// What lets a flow begin that is delivered to a NIC, or doesn't: the chain `ingress`,
    /// then its policy.
    pub fn receives(&self, nic: &NicRules, flow: &Flow) -> Result<Ground, Reason> {
        let may = |permission| nic.permissions.contains(&permission);
        if let Some((kind, _)) = flow.icmpv6() {
            match kind {
                130..=132 | 134..=137 | 143 => return Ok(Ground::Exempt),
                133 if may(Permission::RouterAdvertisements) => return Ok(Ground::Permission),
                _ => {}
            }
        }
        match flow.ports_of(UDP) {
            Some((_, 546)) => return Ok(Ground::Exempt),
            Some((_, 547)) if may(Permission::Dhcpv6Server) => return Ok(Ground::Permission),
            Some(_) | None => {}
        }
        let policy = self.policy(nic).ok_or(Reason::GroupIngress)?;
        self.by_policy(policy, Direction::Ingress, flow)
            .ok_or(Reason::GroupIngress)
    }

    /// What of a policy allows a flow, its default for what is sent left out.
    fn by_policy(&self, policy: &Policy, way: Direction, flow: &Flow) -> Option<Ground> {
        if policy.icmpv6 && flow.icmpv6().is_some_and(|(kind, _)| kind == 128) {
            return Some(Ground::Echo);
        }
        let other = match way {
            Direction::Ingress => flow.source,
            Direction::Egress => flow.destination,
        };
        policy.groups.iter().find_map(|group| {
            let rules = &self.ruleset.groups.get(group)?.rules;
            let mut rules = rules.iter();
            let index = rules.position(|rule| self.matches(rule, way, flow, other))?;
            let group = *group;
            Some(Ground::Rule { group, index })
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
