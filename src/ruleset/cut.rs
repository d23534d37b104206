//! Which live flows a change takes the permission from (S7).
//!
//! A flow is cut that a NIC let begin or would have, and that it doesn't let begin any
//! more. Where an address may be several NICs' (shared ones, first-come link-local ones,
//! any for who may use any, equal ones on two bridges for what the host sees), a flow is
//! cut where the verdict of one of them turned: if it was another's, that one still allows
//! it, and its next packet begins it anew.

use std::{collections::BTreeMap, net::Ipv6Addr, sync::Arc};

use super::{
    NicNumber, NicRules, Ruleset,
    flow::{Flow, Judge},
    owners::{Owners, Sure, owns, zones},
};
use crate::model::IfName;

/// What a NIC was, and by what it was judged.
#[derive(Debug, Clone)]
pub struct Before {
    /// The ruleset that was in force.
    pub ruleset: Arc<Ruleset>,
    /// The NIC in it.
    pub nic: Arc<NicRules>,
}

/// A NIC whose live flows may have lost their permission.
#[derive(Debug, Clone)]
pub struct Suspect {
    /// Which.
    pub number: NicNumber,
    /// What it was. Nothing: that is not known, and all its flows are judged anew.
    pub before: Option<Before>,
    /// Whether it is gone for good.
    pub gone: bool,
}

/// The live flows to cut.
#[derive(Debug, Clone)]
pub struct Cut {
    /// What is in force.
    pub to: Arc<Ruleset>,
    /// Whose flows are to be looked at. Nobody's: none are.
    pub suspects: Vec<Suspect>,
    /// Whether something is allowed that was not, so that flows that were cut may come
    /// back.
    pub widened: bool,
}

impl Cut {
    /// Whether there is nothing to look at.
    pub fn is_empty(&self) -> bool {
        self.suspects.is_empty() && !self.widened
    }
}

/// Picks the flows of a [`Cut`].
#[derive(Debug)]
pub struct Selector<'a> {
    cut: &'a Cut,
    /// Whether the host's own packets and those that it routes are judged on their way to
    /// a guest (S6).
    host_is_judged: bool,
    suspects: Owners<usize>,
    /// Who has the shared addresses of suspects besides them.
    heirs: BTreeMap<(u16, Ipv6Addr), Vec<Arc<NicRules>>>,
    /// By the address of the ruleset: few NICs differ, and most in the same ruleset.
    judges: BTreeMap<usize, Judge>,
}

#[derive(Debug, Clone, Copy)]
enum Role {
    Sender,
    Receiver,
}

impl<'a> Selector<'a> {
    /// Prepares to look at many flows.
    pub fn new(cut: &'a Cut, host_is_judged: bool) -> Self {
        let mut judges = BTreeMap::from([(identity(&cut.to), Judge::new(&cut.to))]);
        let mut suspects = Owners::new();
        let mut heirs: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for (i, suspect) in cut.suspects.iter().enumerate() {
            let nic = match &suspect.before {
                Some(Before { ruleset, nic }) => {
                    let judge = || Judge::new(ruleset);
                    judges.entry(identity(ruleset)).or_insert_with(judge);
                    Some(nic)
                }
                None => cut.to.nics.get(&suspect.number),
            };
            let Some(nic) = nic else { continue };
            suspects.add(i, nic);
            for zone in zones(nic) {
                heirs.extend(
                    nic.shared
                        .iter()
                        .map(|shared| ((zone, *shared), Vec::new())),
                );
            }
        }
        if !heirs.is_empty() {
            for nic in cut.to.nics.values() {
                for zone in zones(nic) {
                    for shared in &nic.shared {
                        if let Some(heirs) = heirs.get_mut(&(zone, *shared)) {
                            heirs.push(Arc::clone(nic));
                        }
                    }
                }
            }
        }
        Self {
            cut,
            host_is_judged,
            suspects,
            heirs,
            judges,
        }
    }

    /// Whether a flow is to be cut.
    pub fn cuts(&self, flow: &Flow) -> bool {
        let ends = [
            (Role::Sender, flow.source),
            (Role::Receiver, flow.destination),
        ];
        ends.into_iter().any(|(role, address)| {
            judged(role, flow, self.host_is_judged)
                && self
                    .suspects
                    .of(flow.zone, address)
                    .into_iter()
                    .any(|(i, sure)| self.lost(i, sure, (role, address), flow))
        })
    }

