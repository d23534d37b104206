//! The stateful stage, in table mangle: security groups (packet-policy.md, rows S and G14).
//!
//! What a NIC sends is judged in PREROUTING, by the mark that the frame got on the bridge; what is
//! delivered in FORWARD, by the bridge's port that it is to leave by. Both are behind connection
//! tracking and before every table where the host's own rules usually are.

use std::collections::BTreeMap;

use super::{
    chains::{Chains, Hook},
    dispatch, mark, revoked,
    sets::{Kind, Set, Sets},
};
use crate::{
    model::{Direction, Icmpv6Match, Permission, PortRange, Prefix, Protocol},
    ruleset::{
        Allow, EgressMode, GroupNumber, GroupRules, ICMPV6, NicNumber, NicRules, Policy,
        PolicyNumber, Reason, RemoteRules, Ruleset,
    },
};

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
const PASS: &str = "sgagent_pass";

/// MLD.
const LISTENERS: [u8; 4] = [130, 131, 132, 143];

pub(super) fn drop_chain(reason: Reason) -> String {
    format!("sgagent_drop_{}", reason.code())
}

fn policy_chain(direction: Direction, policy: PolicyNumber) -> String {
    format!("sgagent_policy_{}_{}", policy.0, short(direction))
}

fn group_chain(direction: Direction, group: GroupNumber) -> String {
    format!("sgagent_group_{}_{}", group.0, short(direction))
}

fn short(direction: Direction) -> &'static str {
    match direction {
        Direction::Ingress => "in",
        Direction::Egress => "out",
    }
}

fn members(group: GroupNumber) -> String {
    format!("sgagent_members_{}", group.0)
}

fn member_prefixes(group: GroupNumber) -> String {
    format!("sgagent_routed_{}", group.0)
}

