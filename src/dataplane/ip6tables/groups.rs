//! The stateful stage, in table mangle: security groups (packet-policy.md, rows S and G14).
//!
//! What a NIC sends is judged in PREROUTING, by the mark that the frame got on the bridge; what is
//! delivered in FORWARD, by the bridge's port that it is to leave by. Both are behind connection
//! tracking and before every table where the host's own rules usually are.

use std::collections::BTreeMap;

use super::{
    chains::{Chains, Hook},
    dispatch, mark, revoked,
    sets::Sets,
};
use crate::{
    model::{Direction, IfName, Permission, Prefix},
    ruleset::{NicNumber, NicRules, PortRole, Reason, Ruleset},
};

mod rules;

use rules::policy_chain;

pub(super) const HOOKS: [Hook; 3] = [
    Hook {
        from: "PREROUTING",
        to: SENT,
    },
    Hook {
        from: "FORWARD",
        to: DELIVERED,
    },
    Hook {
        from: "OUTPUT",
        to: HOST,
    },
];

const SENT: &str = "sgagent_sent";
const DELIVERED: &str = "sgagent_delivered";
const HOST: &str = "sgagent_host";
/// What asks for a mark of what guests send.
pub(super) const UNMARKED: &str = "sgagent_unmarked";
/// Where all ends that a NIC may send, and that may be delivered to one. It goes on with others' rules.
const PASS: &str = "sgagent_pass";
const DELIVER: &str = "sgagent_deliver";

/// MLD.
const LISTENERS: [u8; 4] = [130, 131, 132, 143];

/// What the names of chains that drop begin with.
pub(super) const DROP: &str = "sgagent_drop_";

pub(super) fn drop_chain(reason: Reason) -> String {
    format!("{DROP}{}", reason.code())
}

/// What the stage needs of how much of everything.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rates {
    /// New flows a second (S8).
    pub(super) flows_per_second: u32,
    /// New flows at once.
    pub(super) flow_burst: u32,
    /// Flows at any time; 0, any number.
    pub(super) max_flows: u32,
}

/// The whole stage.
pub(super) fn stage(ruleset: &Ruleset, rates: Rates) -> (Chains, Sets) {
    let (mut chains, mut sets) = (Chains::default(), Sets::new());
    for (chain, mark) in [(PASS, "0x0/0xffffffff"), (DELIVER, mark::DELIVER)] {
        chains.rule(chain, format!("-j MARK --set-xmark {mark}"));
        chains.rule(chain, "-j RETURN");
    }
    sent(&mut chains, ruleset, rates);
    unmarked(&mut chains, ruleset);
    delivered(&mut chains, ruleset);
    rules::rules(&mut chains, &mut sets, ruleset);
    chains.return_from(PASS, &format!("-m mark ! --mark {}", mark::ANY));
    chains.return_from(DELIVER, &format!("-m mark --mark {}", mark::DELIVERABLE));
    (chains, sets)
}

/// Messages of a type, here where one may be shorter than others have to be: the match drops what is
/// shorter than 8 octets without being asked. Multicast Router Termination is 4 long (RFC 4286 §5).
pub(super) fn icmpv6(kind: u8) -> String {
    if kind == 153 {
        return "-p icmpv6 -m u32 --u32 \"4>>8&0xff=58&&40>>24=153\"".to_owned();
    }
    format!("-p icmpv6 -m length --length 48:65535 -m icmp6 --icmpv6-type {kind}")
}

pub(super) fn goto(reason: Reason) -> String {
    format!("-g {}", drop_chain(reason))
}

