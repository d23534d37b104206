//! Decides what is to be enforced. Pure: values in, values out.
//!
//! [`compile`] takes what the management server wants and what the host has, and makes
//! a [`Ruleset`] and the [`Outcome`] of each NIC. It fails closed and only for the NIC
//! at fault: one whose interface is not there is left out until it comes, one that
//! something on the host contradicts is quarantined; what is left out carries nothing,
//! because a port that no NIC is bound to is closed.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    model::{Desired, Interfaces, NicId, NicState, Outcome},
    ruleset::{BridgeRules, PortRole, Ruleset},
};

mod binding;
mod groups;
mod numbering;
mod takeover;

pub use numbering::Numbering;

/// What [`compile`] makes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Compiled {
    /// What is to be enforced.
    pub ruleset: Ruleset,
    /// What became of each NIC.
    pub outcomes: BTreeMap<NicId, Outcome>,
}

/// Makes what is to be enforced of what is wanted and what there is. The same input
/// gives the same output; `numbering` carries the numbers over from one to the next.
pub fn compile(desired: &Desired, interfaces: &Interfaces, numbering: &mut Numbering) -> Compiled {
    let mut ruleset = Ruleset {
        enforced: !interfaces.bridges.is_empty(),
        guest_patterns: interfaces.guest_patterns.clone(),
        ..Ruleset::default()
    };
    ruleset.bridges = bridges(interfaces, numbering);
    let outcomes = binding::bind(desired, interfaces, &ruleset.bridges, &mut numbering.seen);
    binding::add_nics(&mut ruleset, desired, &outcomes, numbering);
    groups::add(&mut ruleset, desired, numbering);
    add_ports(&mut ruleset, interfaces, &outcomes);
    own_link_locals(&mut ruleset);
    numbering.forget_all_but(&ruleset, desired);
    Compiled { ruleset, outcomes }
}

fn bridges(
    interfaces: &Interfaces,
    numbering: &mut Numbering,
) -> BTreeMap<crate::model::IfName, BridgeRules> {
    let none = BTreeSet::new();
    let mut all = BTreeMap::new();
    for (link, config) in interfaces.managed_bridges() {
        let host = interfaces.link_locals.get(&link.index).unwrap_or(&none);
        let routers: BTreeSet<_> = config.routers.iter().copied().collect();
        let rules = BridgeRules {
            number: numbering.bridge(&link.name, link.index),
            host_mac: crate::model::Mac::new(link.mac).ok(),
            owned_link_locals: routers.union(host).copied().collect(),
            routers,
            dhcpv6_servers: config.dhcpv6_servers.iter().copied().collect(),
        };
        all.insert(link.name.clone(), rules);
    }
    all
}

/// Every port of a managed bridge has a role; so has every interface elsewhere that
/// looks like a guest's, because the skeleton closes such names on all bridges.
fn add_ports(ruleset: &mut Ruleset, interfaces: &Interfaces, outcomes: &BTreeMap<NicId, Outcome>) {
    if ruleset.is_empty() {
        return;
    }
    let bound: BTreeSet<_> = outcomes
        .values()
        .flat_map(|outcome| &outcome.bound)
        .map(|bound| &bound.name)
        .collect();
    for link in interfaces.links.values() {
        let bridge = interfaces.bridge_of(link);
        let managed = bridge.and_then(|b| Some((b, interfaces.config_of(&b.name)?)));
        let guest = interfaces.looks_like_guest(&link.name);
        let role = match managed {
            Some((_, config)) if interfaces.is_uplink(link, config) => Some(PortRole::Uplink),
            Some(_) if bound.contains(&link.name) => None,
            Some(_) => (!guest).then_some(PortRole::Closed),
            None => (guest && bridge.is_some()).then_some(PortRole::Unmanaged),
        };
        if let Some(role) = role {
            ruleset.ports.insert(link.name.clone(), role);
        }
        if let Some((_, config)) = managed
            && !interfaces.is_uplink(link, config)
        {
            ruleset.guest_ports.insert(link.name.clone());
        }
    }
}

/// A guest that may take any link-local address may not take a neighbour's.
fn own_link_locals(ruleset: &mut Ruleset) {
    for nic in ruleset.nics.values() {
        for (bridge, _) in nic.interfaces.values() {
            if let Some(rules) = ruleset.bridges.get_mut(bridge) {
                let own = nic
                    .on_link
                    .iter()
                    .filter(|a| crate::model::is_link_local(**a));
                rules.owned_link_locals.extend(own);
            }
        }
    }
}

fn pending(reason: impl Into<String>) -> Outcome {
    Outcome {
        state: NicState::Pending(reason.into()),
        bound: Vec::new(),
    }
}

fn quarantined(reason: impl Into<String>) -> Outcome {
    Outcome {
        state: NicState::Quarantined(reason.into()),
        bound: Vec::new(),
    }
}

#[cfg(test)]
mod tests;
