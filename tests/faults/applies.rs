//! Re-applies and random changes while traffic flows.

use sgagent::pb;
use sgagent::pb::Protocol;

use super::fixture::{PROBED, host, start};
use super::random::{Random, number};
use super::traffic::Traffic;
use super::wanted::Wanted;
use crate::support::net::Net;
use crate::support::want::{
    ChangeExt as _, DefaultAction, NicExt as _, Permission, RuleExt as _, allow_in, allow_out,
    change, group, nic, open, web,
};
use crate::support::who::{A, B, C};

/// The same again: by Apply, by Sync, and by a start, which replaces all tables in one
/// transaction.
#[test]
fn the_same_again() {
    let applies = number("SGAGENT_FAULTS_APPLIES", 50);
    let mut net = start(host());
    super::kills::push_all(&mut net);
    let wanted = Wanted::first();
    let mut traffic = Traffic::start(&net);
    wanted.begin_flow(&mut traffic);
    for n in 0..applies {
        traffic.doing(&format!("re-apply {n}"));
        match n % 5 {
            0 => {
                net.agent.stop();
                net.agent.start(&net.namespace);
            }
            1 | 3 => {
                let pieces = tokio_stream::iter([wanted.everything()]);
                let done = net.agent.call(async |mut client| client.sync(pieces).await);
                done.unwrap();
            }
            _ => {
                net.apply(host().change);
            }
        }
        if n % 10 == 0 {
            assert!(wanted.flow_lives(&mut traffic));
        }
    }
    wanted.is_in_force(&mut traffic, 0);
    assert!(wanted.flow_lives(&mut traffic));
    assert!(net.agent_status().healthy);
    traffic.finish("the_same_again", applies);
}

/// Changes of everything, but what allows the traffic and what forbids the rest of it.
#[test]
fn random_changes() {
    let applies = number("SGAGENT_FAULTS_APPLIES", 50);
    let mut random = Random::new();
    let mut net = start(host());
    net.apply(extras(&mut random));
    let traffic = Traffic::start(&net);
    let mut made = Made {
        members: 0,
        guest: true,
    };
    for n in 0..applies {
        let (what, request) = any(&mut random, &mut made);
        traffic.doing(&format!("change {n}, {what}"));
        let text = format!("{request:?}");
        let answer = net
            .agent
            .call(async |mut client| client.apply(request).await);
        assert!(answer.is_ok(), "{what}: {answer:?}\n{text}");
    }
    let status = net.agent_status();
    assert!(status.healthy && status.drifts.is_empty(), "{status:?}");
    traffic.finish("random_changes", applies);
    ends_as_told(&mut net);
}

/// What is allowed and forbidden at the end is what a fresh start makes of it.
fn ends_as_told(net: &mut Net) {
    let before = listing(net);
    net.agent.stop();
    net.agent.start(&net.namespace);
    assert_eq!(listing(net), before);
}

/// The verdicts of the kernel, without what the packets changed: the sets' elements, in order.
/// Groups and policies are numbered anew at a start, so of those the rules alone count.
fn listing(net: &Net) -> Vec<String> {
    let text = net.namespace.command("nft -s list table bridge sgagent");
    let sets = [
        "bound",
        "own_mac",
        "own_lladdr",
        "port_in",
        "port_out",
        "nic_mac",
    ];
    let mut found = Vec::new();
    for set in sets {
        let all = text.split(&format!("set {set} {{")).nth(1);
        let all = all.or_else(|| text.split(&format!("map {set} {{")).nth(1));
        let block = all.unwrap_or_else(|| panic!("no {set}\n{text}"));
        let block = block.split("\n\t}").next().unwrap();
        let mut elements: Vec<_> = block
            .split_once("elements = {")
            .map_or("", |(_, elements)| elements)
            .split(',')
            .map(|one| one.split(" : 0x").next().unwrap())
            .map(|one| format!("{set}: {}", one.trim().trim_end_matches('}').trim()))
            .collect();
        elements.sort();
        found.extend(elements);
    }
    found
}

/// Groups that the random changes are about.
const GROUPS: usize = 8;

/// NICs without an interface that they are about.
const ABSENT: usize = 12;

fn extras(random: &mut Random) -> pb::ApplyRequest {
    let mut request = change().group(group("peers", &[]));
    for n in 0..GROUPS {
        request = request.group(any_group(n, random));
    }
    request.nic(any_nic(random))
}

