//! Every drop is counted: by its reason, and against the NIC that it is about.

use std::collections::BTreeMap;

use sgagent::pb;

use crate::support::frag::Cut;
use crate::support::nd::target_option;
use crate::support::net::Net;
use crate::support::packet::{DEST_OPTIONS, Frames, ICMP, Packet, Wire as _};
use crate::support::plan::{Dataplane, dataplane, plan, standard};
use crate::support::want::{
    ChangeExt as _, DefaultAction, NicExt as _, RuleExt as _, allow_in, change, group, nic,
};
use crate::support::who::{A, ALL_NODES, B, C, HOST, Machine, R, STRANGER, UNBOUND, ip};

pub(super) type Counts = BTreeMap<String, u64>;

/// What was dropped of one machine's NIC, and in all.
pub(super) fn drops(net: &Net, machine: Machine) -> (Counts, Counts) {
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
        // What tc drops beside ip6tables is not counted.
        if reason == "link-local-mac" && dataplane() == Dataplane::Ip6tables {
            net.dropped(&attack);
            continue;
        }
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
    let flooded = R.to(C.ip).src(STRANGER).ping();
    let attacks = [
        ("group-ingress", R.to(C.ip).src(STRANGER).udp(1, 2)),
        ("rogue-ra", R.advertises().hop(64)),
        ("rogue-dhcpv6", R.to(C.ip).src(STRANGER).dhcp(547, 546, 7)),
        ("nd-malformed", R.asks_for(C.ll).hop(64)),
        ("not-for-nic", flooded.eth_dst([6, 0xb2, 0, 0, 9, 9])),
        ("ethertype", R.to(C.ip).tagged(0x8100, 0).ping()),
    ];
    for (reason, attack) in attacks {
        let count = |counts: &Counts| counts.get(reason).copied().unwrap_or(0);
        let (before, all_before) = drops(&net, C);
        net.blocked(&attack, C);
        let (after, all_after) = drops(&net, C);
        assert_eq!(count(&after), count(&before) + 1, "{reason} in {after:?}");
        assert!(count(&all_after) > count(&all_before), "{reason} in all");
    }
}

