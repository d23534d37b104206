//! Rules of groups and policies as nft text.

use crate::{
    model::{Direction, Icmpv6Match, PortRange, Protocol},
    ruleset::{
        Allow, EgressMode, GroupNumber, GroupRules, ICMPV6, Policy, RemoteRules, Ruleset, SCTP,
        TCP, UDP, name,
    },
};

/// The rules of a group's chain in one direction.
pub(super) fn group(number: GroupNumber, group: &GroupRules, direction: Direction) -> Vec<String> {
    let mut rules = Vec::new();
    for (i, allow) in group.rules.iter().enumerate() {
        if allow.direction == direction {
            let what = protocol(allow.protocol);
            for whom in remotes(number, i, allow) {
                let parts = [what.as_str(), whom.as_str(), "goto pass"];
                let words: Vec<_> = parts.into_iter().filter(|part| !part.is_empty()).collect();
                rules.push(words.join(" "));
            }
        }
    }
    rules
}

/// The rules of a policy's chain in one direction.
pub(super) fn policy(policy: &Policy, ruleset: &Ruleset, direction: Direction) -> Vec<String> {
    let mut rules = Vec::new();
    let open = direction == Direction::Egress && policy.egress == EgressMode::Open;
    if policy.icmpv6 && !open {
        rules.push("icmpv6 type echo-request goto pass comment \"S2\"".to_owned());
    }
    for group in policy
        .groups
        .iter()
        .filter(|group| ruleset.groups.contains_key(group))
    {
        let chain = name::group_chain(direction, *group);
        let id = ruleset
            .groups
            .get(group)
            .map_or("", |rules| rules.id.as_str());
        rules.push(format!("jump {chain} comment \"group {}\"", comment(id)));
    }
    let drop = match direction {
        Direction::Ingress => "goto drop_group_ingress comment \"S3\"",
        Direction::Egress => "goto drop_group_egress comment \"S4\"",
    };
    if open && !policy.icmpv6 {
        rules.push(format!(
            "meta l4proto {ICMPV6} goto drop_group_egress comment \"S2\""
        ));
    }
    rules.push(if open {
        "goto pass comment \"S4\"".to_owned()
    } else {
        drop.to_owned()
    });
    rules
}

fn protocol(protocol: Protocol) -> String {
    match protocol {
        Protocol::Any => String::new(),
        Protocol::Tcp(range) => ports("tcp", TCP, range),
        Protocol::Udp(range) => ports("udp", UDP, range),
        Protocol::Sctp(range) => ports("sctp", SCTP, range),
        Protocol::Icmpv6(Icmpv6Match::Any) => format!("meta l4proto {ICMPV6}"),
        Protocol::Icmpv6(Icmpv6Match::Type(kind)) => format!("icmpv6 type {kind}"),
        Protocol::Icmpv6(Icmpv6Match::TypeAndCode(kind, code)) => {
            format!("icmpv6 type {kind} icmpv6 code {code}")
        }
        Protocol::Number(number) => format!("meta l4proto {number}"),
    }
}

fn ports(protocol: &str, number: u8, range: PortRange) -> String {
    let (first, last) = (range.first(), range.last());
    if range == PortRange::ALL {
        format!("meta l4proto {number}")
    } else if first == last {
        format!("{protocol} dport {first}")
    } else {
        format!("{protocol} dport {first}-{last}")
    }
}

fn remotes(group: GroupNumber, rule: usize, allow: &Allow) -> Vec<String> {
    let field = match allow.direction {
        Direction::Ingress => "ip6 saddr",
        Direction::Egress => "ip6 daddr",
    };
    match &allow.remote {
        RemoteRules::Anyone => vec![String::new()],
        RemoteRules::Prefixes(prefixes) => match prefixes.first() {
            Some(only) if prefixes.len() == 1 => vec![format!("{field} {only}")],
            Some(_) => vec![format!("{field} @{}", name::rule_prefixes(group, rule))],
            None => Vec::new(),
        },
        RemoteRules::Members {
            group,
            with_prefixes,
        } => {
            let mut all = vec![format!("{field} @{}", name::members(*group))];
            if *with_prefixes {
                all.push(format!("{field} @{}", name::member_prefixes(*group)));
            }
            all
        }
    }
}

/// A caller's word inside the quotes of a comment, which has no escapes and at most 128
/// octets (nft `NFTNL_UDATA_COMMENT_MAXLEN`).
fn comment(text: &str) -> String {
    let plain = |c: char| {
        if c.is_ascii_alphanumeric() || "-_.:/@".contains(c) {
            c
        } else {
            '_'
        }
    };
    text.chars().take(100).map(plain).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_comment_never_ends_its_quotes() {
        assert_eq!(comment("web\"; drop"), "web___drop");
        assert_eq!(comment(&"x".repeat(128)).len(), 100);
    }
}