/// What NICs send. The mark says whose it is ([`super::mark`]); who is judged loses it on the way out,
/// or it would follow what the host routes.
fn sent(chains: &mut Chains, ruleset: &Ruleset, rates: Rates) {
    let mut rule = |rule: String| chains.rule(SENT, rule);
    rule(format!("-m mark ! --mark {} -g {UNMARKED}", mark::ANY));
    rule(format!(
        "-m mark ! --mark {} {}",
        mark::PASSED,
        goto(Reason::StageSkipped)
    ));
    rule(format!("-m conntrack --ctstate ESTABLISHED -g {PASS}"));
    rule(format!("-m mark --mark {} -g {PASS}", mark::UNJUDGED));
    for error in 1..=4 {
        rule(format!(
            "{} -m conntrack --ctstate RELATED -g {PASS}",
            icmpv6(error)
        ));
    }
    rule(format!(
        "-m conntrack --ctstate INVALID {}",
        goto(Reason::Invalid)
    ));
    // S8. A flow in one direction only stays new to `--ctstate`; confirmed it is from its second
    // packet on.
    rule("-m conntrack ! --ctstatus CONFIRMED -j sgagent_flows".to_owned());
    rule(format!("-j {}", revoked::REVOKED));
    rule("-j sgagent_sender".to_owned());
    // A NIC's whose rules are not there.
    rule(goto(Reason::GroupEgress));
    let Rates {
        flows_per_second,
        flow_burst,
        max_flows,
    } = rates;
    let leaf = |number: u32| {
        let most = format!(
            "-m connlimit --connlimit-above {max_flows} --connlimit-mask 0 --connlimit-saddr"
        );
        let count = (max_flows > 0).then(|| format!("{most} {}", goto(Reason::FlowLimit)));
        let rate =
            format!("-m limit --limit {flows_per_second}/sec --limit-burst {flow_burst} -j RETURN");
        let all = count.into_iter().chain([rate, goto(Reason::FlowLimit)]);
        (number, all.collect())
    };
    let numbers = ruleset.nics.keys().map(|number| leaf(number.0));
    dispatch::by_number(chains, "sgagent_flows", numbers);
    let policies = ruleset.nics.iter().map(|(number, nic)| {
        let policy = policy_chain(Direction::Egress, nic.policy);
        (number.0, vec![format!("-g {policy}")])
    });
    dispatch::by_number(chains, "sgagent_sender", policies);
}

/// What has no mark is none of a guest's: or somebody else has changed it, since on the bridge all that
/// guests send got theirs. nftables judges what it has marked.
fn unmarked(chains: &mut Chains, ruleset: &Ruleset) {
    chains.rule(
        UNMARKED,
        format!("-m mark --mark {} -j RETURN", mark::NFTABLES),
    );
    for bridge in ruleset.bridges.keys() {
        chains.rule(UNMARKED, format!("-i {bridge} -g sgagent_from"));
    }
    let from = |port: &str, then: &str| format!("-m physdev --physdev-in {port} {then}");
    let looks_like_guest = |port: &&IfName| {
        let mut patterns = ruleset.guest_patterns.iter();
        patterns.any(|pattern| pattern.matches(port))
    };
    let drop = goto(Reason::StageSkipped);
    let others = ruleset.ports.iter();
    let others = others.filter(|(_, role)| **role != PortRole::Closed);
    let others = others.map(|(port, _)| port).filter(looks_like_guest);
    let named = ruleset.nics.values().flat_map(|nic| nic.interfaces.keys());
    let named = named.filter(|port| !looks_like_guest(port));
    let rules = others.map(|port| from(port.as_str(), "-j RETURN"));
    let rules = rules.chain(named.map(|port| from(port.as_str(), &drop)));
    let patterns = ruleset.guest_patterns.iter();
    let patterns = patterns.map(|pattern| from(&pattern.to_string().replace('*', "+"), &drop));
    chains.chain("sgagent_from").extend(rules.chain(patterns));
}

/// What is delivered to NICs. An interface of a managed bridge that is no NIC's is an uplink, or is
/// closed on the bridge.
fn delivered(chains: &mut Chains, ruleset: &Ruleset) {
    for bridge in ruleset.bridges.keys() {
        let bridged = format!("-o {bridge} -m physdev --physdev-is-bridged -g sgagent_to_port");
        chains.rule(DELIVERED, bridged);
    }
    // S7, of what the host routes to a bridge or sends there.
    for chain in [DELIVERED, HOST] {
        let begins = format!("-m conntrack --ctstate NEW -j {}", revoked::TO_BRIDGE);
        chains.rule(chain, begins);
    }
    // What the host itself sends: T3 and T4, as far as the bridge does not see them.
    for bridge in ruleset.bridges.keys() {
        chains.rule(
            HOST,
            format!("-o {bridge} -p icmpv6 -g sgagent_host_icmpv6"),
        );
    }
    for (kind, code, reason) in [
        (134, "", Reason::RogueRa),
        (137, "", Reason::RogueRa),
        (135, "/0", Reason::NdMalformed),
        (136, "/0", Reason::NdMalformed),
    ] {
        let sound = format!("{}{code} -m hl --hl-eq 255 -j RETURN", icmpv6(kind));
        chains.rule("sgagent_host_icmpv6", sound);
        chains.rule(
            "sgagent_host_icmpv6",
            format!("{} {}", icmpv6(kind), goto(reason)),
        );
    }
    // The bridge marks what it forwards to a NIC: it must have come by here, and to a NIC that is
    // known here.
    claimed(chains, ruleset);
    let mut rule = |rule: String| chains.rule("sgagent_to_port", rule);
    let to_nic = format!("-m mark --mark {}", mark::FORWARDED);
    rule(format!(
        "-m conntrack --ctstate ESTABLISHED {to_nic} -g {DELIVER}"
    ));
    rule("-m conntrack --ctstate ESTABLISHED -j RETURN".to_owned());
    rule("-j sgagent_recv".to_owned());
    rule(format!("{to_nic} {}", goto(Reason::GroupIngress)));
    always(chains);
    let mut leaves = BTreeMap::new();
    for nic in ruleset.nics.values() {
        let chain = receiver_chain(nic);
        if chains.chain(chain.as_str()).is_empty() {
            *chains.chain(chain.as_str()) = receiver(nic);
        }
        for interface in nic.interfaces.keys() {
            leaves.insert(interface, vec![format!("-g {chain}")]);
        }
    }
    let how = ("-m physdev --physdev-out", "-g");
    dispatch::by_name(chains, "sgagent_recv", how, leaves.into_iter());
}

