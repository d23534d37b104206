//! S2, S3 and S4: what passes by default, and what a NIC's groups change about it.

use crate::support::nd::SOLICITED;
use crate::support::net::Net;
use crate::support::packet::Packet;
use crate::support::plan::{plan, standard};
use crate::support::want::{
    DefaultAction, NicExt as _, RuleExt as _, allow_in, allow_out, group, nic, open, web,
};
use crate::support::who::{
    A, A_DELEGATED, ALL_NODES, B, C, DHCP_SERVERS, Machine, OTHER, R, STRANGER, ip, solicited,
};
use sgagent::pb;
use sgagent::pb::Protocol;

fn inbound(guest: Machine) -> Packet {
    R.to(guest.ip).src(STRANGER)
}

/// A alone, as given, with the groups given.
fn alone(nic: pb::Nic, groups: &[pb::Group]) -> Net {
    let mut plan = plan().nic(nic);
    for group in groups {
        plan = plan.group(group.clone());
    }
    plan.start()
}

// ---- S2

#[test]
fn s2_ping_passes_both_ways_without_a_group() {
    let mut net = alone(nic(A), &[]);
    net.passes(&inbound(A).ping_id(1), A);
    net.passes(&A.to(STRANGER).pong_id(1), R);
    net.passes(&A.to(STRANGER).ping_id(2), R);
    net.passes(&inbound(A).pong_id(2), A);
    net.passes(&R.to(A_DELEGATED).src(STRANGER).ping_id(3), A);
    net.blocked(&inbound(A).udp(1, 2), A);
}

#[test]
fn s2_echo_reply_that_nobody_asked_for_is_dropped() {
    let mut net = standard().start();
    for guest in [A, C] {
        net.blocked(&inbound(guest).pong_id(3), guest);
        net.dropped(&guest.to(STRANGER).pong_id(4));
        net.passes(&guest.to(STRANGER).ping_id(5), R);
        net.passes(&inbound(guest).pong_id(5), guest);
        net.blocked(&inbound(guest).src(OTHER).pong_id(5), guest);
    }
}

#[test]
fn s2_other_icmpv6_is_not_delivered_by_default() {
    let mut net = alone(nic(A), &[]);
    net.passes(&inbound(A).ping(), A);
    for kind in [138, 139, 140, 144, 150, 200] {
        net.blocked(&inbound(A).icmp(kind, 0, &[0; 20]), A);
    }
}

#[test]
fn s2_ping_stays_allowed_where_egress_is_denied() {
    let mut net = alone(nic(A).egress(DefaultAction::Deny), &[]);
    net.passes(&A.to(STRANGER).ping(), R);
    net.dropped(&A.to(STRANGER).udp(1, 2));
}

#[test]
fn s2_ping_in_is_dropped_where_opted_out() {
    let mut net = plan()
        .nics([nic(A).icmpv6(DefaultAction::Deny), nic(B)])
        .start();
    net.passes(&inbound(B).ping_id(1), B);
    net.blocked(&inbound(A).ping_id(1), A);
    net.blocked(&R.to(ALL_NODES).ping_id(2), A);
    net.passes(&R.to(ALL_NODES).ping_id(2), B);
}

#[test]
fn s2_ping_out_is_dropped_where_opted_out_and_egress_denied() {
    let opted_out = nic(A)
        .icmpv6(DefaultAction::Deny)
        .egress(DefaultAction::Deny);
    let mut net = plan()
        .nics([opted_out, nic(B).egress(DefaultAction::Deny)])
        .start();
    net.passes(&B.to(STRANGER).ping_id(1), R);
    net.dropped(&A.to(STRANGER).ping_id(1));
}

#[test]
fn s2_rule_allows_ping_where_opted_out() {
    let rules = [
        allow_in(Protocol::Icmpv6)
            .icmp_type(128)
            .prefixes(&["2001:db8:ffff::/48"]),
        allow_out(Protocol::Icmpv6)
            .icmp_type(128)
            .prefixes(&["2001:db8:fffe::/48"]),
    ];
    let nic = nic(A).icmpv6(DefaultAction::Deny).groups(&["ping"]);
    let mut net = alone(nic, &[group("ping", &rules)]);
    net.passes(&inbound(A).ping_id(1), A);
    net.passes(&A.to(STRANGER).pong_id(1), R);
    net.blocked(&inbound(A).src(OTHER).ping_id(2), A);
    net.passes(&A.to(OTHER).ping_id(3), R);
    net.passes(&inbound(A).src(OTHER).pong_id(3), A);
    net.dropped(&A.to(STRANGER).ping_id(4));
}