fn rule_prefixes(group: GroupNumber, rule: usize) -> String {
    format!("sgagent_prefixes_{}_{rule}", group.0)
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
    chains.rule(PASS, "-j MARK --set-xmark 0x0/0xffffffff");
    chains.rule(PASS, "-j ACCEPT");
    sent(&mut chains, ruleset, rates);
    delivered(&mut chains, ruleset);
    for (number, group) in &ruleset.groups {
        for direction in [Direction::Ingress, Direction::Egress] {
            group_rules(&mut chains, *number, group, direction);
        }
        prefix_sets(&mut sets, *number, group);
    }
    for (number, all) in &ruleset.members {
        let addresses = all.keys().map(ToString::to_string).collect();
        let prefixes = all
            .values()
            .flat_map(|m| m.delegated_prefixes.iter().copied());
        let prefixes = Prefix::aggregate(prefixes)
            .iter()
            .map(ToString::to_string)
            .collect();
        sets.insert(
            members(*number),
            Set {
                kind: Kind::Addresses,
                members: addresses,
            },
        );
        sets.insert(
            member_prefixes(*number),
            Set {
                kind: Kind::Prefixes,
                members: prefixes,
            },
        );
    }
    for (number, policy) in &ruleset.policies {
        for direction in [Direction::Ingress, Direction::Egress] {
            let rules = policy_rules(policy, ruleset, direction);
            *chains.chain(policy_chain(direction, *number)) = rules;
        }
    }
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
    rule(format!("-m mark ! --mark {} -j RETURN", mark::ANY));
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
    let shown = format!(
        "-m mark --mark {} -j MARK --set-xmark {}",
        mark::FORWARDED,
        mark::SHOWN
    );
    chains.rule("sgagent_to_port", shown);
    claimed(chains, ruleset);
    let mut rule = |rule: String| chains.rule("sgagent_to_port", rule);
    rule("-m conntrack --ctstate ESTABLISHED -j RETURN".to_owned());
    rule("-j sgagent_recv".to_owned());
    rule(format!(
        "-m mark --mark {} {}",
        mark::SHOWN,
        goto(Reason::GroupIngress)
    ));
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
        rule(format!("{} -m hl --hl-eq 255 -j ACCEPT", icmpv6(kind)));
        rule(format!("{} {}", icmpv6(kind), goto(Reason::RogueRa)));
    }
    for kind in [135, 136] {
        let sound = format!("{}/0 -m hl --hl-eq 255", icmpv6(kind));
        rule(format!("{sound} -j ACCEPT"));
        rule(format!("{} {}", icmpv6(kind), goto(Reason::NdMalformed)));
    }
    for kind in LISTENERS {
        rule(format!("{} -j ACCEPT", icmpv6(kind)));
    }
    rule("-p udp -m udp --dport 546 -j ACCEPT".to_owned());
    for error in 1..=4 {
        rule(format!(
            "{} -m conntrack --ctstate RELATED -j ACCEPT",
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
        rules.push(format!("{} -j ACCEPT", icmpv6(133)));
    }
    if nic.permissions.contains(&Permission::Dhcpv6Server) {
        rules.push("-p udp -m udp --dport 547 -j ACCEPT".to_owned());
    }
    rules.push("-j sgagent_always".to_owned());
    rules.push(format!("-j {}", revoked::REVOKED));
    rules.push(format!(
        "-g {}",
        policy_chain(Direction::Ingress, nic.policy)
    ));
    rules
}

fn group_rules(chains: &mut Chains, number: GroupNumber, group: &GroupRules, direction: Direction) {
    let chain = group_chain(direction, number);
    chains.chain(chain.as_str());
    for (i, allow) in group.rules.iter().enumerate() {
        if allow.direction != direction {
            continue;
        }
        for what in protocol(allow.protocol) {
            for whom in remotes(number, i, allow) {
                let words = [what.as_str(), whom.as_str(), &allowed(direction)];
                let words = words.into_iter().filter(|word| !word.is_empty());
                chains.rule(&chain, words.collect::<Vec<_>>().join(" "));
            }
        }
    }
}

/// The verdict on what is allowed.
fn allowed(direction: Direction) -> String {
    match direction {
        Direction::Ingress => "-j ACCEPT".to_owned(),
        Direction::Egress => format!("-g {PASS}"),
    }
}

fn protocol(protocol: Protocol) -> Vec<String> {
    let number = |number: u8| vec![format!("-p {number}")];
    match protocol {
        Protocol::Any => vec![String::new()],
        Protocol::Tcp(range) => ports("tcp", range),
        Protocol::Udp(range) => ports("udp", range),
        Protocol::Sctp(range) => ports("sctp", range),
        Protocol::Icmpv6(Icmpv6Match::Any) => number(ICMPV6),
        Protocol::Icmpv6(Icmpv6Match::Type(kind)) => vec![icmpv6(kind)],
        Protocol::Icmpv6(Icmpv6Match::TypeAndCode(kind, code)) => {
            vec![if kind == 153 {
                format!("{} -m u32 --u32 \"40>>16&0xff={code}\"", icmpv6(kind))
            } else {
                format!("{}/{code}", icmpv6(kind))
            }]
        }
        // iptables takes 0 for every protocol; hop-by-hop options are none.
        Protocol::Number(0) => Vec::new(),
        Protocol::Number(other) => number(other),
    }
}

fn ports(protocol: &str, range: PortRange) -> Vec<String> {
    let (first, last) = (range.first(), range.last());
    vec![if range == PortRange::ALL {
        format!("-p {protocol}")
    } else {
        format!("-p {protocol} -m {protocol} --dport {first}:{last}")
    }]
}

fn remotes(group: GroupNumber, rule: usize, allow: &Allow) -> Vec<String> {
    let (option, end) = match allow.direction {
        Direction::Ingress => ("-s", "src"),
        Direction::Egress => ("-d", "dst"),
    };
    let of = |set: String| format!("-m set --match-set {set} {end}");
    match &allow.remote {
        RemoteRules::Anyone => vec![String::new()],
        RemoteRules::Prefixes(prefixes) => match prefixes.first() {
            Some(only) if prefixes.len() == 1 => vec![format!("{option} {only}")],
            Some(_) => vec![of(rule_prefixes(group, rule))],
            None => Vec::new(),
        },
        RemoteRules::Members {
            group,
            with_prefixes,
        } => {
            let routed = with_prefixes.then(|| of(member_prefixes(*group)));
            std::iter::once(of(members(*group))).chain(routed).collect()
        }
    }
}

fn prefix_sets(sets: &mut Sets, number: GroupNumber, group: &GroupRules) {
    for (i, allow) in group.rules.iter().enumerate() {
        if let RemoteRules::Prefixes(prefixes) = &allow.remote
            && prefixes.len() > 1
        {
            // A hash of networks takes no prefix of length 0.
            let all = prefixes.iter().flat_map(halves).collect();
            let set = Set {
                kind: Kind::Prefixes,
                members: all,
            };
            sets.insert(rule_prefixes(number, i), set);
        }
    }
}

/// A prefix as a set takes it: everything is two halves.
fn halves(prefix: &Prefix) -> Vec<String> {
    if prefix.length() == 0 {
        return vec!["::/1".to_owned(), "8000::/1".to_owned()];
    }
    vec![prefix.to_string()]
}

fn policy_rules(policy: &Policy, ruleset: &Ruleset, direction: Direction) -> Vec<String> {
    let mut rules = Vec::new();
    let open = direction == Direction::Egress && policy.egress == EgressMode::Open;
    if policy.icmpv6 && !open {
        rules.push(format!("{} {}", icmpv6(128), allowed(direction)));
    }
    let groups = policy
        .groups
        .iter()
        .filter(|group| ruleset.groups.contains_key(group));
    rules.extend(groups.map(|group| format!("-j {}", group_chain(direction, *group))));
    let reason = match direction {
        Direction::Ingress => Reason::GroupIngress,
        Direction::Egress => Reason::GroupEgress,
    };
    if open && !policy.icmpv6 {
        rules.push(format!("-p {ICMPV6} {}", goto(reason)));
    }
    rules.push(if open {
        allowed(direction)
    } else {
        goto(reason)
    });
    rules
}
