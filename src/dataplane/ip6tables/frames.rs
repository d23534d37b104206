//! What is judged of a frame on the bridge, in table nat of ebtables: whose port it came by and goes
//! to, MACs and `EtherType`s (G1, G2, T1, T2), and of what is delivered what ebtables can see of IPv6
//! (T3, T5), for the host's own frames come by here only.
//!
//! PREROUTING is before the bridge's way to ip6tables (`br_netfilter_hooks.c`), POSTROUTING is passed
//! by all that leaves by a port. Our chains drop, or return to who has called them: others' rules in
//! the same table are asked, too.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv6Addr,
    sync::Arc,
};

use super::{
    chains::{Chains, Hook},
    counters, dispatch,
    groups::{DROP, drop_chain},
    mark,
};
use crate::{
    model::{IfName, Permission},
    ruleset::{BridgeRules, NicNumber, NicRules, PortRole, Reason, Ruleset},
};

pub(super) const HOOKS: [Hook; 2] = [
    Hook {
        from: "PREROUTING",
        to: IN,
    },
    Hook {
        from: "POSTROUTING",
        to: OUT,
    },
];

const IN: &str = "sgagent_in";
const OUT: &str = "sgagent_out";

/// The protocol of a fragment header (RFC 8200 §4.5). By number, as the others: older tools know names
/// by /etc/protocols only.
const FRAGMENT: u8 = 44;

fn drop(reason: Reason) -> String {
    format!("-j {}", drop_chain(reason))
}

/// `fragments`: whether ip6tables sees them before they are joined.
pub(super) fn frames(ruleset: &Ruleset, samples: counters::Samples, fragments: bool) -> Chains {
    let mut chains = Chains::default();
    if !fragments {
        for (number, nic) in &ruleset.nics {
            later_fragments(&mut chains, *number, nic);
        }
    }
    let (mut inward, mut outward) = (BTreeMap::new(), BTreeMap::new());
    for (port, role) in &ruleset.ports {
        let verdict = match role {
            PortRole::Uplink | PortRole::Unmanaged => "-j RETURN".to_owned(),
            PortRole::Closed => drop(Reason::Unbound),
        };
        inward.insert(port, vec![verdict.clone()]);
        outward.insert(port, vec![verdict]);
    }
    for (number, nic) in &ruleset.nics {
        let rules = |bridge| ruleset.bridges.get(bridge).map(Arc::as_ref);
        for (interface, (bridge, _)) in &nic.interfaces {
            inward.insert(interface, sent(&mut chains, *number, nic));
            outward.insert(
                interface,
                delivered(&mut chains, *number, nic, rules(bridge)),
            );
        }
    }
    ports(&mut chains, ruleset, ("sgagent_from", "-i"), inward);
    ports(&mut chains, ruleset, ("sgagent_to", "-o"), outward);
    let stray = format!("--mark {} {}", mark::ANY, drop(Reason::StageSkipped));
    chains.rule(OUT, stray);
    let end = format!(
        "--mark {} -j mark --mark-set 0x0 --mark-target CONTINUE",
        mark::DELIVERABLE
    );
    chains.rule(OUT, end);
    chains.rule(IN, "-j sgagent_from");
    chains.rule(OUT, "-j sgagent_to");
    counters::frames(&mut chains, ruleset, samples);
    end_all(&mut chains);
    chains
}

/// From a frame to the rules of its port, and from a port that looks like a guest's and is not known
/// to none.
fn ports(
    chains: &mut Chains,
    ruleset: &Ruleset,
    (root, option): (&str, &str),
    leaves: BTreeMap<&IfName, Vec<String>>,
) {
    dispatch::by_name(chains, root, (option, "-j"), leaves.into_iter());
    let unknown = ruleset.guest_patterns.iter().map(|pattern| {
        let name = pattern.to_string().replace('*', "+");
        format!("{option} {name} {}", drop(Reason::Unbound))
    });
    let unknown: Vec<_> = unknown.collect();
    // There is no way out of all chains at once: each says again whose frames it has seen to.
    let below = format!("{root}_");
    chains.edit(|name, rules| {
        if name != root && !name.starts_with(&below) {
            return;
        }
        for rule in std::mem::take(rules) {
            let (whose, verdict) = rule.split_once(" -j ").unwrap_or_default();
            let ends = verdict == "RETURN" || verdict.starts_with(DROP);
            let seen = (!ends && !unknown.is_empty()).then(|| format!("{whose} -j RETURN"));
            rules.push(rule);
            rules.extend(seen);
        }
        rules.extend(unknown.iter().cloned());
    });
}

