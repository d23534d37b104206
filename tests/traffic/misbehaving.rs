//! Interfaces that misbehave: a NIC is bound to its own one or to none.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use sgagent::pb::NicState;

use crate::support::net::Net;
use crate::support::plan::{Bridge, standard};
use crate::support::want::{ChangeExt as _, NicExt as _, change, group, nic, open};
use crate::support::who::{A, B, Machine, R, STRANGER, UNBOUND};

/// The same guest as A, behind a port of another name.
const RENAMED: &str = "ren0";

fn rename(net: &Net, renames: &[(&str, &str)]) {
    let mut lines = String::new();
    for (from, to) in renames {
        let _ = write!(
            lines,
            "link set {from} down\nlink set {from} name {to}\nlink set {to} up\n"
        );
    }
    net.namespace.ip_batch(&lines);
}

/// Waits until a NIC is left out for this reason.
fn left_out(net: &mut Net, machine: Machine, words: &str) {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        let status = net.status(machine);
        if status.state() == NicState::Pending && status.reason.contains(words) {
            break;
        }
        assert!(Instant::now() < deadline, "{status:?}\n{}", net.agent.log());
        std::thread::sleep(Duration::from_millis(5));
    }
    net.falls_silent(machine);
}

/// The guest that is behind `at` can send nothing, under nobody's identity.
fn mute(net: &mut Net, at: Machine) {
    for identity in [A, B, UNBOUND] {
        net.dropped(&identity.at(at.port).to(STRANGER).ping());
        net.dropped(&identity.at(at.port).to(STRANGER).udp(1, 2));
    }
}

fn works(net: &mut Net, machine: Machine) {
    net.wait_for(machine, NicState::Active);
    net.passes(&machine.to(STRANGER).udp(1, 2), R);
    net.passes(&R.to(machine.ip).src(STRANGER).udp(1, 2), machine);
    let other = if machine == A { B } else { A };
    net.dropped(&other.at(machine.port).to(STRANGER).udp(1, 2));
    net.dropped(&machine.to(STRANGER).src(other.ip).udp(1, 2));
}

#[test]
fn a_renamed_interface_is_bound_again_under_its_name_only() {
    let mut net = standard().start();
    works(&mut net, A);
    rename(&net, &[("vnet0", RENAMED)]);
    left_out(&mut net, A, "interface vnet0 does not exist");
    mute(&mut net, A);
    works(&mut net, B);
    rename(&net, &[(RENAMED, "vnet0")]);
    works(&mut net, A);
}

#[test]
fn an_interface_with_another_guests_name_is_nobodys() {
    let mut net = standard().start();
    net.unplug(B);
    rename(&net, &[("vnet0", "vnet1")]);
    left_out(
        &mut net,
        B,
        "interface vnet1 has MAC fe:b2:00:00:04:79, which is that of NIC vnet0's tap; \
         expected fe:b2:00:00:04:7a",
    );
    left_out(&mut net, A, "does not exist");
    mute(&mut net, A);
    net.blocked(&R.to(B.ip).src(STRANGER).udp(1, 2), A);
}

#[test]
fn swapped_names_bind_neither() {
    let mut net = standard().start();
    rename(
        &net,
        &[("vnet0", RENAMED), ("vnet1", "vnet0"), (RENAMED, "vnet1")],
    );
    left_out(&mut net, A, "which is that of NIC vnet1's tap");
    left_out(&mut net, B, "which is that of NIC vnet0's tap");
    mute(&mut net, A);
    mute(&mut net, B);
    rename(
        &net,
        &[("vnet0", RENAMED), ("vnet1", "vnet0"), (RENAMED, "vnet1")],
    );
    works(&mut net, A);
    works(&mut net, B);
}

#[test]
fn an_interface_made_anew_is_bound_if_it_is_the_guests() {
    let mut net = standard().start();
    let before = net.status(A).interfaces[0].index;
    net.unplug(A);
    net.wait_for(A, NicState::Pending);
    net.plug(A, "br0");
    works(&mut net, A);
    assert_ne!(net.status(A).interfaces[0].index, before);
}

