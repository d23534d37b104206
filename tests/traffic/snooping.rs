//! G16 on bridges that snoop: reports of one guest must not turn snooping off for all.

use std::net::Ipv6Addr;

use crate::support::net::Net;
use crate::support::packet::Wire as _;
use crate::support::plan::{Bridge, Plan, standard};
use crate::support::who::{A, B, Machine, R, ip};

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
    assert!(snoops(&net, "br0"));
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