fn any_group(n: usize, random: &mut Random) -> pb::Group {
    let rules: Vec<_> = (0..random.below(6)).map(|_| any_rule(random)).collect();
    group(&format!("random-{n}"), &rules)
}

/// None of them lets in what has to be blocked, and none is for the NICs with traffic but by
/// groups that only allow more in.
fn any_rule(random: &mut Random) -> pb::Rule {
    let port = u32::try_from(5_000 + random.below(50_000)).unwrap();
    let rule = match random.below(4) {
        0 => allow_in(Protocol::Tcp).ports(port, port + 10),
        1 => allow_in(Protocol::Udp).port(port),
        2 => allow_in(Protocol::Sctp),
        _ => allow_in(Protocol::Icmpv6).icmp_type(128),
    };
    match random.below(3) {
        0 => rule.prefixes(&["2001:db8:fffe::/48", "2001:db8:fffd::/56"]),
        1 => rule.members_of("peers"),
        _ => rule,
    }
}

fn some_groups(first: &str, random: &mut Random) -> Vec<String> {
    let mut all: Vec<_> = (!first.is_empty())
        .then(|| first.to_owned())
        .into_iter()
        .collect();
    for n in 0..GROUPS {
        if random.below(3) == 0 {
            all.push(format!("random-{n}"));
        }
    }
    all
}

/// The guest that is changed, as anything.
fn any_nic(random: &mut Random) -> pb::Nic {
    let mut all = nic(PROBED);
    all.group_ids = some_groups("", random);
    for n in 0..random.below(4) {
        all = all.address(&format!("2001:db8:100:1::6:{:x}", n * 7 + random.below(7)));
    }
    if random.below(3) == 0 {
        all = all.delegated(&format!(
            "2001:db8:100:{:x}::/60",
            0x2000 + 16 * random.below(16)
        ));
    }
    if random.below(4) == 0 {
        all = all.permit(Permission::RouterAdvertisements);
    }
    match random.below(4) {
        0 => all.egress(DefaultAction::Deny),
        1 => all.icmpv6(DefaultAction::Deny),
        _ => all,
    }
}

/// What there is to be taken away.
struct Made {
    members: usize,
    guest: bool,
}

fn any(random: &mut Random, made: &mut Made) -> (&'static str, pb::ApplyRequest) {
    match random.below(9) {
        0 => {
            let n = random.below(GROUPS);
            ("a group", change().group(any_group(n, random)))
        }
        1 => {
            made.members += 1;
            let member = format!("2001:db8:ffff:3::{:x}", made.members);
            ("a member", change().member("peers", &member, &[]))
        }
        2 if made.members > 0 => {
            let member = format!("2001:db8:ffff:3::{:x}", made.members);
            made.members -= 1;
            ("a member gone", change().remove_member("peers", &member))
        }
        3 => {
            made.guest = true;
            ("the guest", change().nic(any_nic(random)))
        }
        4 if made.guest => {
            made.guest = false;
            ("the guest gone", change().remove_nic(PROBED))
        }
        5 => {
            let id = random.below(ABSENT);
            let mut absent = nic(PROBED.at("vnet9"));
            absent.id = format!("absent-{id}");
            absent.mac = format!("06:b2:00:02:00:{id:02x}");
            let by = pb::interface_selector::By::Name(format!("vnet{}", 50 + id));
            absent.interfaces = vec![pb::InterfaceSelector { by: Some(by) }];
            absent.group_ids = some_groups("", random);
            ("a NIC without an interface", change().nic(absent))
        }
        6 => {
            let machine = [A, B][random.below(2)];
            let mut changed = nic(machine);
            changed.group_ids = some_groups("open", random);
            ("groups of a NIC with traffic", change().nic(changed))
        }
        7 => {
            let mut changed = nic(C).delegated("2001:db8:100:1040::/60");
            if random.below(2) == 0 {
                changed = nic(C);
            }
            changed.group_ids = vec!["web".to_owned()];
            ("prefixes of a NIC with traffic", change().nic(changed))
        }
        _ => {
            // It ends the open egress of those in it, and lets out what flows.
            let mut rules = web().rules;
            if random.below(2) == 0 {
                rules.push(allow_out(Protocol::Any));
            }
            let mut named = open();
            named.name = format!("name {}", random.below(1000));
            (
                "egress of a NIC with traffic",
                change().group(group("web", &rules)).group(named),
            )
        }
    }
}
