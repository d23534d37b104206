//! What differs with the place of the stateful stage (`SGAGENT_TEST_PLACEMENT`): each of these
//! tests says what holds in either.

use std::time::{Duration, Instant};

use crate::support::bridge_kind::{BridgeKind, bridge_kind};
use crate::support::net::{Net, contains, slowness};
use crate::support::packet::Wire as _;
use crate::support::plan::{Bridge, Dataplane, Placement, dataplane, placement, plan, standard};
use crate::support::want::{DefaultAction, NicExt as _, nic, open};
use crate::support::who::{A, B, HOST, Machine, R, STRANGER, UNBOUND};
use sgagent::pb;

fn status(net: &Net) -> pb::GetStatusResponse {
    let request = pb::GetStatusRequest {};
    let status = net
        .agent
        .call(async |mut client| client.get_status(request).await);
    status.unwrap()
}

/// Whether a frame that goes in at one port comes out at the other. Neither has to be known to
/// the agent.
fn crosses(net: &Net, from: Machine, to: Machine) -> bool {
    net.drain();
    let packet = from.to(STRANGER).eth_dst(to.mac).udp(4000, 9);
    net.tap(from).send(&packet.frame());
    let out: Vec<_> = std::iter::from_fn(|| net.tap(to).pending()).collect();
    contains(&out, &packet.frames())
}

#[test]
fn status_says_which_placement_it_is_and_what_that_cannot_do() {
    let net = standard().start();
    let status = status(&net);
    let has = |word: &str| status.limitations.iter().any(|text| text.contains(word));
    match placement() {
        Placement::Bridge => {
            assert_eq!(status.placement, "bridge");
            assert!(has("unmanaged bridges are tracked") && !has("S6") && !has("name"));
        }
        Placement::BrNetfilter => {
            assert_eq!(status.placement, "br_netfilter");
            assert!(has("S6") && has("name of a frame's bridge"));
        }
    }
    if dataplane() == Dataplane::Ip6tables {
        assert_eq!(status.dataplane, "ip6tables");
        assert!(has("link-local address by first come"));
        return;
    }
    assert_eq!(status.dataplane, "nftables");
    // In placement bridge that table looks at the host's own packets, and judges nobody.
    let table = net.namespace.command("nft list table ip6 sgagent");
    let behind = table.contains("chain judge_sent {");
    assert_eq!(behind, placement() == Placement::BrNetfilter, "{table}");
    let shown = net
        .namespace
        .read("/sys/class/net/br0/bridge/nf_call_ip6tables");
    assert_eq!(shown == "1", behind);
}

/// S6: the receiver's ingress, where the host's own packets are seen.
#[test]
fn s6_host_to_guest_is_the_receivers_ingress_in_placement_bridge() {
    let mut net = plan()
        .nics([nic(A), nic(B).groups(&["open"])])
        .group(open())
        .start();
    let socket = net.host_socket(7000);
    let hears = |net: &Net, guest: Machine, port| {
        net.host_knows(guest.ll, guest.mac);
        net.drain();
        socket.send(guest.ll, port);
        net.host_datagrams(guest) > 0
    };
    let judged = placement() == Placement::Bridge;
    assert!(hears(&net, B, 9));
    assert_eq!(hears(&net, A, 9), !judged);
    // What A asked for is answered.
    net.arrivals(&A.to(HOST.ll).udp(10, 7000));
    assert_eq!(socket.sources(), [A.ll]);
    assert!(hears(&net, A, 10));
    // And ICMPv6 passes by default (S2).
    net.drain();
    net.host_sends(A.ll, 64, &[128, 0, 0, 0, 0, 1, 0, 1]);
    let frames = net.host_frames(A);
    assert!(frames.iter().any(|frame| frame.get(54) == Some(&128)));
}

/// Where the bridge's name can be matched, a port is closed for what it is on and not for what
/// it is called, whether the agent has seen it or not.
#[test]
fn unknown_ports_are_told_by_their_bridge_in_placement_bridge() {
    let odd = UNBOUND.at("odd0");
    let (first, second) = (A.at("vnet8"), B.at("vnet9"));
    let br9 = Bridge {
        name: "br9",
        managed: false,
        uplinks: vec![],
    };
    let mut net = standard().bridge(br9).start();
    net.agent.kill();
    net.plug(odd, "br0");
    net.plug(first, "br9");
    net.plug(second, "br9");
    let by_bridge = placement() == Placement::Bridge;
    assert!(crosses(&net, A, R));
    assert_eq!(crosses(&net, odd, R), !by_bridge);
    assert_eq!(crosses(&net, R, odd), !by_bridge);
    assert_eq!(crosses(&net, first, second), by_bridge);
    net.agent.start(&net.namespace);
    net.wait_until_closed(odd);
    assert!(!crosses(&net, odd, R) && !crosses(&net, R, odd));
    assert!(crosses(&net, first, second));
}

