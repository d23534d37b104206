//! The rules of groups, who is in them, and the policies that name them.

use super::{
    super::{
        chains::Chains,
        sets::{Kind, Set, Sets},
    },
    DELIVER, PASS, goto, icmpv6,
};
use crate::{
    model::{Direction, Icmpv6Match, PortRange, Prefix, Protocol},
    ruleset::{
        Allow, EgressMode, GroupNumber, GroupRules, ICMPV6, Policy, PolicyNumber, Reason,
        RemoteRules, Ruleset,
    },
};

/// All of them.
pub(super) fn rules(chains: &mut Chains, sets: &mut Sets, ruleset: &Ruleset) {
    for (number, group) in &ruleset.groups {
        for direction in [Direction::Ingress, Direction::Egress] {
            group_rules(chains, *number, group, direction);
        }
        prefix_sets(sets, *number, group);
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
}

pub(super) fn policy_chain(direction: Direction, policy: PolicyNumber) -> String {
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
        Direction::Ingress => format!("-g {DELIVER}"),
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