pub(super) const FORWARD_HOOKS: [Hook; 2] = [
    Hook {
        from: "FORWARD",
        to: "sgagent_forward",
    },
    Hook {
        from: "INPUT",
        to: "sgagent_local",
    },
];

/// In table filter: what is forwarded is marked, until ip6tables has seen it. What goes to the host
/// has lost its sender's mark, or ip6tables has not seen that.
pub(super) fn forwarded(ruleset: &Ruleset) -> Chains {
    let mut chains = Chains::default();
    let (value, _) = mark::FORWARDED.split_once('/').unwrap_or_default();
    // Others have rules in this table, too: ours end nothing.
    let rule = || {
        vec![format!(
            "-p IPv6 -j mark --mark-set {value} --mark-target CONTINUE"
        )]
    };
    let ports = ruleset.nics.values().flat_map(|nic| nic.interfaces.keys());
    let leaves: BTreeMap<_, _> = ports.map(|port| (port, rule())).collect();
    dispatch::by_name(
        &mut chains,
        "sgagent_forward",
        ("-o", "-j"),
        leaves.into_iter(),
    );
    let stray = format!("--mark {} {}", mark::ANY, drop(Reason::StageSkipped));
    chains.rule("sgagent_local", stray);
    chains.rule(&drop_chain(Reason::StageSkipped), "-j DROP");
    end_all(&mut chains);
    chains
}

/// A chain without a rule, or that ends, is one that accepts.
fn end_all(chains: &mut Chains) {
    let names: Vec<_> = chains.iter().map(|(name, _)| name.clone()).collect();
    for name in names {
        chains.rule(&name, "-j RETURN");
    }
}

/// What a NIC may send and get besides, if it has IPv4 (G2, T2).
fn ipv4(nic: &NicRules) -> &'static [&'static str] {
    if nic.ipv4 { &["ARP", "IPv4"] } else { &[] }
}

/// Where ip6tables sees what is joined of fragments only, nobody there asks who has sent the later
/// ones: it is asked here, or a NIC could put its own into another's packet (G13). To ebtables the
/// protocol of all but a first one is this (`ipv6_skip_exthdr`, `net/ipv6/exthdrs_core.c`).
fn later_fragments(chains: &mut Chains, NicNumber(number): NicNumber, nic: &NicRules) {
    let chain = format!("sgagent_later_{number}");
    if nic.permissions.contains(&Permission::AnySource) {
        return;
    }
    let own = nic.on_link.iter().map(|address| format!("{address}/128"));
    let prefixes = nic.delegated.iter().chain(&nic.on_link_prefix);
    let any = nic.any_link_local.then(|| "fe80::/64".to_owned());
    for source in own.chain(prefixes.map(ToString::to_string)).chain(any) {
        chains.rule(&chain, format!("-p IPv6 --ip6-src {source} -j RETURN"));
    }
    chains.rule(&chain, drop(Reason::SpoofedSource));
}

/// Rules of what one interface sends. What is dropped is so by a rule in a chain of the NIC's, which
/// counts it ([`counters`]).
fn sent(chains: &mut Chains, NicNumber(number): NicNumber, nic: &NicRules) -> Vec<String> {
    let chain = format!("sgagent_sent_{number}");
    let macs = nic.virtual_macs.iter().map(|mac| (mac, mark::VIRTUAL));
    let later = format!("sgagent_later_{number}");
    let looked_at = chains.has(&later);
    let look = looked_at.then(|| format!("-p IPv6 --ip6-proto {FRAGMENT} -j {later}"));
    let mut rules: Vec<_> = look.into_iter().collect();
    for (mac, bits) in std::iter::once((&nic.mac, 0)).chain(macs) {
        let mark = mark::BASE | bits | number;
        rules.push(format!(
            "-p IPv6 -s {mac} -j mark --mark-set {mark:#x} --mark-target RETURN"
        ));
        let others = std::iter::once(&"0x8035").chain(ipv4(nic));
        rules.extend(others.map(|other| format!("-p {other} -s {mac} -j RETURN")));
        rules.push(format!("-s {mac} {}", drop(Reason::Ethertype)));
    }
    rules.push(drop(Reason::SpoofedMac));
    *chains.chain(chain.as_str()) = rules;
    vec![format!("-j {chain}")]
}

