//! S7: what a change takes away ends with the flows that it alone allowed, in both
//! directions, before the change is acknowledged; what another rule allows goes on.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::support::exchange::{Talk, paced};
use crate::support::net::Net;
use crate::support::packet::{ACK, ESP, Packet, SYN};
use crate::support::plan::{Bridge, Placement, placement, plan, standard};
use crate::support::want::{
    ChangeExt as _, DefaultAction, NicExt as _, RuleExt as _, allow_in, allow_number_in, allow_out,
    change, group, nic, open, web,
};
use crate::support::who::{A, A_DELEGATED, B, C, HOST, Machine, OTHER, R, STRANGER, WORLD};
use sgagent::pb;
use sgagent::pb::{NicState, Protocol};

fn inbound(guest: Machine) -> Packet {
    R.to(guest.ip).src(STRANGER)
}

/// The stranger's connection from `port` to 443 of a guest is established.
fn connect(net: &mut Net, guest: Machine, port: u16) {
    net.connects(WORLD, guest, Talk::Tcp(port, 443));
}

/// What the stranger sends next.
fn data(guest: Machine, port: u16) -> Packet {
    Talk::Tcp(port, 443).asks_on(WORLD, guest)
}

/// What the guest sends next, as the server of a download does, asked for or not.
fn pushed(guest: Machine, port: u16) -> Packet {
    Talk::Tcp(port, 443).answers_on(WORLD, guest)
}

fn is_cut(net: &mut Net, guest: Machine, port: u16) {
    net.is_cut(WORLD, guest, Talk::Tcp(port, 443));
}

fn goes_on(net: &mut Net, guest: Machine, port: u16) {
    net.goes_on(WORLD, guest, Talk::Tcp(port, 443));
}

/// Makes a change and says how many flows it cut.
fn cut(net: &mut Net, change: pb::ApplyRequest) -> u64 {
    net.apply(change).flows_cut
}

fn tcp(port: u32) -> pb::Rule {
    allow_in(Protocol::Tcp).port(port)
}

#[test]
fn s7_download_through_a_rule_that_is_taken_away_stops_for_good() {
    let mut net = standard().start();
    connect(&mut net, C, 40000);
    connect(&mut net, C, 40001);
    assert_eq!(cut(&mut net, change().group(group("web", &[tcp(22)]))), 2);
    is_cut(&mut net, C, 40000);
    is_cut(&mut net, C, 40001);
    // The guest's own connections are none of it, not even one between the same ports.
    net.passes(&C.to(STRANGER).syn(443, 40000), R);
    net.passes(&C.to(STRANGER).udp(443, 40001), R);
    net.passes(&C.to(STRANGER).tcp_at(443, 40002, ACK, (1, 1)), R);
}

#[test]
fn s7_download_goes_on_at_once_when_its_rule_is_back_and_not_before() {
    let mut net = standard().start();
    connect(&mut net, C, 40000);
    connect(&mut net, B, 40000);
    net.apply(change().group(group("web", &[tcp(22)])));
    assert_eq!(cut(&mut net, change().nic(nic(B))), 1);
    // What allows something else lets neither come back.
    net.apply(change().group(group("web", &[tcp(22), tcp(80)])));
    net.apply(change().group(group("other", &[tcp(443)])));
    is_cut(&mut net, C, 40000);
    is_cut(&mut net, B, 40000);
    assert_eq!(cut(&mut net, change().group(web())), 0);
    net.passes(&pushed(C, 40000), R);
    net.passes(&data(C, 40000), C);
    is_cut(&mut net, B, 40000);
}

#[test]
fn s7_sctp_association_does_not_come_back_from_the_guest() {
    let sctp = |rules: &[pb::Rule]| group("sctp", rules);
    let rules = [allow_in(Protocol::Sctp).port(5000)];
    let member = nic(A).groups(&["sctp"]);
    let mut net = plan().nic(member).group(sctp(&rules)).start();
    net.passes(&inbound(A).sctp_init(4000, 5000), A);
    assert_eq!(cut(&mut net, change().group(sctp(&[]))), 1);
    net.dropped(&A.to(STRANGER).sctp_init(5000, 4000));
    net.blocked(&inbound(A).sctp_init(4000, 5000), A);
    net.passes(&A.to(STRANGER).sctp_init(5001, 4000), R);
}

#[test]
fn s7_udp_stream_stops_in_both_directions() {
    let udp = group("udp", &[allow_in(Protocol::Udp).port(5000)]);
    let mut net = plan()
        .nic(nic(A).groups(&["udp"]))
        .group(udp.clone())
        .start();
    let (there, back) = (inbound(A).udp(4000, 5000), A.to(STRANGER).udp(5000, 4000));
    net.passes(&there, A);
    net.passes(&back, R);
    assert_eq!(cut(&mut net, change().group(group("udp", &[]))), 1);
    for _ in 0..3 {
        net.dropped(&back);
        net.blocked(&there, A);
    }
    net.passes(&A.to(STRANGER).udp(5000, 4001), R);
    net.apply(change().group(udp));
    net.passes(&back, R);
    net.passes(&there, A);
}

