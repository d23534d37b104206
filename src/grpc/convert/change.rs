//! Whole requests into changes.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    net::Ipv6Addr,
};

use super::{Faults, Path, fingerprint::fingerprint, group, nic, text};
use crate::{
    agent::{Change, Generation},
    model::{Delta, Fault, GroupId, Member, MembersDelta, Nic, NicId, SecurityGroup},
    pb,
};

const NICS: Path<'static> = Path::top("nics");
const REMOVE_NICS: Path<'static> = Path::top("remove_nics");
const GROUPS: Path<'static> = Path::top("groups");
const REMOVE_GROUPS: Path<'static> = Path::top("remove_groups");
const MEMBERS: Path<'static> = Path::top("members");

/// A full sync as a change, with what is needed to name its fields.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Synced {
    /// The change.
    pub change: Change,
    /// For each entry of the change's `members`, the position in the request's
    /// `members` where its group was named first.
    entries: Vec<usize>,
}

impl Synced {
    /// Names faults that were found in the change by the fields of the sync.
    pub fn rename(entries: &[usize], faults: Vec<Fault>) -> Vec<Fault> {
        let renamed = |path: &str| {
            let (index, rest) = path.strip_prefix("members[")?.split_once(']')?;
            let entry = entries.get(index.parse::<usize>().ok()?)?;
            let rest = if rest == ".add" { ".members" } else { rest };
            Some(format!("members[{entry}]{rest}"))
        };
        let one = |Fault { path, kind, text }| Fault {
            path: renamed(&path).unwrap_or(path),
            kind,
            text,
        };
        faults.into_iter().map(one).collect()
    }

    /// The change and the positions for [`Self::rename`].
    pub fn into_parts(self) -> (Change, Vec<usize>) {
        (self.change, self.entries)
    }
}

/// The change that an Apply asks for, or every fault of the request.
pub fn apply(request: pb::ApplyRequest) -> Result<Change, Vec<Fault>> {
    let pb::ApplyRequest {
        generation,
        dry_run,
        nics,
        remove_nics,
        groups,
        remove_groups,
        members,
    } = request;
    let mut f = Faults::default();
    let (nic_ids, nics) = self::nics(&mut f, nics);
    let remove_nics = f.each(&REMOVE_NICS, remove_nics, text::nic_id);
    f.unique(&REMOVE_NICS, &remove_nics);
    both(&mut f, (&REMOVE_NICS, &remove_nics), (&NICS, &nic_ids));
    let (group_ids, groups) = self::groups(&mut f, groups);
    let remove_groups = f.each(&REMOVE_GROUPS, remove_groups, text::group_id);
    f.unique(&REMOVE_GROUPS, &remove_groups);
    both(
        &mut f,
        (&REMOVE_GROUPS, &remove_groups),
        (&GROUPS, &group_ids),
    );
    let members = members_deltas(&mut f, members, &remove_groups);
    f.into_result()?;
    let delta = Delta {
        replace: false,
        nics: some(nics),
        remove_nics: some(remove_nics),
        groups: some(groups),
        remove_groups: some(remove_groups),
        members,
    };
    Ok(change(generation, dry_run, delta))
}

/// The change that a full sync asks for, or every fault of it. The messages of the
/// stream are joined in `request`; `complete` is the stream's and is not looked at.
pub fn sync(request: pb::SyncRequest) -> Result<Synced, Vec<Fault>> {
    let pb::SyncRequest {
        generation,
        dry_run,
        nics,
        groups,
        members,
        complete: _,
    } = request;
    let mut f = Faults::default();
    let (_, nics) = self::nics(&mut f, nics);
    let (_, groups) = self::groups(&mut f, groups);
    let (entries, members) = group_members(&mut f, members).unzip();
    f.into_result()?;
    let delta = Delta {
        replace: true,
        nics: some(nics),
        remove_nics: Vec::new(),
        groups: some(groups),
        remove_groups: Vec::new(),
        members,
    };
    Ok(Synced {
        change: change(generation, dry_run, delta),
        entries,
    })
}

fn change(generation: Option<u64>, dry_run: bool, delta: Delta) -> Change {
    let generation = generation.map(|number| Generation {
        number,
        fingerprint: fingerprint(&delta),
    });
    Change {
        generation,
        dry_run,
        delta,
        adopt: None,
    }
}

/// Has a bridge enforced.
pub(in crate::grpc) fn adopt(f: &mut Faults, request: pb::AdoptBridgeRequest) -> Option<Change> {
    let pb::AdoptBridgeRequest { bridge, dry_run } = request;
    let adopt = text::interface_name(f, &Path::top("bridge"), bridge)?;
    Some(Change {
        adopt: Some(adopt),
        ..change(None, dry_run, Delta::default())
    })
}

