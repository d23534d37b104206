//! Decides what is to be enforced. Pure: values in, values out.
//!
//! [`compile`] takes what the management server wants and what the host has, and makes
//! a [`Ruleset`] and the [`Outcome`] of each NIC. It fails closed and only for the NIC
//! at fault: one whose interface is not there is left out until it comes, one that
//! something on the host contradicts is quarantined; what is left out carries nothing,
//! because a port that no NIC is bound to is closed.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use crate::{
    model::{Desired, IfName, Located, Mac, NicId, NicState, Outcome},
    ruleset::{BridgeRules, PortRole, Ruleset},
};

mod binding;
mod diagnose;
mod explain;
mod groups;
mod next;
mod numbering;
mod takeover;

pub use diagnose::{Check, Facts, Found, Read, Recent, diagnose, located};
pub use explain::{
    ExplainError, Explainer, Explanation, FlowState, Glance, Origin, Question, RuleRef, Stage,
    Step, Verdict, glance, packets, summary,
};
pub use numbering::Numbering;

/// What became of each NIC.
pub type Outcomes = BTreeMap<NicId, Arc<Outcome>>;

/// What [`compile`] makes, and what it made it of.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Compiled {
    /// What is wanted.
    pub desired: Desired,
    /// What there is.
    pub host: Arc<Located>,
    /// What is to be enforced.
    pub ruleset: Arc<Ruleset>,
    /// What became of each NIC.
    pub outcomes: Outcomes,
}

/// Makes what is to be enforced of what is wanted and what there is. The same input
/// gives the same output; `numbering` carries the numbers over from one to the next.
pub fn compile(desired: &Desired, host: &Arc<Located>, numbering: &mut Numbering) -> Compiled {
    let mut ruleset = Ruleset {
        enforced: !host.bridges.is_empty(),
        guest_patterns: host.guest_patterns.clone(),
        bridge_patterns: host.bridges.iter().map(|b| b.name.clone()).collect(),
        ..Ruleset::default()
    };
    ruleset.bridges = bridges(host, numbering);
    let outcomes = binding::bind(desired, host, &ruleset.bridges, &mut numbering.seen);
    binding::add_nics(&mut ruleset, desired, &outcomes, numbering);
    groups::add(&mut ruleset, desired, numbering);
    add_ports(&mut ruleset, host, &outcomes);
    own_link_locals(&mut ruleset);
    ruleset.measure();
    numbering.forget_all_but(&ruleset, desired);
    Compiled {
        desired: desired.clone(),
        host: Arc::clone(host),
        ruleset: Arc::new(ruleset),
        outcomes,
    }
}

type Bridges = BTreeMap<IfName, Arc<BridgeRules>>;

fn bridges(host: &Located, numbering: &mut Numbering) -> Bridges {
    let none = BTreeSet::new();
    let mut all = BTreeMap::new();
    for (link, config) in host.managed_bridges() {
        let own = host.link_locals.get(&link.index).unwrap_or(&none);
        let routers: BTreeSet<_> = config.routers.iter().copied().collect();
        let rules = BridgeRules {
            number: numbering.bridge(&link.name, link.index),
            host_mac: Mac::new(link.mac).ok(),
            owned_link_locals: routers.union(own).copied().collect(),
            routers,
            dhcpv6_servers: config.dhcpv6_servers.iter().copied().collect(),
        };
        all.insert(link.name.clone(), Arc::new(rules));
    }
    all
}

/// Every port of a managed bridge has a role; so has every interface elsewhere that
/// looks like a guest's, because the skeleton closes such names on all bridges.
fn add_ports(ruleset: &mut Ruleset, host: &Located, outcomes: &Outcomes) {
    if ruleset.is_empty() {
        return;
    }
    let bound: BTreeSet<_> = outcomes
        .values()
        .flat_map(|outcome| &outcome.bound)
        .map(|bound| &bound.name)
        .collect();
    let mut guest_ports = BTreeSet::new();
    for link in host.links.values() {
        let bridge = host.bridge_of(link);
        let managed = bridge.and_then(|b| Some((b, host.config_of(&b.name)?)));
        let guest = host.looks_like_guest(&link.name);
        let role = match managed {
            Some((_, config)) if host.is_uplink(link, config) => Some(PortRole::Uplink),
            Some(_) if bound.contains(&link.name) => None,
            Some(_) => (!guest).then_some(PortRole::Closed),
            None => (guest && bridge.is_some()).then_some(PortRole::Unmanaged),
        };
        if let Some(role) = role {
            ruleset.ports.insert(link.name.clone(), role);
        }
        if let Some((_, config)) = managed
            && !host.is_uplink(link, config)
        {
            guest_ports.insert(link.name.clone());
        }
    }
    ruleset.guest_ports = Arc::new(guest_ports);
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
                Arc::make_mut(rules).owned_link_locals.extend(own);
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
