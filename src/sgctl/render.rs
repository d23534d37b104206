//! Answers as tables.

use std::fmt::Write as _;

use super::table::{Cell, Table, Tone};
use crate::pb::{self, interface_selector::By, xen_interface::Guest};

mod diagnose;
mod explain;
mod nic;
mod status;
mod time;
mod watch;

pub(super) use diagnose::diagnosed;
pub(super) use explain::explained;
pub(super) use nic::{Group, nic};
pub(super) use status::status;
pub(super) use watch::{drop_news, event_news};

/// How many addresses a list shows of each NIC.
const MAX_ADDRESSES: usize = 3;

/// How many ports a list shows of each bridge.
const MAX_PORTS: usize = 6;

/// What became of an Apply or a Sync. `plan` is what a dry run would do.
pub(super) fn outcome(
    (revision, generation): (u64, Option<u64>),
    summary: Option<pb::ChangeSummary>,
    plan: Option<&[String]>,
    flows_cut: u64,
) -> String {
    let changes = changes(&summary.unwrap_or_default());
    let Some(lines) = plan else {
        let generation = generation
            .map(|n| format!(", generation {n}"))
            .unwrap_or_default();
        let cut = match flows_cut {
            0 => String::new(),
            1 => "1 live flow was cut\n".to_owned(),
            n => format!("{n} live flows were cut\n"),
        };
        return format!("{changes} (revision {revision}{generation})\n{cut}");
    };
    let mut text = format!("would change: {changes}\n");
    for line in lines {
        text.push_str(line);
        text.push('\n');
    }
    text
}

/// The bridges that a change adopts, or would.
pub(super) fn adopted(bridges: &[pb::BridgeStatus], done: bool) -> String {
    let line = |bridge: &pb::BridgeStatus| {
        let is = if done { "is" } else { "would be" };
        let closed = match &bridge.closed_ports[..] {
            [] => "no port".to_owned(),
            ports => ports.join(" "),
        };
        format!("bridge {} {is} enforced; closed: {closed}\n", bridge.name)
    };
    bridges.iter().map(line).collect()
}

fn changes(summary: &pb::ChangeSummary) -> String {
    let pb::ChangeSummary {
        nics_added,
        nics_changed,
        nics_removed,
        groups_added,
        groups_changed,
        groups_removed,
        members_added,
        members_changed,
        members_removed,
    } = *summary;
    let counts = [
        (nics_added, "NIC", "added"),
        (nics_changed, "NIC", "changed"),
        (nics_removed, "NIC", "removed"),
        (groups_added, "group", "added"),
        (groups_changed, "group", "changed"),
        (groups_removed, "group", "removed"),
        (members_added, "member", "added"),
        (members_changed, "member", "changed"),
        (members_removed, "member", "removed"),
    ];
    let parts: Vec<String> = counts
        .into_iter()
        .filter(|(count, ..)| *count > 0)
        .map(|(count, what, how)| {
            let plural = if count == 1 { "" } else { "s" };
            format!("{count} {what}{plural} {how}")
        })
        .collect();
    if parts.is_empty() {
        "nothing changed".to_owned()
    } else {
        parts.join(", ")
    }
}

/// The states of NICs.
pub(super) fn states(nics: &[pb::NicStatus], colour: bool) -> String {
    if nics.is_empty() {
        return String::new();
    }
    let mut table = Table::new(&["NIC", "STATE", "INTERFACES", "ADDRESSES", "REASON"]);
    for nic in nics {
        table.row([
            nic.id.as_str().into(),
            state(nic.state()),
            interfaces(nic).into(),
            few_addresses(nic).into(),
            nic.reason.as_str().into(),
        ]);
    }
    table.render(colour)
}

/// NICs, a line each.
pub(super) fn nics(list: &pb::ListNicsResponse, colour: bool) -> String {
    let headings = [
        "NIC",
        "STATE",
        "INTERFACES",
        "ADDRESSES",
        "GROUPS",
        "INSTANCE",
        "REASON",
    ];
    let mut table = Table::new(&headings);
    for info in &list.nics {
        let nic = info.nic.clone().unwrap_or_default();
        let status = info.status.clone().unwrap_or_default();
        let instance = if nic.instance_name.is_empty() {
            nic.instance_id
        } else {
            nic.instance_name
        };
        table.row([
            nic.id.into(),
            state(status.state()),
            interfaces(&status).into(),
            few_addresses(&status).into(),
            nic.group_ids.join(" ").into(),
            instance.into(),
            status.reason.into(),
        ]);
    }
    table.render(colour)
}

/// Groups, a line each.
pub(super) fn groups(list: &pb::ListGroupsResponse, colour: bool) -> String {
    let mut table = Table::new(&["GROUP", "NAME", "RULES", "MEMBERS", "NICS"]);
    for info in &list.groups {
        let group = info.group.clone().unwrap_or_default();
        table.row([
            group.id.into(),
            group.name.into(),
            group.rules.len().to_string().into(),
            info.member_count.to_string().into(),
            info.nic_count.to_string().into(),
        ]);
    }
    table.render(colour)
}

