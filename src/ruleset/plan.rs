//! The way from one ruleset to the next.

use std::{collections::BTreeMap, sync::Arc};

use super::{GroupNumber, NicNumber, PolicyNumber, Ruleset};
use crate::model::{IfName, differences};

/// A part of a ruleset that is programmed as a whole.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Object {
    /// The prefix lengths in use.
    Lengths,
    /// The set of guests' ports.
    GuestPorts,
    /// A managed bridge.
    Bridge(IfName),
    /// A port that no NIC is bound to.
    Port(IfName),
    /// A group's rules.
    Group(GroupNumber),
    /// A group's members.
    Members(GroupNumber),
    /// A policy.
    Policy(PolicyNumber),
    /// A NIC.
    Nic(NicNumber),
}

/// What becomes of one object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// It was not there before.
    Added,
    /// It differs from before.
    Changed,
    /// It is gone.
    Removed,
}

/// The way from one ruleset to the next: one transaction.
#[derive(Debug, Clone)]
pub struct Plan {
    /// What the kernel is known to hold; nothing where that is not known, and all of
    /// ours is replaced.
    pub from: Option<Arc<Ruleset>>,
    /// What it is to hold.
    pub to: Arc<Ruleset>,
    /// What differs, in order.
    pub changes: Vec<(Object, Change)>,
}

impl Plan {
    /// The way from what the kernel is known to hold.
    pub fn between(from: &Arc<Ruleset>, to: &Arc<Ruleset>) -> Self {
        // The first managed bridge brings our tables, the last one takes them away.
        if from.is_empty() != to.is_empty() {
            return Self::replace(to);
        }
        Self {
            from: Some(Arc::clone(from)),
            to: Arc::clone(to),
            changes: changes(from, to),
        }
    }

    /// The way from whatever the kernel holds.
    pub fn replace(to: &Arc<Ruleset>) -> Self {
        let changes = changes(&Ruleset::default(), to);
        Self {
            from: None,
            to: Arc::clone(to),
            changes,
        }
    }

    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.from.is_some() && self.changes.is_empty()
    }
}

fn changes(from: &Ruleset, to: &Ruleset) -> Vec<(Object, Change)> {
    let mut all = Vec::new();
    if from.lengths != to.lengths {
        all.push((Object::Lengths, Change::Changed));
    }
    if from.guest_ports != to.guest_ports {
        all.push((Object::GuestPorts, Change::Changed));
    }
    compare(&mut all, &from.bridges, &to.bridges, |name| {
        Object::Bridge(name.clone())
    });
    compare(&mut all, &from.ports, &to.ports, |name| {
        Object::Port(name.clone())
    });
    compare(&mut all, &from.groups, &to.groups, |group| {
        Object::Group(*group)
    });
    compare(&mut all, &from.members, &to.members, |group| {
        Object::Members(*group)
    });
    compare(&mut all, &from.policies, &to.policies, |policy| {
        Object::Policy(*policy)
    });
    compare(&mut all, &from.nics, &to.nics, |nic| Object::Nic(*nic));
    all
}

fn compare<K: Ord, V: PartialEq>(
    all: &mut Vec<(Object, Change)>,
    from: &BTreeMap<K, V>,
    to: &BTreeMap<K, V>,
    object: impl Fn(&K) -> Object,
) {
    for found in differences(from, to) {
        let change = match (found.old, found.new) {
            (None, _) => Change::Added,
            (Some(_), Some(_)) => Change::Changed,
            (Some(_), None) => Change::Removed,
        };
        all.push((object(found.key), change));
    }
}
