//! Which NIC is bound to which interfaces, and what it owns.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use super::{Numbering, pending, quarantined, takeover};
use crate::{
    model::{
        Bound, Desired, IfName, InterfaceSelector, Interfaces, Link, LinkLocal, Nic, NicId,
        NicState, Outcome, Permission, Placed, conflicts,
    },
    policy::groups,
    ruleset::{BridgeRules, NicRules, Ruleset},
};

/// What becomes of each NIC.
pub(super) fn bind(
    desired: &Desired,
    interfaces: &Interfaces,
    bridges: &BTreeMap<IfName, BridgeRules>,
    seen: &mut takeover::Seen,
) -> BTreeMap<NicId, Outcome> {
    let finder = Finder::new(interfaces, takeover::taps(desired), seen);
    let mut outcomes: BTreeMap<NicId, Outcome> = desired
        .nics
        .values()
        .map(|nic| (nic.id.clone(), finder.find(nic)))
        .collect();
    remember(desired, interfaces, &outcomes, seen);
    quarantine_conflicts(desired, &mut outcomes);
    for (id, outcome) in &mut outcomes {
        if let Some(nic) = desired.nics.get(id)
            && let Some(reason) = owns_what_the_host_has(nic, outcome, bridges)
        {
            *outcome = quarantined(reason);
        }
    }
    outcomes
}

/// Finds interfaces by name and by MAC without walking all of them for each NIC.
struct Finder<'a> {
    interfaces: &'a Interfaces,
    by_name: BTreeMap<&'a IfName, &'a Link>,
    by_mac: BTreeMap<(u32, [u8; 6]), Vec<&'a Link>>,
    taps: BTreeMap<[u8; 6], &'a NicId>,
    seen: &'a takeover::Seen,
}

impl<'a> Finder<'a> {
    fn new(
        interfaces: &'a Interfaces,
        taps: BTreeMap<[u8; 6], &'a NicId>,
        seen: &'a takeover::Seen,
    ) -> Self {
        let mut by_mac: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for link in interfaces.links.values() {
            if let Some(master) = link.master {
                by_mac.entry((master, link.mac)).or_default().push(link);
            }
        }
        let by_name = interfaces
            .links
            .values()
            .map(|link| (&link.name, link))
            .collect();
        Self {
            interfaces,
            by_name,
            by_mac,
            taps,
            seen,
        }
    }

    fn find(&self, nic: &Nic) -> Outcome {
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
            .by_name
            .get(name)
            .ok_or_else(|| pending(format!("interface {name} does not exist")))?;
        let bridge = self
            .interfaces
            .bridge_of(link)
            .ok_or_else(|| pending(format!("interface {name} is not a port of a bridge")))?;
        if let Some(reason) = takeover::not_own(nic, link, &self.taps, self.seen) {
            return Err(pending(reason));
        }
        self.bound(link, bridge)
    }

    fn by_mac(&self, bridge: &IfName, nic: &Nic) -> Result<Bound, Outcome> {
        let bridge = self
            .by_name
            .get(bridge)
            .ok_or_else(|| pending(format!("bridge {bridge} does not exist")))?;
        let tap = nic.mac.tap();
        let ports = self.by_mac.get(&(bridge.index, tap.octets()));
        match ports.map(Vec::as_slice) {
            None | Some([]) => Err(pending(format!(
                "no port of bridge {} has MAC {tap}",
                bridge.name
            ))),
            Some([link]) => self.bound(link, bridge),
            Some([first, second, ..]) => Err(quarantined(format!(
                "ports {} and {} of bridge {} both have MAC {tap}",
                first.name, second.name, bridge.name
            ))),
        }
    }

    fn bound(&self, link: &Link, bridge: &Link) -> Result<Bound, Outcome> {
        let config = self.interfaces.config_of(&bridge.name).ok_or_else(|| {
            pending(format!(
                "interface {} is a port of bridge {}, which the configuration does not manage",
                link.name, bridge.name
            ))
        })?;
        if self.interfaces.is_uplink(link, config) {
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

/// Notes which interfaces carry their NIC's MAC as libvirt writes it.
fn remember(
    desired: &Desired,
    interfaces: &Interfaces,
    outcomes: &BTreeMap<NicId, Outcome>,
    seen: &mut takeover::Seen,
) {
    seen.retain(|(id, _), _| desired.nics.contains_key(id));
    for (id, outcome) in outcomes {
        for bound in &outcome.bound {
            let link = interfaces.links.get(&bound.index);
            if let (Some(link), Some(nic)) = (link, desired.nics.get(id))
                && link.mac == nic.mac.tap().octets()
            {
                seen.insert((id.clone(), bound.name.clone()), (link.index, link.mac));
            }
        }
    }
}

/// What was no conflict when it was pushed can become one when interfaces move.
fn quarantine_conflicts(desired: &Desired, outcomes: &mut BTreeMap<NicId, Outcome>) {
    let placed: Vec<_> = outcomes
        .iter()
        .filter(|(_, outcome)| outcome.state == NicState::Active)
        .filter_map(|(id, outcome)| {
            let bound = outcome.bound.iter();
            let names = bound.clone().map(|bound| bound.name.clone());
            Some(Placed {
                nic: desired.nics.get(id)?,
                scope: bound.map(|bound| bound.bridge.clone()).collect(),
                interfaces: names.enumerate().collect(),
                blamed: false,
            })
        })
        .collect();
    for found in conflicts(&placed) {
        let reason = format!(
            "{}: {} is already owned by NIC {}",
            found.field, found.what, found.other
        );
        if let Some(outcome) = outcomes.get_mut(&found.nic) {
            *outcome = quarantined(reason);
        }
    }
}

fn owns_what_the_host_has(
    nic: &Nic,
    outcome: &Outcome,
    bridges: &BTreeMap<IfName, BridgeRules>,
) -> Option<String> {
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
    outcomes: &BTreeMap<NicId, Outcome>,
    numbering: &mut Numbering,
) {
    for nic in desired.nics.values() {
        // Numbered whether bound or not: a flapping interface loses no counter.
        let number = numbering.nic(&nic.id);
        let Some(outcome) = outcomes.get(&nic.id) else {
            continue;
        };
        if outcome.state != NicState::Active {
            continue;
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
        let rules = NicRules {
            id: nic.id.clone(),
            interfaces,
            mac: nic.mac,
            virtual_macs: nic.virtual_macs.iter().copied().collect(),
            on_link: nic.on_link_addresses(),
            shared: nic
                .addresses
                .iter()
                .filter(|a| a.shared)
                .map(|a| a.address)
                .collect(),
            delegated: nic.delegated_prefixes.iter().copied().collect(),
            on_link_prefix: nic.on_link_prefix,
            any_link_local: nic.effective_link_local() == LinkLocal::AnyUnowned,
            permissions: nic.permissions.clone(),
            ipv4: nic.passes_ipv4(),
            policy: policy_number,
        };
        ruleset.nics.insert(number, Arc::new(rules));
    }
}