    /// The bridges of the NICs that a flow is cut for: where it must not come back.
    pub fn bridges(&self, flow: &Flow) -> Vec<IfName> {
        let mut all = Vec::new();
        for address in [flow.source, flow.destination] {
            for (i, _) in self.suspects.of(flow.zone, address) {
                if let Some(nic) = self.rules(i) {
                    let mine = nic.interfaces.values();
                    let here = mine.filter(|(_, zone)| flow.zone == 0 || zone.0 == flow.zone);
                    all.extend(here.map(|(bridge, _)| bridge.clone()));
                }
            }
        }
        all.sort();
        all.dedup();
        all
    }

    fn rules(&self, suspect: usize) -> Option<&Arc<NicRules>> {
        let suspect = self.cut.suspects.get(suspect)?;
        match &suspect.before {
            Some(before) => Some(&before.nic),
            None => self.cut.to.nics.get(&suspect.number),
        }
    }

    fn lost(&self, i: usize, sure: Sure, end: (Role, Ipv6Addr), flow: &Flow) -> bool {
        let (role, address) = end;
        let Some(suspect) = self.cut.suspects.get(i) else {
            return false;
        };
        let after = self.cut.to.nics.get(&suspect.number);
        let after = after.filter(|nic| !suspect.gone && owns(nic, flow.zone, address));
        let to = &self.cut.to;
        let now = if let Some(nic) = after {
            self.allows(to, nic, role, flow)
        } else {
            let heirs = self.heirs.get(&(flow.zone, address));
            let mut heirs = heirs.into_iter().flatten();
            heirs.any(|nic| self.allows(to, nic, role, flow))
        };
        let was = || match &suspect.before {
            Some(Before { ruleset, nic }) => self.allows(ruleset, nic, role, flow),
            None => true,
        };
        !now && (sure == Sure::Yes || was())
    }

    fn allows(&self, ruleset: &Arc<Ruleset>, nic: &NicRules, role: Role, flow: &Flow) -> bool {
        let judge = self.judges.get(&identity(ruleset));
        judge.is_some_and(|judge| allows(judge, nic, role, flow))
    }
}

/// Says of flows that were cut whether they are allowed again.
#[derive(Debug)]
pub struct Pardon<'a> {
    to: &'a Ruleset,
    host_is_judged: bool,
    judge: Judge,
    owners: Owners<NicNumber>,
}

impl<'a> Pardon<'a> {
    /// By what is in force.
    pub fn new(to: &'a Arc<Ruleset>, host_is_judged: bool) -> Self {
        let mut owners = Owners::new();
        for (number, nic) in &to.nics {
            owners.add(*number, nic);
        }
        Self {
            to,
            host_is_judged,
            judge: Judge::new(to),
            owners,
        }
    }

    /// Whether both ends of a flow let it begin, as far as they are NICs, and one is.
    pub fn allows(&self, flow: &Flow) -> bool {
        let mut anyone = false;
        let ends = [
            (Role::Sender, flow.source),
            (Role::Receiver, flow.destination),
        ];
        for (role, address) in ends {
            let owners = self.owners.of(flow.zone, address);
            if owners.is_empty() || !judged(role, flow, self.host_is_judged) {
                continue;
            }
            anyone = true;
            let mut nics = owners
                .iter()
                .filter_map(|(number, _)| self.to.nics.get(number));
            if !nics.any(|nic| allows(&self.judge, nic, role, flow)) {
                return false;
            }
        }
        anyone
    }
}

fn allows(judge: &Judge, nic: &NicRules, role: Role, flow: &Flow) -> bool {
    match role {
        Role::Sender => judge.may_send(nic, flow),
        Role::Receiver => judge.may_receive(nic, flow),
    }
}

/// Whether this end of a flow is judged at all. Copies of a multicast packet are judged one
/// by one, each time: nothing makes them established.
fn judged(role: Role, flow: &Flow, host_is_judged: bool) -> bool {
    match role {
        Role::Sender => true,
        Role::Receiver => !flow.destination.is_multicast() && (flow.zone != 0 || host_is_judged),
    }
}

fn identity(ruleset: &Arc<Ruleset>) -> usize {
    Arc::as_ptr(ruleset).addr()
}

#[cfg(test)]
mod tests;
