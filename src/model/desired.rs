//! All that the management server wants of this host, and changes to it.

use std::{collections::BTreeMap, net::Ipv6Addr, sync::Arc};

use serde::{Deserialize, Serialize};

use super::{
    Fault, FaultKind, GroupId, IfName, InterfaceSelector, Limits, Located, Member, Nearby, Nic,
    NicId, Placed, Remote, Scope, SecurityGroup, conflicts, differences,
};

/// The members of one group, by address.
pub type Members = BTreeMap<Ipv6Addr, Member>;

/// The management server's revision of what it wants.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Generation {
    /// Its number.
    pub number: u64,
    /// A digest of the request that carried it: the same number with the same content
    /// is no change, with another content it is refused.
    pub fingerprint: String,
}

/// What the management server wants of this host. Cheap to clone: the objects are
/// shared, and an object that two values share is the same in both.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Desired {
    /// The NICs.
    pub nics: BTreeMap<NicId, Arc<Nic>>,
    /// The groups.
    pub groups: BTreeMap<GroupId, Arc<SecurityGroup>>,
    /// The members of each group; every group has an entry.
    pub members: BTreeMap<GroupId, Arc<Members>>,
}

/// One atomic change to a [`Desired`]. An object is named once only.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Delta {
    /// Whether what the delta does not name goes away (a full sync).
    pub replace: bool,
    /// NICs to add or to replace, in the order of the request.
    pub nics: Vec<Nic>,
    /// NICs to remove.
    pub remove_nics: Vec<NicId>,
    /// Groups to add, or whose name and rules to replace.
    pub groups: Vec<SecurityGroup>,
    /// Groups to remove with their members.
    pub remove_groups: Vec<GroupId>,
    /// Members to add and addresses to remove, by group.
    pub members: Vec<MembersDelta>,
}

/// A change to the members of one group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MembersDelta {
    /// The group.
    pub group: GroupId,
    /// Members to add or to replace.
    pub add: Vec<Member>,
    /// Addresses to remove.
    pub remove: Vec<Ipv6Addr>,
}

/// How many objects differ between two [`Desired`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Summary {
    /// Added, changed, removed NICs.
    pub nics: Tally,
    /// Added, changed, removed groups.
    pub groups: Tally,
    /// Added, changed, removed members.
    pub members: Tally,
}

/// How many were added, changed and removed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// Only in the newer.
    pub added: u32,
    /// In both, and different.
    pub changed: u32,
    /// Only in the older.
    pub removed: u32,
}

impl Tally {
    fn of<K: Ord, V: PartialEq>(old: &BTreeMap<K, V>, new: &BTreeMap<K, V>) -> Self {
        let mut tally = Self::default();
        for found in differences(old, new) {
            match (found.old, found.new) {
                (None, _) => tally.added += 1,
                (Some(_), Some(_)) => tally.changed += 1,
                (Some(_), None) => tally.removed += 1,
            }
        }
        tally
    }

    fn add(&mut self, other: Self) {
        self.added += other.added;
        self.changed += other.changed;
        self.removed += other.removed;
    }
}

impl Desired {
    /// What a change would make of this, or every fault of the change. `host`
    /// tells on which bridges NICs are.
    pub fn change(
        &self,
        delta: &Delta,
        limits: &Limits,
        host: &Located,
    ) -> Result<Self, Vec<Fault>> {
        let mut next = if delta.replace {
            Self::default()
        } else {
            self.clone()
        };
        let mut faults = next.edit(delta);
        faults.extend(next.unknown_groups(delta));
        faults.extend(next.over_limits(delta, limits));
        faults.extend(next.conflicts_of(delta, host));
        if faults.is_empty() {
            Ok(next)
        } else {
            Err(faults)
        }
    }

    /// How this differs from what was before.
    pub fn summary(&self, before: &Self) -> Summary {
        let mut members = Tally::default();
        let none = Arc::default();
        for (group, now) in &self.members {
            let old = before.members.get(group).unwrap_or(&none);
            if !Arc::ptr_eq(old, now) {
                members.add(Tally::of(old, now));
            }
        }
        for (group, old) in &before.members {
            if !self.members.contains_key(group) {
                members.add(Tally::of(old, &none));
            }
        }
        Summary {
            nics: Tally::of(&before.nics, &self.nics),
            groups: Tally::of(&before.groups, &self.groups),
            members,
        }
    }