#[test]
fn a_name_taken_over_by_another_guest_is_not_bound() {
    let mut net = standard().start();
    net.unplug(A);
    let stranger = UNBOUND.at("vnet0");
    net.plug(stranger, "br0");
    left_out(
        &mut net,
        A,
        "interface vnet0 has MAC fe:b2:00:00:04:7d, which is that of another guest",
    );
    mute(&mut net, stranger);
    net.blocked(&R.to(A.ip).src(STRANGER).udp(1, 2), stranger);
    net.unplug(stranger);
    net.plug(A, "br0");
    works(&mut net, A);
}

/// What is not libvirt's name or MAC says nothing; but that it was the guest's before does.
#[test]
fn a_name_that_lost_its_guests_mac_is_not_bound() {
    let mut net = standard().start();
    net.unplug(A);
    net.wait_for(A, NicState::Pending);
    let mut stranger = UNBOUND.at("vnet0");
    net.plug(stranger, "");
    net.namespace
        .ip_batch("link set vnet0 address 02:00:00:00:00:99\nlink set vnet0 master br0 up\n");
    net.moved(stranger, "br0");
    left_out(
        &mut net,
        A,
        "interface vnet0 had MAC fe:b2:00:00:04:79 and is another one",
    );
    stranger.port = "vnet0";
    mute(&mut net, stranger);
}

#[test]
fn a_moved_interface_is_judged_where_it_is() {
    let br1 = Bridge {
        name: "br1",
        managed: true,
        uplinks: vec!["uplink1"],
    };
    let br9 = Bridge {
        name: "br9",
        managed: false,
        uplinks: vec![],
    };
    let (r1, r9) = (R.at("uplink1"), R.at("free9"));
    let mut net = standard()
        .bridge(br1)
        .bridge(br9)
        .port(r1, "br1")
        .port(r9, "br9")
        .start();
    net.namespace.ip_batch("link set vnet0 master br1\n");
    net.moved(A, "br1");
    let deadline = Instant::now() + Duration::from_secs(30);
    while net
        .status(A)
        .interfaces
        .first()
        .is_none_or(|bound| bound.bridge != "br1")
    {
        assert!(Instant::now() < deadline, "{:?}", net.status(A));
        std::thread::sleep(Duration::from_millis(5));
    }
    net.passes(&A.to(STRANGER).udp(1, 2), r1);
    net.dropped(&A.to(STRANGER).src(B.ip).udp(1, 2));
    net.namespace.ip_batch("link set vnet0 master br9\n");
    net.moved(A, "br9");
    left_out(&mut net, A, "which the configuration does not manage");
    net.namespace.ip_batch("link set vnet0 master br0\n");
    net.moved(A, "br0");
    works(&mut net, A);
    works(&mut net, B);
}

#[test]
fn five_hundred_flaps_while_policies_are_pushed() {
    let mut net = standard().start();
    net.falls_silent(A);
    for n in 0..50 {
        let mut lines = String::new();
        for _ in 0..4 {
            lines.push_str("link set vnet0 down\nlink set vnet0 up\n");
            lines.push_str("link set vnet0 nomaster\nlink set vnet0 master br0\n");
        }
        for _ in 0..2 {
            lines.push_str("tuntap add vnet7 mode tap\n");
            lines.push_str("link set vnet7 address fe:b2:00:00:04:70\n");
            lines.push_str("link set vnet7 up master br0\nlink del vnet7\n");
        }
        net.namespace.ip_batch(&lines);
        // Whatever the agent knows by now: nobody speaks for others, and nobody else goes dark.
        net.dropped(&A.to(STRANGER).src(B.ip).udp(1, 2));
        net.passes(&B.to(STRANGER).ping(), R);
        let name = format!("g{n}");
        let change = change()
            .group(group(&name, &open().rules))
            .nic(nic(A).groups(&["open", &name]))
            .nic(nic(B).groups(&["open", &name]));
        let answer = net
            .agent
            .call(async |mut client| client.apply(change).await);
        assert!(answer.is_ok(), "{answer:?}");
    }
    works(&mut net, A);
    works(&mut net, B);
    let status = net.agent_status();
    assert!(status.healthy && status.drifts.is_empty(), "{status:?}");
}
