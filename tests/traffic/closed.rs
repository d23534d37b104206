//! The closed default: a port that no NIC is bound to carries nothing.

use crate::support::bridge_kind::{BridgeKind, bridge_kind};
use crate::support::host::HOST_SIDE;
use crate::support::net::{Net, contains};
use crate::support::packet::Frames;
use sgagent::ruleset::Reason;

use crate::support::plan::{
    Bridge, Dataplane, Placement, dataplane, ip6tables, placement, standard,
};
use crate::support::want::{ChangeExt as _, NicExt as _, change, nic};
use crate::support::who::{A, ALL_NODES, B, HOST, Machine, R, STRANGER, UNBOUND};

/// With a guest on vnet3 that the agent has not been told of.
fn net() -> Net {
    standard().port(UNBOUND, "br0").start()
}

fn arp(machine: Machine) -> Frames {
    let mut frame = vec![0xff; 6];
    frame.extend(machine.mac);
    frame.extend([8, 6, 0, 1, 8, 0, 6, 4, 0, 1]);
    frame.resize(60, 0);
    Frames {
        port: machine.port,
        frames: vec![frame],
    }
}

fn bind(net: &mut Net) {
    net.apply(change().nic(nic(UNBOUND).groups(&["open"])));
}

#[test]
fn unbound_port_sends_nothing() {
    let mut net = net();
    let forms = || {
        let all = [
            UNBOUND.to(STRANGER).ping(),
            UNBOUND.to(B.ip).udp(1, 2),
            UNBOUND.asks_for(R.ll),
            UNBOUND.claims(UNBOUND.ll),
            UNBOUND.solicits_routers(),
            UNBOUND.joins(&[ALL_NODES]),
            UNBOUND.probes(UNBOUND.ip),
        ];
        all.into_iter()
    };
    for packet in forms() {
        net.dropped(&packet);
    }
    net.dropped(&UNBOUND.advertises());
    net.dropped(&arp(UNBOUND));
    net.dropped(&UNBOUND.to(STRANGER).tagged(0x8100, 0).ping());
    bind(&mut net);
    for packet in forms() {
        net.passes(&packet, R);
    }
    net.passes(&arp(UNBOUND), R);
}

#[test]
fn unbound_port_receives_nothing() {
    let mut net = net();
    let forms = || {
        let all = [
            R.to(UNBOUND.ip).src(STRANGER).ping(),
            R.to(UNBOUND.ip).src(STRANGER).udp(1, 2),
            R.asks_for(UNBOUND.ip),
            R.advertises(),
            R.queries(),
            A.asks_for(UNBOUND.ip),
            B.to(UNBOUND.ip).udp(1, 2),
        ];
        all.into_iter()
    };
    for packet in forms() {
        net.blocked(&packet, UNBOUND);
    }
    net.blocked(&arp(R), UNBOUND);
    net.blocked(&arp(A), UNBOUND);
    bind(&mut net);
    for packet in forms() {
        net.passes(&packet, UNBOUND);
    }
    net.passes(&arp(R), UNBOUND);
}

#[test]
fn unbound_port_reaches_no_host() {
    let mut net = net();
    let socket = net.host_socket(7000);
    net.arrivals(&A.to(HOST.ll).udp(4000, 7000));
    assert_eq!(socket.sources(), [A.ll]);
    net.arrivals(&UNBOUND.to(HOST.ll).udp(4000, 7000));
    net.arrivals(&UNBOUND.to(ALL_NODES).udp(4000, 7000));
    net.arrivals(&UNBOUND.to(HOST.ll).src(A.ll).eth_src(A.mac).udp(4000, 7000));
    assert_eq!(socket.sources(), [] as [std::net::Ipv6Addr; 0]);
    bind(&mut net);
    net.arrivals(&UNBOUND.to(HOST.ll).udp(4000, 7000));
    assert_eq!(socket.sources(), [UNBOUND.ll]);
}

#[test]
fn unbound_port_is_not_reached_by_the_host() {
    let mut net = net();
    let socket = net.host_socket(7000);
    let hears = |net: &Net, machine: Machine| {
        socket.send(ALL_NODES, 9);
        net.host_datagrams(machine) > 0
    };
    net.drain();
    assert!(!hears(&net, UNBOUND));
    assert!(hears(&net, B), "B is in a group that is open");
    bind(&mut net);
    assert!(hears(&net, UNBOUND));
}