    fn edit(&mut self, delta: &Delta) -> Vec<Fault> {
        let mut faults = Vec::new();
        for (i, id) in delta.remove_nics.iter().enumerate() {
            if self.nics.remove(id).is_none() {
                faults.push(not_found(format!("remove_nics[{i}]"), "NIC", id.as_str()));
            }
        }
        for nic in &delta.nics {
            upsert(&mut self.nics, nic.id.clone(), nic);
        }
        for (i, id) in delta.remove_groups.iter().enumerate() {
            self.members.remove(id);
            if self.groups.remove(id).is_none() {
                faults.push(not_found(
                    format!("remove_groups[{i}]"),
                    "group",
                    id.as_str(),
                ));
            }
        }
        for group in &delta.groups {
            upsert(&mut self.groups, group.id.clone(), group);
            self.members.entry(group.id.clone()).or_default();
        }
        for (i, change) in delta.members.iter().enumerate() {
            faults.extend(self.edit_members(i, change));
        }
        faults
    }

    fn edit_members(&mut self, i: usize, change: &MembersDelta) -> Vec<Fault> {
        let Some(shared) = self.members.get_mut(&change.group) else {
            let path = format!("members[{i}].group_id");
            return vec![not_found(path, "group", change.group.as_str())];
        };
        let unchanged = change.remove.is_empty()
            && change
                .add
                .iter()
                .all(|member| shared.get(&member.address) == Some(member));
        if unchanged {
            return Vec::new();
        }
        let members = Arc::make_mut(shared);
        let mut faults = Vec::new();
        for (j, address) in change.remove.iter().enumerate() {
            if members.remove(address).is_none() {
                let path = format!("members[{i}].remove[{j}]");
                let text = format!("{address} is no member of group {}", change.group);
                faults.push(Fault::new(FaultKind::NotFound, path, text));
            }
        }
        for member in &change.add {
            members.insert(member.address, member.clone());
        }
        faults
    }

    fn unknown_groups(&self, delta: &Delta) -> Vec<Fault> {
        let mut faults = Vec::new();
        for (i, nic) in delta.nics.iter().enumerate() {
            for (j, id) in nic.groups.iter().enumerate() {
                if !self.groups.contains_key(id) {
                    faults.push(not_found(
                        format!("nics[{i}].group_ids[{j}]"),
                        "group",
                        id.as_str(),
                    ));
                }
            }
        }
        for (i, group) in delta.groups.iter().enumerate() {
            for (j, rule) in group.rules.iter().enumerate() {
                if let Remote::Group(id) = &rule.remote
                    && !self.groups.contains_key(id)
                {
                    let path = format!("groups[{i}].rules[{j}].remote.group_id");
                    faults.push(not_found(path, "group", id.as_str()));
                }
            }
        }
        for (i, id) in delta.remove_groups.iter().enumerate() {
            if let Some(user) = self.user_of(id, delta) {
                let text = format!("group {id} is still used by {user}");
                faults.push(Fault::new(
                    FaultKind::Conflict,
                    format!("remove_groups[{i}]"),
                    text,
                ));
            }
        }
        faults
    }

    /// Who, other than the objects that the delta itself brings, refers to a group.
    fn user_of(&self, id: &GroupId, delta: &Delta) -> Option<String> {
        let brought_nic = |nic: &NicId| delta.nics.iter().any(|n| n.id == *nic);
        let brought_group = |group: &GroupId| delta.groups.iter().any(|g| g.id == *group);
        let refers = |group: &SecurityGroup| {
            group
                .rules
                .iter()
                .any(|rule| matches!(&rule.remote, Remote::Group(r) if r == id))
        };
        self.nics
            .values()
            .find(|nic| nic.groups.contains(id) && !brought_nic(&nic.id))
            .map(|nic| format!("NIC {}", nic.id))
            .or_else(|| {
                self.groups
                    .values()
                    .find(|group| refers(group) && !brought_group(&group.id))
                    .map(|group| format!("a rule of group {}", group.id))
            })
    }