#[test]
fn s2_what_ipv6_needs_is_delivered_where_opted_out() {
    let opted_out = nic(A)
        .icmpv6(DefaultAction::Deny)
        .egress(DefaultAction::Deny);
    let out = group("out", &[allow_out(Protocol::Udp).port(53)]);
    let mut net = alone(opted_out.groups(&["out"]), &[out]);
    net.passes(&R.advertises(), A);
    net.passes(&R.asks_for(A.ip), A);
    net.passes(&R.to(A.ip).src(R.ll).na(R.ll, SOLICITED, &[]), A);
    net.passes(&R.to(A.ll).redirect(R.ll, STRANGER), A);
    net.passes(&R.queries(), A);
    let sent = A.to(STRANGER).udp(4000, 53);
    net.passes(&sent, R);
    net.passes(&R.to(A.ip).error(2, &sent), A);
    net.blocked(&R.to(A.ip).error(2, &A.to(STRANGER).udp(4001, 53)), A);
}

// ---- S3

#[test]
fn s3_nothing_is_delivered_without_a_group() {
    let mut net = plan()
        .nics([nic(A), nic(B).groups(&["open"])])
        .group(open())
        .start();
    let forms = |guest: Machine| {
        let to = inbound(guest);
        [
            to.clone().udp(4000, 53),
            to.clone().syn(4000, 443),
            to.clone().sctp_init(4000, 443),
            to.clone().upper(47, &[0, 0, 8, 0, 1, 2, 3, 4]),
            to.upper(50, &[0, 0, 1, 0, 0, 0, 0, 1, 9, 9, 9, 9]),
        ]
    };
    for (to_a, to_b) in forms(A).iter().zip(&forms(B)) {
        net.blocked(to_a, A);
        net.passes(to_b, B);
    }
}

#[test]
fn s3_multicast_that_no_rule_allows_is_not_delivered() {
    let mut net = plan()
        .nics([nic(A), nic(B).groups(&["open"])])
        .group(open())
        .start();
    let mdns = R.to(ip("ff02::fb")).udp(5353, 5353);
    net.passes(&mdns, B);
    net.blocked(&mdns, A);
}

#[test]
fn s3_empty_group_allows_nothing() {
    let mut net = alone(nic(A).groups(&["empty"]), &[group("empty", &[])]);
    net.blocked(&inbound(A).syn(4000, 443), A);
    net.passes(&A.to(STRANGER).syn(4000, 443), R);
}

#[test]
fn s3_groups_of_a_nic_add_up() {
    let dns = group("dns", &[allow_in(Protocol::Udp).port(53)]);
    let mut net = alone(nic(A).groups(&["web", "dns"]), &[web(), dns]);
    net.passes(&inbound(A).syn(4000, 443), A);
    net.passes(&inbound(A).udp(4000, 53), A);
    net.blocked(&inbound(A).syn(4000, 53), A);
    net.blocked(&inbound(A).udp(4000, 443), A);
}

#[test]
fn s3_groups_of_another_nic_are_not_its() {
    let mut net = standard().start();
    net.passes(&inbound(B).syn(4000, 80), B);
    net.blocked(&inbound(C).syn(4000, 80), C);
    net.passes(&inbound(C).syn(4000, 443), C);
}

// ---- S4

fn dns_out() -> pb::Group {
    group("dns-out", &[allow_out(Protocol::Udp).port(53)])
}

#[test]
fn s4_everything_goes_out_by_default() {
    let mut net = alone(nic(A).groups(&["web"]), &[web()]);
    net.passes(&A.to(STRANGER).udp(4000, 123), R);
    net.passes(&A.to(STRANGER).syn(4000, 25), R);
    net.passes(&A.to(STRANGER).upper(47, &[0, 0, 8, 0, 1, 2, 3, 4]), R);
    net.passes(&A.to(ip("ff02::fb")).udp(5353, 5353), R);
}

