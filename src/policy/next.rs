//! From one compilation to the next on the same host, where only NICs and members changed.
//!
//! What [`compile`] makes of a NIC depends on that NIC, on its groups' rules, on the host
//! and on who else claims the same. So a change of few NICs costs no more on a host of
//! thousands: those NICs are compiled anew, with those that are quarantined (what
//! contradicted them may be gone) and those that come near. `tests/properties.rs` holds the
//! result against [`compile`]'s.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use super::{Compiled, Numbering, binding, binding::Finder, bridges, compile, groups, takeover};
use crate::{
    model::{Desired, IfName, Nearby, Nic, NicId, NicState, Outcome, differences, is_link_local},
    ruleset::{PortRole, Ruleset},
};

/// So many NICs are not worth a thought about what share of all they are.
const FEW: usize = 16;

impl Compiled {
    /// What [`compile`] makes of `desired` on this host.
    #[must_use]
    pub fn next(&self, desired: &Desired, numbering: &mut Numbering) -> Self {
        let changed: BTreeSet<_> = differences(&self.desired.nics, &desired.nics)
            .map(|found| found.key)
            .collect();
        let same_groups = differences(&self.desired.groups, &desired.groups).count() == 0;
        let many = changed.len() > FEW && changed.len() * 4 > desired.nics.len();
        if !same_groups || many {
            return compile(desired, &self.host, numbering);
        }
        let Self { host, .. } = self;
        let fresh = self.judge(&changed, desired, numbering);
        let mut ruleset = Ruleset::clone(&self.ruleset);
        let mut outcomes = self.outcomes.clone();
        for (id, outcome) in &fresh {
            self.take_out(id, &mut ruleset, numbering);
            match outcome {
                Some(outcome) => outcomes.insert((*id).clone(), Arc::clone(outcome)),
                None => outcomes.remove(*id),
            };
        }
        for (id, outcome) in &fresh {
            if let (Some(outcome), Some(nic)) = (outcome, desired.nics.get(*id)) {
                put_in(nic, outcome, &mut ruleset, desired, numbering);
            }
        }
        let used: BTreeSet<_> = ruleset.nics.values().map(|nic| nic.policy).collect();
        ruleset.policies.retain(|number, _| used.contains(number));
        self.refer(&mut ruleset, desired, numbering);
        ruleset.measure();
        numbering.forget_all_but(&ruleset, desired);
        Self {
            desired: desired.clone(),
            host: Arc::clone(host),
            ruleset: Arc::new(ruleset),
            outcomes,
        }
    }

