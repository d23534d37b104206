//! S5: what one rule allows, to its borders.

use std::net::Ipv6Addr;

use crate::support::net::Net;
use crate::support::packet::Packet;
use crate::support::plan::{Plan, plan};
use crate::support::want::{
    NicExt as _, RuleExt as _, allow_in, allow_number_in, allow_out, group, nic,
};
use crate::support::who::{A, A_DELEGATED, ALL_NODES, B, OTHER, R, STRANGER, ip};
use sgagent::pb;
use sgagent::pb::Protocol;

fn inbound() -> Packet {
    R.to(A.ip).src(STRANGER)
}

/// A in one group with these rules.
fn with(rules: &[pb::Rule]) -> Net {
    plan_with(rules).start()
}

fn plan_with(rules: &[pb::Rule]) -> Plan {
    plan().nic(nic(A).groups(&["g"])).group(group("g", rules))
}

/// A protocol that no rule speaks of by name.
fn gre(packet: Packet) -> Packet {
    packet.upper(47, &[0, 0, 8, 0, 1, 2, 3, 4])
}

fn from(src: Ipv6Addr) -> Packet {
    inbound().src(src).syn(4000, 22)
}

#[test]
fn s5_any_allows_every_protocol() {
    let mut net = with(&[allow_in(Protocol::Any)]);
    net.passes(&inbound().udp(4000, 1), A);
    net.passes(&inbound().syn(4000, 65535), A);
    net.passes(&inbound().sctp_init(4000, 7), A);
    net.passes(&gre(inbound()), A);
    net.passes(
        &inbound().upper(50, &[0, 0, 1, 0, 0, 0, 0, 1, 9, 9, 9, 9]),
        A,
    );
}

#[test]
fn s5_tcp_allows_tcp_only() {
    let mut net = with(&[allow_in(Protocol::Tcp)]);
    net.passes(&inbound().syn(4000, 1), A);
    net.passes(&inbound().syn(4000, 65535), A);
    net.blocked(&inbound().udp(4000, 1), A);
    net.blocked(&inbound().sctp_init(4000, 1), A);
    net.blocked(&gre(inbound()), A);
}

#[test]
fn s5_udp_allows_udp_only() {
    let mut net = with(&[allow_in(Protocol::Udp)]);
    net.passes(&inbound().udp(4000, 1), A);
    net.blocked(&inbound().syn(4000, 1), A);
    net.blocked(&inbound().sctp_init(4000, 1), A);
}

#[test]
fn s5_sctp_allows_sctp_only() {
    let mut net = with(&[allow_in(Protocol::Sctp).port(5060)]);
    net.passes(&inbound().sctp_init(4000, 5060), A);
    net.blocked(&inbound().sctp_init(4000, 5061), A);
    net.blocked(&inbound().udp(4000, 5060), A);
    net.blocked(&inbound().syn(4000, 5060), A);
}

#[test]
fn s5_number_allows_that_protocol_only() {
    let mut net = with(&[allow_number_in(47), allow_number_in(112)]);
    net.passes(&gre(inbound()), A);
    net.passes(&inbound().upper(112, &[0x31, 1, 100, 1, 0, 100, 0, 0]), A);
    net.blocked(&inbound().upper(48, &[0; 8]), A);
    net.blocked(&inbound().upper(89, &[0; 24]), A);
    net.blocked(&inbound().udp(4000, 1), A);
}

#[test]
fn s5_number_of_a_protocol_with_a_name_is_that_protocol() {
    let mut net = with(&[allow_number_in(6)]);
    net.passes(&inbound().syn(4000, 1), A);
    net.blocked(&inbound().udp(4000, 1), A);
}

#[test]
fn s5_port_range_includes_its_borders_and_no_more() {
    let rules = [
        allow_in(Protocol::Tcp).ports(8000, 8100),
        allow_in(Protocol::Udp).ports(0, 9),
        allow_in(Protocol::Sctp).ports(65534, 65535),
    ];
    let mut net = with(&rules);
    for port in [8000, 8050, 8100] {
        net.passes(&inbound().syn(4000, port), A);
    }
    for port in [7999, 8101, 0, 9] {
        net.blocked(&inbound().syn(4000, port), A);
    }
    net.passes(&inbound().udp(4000, 9), A);
    net.blocked(&inbound().udp(4000, 10), A);
    net.passes(&inbound().sctp_init(4000, 65534), A);
    net.passes(&inbound().sctp_init(4000, 65535), A);
    net.blocked(&inbound().sctp_init(4000, 65533), A);
}