/// What a rate, a budget or a group stops is counted as what a spoofer sends is.
#[test]
fn drops_beyond_a_limit_are_counted_against_the_sender() {
    let limits = "fragments_per_second = 1\nfragment_burst = 1\nmld_per_second = 1\nmld_burst = 1\n\
                  nd_per_second = 1\nnd_burst = 1\nflows_per_second = 1\nflow_burst = 1";
    let closed = nic(B).egress(DefaultAction::Deny);
    let mut net = standard().limits(limits).start();
    let large = |id| A.to(STRANGER).echo(128, 1, 2000).cut(id, &[1440]).frames();
    let floods: [(&str, Vec<Vec<u8>>); 4] = [
        ("fragment-rate", (0..5).flat_map(large).collect()),
        ("mld-rate", vec![A.joins(&[ip("ff02::77")]).frame(); 5]),
        ("nd-rate", vec![A.asks_for(R.ll).frame(); 5]),
        (
            "flow-limit",
            (1..=5)
                .map(|port| A.to(STRANGER).udp(port, 53).frame())
                .collect(),
        ),
    ];
    for (reason, frames) in floods {
        let port = A.port;
        net.arrivals(&Frames { port, frames });
        let (of_a, all) = drops(&net, A);
        let counted = of_a.get(reason).copied().unwrap_or(0);
        assert!((3..=9).contains(&counted), "{reason} in {of_a:?}");
        assert_eq!(all[reason], counted, "{reason} in all");
    }
    net.apply(change().nic(closed));
    net.dropped(&B.to(STRANGER).udp(1, 2));
    let (of_b, all) = drops(&net, B);
    assert_eq!((of_b["group-egress"], all["group-egress"]), (1, 1));
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
fn drops_of_what_would_revive_a_flow_are_counted_against_the_guest() {
    let udp = |rules: &[pb::Rule]| group("udp", rules);
    let open = udp(&[allow_in(pb::Protocol::Udp).port(5000)]);
    let member = nic(A).groups(&["udp"]);
    let mut net = plan().nic(member).group(open).start();
    net.passes(&R.to(A.ip).src(STRANGER).udp(4000, 5000), A);
    assert_eq!(net.apply(change().group(udp(&[]))).flows_cut, 1);
    net.dropped(&A.to(STRANGER).udp(5000, 4000));
    let (of_a, all) = drops(&net, A);
    assert_eq!((of_a["revoked"], all["revoked"]), (1, 1));
}

/// What the host sends is nobody's fault, whatever its mark.
#[test]
fn drops_of_what_would_revive_a_flow_with_the_host_are_nobodys() {
    let mut net = plan().nic(nic(A)).start();
    let socket = net.host_socket(7000);
    net.host_knows(A.ll, A.mac);
    net.arrivals(&A.to(HOST.ll).udp(4000, 7000));
    assert_eq!(socket.sources(), [A.ll]);
    let closed = nic(A).egress(DefaultAction::Deny);
    assert_eq!(net.apply(change().nic(closed)).flows_cut, 1);
    socket.mark(1);
    assert!(socket.try_send(A.ll, 4000).is_err());
    let (of_a, all) = drops(&net, A);
    assert_eq!(all["revoked"], 1);
    assert_eq!(of_a, Counts::new());
}

/// A mark that somebody else gave a frame is not taken for a NIC's.
#[test]
fn drops_of_what_the_host_sends_to_a_closed_port_are_nobodys() {
    let mut net = standard().port(UNBOUND, "br0").start();
    net.wait_until_closed(UNBOUND);
    net.host_knows(UNBOUND.ll, UNBOUND.mac);
    let before = drops(&net, A).1.get("unbound").copied().unwrap_or(0);
    let socket = net.host_socket(7000);
    for mark in 1..=3 {
        socket.mark(mark);
        socket.send(UNBOUND.ll, 4000);
    }
    net.passes(&A.to(STRANGER).ping(), R);
    assert!(drops(&net, A).1["unbound"] >= before + 3);
    for machine in [A, B, C] {
        // The bridge has flooded them, too.
        let counts = drops(&net, machine).0;
        assert!(!counts.contains_key("unbound"), "{machine:?}: {counts:?}");
    }
}

/// RFC 7112. Reassembly would keep it, so that it arrives nowhere is no proof.
#[test]
fn drops_of_a_first_fragment_without_its_type_are_counted() {
    let mut net = standard().start();
    let cut = Cut {
        before: 0,
        id: 1,
        lengths: &[],
    };
    let ping = R.to(A.ip).src(STRANGER).ping();
    let of = |kind, data: &[u8]| Frames {
        port: R.port,
        frames: vec![ping.piece(&cut, (kind, 0, true), data)],
    };
    for (kind, data) in [
        (ICMP, &[][..]),
        (DEST_OPTIONS, &[ICMP, 1, 1, 4, 0, 0, 0, 0]),
    ] {
        net.dropped(&of(ICMP, &[128, 0, 0, 0, 0, 0, 0, 0]));
        let before = drops(&net, A).1.get("ext-header").copied().unwrap_or(0);
        net.dropped(&of(kind, data));
        assert_eq!(drops(&net, A).1["ext-header"], before + 1, "{kind}");
    }
}

#[test]
fn drops_of_a_nic_are_still_counted_after_changes_of_others() {
    let mut net = standard().start();
    let reasons = ["spoofed-source", "spoofed-mac", "group-ingress"];
    net.dropped(&A.to(STRANGER).src(B.ip).udp(1, 2));
    net.dropped(&A.to(STRANGER).eth_src(B.mac).ping());
    net.blocked(&R.to(C.ip).src(STRANGER).udp(1, 2), C);
    let counted = |net: &Net| {
        let (of_a, all) = drops(net, A);
        let (of_c, _) = drops(net, C);
        let of = |counts: &Counts| reasons.map(|reason| counts.get(reason).copied());
        [of(&of_a), of(&of_c), of(&all)]
    };
    let one = Some(1);
    let wanted = [[one, one, None], [None, None, one], [one, one, one]];
    assert_eq!(counted(&net), wanted);
    net.apply(change().remove_nic(B));
    assert_eq!(counted(&net), wanted);
    net.apply(change().nic(nic(B).egress(DefaultAction::Deny)));
    assert_eq!(counted(&net), wanted);
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
