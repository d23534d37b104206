//! Numbers of objects, carried over from one compilation to the next.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use crate::{
    model::{Desired, GroupId, IfName, NicId},
    ruleset::{
        BridgeNumber, GroupNumber, NicNumber, Policy, PolicyNumber, Ruleset, name::NUMBER_MASK,
    },
};

/// The numbers given so far. NICs', groups' and policies' are not given twice until
/// they run out, so that what the kernel still keeps under one is nobody else's.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Numbering {
    nics: Counter<NicId>,
    groups: Counter<GroupId>,
    policies: Counter<Policy>,
    bridges: Counter<IfName>,
    /// Which interfaces were certainly whose.
    pub(super) seen: Arc<super::takeover::Seen>,
}

impl Numbering {
    /// The NICs by their numbers.
    pub fn nics(&self) -> impl Iterator<Item = (NicNumber, &NicId)> {
        let given = self.nics.given.iter();
        given.map(|(id, number)| (NicNumber(*number), id))
    }

    pub(super) fn nic(&mut self, id: &NicId) -> NicNumber {
        NicNumber(self.nics.number(id, NUMBER_MASK))
    }

    pub(super) fn group(&mut self, id: &GroupId) -> GroupNumber {
        GroupNumber(self.groups.number(id, u32::MAX))
    }

    pub(super) fn policy(&mut self, policy: &Policy) -> PolicyNumber {
        PolicyNumber(self.policies.number(policy, u32::MAX))
    }

    /// A bridge's number follows from its index where that is free: it is a conntrack
    /// zone, and flows live on when the agent starts anew.
    pub(super) fn bridge(&mut self, name: &IfName, index: u32) -> BridgeNumber {
        let max = u32::from(u16::MAX);
        if !self.bridges.given.contains_key(name) {
            self.bridges.last = index.saturating_sub(1) % max;
        }
        let number = self.bridges.number(name, max);
        BridgeNumber(u16::try_from(number).unwrap_or(u16::MAX))
    }

    pub(super) fn forget_all_but(&mut self, ruleset: &Ruleset, desired: &Desired) {
        // All that is wanted has a number: as many numbers, no other ones.
        if self.nics.given.len() != desired.nics.len() {
            self.nics.keep(|id| desired.nics.contains_key(id));
        }
        if self.groups.given.len() != desired.groups.len() {
            self.groups.keep(|id| desired.groups.contains_key(id));
        }
        if self.policies.given.len() != ruleset.policies.len() {
            let used: BTreeSet<_> = ruleset.policies.values().collect();
            self.policies.keep(|policy| used.contains(policy));
        }
        if self.bridges.given.len() != ruleset.bridges.len() {
            self.bridges.keep(|name| ruleset.bridges.contains_key(name));
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Counter<K: Ord> {
    /// Shared with the numbering that is kept until a change is in force.
    given: Arc<BTreeMap<K, u32>>,
    taken: Arc<BTreeSet<u32>>,
    last: u32,
}

impl<K: Ord> Default for Counter<K> {
    fn default() -> Self {
        Self {
            given: Arc::default(),
            taken: Arc::default(),
            last: 0,
        }
    }
}

impl<K: Ord + Clone> Counter<K> {
    fn number(&mut self, key: &K, max: u32) -> u32 {
        if let Some(number) = self.given.get(key) {
            return *number;
        }
        let taken = Arc::make_mut(&mut self.taken);
        loop {
            self.last = if self.last >= max { 1 } else { self.last + 1 };
            if taken.insert(self.last) {
                break;
            }
        }
        Arc::make_mut(&mut self.given).insert(key.clone(), self.last);
        self.last
    }

    fn keep(&mut self, wanted: impl Fn(&K) -> bool) {
        let taken = Arc::make_mut(&mut self.taken);
        Arc::make_mut(&mut self.given).retain(|key, number| {
            let keep = wanted(key);
            if !keep {
                taken.remove(number);
            }
            keep
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_not_given_again_before_they_run_out() {
        let mut counter = Counter::<u8>::default();
        assert_eq!([counter.number(&7, 3), counter.number(&8, 3)], [1, 2]);
        counter.keep(|key| *key == 8);
        assert_eq!(counter.number(&9, 3), 3);
        assert_eq!(
            counter.number(&10, 3),
            1,
            "wrapped, past the one that is taken"
        );
        assert_eq!(counter.number(&8, 3), 2);
    }
}