#[test]
fn host_cannot_be_addressed_from_an_unbound_port_by_unicast_either() {
    let net = net();
    let socket = net.host_socket(7000);
    let mac = "06:b2:00:00:04:7d";
    let neighbour = format!("ip neigh add {} lladdr {mac} dev br0", UNBOUND.ll);
    net.namespace.command(&neighbour);
    net.drain();
    socket.send(UNBOUND.ll, 9);
    assert!(net.host_frames(UNBOUND).is_empty());
    let neighbour = format!("ip neigh add {} lladdr 06:b2:00:00:04:7a dev br0", B.ll);
    net.namespace.command(&neighbour);
    socket.send(B.ll, 9);
    assert!(!net.host_frames(B).is_empty(), "to a bound port it goes");
}

/// On a managed bridge what is no uplink is a guest, whatever its name.
#[test]
fn port_with_an_odd_name_on_a_managed_bridge_is_closed() {
    let odd = UNBOUND.at("odd0");
    let mut net = standard().port(odd, "br0").start();
    net.dropped(&odd.to(STRANGER).ping());
    net.dropped(&arp(odd));
    net.blocked(&R.advertises(), odd);
    net.blocked(&arp(R), odd);
    net.apply(change().nic(nic(odd).groups(&["open"])));
    net.passes(&odd.to(STRANGER).ping(), R);
    net.passes(&arp(R), odd);
}

#[test]
fn port_that_appears_later_is_closed() {
    let mut net = standard().start();
    net.plug(UNBOUND, "br0");
    net.dropped(&UNBOUND.to(STRANGER).ping());
    net.blocked(&arp(R), UNBOUND);
    net.wait_until_closed(UNBOUND);
    bind(&mut net);
    net.passes(&UNBOUND.to(STRANGER).ping(), R);
}

#[test]
fn unmanaged_bridge_is_left_alone() {
    let (first, second) = (A.at("vnet8"), B.at("vnet9"));
    let br9 = Bridge {
        name: "br9",
        managed: false,
        uplinks: vec![],
    };
    let mut net = standard()
        .bridge(br9)
        .port(first, "br9")
        .port(second, "br9")
        .start();
    net.dropped(&A.advertises());
    net.passes(&first.advertises(), second);
    net.passes(&first.to(B.ip).ping().eth_src(R.mac), second);
    net.passes(&first.to(B.ip).udp(547, 546), second);
    if bridge_kind() != BridgeKind::Filtering {
        net.passes(&first.to(B.ip).ping().tagged(0x8100, 5), second);
    }
    net.passes(&first.to(B.ip).src(STRANGER).routing(0, 1).ping(), second);
    net.passes(&first.to(B.ip).tcp(1, 2, 18), second);
    net.passes_in_a_small_fragment(&first.claims(R.ll).atomic(), second);
    net.passes(&arp(first), second);
    let raw = first.to(B.ip).echo(128, 1, 2000).cut(1, &[1440]);
    let arrived = net.arrivals(&raw);
    match placement() {
        // The bridge's tracking is one switch for the whole host.
        Placement::Bridge => assert!(contains(&arrived[second.port], &raw.frames)),
        Placement::BrNetfilter => {
            assert_eq!(arrived[second.port], raw.frames, "not even reassembled");
        }
    }
    let bridge = net
        .namespace
        .read("/sys/class/net/br9/bridge/nf_call_ip6tables");
    assert_eq!(bridge, "0", "nor shown to ip6tables");
}

/// Placement `br_netfilter`: where the kernel does not show frames to the stateful stage any
/// more, nothing that it would have judged passes. The bridge's own tracking needs no showing.
#[test]
fn guests_are_closed_where_the_stateful_stage_is_bypassed() {
    let mut net = standard().start();
    let socket = net.host_socket(7000);
    let off = "ip link set br0 type bridge nf_call_ip6tables 0";
    net.passes(&A.to(STRANGER).ping(), R);
    net.passes(&R.to(A.ip).src(STRANGER).udp(1, 2), A);
    net.agent.kill();
    net.namespace.command(off);
    if placement() == Placement::Bridge {
        net.passes(&A.to(STRANGER).udp(1, 2), R);
        net.passes(&B.to(A.ip).udp(1, 2), A);
        return;
    }
    net.dropped(&A.to(STRANGER).ping());
    net.dropped(&A.to(STRANGER).udp(1, 2));
    net.blocked(&R.to(A.ip).src(STRANGER).udp(1, 2), A);
    net.blocked(&B.to(A.ip).udp(1, 2), A);
    net.arrivals(&A.to(HOST.ll).udp(4000, 7000));
    assert!(socket.sources().is_empty());
    let listed = |what: &str| {
        let listing = format!("nft list {what}");
        net.namespace.command(&listing)
    };
    // Flooded frames count once for each port.
    if dataplane() == Dataplane::Nftables {
        let counter = listed("counter bridge sgagent stage_skipped");
        assert!(!counter.contains("packets 0 "), "{counter}");
        let by_nic = listed("set bridge sgagent nic_drops");
        assert!(by_nic.contains("0x14000001 "), "{by_nic}");
    }
    net.agent.start(&net.namespace);
    net.wait_for(A, sgagent::pb::NicState::Active);
    net.passes(&A.to(STRANGER).ping(), R);
}

