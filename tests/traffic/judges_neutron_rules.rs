//! The cases of Neutron's `FirewallTestCase` (`judges_neutron`) about what a rule allows, and about
//! connections that live while rules change.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use super::judges_neutron::{ping_in_and_all_out, set, strict, with};
use crate::support::exchange::{Talk, paced};
use crate::support::net::Net;
use crate::support::plan::{Placement, placement, plan};
use crate::support::want::{
    ChangeExt as _, NicExt as _, RuleExt as _, allow_in, allow_out, change, group,
};
use crate::support::who::{A, B, R, WORLD};
use sgagent::pb::{Direction, Protocol};

// ---- what a rule allows

/// A rule for one protocol and direction allows that, and neither the other protocol nor the
/// other direction.
fn allows_itself_only(direction: Direction, protocol: Protocol) {
    let (rule, client, server) = match direction {
        Direction::Ingress => (allow_in(protocol), WORLD, A),
        Direction::Egress | Direction::Unspecified => (allow_out(protocol), A, WORLD),
    };
    let (tcp, udp) = (Talk::Tcp(4000, 7), Talk::Udp(4000, 7));
    let (good, bad) = if protocol == Protocol::Tcp {
        (tcp, udp)
    } else {
        (udp, tcp)
    };
    let mut net = with(&[rule]);
    net.connects(client, server, good);
    net.refuses(client, server, bad);
    net.refuses(server, client, good);
}

#[test]
fn neutron_test_ingress_tcp_rule() {
    allows_itself_only(Direction::Ingress, Protocol::Tcp);
}

#[test]
fn neutron_test_ingress_udp_rule() {
    allows_itself_only(Direction::Ingress, Protocol::Udp);
}

#[test]
fn neutron_test_egress_tcp_rule() {
    allows_itself_only(Direction::Egress, Protocol::Tcp);
}

#[test]
fn neutron_test_egress_udp_rule() {
    allows_itself_only(Direction::Egress, Protocol::Udp);
}

#[test]
fn neutron_test_next_port_closed() {
    let mut net = with(&[allow_out(Protocol::Tcp).port(42)]);
    for (client, server) in [(A, WORLD), (WORLD, A)] {
        net.connects(client, server, Talk::Tcp(4000, 42));
        net.refuses(client, server, Talk::Tcp(4000, 43));
        net.refuses(client, server, Talk::Tcp(4000, 41));
        set(&mut net, &[allow_in(Protocol::Tcp).port(42)]);
    }
}

#[test]
fn neutron_test_connection_with_destination_port_range() {
    let mut net = with(&[allow_in(Protocol::Tcp).ports(12345, 12346)]);
    net.connects(WORLD, A, Talk::Tcp(4000, 12345));
    net.connects(WORLD, A, Talk::Tcp(4000, 12346));
    net.refuses(WORLD, A, Talk::Tcp(4000, 12344));
    net.refuses(WORLD, A, Talk::Tcp(4000, 12347));
}

#[test]
fn neutron_test_connection_with_source_port_range() {
    let mut net = with(&[allow_out(Protocol::Tcp).ports(12345, 12346)]);
    for from in [12344, 12345, 12346, 12347] {
        net.connects(A, WORLD, Talk::Tcp(from, 12345));
        net.connects(A, WORLD, Talk::Tcp(from, 12346));
        net.refuses(A, WORLD, Talk::Tcp(from, 12344));
        net.refuses(A, WORLD, Talk::Tcp(from, 12347));
    }
}

#[test]
fn neutron_test_remote_security_groups() {
    let theirs = [allow_out(Protocol::Icmpv6)];
    let ours = [allow_in(Protocol::Icmpv6).members_of("remote")];
    let mut net = plan()
        .nics([strict(A), strict(B).groups(&["remote"])])
        .group(group("sg", &ours))
        .group(group("remote", &theirs))
        .start();
    net.refuses(B, A, Talk::Ping(1));
    net.apply(change().member("remote", &B.ip.to_string(), &[]));
    net.connects(B, A, Talk::Ping(1));
    net.refuses(B, A, Talk::Tcp(4000, 7));
    net.refuses(A, B, Talk::Ping(2));
    net.refuses(WORLD, A, Talk::Ping(3));
    net.apply(change().remove_member("remote", &B.ip.to_string()));
    net.is_cut(B, A, Talk::Ping(1));
}