#[test]
fn s5_port_is_the_destinations() {
    let mut net = with(&[allow_in(Protocol::Tcp).port(443)]);
    net.passes(&inbound().syn(4000, 443), A);
    net.blocked(&inbound().syn(443, 4000), A);
}

#[test]
fn s5_icmpv6_type_and_code() {
    use crate::support::want::DefaultAction::Deny;
    let rules = [
        allow_in(Protocol::Icmpv6).icmp_type(128).icmp_code(0),
        allow_in(Protocol::Icmpv6).icmp_type(144),
    ];
    let nic = nic(A).groups(&["g"]).icmpv6(Deny);
    let mut net = plan().nic(nic).group(group("g", &rules)).start();
    net.passes(&inbound().ping_id(1), A);
    net.blocked(&inbound().ping_id(2).code(1), A);
    net.blocked(&inbound().icmp(145, 0, &[0; 8]), A);
    net.blocked(&inbound().udp(4000, 1), A);
}

#[test]
fn s5_icmpv6_without_type_is_every_type() {
    use crate::support::want::DefaultAction::Deny;
    let rules = [allow_in(Protocol::Icmpv6)];
    let nic = nic(A).groups(&["g"]).icmpv6(Deny);
    let mut net = plan().nic(nic).group(group("g", &rules)).start();
    net.passes(&inbound().ping_id(1), A);
    net.blocked(&inbound().udp(4000, 1), A);
    // What conntrack calls invalid stays dropped.
    net.blocked(&inbound().pong_id(9), A);
}

/// Connection tracking calls it invalid, or not, by kernel: it has no flows.
#[test]
fn s5_multicast_router_discovery_is_for_rules_to_allow() {
    let rules = [151, 153].map(|kind| allow_in(Protocol::Icmpv6).icmp_type(kind));
    let nic = nic(A).groups(&["g"]);
    let mut net = plan().nic(nic).group(group("g", &rules)).start();
    let says = |kind, body: &[u8]| R.to(ALL_NODES).src(R.ll).icmp(kind, 0, body).hop(1);
    net.passes(&says(151, &[0; 4]), A);
    net.passes(&says(153, &[]), A);
    net.blocked(&says(152, &[]), A);
    net.blocked(&says(154, &[0; 4]), A);
}

#[test]
fn s5_remote_prefix_up_to_its_borders() {
    let mut net =
        with(&[allow_in(Protocol::Tcp).prefixes(&["2001:db8:e::/47", "2001:db8:5::8/125"])]);
    for src in [
        "2001:db8:e::",
        "2001:db8:f:ffff:ffff:ffff:ffff:ffff",
        "2001:db8:5::f",
    ] {
        net.passes(&from(ip(src)), A);
    }
    for src in [
        "2001:db8:d:ffff::1",
        "2001:db8:10::",
        "2001:db8:5::7",
        "2001:db8:5::10",
    ] {
        net.blocked(&from(ip(src)), A);
    }
}

#[test]
fn s5_remote_prefix_of_one_address_and_of_all() {
    let mut net = with(&[allow_in(Protocol::Tcp).prefixes(&["2001:db8:ffff::1/128"])]);
    net.passes(&from(STRANGER), A);
    net.blocked(&from(ip("2001:db8:ffff::2")), A);
    let mut net = with(&[allow_in(Protocol::Tcp).prefixes(&["::/0"])]);
    net.passes(&from(STRANGER), A);
    net.passes(&from(R.ll), A);
    net.blocked(&inbound().udp(1, 2), A);
}

#[test]
fn s5_overlapping_prefixes_and_rules_add_up() {
    let mut net = with(&[
        allow_in(Protocol::Tcp)
            .ports(1, 100)
            .prefixes(&["2001:db8::/32", "2001:db8:ffff::/48"]),
        allow_in(Protocol::Tcp)
            .ports(50, 200)
            .prefixes(&["2001:db8:ffff::/48"]),
    ]);
    net.passes(&inbound().syn(4000, 60), A);
    net.passes(&inbound().syn(4000, 150), A);
    net.passes(&inbound().src(OTHER).syn(4000, 60), A);
    net.blocked(&inbound().src(OTHER).syn(4000, 150), A);
}

