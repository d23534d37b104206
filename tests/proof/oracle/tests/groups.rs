//! S1 to S5.

use super::*;
use crate::support::packet::{AH, ESP, RST, TCP};
use crate::support::want::{
    DefaultAction, NicExt as _, Permission, RuleExt as _, allow_in, allow_number_in, allow_out,
};
use crate::support::who::{C_DELEGATED, DHCP_SERVERS, OTHER, STRANGER};

/// A with these rules.
fn ruled(rules: &[pb::Rule]) -> World {
    ruled_nic(nic(A), rules)
}

fn ruled_nic(nic: pb::Nic, rules: &[pb::Rule]) -> World {
    let mut world = world(nic.groups(&["rules"]));
    world.groups[1] = group("rules", rules);
    world
}

fn with_flow(world: &World, direction: Direction, flow: FlowState, wire: &impl Wire) -> String {
    Asked {
        flow,
        ..asked(world, direction)
    }
    .rows(&wire.frames())
}

#[test]
fn s1_flows() {
    let closed = usual();
    let (into, established) = (Direction::Ingress, FlowState::Established);
    let udp = R.to(A.ip).udp(1, 2);
    assert_eq!(received(&closed, &udp), "S3");
    assert_eq!(with_flow(&closed, into, established, &udp), "");
    assert_eq!(with_flow(&closed, into, FlowState::Related, &udp), "S3");
    let error = R.to(A.ip).error(1, &A.to(R.ip).udp(2, 1));
    assert_eq!(received(&closed, &error), "S1");
    assert_eq!(with_flow(&closed, into, FlowState::Related, &error), "");
    let reset = R.to(A.ip).tcp(1, 2, RST);
    assert_eq!(
        received(&ruled(&[allow_in(pb::Protocol::Any)]), &reset),
        "S1"
    );
    assert_eq!(with_flow(&closed, into, established, &reset), "");
    // A spoofed packet rides on no flow.
    let spoofed = A.to(STRANGER).src(B.ip).udp(1, 2);
    assert_eq!(
        with_flow(&closed, Direction::Egress, established, &spoofed),
        "G13"
    );
    // Nor a broken one.
    let mut frame = udp.frame();
    frame[60] ^= 1;
    let asked = Asked {
        flow: established,
        ..asked(&closed, into)
    };
    assert_eq!(asked.rows(&[frame]), "S1");
}

#[test]
fn s2_echo_requests() {
    let ping_in = R.to(A.ip).ping();
    let ping_out = A.to(R.ip).ping();
    let denied = world(nic(A).icmpv6(DefaultAction::Deny));
    assert_eq!(received(&usual(), &ping_in), "");
    assert_eq!(received(&denied, &ping_in), "S2");
    assert_eq!(sent(&denied, &ping_out), "S2");
    assert_eq!(sent(&denied, &A.to(R.ip).udp(1, 2)), "");
    let ruled = |rule| ruled_nic(nic(A).icmpv6(DefaultAction::Deny), &[rule]);
    let echo = allow_in(pb::Protocol::Icmpv6).icmp_type(128);
    assert_eq!(received(&ruled(echo.clone()), &ping_in), "");
    assert_eq!(received(&ruled(echo.clone().icmp_code(0)), &ping_in), "");
    assert_eq!(received(&ruled(echo.icmp_code(1)), &ping_in), "S2");
    let no_egress = world(nic(A).egress(DefaultAction::Deny));
    assert_eq!(sent(&no_egress, &ping_out), "");
}

#[test]
fn s4_egress() {
    let udp = A.to(STRANGER).udp(1, 2);
    assert_eq!(sent(&world(nic(A).egress(DefaultAction::Deny)), &udp), "S4");
    assert_eq!(sent(&ruled(&[allow_in(pb::Protocol::Any)]), &udp), "");
    let tcp_only = ruled(&[allow_out(pb::Protocol::Tcp)]);
    assert_eq!(sent(&tcp_only, &udp), "S4");
    assert_eq!(sent(&tcp_only, &A.to(STRANGER).syn(1, 2)), "");
    for free in [
        A.asks_for(R.ip),
        A.probes(A.ip),
        A.joins(&[]),
        A.solicits_routers(),
    ] {
        assert_eq!(sent(&tcp_only, &free), "");
    }
    let client = |to| A.to(R.ll).dst(to).dhcp(546, 547, 1);
    assert_eq!(sent(&tcp_only, &client(DHCP_SERVERS)), "");
    assert_eq!(sent(&tcp_only, &client(R.ll)), "");
    assert_eq!(sent(&tcp_only, &client(STRANGER)), "S4");
    let mut named = tcp_only;
    named.dhcpv6_servers = vec![STRANGER];
    assert_eq!(sent(&named, &client(STRANGER)), "");
}