fn some<T>(list: Vec<Option<T>>) -> Vec<T> {
    list.into_iter().flatten().collect()
}

/// The NICs, and the id of each that has one, be it otherwise at fault or not.
fn nics(f: &mut Faults, list: Vec<pb::Nic>) -> (Vec<Option<NicId>>, Vec<Option<Nic>>) {
    let ids: Vec<_> = list.iter().map(|nic| nic.id.parse().ok()).collect();
    let nics = f.each(&NICS, list, nic::nic);
    f.unique_by(&NICS, "id", &ids);
    (ids, nics)
}

/// The groups, and the id of each that has one, be it otherwise at fault or not.
fn groups(
    f: &mut Faults,
    list: Vec<pb::Group>,
) -> (Vec<Option<GroupId>>, Vec<Option<SecurityGroup>>) {
    let ids: Vec<_> = list.iter().map(|group| group.id.parse().ok()).collect();
    let groups = f.each(&GROUPS, list, group::group);
    f.unique_by(&GROUPS, "id", &ids);
    (ids, groups)
}

/// Notes what is in two lists of the request that contradict each other.
fn both<K: Ord + fmt::Display>(
    f: &mut Faults,
    (at, list): (&Path<'_>, &[Option<K>]),
    (other_at, other): (&Path<'_>, &[Option<K>]),
) {
    let others: BTreeMap<&K, usize> = other
        .iter()
        .enumerate()
        .filter_map(|(i, key)| Some((key.as_ref()?, i)))
        .collect();
    for (i, key) in list.iter().enumerate() {
        if let Some(key) = key
            && let Some(j) = others.get(key)
        {
            let text = format!("{key} is also in {}", other_at.index(*j));
            f.invalid(&at.index(i), text);
        }
    }
}

fn members_deltas(
    f: &mut Faults,
    list: Vec<pb::MembersDelta>,
    gone: &[Option<GroupId>],
) -> Vec<MembersDelta> {
    let ids: Vec<_> = list
        .iter()
        .map(|delta| delta.group_id.parse::<GroupId>().ok())
        .collect();
    let gone: BTreeSet<_> = gone.iter().flatten().collect();
    let deltas = f.each(&MEMBERS, list, |f, at, delta| {
        members_delta(f, at, delta, &gone)
    });
    f.unique_by(&MEMBERS, "group_id", &ids);
    some(deltas)
}

fn members_delta(
    f: &mut Faults,
    at: &Path<'_>,
    delta: pb::MembersDelta,
    gone: &BTreeSet<&GroupId>,
) -> Option<MembersDelta> {
    let pb::MembersDelta {
        group_id,
        add,
        remove,
    } = delta;
    let group = text::group_id(f, &at.field("group_id"), group_id);
    if let Some(group) = group.as_ref().filter(|group| gone.contains(group)) {
        f.invalid(
            &at.field("group_id"),
            format_args!("{group} is removed by the same request"),
        );
    }
    let (add_at, remove_at) = (at.field("add"), at.field("remove"));
    let add = f.each(&add_at, add, group::member);
    let added: Vec<_> = add
        .iter()
        .map(|member| Some(member.as_ref()?.address))
        .collect();
    f.unique_by(&add_at, "address", &added);
    let remove = f.each(&remove_at, remove, |f, at, text| {
        text::address(f, at, &text)
    });
    f.unique(&remove_at, &remove);
    both(f, (&remove_at, &remove), (&add_at, &added));
    Some(MembersDelta {
        group: group?,
        add: some(add),
        remove: some(remove),
    })
}

/// The members of each group, its entries joined, with the position of the first.
fn group_members(
    f: &mut Faults,
    list: Vec<pb::GroupMembers>,
) -> impl Iterator<Item = (usize, MembersDelta)> {
    let mut joined: BTreeMap<GroupId, (usize, BTreeMap<Ipv6Addr, Member>)> = BTreeMap::new();
    for (i, pb::GroupMembers { group_id, members }) in list.into_iter().enumerate() {
        let at = MEMBERS.index(i);
        let group = text::group_id(f, &at.field("group_id"), group_id);
        let at = at.field("members");
        let members = f.each(&at, members, group::member);
        let Some(group) = group else { continue };
        let (_, known) = joined.entry(group).or_insert_with(|| (i, BTreeMap::new()));
        for (j, member) in members.into_iter().enumerate() {
            let Some(member) = member else { continue };
            let address = member.address;
            if known.insert(address, member).is_some() {
                let text = format!("{address} is already a member of this group");
                f.invalid(&at.index(j).field("address"), text);
            }
        }
    }
    joined.into_iter().map(|(group, (entry, members))| {
        let add = members.into_values().collect();
        (
            entry,
            MembersDelta {
                group,
                add,
                remove: Vec::new(),
            },
        )
    })
}