/// Rules of what is delivered to one interface (T1, T2, T5).
fn delivered(
    chains: &mut Chains,
    NicNumber(number): NicNumber,
    nic: &NicRules,
    bridge: Option<&BridgeRules>,
) -> Vec<String> {
    let (chain, to) = (
        format!("sgagent_nic_{number}"),
        format!("sgagent_got_{number}"),
    );
    if !chains.has(&chain) {
        let stray = format!("--mark {} {}", mark::FORWARDED, drop(Reason::StageSkipped));
        chains.rule(&chain, stray);
        replies(chains, number, nic, bridge);
        advertisements(chains, number, bridge);
        for kind in std::iter::once(&"IPv6").chain(ipv4(nic)) {
            chains.rule(&chain, format!("-p {kind} -j RETURN"));
        }
        chains.rule(&chain, drop(Reason::Ethertype));
    }
    let macs = std::iter::once(&nic.mac).chain(&nic.virtual_macs);
    let macs = macs.map(ToString::to_string);
    let mut rules = Vec::new();
    for mac in macs.chain(["Multicast".to_owned()]) {
        rules.push(format!("-d {mac} -j {chain}"));
        rules.push(format!("-d {mac} -j RETURN"));
    }
    rules.push(drop(Reason::NotForNic));
    *chains.chain(to.as_str()) = rules;
    vec![format!("-j {to}")]
}

/// DHCPv6 replies: from a server that is known, or from the link, to an address of the NIC's (T5).
fn replies(chains: &mut Chains, number: u32, nic: &NicRules, bridge: Option<&BridgeRules>) {
    let own = nic.on_link.iter().map(|address| format!("{address}/128"));
    let prefixes = nic.delegated.iter().chain(&nic.on_link_prefix);
    // Those that are first come, first served are known elsewhere only.
    let any = nic.any_link_local.then(|| "fe80::/64".to_owned());
    let own = own.chain(prefixes.map(ToString::to_string)).chain(any);
    let own = own.map(|own| format!("-p IPv6 --ip6-dst {own}"));
    let known = known(bridge.map(|rules| &rules.dhcpv6_servers));
    let reply = "-p IPv6 --ip6-proto 17 --ip6-dport 546";
    let chain = format!("sgagent_nic_{number}");
    for (what, good) in [("servers", known), ("clients", own.collect())] {
        let only = format!("sgagent_{what}_{number}");
        chains.rule(&chain, format!("{reply} -j {only}"));
        one_of(chains, &only, good, Reason::RogueDhcpv6);
    }
}

/// Who may advertise itself as a router, and redirect (T3).
fn advertisements(chains: &mut Chains, number: u32, bridge: Option<&BridgeRules>) {
    let only = format!("sgagent_routers_{number}");
    for kind in [134, 137] {
        let advertised = format!("-p IPv6 --ip6-proto 58 --ip6-icmp-type {kind} -j {only}");
        chains.rule(&format!("sgagent_nic_{number}"), advertised);
    }
    let known = known(bridge.map(|rules| &rules.routers));
    one_of(chains, &only, known, Reason::RogueRa);
}

/// From a known router or server; from the link where none is.
fn known(all: Option<&BTreeSet<Ipv6Addr>>) -> Vec<String> {
    let all = all.into_iter().flatten();
    let mut known: Vec<_> = all.map(|address| format!("{address}/128")).collect();
    if known.is_empty() {
        known.push("fe80::/10".to_owned());
    }
    let from = |source| format!("-p IPv6 --ip6-src {source}");
    known.into_iter().map(from).collect()
}

/// A chain of a NIC's that drops all but what one of these matches.
fn one_of(chains: &mut Chains, chain: &str, good: Vec<String>, reason: Reason) {
    let rules = chains.chain(chain);
    rules.extend(good.into_iter().map(|good| format!("{good} -j RETURN")));
    rules.push(drop(reason));
}
