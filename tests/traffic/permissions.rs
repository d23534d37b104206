//! The three permissions: what each lifts, and that it lifts nothing else.

use crate::support::nd::{OVERRIDE, target_option};
use crate::support::net::Net;
use crate::support::plan::plan;
use crate::support::want::{DefaultAction, NicExt as _, Permission, nic};
use crate::support::who::{A, ALL_NODES, B, C, DHCP_SERVERS, R, STRANGER, UNSPECIFIED, ip};

/// A has the permission, sends nothing by default and is in no group; B and C are ordinary.
fn with(permission: Permission) -> Net {
    let special = nic(A).permit(permission).egress(DefaultAction::Deny);
    plan().nics([special, nic(B), nic(C)]).start()
}

#[test]
fn router_advertisements_go_out_whatever_the_groups_say() {
    let mut net = with(Permission::RouterAdvertisements);
    net.passes(&A.advertises(), R);
    net.passes(&A.to(B.ll).ra(), B);
    net.passes(&A.to(R.ll).redirect(A.ll, STRANGER), R);
    net.passes(&A.queries(), R);
    net.passes(&A.queries(), B);
    net.dropped(&B.advertises());
    net.dropped(&B.queries());
    net.dropped(&A.to(STRANGER).udp(1, 2));
}

#[test]
fn router_solicitations_reach_a_permitted_guest_only() {
    let mut net = with(Permission::RouterAdvertisements);
    net.passes(&B.solicits_routers(), A);
    net.passes(&R.solicits_routers(), A);
    net.blocked(&B.solicits_routers(), C);
    net.blocked(&R.solicits_routers(), C);
}

#[test]
fn router_advertisements_permission_lifts_nothing_else() {
    let mut net = with(Permission::RouterAdvertisements);
    net.passes(&A.advertises(), R);
    net.dropped(&A.advertises().src(R.ll));
    net.dropped(&A.advertises().src(B.ll));
    net.dropped(&A.advertises().eth_src(R.mac));
    net.dropped(&A.queries().src(B.ll));
    net.dropped(&A.to(R.ll).src(R.ll).redirect(A.ll, STRANGER));
    net.dropped(&A.advertises().atomic());
    // The frame ends before the code (G5).
    net.dropped(&A.to(ALL_NODES).src(A.ll).hop(255).upper(58, &[134]));
    net.dropped(&A.advertises().cut(1, &[16]));
    net.dropped(&A.to(B.ll).dhcp(547, 546, 7));
    net.dropped(&A.to(DHCP_SERVERS).dhcp(546, 547, 12));
    net.dropped(&A.claims(B.ll));
    net.dropped(&A.probes(B.ll));
    net.dropped(&A.to(STRANGER).src(B.ip).ping());
    for kind in [138, 139, 140, 141, 148, 149, 151, 153, 155] {
        net.dropped(&A.to(ALL_NODES).hop(255).icmp(kind, 0, &[0; 24]));
    }
    net.passes(&A.advertises(), R);
}

#[test]
fn dhcpv6_server_answers_whatever_the_groups_say() {
    let mut net = with(Permission::Dhcpv6Server);
    net.passes(&A.to(R.ll).dhcp(547, 546, 7), R);
    net.passes(&A.to(B.ll).dhcp(547, 546, 7), B);
    net.passes(&A.to(B.ll).dhcp(5000, 546, 2), B);
    net.passes(&A.to(STRANGER).dhcp(547, 547, 12), R);
    net.passes(&A.to(STRANGER).dhcp(547, 547, 13), R);
    net.passes(&A.to(STRANGER).dhcp(5000, 547, 12), R);
    net.passes(&A.to(DHCP_SERVERS).dhcp(546, 547, 12), R);
    net.dropped(&B.to(A.ll).dhcp(547, 546, 7));
    net.dropped(&A.to(STRANGER).udp(1, 2));
}

#[test]
fn dhcpv6_requests_reach_a_permitted_guest_only() {
    let mut net = with(Permission::Dhcpv6Server);
    net.passes(&B.to(DHCP_SERVERS).dhcp(546, 547, 1), A);
    net.passes(&R.to(DHCP_SERVERS).dhcp(546, 547, 1), A);
    net.passes(&R.to(A.ip).src(STRANGER).dhcp(547, 547, 12), A);
    net.blocked(&B.to(DHCP_SERVERS).dhcp(546, 547, 1), C);
    net.blocked(&R.to(C.ip).src(STRANGER).dhcp(547, 547, 12), C);
    net.blocked(&R.to(A.ip).src(STRANGER).udp(547, 548), A);
}

