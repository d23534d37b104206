//! What must be cut, from one ruleset to the next (S7).
//!
//! A NIC that may have lost something waits here with what it was, until its flows have
//! been judged by what is in force. A NIC without an interface waits until it is bound
//! again: its port is closed meanwhile, and if it comes back with the rules that it had,
//! as one whose interface flaps does, its flows are not even looked at. If cutting fails,
//! the NIC waits on with what it was first, so that nothing is forgotten.
//!
//! At the agent's start nothing is known of what was, and the flows of all NICs are
//! judged, those without an interface when they are bound.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use tracing::{error, info};

use crate::{
    dataplane::{Dataplane, DataplaneError},
    model::{Desired, NicId},
    ruleset::{
        Before, Change, Comparison, Cut, GroupNumber, NicNumber, NicRules, Object, Plan,
        RemoteRules, Ruleset, Suspect,
    },
};

/// How many earlier states of one NIC are kept while cutting fails.
const MAX_BEFORE: usize = 8;

/// What has still to be judged.
#[derive(Debug, Default)]
pub(super) struct Revocation {
    /// What is in force. Nothing: the agent has just started.
    current: Option<Arc<Ruleset>>,
    waiting: BTreeMap<NicNumber, Waiting>,
    /// NICs that were wanted at the start and had no interface.
    unknown: BTreeSet<NicId>,
    /// Whether the agent has just started and NICs without an interface are not known yet.
    starting: bool,
    /// Something is allowed that was not, and flows that were cut for it are still kept
    /// from coming back.
    widened: bool,
}

#[derive(Debug)]
struct Waiting {
    id: NicId,
    gone: bool,
    /// What it was. Empty: that is not known.
    before: Vec<Before>,
}

impl Revocation {
    /// A plan was carried out, or may have been.
    pub(super) fn advance(&mut self, plan: &Plan) {
        let to = &plan.to;
        let Some(from) = self.current.replace(Arc::clone(to)) else {
            for (number, nic) in &to.nics {
                self.wait(*number, &nic.id, None);
            }
            self.widened = true;
            self.starting = true;
            return;
        };
        let known = plan
            .from
            .as_ref()
            .is_some_and(|known| Arc::ptr_eq(known, &from));
        if known {
            self.compare(&from, to, &plan.changes);
        } else {
            self.compare(&from, to, &Plan::between(&from, to).changes);
        }
    }

    fn compare(&mut self, from: &Arc<Ruleset>, to: &Arc<Ruleset>, changes: &[(Object, Change)]) {
        let touched = touched(from, to, changes);
        let mut forward = Comparison::new(from, to);
        let mut backward = Comparison::new(to, from);
        for number in touched {
            match (from.nics.get(&number), to.nics.get(&number)) {
                (Some(before), None) => self.wait(number, &before.id, Some((from, before))),
                (Some(before), Some(after)) => {
                    if forward.narrows(before, after) {
                        self.wait(number, &before.id, Some((from, before)));
                    }
                    self.widened |= backward.narrows(after, before);
                }
                (None, Some(nic)) => {
                    self.widened = true;
                    if self.unknown.remove(&nic.id) {
                        self.wait(number, &nic.id, None);
                    }
                }
                (None, None) => {}
            }
        }
    }

    fn wait(
        &mut self,
        number: NicNumber,
        id: &NicId,
        before: Option<(&Arc<Ruleset>, &Arc<NicRules>)>,
    ) {
        let waiting = self.waiting.entry(number).or_insert_with(|| Waiting {
            id: id.clone(),
            gone: false,
            before: Vec::new(),
        });
        match before {
            Some((ruleset, nic)) if waiting.before.len() < MAX_BEFORE => {
                waiting.before.push(Before {
                    ruleset: Arc::clone(ruleset),
                    nic: Arc::clone(nic),
                });
            }
            Some(_) => {}
            None => waiting.before.clear(),
        }
    }

