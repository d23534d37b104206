//! S1 and S9: what connection tracking decides before any rule, and what it must not decide.

use crate::support::exchange::Talk;
use crate::support::net::Net;
use crate::support::packet::{ACK, Packet, RST, SYN};
use crate::support::plan::{Bridge, plan, standard};
use crate::support::want::{DefaultAction, NicExt as _, nic, open, web};
use crate::support::who::{A, A_DELEGATED, B, C, Machine, OTHER, R, STRANGER, WORLD};

/// From the world to a guest.
fn inbound(guest: Machine) -> Packet {
    R.to(guest.ip).src(STRANGER)
}

/// C serves 443, and the stranger from port `port` is connected to it.
fn connect(net: &mut Net, port: u16) {
    net.connects(WORLD, C, Talk::Tcp(port, 443));
}

#[test]
fn s1_connection_that_a_rule_allows_works_both_ways() {
    let mut net = standard().start();
    connect(&mut net, 40000);
    net.passes(&C.to(STRANGER).tcp_at(443, 40000, ACK, (5001, 1001)), R);
    net.blocked(&inbound(C).syn(40000, 22), C);
}

#[test]
fn s1_reply_to_what_the_guest_sent_passes() {
    let mut net = standard().start();
    // Without the request it is nobody's reply.
    net.blocked(&inbound(C).udp(53, 4000), C);
    net.blocked(&inbound(C).tcp_at(80, 4001, SYN | ACK, (9000, 1001)), C);
    net.passes(&C.to(STRANGER).udp(4010, 53), R);
    net.passes(&inbound(C).udp(53, 4010), C);
    net.passes(&C.to(STRANGER).tcp_at(4011, 80, SYN, (1000, 0)), R);
    net.passes(&inbound(C).tcp_at(80, 4011, SYN | ACK, (9000, 1001)), C);
    net.passes(&C.to(STRANGER).tcp_at(4011, 80, ACK, (1001, 9001)), R);
    // A reply from somebody else is none.
    net.blocked(&inbound(C).src(OTHER).udp(53, 4010), C);
    net.blocked(&inbound(C).udp(54, 4010), C);
}

#[test]
fn s1_unsolicited_syn_ack_and_reset_are_dropped_on_an_open_port() {
    let mut net = standard().start();
    net.blocked(&inbound(C).tcp_at(40001, 443, SYN | ACK, (9000, 1001)), C);
    net.blocked(&inbound(C).tcp_at(40002, 443, RST, (9000, 0)), C);
    net.blocked(&inbound(C).tcp_at(40003, 443, 0, (9000, 0)), C);
    net.passes(&inbound(C).syn(40004, 443), C);
}

#[test]
fn s1_invalid_packets_of_a_guest_are_dropped() {
    let mut net = standard().start();
    net.passes(&C.to(STRANGER).syn(4001, 80), R);
    net.dropped(&C.to(STRANGER).tcp_at(4002, 80, SYN | ACK, (9000, 1001)));
    net.dropped(&C.to(STRANGER).tcp_at(4003, 80, 0, (9000, 0)));
}

#[test]
fn s1_acknowledgement_out_of_the_blue_needs_a_rule() {
    let mut net = standard().start();
    net.blocked(&inbound(C).tcp(40000, 22, ACK), C);
    net.passes(&inbound(C).syn(40000, 443), C);
}

#[test]
fn s1_errors_about_a_guests_flow_are_delivered() {
    let mut net = standard().start();
    let sent = C.to(STRANGER).udp(4000, 53);
    net.passes(&sent, R);
    for kind in [1, 2, 3, 4] {
        net.passes(&R.to(C.ip).error(kind, &sent), C);
        net.passes(&inbound(C).error(kind, &sent), C);
    }
}

#[test]
fn s1_errors_about_no_flow_are_dropped() {
    let mut net = standard().start();
    let sent = C.to(STRANGER).udp(4000, 53);
    net.passes(&sent, R);
    let never_sent = C.to(STRANGER).udp(4001, 53);
    let somebody_elses = B.to(STRANGER).udp(4000, 53);
    for kind in [1, 2, 3, 4] {
        net.blocked(&R.to(C.ip).error(kind, &never_sent), C);
        net.blocked(&R.to(C.ip).error(kind, &somebody_elses), C);
    }
    net.passes(&R.to(C.ip).error(1, &sent), C);
}

/// B's group allows everything; what is invalid is dropped before any rule.
#[test]
fn s1_errors_about_no_flow_are_dropped_whatever_the_groups_say() {
    let mut net = standard().start();
    let sent = B.to(STRANGER).udp(4000, 53);
    net.passes(&sent, R);
    net.blocked(&R.to(B.ip).error(1, &B.to(STRANGER).udp(4001, 53)), B);
    net.passes(&R.to(B.ip).error(1, &sent), B);
}

#[test]
fn s1_guest_may_send_errors_about_its_flows_only() {
    let mut net = standard().start();
    let received = inbound(A).udp(53, 4000);
    net.passes(&received, A);
    for kind in [1, 2, 3, 4] {
        net.passes(&A.to(STRANGER).error(kind, &received), R);
        net.dropped(&A.to(STRANGER).error(kind, &inbound(A).udp(53, 4001)));
        net.dropped(&A.to(STRANGER).error(kind, &inbound(B).udp(53, 4000)));
    }
}

