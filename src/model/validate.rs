//! What may be wrong with a change as a whole: conflicts, unknown names, limits.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv6Addr,
};

use serde::{Deserialize, Serialize};

use super::{IfName, InterfaceSelector, Mac, Nic, NicId, Prefix};

/// What sort of fault; it decides the gRPC status.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum FaultKind {
    /// The request contradicts itself or the notation.
    Invalid,
    /// It names something that is not there.
    NotFound,
    /// It contradicts what is in force.
    Conflict,
    /// It is over a configured limit.
    Limit,
}

/// One fault of a request.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{path}: {text}")]
pub struct Fault {
    /// The field, such as `nics[3].delegated_prefixes[0]`.
    pub path: String,
    /// What sort.
    pub kind: FaultKind,
    /// What is wrong with it.
    pub text: String,
}

impl Fault {
    /// A fault of the given sort.
    pub fn new(kind: FaultKind, path: impl Into<String>, text: impl Into<String>) -> Self {
        Self {
            path: path.into(),
            kind,
            text: text.into(),
        }
    }
}

/// How much of everything the management server may push.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// NICs on this host.
    pub nics: usize,
    /// Groups on this host.
    pub groups: usize,
    /// Rules in one group.
    pub rules_per_group: usize,
    /// Prefixes in one rule.
    pub prefixes_per_rule: usize,
    /// Members of one group.
    pub members_per_group: usize,
    /// Groups of one NIC.
    pub groups_per_nic: usize,
    /// Addresses, prefixes and virtual MACs of one NIC, each.
    pub addresses_per_nic: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            nics: 10_000,
            groups: 10_000,
            rules_per_group: 1_000,
            prefixes_per_rule: 1_000,
            members_per_group: 100_000,
            groups_per_nic: 64,
            addresses_per_nic: 256,
        }
    }
}

/// Two NICs that claim the same thing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conflict {
    /// The one that is named in the fault.
    pub nic: NicId,
    /// Who has it already.
    pub other: NicId,
    /// The field of `nic`, such as `addresses[0].address`.
    pub field: String,
    /// What both claim.
    pub what: String,
}

/// The bridges that a NIC is known to be on. Empty: not known yet; it may turn out to
/// be any.
pub type Scope = BTreeSet<IfName>;

/// A NIC with where it is.
#[derive(Debug, Clone)]
pub struct Placed<'a> {
    /// The NIC.
    pub nic: &'a Nic,
    /// Where it is.
    pub scope: Scope,
    /// The interfaces that its selectors mean, by the selector's position.
    pub interfaces: Vec<(usize, IfName)>,
    /// Whether to name it, rather than the other, when the two contradict each other.
    pub blamed: bool,
}

impl Placed<'_> {
    /// The scope that the NIC's own selectors tell.
    pub fn declared_scope(nic: &Nic) -> Scope {
        let bridge = |selector: &InterfaceSelector| match selector {
            InterfaceSelector::MacOnBridge(bridge) => Some(bridge.clone()),
            InterfaceSelector::Name(_) | InterfaceSelector::Xen { .. } => None,
        };
        nic.interfaces.iter().filter_map(bridge).collect()
    }

    fn may_meet(&self, other: &Self) -> bool {
        self.scope.is_empty() || other.scope.is_empty() || !self.scope.is_disjoint(&other.scope)
    }
}