    fn over_limits(&self, delta: &Delta, limits: &Limits) -> Vec<Fault> {
        let mut faults = Vec::new();
        let mut check = |path: &str, count: usize, limit: usize, what: &str| {
            if count > limit {
                let text = format!("{count} {what}, the configured limit is {limit}");
                faults.push(Fault::new(FaultKind::Limit, path, text));
            }
        };
        // A limit that was lowered must not refuse removals.
        if !delta.nics.is_empty() {
            check("nics", self.nics.len(), limits.nics, "NICs");
        }
        if !delta.groups.is_empty() {
            check("groups", self.groups.len(), limits.groups, "groups");
        }
        for (i, nic) in delta.nics.iter().enumerate() {
            let at = |field: &str| format!("nics[{i}].{field}");
            check(
                &at("group_ids"),
                nic.groups.len(),
                limits.groups_per_nic,
                "groups",
            );
            let each = limits.addresses_per_nic;
            check(&at("addresses"), nic.addresses.len(), each, "addresses");
            check(
                &at("delegated_prefixes"),
                nic.delegated_prefixes.len(),
                each,
                "prefixes",
            );
            check(
                &at("virtual_macs"),
                nic.virtual_macs.len(),
                each,
                "virtual MACs",
            );
        }
        for (i, group) in delta.groups.iter().enumerate() {
            let at = format!("groups[{i}].rules");
            check(&at, group.rules.len(), limits.rules_per_group, "rules");
            for (j, rule) in group.rules.iter().enumerate() {
                if let Remote::Prefixes(prefixes) = &rule.remote {
                    let at = format!("groups[{i}].rules[{j}].remote.prefixes");
                    check(&at, prefixes.len(), limits.prefixes_per_rule, "prefixes");
                }
            }
        }
        for (i, change) in delta.members.iter().enumerate() {
            let count = self
                .members
                .get(&change.group)
                .map_or(0, |members| members.len());
            check(
                &format!("members[{i}].add"),
                count,
                limits.members_per_group,
                "members",
            );
        }
        faults
    }

    fn conflicts_of(&self, delta: &Delta, host: &Located) -> Vec<Fault> {
        let index: BTreeMap<&NicId, usize> = delta
            .nics
            .iter()
            .enumerate()
            .map(|(i, nic)| (&nic.id, i))
            .collect();
        let near = Nearby::of(&delta.nics, host);
        let blamed = |nic: &Nic| index.contains_key(&nic.id);
        let placed: Vec<_> = self
            .nics
            .values()
            .filter(|nic| blamed(nic) || near.touches(nic))
            .map(|nic| Placed {
                nic,
                scope: scope(nic, host),
                interfaces: meant(nic, host),
                blamed: blamed(nic),
            })
            .collect();
        conflicts(&placed)
            .into_iter()
            .filter_map(|found| {
                let path = format!("nics[{}].{}", index.get(&found.nic)?, found.field);
                let text = format!("{} is already owned by NIC {}", found.what, found.other);
                Some(Fault::new(FaultKind::Conflict, path, text))
            })
            .collect()
    }
}

/// The bridges that a NIC is on, as far as they are known.
fn scope(nic: &Nic, host: &Located) -> Scope {
    let ports = nic.interfaces.iter();
    let ports = ports.flat_map(|selector| host.meant(selector, nic.mac));
    let bridges = ports.filter_map(|port| host.bridge_of(port));
    let known = bridges.map(|bridge| bridge.name.clone());
    known.chain(Placed::declared_scope(nic)).collect()
}

/// The interfaces that a NIC's selectors mean, by the selector's position. One that is given by
/// name is meant before it is there.
fn meant(nic: &Nic, host: &Located) -> Vec<(usize, IfName)> {
    let names = |selector: &InterfaceSelector| match selector {
        InterfaceSelector::Name(name) => vec![name.clone()],
        InterfaceSelector::MacOnBridge(_) | InterfaceSelector::Xen { .. } => {
            let links = host.meant(selector, nic.mac);
            links.iter().map(|link| link.name.clone()).collect()
        }
    };
    let each = nic.interfaces.iter().enumerate();
    each.flat_map(|(i, selector)| names(selector).into_iter().map(move |name| (i, name)))
        .collect()
}

fn upsert<K: Ord, V: Clone + PartialEq>(map: &mut BTreeMap<K, Arc<V>>, key: K, value: &V) {
    let same = map.get(&key).is_some_and(|before| **before == *value);
    if !same {
        map.insert(key, Arc::new(value.clone()));
    }
}

fn not_found(path: String, what: &str, id: &str) -> Fault {
    Fault::new(
        FaultKind::NotFound,
        path,
        format!("there is no {what} {id}"),
    )
}