#[test]
fn s5_egress_remote_is_the_destination() {
    let mut net = with(&[allow_out(Protocol::Tcp)
        .port(443)
        .prefixes(&["2001:db8:ffff::/48"])]);
    net.passes(&A.to(STRANGER).syn(4000, 443), R);
    net.dropped(&A.to(OTHER).syn(4000, 443));
    net.dropped(&A.to(STRANGER).syn(4000, 444));
    net.dropped(&A.to(STRANGER).udp(4000, 443));
    net.blocked(&inbound().syn(4000, 443), A);
}

#[test]
fn s5_ingress_and_egress_rules_are_not_mixed_up() {
    let mut net = with(&[
        allow_in(Protocol::Tcp).port(22),
        allow_out(Protocol::Tcp).port(25),
    ]);
    net.passes(&inbound().syn(4000, 22), A);
    net.blocked(&inbound().syn(4000, 25), A);
    net.passes(&A.to(STRANGER).syn(4000, 25), R);
    net.dropped(&A.to(STRANGER).syn(4000, 22));
}

// ---- remote groups

/// A lets in TCP from the members of `peers`, who are as given.
fn from_members(members: &[(&str, &[&str])]) -> Net {
    let rule = allow_in(Protocol::Tcp).members_of("peers");
    let mut plan = plan_with(&[rule]).nic(nic(B)).group(group("peers", &[]));
    for (address, delegated) in members {
        plan = plan.member("peers", address, delegated);
    }
    plan.start()
}

#[test]
fn s5_members_are_their_exact_addresses() {
    let mut net = from_members(&[("2001:db8:ffff::1", &[]), (&B.ip.to_string(), &[])]);
    net.passes(&from(STRANGER), A);
    net.passes(&B.to(A.ip).syn(4000, 22), A);
    net.blocked(&from(ip("2001:db8:ffff::2")), A);
    net.blocked(&from(OTHER), A);
    net.blocked(&inbound().udp(4000, 22), A);
}

#[test]
fn s5_group_without_members_lets_nobody_in() {
    let mut net = from_members(&[]);
    net.blocked(&from(STRANGER), A);
    net.blocked(&B.to(A.ip).syn(4000, 22), A);
    net.passes(&inbound().ping(), A);
}

#[test]
fn s5_link_local_of_a_member_is_not_a_member() {
    let mut net = from_members(&[(&B.ip.to_string(), &[])]);
    net.passes(&B.to(A.ip).syn(4000, 22), A);
    net.blocked(&B.to(A.ll).syn(4000, 22), A);
    net.blocked(&B.to(A.ip).src(B.ll).syn(4000, 22), A);
}

#[test]
fn s5_delegated_prefix_counts_only_when_the_member_opted_in() {
    let prefix: &[&str] = &["2001:db8:ffff:10::/60"];
    let inside = ip("2001:db8:ffff:1f::7");
    let mut net = from_members(&[("2001:db8:ffff::1", &[])]);
    net.blocked(&from(inside), A);
    net.passes(&from(STRANGER), A);
    let mut net = from_members(&[("2001:db8:ffff::1", prefix)]);
    net.passes(&from(inside), A);
    net.passes(&from(STRANGER), A);
    net.blocked(&from(ip("2001:db8:ffff:20::7")), A);
    net.blocked(&from(ip("2001:db8:ffff:f::7")), A);
}

#[test]
fn s5_being_in_a_group_does_not_make_one_its_member() {
    let rule = allow_in(Protocol::Tcp).members_of("g");
    let mut net = plan_with(&[rule]).nic(nic(B).groups(&["g"])).start();
    net.blocked(&B.to(A.ip).syn(4000, 22), A);
    net.passes(&B.to(A.ip).ping(), A);
}

#[test]
fn s5_egress_to_the_members_of_a_group() {
    let rule = allow_out(Protocol::Udp).port(53).members_of("dns");
    let plan = plan_with(&[rule]).group(group("dns", &[]));
    let mut net = plan.member("dns", "2001:db8:ffff::1", &[]).start();
    net.passes(&A.to(STRANGER).udp(4000, 53), R);
    net.passes(&A.to(STRANGER).src(A_DELEGATED).udp(4000, 53), R);
    net.dropped(&A.to(OTHER).udp(4000, 53));
    net.dropped(&A.to(STRANGER).udp(4000, 54));
}
