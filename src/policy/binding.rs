//! Which NIC is bound to which interfaces, and what it owns.

use std::{
    cell::OnceCell,
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use super::{
    Bridges, Numbering, Outcomes, groups, pending, quarantined,
    takeover::{self, Seen},
};
use crate::{
    model::{
        Bound, Conflict, Desired, IfName, InterfaceSelector, Interfaces, Link, LinkKind, LinkLocal,
        Located, Nic, NicId, NicState, Outcome, Permission, Placed, conflicts,
    },
    ruleset::{NicRules, Ruleset},
};

/// What becomes of each NIC.
pub(super) fn bind(
    desired: &Desired,
    host: &Located,
    bridges: &Bridges,
    seen: &mut Arc<Seen>,
) -> Outcomes {
    let finder = Finder::new(desired, host, seen);
    let nics = desired.nics.values();
    let mut outcomes: Outcomes = nics
        .map(|nic| (nic.id.clone(), Arc::new(finder.find(nic))))
        .collect();
    takeover::forget(desired, seen);
    for (id, outcome) in &outcomes {
        if let Some(nic) = desired.nics.get(id) {
            takeover::remember(nic, outcome, host, seen);
        }
    }
    let all = outcomes.iter();
    let found = conflicting(all.filter_map(|(id, outcome)| {
        let nic = desired.nics.get(id)?;
        Some((&**nic, &**outcome))
    }));
    outcomes.extend(found);
    for (id, outcome) in &mut outcomes {
        if let Some(nic) = desired.nics.get(id) {
            quarantine_if_the_hosts(nic, outcome, bridges);
        }
    }
    outcomes
}

/// Quarantines a NIC that owns what the host or a router has.
pub(super) fn quarantine_if_the_hosts(nic: &Nic, outcome: &mut Arc<Outcome>, bridges: &Bridges) {
    if let Some(reason) = owns_what_the_host_has(nic, outcome, bridges) {
        *outcome = Arc::new(quarantined(reason));
    }
}

/// Finds where a NIC is, by itself.
pub(super) struct Finder<'a> {
    desired: &'a Desired,
    host: &'a Located,
    seen: Arc<Seen>,
    /// Made when an interface is met that is not certainly its NIC's.
    taps: OnceCell<BTreeMap<[u8; 6], &'a NicId>>,
}

impl<'a> Finder<'a> {
    pub(super) fn new(desired: &'a Desired, host: &'a Located, seen: &Arc<Seen>) -> Self {
        Self {
            desired,
            host,
            seen: Arc::clone(seen),
            taps: OnceCell::new(),
        }
    }

    pub(super) fn find(&self, nic: &Nic) -> Outcome {
        let mut bound = BTreeSet::new();
        let mut missing = Vec::new();
        for selector in &nic.interfaces {
            let found = match selector {
                InterfaceSelector::Name(name) => self.by_name(name, nic),
                InterfaceSelector::MacOnBridge(bridge) => self.by_mac(bridge, nic),
            };
            match found {
                Ok(one) => {
                    bound.insert(one);
                }
                Err(outcome) => match outcome.state {
                    NicState::Pending(reason) => missing.push(reason),
                    NicState::Quarantined(_) | NicState::Active => return outcome,
                },
            }
        }
        if bound.is_empty() {
            return pending(missing.join("; "));
        }
        Outcome {
            state: NicState::Active,
            bound: bound.into_iter().collect(),
        }
    }

    fn by_name(&self, name: &IfName, nic: &Nic) -> Result<Bound, Outcome> {
        let link = self
            .host
            .by_name(name)
            .ok_or_else(|| pending(format!("interface {name} does not exist")))?;
        let bridge = self
            .host
            .bridge_of(link)
            .ok_or_else(|| pending(format!("interface {name} is not a port of a bridge")))?;
        let taps = || self.taps.get_or_init(|| takeover::taps(self.desired));
        if let Some(reason) = takeover::not_own(nic, link, taps, &self.seen) {
            return Err(pending(reason));
        }
        self.bound(link, bridge)
    }

    fn by_mac(&self, bridge: &IfName, nic: &Nic) -> Result<Bound, Outcome> {
        let bridge = self
            .host
            .by_name(bridge)
            .ok_or_else(|| pending(format!("bridge {bridge} does not exist")))?;
        // A bond or a VRF has ports, too: nothing of ours sees what passes there.
        if bridge.kind != LinkKind::Bridge {
            return Err(pending(format!("interface {} is no bridge", bridge.name)));
        }
        let tap = nic.mac.tap();
        let mut ports = self.host.by_mac(bridge.index, tap.octets());
        match (ports.next(), ports.next()) {
            (None, _) => Err(pending(format!(
                "no port of bridge {} has MAC {tap}",
                bridge.name
            ))),
            (Some(link), None) => self.bound(link, bridge),
            (Some(first), Some(second)) => Err(quarantined(format!(
                "ports {} and {} of bridge {} both have MAC {tap}",
                first.name, second.name, bridge.name
            ))),
        }
    }