/// The other end resurrects it through the ingress of who began it.
#[test]
fn s7_flow_that_the_guest_began_does_not_come_back_from_the_other_end() {
    let tcp_out = |port: u32| {
        let out = allow_out(Protocol::Tcp).port(port);
        group("g", &[allow_in(Protocol::Any), out])
    };
    let mut net = plan()
        .nic(nic(A).groups(&["g"]))
        .group(tcp_out(443))
        .start();
    let out = |seq| A.to(STRANGER).tcp_at(4000, 443, ACK, (seq, 9001));
    let back = inbound(A).tcp_at(443, 4000, ACK, (9001, 1001));
    net.passes(&A.to(STRANGER).tcp_at(4000, 443, SYN, (1000, 0)), R);
    net.passes(&inbound(A).tcp_at(443, 4000, SYN | ACK, (9000, 1001)), A);
    net.passes(&out(1001), R);
    assert_eq!(cut(&mut net, change().group(tcp_out(22))), 1);
    for _ in 0..2 {
        net.blocked(&back, A);
        net.dropped(&out(1001));
    }
    net.passes(&inbound(A).syn(443, 4000), A);
}

#[test]
fn s7_every_protocol_of_an_any_rule_stops() {
    let mut net = plan().nic(nic(A).groups(&["open"])).group(open()).start();
    let there = inbound(A).upper(ESP, &[7; 20]);
    let back = A.to(STRANGER).upper(ESP, &[8; 20]);
    net.passes(&there, A);
    net.passes(&back, R);
    net.passes(&inbound(A).sctp_init(4000, 5000), A);
    connect(&mut net, A, 40000);
    assert_eq!(cut(&mut net, change().group(group("open", &[]))), 3);
    for _ in 0..2 {
        net.dropped(&back);
        net.blocked(&there, A);
    }
    is_cut(&mut net, A, 40000);
    net.apply(change().group(group("open", &[allow_number_in(u32::from(ESP))])));
    net.passes(&back, R);
    net.passes(&there, A);
    is_cut(&mut net, A, 40000);
}

#[test]
fn s7_echo_stops_when_the_nic_opts_out() {
    let mut net = plan().nic(nic(A)).start();
    net.passes(&inbound(A).ping_id(1), A);
    net.passes(&A.to(STRANGER).pong_id(1), R);
    net.passes(&A.to(STRANGER).ping_id(2), R);
    net.passes(&inbound(A).pong_id(2), A);
    let denied = nic(A).icmpv6(DefaultAction::Deny);
    assert_eq!(cut(&mut net, change().nic(denied)), 2);
    net.blocked(&inbound(A).ping_id(1), A);
    net.dropped(&A.to(STRANGER).pong_id(1));
    net.blocked(&inbound(A).pong_id(2), A);
    net.dropped(&A.to(STRANGER).ping_id(2));
}

#[test]
fn s7_member_that_is_removed_takes_its_flows_along_and_nobody_elses() {
    let rule = allow_in(Protocol::Tcp).members_of("peers");
    let mut net = plan()
        .nic(nic(A).groups(&["g"]))
        .group(group("g", &[rule]))
        .group(group("peers", &[]))
        .member("peers", &STRANGER.to_string(), &[])
        .member("peers", &OTHER.to_string(), &["2001:db8:fff0::/48"])
        .start();
    connect(&mut net, A, 40000);
    let others = inbound(A).src(OTHER).syn(40000, 443);
    net.passes(&others, A);
    assert_eq!(
        cut(&mut net, change().member("peers", "2001:db8:fffe::2", &[])),
        0
    );
    let removed = change().remove_member("peers", &STRANGER.to_string());
    assert_eq!(cut(&mut net, removed), 1);
    is_cut(&mut net, A, 40000);
    net.passes(&A.to(OTHER).tcp_at(443, 40000, SYN | ACK, (1, 1001)), R);
}

