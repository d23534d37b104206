//! Rules that somebody else has on the same host: they stay, and what ours let pass they still judge.

use crate::support::net::Net;
use crate::support::packet::Packet;
use crate::support::plan::{Placement, ebtables, ip6tables, placement, plan, standard};
use crate::support::want::{DefaultAction, NicExt as _, nic};
use crate::support::who::{A, R, STRANGER};

/// Rules that drop a port of UDP, each in another place, and the port.
fn places() -> Vec<(String, u16)> {
    let mut all = Vec::new();
    let frames = [
        "nat -A PREROUTING",
        "filter -A FORWARD",
        "nat -A POSTROUTING",
    ];
    for (place, port) in frames.into_iter().zip(5001..) {
        let rule = format!("{place} -p IPv6 --ip6-proto udp --ip6-dport {port} -j DROP");
        all.push((format!("{} -t {rule}", ebtables()), port));
    }
    if placement() == Placement::BrNetfilter {
        let packets = [
            "raw -A PREROUTING",
            "mangle -A PREROUTING",
            "mangle -A FORWARD",
            "filter -A FORWARD",
            "mangle -A POSTROUTING",
        ];
        for (place, port) in packets.into_iter().zip(6001..) {
            let rule = format!("{place} -p udp --dport {port} -j DROP");
            all.push((format!("{} -t {rule}", ip6tables()), port));
        }
    }
    all
}

fn sent(port: u16) -> Packet {
    A.to(STRANGER).udp(4000, port)
}

fn received(port: u16) -> Packet {
    R.to(A.ip).src(STRANGER).udp(4000, port)
}

#[test]
fn others_rules_judge_what_ours_let_pass() {
    let mut net = standard().start();
    for (rule, port) in places() {
        net.passes(&sent(port), R);
        net.passes(&received(port), A);
        net.namespace.command(&rule);
        net.dropped(&sent(port));
        net.blocked(&received(port), A);
        net.namespace.command(&rule.replace(" -A ", " -D "));
    }
    net.passes(&sent(7), R);
}

/// Ours tell by a mark whose a frame is.
#[test]
fn what_loses_its_mark_to_others_is_not_let_out_by_it() {
    let mark = |net: &Net, verb: &str| {
        let rule = format!(
            "-i {} -j mark --mark-set 0x5 --mark-target CONTINUE",
            A.port
        );
        let rule = format!("{} -t nat {verb} PREROUTING {rule}", ebtables());
        net.namespace.command(&rule);
    };
    let mut net = plan().nics([nic(A).egress(DefaultAction::Deny)]).start();
    net.dropped(&sent(7));
    mark(&net, "-A");
    net.dropped(&sent(7));
    net.dropped(&A.to(STRANGER).src(R.ip).udp(4000, 7));
    mark(&net, "-D");
}