    fn bound(&self, link: &Link, bridge: &Link) -> Result<Bound, Outcome> {
        let config = self.host.config_of(&bridge.name).ok_or_else(|| {
            let why = not_managed(self.host, &bridge.name);
            pending(format!(
                "interface {} is a port of bridge {}, {why}",
                link.name, bridge.name
            ))
        })?;
        if self.host.is_uplink(link, config) {
            return Err(quarantined(format!(
                "interface {} is an uplink of bridge {}",
                link.name, bridge.name
            )));
        }
        Ok(Bound {
            name: link.name.clone(),
            index: link.index,
            bridge: bridge.name.clone(),
        })
    }
}

/// Why a bridge without a configuration in force has none.
pub(super) fn not_managed(host: &Interfaces, bridge: &IfName) -> &'static str {
    if host.held_config_of(bridge).is_some() {
        "which is not enforced yet"
    } else {
        "which the configuration does not manage"
    }
}

/// What was no conflict when it was pushed can become one when interfaces move.
pub(super) fn conflicting<'a>(
    nics: impl Iterator<Item = (&'a Nic, &'a Outcome)>,
) -> Vec<(NicId, Arc<Outcome>)> {
    let placed: Vec<_> = nics
        .filter(|(_, outcome)| outcome.state == NicState::Active)
        .map(|(nic, outcome)| {
            let bound = outcome.bound.iter();
            let names = bound.clone().map(|bound| bound.name.clone());
            Placed {
                nic,
                scope: bound.map(|bound| bound.bridge.clone()).collect(),
                interfaces: names.enumerate().collect(),
                blamed: false,
            }
        })
        .collect();
    let blame = |found: Conflict| {
        let reason = format!(
            "{}: {} is already owned by NIC {}",
            found.field, found.what, found.other
        );
        (found.nic, Arc::new(quarantined(reason)))
    };
    conflicts(&placed).into_iter().map(blame).collect()
}

fn owns_what_the_host_has(nic: &Nic, outcome: &Outcome, bridges: &Bridges) -> Option<String> {
    outcome.bound.iter().find_map(|bound| {
        let bridge = bridges.get(&bound.bridge)?;
        let taken = |address: &&std::net::Ipv6Addr| {
            bridge.owned_link_locals.contains(address)
                && !(nic.may(Permission::RouterAdvertisements) && bridge.routers.contains(address))
        };
        let own = nic.on_link_addresses();
        let address = own.iter().find(taken)?;
        let owner = if bridge.routers.contains(address) {
            "a router"
        } else {
            "the host"
        };
        Some(format!(
            "{address} belongs to {owner} on bridge {}",
            bound.bridge
        ))
    })
}

/// Adds what each active NIC owns, and the policies that judge them.
pub(super) fn add_nics(
    ruleset: &mut Ruleset,
    desired: &Desired,
    outcomes: &Outcomes,
    numbering: &mut Numbering,
) {
    for nic in desired.nics.values() {
        // Numbered whether bound or not: a flapping interface loses no counter.
        numbering.nic(&nic.id);
        if let Some(outcome) = outcomes.get(&nic.id) {
            add_nic(ruleset, nic, outcome, desired, numbering);
        }
    }
}

/// Adds what a NIC owns, where it is active, and the policy that judges it.
pub(super) fn add_nic(
    ruleset: &mut Ruleset,
    nic: &Nic,
    outcome: &Outcome,
    desired: &Desired,
    numbering: &mut Numbering,
) {
    let number = numbering.nic(&nic.id);
    if outcome.state != NicState::Active {
        return;
    }
    let mut interfaces = BTreeMap::new();
    for bound in &outcome.bound {
        if let Some(bridge) = ruleset.bridges.get(&bound.bridge) {
            interfaces.insert(bound.name.clone(), (bound.bridge.clone(), bridge.number));
        }
    }
    let policy = groups::policy(nic, desired, numbering);
    let policy_number = numbering.policy(&policy);
    ruleset.policies.insert(policy_number, policy);
    let shared = nic.addresses.iter().filter(|owned| owned.shared);
    let rules = NicRules {
        id: nic.id.clone(),
        interfaces,
        mac: nic.mac,
        virtual_macs: nic.virtual_macs.iter().copied().collect(),
        on_link: nic.on_link_addresses(),
        shared: shared.map(|owned| owned.address).collect(),
        delegated: nic.delegated_prefixes.iter().copied().collect(),
        on_link_prefix: nic.on_link_prefix,
        any_link_local: nic.effective_link_local() == LinkLocal::AnyUnowned,
        permissions: nic.permissions.clone(),
        ipv4: nic.passes_ipv4(),
        policy: policy_number,
    };
    ruleset.nics.insert(number, Arc::new(rules));
}