#[test]
fn s7_group_nic_address_and_prefix_take_their_flows_along() {
    let mut net = standard().start();
    for guest in [A, B, C] {
        connect(&mut net, guest, 40000);
    }
    assert_eq!(cut(&mut net, change().nic(nic(C))), 1);
    is_cut(&mut net, C, 40000);
    let other_address = nic(B).groups(&["open"]).address(&OTHER.to_string());
    assert_eq!(cut(&mut net, change().nic(other_address)), 0);
    let at = B.to(STRANGER).src(OTHER);
    net.passes(&at.clone().udp(1, 2), R);
    assert_eq!(cut(&mut net, change().nic(nic(B).groups(&["open"]))), 1);
    net.blocked(&R.to(OTHER).src(STRANGER).eth_dst(B.mac).udp(2, 1), B);
    goes_on(&mut net, B, 40000);
    net.passes(&A.to(STRANGER).src(A_DELEGATED).udp(1, 2), R);
    let without = pb::Nic {
        delegated_prefixes: Vec::new(),
        ..nic(A).groups(&["open"])
    };
    assert_eq!(cut(&mut net, change().nic(without)), 1);
    net.blocked(&R.to(A_DELEGATED).src(STRANGER).udp(2, 1), A);
    goes_on(&mut net, A, 40000);
    assert_eq!(cut(&mut net, change().remove_nic(A)), 1);
    net.apply(change().nic(nic(A)));
    is_cut(&mut net, A, 40000);
    goes_on(&mut net, B, 40000);
}

#[test]
fn s7_flow_between_guests_is_cut_by_either() {
    let mut net = standard().start();
    let (there, back) = (A.to(B.ip).udp(4000, 53), B.to(A.ip).udp(53, 4000));
    net.passes(&there, B);
    net.passes(&back, A);
    assert_eq!(cut(&mut net, change().nic(nic(B))), 1);
    net.blocked(&back, A);
    net.blocked(&there, B);
    net.apply(change().nic(nic(B).groups(&["open"])));
    net.passes(&there, B);
    net.passes(&back, A);
    let closed = nic(A).groups(&["open"]).egress(DefaultAction::Deny);
    assert_eq!(cut(&mut net, change().nic(closed)), 1);
    net.blocked(&back, A);
    net.blocked(&there, B);
}

#[test]
fn s7_flow_with_the_host_does_not_come_back_from_the_host() {
    let mut net = plan().nic(nic(A)).start();
    let socket = net.host_socket(7000);
    net.host_knows(A.ll, A.mac);
    let there = A.to(HOST.ll).udp(4000, 7000);
    net.arrivals(&there);
    assert_eq!(socket.sources().len(), 1);
    socket.send(A.ll, 4000);
    assert_eq!(net.host_datagrams(A), 1);
    let closed = nic(A).egress(DefaultAction::Deny);
    assert_eq!(cut(&mut net, change().nic(closed)), 1);
    assert!(socket.try_send(A.ll, 4000).is_err());
    net.arrivals(&there);
    assert!(socket.sources().is_empty());
    assert_eq!(net.host_datagrams(A), 0);
    // A flow of the host's own is judged in placement bridge, by a guest that lets nothing in.
    socket.send(A.ll, 4001);
    let own = usize::from(placement() == Placement::BrNetfilter);
    assert_eq!(net.host_datagrams(A), own);
    net.apply(change().nic(nic(A)));
    net.arrivals(&there);
    assert_eq!(socket.sources().len(), 1);
}

const R1: Machine = R.at("uplink1");
const A1: Machine = A.at("vnet10");

#[test]
fn s9_same_flow_on_another_bridge_goes_on() {
    let br1 = Bridge {
        name: "br1",
        managed: true,
        uplinks: vec!["uplink1"],
    };
    let mut net = plan()
        .bridge(br1)
        .port(R1, "br1")
        .port(A1, "br1")
        .nics([nic(A).groups(&["web"]), nic(A1).groups(&["web"])])
        .group(web())
        .start();
    connect(&mut net, A, 40000);
    let there = |flags, numbers| R1.to(A.ip).src(STRANGER).tcp_at(40000, 443, flags, numbers);
    let back = |flags, numbers| A1.to(STRANGER).tcp_at(443, 40000, flags, numbers);
    net.passes(&there(SYN, (1000, 0)), A1);
    net.passes(&back(SYN | ACK, (5000, 1001)), R1);
    net.passes(&there(ACK, (1001, 5001)), A1);
    assert_eq!(cut(&mut net, change().nic(nic(A))), 1);
    is_cut(&mut net, A, 40000);
    net.passes(&there(ACK, (1001, 5001)), A1);
    net.passes(&back(ACK, (5001, 1001)), R1);
}

#[test]
fn s7_interface_that_comes_back_has_its_flows_if_its_rules_are_what_they_were() {
    let mut net = standard().start();
    connect(&mut net, C, 40000);
    for rules_change in [false, true] {
        net.namespace.command("ip link set vnet2 nomaster");
        net.wait_for(C, NicState::Pending);
        if rules_change {
            assert_eq!(cut(&mut net, change().group(group("web", &[tcp(22)]))), 0);
        }
        net.namespace.command("ip link set vnet2 master br0");
        net.wait_for(C, NicState::Active);
        if rules_change {
            is_cut(&mut net, C, 40000);
        } else {
            goes_on(&mut net, C, 40000);
        }
    }
}

