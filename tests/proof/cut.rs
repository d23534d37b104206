//! S7 over random rules: what a change takes away is cut, what it leaves goes on.

use std::collections::BTreeSet;

use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::Config;
use sgagent::pb;

use super::random::runner;
use crate::support::net::Net;
use crate::support::packet::Packet;
use crate::support::plan::plan;
use crate::support::want::{
    ChangeExt as _, NicExt as _, RuleExt as _, allow_in, change, group, nic,
};
use crate::support::who::{A, OTHER, R, STRANGER};

/// Flows of each round: this many ports of two strangers.
const PORTS: u16 = 32;

/// The ports that rules allow, of one stranger or of any.
type Rules = Vec<(u16, u16, bool)>;

fn rules() -> impl Strategy<Value = Rules> {
    let rule = (0..PORTS, 0..12_u16, any::<bool>());
    prop::collection::vec(rule, 1..6)
}

fn push(rules: &Rules) -> pb::Group {
    let rule = |(first, more, anyone): &(u16, u16, bool)| {
        let (first, last) = (1000 + first, 1000 + first + more);
        let rule = allow_in(pb::Protocol::Udp).ports(first.into(), last.into());
        if *anyone {
            rule
        } else {
            rule.prefixes(&["2001:db8:ffff::/48"])
        }
    };
    group("g", &rules.iter().map(rule).collect::<Vec<_>>())
}

fn allows(rules: &Rules, port: u16, stranger: bool) -> bool {
    let port = port - 1000;
    rules.iter().any(|(first, more, anyone)| {
        (*anyone || stranger) && (*first..=first + more).contains(&port)
    })
}

/// Port and whether it is the stranger's, of all flows.
fn flows() -> impl Iterator<Item = (u16, bool)> {
    (1000..1000 + PORTS).flat_map(|port| [(port, true), (port, false)])
}

fn there((port, stranger): (u16, bool)) -> Packet {
    let source = if stranger { STRANGER } else { OTHER };
    R.to(A.ip).src(source).udp(4000, port)
}

fn back((port, stranger): (u16, bool)) -> Packet {
    A.to(if stranger { STRANGER } else { OTHER })
        .udp(port, 4000)
}

fn comes_out(net: &mut Net, packet: &Packet, port: &str) -> bool {
    !net.arrivals(packet)
        .remove(port)
        .unwrap_or_default()
        .is_empty()
}

#[test]
fn changes_cut_what_they_take_away_and_nothing_else() {
    let rounds = std::env::var("SGAGENT_PROOF_CUTS").map_or(5, |text| text.parse().unwrap());
    let mut random = runner(Config::default());
    let (mut cut, mut kept, mut wrong) = (0, 0, Vec::new());
    for _ in 0..rounds {
        let (before, after) = (rules(), rules()).new_tree(&mut random).unwrap().current();
        let member = nic(A).groups(&["g"]);
        let mut net = plan().nic(member).group(push(&before)).start();
        let mut alive = BTreeSet::new();
        for flow in flows() {
            if comes_out(&mut net, &there(flow), A.port) {
                assert!(
                    comes_out(&mut net, &back(flow), R.port),
                    "{before:?} {flow:?}"
                );
                alive.insert(flow);
            }
        }
        let allowed = |rules: &Rules| -> BTreeSet<_> {
            flows()
                .filter(|(port, stranger)| allows(rules, *port, *stranger))
                .collect()
        };
        assert_eq!(alive, allowed(&before), "{before:?}");
        let lost: BTreeSet<_> = alive.difference(&allowed(&after)).copied().collect();
        let answer = net.apply(change().group(push(&after)));
        assert_eq!(
            answer.flows_cut,
            u64::try_from(lost.len()).unwrap(),
            "{before:?} {after:?}"
        );
        for flow in &alive {
            match (
                lost.contains(flow),
                comes_out(&mut net, &back(*flow), R.port),
            ) {
                (true, false) => cut += 1,
                (false, true) => kept += 1,
                _ => wrong.push(format!("{before:?} {after:?} {flow:?}")),
            }
        }
    }
    println!(
        "proof: cut: {cut} flows cut correctly, {kept} kept, {} wrongly",
        wrong.len()
    );
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(cut > 0 && kept > 0, "{cut} {kept}");
}
