//! Which groups are programmed, and what judges a NIC.

use std::{collections::BTreeSet, sync::Arc};

use super::Numbering;
use crate::{
    model::{Desired, Direction, GroupId, GroupRule, Members, Nic, Prefix, Remote},
    ruleset::{Allow, EgressMode, GroupRules, Policy, RemoteRules, Ruleset},
};

/// What judges a NIC in the stateful stage.
pub(super) fn policy(nic: &Nic, desired: &Desired, numbering: &mut Numbering) -> Policy {
    let has_egress_rule = |id: &GroupId| {
        desired.groups.get(id).is_some_and(|group| {
            group
                .rules
                .iter()
                .any(|rule| rule.direction == Direction::Egress)
        })
    };
    let open = nic.allows_egress() && !nic.groups.iter().any(has_egress_rule);
    Policy {
        groups: nic.groups.iter().map(|id| numbering.group(id)).collect(),
        icmpv6: nic.allows_icmpv6(),
        egress: if open {
            EgressMode::Open
        } else {
            EgressMode::RulesOnly
        },
    }
}

/// Adds the groups that a policy refers to, and the members of those that a rule of
/// these refers to. A group that no NIC of this host needs costs the kernel nothing.
pub(super) fn add(ruleset: &mut Ruleset, desired: &Desired, numbering: &mut Numbering) {
    let used: BTreeSet<_> = ruleset
        .policies
        .values()
        .flat_map(|policy| policy.groups.iter().copied())
        .collect();
    for group in desired.groups.values() {
        let number = numbering.group(&group.id);
        if !used.contains(&number) {
            continue;
        }
        let mut rules = Vec::with_capacity(group.rules.len());
        for rule in &group.rules {
            rules.push(allow(rule, ruleset, desired, numbering));
        }
        ruleset.groups.insert(
            number,
            GroupRules {
                id: group.id.clone(),
                rules,
            },
        );
    }
}

fn allow(
    rule: &GroupRule,
    ruleset: &mut Ruleset,
    desired: &Desired,
    numbering: &mut Numbering,
) -> Allow {
    let remote = match &rule.remote {
        Remote::Anyone => RemoteRules::Anyone,
        Remote::Prefixes(prefixes) => {
            let prefixes: BTreeSet<_> = Prefix::aggregate(prefixes.iter().copied())
                .into_iter()
                .collect();
            if prefixes.iter().any(|prefix| prefix.length() == 0) {
                RemoteRules::Anyone
            } else {
                RemoteRules::Prefixes(prefixes)
            }
        }
        Remote::Group(id) => {
            let group = numbering.group(id);
            let members: Arc<Members> = desired.members.get(id).cloned().unwrap_or_default();
            let with_prefixes = members.values().any(|m| !m.delegated_prefixes.is_empty());
            ruleset.members.insert(group, members);
            RemoteRules::Members {
                group,
                with_prefixes,
            }
        }
    };
    Allow {
        direction: rule.direction,
        protocol: rule.protocol,
        remote,
    }
}
