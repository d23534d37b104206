//! Changes while traffic flows, and the agent going away.

use crate::support::exchange::Talk;
use crate::support::net::Net;
use crate::support::packet::Packet;
use crate::support::plan::{Dataplane, dataplane, ip6tables, plan, standard};
use crate::support::want::{
    ChangeExt as _, NicExt as _, RuleExt as _, allow_in, allow_out, change, group, nic, open, web,
};
use crate::support::who::{A, A_DELEGATED, B, C, Machine, OTHER, R, STRANGER, UNBOUND, WORLD};
use sgagent::pb;
use sgagent::pb::{NicState, Protocol};

fn inbound(guest: Machine) -> Packet {
    R.to(guest.ip).src(STRANGER)
}

/// The stranger's connection from `port` to 443 of `guest` is established.
fn connect(net: &mut Net, guest: Machine, port: u16) {
    net.connects(WORLD, guest, Talk::Tcp(port, 443));
}

fn data(guest: Machine, port: u16) -> Packet {
    Talk::Tcp(port, 443).asks_on(WORLD, guest)
}

#[test]
fn nic_that_is_added_works_and_one_that_is_removed_is_closed() {
    let mut net = plan().nic(nic(A)).start();
    net.dropped(&B.to(STRANGER).ping());
    net.apply(change().nic(nic(B).groups(&["open"])).group(open()));
    net.passes(&B.to(STRANGER).ping(), R);
    net.passes(&inbound(B).udp(1, 2), B);
    net.apply(change().remove_nic(B));
    net.dropped(&B.to(STRANGER).ping_id(2));
    net.blocked(&inbound(B).udp(1, 3), B);
    net.blocked(&R.advertises(), B);
    net.passes(&A.to(STRANGER).ping(), R);
}

#[test]
fn s7_removing_a_nic_cuts_its_flows() {
    let mut net = standard().start();
    connect(&mut net, C, 40000);
    net.apply(change().remove_nic(C));
    net.blocked(&data(C, 40000), C);
    net.apply(change().nic(nic(C)));
    net.blocked(&data(C, 40000), C);
}

#[test]
fn nic_can_be_given_another_address() {
    let mut net = standard().start();
    net.dropped(&C.to(STRANGER).src(OTHER).ping());
    net.apply(change().nic(nic(C).address(&OTHER.to_string())));
    net.passes(&C.to(STRANGER).src(OTHER).ping(), R);
    net.passes(&C.to(STRANGER).ping(), R);
    net.apply(change().nic(nic(C)));
    net.dropped(&C.to(STRANGER).src(OTHER).ping());
}

#[test]
fn delegated_prefix_can_be_taken_away() {
    let mut net = standard().start();
    let from_prefix = A.to(STRANGER).src(A_DELEGATED).ping();
    net.passes(&from_prefix, R);
    net.apply(change().nic(pb::Nic {
        delegated_prefixes: vec![],
        ..nic(A)
    }));
    net.dropped(&from_prefix);
    net.passes(&A.to(STRANGER).ping(), R);
}

#[test]
fn s7_taking_a_rule_away_cuts_the_flows_that_it_alone_allowed() {
    let ssh = allow_in(Protocol::Tcp).port(22);
    let plan = plan().nic(nic(A).groups(&["g"]));
    let both = group("g", &[allow_in(Protocol::Tcp).port(443), ssh.clone()]);
    let mut net = plan.group(both).start();
    connect(&mut net, A, 40000);
    net.passes(&inbound(A).syn(40001, 22), A);
    net.apply(change().group(group("g", &[ssh])));
    net.blocked(&data(A, 40000), A);
    net.blocked(&inbound(A).syn(40002, 443), A);
    net.passes(&inbound(A).syn(40003, 22), A);
}

#[test]
fn s7_flow_that_another_rule_allows_too_goes_on() {
    let by_prefix = allow_in(Protocol::Tcp).prefixes(&["2001:db8:ffff::/48"]);
    let both = group("g", &[allow_in(Protocol::Tcp).port(443), by_prefix.clone()]);
    let mut net = plan().nic(nic(A).groups(&["g"])).group(both).start();
    connect(&mut net, A, 40000);
    net.apply(change().group(group("g", &[by_prefix])));
    net.passes(&data(A, 40000), A);
}

