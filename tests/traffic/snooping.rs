//! G16 on bridges that snoop: reports of one guest must not turn snooping off for all.

use std::net::Ipv6Addr;

use crate::support::net::Net;
use crate::support::packet::Wire as _;
use crate::support::plan::{Bridge, Plan, standard};
use crate::support::who::{A, B, Machine, R, ip};
use sgagent::pb;

const A9: Machine = A.at("vnet8");
const B9: Machine = B.at("vnet9");

/// A second, unmanaged bridge is where the attack has to work.
fn snooping() -> Plan {
    let br9 = Bridge {
        name: "br9",
        managed: false,
        uplinks: vec![],
    };
    standard()
        .bridge(br9)
        .port(A9, "br9")
        .port(B9, "br9")
        .limits("mld_per_second = 1000\nmld_burst = 1000")
        .ip("link set br0 type bridge mcast_snooping 1 mcast_querier 1")
        .ip("link set br9 type bridge mcast_snooping 1 mcast_querier 1")
}

/// More groups than a bridge has room for (`mcast_hash_max`, 4096 by default).
fn flood(net: &Net, machine: Machine) {
    for report in 0..100_u16 {
        let groups: Vec<_> = (0..70)
            .map(|n| Ipv6Addr::new(0xff05, 0, 0, 0, 0, 0, 1 + report, 1 + n))
            .collect();
        for frame in machine.joins(&groups).frames() {
            net.tap(machine).send(&frame);
        }
    }
}

fn snoops(net: &Net, bridge: &str) -> bool {
    net.namespace.read(&format!(
        "/sys/class/net/{bridge}/bridge/multicast_snooping"
    )) == "1"
}

/// Whether a port's groups have a limit: since Linux 6.3, and the agent has to know.
fn ports_are_limited(net: &Net) -> bool {
    let request = pb::GetStatusRequest {};
    let status = net
        .agent
        .call(async |mut client| client.get_status(request).await)
        .unwrap();
    let says = |text: &String| text.contains("no limit for multicast groups");
    let limited = !status.limitations.iter().any(says);
    let mut version = status.kernel_version.split(['.', '-']);
    let mut number = || version.next().and_then(|n| n.parse().ok()).unwrap_or(0);
    assert_eq!(limited, (number(), number()) >= (6, 3));
    limited
}

#[test]
fn g16_flood_of_groups_does_not_turn_snooping_off() {
    let mut net = snooping().start();
    let group = ip("ff05::b");
    let stream = R.to(group).src(R.ip).udp(5000, 5001);
    net.arrivals(&B.joins(&[group]));
    net.passes(&stream, B);
    flood(&net, A9);
    assert!(
        !snoops(&net, "br9"),
        "the attack works where nobody stops it"
    );
    flood(&net, A);
    let limited = ports_are_limited(&net);
    assert_eq!(snoops(&net, "br0"), limited);
    if !limited {
        // Nothing but the rate, which this test raised, stops it there; GetStatus says so.
        return;
    }
    net.passes(&stream, B);
    net.arrivals(&B.joins(&[ip("ff05::c")]));
    net.passes(&R.to(ip("ff05::c")).src(R.ip).udp(5000, 5001), B);
}

#[test]
fn g16_reports_still_open_a_group_for_their_sender_only() {
    let mut net = snooping().start();
    let group = ip("ff05::b");
    let stream = R.to(group).src(R.ip).udp(5000, 5001);
    // The querier has asked before: groups nobody joined are not flooded any more.
    net.arrivals(&R.queries());
    net.arrivals(&A.joins(&[group]));
    net.passes(&stream, A);
}
