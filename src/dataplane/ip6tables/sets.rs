//! Sets of addresses: `ipset`.
//!
//! What group rules speak of by its members, or by more than one prefix. Only these change when a
//! member comes or goes.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
};

use super::chains::PREFIX;

/// What a set holds, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Addresses.
    Addresses,
    /// Prefixes.
    Prefixes,
    /// Addresses of routers, which the kernel adds.
    Heard,
    /// Link-local addresses that a NIC was the first to use, four at most, which the kernel adds.
    Claims,
    /// Those of all NICs of a bridge.
    Claimed,
    /// What is left of flows that were cut ([`super::revoked`]).
    Revoked,
}

impl Kind {
    /// As much as a set may hold: the model's limits are lower (`hash:*` have 65,536 of themselves).
    fn options(self) -> &'static str {
        match self {
            Self::Addresses => "hash:ip family inet6 maxelem 1048576",
            Self::Prefixes => "hash:net family inet6 maxelem 1048576",
            Self::Heard => "hash:ip family inet6 maxelem 4096 timeout 7200",
            Self::Claims => "hash:ip family inet6 maxelem 4 timeout 3600",
            Self::Claimed => "hash:ip family inet6 maxelem 262144 timeout 3600",
            Self::Revoked => "hash:ip,port,ip family inet6 hashsize 64 maxelem 4194304 timeout 600",
        }
    }
}

/// A set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Set {
    pub(super) kind: Kind,
    pub(super) members: BTreeSet<String>,
}

impl Set {
    /// A set that the kernel fills.
    pub(super) fn learned(kind: Kind) -> Self {
        Self {
            kind,
            members: BTreeSet::new(),
        }
    }
}

/// Sets by name.
pub(super) type Sets = BTreeMap<String, Set>;

/// The input of `ipset restore` that makes of sets what they are to be, as far as it has to come
/// before the rules that speak of them: all but the end of sets.
///
/// What is to go of a set goes before what is to come: two prefixes may be next to each other, but
/// nothing of one name is in a set twice. A rule that speaks of the set sees a moment between, in
/// which less is allowed than before or after.
pub(super) fn edits(from: &Sets, to: &Sets) -> String {
    static NONE: BTreeSet<String> = BTreeSet::new();
    let mut text = String::new();
    // Writing to a String can't fail.
    for (name, set) in to {
        let before = from.get(name).map(|before| &before.members);
        if before.is_none() {
            let _ = writeln!(text, "create {name} {}", set.kind.options());
        }
        let before = before.unwrap_or(&NONE);
        for gone in before.difference(&set.members) {
            let _ = writeln!(text, "del {name} {gone}");
        }
        for new in set.members.difference(before) {
            let _ = writeln!(text, "add {name} {new}");
        }
    }
    text
}

/// The end of sets that no rule speaks of any more.
pub(super) fn ends(from: &Sets, to: &Sets) -> String {
    let mut text = String::new();
    for gone in from.keys().filter(|name| !to.contains_key(*name)) {
        let _ = writeln!(text, "destroy {gone}");
    }
    text
}

/// What `ipset save` prints of sets of ours. What the kernel adds is not looked at.
pub(super) fn parse(printed: &str) -> Sets {
    let mut sets = Sets::new();
    for line in printed.lines() {
        let words: Vec<_> = line.split_whitespace().collect();
        match words.as_slice() {
            ["create", name, kind, rest @ ..] if name.starts_with(PREFIX) => {
                let kind = match *kind {
                    "hash:net" => Kind::Prefixes,
                    _ if rest.contains(&"timeout") => Kind::Claimed,
                    _ => Kind::Addresses,
                };
                sets.insert((*name).to_owned(), Set::learned(kind));
            }
            ["add", name, member, rest @ ..] if !rest.contains(&"timeout") => {
                if let Some(set) = sets.get_mut(*name) {
                    set.members.insert((*member).to_owned());
                }
            }
            _ => {}
        }
    }
    sets
}