#[test]
fn dhcpv6_server_permission_lifts_nothing_else() {
    let mut net = with(Permission::Dhcpv6Server);
    net.passes(&A.to(R.ll).dhcp(547, 546, 7), R);
    net.dropped(&A.to(R.ll).src(R.ll).dhcp(547, 546, 7));
    net.dropped(&A.to(R.ll).src(B.ll).dhcp(547, 546, 7));
    net.dropped(&A.to(R.ll).dhcp(547, 546, 7).eth_src(B.mac));
    net.dropped(&A.advertises());
    net.dropped(&A.queries());
    net.dropped(&A.claims(B.ll));
    net.dropped(&A.to(STRANGER).src(B.ip).ping());
    // One of the ports, the other in the frame's padding.
    net.dropped(&A.to(R.ll).dhcp(547, 546, 7).length(3));
    net.blocked(&B.solicits_routers(), A);
    net.passes(&A.to(R.ll).dhcp(547, 546, 7), R);
}

#[test]
fn any_source_sends_from_any_source() {
    let mut net = with(Permission::AnySource);
    for src in [B.ip, B.ll, STRANGER, ip("2001:db8:100:1::2"), A.ip] {
        net.passes(&A.to(R.ip).src(src).ping(), R);
        net.passes(&A.asks_for(R.ll).src(src), R);
    }
    net.dropped(&B.to(R.ip).src(STRANGER).ping());
    net.dropped(&B.asks_for(R.ll).src(A.ll));
}

#[test]
fn any_source_speaks_for_any_target() {
    let mut net = with(Permission::AnySource);
    for target in [B.ip, B.ll, STRANGER, ip("2001:db8:100:1::2")] {
        net.passes(&A.claims(target), R);
        net.passes(&A.probes(target), R);
    }
    net.dropped(&B.claims(A.ll));
    net.dropped(&B.probes(A.ll));
}

#[test]
fn any_source_permission_lifts_nothing_else() {
    let mut net = with(Permission::AnySource);
    net.passes(&A.claims(B.ip), R);
    net.dropped(&A.claims(B.ip).eth_src(B.mac));
    net.dropped(&A.to(ALL_NODES).na(B.ip, OVERRIDE, &target_option(B.mac)));
    net.dropped(
        &A.to(ALL_NODES)
            .na(B.ip, OVERRIDE, &target_option(A.mac))
            .hop(64),
    );
    net.dropped(&A.claims(B.ip).atomic());
    net.dropped(&A.advertises());
    net.dropped(&A.queries());
    net.dropped(&A.to(B.ll).redirect(A.ll, STRANGER));
    net.dropped(&A.to(B.ll).dhcp(547, 546, 7));
    net.dropped(&A.to(DHCP_SERVERS).dhcp(546, 547, 12));
    net.dropped(&A.solicits_routers().src(B.ll));
    net.dropped(&A.joins(&[ip("ff02::1:ff00:1")]).src(B.ll));
    net.dropped(&A.to(R.ip).src(STRANGER).routing(0, 1).ping());
    net.dropped(&A.to(R.ip).tagged(0x8100, 5).ping());
    net.dropped(&A.to(R.ll).src(UNSPECIFIED).dhcp(5000, 547, 1));
    net.passes(&A.claims(B.ip), R);
}

#[test]
fn permissions_can_be_combined() {
    let router = nic(A)
        .permit(Permission::RouterAdvertisements)
        .permit(Permission::Dhcpv6Server)
        .permit(Permission::AnySource);
    let mut net = plan().nics([router, nic(B)]).start();
    net.passes(&A.advertises(), B);
    net.passes(&A.to(B.ll).dhcp(547, 546, 7), B);
    net.passes(&A.to(R.ip).src(STRANGER).udp(1, 2), R);
    net.dropped(&A.to(ALL_NODES).hop(255).icmp(148, 0, &[0; 24]));
}