#[test]
fn rule_that_is_added_works_at_once() {
    let mut net = standard().start();
    net.blocked(&inbound(C).syn(40000, 22), C);
    let rules = [
        allow_in(Protocol::Tcp).port(443),
        allow_in(Protocol::Tcp).port(22),
    ];
    net.apply(change().group(group("web", &rules)));
    net.passes(&inbound(C).syn(40000, 22), C);
}

#[test]
fn egress_rule_that_is_added_ends_the_default_at_once() {
    let mut net = standard().start();
    net.passes(&C.to(STRANGER).udp(4000, 123), R);
    let rules = [
        allow_in(Protocol::Tcp).port(443),
        allow_out(Protocol::Udp).port(53),
    ];
    net.apply(change().group(group("web", &rules)));
    net.dropped(&C.to(STRANGER).udp(4001, 123));
    net.passes(&C.to(STRANGER).udp(4002, 53), R);
    net.apply(change().group(web()));
    net.passes(&C.to(STRANGER).udp(4003, 123), R);
}

fn peers() -> Net {
    let rule = allow_in(Protocol::Tcp).members_of("peers");
    let plan = plan().nic(nic(A).groups(&["g"])).group(group("g", &[rule]));
    plan.group(group("peers", &[]))
        .member("peers", "2001:db8:fffe::1", &[])
        .start()
}

#[test]
fn member_that_is_added_gets_in() {
    let mut net = peers();
    net.passes(&inbound(A).src(OTHER).syn(40000, 443), A);
    net.blocked(&inbound(A).syn(40000, 443), A);
    net.apply(change().member("peers", &STRANGER.to_string(), &[]));
    net.passes(&inbound(A).syn(40001, 443), A);
    net.passes(&inbound(A).src(OTHER).syn(40001, 443), A);
}

#[test]
fn s7_member_that_is_removed_is_cut_off() {
    let mut net = peers();
    net.apply(change().member("peers", &STRANGER.to_string(), &[]));
    connect(&mut net, A, 40000);
    net.apply(change().remove_member("peers", &STRANGER.to_string()));
    net.blocked(&inbound(A).syn(40001, 443), A);
    net.blocked(&data(A, 40000), A);
    net.passes(&inbound(A).src(OTHER).syn(40001, 443), A);
}

#[test]
fn s7_nic_that_leaves_a_group_is_cut_off() {
    let mut net = standard().start();
    connect(&mut net, C, 40000);
    net.apply(change().nic(nic(C)));
    net.blocked(&data(C, 40000), C);
    net.blocked(&inbound(C).syn(40001, 443), C);
    net.passes(&inbound(B).syn(40001, 443), B);
}

#[test]
fn pending_nic_becomes_active_when_its_tap_appears() {
    let mut net = standard().nic(nic(UNBOUND).groups(&["open"])).start();
    assert_eq!(net.status(UNBOUND).state, i32::from(NicState::Pending));
    net.plug(UNBOUND, "br0");
    net.wait_for(UNBOUND, NicState::Active);
    net.passes(&UNBOUND.to(STRANGER).ping(), R);
    net.passes(&inbound(UNBOUND).udp(1, 2), UNBOUND);
    net.dropped(&UNBOUND.to(STRANGER).src(A.ip).ping());
}

#[test]
fn nic_whose_tap_goes_is_pending_and_comes_back() {
    let mut net = standard().start();
    net.unplug(C);
    net.wait_for(C, NicState::Pending);
    net.plug(C, "br0");
    net.wait_for(C, NicState::Active);
    net.passes(&inbound(C).syn(40000, 443), C);
    net.blocked(&inbound(C).syn(40000, 22), C);
    net.dropped(&C.to(STRANGER).src(A.ip).ping());
}

#[test]
fn tap_that_leaves_the_bridge_takes_its_policy_along() {
    let mut net = standard().start();
    net.namespace.command("ip link set vnet2 nomaster");
    net.wait_for(C, NicState::Pending);
    net.namespace.command("ip link set vnet2 master br0");
    net.wait_for(C, NicState::Active);
    net.passes(&inbound(C).syn(40000, 443), C);
}