/// Somebody else turned on what placement `br_netfilter` needs.
#[test]
fn bridge_shown_to_both_trackers_works_and_is_reported() {
    let net = standard().ip("link set br0 type bridge nf_call_ip6tables 1");
    let mut net = net.start();
    net.passes(&A.to(STRANGER).udp(4000, 53), R);
    net.passes(&R.to(A.ip).src(STRANGER).udp(53, 4000), A);
    net.passes(&B.to(A.ip).ping(), A);
    let warnings = status(&net).warnings;
    let reported = warnings.iter().any(|text| text.contains("tracked twice"));
    assert_eq!(reported, placement() == Placement::Bridge, "{warnings:?}");
    let shown = net
        .namespace
        .read("/sys/class/net/br0/bridge/nf_call_ip6tables");
    assert_eq!(shown, "1", "whoever set it may need it");
}

/// Somebody else marks what comes in by the uplink as if a NIC had sent it.
#[test]
fn foreign_marks_on_a_managed_bridge_are_nobodys_in_placement_bridge() {
    let denied = nic(A).groups(&["open"]).egress(DefaultAction::Deny);
    let mut net = plan()
        .nics([denied, nic(B).groups(&["open"])])
        .group(open())
        .start();
    net.namespace.command("nft add table bridge other");
    net.namespace.command(
        "nft add chain bridge other marks { type filter hook prerouting priority -290 ; }",
    );
    let inbound = |port| R.to(B.ip).src(STRANGER).udp(port, 9);
    let sent = match dataplane() {
        Dataplane::Nftables => "0x5e000001",
        Dataplane::Ip6tables => "0x60000001",
    };
    for (port, mark) in (4000..).zip(["0x1", "0x51000001", "0x51000002", sent]) {
        net.namespace.command("nft flush chain bridge other marks");
        let rule = format!(
            "nft add rule bridge other marks iifname uplink0 meta protocol ip6 meta mark set {mark}"
        );
        net.namespace.command(&rule);
        // There a mark is all that the stateful stage knows of a sender.
        if placement() == Placement::BrNetfilter && mark == sent {
            net.blocked(&inbound(port), B);
        } else {
            net.passes(&inbound(port), B);
        }
    }
}

/// A guest can't join fragments of which some have a tag. What is whole passes everywhere.
#[test]
fn fragments_from_a_trunk_keep_their_tag_behind_br_netfilter() {
    let mut net = standard().start();
    net.passes(&R.to(A.ip).src(STRANGER).ping(), A);
    net.drain();
    let large = R.to(A.ip).src(STRANGER).echo(128, 1, 2000).cut(1, &[1440]);
    for frame in &large.frames {
        net.tap(R).send(frame);
    }
    let deadline = Instant::now() + Duration::from_secs(3) * slowness();
    let mut types = Vec::new();
    while types.len() < large.frames.len() {
        assert!(Instant::now() < deadline, "{types:?}");
        net.tap(A).wait(deadline);
        let mut frame = [0; 2000];
        if net.tap(A).device.recv(&mut frame).is_ok() {
            types.push([frame[12], frame[13]]);
        }
    }
    let lost = bridge_kind() == BridgeKind::Filtering && placement() == Placement::BrNetfilter;
    let second = if lost { [0x81, 0] } else { [0x86, 0xdd] };
    assert_eq!(types, [[0x86, 0xdd], second]);
    let says = |text: &String| text.contains("keep their tag");
    assert_eq!(status(&net).warnings.iter().any(says), lost);
}

/// A host whose nft is gone, and whose operator has written nothing of it.
#[test]
fn auto_takes_ip6tables_where_there_is_no_nft() {
    let mut net = standard().start();
    net.agent.stop();
    net.namespace.command("nft flush ruleset");
    let path = net.agent.path("sgagent.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    let keys = ["dataplane", "placement", "nft"];
    let others = text
        .lines()
        .filter(|line| !keys.contains(&line.split(' ').next().unwrap_or_default()));
    let others = others.collect::<Vec<_>>().join("\n");
    std::fs::write(&path, format!("nft = \"no-such-nft\"\n{others}")).unwrap();
    if !net
        .namespace
        .has("/proc/sys/net/bridge/bridge-nf-call-ip6tables")
    {
        net.agent.spawn(&net.namespace, &[], &[]);
        assert!(net.agent.wait_until_ready().is_err());
        let log = net.agent.log();
        assert!(log.contains("no dataplane is to be had here"), "{log}");
        assert!(log.contains("load the module br_netfilter"), "{log}");
        return;
    }
    net.agent.start(&net.namespace);
    let status = net.agent_status();
    assert_eq!(status.dataplane, "ip6tables");
    let why = &status.placement_reason;
    assert!(
        why.contains("nftables is not to be had: can't start no-such-nft"),
        "{why}"
    );
    net.wait_for(A, pb::NicState::Active);
    net.passes(&A.to(STRANGER).ping(), R);
    net.dropped(&A.to(STRANGER).src(B.ip).ping());
}
