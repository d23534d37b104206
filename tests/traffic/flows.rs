//! S8: one guest's flows are not its neighbours' loss.

use std::time::Instant;

use crate::support::net::Net;
use crate::support::packet::{ACK, Frames, SYN};
use crate::support::plan::standard;
use crate::support::who::{A, B, DHCP_SERVERS, Machine, R, STRANGER, solicited};
use sgagent::pb;

/// How many of `count` flows begin, a datagram and a source port each.
fn beginning(net: &mut Net, guest: Machine, first: u16, count: u16) -> usize {
    let mut passed = 0;
    for port in (first..first + count).step_by(20) {
        let datagram = |n| guest.to(STRANGER).udp(port + n, 9).frame();
        let frames = (0..20).map(datagram).collect();
        passed += net.arrivals(&Frames {
            port: guest.port,
            frames,
        })[R.port]
            .len();
    }
    passed
}

/// The burst and what the rate adds in the time that the test took, and no more.
fn at_most(burst: usize, rate: usize, start: Instant) -> usize {
    burst + rate * (usize::try_from(start.elapsed().as_secs()).unwrap() + 1) + 1
}

/// B opens a hundred connections without a loss.
fn neighbour_connects(net: &mut Net) {
    for port in 20_000..20_100 {
        net.passes(&B.to(STRANGER).tcp_at(port, 443, SYN, (1000, 0)), R);
        let answer = R.to(B.ip).src(STRANGER);
        net.passes(&answer.tcp_at(443, port, SYN | ACK, (5000, 1001)), B);
    }
}

fn dropped_by_limit(net: &Net, machine: Machine) -> u64 {
    let request = pb::ListDropsRequest {
        nic_id: machine.port.to_owned(),
    };
    let answer = net
        .agent
        .call(async |mut client| client.list_drops(request).await);
    let drops = answer.unwrap().nics.into_iter().flat_map(|nic| nic.drops);
    drops
        .filter(|drop| drop.reason == "flow-limit")
        .map(|drop| drop.packets)
        .sum()
}

#[test]
fn s8_flood_of_new_flows_costs_the_neighbour_nothing() {
    let mut net = standard().start();
    let start = Instant::now();
    let passed = beginning(&mut net, A, 10_000, 10_000);
    // Where frames are slow, the rate lets all of them pass.
    let most = at_most(4000, 2000, start).min(10_000);
    assert!(
        (4000..=most).contains(&passed),
        "{passed} of 10000 pass, not 4000 to {most}"
    );
    neighbour_connects(&mut net);
}

#[test]
fn s8_new_flows_are_limited_per_nic_and_what_has_begun_goes_on() {
    let mut net = standard()
        .limits("flows_per_second = 1\nflow_burst = 20")
        .start();
    let start = Instant::now();
    let passed = beginning(&mut net, A, 10_000, 200);
    let most = at_most(20, 1, start);
    assert!(
        (20..=most).contains(&passed),
        "{passed} of 200 pass, not 20 to {most}"
    );
    assert_eq!(
        dropped_by_limit(&net, A),
        u64::try_from(200 - passed).unwrap()
    );
    // A flow in one direction is counted once, however long.
    for _ in 0..60 {
        net.passes(&A.to(STRANGER).udp(10_000, 9), R);
    }
    net.passes(&R.to(A.ip).src(STRANGER).udp(9, 10_000), A);
    net.passes(&A.to(STRANGER).udp(10_000, 9), R);
    // Others' flows to A, and their answers, are theirs.
    for port in 0..30 {
        net.passes(&R.to(A.ip).src(STRANGER).udp(port, 7), A);
        net.passes(&A.to(STRANGER).udp(7, port), R);
    }
    for port in 0..19 {
        net.passes(&B.to(STRANGER).udp(port, 9), R);
    }
    assert_eq!(dropped_by_limit(&net, B), 0);
}

/// What S4 exempts is no flow: ND, MLD and what a DHCPv6 client sends.
#[test]
fn s8_discovery_and_dhcpv6_are_not_counted() {
    let mut net = standard()
        .limits("flows_per_second = 1\nflow_burst = 1")
        .start();
    assert!(beginning(&mut net, A, 10_000, 200) < 100);
    for _ in 0..10 {
        net.passes(&A.asks_for(R.ll), R);
        net.passes(&A.claims(A.ll), R);
        net.passes(&A.solicits_routers(), R);
        net.passes(&A.joins(&[solicited(A.ip)]), R);
        net.passes(&A.to(DHCP_SERVERS).dhcp(546, 547, 1), R);
    }
}

#[test]
fn s8_flows_at_any_time_are_limited_where_the_configuration_says_so() {
    let mut net = standard().limits("max_flows = 10").start();
    assert_eq!(beginning(&mut net, A, 10_000, 100), 10);
    net.passes(&A.to(STRANGER).udp(10_000, 9), R);
    net.passes(&R.to(A.ip).src(STRANGER).udp(9, 10_009), A);
    net.dropped(&A.to(STRANGER).ping());
    assert_eq!(beginning(&mut net, B, 10_000, 100), 10);
    assert_eq!(dropped_by_limit(&net, B), 90);
    // As flows end, others may begin.
    net.namespace.command("conntrack -F");
    net.passes(&A.to(STRANGER).udp(11_000, 9), R);
    assert!((1..=10).contains(&beginning(&mut net, A, 12_000, 100)));
}

#[test]
fn s8_status_shows_how_full_the_table_of_flows_is() {
    let mut net = standard().start();
    let table = |net: &Net| {
        let request = pb::GetStatusRequest {};
        let status = net
            .agent
            .call(async |mut client| client.get_status(request).await);
        status.unwrap().flow_table.unwrap()
    };
    let before = table(&net);
    assert_eq!(beginning(&mut net, A, 10_000, 100), 100);
    let after = table(&net);
    assert!(
        after.entries >= before.entries + 100,
        "{before:?} {after:?}"
    );
    let maximum = net
        .namespace
        .read("/proc/sys/net/netfilter/nf_conntrack_max");
    assert_eq!(after.maximum.to_string(), maximum);
}