/// T5, of NICs with first-come link-local addresses: the bridge lets all of `fe80::/64` pass to them.
fn claimed(chains: &mut Chains, ruleset: &Ruleset) {
    let mut leaves = BTreeMap::new();
    for (NicNumber(number), nic) in ruleset.nics.iter().filter(|(_, nic)| nic.any_link_local) {
        let chain = format!("sgagent_replied_{number}");
        for own in nic
            .on_link
            .iter()
            .filter(|own| Prefix::LINK_LOCAL_64.contains(**own))
        {
            chains.rule(&chain, format!("-d {own}/128 -j RETURN"));
        }
        chains.rule(
            &chain,
            format!("-m set --match-set sgagent_claims_{number} dst -j RETURN"),
        );
        chains.rule(&chain, goto(Reason::RogueDhcpv6));
        for interface in nic.interfaces.keys() {
            leaves.insert(interface, vec![format!("-g {chain}")]);
        }
    }
    if leaves.is_empty() {
        return;
    }
    let reply = "-d fe80::/64 -p udp -m udp --dport 546 -j sgagent_reply";
    chains.rule("sgagent_to_port", reply);
    let how = ("-m physdev --physdev-out", "-j");
    dispatch::by_name(chains, "sgagent_reply", how, leaves.into_iter());
}

/// What is delivered whatever the groups say (S1 a): returns where it is not.
fn always(chains: &mut Chains) {
    let mut rule = |rule: String| chains.rule("sgagent_always", rule);
    for kind in [134, 137] {
        rule(format!("{} -m hl --hl-eq 255 -g {DELIVER}", icmpv6(kind)));
        rule(format!("{} {}", icmpv6(kind), goto(Reason::RogueRa)));
    }
    for kind in [135, 136] {
        let sound = format!("{}/0 -m hl --hl-eq 255", icmpv6(kind));
        rule(format!("{sound} -g {DELIVER}"));
        rule(format!("{} {}", icmpv6(kind), goto(Reason::NdMalformed)));
    }
    for kind in LISTENERS {
        rule(format!("{} -g {DELIVER}", icmpv6(kind)));
    }
    rule(format!("-p udp -m udp --dport 546 -g {DELIVER}"));
    for error in 1..=4 {
        rule(format!(
            "{} -m conntrack --ctstate RELATED -g {DELIVER}",
            icmpv6(error)
        ));
    }
    // Multicast router discovery (RFC 4286) has no flows; before Linux 6.9 tracking calls it invalid.
    for kind in 151..=153 {
        rule(format!("{} -j RETURN", icmpv6(kind)));
    }
    rule(format!(
        "-m conntrack --ctstate INVALID {}",
        goto(Reason::Invalid)
    ));
}

/// NICs of one policy and of the same permissions are judged alike.
fn receiver_chain(nic: &NicRules) -> String {
    let may = |permission, letter| nic.permissions.contains(&permission).then_some(letter);
    let letters = [
        may(Permission::RouterAdvertisements, 'r'),
        may(Permission::Dhcpv6Server, 'd'),
    ];
    let letters: String = letters.into_iter().flatten().collect();
    format!("sgagent_to_{}{letters}", nic.policy.0)
}

fn receiver(nic: &NicRules) -> Vec<String> {
    let mut rules = Vec::new();
    if nic.permissions.contains(&Permission::RouterAdvertisements) {
        rules.push(format!("{} -g {DELIVER}", icmpv6(133)));
    }
    if nic.permissions.contains(&Permission::Dhcpv6Server) {
        rules.push(format!("-p udp -m udp --dport 547 -g {DELIVER}"));
    }
    rules.push("-j sgagent_always".to_owned());
    rules.push(format!("-j {}", revoked::REVOKED));
    rules.push(format!(
        "-g {}",
        policy_chain(Direction::Ingress, nic.policy)
    ));
    rules
}
