//! What can be said of the state, in words.

use std::collections::BTreeSet;

use tracing::{info, warn};

use super::{BridgeView, Identity};
use crate::{
    model::{BridgeConfig, Interfaces, Link, NicState, differences},
    policy::{Compiled, Outcomes},
};

/// What the two placements can't do.
const BEHIND_BR_NETFILTER: [&str; 2] = [
    "packets that the host itself sends to a guest are not judged by the guest's groups: \
     br_netfilter does not show them (packet-policy S6)",
    "the name of a frame's bridge is not matched: interfaces that look like a guest's are \
     closed on every bridge, and opened on unmanaged bridges by the agent; one that appears \
     there while the agent is down stays closed until it is back",
];
const IN_BRIDGE: [&str; 1] = [
    "connection tracking of the bridge family is one switch for the whole host: frames of \
     unmanaged bridges are tracked, too, and their fragments joined and cut again, but nothing \
     of them is judged or marked",
];

const OF_IP6TABLES: [&str; 5] = [
    "a link-local address by first come (ANY_UNOWNED) is known by its use as a source, and while it \
     is probed for by the group that the probe is sent to: who probed for it first has it once it \
     sends from it, and another such guest may be faster; an advertisement for one comes from that \
     address itself (packet-policy G8, G9, G13)",
    "what others change of our rules is found by looking every few seconds, and not who did it",
    "each change refills the bursts of the rates (packet-policy G15, G16, S8), and counts flows anew \
     where max_flows limits them: ip6tables replaces its tables whole",
    "frames to 01:80:c2:00:00:0x are dropped by tc, neither counted nor shown (packet-policy G0)",
    "flows that were cut are kept from coming back by their addresses and each port: two of the same \
     addresses whose ports cross are kept as one (packet-policy S7)",
];

const FRAGMENTS_JOINED: &str = "ip6tables sees no fragments here, only what is joined of them \
     (ip6table_raw was not loaded with raw_before_defrag=1): they are not limited, a flood of them \
     can fill the host's queue (packet-policy G15); discovery, MLD and DHCPv6 in fragments are \
     judged as if they were whole (G3, G5, G10, G12, T4); and fragments of two bridges may be \
     joined (S9)";

/// What this placement and this kernel can't do.
pub(super) fn limitations(
    identity: &Identity,
    unsupported: &BTreeSet<&'static str>,
) -> Vec<String> {
    let mut all: Vec<_> = if identity.placement == "bridge" {
        &IN_BRIDGE[..]
    } else {
        &BEHIND_BR_NETFILTER
    }
    .iter()
    .map(|&text| text.to_owned())
    .collect();
    if identity.dataplane == "ip6tables" {
        all.extend(OF_IP6TABLES.map(str::to_owned));
    }
    if identity.fragments_joined {
        all.push(FRAGMENTS_JOINED.to_owned());
    }
    if let Some(why) = &identity.no_samples {
        all.push(format!(
            "drops are counted, but can't be watched one by one: {why}"
        ));
    }
    if unsupported.contains("mcast_max_groups") {
        all.push(
            "this kernel has no limit for multicast groups of a port (Linux 6.3): a guest can \
             fill a snooping bridge's table, at the rate that MLD is limited to (packet-policy G16)"
                .to_owned(),
        );
    }
    if unsupported.contains("no_linklocal_learn") {
        all.push(
            "this kernel has no no_linklocal_learn (Linux 5.0): between a port's appearance and its \
             netdev rule the bridge learns from frames to 01:80:c2:00:00:0x (packet-policy G0)"
                .to_owned(),
        );
    }
    all
}

/// Interfaces that look like a guest's and are not on a managed bridge.
pub(super) fn unprotected(interfaces: &Interfaces) -> Vec<String> {
    let mut all = Vec::new();
    for link in interfaces.links.values() {
        if !interfaces.looks_like_guest(&link.name) {
            continue;
        }
        match interfaces.bridge_of(link) {
            None => all.push(format!("{}: not a port of a bridge", link.name)),
            Some(bridge) if interfaces.config_of(&bridge.name).is_none() => {
                let why = if interfaces.held_config_of(&bridge.name).is_some() {
                    "is not enforced yet (a sync or sgctl adopt does that)"
                } else {
                    "is not managed"
                };
                all.push(format!("{}: bridge {} {why}", link.name, bridge.name));
            }
            Some(_) => {}
        }
    }
    all
}

/// Guests that could take the link-local address of a router that has not spoken yet.
pub(super) fn warnings(compiled: &Compiled) -> Vec<String> {
    let mut all = Vec::new();
    for nic in compiled
        .ruleset
        .nics
        .values()
        .filter(|nic| nic.any_link_local)
    {
        for (bridge, _) in nic.interfaces.values() {
            let rules = compiled.ruleset.bridges.get(bridge);
            if rules.is_some_and(|rules| rules.routers.is_empty()) {
                all.push(format!(
                    "NIC {} may take any link-local address, and the configuration names no \
                     routers of bridge {bridge}: it could take a router's until that is heard",
                    nic.id
                ));
            }
        }
    }
    all
}

/// The managed bridges, and those that are held back.
pub(super) fn bridges(compiled: &Compiled) -> Vec<BridgeView> {
    let host = &compiled.host;
    let bound: BTreeSet<_> = compiled
        .outcomes
        .values()
        .flat_map(|o| &o.bound)
        .map(|b| &b.name)
        .collect();
    let view = |(bridge, config): (&Link, &BridgeConfig), held| {
        let rules = compiled.ruleset.bridges.get(&bridge.name);
        let mut view = BridgeView {
            name: bridge.name.clone(),
            uplinks: Vec::new(),
            bound_ports: 0,
            closed_ports: Vec::new(),
            zone: rules.map_or(0, |rules| rules.number.0),
            held,
        };
        for port in host.ports_of(bridge.index) {
            if host.is_uplink(port, config) {
                view.uplinks.push(port.name.clone());
            } else if bound.contains(&port.name) {
                view.bound_ports += 1;
            } else {
                view.closed_ports.push(port.name.clone());
            }
        }
        view.uplinks.sort();
        view.closed_ports.sort();
        view
    };
    let managed = host.managed_bridges().into_iter();
    let held = host.held_bridges().into_iter();
    let mut all: Vec<_> = managed.map(|bridge| view(bridge, false)).collect();
    all.extend(held.map(|bridge| view(bridge, true)));
    all.sort_by(|a, b| a.name.cmp(&b.name));
    all
}

/// Says which NICs came into force, lost their interface or were quarantined.
pub(super) fn log_transitions(before: &Outcomes, after: &Outcomes) {
    for found in differences(before, after) {
        let Some(outcome) = found.new else { continue };
        let nic = found.key;
        match &outcome.state {
            NicState::Active => info!(%nic, "bound"),
            NicState::Pending(reason) => info!(%nic, reason, "pending"),
            NicState::Quarantined(reason) => warn!(%nic, reason, "quarantined"),
        }
    }
}