/// One group with its rules.
pub(super) fn group(answer: &pb::GetGroupResponse, colour: bool) -> String {
    let info = answer.group.clone().unwrap_or_default();
    let group = info.group.unwrap_or_default();
    let mut head = Table::pairs();
    head.pair("group", &group.id);
    head.pair("name", &group.name);
    head.pair("members", info.member_count.to_string());
    head.pair("NICs", info.nic_count.to_string());
    let mut text = head.render(colour);
    if group.rules.is_empty() {
        text.push_str("\nallows nothing\n");
        return text;
    }
    let mut table = Table::new(&["DIRECTION", "PROTOCOL", "PORTS", "REMOTE", "DESCRIPTION"]);
    for rule in &group.rules {
        table.row([
            short(rule.direction().as_str_name(), "DIRECTION_").into(),
            protocol(rule).into(),
            ports(rule).into(),
            remote(rule).into(),
            rule.description.as_str().into(),
        ]);
    }
    text.push('\n');
    text.push_str(&table.render(colour));
    text
}

/// Members, a line each.
pub(super) fn members(list: &pb::ListMembersResponse, colour: bool) -> String {
    let mut table = Table::new(&["ADDRESS", "DELEGATED PREFIXES"]);
    for member in &list.members {
        table.row([
            member.address.as_str().into(),
            member.delegated_prefixes.join(" ").into(),
        ]);
    }
    table.render(colour)
}

/// What was dropped, a line each NIC and reason, then the sums.
pub(super) fn drops(list: &pb::ListDropsResponse, of_one: bool, colour: bool) -> String {
    let mut table = Table::new(&["NIC", "REASON", "PACKETS", "OCTETS"]);
    let mut row = |nic: &str, count: &pb::DropCount| {
        table.row([
            nic.into(),
            count.reason.as_str().into(),
            count.packets.to_string().into(),
            count.bytes.to_string().into(),
        ]);
    };
    for nic in &list.nics {
        for count in &nic.drops {
            row(&nic.nic_id, count);
        }
    }
    if !of_one {
        for count in &list.totals {
            row("(all)", count);
        }
    }
    table.render(colour)
}

/// The last word of an enumeration's name, in small letters.
fn short(name: &str, prefix: &str) -> String {
    name.strip_prefix(prefix)
        .unwrap_or(name)
        .to_lowercase()
        .replace('_', "-")
}

fn state(state: pb::NicState) -> Cell {
    let tone = match state {
        pb::NicState::Unspecified => Tone::Plain,
        pb::NicState::Active => Tone::Good,
        pb::NicState::Pending => Tone::Warn,
        pb::NicState::Quarantined => Tone::Bad,
    };
    let name = state.as_str_name();
    Cell::new(name.strip_prefix("NIC_STATE_").unwrap_or(name), tone)
}

fn interfaces(status: &pb::NicStatus) -> String {
    let names: Vec<_> = status
        .interfaces
        .iter()
        .map(|bound| bound.name.as_str())
        .collect();
    names.join(" ")
}

fn few_addresses(status: &pb::NicStatus) -> String {
    let global: Vec<_> = status
        .addresses
        .iter()
        .filter(|address| address.kind() != pb::AddressKind::LinkLocal)
        .map(|address| address.address.as_str())
        .collect();
    let mut text = global
        .iter()
        .take(MAX_ADDRESSES)
        .copied()
        .collect::<Vec<_>>()
        .join(" ");
    if global.len() > MAX_ADDRESSES {
        let _ = write!(text, " +{}", global.len() - MAX_ADDRESSES);
    }
    text
}

fn selector_text(selector: &pb::InterfaceSelector) -> String {
    match &selector.by {
        Some(By::Name(name)) => format!("interface {name}"),
        Some(By::Bridge(bridge)) => format!("its MAC on bridge {bridge}"),
        Some(By::Xen(pb::XenInterface { guest, device })) => {
            let guest = match guest {
                Some(Guest::VmUuid(uuid)) => format!("VM {uuid}"),
                Some(Guest::Domain(domain)) => format!("domain {domain}"),
                None => String::new(),
            };
            format!("device {device} of {guest}")
        }
        None => String::new(),
    }
}

fn protocol(rule: &pb::Rule) -> String {
    let name = short(rule.protocol().as_str_name(), "PROTOCOL_");
    match (rule.protocol_number, rule.icmpv6_type, rule.icmpv6_code) {
        (Some(number), ..) => number.to_string(),
        (_, Some(kind), Some(code)) => format!("{name} type {kind} code {code}"),
        (_, Some(kind), None) => format!("{name} type {kind}"),
        (..) => name,
    }
}

fn ports(rule: &pb::Rule) -> String {
    match rule.ports {
        Some(pb::PortRange { first, last }) if first == last => first.to_string(),
        Some(pb::PortRange { first, last }) => format!("{first}-{last}"),
        None => String::new(),
    }
}

fn remote(rule: &pb::Rule) -> String {
    let pb::Remote {
        anyone,
        prefixes,
        group_id,
    } = rule.remote.clone().unwrap_or_default();
    if anyone {
        "anyone".to_owned()
    } else if group_id.is_empty() {
        prefixes.join(" ")
    } else {
        format!("group {group_id}")
    }
}

/// As many names as a line of a table takes.
fn some_of(names: &[String]) -> String {
    let shown = names.len().min(MAX_PORTS);
    let text = names[..shown].join(" ");
    if shown == names.len() {
        return text;
    }
    format!("{text} and {} more", names.len() - shown)
}
