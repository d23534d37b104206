//! Every drop is counted: by its reason, and against the NIC that it is about.

use std::collections::BTreeMap;

use sgagent::pb;

use crate::support::nd::target_option;
use crate::support::net::Net;
use crate::support::packet::Packet;
use crate::support::plan::standard;
use crate::support::want::{ChangeExt as _, change, nic};
use crate::support::who::{A, ALL_NODES, B, C, Machine, R, STRANGER, UNBOUND, ip};

type Counts = BTreeMap<String, u64>;

/// What was dropped of one machine's NIC, and in all.
fn drops(net: &Net, machine: Machine) -> (Counts, Counts) {
    let request = pb::ListDropsRequest {
        nic_id: machine.port.to_owned(),
    };
    let answer = net
        .agent
        .call(async |mut client| client.list_drops(request).await)
        .unwrap();
    let counts = |list: Vec<pb::DropCount>| {
        let pair = |count: pb::DropCount| (count.reason, count.packets);
        list.into_iter().map(pair).collect::<Counts>()
    };
    let of_nic = answer.nics.into_iter().next();
    let of_nic = of_nic.map(|nic| counts(nic.drops)).unwrap_or_default();
    (of_nic, counts(answer.totals))
}

#[test]
fn drops_of_what_a_guest_sends_are_counted_against_it() {
    let mut net = standard().start();
    let to_all = || A.to(ALL_NODES);
    let attacks: Vec<(&str, Packet)> = vec![
        (
            "link-local-mac",
            A.to(STRANGER).eth_dst([1, 0x80, 0xc2, 0, 0, 0]).udp(1, 2),
        ),
        ("spoofed-mac", A.to(STRANGER).eth_src(B.mac).ping()),
        ("ethertype", A.to(STRANGER).tagged(0x8100, 0).ping()),
        ("ext-header", A.to(STRANGER).routing(0, 1).ping()),
        ("rogue-ra", to_all().ra()),
        ("icmpv6-type", A.to(R.ll).icmp(138, 0, &[0; 4])),
        ("nd-malformed", A.asks_for(R.ll).hop(64)),
        ("nd-spoof", to_all().na(B.ll, 0x20, &target_option(A.mac))),
        ("mld", A.joins(&[ip("ff02::77")]).hop(2)),
        ("rogue-dhcpv6", A.to(B.ll).dhcp(547, 546, 7)),
        ("spoofed-source", A.to(STRANGER).src(B.ip).udp(1, 2)),
        ("invalid", A.to(STRANGER).pong_id(4711)),
    ];
    for (reason, attack) in attacks {
        let (before, all_before) = drops(&net, A);
        net.dropped(&attack);
        let (after, all_after) = drops(&net, A);
        let grown = |before: &Counts, after: &Counts| {
            let differs = |(name, count): &(&String, &u64)| before.get(*name) != Some(*count);
            let names = after.iter().filter(differs).map(|(name, _)| name.clone());
            names.collect::<Vec<_>>()
        };
        assert_eq!(grown(&before, &after), [reason], "against A");
        assert_eq!(grown(&all_before, &all_after), [reason], "in all");
    }
    assert_eq!(drops(&net, B).0, Counts::new(), "nothing is B's fault");
}

#[test]
fn drops_of_what_is_sent_to_a_guest_are_counted_against_it() {
    let mut net = standard().start();
    net.blocked(&R.to(C.ip).src(STRANGER).udp(1, 2), C);
    net.blocked(&R.advertises().hop(64), C);
    net.blocked(&R.to(C.ip).src(STRANGER).dhcp(547, 546, 7), C);
    net.blocked(&R.asks_for(C.ll).hop(64), C);
    let (of_c, _) = drops(&net, C);
    for reason in ["group-ingress", "rogue-ra", "rogue-dhcpv6", "nd-malformed"] {
        assert_eq!(of_c.get(reason), Some(&1), "{reason} in {of_c:?}");
    }
}

#[test]
fn drops_at_a_closed_port_are_counted_and_are_nobodys() {
    let mut net = standard().port(UNBOUND, "br0").start();
    let before = drops(&net, A).1.get("unbound").copied().unwrap_or(0);
    net.dropped(&UNBOUND.to(STRANGER).ping());
    let (of_a, all) = drops(&net, A);
    assert!(all["unbound"] > before);
    assert!(!of_a.contains_key("unbound"));
}

#[test]
fn a_nic_that_is_new_starts_without_the_drops_of_the_one_before() {
    let mut net = standard().start();
    net.dropped(&A.to(STRANGER).src(B.ip).udp(1, 2));
    assert_eq!(drops(&net, A).0["spoofed-source"], 1);
    net.apply(change().remove_nic(A));
    net.apply(change().nic(nic(A)));
    assert_eq!(drops(&net, A).0, Counts::new());
}
