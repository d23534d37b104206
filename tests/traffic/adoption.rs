//! The agent is installed on a host where guests run: nobody is cut off before it has been told whose
//! the ports are, and nothing opens because of that.

use sgagent::pb;

use crate::support::net::Net;
use crate::support::packet::ACK;
use crate::support::plan::{Bridge, Plan, plan};
use crate::support::want::{ChangeExt as _, NicExt as _, change, nic, open};
use crate::support::who::{A, B, C, Machine, R, STRANGER, UNBOUND};

/// Four guests, and an agent that knows of none.
fn running() -> Plan {
    plan().port(UNBOUND, "br0").held()
}

fn everything() -> pb::SyncRequest {
    let nics = [A, B, C].map(|machine| nic(machine).groups(&["open"]));
    pb::SyncRequest {
        nics: nics.to_vec(),
        groups: vec![open()],
        complete: true,
        ..pb::SyncRequest::default()
    }
}

/// All of these would be closed, so what nobody may send shows that it is not judged.
fn is_free(net: &mut Net, machine: Machine) {
    net.passes(&machine.to(STRANGER).src(R.ip).ping(), R);
    net.passes(&R.to(machine.ip).udp(1, 2), machine);
}

fn is_closed(net: &mut Net, machine: Machine) {
    net.dropped(&machine.to(STRANGER).ping());
    net.dropped(&R.to(machine.ip).ping());
}

fn is_enforced(net: &mut Net) {
    for machine in [A, B, C] {
        net.passes(&machine.to(STRANGER).ping(), R);
        net.passes(&R.to(machine.ip).ping(), machine);
        net.dropped(&machine.to(STRANGER).src(R.ip).ping());
    }
    is_closed(net, UNBOUND);
}

fn bridge(net: &Net) -> pb::BridgeStatus {
    net.agent_status().bridges.remove(0)
}

const ALL: [Machine; 4] = [A, B, C, UNBOUND];

#[test]
fn first_install_cuts_nobody_off_before_the_first_sync() {
    let mut net = running().start();
    for machine in ALL {
        is_free(&mut net, machine);
    }
    let status = bridge(&net);
    assert!(status.held, "{status:?}");
    assert_eq!(status.closed_ports, ALL.map(|machine| machine.port));
    assert_eq!(net.agent_status().unprotected.len(), ALL.len());

    // One NIC says nothing of the other guests.
    let one = change().nic(nic(A).groups(&["open"])).group(open());
    let answer = net
        .agent
        .call(async |mut client| client.apply(one).await)
        .unwrap();
    let [status] = &answer.nics[..] else {
        panic!("{answer:?}");
    };
    assert_eq!(status.state(), pb::NicState::Pending);
    assert!(status.reason.contains("not enforced yet"), "{status:?}");
    is_free(&mut net, A);

    let only_asked = pb::SyncRequest {
        dry_run: true,
        ..everything()
    };
    for request in [only_asked, everything()] {
        is_free(&mut net, UNBOUND);
        let answer = net.sync(request, &[]);
        assert_eq!(answer.nics_not_active, []);
        let [adopted] = &answer.bridges_adopted[..] else {
            panic!("{answer:?}");
        };
        assert_eq!(adopted.closed_ports, [UNBOUND.port]);
        assert!(!adopted.held);
    }
    net.falls_silent(UNBOUND);
    is_enforced(&mut net);
    assert!(!bridge(&net).held);
    assert_eq!(net.sync(everything(), &[]).bridges_adopted, []);
}

/// What is under way goes on when the bridge is enforced.
#[test]
fn first_sync_breaks_no_flow() {
    let mut net = running().start();
    let request = A.to(STRANGER).tcp(4000, 443, ACK);
    let answer = R.to(A.ip).src(STRANGER).tcp(443, 4000, ACK);
    net.passes(&request, R);
    net.passes(&answer, A);
    net.sync(everything(), &[UNBOUND]);
    net.passes(&request, R);
    net.passes(&answer, A);
}

#[test]
fn operator_sees_whom_a_bridge_would_close_and_closes_them() {
    let mut net = running().start();
    let would = net.adopt("br0", true, &[]);
    assert_eq!(would[0].closed_ports, ALL.map(|machine| machine.port));
    is_free(&mut net, A);
    assert_eq!(net.adopt("br0", false, &ALL), would);
    for machine in ALL {
        is_closed(&mut net, machine);
    }
    assert_eq!(net.adopt("br0", false, &[]), []);

    let other = pb::AdoptBridgeRequest {
        bridge: "br9".to_owned(),
        dry_run: false,
    };
    let refused = net
        .agent
        .call(async |mut client| client.adopt_bridge(other).await);
    let refused = refused.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::InvalidArgument);
    assert!(refused.message().contains("bridge br9"), "{refused}");
}

#[test]
fn what_is_held_stays_so_over_a_restart_and_what_is_enforced_too() {
    let mut net = running().start();
    net.agent.kill();
    net.agent.start(&net.namespace);
    is_free(&mut net, A);
    net.sync(everything(), &[UNBOUND]);
    net.agent.kill();
    is_enforced(&mut net);
    net.agent.start(&net.namespace);
    is_enforced(&mut net);
    assert!(!bridge(&net).held);
}

/// Nobody may have recorded that these ports were closed.
#[test]
fn lost_state_opens_nothing() {
    let mut net = running().start();
    net.adopt("br0", false, &ALL);
    net.agent.kill();
    std::fs::remove_dir_all(net.agent.path("state")).unwrap();
    net.agent.start(&net.namespace);
    for machine in ALL {
        is_closed(&mut net, machine);
    }
    assert!(!bridge(&net).held);
}

/// As at a boot: who comes after the agent is closed until it is told of them.
#[test]
fn bridge_without_guests_is_enforced_from_the_start() {
    let mut plan = plan().held();
    plan.ports.retain(|(machine, _)| machine.port == R.port);
    let mut net = plan.start();
    net.plug(A, "br0");
    net.wait_until_closed(A);
    is_closed(&mut net, A);
    assert!(!bridge(&net).held);
}

/// A bridge that the configuration names later waits; those that it named before do not.
#[test]
fn bridge_that_is_configured_later_waits_for_itself_only() {
    let second = Bridge {
        name: "br1",
        managed: false,
        uplinks: vec![],
    };
    let mut net = plan().bridge(second).port(UNBOUND, "br1").start();
    let file = net.agent.path("sgagent.toml");
    let config = std::fs::read_to_string(&file).unwrap();
    let more = config.replace("[limits]", "[[bridges]]\nname = \"br1\"\n[limits]");
    net.agent.stop();
    std::fs::write(&file, more).unwrap();
    net.agent.start(&net.namespace);
    let held: Vec<_> = net.agent_status().bridges;
    let held: Vec<_> = held.iter().map(|b| (b.name.as_str(), b.held)).collect();
    assert_eq!(held, [("br0", false), ("br1", true)]);
    is_closed(&mut net, A);
    assert_eq!(
        net.adopt("br1", false, &[UNBOUND])[0].closed_ports,
        [UNBOUND.port]
    );
}