#[test]
fn s1_guest_may_send_errors_about_its_flows_where_egress_is_denied() {
    let denied = nic(A).groups(&["open"]).egress(DefaultAction::Deny);
    let mut net = plan().nic(denied).group(open()).start();
    let received = inbound(A).udp(53, 4000);
    net.passes(&received, A);
    for kind in [1, 2, 3, 4] {
        net.passes(&A.to(STRANGER).error(kind, &received), R);
        net.dropped(&A.to(STRANGER).error(kind, &inbound(A).udp(53, 4001)));
    }
    net.dropped(&A.to(STRANGER).udp(4001, 53));
}

#[test]
fn s1_redirect_is_delivered_though_conntrack_calls_it_invalid() {
    let mut net = standard().start();
    net.passes(&R.to(C.ll).redirect(R.ll, STRANGER), C);
}

#[test]
fn s1_spoofed_packet_does_not_ride_on_an_established_flow() {
    let mut net = standard().start();
    connect(&mut net, 40000);
    let real = C.to(STRANGER).tcp_at(443, 40000, ACK, (5001, 1001));
    net.passes(&real, R);
    // B sends what C would send; from its own MAC and from C's.
    let mut forged = real.clone();
    forged.port = B.port;
    net.dropped(&forged);
    net.dropped(&forged.eth_src(B.mac));
    // And A speaks for the stranger, whom C is connected to.
    let mut forged = inbound(C)
        .tcp_at(40000, 443, ACK, (1001, 5001))
        .eth_src(A.mac);
    forged.port = A.port;
    net.dropped(&forged);
    net.passes(&real, R);
}

#[test]
fn s1_spoofed_error_about_an_established_flow_is_dropped() {
    let mut net = standard().start();
    let sent = C.to(STRANGER).udp(4000, 53);
    net.passes(&sent, R);
    net.dropped(&A.to(C.ip).src(R.ip).error(2, &sent));
    net.dropped(&A.to(C.ip).src(STRANGER).error(1, &sent));
    net.passes(&R.to(C.ip).error(2, &sent), C);
}

#[test]
fn s1_fragmented_reply_passes() {
    let mut net = standard().start();
    net.passes(&C.to(STRANGER).udp(4000, 53), R);
    let reply = inbound(C).udp_with(53, 4000, &[1; 2500]);
    net.passes(&reply.cut(1, &[1440]), C);
    net.blocked(
        &inbound(C).udp_with(53, 4001, &[1; 2500]).cut(2, &[1440]),
        C,
    );
}

#[test]
fn s1_reply_to_a_delegated_address_passes() {
    let mut net = plan().nics([nic(A)]).start();
    net.blocked(&R.to(A_DELEGATED).src(STRANGER).udp(53, 4000), A);
    net.passes(&A.to(STRANGER).src(A_DELEGATED).udp(4001, 53), R);
    net.passes(&R.to(A_DELEGATED).src(STRANGER).udp(53, 4001), A);
}

// ---- S9

const R1: Machine = R.at("uplink1");
const A1: Machine = A.at("vnet10");

/// The same guest, with the same addresses, on two bridges.
fn two_bridges() -> Net {
    let br1 = Bridge {
        name: "br1",
        managed: true,
        uplinks: vec!["uplink1"],
    };
    plan()
        .bridge(br1)
        .port(R1, "br1")
        .port(A1, "br1")
        .nics([nic(A).groups(&["web"]), nic(A1)])
        .group(web())
        .start()
}

#[test]
fn s9_flow_on_one_bridge_opens_nothing_on_another() {
    let mut net = two_bridges();
    let reply = |at: Machine| at.to(A.ip).src(STRANGER).udp(53, 4000);
    net.passes(&A.to(STRANGER).udp(4000, 53), R);
    net.blocked(&reply(R1), A1);
    net.passes(&reply(R), A);
    // The other way round, on other ports.
    let reply = |at: Machine| at.to(A.ip).src(STRANGER).udp(53, 5000);
    net.passes(&A1.to(STRANGER).udp(5000, 53), R1);
    net.blocked(&reply(R), A);
    net.passes(&reply(R1), A1);
}

#[test]
fn s9_rules_of_one_bridge_open_nothing_on_another() {
    let mut net = two_bridges();
    net.passes(&R.to(A.ip).src(STRANGER).syn(40000, 443), A);
    net.blocked(&R1.to(A.ip).src(STRANGER).syn(40000, 443), A1);
    net.blocked(&R1.to(A.ip).src(STRANGER).tcp(40000, 443, ACK), A1);
}

#[test]
fn s9_fragments_on_two_bridges_are_not_joined() {
    let mut net = two_bridges();
    let whole = A.to(STRANGER).echo(128, 5, 2000).cut(77, &[1440]);
    net.passes(&whole, R);
    let (mut first, mut last) = (whole.clone(), whole);
    first.frames.truncate(1);
    last.frames.remove(0);
    last.port = A1.port;
    assert!(net.arrivals(&first).values().all(Vec::is_empty));
    assert!(net.arrivals(&last).values().all(Vec::is_empty));
}

#[test]
fn s9_equal_flows_on_two_bridges_both_work() {
    let mut net = standard_two();
    for (guest, router) in [(A, R), (A1, R1)] {
        net.passes(&guest.to(STRANGER).syn(4000, 80), router);
        let answer = router.to(A.ip).src(STRANGER);
        net.passes(&answer.tcp_at(80, 4000, SYN | ACK, (9000, 1001)), guest);
    }
}

fn standard_two() -> Net {
    let br1 = Bridge {
        name: "br1",
        managed: true,
        uplinks: vec!["uplink1"],
    };
    plan()
        .bridge(br1)
        .port(R1, "br1")
        .port(A1, "br1")
        .nics([nic(A).groups(&["open"]), nic(A1).groups(&["open"])])
        .group(open())
        .start()
}