#[test]
fn s7_nic_that_is_removed_without_its_interface_loses_its_flows() {
    let mut net = standard().start();
    connect(&mut net, C, 40000);
    net.namespace.command("ip link set vnet2 nomaster");
    net.wait_for(C, NicState::Pending);
    assert_eq!(cut(&mut net, change().remove_nic(C)), 1);
}

#[test]
fn s7_flow_that_was_cut_does_not_come_back_when_the_agent_does() {
    let mut net = standard().start();
    connect(&mut net, C, 40000);
    connect(&mut net, B, 40000);
    assert_eq!(cut(&mut net, change().nic(nic(C))), 1);
    net.agent.kill();
    is_cut(&mut net, C, 40000);
    net.agent.start(&net.namespace);
    net.wait_for(C, NicState::Active);
    is_cut(&mut net, C, 40000);
    goes_on(&mut net, B, 40000);
    net.apply(change().nic(nic(C).groups(&["web"])));
    net.passes(&pushed(C, 40000), R);
}

/// As after a crash between the change and the cut: a flow that nothing allows.
#[test]
fn s7_flows_are_judged_when_the_agent_starts() {
    let mut net = standard().start();
    connect(&mut net, C, 40000);
    connect(&mut net, B, 40000);
    net.agent.kill();
    let zone = net.namespace.read("/sys/class/net/br0/ifindex");
    let (from, to) = (STRANGER, C.ip);
    net.namespace.command(&format!(
        "conntrack -I -p tcp -s {from} -d {to} --sport 41000 --dport 22 \
         --state ESTABLISHED -u ASSURED,SEEN_REPLY -t 600 -w {zone}"
    ));
    let forged = inbound(C).tcp_at(41000, 22, ACK, (1, 1));
    net.passes(&forged, C);
    net.agent.start(&net.namespace);
    net.wait_for(C, NicState::Active);
    net.blocked(&forged, C);
    goes_on(&mut net, C, 40000);
    goes_on(&mut net, B, 40000);
}

/// Sends on two flows, a packet of each every millisecond, while the rule of one goes: that
/// one delivers nothing that was sent after the answer, the other loses nothing.
#[test]
fn s7_paced_flows_through_a_change() {
    let by_prefix = allow_in(Protocol::Udp).prefixes(&["2001:db8:ffff::/48"]);
    let by_port = allow_in(Protocol::Udp).port(53);
    let both = group("g", &[by_port, by_prefix.clone()]);
    let mut net = plan().nic(nic(A).groups(&["g"])).group(both).start();
    // Room for all that arrives before it is looked at.
    net.namespace.command("ip link set vnet0 txqueuelen 20000");
    let packet = |src, from: u16, n: u32| R.to(A.ip).src(src).udp_with(from, 53, &n.to_be_bytes());
    for (src, from) in [(STRANGER, 4000), (OTHER, 4001)] {
        net.passes(&packet(src, from, 0), A);
        net.passes(&A.to(src).udp(53, from), R);
    }
    net.drain();
    let (uplink, guest) = (net.tap(R), net.tap(A));
    let done = AtomicBool::new(false);
    let (sent, answered, flows_cut) = std::thread::scope(|scope| {
        let sender = scope.spawn(|| {
            paced(&done, |n| {
                uplink.send(&packet(STRANGER, 4000, n).frame());
                let sent = Instant::now();
                uplink.send(&packet(OTHER, 4001, n).frame());
                sent
            })
        });
        std::thread::sleep(Duration::from_millis(100));
        let taken = change().group(group("g", &[by_prefix]));
        let answer = net.agent.call(async |mut client| client.apply(taken).await);
        let answered = Instant::now();
        done.store(true, Ordering::Relaxed);
        (sender.join().unwrap(), answered, answer.unwrap().flows_cut)
    });
    assert_eq!(flows_cut, 1);
    let (mut kept, mut late, mut last) = (0, 0, None);
    while let Some(frame) = guest.pending() {
        let Some(&[from_high, from_low]) = frame.get(54..56) else {
            continue;
        };
        let n = frame
            .last_chunk::<4>()
            .map_or(0, |n| u32::from_be_bytes(*n));
        match u16::from_be_bytes([from_high, from_low]) {
            4000 => kept += 1,
            4001 => {
                last = last.max(Some(n));
                late += usize::from(sent[n as usize - 1] > answered);
            }
            _ => {}
        }
    }
    assert_eq!(
        kept,
        sent.len(),
        "the flow that another rule allows lost packets"
    );
    assert_eq!(late, 0, "delivered after the answer");
    let last = sent[last.unwrap() as usize - 1];
    let early = answered.saturating_duration_since(last);
    eprintln!("the last packet was delivered {early:?} before the answer");
}