/// Every pair of NICs that claim the same interface, MAC, address or prefix.
pub fn conflicts(nics: &[Placed<'_>]) -> Vec<Conflict> {
    let mut found = interface_conflicts(nics);
    found.extend(mac_conflicts(nics));
    found.extend(range_conflicts(nics));
    found
}

fn conflict(a: (&Placed<'_>, String), b: (&Placed<'_>, String), what: &str) -> Conflict {
    let rank = |placed: &Placed<'_>| (placed.blamed, placed.nic.id.clone());
    let (mine, theirs) = if rank(a.0) > rank(b.0) {
        (a, b)
    } else {
        (b, a)
    };
    Conflict {
        nic: mine.0.nic.id.clone(),
        other: theirs.0.nic.id.clone(),
        field: mine.1,
        what: what.to_owned(),
    }
}

fn interface_conflicts(nics: &[Placed<'_>]) -> Vec<Conflict> {
    let mut owner: BTreeMap<&IfName, (&Placed<'_>, String)> = BTreeMap::new();
    let mut found = Vec::new();
    for placed in nics {
        for (i, name) in &placed.interfaces {
            let selector = placed.nic.interfaces.get(*i);
            let key = selector.map_or("name", InterfaceSelector::field);
            let claim = (placed, format!("interfaces[{i}].{key}"));
            match owner.get(name) {
                Some(other) if other.0.nic.id != placed.nic.id => {
                    found.push(conflict(claim, other.clone(), &format!("interface {name}")));
                }
                _ => {
                    owner.insert(name, claim);
                }
            }
        }
    }
    found
}

fn mac_conflicts(nics: &[Placed<'_>]) -> Vec<Conflict> {
    let mut owners: BTreeMap<Mac, Vec<&Placed<'_>>> = BTreeMap::new();
    let mut found = Vec::new();
    for placed in nics {
        let others = owners.entry(placed.nic.mac).or_default();
        if let Some(other) = others.iter().find(|other| placed.may_meet(other)) {
            let field = || "mac".to_owned();
            let what = format!("MAC {}", placed.nic.mac);
            found.push(conflict((placed, field()), (other, field()), &what));
        }
        others.push(placed);
    }
    found
}

struct Claim<'a> {
    range: Prefix,
    shared: bool,
    placed: &'a Placed<'a>,
    field: ClaimField,
}

#[derive(Clone, Copy)]
enum ClaimField {
    Address(usize),
    Slaac,
    LinkLocal(usize),
    Mac,
    Delegated(usize),
    OnLink,
}

impl ClaimField {
    fn path(self) -> String {
        match self {
            Self::Address(i) => format!("addresses[{i}].address"),
            Self::Slaac => "slaac_prefix".to_owned(),
            Self::LinkLocal(i) => format!("link_local_addresses[{i}]"),
            Self::Mac => "mac".to_owned(),
            Self::Delegated(i) => format!("delegated_prefixes[{i}]"),
            Self::OnLink => "on_link_prefix".to_owned(),
        }
    }
}

fn claims<'a>(placed: &'a Placed<'a>) -> Vec<Claim<'a>> {
    let nic = placed.nic;
    let single = |address: Ipv6Addr, shared, field| Claim {
        range: Prefix::host(address),
        shared,
        placed,
        field,
    };
    let whole = |range, field| Claim {
        range,
        shared: false,
        placed,
        field,
    };
    let mut all = Vec::new();
    for (i, owned) in nic.addresses.iter().enumerate() {
        all.push(single(owned.address, owned.shared, ClaimField::Address(i)));
    }
    all.extend(
        nic.slaac_address()
            .map(|address| single(address, false, ClaimField::Slaac)),
    );
    let explicit = matches!(nic.link_local, Some(super::LinkLocal::Explicit(_)));
    for (i, address) in nic.link_local_addresses().into_iter().enumerate() {
        let field = if explicit {
            ClaimField::LinkLocal(i)
        } else {
            ClaimField::Mac
        };
        all.push(single(address, false, field));
    }
    for (i, prefix) in nic.delegated_prefixes.iter().enumerate() {
        all.push(whole(*prefix, ClaimField::Delegated(i)));
    }
    all.extend(
        nic.on_link_prefix
            .map(|prefix| whole(prefix, ClaimField::OnLink)),
    );
    all
}

/// Prefixes nest or are disjoint, so a walk in order of address with a stack of the
/// prefixes around meets every overlap.
fn range_conflicts(nics: &[Placed<'_>]) -> Vec<Conflict> {
    let mut all: Vec<Claim<'_>> = nics.iter().flat_map(claims).collect();
    all.sort_by(|a, b| {
        (a.range.network(), a.range.length(), &a.placed.nic.id).cmp(&(
            b.range.network(),
            b.range.length(),
            &b.placed.nic.id,
        ))
    });
    let mut around: Vec<Claim<'_>> = Vec::new();
    let mut found = Vec::new();
    for claim in all {
        while around
            .last()
            .is_some_and(|outer| !outer.range.overlaps(&claim.range))
        {
            around.pop();
        }
        let meets = |outer: &&Claim<'_>| {
            outer.placed.nic.id != claim.placed.nic.id
                && !(outer.shared && claim.shared)
                && outer.placed.may_meet(claim.placed)
        };
        for outer in around.iter().filter(meets) {
            let what = if claim.range == outer.range {
                claim.range.to_string()
            } else {
                format!("{} (within {})", claim.range, outer.range)
            };
            found.push(conflict(
                (claim.placed, claim.field.path()),
                (outer.placed, outer.field.path()),
                &what,
            ));
        }
        around.push(claim);
    }
    found
}
