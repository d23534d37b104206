//! The seven cases of Neutron's `FirewallTestCaseIPv6` (the same file as in `judges_neutron`, where
//! the whole class is skipped), under the names that they have there.

use super::judges_neutron::{ping_in_and_all_out, set, with};
use crate::support::exchange::Talk;
use crate::support::want::{RuleExt as _, allow_in, allow_out};
use crate::support::who::{A, DHCP_SERVERS, Machine, OTHER, R, STRANGER, WORLD};
use sgagent::pb;
use sgagent::pb::Protocol;

/// Somebody else behind the same router, whom no rule names.
const ELSEWHERE: Machine = Machine { ip: OTHER, ..R };

const PING: Talk = Talk::Ping(1);
const TCP: Talk = Talk::Tcp(4000, 7);
const UDP: Talk = Talk::Udp(4000, 7);

/// A rule with one address and nothing else: nothing passes without it, and with it only its
/// protocol, only with that address, and only its way.
fn one_address(rule: pb::Rule, talk: Talk, others: [Talk; 2], to_the_guest: bool) {
    let ends = |peer| if to_the_guest { (peer, A) } else { (A, peer) };
    let (client, server) = ends(WORLD);
    let mut net = with(&[]);
    net.refuses(client, server, talk);
    set(&mut net, &[rule.prefixes(&[&format!("{STRANGER}/128")])]);
    net.connects(client, server, talk);
    for other in others {
        net.refuses(client, server, other);
    }
    net.refuses(server, client, talk);
    let (client, server) = ends(ELSEWHERE);
    net.refuses(client, server, talk);
}

#[test]
fn neutron_ipv6_test_icmp_from_specific_address() {
    one_address(allow_in(Protocol::Icmpv6), PING, [TCP, UDP], true);
}

#[test]
fn neutron_ipv6_test_icmp_to_specific_address() {
    one_address(allow_out(Protocol::Icmpv6), PING, [TCP, UDP], false);
}

#[test]
fn neutron_ipv6_test_tcp_from_specific_address() {
    one_address(allow_in(Protocol::Tcp), TCP, [UDP, PING], true);
}

#[test]
fn neutron_ipv6_test_tcp_to_specific_address() {
    one_address(allow_out(Protocol::Tcp), TCP, [UDP, PING], false);
}

#[test]
fn neutron_ipv6_test_udp_from_specific_address() {
    one_address(allow_in(Protocol::Udp), UDP, [TCP, PING], true);
}

#[test]
fn neutron_ipv6_test_udp_to_specific_address() {
    one_address(allow_out(Protocol::Udp), UDP, [TCP, PING], false);
}

/// Neither ping nor DHCPv6 goes out from an address beside its own.
#[test]
fn neutron_ipv6_test_ip_spoofing() {
    let beside = |own: std::net::Ipv6Addr| (u128::from(own) + 1).into();
    let liar = Machine {
        ip: beside(A.ip),
        ll: beside(A.ll),
        ..A
    };
    let mut net = with(&ping_in_and_all_out());
    net.connects(WORLD, A, Talk::Ping(1));
    net.unanswered(WORLD, liar, Talk::Ping(2));
    net.refuses(liar, WORLD, Talk::Ping(3));
    net.refuses(liar, WORLD, Talk::Udp(4000, 53));
    let asks = |guest: Machine| [guest.to(R.ll), guest.to(R.ip), guest.to(DHCP_SERVERS)];
    for (good, bad) in asks(A).into_iter().zip(asks(liar)) {
        net.only(&good.dhcp(546, 547, 1), &bad.dhcp(546, 547, 1), R);
    }
}