// ---- connections

#[test]
fn neutron_test_established_connection_is_cut() {
    let mut net = with(&[allow_in(Protocol::Tcp).port(12345)]);
    let talk = Talk::Tcp(4000, 12345);
    net.connects(WORLD, A, talk);
    set(&mut net, &[]);
    net.is_cut(WORLD, A, talk);
    net.refuses(WORLD, A, talk);
}

#[test]
fn neutron_test_preventing_firewall_blink() {
    let tcp = [allow_in(Protocol::Tcp)];
    let mut net = with(&[]);
    // Room for all that a hole would let through before it is looked at.
    net.namespace.command("ip link set vnet0 txqueuelen 20000");
    let ping = |n: u32| Talk::Ping(u16::try_from(n % 0x1_0000).unwrap()).request(WORLD, A);
    let (uplink, done) = (net.tap(R), AtomicBool::new(false));
    net.drain();
    let sent = std::thread::scope(|scope| {
        let sender = scope.spawn(|| {
            paced(&done, |n| {
                uplink.send(&ping(n).frame());
                Instant::now()
            })
        });
        for rules in [&tcp[..], &[], &tcp, &[], &tcp, &[], &tcp] {
            let change = change().group(group("sg", rules));
            let answer = net
                .agent
                .call(async |mut client| client.apply(change).await);
            answer.unwrap();
        }
        done.store(true, Ordering::Relaxed);
        sender.join().unwrap()
    });
    assert!(sent.len() > 200, "{}", sent.len());
    let echo = |frame: &Vec<u8>| frame[12..14] == [0x86, 0xdd] && frame.get(54) == Some(&128);
    let through = std::iter::from_fn(|| net.tap(A).pending()).filter(echo);
    assert_eq!(through.count(), 0, "of {}", sent.len());
    set(&mut net, &[allow_in(Protocol::Icmpv6)]);
    net.passes(&ping(1), A);
}

#[test]
fn neutron_test_related_connection() {
    let mut net = with(&[allow_out(Protocol::Icmpv6)]);
    let asked = Talk::Ping(1).request(A, WORLD);
    net.passes(&asked, R);
    for code in [0, 3] {
        net.passes(&R.to(A.ip).error(1, &asked).code(code), A);
    }
    // About what was never asked, and as no error at all, it is ingress like any other.
    let not_asked = Talk::Ping(2).request(A, WORLD);
    net.blocked(&R.to(A.ip).error(1, &not_asked), A);
    net.refuses(R, A, Talk::Ping(3));
}

#[test]
fn neutron_test_tracked_connection() {
    let mut net = with(&[]);
    // After the kernel's tracking (priority -200), before anybody forwards.
    let family = match placement() {
        Placement::Bridge => "bridge",
        Placement::BrNetfilter => "ip6",
    };
    let nft = |net: &Net, command: &str| net.namespace.command(&format!("nft {command}"));
    nft(&net, &format!("add table {family} judge"));
    let hook = "{ type filter hook prerouting priority -150 ; }";
    nft(&net, &format!("add chain {family} judge first {hook}"));
    let states = "ct state new,established,related";
    let rule = format!("add rule {family} judge first {states} counter accept");
    nft(&net, &rule);
    net.refuses(WORLD, A, Talk::Ping(1));
    let seen = nft(&net, &format!("list chain {family} judge first"));
    assert!(!seen.contains("counter packets 0 "), "{seen}");
    set(&mut net, &ping_in_and_all_out());
    net.connects(WORLD, A, Talk::Ping(1));
    set(&mut net, &[]);
    net.is_cut(WORLD, A, Talk::Ping(1));
}
