//! S7 judges live flows by a second reading of the rules ([`Judge`]). What that says of a flow
//! is what the kernel does with its first packet, for any rules.

use std::collections::BTreeMap;
use std::net::Ipv6Addr;
use std::sync::Arc;

use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::TestRunner;
use sgagent::grpc::convert;
use sgagent::model::{BridgeConfig, Desired, Interfaces, Limits, Link, LinkKind, Located};
use sgagent::pb;
use sgagent::policy::{Numbering, compile};
use sgagent::ruleset::{Flow, Judge, Ruleset, Upper};

use crate::support::net::Net;
use crate::support::packet::{ESP, ICMP, Packet, SCTP, TCP, UDP};
use crate::support::plan::plan;
use crate::support::want::{
    ChangeExt as _, DefaultAction, NicExt as _, RuleExt as _, allow_in, allow_out, change, group,
    nic,
};
use crate::support::who::{A, HOST, OTHER, R, STRANGER};

/// Rules, and the defaults of the NIC.
type Wanted = (Vec<pb::Rule>, DefaultAction, DefaultAction);

/// Whether the guest sends it, its protocol, the other end, the port.
type Sample = (bool, u8, Ipv6Addr, u16);

fn rule() -> impl Strategy<Value = pb::Rule> {
    let ports = prop_oneof![Just(None), (2u32..6, 0u32..3).prop_map(Some)];
    let remote = prop_oneof![
        Just(&["2001:db8:ffff::/48"][..]),
        Just(&["2001:db8:fffe::/48"][..]),
        Just(&["2001:db8:fffe::1/128", "2001:db8:100::/40"][..]),
        Just(&["members"][..]),
        Just(&["anyone"][..]),
    ];
    (any::<bool>(), 0..7, ports, remote).prop_map(|(out, protocol, ports, remote)| {
        let begin = if out { allow_out } else { allow_in };
        let of = |protocol| match ports {
            Some((first, more)) => begin(protocol).ports(first, first + more),
            None => begin(protocol),
        };
        let rule = match protocol {
            0 => begin(pb::Protocol::Any),
            1 => of(pb::Protocol::Tcp),
            2 => of(pb::Protocol::Udp),
            3 => of(pb::Protocol::Sctp),
            4 => begin(pb::Protocol::Icmpv6),
            5 => begin(pb::Protocol::Icmpv6).icmp_type(128).icmp_code(0),
            _ => pb::Rule {
                protocol_number: Some(ESP.into()),
                ..begin(pb::Protocol::Number)
            },
        };
        match remote {
            ["anyone"] => rule,
            ["members"] => rule.members_of("members"),
            prefixes => rule.prefixes(prefixes),
        }
    })
}

fn wanted() -> impl Strategy<Value = Wanted> {
    let default = || prop_oneof![Just(DefaultAction::Allow), Just(DefaultAction::Deny)];
    (prop::collection::vec(rule(), 0..6), default(), default())
}

fn sample() -> impl Strategy<Value = Sample> {
    let protocol = prop_oneof![Just(TCP), Just(UDP), Just(SCTP), Just(ICMP), Just(ESP)];
    let other = prop_oneof![Just(STRANGER), Just(OTHER), Just(R.ip)];
    (any::<bool>(), protocol, other, 1u16..8)
}

/// The same aimed at a rule: its direction and protocol, a port at the edge of its range.
fn aimed(&(_, protocol, other, port): &Sample, rule: &pb::Rule) -> Sample {
    let edge = rule.ports.map_or(port, |pb::PortRange { first, last }| {
        let edges = [first - 1, first, last, last + 1];
        u16::try_from(edges[usize::from(port) % 4]).unwrap()
    });
    let out = rule.direction() == pb::Direction::Egress;
    match rule.protocol() {
        pb::Protocol::Tcp => (out, TCP, other, edge),
        pb::Protocol::Udp => (out, UDP, other, edge),
        pb::Protocol::Sctp => (out, SCTP, other, edge),
        pb::Protocol::Icmpv6 => (out, ICMP, other, port),
        pb::Protocol::Number => (out, ESP, other, port),
        pb::Protocol::Any | pb::Protocol::Unspecified => (out, protocol, other, port),
    }
}

fn push((rules, egress, icmpv6): &Wanted) -> pb::ApplyRequest {
    let nic = nic(A).groups(&["rules"]).egress(*egress).icmpv6(*icmpv6);
    change().group(group("rules", rules)).nic(nic)
}