    /// What becomes of the NICs that changed, and of those whose lot may have changed with
    /// them; nothing of those that are gone.
    fn judge<'a>(
        &'a self,
        changed: &BTreeSet<&'a NicId>,
        desired: &'a Desired,
        numbering: &mut Numbering,
    ) -> BTreeMap<&'a NicId, Option<Arc<Outcome>>> {
        let moved = self.moved_taps(changed, desired);
        let again = |(id, outcome): (&'a NicId, &Arc<Outcome>)| {
            let suspect = match outcome.state {
                NicState::Quarantined(_) => true,
                // Some because of another's tap.
                NicState::Pending(_) => !moved.is_empty(),
                NicState::Active => outcome
                    .bound
                    .iter()
                    .any(|bound| moved.contains(&bound.name)),
            };
            suspect.then_some(id)
        };
        let suspects: BTreeSet<_> = self.outcomes.iter().filter_map(again).collect();
        let mut fresh = BTreeMap::new();
        let finder = Finder::new(desired, &self.host, &numbering.seen);
        for id in changed.union(&suspects) {
            let nic = desired.nics.get(*id);
            let found = nic.map(|nic| Arc::new(finder.find(nic)));
            if let (Some(nic), Some(outcome)) = (nic, &found) {
                takeover::remember(nic, outcome, &self.host, &mut numbering.seen);
            }
            fresh.insert(*id, found);
        }
        if changed.iter().any(|id| !desired.nics.contains_key(id)) {
            takeover::forget(desired, &mut numbering.seen);
        }
        let theirs = |outcomes: &BTreeMap<&NicId, _>| {
            let nics = outcomes.keys().filter_map(|id| desired.nics.get(*id));
            Nearby::of(nics.map(|nic| &**nic), &self.host)
        };
        let near = theirs(&fresh);
        let mut rivals: BTreeMap<&NicId, (&Nic, Arc<Outcome>)> = BTreeMap::new();
        for (id, nic) in &desired.nics {
            let outcome = match fresh.get(id) {
                Some(outcome) => outcome.as_ref(),
                None if near.touches(nic) => self.outcomes.get(id),
                None => None,
            };
            if let Some(outcome) = outcome {
                rivals.insert(id, (nic, Arc::clone(outcome)));
            }
        }
        let all = rivals.values().map(|(nic, outcome)| (*nic, &**outcome));
        for (id, outcome) in binding::conflicting(all) {
            if let Some((id, _)) = desired.nics.get_key_value(&id) {
                fresh.insert(id, Some(outcome));
            }
        }
        let base = bridges(&self.host, numbering);
        for (id, outcome) in &mut fresh {
            if let (Some(nic), Some(outcome)) = (desired.nics.get(*id), outcome) {
                binding::quarantine_if_the_hosts(nic, outcome, &base);
            }
        }
        fresh
    }

    /// The interfaces that look like the tap of a NIC that came, went, or has another MAC:
    /// whose they are has to be asked again.
    fn moved_taps(&self, changed: &BTreeSet<&NicId>, desired: &Desired) -> BTreeSet<IfName> {
        let mut names = BTreeSet::new();
        for id in changed {
            let (was, is) = (self.desired.nics.get(*id), desired.nics.get(*id));
            let macs = [was, is].map(|nic| nic.map(|nic| nic.mac));
            if macs[0] == macs[1] {
                continue;
            }
            for mac in macs.into_iter().flatten() {
                for link in self
                    .host
                    .links
                    .values()
                    .filter(|link| link.mac == mac.tap().octets())
                {
                    names.insert(link.name.clone());
                }
            }
        }
        names
    }

    /// Takes a NIC as it was out of a ruleset.
    fn take_out(&self, id: &NicId, ruleset: &mut Ruleset, numbering: &mut Numbering) {
        let Some(was) = ruleset.nics.remove(&numbering.nic(id)) else {
            return;
        };
        for (interface, (bridge, _)) in &was.interfaces {
            if !self.host.looks_like_guest(interface) {
                ruleset.ports.insert(interface.clone(), PortRole::Closed);
            }
            let (Some(rules), Some(link)) =
                (ruleset.bridges.get_mut(bridge), self.host.by_name(bridge))
            else {
                continue;
            };
            let hosts = self.host.link_locals.get(&link.index);
            let rules = Arc::make_mut(rules);
            for address in was.on_link.iter().filter(|a| !rules.routers.contains(a)) {
                if hosts.is_none_or(|own| !own.contains(address)) {
                    rules.owned_link_locals.remove(address);
                }
            }
        }
    }

    /// Makes the groups and members in a ruleset those that its policies need.
    fn refer(&self, ruleset: &mut Ruleset, desired: &Desired, numbering: &mut Numbering) {
        let mut same = ruleset.policies.keys().eq(self.ruleset.policies.keys());
        for found in differences(&self.desired.members, &desired.members) {
            let opted_in = |members: Option<&Arc<crate::model::Members>>| {
                members.is_some_and(|all| all.values().any(|m| !m.delegated_prefixes.is_empty()))
            };
            same &= opted_in(found.old) == opted_in(found.new);
            if let Some(members) = ruleset.members.get_mut(&numbering.group(found.key)) {
                *members = found.new.cloned().unwrap_or_default();
            }
        }
        if !same {
            ruleset.groups.clear();
            ruleset.members.clear();
            groups::add(ruleset, desired, numbering);
        }
    }
}

/// Puts a NIC as it is into a ruleset.
fn put_in(
    nic: &Nic,
    outcome: &Outcome,
    ruleset: &mut Ruleset,
    desired: &Desired,
    numbering: &mut Numbering,
) {
    binding::add_nic(ruleset, nic, outcome, desired, numbering);
    for bound in &outcome.bound {
        ruleset.ports.remove(&bound.name);
        if let Some(rules) = ruleset.bridges.get_mut(&bound.bridge) {
            let own = nic.on_link_addresses().into_iter();
            let own = own.filter(|address| is_link_local(*address));
            Arc::make_mut(rules).owned_link_locals.extend(own);
        }
    }
}
