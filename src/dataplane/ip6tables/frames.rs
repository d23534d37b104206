//! What is judged of a frame on the bridge, in table nat of ebtables: whose port it came by and goes
//! to, MACs and `EtherType`s (G1, G2, T1, T2), and of what is delivered what ebtables can see of IPv6
//! (T3, T5), for the host's own frames come by here only.
//!
//! PREROUTING is before the bridge's way to ip6tables (`br_netfilter_hooks.c`), POSTROUTING is passed
//! by all that leaves by a port. A chain of ebtables without a verdict accepts; ours end in one.

use std::collections::BTreeMap;

use super::{
    chains::{Chains, Hook},
    counters, dispatch,
    groups::drop_chain,
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
    guests(&mut chains);
    if !fragments {
        for (number, nic) in &ruleset.nics {
            later_fragments(&mut chains, *number, nic);
        }
    }
    for (bridge, rules) in &ruleset.bridges {
        delivery(&mut chains, bridge, rules);
    }
    let (mut inward, mut outward) = (BTreeMap::new(), BTreeMap::new());
    for (port, role) in &ruleset.ports {
        let verdict = match role {
            PortRole::Uplink | PortRole::Unmanaged => "-j ACCEPT".to_owned(),
            PortRole::Closed => drop(Reason::Unbound),
        };
        inward.insert(port, vec![verdict.clone()]);
        outward.insert(port, vec![verdict]);
    }
    for (number, nic) in &ruleset.nics {
        for (interface, (bridge, _)) in &nic.interfaces {
            inward.insert(interface, sent(&mut chains, *number, nic));
            outward.insert(interface, delivered(&mut chains, *number, nic, bridge));
        }
    }
    dispatch::by_name(
        &mut chains,
        "sgagent_from",
        ("-i", "-j"),
        inward.into_iter(),
    );
    dispatch::by_name(&mut chains, "sgagent_to", ("-o", "-j"), outward.into_iter());
    let stray = format!("--mark {} {}", mark::ANY, drop(Reason::StageSkipped));
    chains.rule(OUT, stray);
    let end = format!(
        "--mark {} -j mark --mark-set 0x0 --mark-target CONTINUE",
        mark::SHOWN
    );
    chains.rule(OUT, end);
    for (chain, tree, option) in [(IN, "sgagent_from", "-i"), (OUT, "sgagent_to", "-o")] {
        chains.rule(chain, format!("-j {tree}"));
        for pattern in &ruleset.guest_patterns {
            let name = pattern.to_string().replace('*', "+");
            chains.rule(chain, format!("{option} {name} {}", drop(Reason::Unbound)));
        }
    }
    counters::frames(&mut chains, ruleset, samples);
    end_all(&mut chains);
    chains
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

/// What falls off the end of a chain would be accepted.
fn end_all(chains: &mut Chains) {
    let names: Vec<_> = chains.iter().map(|(name, _)| name.clone()).collect();
    for name in names {
        chains.rule(&name, "-j RETURN");
    }
}

/// What else than IPv6 a NIC may send and get (G2, T2).
fn guests(chains: &mut Chains) {
    chains.rule("sgagent_guest", "-p 0x8035 -j ACCEPT");
    chains.rule("sgagent_guest_ipv4", "-p 0x8035 -j ACCEPT");
    for kind in ["ARP", "IPv4"] {
        chains.rule("sgagent_guest_ipv4", format!("-p {kind} -j ACCEPT"));
    }
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
    let others = if nic.ipv4 {
        "sgagent_guest_ipv4"
    } else {
        "sgagent_guest"
    };
    let later = format!("sgagent_later_{number}");
    let looked_at = chains.has(&later);
    let look = looked_at.then(|| format!("-p IPv6 --ip6-proto {FRAGMENT} -j {later}"));
    let mut rules: Vec<_> = look.into_iter().collect();
    for (mac, bits) in std::iter::once((&nic.mac, 0)).chain(macs) {
        let mark = mark::BASE | bits | number;
        rules.push(format!(
            "-p IPv6 -s {mac} -j mark --mark-set {mark:#x} --mark-target ACCEPT"
        ));
        rules.push(format!("-s {mac} -j {others}"));
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
    bridge: &IfName,
) -> Vec<String> {
    let (chain, to) = (
        format!("sgagent_nic_{number}"),
        format!("sgagent_got_{number}"),
    );
    if chains.chain(chain.as_str()).is_empty() {
        let stray = format!("--mark {} {}", mark::FORWARDED, drop(Reason::StageSkipped));
        chains.rule(&chain, stray);
        let reply = "-p IPv6 --ip6-proto 17 --ip6-dport 546";
        let from_server = format!("-j sgagent_server_{bridge}");
        let own = nic.on_link.iter().map(|address| format!("{address}/128"));
        let prefixes = nic.delegated.iter().chain(&nic.on_link_prefix);
        let own = own.chain(prefixes.map(ToString::to_string));
        // Those that are first come, first served are known elsewhere only.
        let any = nic.any_link_local.then(|| "fe80::/64".to_owned());
        for whose in own.chain(any) {
            chains.rule(&chain, format!("{reply} --ip6-dst {whose} {from_server}"));
        }
        chains.rule(&chain, format!("{reply} {}", drop(Reason::RogueDhcpv6)));
        // From an RA to a Redirect; the chain lets the two between pass.
        let advertised = "-p IPv6 --ip6-proto 58 --ip6-icmp-type 134:137";
        chains.rule(&chain, format!("{advertised} -j sgagent_router_{bridge}"));
        chains.rule(&chain, format!("{advertised} {}", drop(Reason::RogueRa)));
        chains.rule(&chain, "-p IPv6 -j ACCEPT");
        if nic.ipv4 {
            chains.rule(&chain, "-p ARP -j ACCEPT");
            chains.rule(&chain, "-p IPv4 -j ACCEPT");
        }
        chains.rule(&chain, drop(Reason::Ethertype));
    }
    let macs = std::iter::once(&nic.mac).chain(&nic.virtual_macs);
    let mut rules: Vec<_> = macs.map(|mac| format!("-d {mac} -j {chain}")).collect();
    rules.push(format!("-d Multicast -j {chain}"));
    rules.push(drop(Reason::NotForNic));
    *chains.chain(to.as_str()) = rules;
    vec![format!("-j {to}")]
}

/// Who may advertise itself as a router, and whose DHCPv6 replies are delivered (T3, T5).
fn delivery(chains: &mut Chains, bridge: &IfName, rules: &BridgeRules) {
    let link_local = || vec!["fe80::/10".to_owned()];
    let those = |all: &std::collections::BTreeSet<std::net::Ipv6Addr>| {
        all.iter()
            .map(|address| format!("{address}/128"))
            .collect::<Vec<_>>()
    };
    let nd = "-p IPv6 --ip6-proto 58 --ip6-icmp-type 135:136 -j ACCEPT";
    chains.rule(&format!("sgagent_router_{bridge}"), nd);
    // What they don't let pass, the NIC's own chain drops.
    for (what, known) in [
        ("router", &rules.routers),
        ("server", &rules.dhcpv6_servers),
    ] {
        let chain = format!("sgagent_{what}_{bridge}");
        let known = if known.is_empty() {
            link_local()
        } else {
            those(known)
        };
        for source in known {
            chains.rule(&chain, format!("-p IPv6 --ip6-src {source} -j ACCEPT"));
        }
    }
}
