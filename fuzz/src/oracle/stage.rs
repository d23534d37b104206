//! The stateful stage: what policies and groups allow, and which flows are cut.

use std::{collections::BTreeSet, net::Ipv6Addr, sync::Arc};

use sgagent::{
    model::{Direction, Prefix, Remote, SecurityGroup},
    policy::Compiled,
    ruleset::{Before, Cut, Flow, NicNumber, Pardon, Ruleset, Selector, Suspect, Upper},
};

use super::{Active, Expected};
use crate::kernel::Kernel;

/// What judges a NIC: it ends in a drop, unless all that it sends is allowed.
pub(super) fn policies(
    compiled: &Compiled,
    one: &Active<'_>,
    stage: &'static str,
    kernel: &Kernel,
    expected: &mut Expected,
) {
    let desired = &compiled.desired;
    let number = compiled.ruleset.nics[&NicNumber(one.number)].policy.0;
    let groups: BTreeSet<_> = one.nic.groups.iter().collect();
    let groups: Vec<_> = groups
        .into_iter()
        .map(|id| desired.groups.get(id))
        .collect();
    let judged = groups
        .iter()
        .flatten()
        .any(|group| speaks(group, Direction::Egress));
    let open = one.nic.allows_egress() && !judged;
    for (direction, map, tag, drop) in [
        (
            "egress",
            "egress_policy",
            0x5e00_0000,
            "goto drop_group_egress comment \"S4\"",
        ),
        (
            "ingress",
            "ingress_policy",
            0x5100_0000,
            "goto drop_group_ingress comment \"S3\"",
        ),
    ] {
        let name = format!("policy_{number}_{direction}");
        let mark: u32 = tag | one.number;
        expected.add(stage, map, format!("{mark:#010x} : goto {name}"));
        let rules = &kernel.chains[&(stage, name)];
        let (last, others) = rules.split_last().expect("a rule");
        let pass = open && direction == "egress";
        assert_eq!(
            last,
            if pass {
                "goto pass comment \"S4\""
            } else {
                drop
            }
        );
        let echo = |rule: &&String| rule.starts_with("icmpv6 type echo-request goto pass");
        let jumps = others
            .iter()
            .filter(|rule| rule.starts_with("jump group_"))
            .count();
        let echoes = others.iter().filter(echo).count();
        let drops = others
            .iter()
            .filter(|rule| rule.contains("goto drop_"))
            .count();
        assert_eq!(jumps, groups.iter().flatten().count());
        assert_eq!(echoes, usize::from(one.nic.allows_icmpv6() && !pass));
        assert_eq!(drops, usize::from(!one.nic.allows_icmpv6() && pass));
        assert_eq!(jumps + echoes + drops, others.len());
    }
}

fn speaks(group: &SecurityGroup, direction: Direction) -> bool {
    group.rules.iter().any(|rule| rule.direction == direction)
}

/// No rule of a group speaks of anyone where none was to, and sets have the members.
pub(super) fn groups(compiled: &Compiled, stage: &'static str, kernel: &Kernel) {
    let desired = &compiled.desired;
    for (number, rules) in &compiled.ruleset.groups {
        let group = &desired.groups[&rules.id];
        for (direction, word) in [
            (Direction::Ingress, "ingress"),
            (Direction::Egress, "egress"),
        ] {
            let chain = &kernel.chains[&(stage, format!("group_{}_{word}", number.0))];
            let here = group
                .rules
                .iter()
                .filter(|rule| rule.direction == direction);
            let whole = |prefixes: &[Prefix]| {
                let all = Prefix::aggregate(prefixes.iter().copied());
                all.iter().any(|prefix| prefix.length() == 0)
            };
            let anyone = here.filter(|rule| match &rule.remote {
                Remote::Anyone => true,
                Remote::Prefixes(prefixes) => whole(prefixes),
                Remote::Group(_) => false,
            });
            let field = if word == "ingress" {
                "ip6 saddr "
            } else {
                "ip6 daddr "
            };
            let unlimited = chain.iter().filter(|rule| !rule.contains(field)).count();
            assert_eq!(unlimited, anyone.count(), "group {}: {chain:?}", rules.id);
        }
    }
    for (number, members) in &compiled.ruleset.members {
        let there = kernel.elements_of(stage, &format!("members_{}", number.0));
        assert_eq!(there, members.keys().map(ToString::to_string).collect());
    }
}

/// Where nothing changed, no flow is cut that is allowed.
pub fn flows(ruleset: &Arc<Ruleset>) {
    let suspects = ruleset.nics.iter().map(|(number, nic)| Suspect {
        number: *number,
        before: Some(Before {
            ruleset: Arc::clone(ruleset),
            nic: Arc::clone(nic),
        }),
        gone: false,
    });
    let cut = Cut {
        to: Arc::clone(ruleset),
        suspects: suspects.collect(),
        widened: true,
    };
    let zones = ruleset
        .bridges
        .values()
        .map(|bridge| bridge.number.0)
        .chain([0]);
    let zones: Vec<_> = zones.collect();
    let ends = ruleset
        .nics
        .values()
        .flat_map(|nic| nic.on_link.iter().copied());
    let ends: Vec<_> = ends
        .take(2)
        .chain([Ipv6Addr::new(0x2600, 0, 0, 0, 0, 0, 0, 1)])
        .collect();
    let ports = Upper::Ports {
        source: 40000,
        destination: 80,
    };
    let echo = Upper::Icmpv6 { kind: 128, code: 0 };
    for judged in [false, true] {
        let selector = Selector::new(&cut, judged);
        let pardon = Pardon::new(ruleset, judged);
        for zone in &zones {
            for source in &ends {
                for destination in &ends {
                    for (protocol, upper) in [(6, ports), (58, echo), (50, Upper::Other)] {
                        let flow = Flow {
                            zone: *zone,
                            protocol,
                            source: *source,
                            destination: *destination,
                            upper,
                        };
                        let cut = selector.cuts(&flow);
                        assert!(!(cut && pardon.allows(&flow)), "{flow:?}");
                    }
                }
            }
        }
    }
}
