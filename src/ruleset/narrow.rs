//! Whether a NIC may have lost something between two rulesets.
//!
//! "Maybe" is enough: it costs a look at the live flows, which is exact. "No" must be true,
//! and is what adding NICs, members and rules comes to.

use std::{collections::BTreeMap, sync::Arc};

use super::{Allow, EgressMode, NicRules, Policy, PolicyNumber, RemoteRules, Ruleset};
use crate::model::{Direction, Icmpv6Match, Members, PortRange, Protocol};

/// Compares NICs of two rulesets.
#[derive(Debug)]
pub struct Comparison<'a> {
    from: &'a Ruleset,
    to: &'a Ruleset,
    policies: BTreeMap<(PolicyNumber, PolicyNumber), bool>,
}

impl<'a> Comparison<'a> {
    /// From one ruleset to another.
    pub fn new(from: &'a Ruleset, to: &'a Ruleset) -> Self {
        Self {
            from,
            to,
            policies: BTreeMap::new(),
        }
    }

    /// Whether something that the NIC could do, it maybe can't any more.
    pub fn narrows(&mut self, from: &NicRules, to: &NicRules) -> bool {
        let NicRules {
            id: _,
            interfaces,
            mac: _,
            virtual_macs: _,
            on_link,
            shared: _,
            delegated,
            on_link_prefix,
            any_link_local,
            permissions,
            ipv4: _,
            policy,
        } = from;
        let stays = |(_, zone): &(_, _)| to.interfaces.values().any(|(_, other)| other == zone);
        !interfaces.values().all(stays)
            || !on_link.is_subset(&to.on_link)
            || !delegated.is_subset(&to.delegated)
            || (on_link_prefix.is_some() && *on_link_prefix != to.on_link_prefix)
            || (*any_link_local && !to.any_link_local)
            || !permissions.is_subset(&to.permissions)
            || self.servers_go(from)
            || self.policy_narrows(*policy, to.policy)
    }

    fn servers_go(&self, nic: &NicRules) -> bool {
        nic.interfaces.values().any(|(bridge, _)| {
            let (from, to) = (self.from.bridges.get(bridge), self.to.bridges.get(bridge));
            let servers = from.map(|rules| &rules.dhcpv6_servers);
            servers.is_some_and(|servers| {
                !to.is_some_and(|rules| servers.is_subset(&rules.dhcpv6_servers))
            })
        })
    }

    fn policy_narrows(&mut self, from: PolicyNumber, to: PolicyNumber) -> bool {
        if let Some(known) = self.policies.get(&(from, to)) {
            return *known;
        }
        let narrows = match (self.from.policies.get(&from), self.to.policies.get(&to)) {
            (Some(old), Some(new)) => self.loses(old, new),
            (None, _) => false,
            (Some(_), None) => true,
        };
        self.policies.insert((from, to), narrows);
        narrows
    }

    fn loses(&self, from: &Policy, to: &Policy) -> bool {
        let opens = to.egress == EgressMode::Open;
        (from.icmpv6 && !to.icmpv6)
            || (from.egress == EgressMode::Open && !opens)
            || rules(self.from, from).any(|rule| {
                let open = opens && to.icmpv6 && rule.direction == Direction::Egress;
                !open && !rules(self.to, to).any(|other| self.covers(other, rule))
            })
    }

    /// Whether what `rule` allowed `other` allows.
    fn covers(&self, other: &Allow, rule: &Allow) -> bool {
        other.direction == rule.direction
            && has(other.protocol, rule.protocol)
            && match (&other.remote, &rule.remote) {
                (RemoteRules::Anyone, _) => true,
                (RemoteRules::Prefixes(all), RemoteRules::Prefixes(some)) => {
                    some == all
                        || some.iter().all(|one| {
                            all.iter().any(|prefix| {
                                prefix.length() <= one.length() && prefix.overlaps(one)
                            })
                        })
                }
                (
                    RemoteRules::Members { group: new, .. },
                    RemoteRules::Members { group: old, .. },
                ) => {
                    let to = self.to.members.get(new);
                    let from = self.from.members.get(old);
                    old == new && from.is_none_or(|from| to.is_some_and(|to| includes(to, from)))
                }
                (RemoteRules::Prefixes(_) | RemoteRules::Members { .. }, _) => false,
            }
    }
}

fn rules<'r>(ruleset: &'r Ruleset, policy: &'r Policy) -> impl Iterator<Item = &'r Allow> {
    let groups = policy.groups.iter();
    groups
        .filter_map(|group| ruleset.groups.get(group))
        .flat_map(|group| &group.rules)
}

fn has(all: Protocol, some: Protocol) -> bool {
    let spans =
        |all: PortRange, some: PortRange| all.first() <= some.first() && some.last() <= all.last();
    match (all, some) {
        (Protocol::Any, _) | (Protocol::Icmpv6(Icmpv6Match::Any), Protocol::Icmpv6(_)) => true,
        (
            Protocol::Icmpv6(Icmpv6Match::Type(all)),
            Protocol::Icmpv6(Icmpv6Match::TypeAndCode(some, _)),
        ) => all == some,
        (Protocol::Tcp(all), Protocol::Tcp(some))
        | (Protocol::Udp(all), Protocol::Udp(some))
        | (Protocol::Sctp(all), Protocol::Sctp(some)) => spans(all, some),
        (all, some) => all == some,
    }
}

fn includes(to: &Arc<Members>, from: &Arc<Members>) -> bool {
    Arc::ptr_eq(to, from)
        || from.iter().all(|(address, member)| {
            to.get(address).is_some_and(|other| {
                let prefixes = &other.delegated_prefixes;
                member
                    .delegated_prefixes
                    .iter()
                    .all(|one| prefixes.contains(one))
            })
        })
}