/// The skeleton knows guests' names by itself: a port that comes while no agent runs is closed.
#[test]
fn new_port_of_any_guests_name_is_closed_while_no_agent_runs() {
    let mut net = standard().start();
    net.agent.kill();
    for name in ["vnet9", "vif9.0", "tap9"] {
        let new = UNBOUND.at(name);
        net.plug(new, "br0");
        net.dropped(&new.to(ALL_NODES).udp(1, 2));
        net.blocked(&R.to(ALL_NODES).udp(1, 2), new);
        net.unplug(new);
    }
    net.agent.start(&net.namespace);
    net.wait_for(A, sgagent::pb::NicState::Active);
}

/// What is missing closes: somebody takes the NICs' policies away while no agent runs.
#[test]
fn guests_without_a_policy_are_closed() {
    let mut net = standard().start();
    net.passes(&A.to(STRANGER).udp(1, 2), R);
    net.passes(&R.to(A.ip).src(STRANGER).udp(3, 4), A);
    net.agent.kill();
    let family = match placement() {
        Placement::Bridge => "bridge",
        Placement::BrNetfilter => "ip6",
    };
    let taken = match dataplane() {
        Dataplane::Nftables => ["egress_policy", "ingress_policy"]
            .map(|map| format!("nft flush map {family} sgagent {map}")),
        Dataplane::Ip6tables => {
            ["sender", "recv"].map(|tree| format!("{} -t mangle -F sgagent_{tree}", ip6tables()))
        }
    };
    for command in taken {
        net.namespace.command(&command);
    }
    let counters = ["group_egress", "group_ingress"];
    let counted = |net: &Net, counter: &str| match dataplane() {
        Dataplane::Nftables => {
            let list = format!("nft list counter {family} sgagent {counter}");
            net.namespace.command(&list)
        }
        Dataplane::Ip6tables => {
            let all = net
                .namespace
                .command(&format!("{}-save -c -t mangle", ip6tables()));
            let reason = Reason::ALL.iter().find(|reason| reason.symbol() == counter);
            let chain = format!("-A sgagent_drop_{} ", reason.unwrap().code());
            all.lines().filter(|line| line.contains(&chain)).collect()
        }
    };
    let before = counters.map(|counter| counted(&net, counter));
    net.dropped(&A.to(STRANGER).udp(5, 6));
    net.blocked(&R.to(A.ip).src(STRANGER).udp(7, 8), A);
    // By the stage itself, not only by what looks whether it was there.
    for (counter, before) in counters.into_iter().zip(before) {
        assert_ne!(counted(&net, counter), before);
    }
    net.agent.start(&net.namespace);
    net.wait_for(A, sgagent::pb::NicState::Active);
    net.passes(&A.to(STRANGER).udp(5, 6), R);
}

/// Frames to 01:80:c2:00:00:0x pass the bridge's hooks by and go up on the port itself (G0).
#[test]
fn unbound_port_does_not_reach_the_host_by_a_reserved_address() {
    let mut net = net();
    net.host_side_address(UNBOUND, HOST_SIDE);
    let socket = net.host_socket(7000);
    for last in 0..=0x0f {
        let packet = UNBOUND.to(HOST_SIDE).udp(4000, 7000);
        net.arrivals(&packet.eth_dst([0x01, 0x80, 0xc2, 0, 0, last]));
        assert!(socket.sources().is_empty(), "{last:02x}");
    }
    net.arrivals(&A.to(HOST.ll).udp(4000, 7000));
    assert_eq!(socket.sources(), [A.ll]);
}