#[test]
fn s4_egress_rule_in_any_group_ends_the_default() {
    let mut net = alone(nic(A).groups(&["web", "dns-out"]), &[web(), dns_out()]);
    net.passes(&A.to(STRANGER).udp(4000, 53), R);
    net.dropped(&A.to(STRANGER).udp(4000, 123));
    net.dropped(&A.to(STRANGER).syn(4000, 53));
    net.dropped(&A.to(STRANGER).upper(47, &[0, 0, 8, 0, 1, 2, 3, 4]));
}

#[test]
fn s4_egress_rule_ends_the_default_where_allow_is_said_too() {
    let nic = nic(A).groups(&["dns-out"]).egress(DefaultAction::Allow);
    let mut net = alone(nic, &[dns_out()]);
    net.passes(&A.to(STRANGER).udp(4000, 53), R);
    net.dropped(&A.to(STRANGER).udp(4000, 123));
}

#[test]
fn s4_egress_rule_of_another_nics_group_changes_nothing() {
    let nics = [nic(A).groups(&["web"]), nic(B).groups(&["dns-out"])];
    let mut net = plan().nics(nics).group(web()).group(dns_out()).start();
    net.passes(&A.to(STRANGER).udp(4000, 123), R);
    net.dropped(&B.to(STRANGER).udp(4000, 123));
}

#[test]
fn s4_denied_egress_is_dropped_without_a_rule() {
    let mut net = alone(
        nic(A).groups(&["web"]).egress(DefaultAction::Deny),
        &[web()],
    );
    net.dropped(&A.to(STRANGER).udp(4000, 53));
    net.dropped(&A.to(STRANGER).syn(4000, 443));
    net.dropped(&A.to(ip("ff02::fb")).udp(5353, 5353));
    net.passes(&inbound(A).syn(4000, 443), A);
    net.passes(&A.to(STRANGER).tcp_at(443, 4000, 18, (5000, 1001)), R);
}

#[test]
fn s4_denied_egress_passes_by_rule() {
    let nic = nic(A).groups(&["dns-out"]).egress(DefaultAction::Deny);
    let mut net = alone(nic, &[dns_out()]);
    net.passes(&A.to(STRANGER).udp(4000, 53), R);
    net.passes(&inbound(A).udp(53, 4000), A);
    net.dropped(&A.to(STRANGER).udp(4000, 54));
}

#[test]
fn s4_discovery_and_listener_reports_are_not_subject_to_it() {
    let mut net = alone(nic(A).egress(DefaultAction::Deny), &[]);
    net.passes(&A.asks_for(R.ll), R);
    net.passes(&A.claims(A.ip), R);
    net.passes(&A.to(R.ll).na(A.ip, SOLICITED, &[]), R);
    net.passes(&A.probes(A.ip), R);
    net.passes(&A.solicits_routers(), R);
    net.passes(&A.joins(&[solicited(A.ip)]), R);
    net.passes(&A.mld1(131, solicited(A.ip)), R);
    net.passes(&A.mld1(132, solicited(A.ip)), R);
    net.dropped(&A.to(STRANGER).udp(1, 2));
}

#[test]
fn s4_dhcpv6_client_is_not_subject_to_it() {
    let plan = plan().dhcpv6_servers(&["fe80::1", "2001:db8:ffff::1"]);
    let mut net = plan.nic(nic(A).egress(DefaultAction::Deny)).start();
    net.passes(&A.to(DHCP_SERVERS).dhcp(546, 547, 1), R);
    net.passes(&A.to(R.ll).dhcp(546, 547, 3), R);
    net.passes(&A.to(STRANGER).dhcp(546, 547, 5), R);
    net.dropped(&A.to(OTHER).dhcp(546, 547, 5));
    net.passes(&R.to(A.ll).dhcp(547, 546, 7), A);
}

#[test]
fn s4_dhcpv6_to_just_any_server_is_subject_to_it() {
    let mut net = plan()
        .nics([nic(A).egress(DefaultAction::Deny), nic(C)])
        .start();
    net.passes(&A.to(R.ll).dhcp(546, 547, 3), R);
    net.passes(&C.to(STRANGER).dhcp(546, 547, 5), R);
    net.dropped(&A.to(STRANGER).dhcp(546, 547, 5));
}