    /// Cuts what has to be cut by now. Says how many flows were, and what is wrong.
    pub(super) async fn cut(
        &mut self,
        dataplane: &mut impl Dataplane,
        desired: &Desired,
    ) -> (u64, Option<String>) {
        let Some(to) = self.current.clone() else {
            return (0, None);
        };
        if std::mem::take(&mut self.starting) {
            let bound: BTreeSet<_> = to.nics.values().map(|nic| &nic.id).collect();
            let unbound = desired.nics.keys().filter(|id| !bound.contains(id));
            self.unknown = unbound.cloned().collect();
        }
        self.unknown.retain(|id| desired.nics.contains_key(id));
        let cut = self.due(&to, desired);
        if cut.is_empty() {
            return (0, None);
        }
        match dataplane.cut(&cut).await {
            Ok(flows) => {
                for suspect in &cut.suspects {
                    self.waiting.remove(&suspect.number);
                }
                self.widened = false;
                if flows > 0 {
                    info!(flows, "live flows were cut that nothing allows any more");
                }
                (flows, None)
            }
            Err(why) => {
                error!(error = %why, "live flows that nothing allows any more were not cut");
                let flows = match &why {
                    DataplaneError::FlowsLeft { cut, .. } => *cut,
                    DataplaneError::Refused(_)
                    | DataplaneError::Unknown(_)
                    | DataplaneError::Unreadable(_) => 0,
                };
                (flows, Some(why.to_string()))
            }
        }
    }

    /// Those that can be judged: bound again, or gone for good. Who has by now all that it
    /// had need not be.
    fn due(&mut self, to: &Arc<Ruleset>, desired: &Desired) -> Cut {
        let mut suspects = Vec::new();
        let before = self.waiting.values().flat_map(|waiting| &waiting.before);
        let earlier: BTreeMap<usize, Arc<Ruleset>> = before
            .map(|before| (identity(before), Arc::clone(&before.ruleset)))
            .collect();
        let mut comparisons: BTreeMap<usize, Comparison<'_>> = earlier
            .iter()
            .map(|(identity, from)| (*identity, Comparison::new(from, to)))
            .collect();
        self.waiting.retain(|number, waiting| {
            waiting.gone |= !desired.nics.contains_key(&waiting.id);
            let after = to.nics.get(number);
            if waiting.gone && waiting.before.is_empty() {
                return false;
            }
            if after.is_none() && !waiting.gone {
                return true;
            }
            let Waiting {
                id: _,
                gone,
                before,
            } = waiting;
            let suspect = |before| Suspect {
                number: *number,
                before,
                gone: *gone,
            };
            if before.is_empty() {
                suspects.push(suspect(None));
                return true;
            }
            before.retain(|before| {
                let comparison = comparisons.get_mut(&identity(before));
                match (after, comparison) {
                    (Some(after), Some(comparison)) if !*gone => {
                        comparison.narrows(&before.nic, after)
                    }
                    _ => true,
                }
            });
            suspects.extend(before.iter().cloned().map(|before| suspect(Some(before))));
            !before.is_empty()
        });
        Cut {
            to: Arc::clone(to),
            suspects,
            widened: self.widened,
        }
    }
}

fn identity(before: &Before) -> usize {
    Arc::as_ptr(&before.ruleset).addr()
}

/// The NICs that changes may concern.
fn touched(from: &Ruleset, to: &Ruleset, changes: &[(Object, Change)]) -> BTreeSet<NicNumber> {
    let mut nics = BTreeSet::new();
    let (mut groups, mut members, mut bridges) = (BTreeSet::new(), BTreeSet::new(), false);
    for (object, change) in changes {
        match (object, change) {
            (Object::Nic(number), _) => {
                nics.insert(*number);
            }
            (Object::Group(group), _) => {
                groups.insert(*group);
            }
            (Object::Members(group), _) => {
                members.insert(*group);
            }
            (Object::Bridge(_), Change::Changed) => bridges = true,
            (
                Object::Bridge(_)
                | Object::Lengths
                | Object::GuestPorts
                | Object::Port(_)
                | Object::Policy(_),
                _,
            ) => {}
        }
    }
    for ruleset in [from, to] {
        groups.extend(referring(ruleset, &members));
    }
    if groups.is_empty() && !bridges {
        return nics;
    }
    for ruleset in [from, to] {
        let concerned = |nic: &NicRules| {
            let policy = ruleset.policies.get(&nic.policy);
            bridges || policy.is_some_and(|policy| !policy.groups.is_disjoint(&groups))
        };
        let found = ruleset.nics.iter().filter(|(_, nic)| concerned(nic));
        nics.extend(found.map(|(number, _)| *number));
    }
    nics
}

/// The groups with a rule whose other end is a member of one of these.
fn referring(ruleset: &Ruleset, members: &BTreeSet<GroupNumber>) -> Vec<GroupNumber> {
    let refers = |remote: &RemoteRules| match remote {
        RemoteRules::Members { group, .. } => members.contains(group),
        RemoteRules::Anyone | RemoteRules::Prefixes(_) => false,
    };
    let groups = ruleset.groups.iter();
    groups
        .filter(|(_, group)| group.rules.iter().any(|rule| refers(&rule.remote)))
        .map(|(number, _)| *number)
        .collect()
}