/// What the agent makes of the same.
fn ruleset(wanted: &Wanted) -> Arc<Ruleset> {
    let link = |index, name: &str, master, kind, mac| Link {
        index,
        name: name.parse().unwrap(),
        mac,
        master,
        kind,
        multicast_snooping: false,
    };
    let [_, rest @ ..] = A.mac;
    let mut tap = [0xfe; 6];
    tap[1..].copy_from_slice(&rest);
    let links = [
        link(1, "br0", None, LinkKind::Bridge, HOST.mac),
        link(2, A.port, Some(1), LinkKind::Other, tap),
    ];
    let interfaces = Interfaces {
        links: links
            .into_iter()
            .map(|link| (link.index, link))
            .collect::<BTreeMap<_, _>>(),
        bridges: vec![BridgeConfig::new("br0".parse().unwrap())],
        guest_patterns: vec!["vnet*".parse().unwrap()],
        ..Interfaces::default()
    };
    let host: Arc<Located> = Arc::new(interfaces.into());
    let pb::ApplyRequest { groups, nics, .. } = push(wanted);
    let request = pb::SyncRequest {
        groups: groups.into_iter().chain([group("members", &[])]).collect(),
        nics,
        members: vec![pb::GroupMembers {
            group_id: "members".to_owned(),
            members: vec![pb::Member {
                address: OTHER.to_string(),
                delegated_prefixes: Vec::new(),
            }],
        }],
        complete: true,
        ..pb::SyncRequest::default()
    };
    let delta = convert::sync(request).unwrap().into_parts().0.delta;
    let desired = Desired::default().change(&delta, &Limits::default(), &host);
    compile(&desired.unwrap(), &host, &mut Numbering::default()).ruleset
}

fn packet(&(out, protocol, other, port): &Sample, from: u16) -> Packet {
    let packet = if out {
        A.to(other)
    } else {
        R.to(A.ip).src(other)
    };
    match protocol {
        TCP => packet.syn(from, port),
        UDP => packet.udp(from, port),
        SCTP => packet.sctp_init(from, port),
        ICMP => packet.ping_id(from),
        number => packet.upper(number, &[0; 16]),
    }
}

fn flow(&(out, protocol, other, port): &Sample, from: u16) -> Flow {
    let (source, destination) = if out { (A.ip, other) } else { (other, A.ip) };
    Flow {
        zone: 1,
        protocol,
        source,
        destination,
        upper: match protocol {
            TCP | UDP | SCTP => Upper::Ports {
                source: from,
                destination: port,
            },
            ICMP => Upper::Icmpv6 { kind: 128, code: 0 },
            _ => Upper::Other,
        },
    }
}

fn passes(net: &mut Net, sample: &Sample, from: u16) -> bool {
    // Nothing is an answer to what came before.
    net.namespace.command("conntrack -F");
    let to = if sample.0 { R } else { A };
    let arrived = net.arrivals(&packet(sample, from)).remove(to.port);
    !arrived.unwrap_or_default().is_empty()
}

#[test]
fn s7_flow_is_judged_as_its_first_packet_is() {
    let members = group("members", &[]);
    let mut net = plan()
        .nic(nic(A).groups(&["members"]))
        .group(members)
        .member("members", &OTHER.to_string(), &[])
        .start();
    let mut random = TestRunner::default();
    let mut draw = |most| {
        let wanted = wanted().new_tree(&mut random).unwrap().current();
        let samples = prop::collection::vec(sample(), most);
        (wanted, samples.new_tree(&mut random).unwrap().current())
    };
    let mut counts = BTreeMap::new();
    for _ in 0..20 {
        let (wanted, samples) = draw(40);
        net.namespace.command("conntrack -F");
        net.apply(push(&wanted));
        let ruleset = ruleset(&wanted);
        let judge = Judge::new(&ruleset);
        let nic = ruleset.nics.values().next().unwrap();
        for (from, sample) in (20_000..).zip(&samples) {
            let rule = wanted.0.get(usize::from(from) % 8);
            let sample = &rule.map_or(*sample, |rule| aimed(sample, rule));
            let flow = flow(sample, from);
            let said = if sample.0 {
                judge.may_send(nic, &flow)
            } else {
                judge.may_receive(nic, &flow)
            };
            assert_eq!(passes(&mut net, sample, from), said, "{wanted:?} {flow:?}");
            *counts.entry((sample.0, said)).or_insert(0) += 1;
        }
    }
    assert_eq!(counts.len(), 4, "both ways, both verdicts: {counts:?}");
}