#[test]
fn s5_protocols() {
    let to = |port| R.to(A.ip).udp(9, port);
    let ports = ruled(&[allow_in(pb::Protocol::Udp).ports(1000, 1003)]);
    for (port, rows) in [(999, "S3"), (1000, ""), (1003, ""), (1004, "S3")] {
        assert_eq!(received(&ports, &to(port)), rows, "{port}");
    }
    assert_eq!(received(&ports, &R.to(A.ip).syn(9, 1000)), "S3");
    assert_eq!(received(&ports, &R.to(A.ip).sctp_init(9, 1000)), "S3");
    let sctp = ruled(&[allow_in(pb::Protocol::Sctp).port(1000)]);
    assert_eq!(received(&sctp, &R.to(A.ip).sctp_init(9, 1000)), "");
    let esp = ruled(&[allow_number_in(ESP.into())]);
    assert_eq!(received(&esp, &R.to(A.ip).upper(ESP, &[0; 8])), "");
    // AH is an upper layer itself.
    let behind_ah = R.to(A.ip).upper(AH, &[50, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(received(&esp, &behind_ah), "S3");
    let tcp = ruled(&[allow_number_in(TCP.into())]);
    assert_eq!(received(&tcp, &R.to(A.ip).syn(1, 2)), "");
    let behind = R
        .to(A.ip)
        .syn(1, 2)
        .header(AH, &[1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(received(&tcp, &behind), "S3");
    let ah = ruled(&[allow_number_in(AH.into())]);
    assert_eq!(received(&ah, &behind), "");
}

#[test]
fn s5_remotes() {
    let from = |src| R.to(A.ip).src(src).udp(1, 2);
    let any = || allow_in(pb::Protocol::Any);
    let prefixes = ruled(&[any().prefixes(&["2001:db8:ffff::/48", "2001:db8:1::/64"])]);
    assert_eq!(received(&prefixes, &from(STRANGER)), "");
    assert_eq!(received(&prefixes, &from(OTHER)), "S3");
    let mut members = ruled(&[any().members_of("open")]);
    let mut member = pb::Member {
        address: STRANGER.to_string(),
        delegated_prefixes: Vec::new(),
    };
    let has = |world: &mut World, member: &pb::Member| {
        world.members = vec![pb::GroupMembers {
            group_id: "open".to_owned(),
            members: vec![member.clone()],
        }];
    };
    has(&mut members, &member);
    assert_eq!(received(&members, &from(STRANGER)), "");
    assert_eq!(received(&members, &from(OTHER)), "S3");
    assert_eq!(received(&members, &from(C_DELEGATED)), "S3");
    member.delegated_prefixes = vec!["2001:db8:100:1030::/60".to_owned()];
    has(&mut members, &member);
    assert_eq!(received(&members, &from(C_DELEGATED)), "");
    // The destination, for what is sent.
    let mut out = ruled(&[allow_out(pb::Protocol::Any).members_of("open")]);
    has(&mut out, &member);
    assert_eq!(sent(&out, &A.to(STRANGER).udp(1, 2)), "");
    assert_eq!(sent(&out, &A.to(OTHER).udp(1, 2)), "S4");
}

#[test]
fn permissions_are_exempt_from_groups() {
    let permitted = |permission| world(nic(A).permit(permission).egress(DefaultAction::Deny));
    let router = permitted(Permission::RouterAdvertisements);
    for message in [A.advertises(), A.queries()] {
        assert_eq!(sent(&router, &message), "");
    }
    // Connection tracking has no place for a redirect, and is not asked.
    assert_eq!(sent(&router, &A.to(OTHERS.ll).redirect(A.ll, STRANGER)), "");
    assert_eq!(received(&router, &R.solicits_routers()), "");
    assert_eq!(sent(&router, &A.advertises().src(R.ll)), "G13");
    let server = permitted(Permission::Dhcpv6Server);
    for (from, to) in [(547, 546), (547, 547), (546, 547), (9, 547)] {
        assert_eq!(sent(&server, &A.to(OTHERS.ll).dhcp(from, to, 12)), "");
    }
    assert_eq!(received(&server, &R.to(A.ll).dhcp(546, 547, 1)), "");
    assert_eq!(received(&usual(), &R.to(A.ll).dhcp(546, 547, 1)), "S3");
    assert_eq!(sent(&server, &A.to(OTHERS.ll).udp(5, 6)), "S4");
    let any_source = permitted(Permission::AnySource);
    assert_eq!(
        sent(&any_source, &A.to(STRANGER).src(OTHER).udp(5, 6)),
        "S4"
    );
}