/// A new guest behind a name that another had is not that other.
#[test]
fn reused_interface_name_does_not_inherit_a_removed_nic() {
    let mut net = standard().start();
    net.apply(change().remove_nic(C));
    net.unplug(C);
    let newcomer = UNBOUND.at("vnet2");
    net.plug(newcomer, "br0");
    net.dropped(&newcomer.to(STRANGER).ping());
    net.dropped(&newcomer.to(STRANGER).src(C.ip).eth_src(C.mac).ping());
}

#[test]
fn sync_closes_what_it_does_not_name() {
    let mut net = standard().start();
    connect(&mut net, C, 40000);
    let everything = pb::SyncRequest {
        nics: vec![nic(A), nic(B).groups(&["web"])],
        groups: vec![web()],
        complete: true,
        ..pb::SyncRequest::default()
    };
    net.sync(everything, &[C]);
    net.passes(&A.to(STRANGER).ping(), R);
    net.blocked(&inbound(A).udp(1, 2), A);
    net.passes(&inbound(B).syn(40000, 443), B);
    net.blocked(&inbound(B).syn(40000, 80), B);
    net.dropped(&C.to(STRANGER).ping());
    net.blocked(&data(C, 40000), C);
}

/// Everything of the fixture that a restart could break.
fn works(net: &mut Net) {
    net.passes(&A.to(STRANGER).ping(), R);
    net.passes(&inbound(A).udp(1, 2), A);
    net.passes(&inbound(C).syn(40000, 443), C);
    net.passes(&R.advertises(), A);
    net.blocked(&inbound(C).syn(40000, 22), C);
    net.dropped(&A.to(STRANGER).src(B.ip).ping());
    net.dropped(&A.advertises());
    net.dropped(&UNBOUND.to(STRANGER).ping());
    net.blocked(&R.advertises(), UNBOUND);
}

#[test]
fn killed_agent_leaves_its_rules_and_knows_its_nics_when_it_is_back() {
    let mut net = standard().port(UNBOUND, "br0").start();
    works(&mut net);
    net.agent.kill();
    works(&mut net);
    net.plug(UNBOUND.at("vnet4"), "br0");
    net.dropped(&UNBOUND.at("vnet4").to(STRANGER).ping());
    net.agent.start(&net.namespace);
    for machine in [A, B, C] {
        net.wait_for(machine, NicState::Active);
    }
    works(&mut net);
    net.apply(change().remove_nic(B));
    net.dropped(&B.to(STRANGER).ping());
}

#[test]
fn stopped_agent_leaves_its_rules() {
    let mut net = standard().port(UNBOUND, "br0").start();
    connect(&mut net, C, 41000);
    net.agent.stop();
    works(&mut net);
    net.passes(&data(C, 41000), C);
    net.agent.start(&net.namespace);
    net.passes(&data(C, 41000), C);
    works(&mut net);
}

#[test]
fn nic_that_appears_while_the_agent_is_away_is_bound_when_it_is_back() {
    let mut net = standard().nic(nic(UNBOUND).groups(&["open"])).start();
    net.agent.kill();
    net.plug(UNBOUND, "br0");
    net.dropped(&UNBOUND.to(STRANGER).ping());
    net.agent.start(&net.namespace);
    net.wait_for(UNBOUND, NicState::Active);
    net.passes(&UNBOUND.to(STRANGER).ping(), R);
}

/// The host turned upside down by hand is put right again at the next start.
#[test]
fn flushed_rules_are_back_after_a_restart() {
    let mut net = standard().port(UNBOUND, "br0").start();
    net.agent.kill();
    net.namespace.command("nft flush ruleset");
    if dataplane() == Dataplane::Ip6tables {
        // Which stays closed to what no longer gets a mark.
        net.dropped(&A.to(STRANGER).ping());
        for table in ["raw", "mangle"] {
            net.namespace
                .command(&format!("{} -t {table} -F", ip6tables()));
        }
    }
    net.passes(&A.to(STRANGER).src(B.ip).ping(), R);
    net.agent.start(&net.namespace);
    for machine in [A, B, C] {
        net.wait_for(machine, NicState::Active);
    }
    works(&mut net);
}
