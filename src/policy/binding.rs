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
        Located, Mac, Nic, NicId, NicState, Outcome, Permission, Placed, Reading, XenGuest,
        conflicts,
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
            match self.by(selector, nic) {
                Ok(found) => bound.extend(found),
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

    fn by(&self, selector: &InterfaceSelector, nic: &Nic) -> Result<Vec<Bound>, Outcome> {
        let links = self.host.meant(selector, nic.mac);
        match selector {
            InterfaceSelector::Name(_) | InterfaceSelector::Xen { .. } => {}
            InterfaceSelector::MacOnBridge(bridge) => {
                self.is_bridge(bridge)?;
                if let Some(reason) = self.of_two_guests(&links, bridge, nic.mac) {
                    return Err(quarantined(reason));
                }
            }
        }
        if links.is_empty() {
            return Err(pending(absent(selector, nic, self.host)));
        }
        self.all_that_are_there(&links, nic)
    }

    /// Whether ports that were found by one MAC are not one guest's. In Xen a guest's NIC has two, and
    /// while a VM moves within its host, two domains have its UUID.
    fn of_two_guests(&self, links: &[&Link], bridge: &IfName, mac: Mac) -> Option<String> {
        let guest = |link: &Link| {
            let (nic, facts) = self.host.xen_facts(link)?;
            let domain = XenGuest::Domain(nic.domain);
            Some((facts.vm.map_or(domain, XenGuest::Vm), nic.device))
        };
        let (first, rest) = links.split_first()?;
        let whose = guest(first);
        let second = rest
            .iter()
            .find(|link| whose.is_none() || guest(link) != whose)?;
        Some(format!(
            "ports {} and {} of bridge {bridge} are of two guests, both with MAC {mac}",
            first.name, second.name
        ))
    }

    /// Of a guest's two interfaces one may come later. What is wrong with one is wrong with both.
    fn all_that_are_there(&self, links: &[&Link], nic: &Nic) -> Result<Vec<Bound>, Outcome> {
        let (mut bound, mut missing) = (Vec::new(), None);
        for link in links {
            match self.port(link, nic) {
                Ok(one) => bound.push(one),
                Err(outcome) if matches!(outcome.state, NicState::Pending(_)) => {
                    missing.get_or_insert(outcome);
                }
                Err(outcome) => return Err(outcome),
            }
        }
        match missing {
            Some(outcome) if bound.is_empty() => Err(outcome),
            Some(_) | None => Ok(bound),
        }
    }

    fn port(&self, link: &Link, nic: &Nic) -> Result<Bound, Outcome> {
        let name = &link.name;
        let bridge = self.host.bridge_of(link).ok_or_else(|| {
            let master = link.master.and_then(|master| self.host.links.get(&master));
            pending(match master {
                Some(Link { kind: LinkKind::OpenVswitch, .. }) => format!(
                    "interface {name} is a port of Open vSwitch, where no rule of the host sees \
                     its packets: the host has to use bridges (XenServer: xe-switch-network-backend \
                     bridge)"
                ),
                Some(_) | None => format!("interface {name} is not a port of a bridge"),
            })
        })?;
        let taps = || self.taps.get_or_init(|| takeover::taps(self.desired));
        if let Some(reason) = takeover::not_own(nic, link, self.host, taps, &self.seen) {
            return Err(pending(reason));
        }
        self.bound(link, bridge)
    }

    /// A bond or a VRF has ports, too: nothing of ours sees what passes there.
    fn is_bridge(&self, name: &IfName) -> Result<(), Outcome> {
        match self.host.by_name(name) {
            Some(link) if link.kind == LinkKind::Bridge => Ok(()),
            Some(_) => Err(pending(format!("interface {name} is no bridge"))),
            None => Err(pending(format!("bridge {name} does not exist"))),
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

/// What is not there that a selector means.
pub(super) fn absent(selector: &InterfaceSelector, nic: &Nic, host: &Located) -> String {
    match selector {
        InterfaceSelector::Name(name) => format!("interface {name} does not exist"),
        InterfaceSelector::MacOnBridge(bridge) if host.by_name(bridge).is_none() => {
            format!("bridge {bridge} does not exist")
        }
        InterfaceSelector::MacOnBridge(bridge) => {
            format!("no port of bridge {bridge} has MAC {}", nic.mac.tap())
        }
        InterfaceSelector::Xen { guest, device } => match &host.xen.reading {
            Reading::Failed(why) => why.clone(),
            Reading::Absent => format!("{guest} is nowhere: this is no host of Xen"),
            Reading::Good => {
                format!("no interface is of device {device} of {guest}, as Xen's store says")
            }
        },
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
