//! How a NIC finds its interfaces: by name, two of them, or by the MAC that libvirt writes.

use crate::support::plan::{plan, standard};
use crate::support::want::{ChangeExt as _, NicExt as _, bare_nic, change, nic, open};
use crate::support::who::{A, B, Machine, R, STRANGER, UNBOUND};
use sgagent::pb;
use sgagent::pb::NicState;
use sgagent::pb::interface_selector::By;

/// The same guest behind its emulated interface.
const EMULATED: Machine = A.at("tap1.0");
const PARAVIRTUAL: Machine = A.at("vif1.0");

fn selector(by: By) -> pb::InterfaceSelector {
    pb::InterfaceSelector { by: Some(by) }
}

#[test]
fn nic_with_two_interfaces_works_on_both() {
    let mut both = nic(PARAVIRTUAL).groups(&["open"]);
    both.interfaces
        .push(selector(By::Name("tap1.0".to_owned())));
    let mut plan = plan();
    plan.ports = vec![
        (R, "br0"),
        (B, "br0"),
        (PARAVIRTUAL, "br0"),
        (EMULATED, "br0"),
    ];
    let mut net = plan.nics([both, nic(B)]).group(open()).start();
    for port in [PARAVIRTUAL, EMULATED] {
        net.passes(&port.to(STRANGER).ping(), R);
        net.dropped(&port.to(STRANGER).ping().src(B.ip));
        net.dropped(&port.to(STRANGER).ping().eth_src(B.mac));
        net.passes(&R.to(A.ip).src(STRANGER).udp(1, 2), port);
    }
    net.apply(change().remove_nic(PARAVIRTUAL));
    for port in [PARAVIRTUAL, EMULATED] {
        net.dropped(&port.to(STRANGER).ping());
    }
}

#[test]
fn nic_is_found_by_the_mac_that_libvirt_writes() {
    let mut by_bridge = nic(A).groups(&["open"]);
    by_bridge.interfaces = vec![selector(By::Bridge("br0".to_owned()))];
    let mut net = plan().nics([nic(B), by_bridge]).group(open()).start();
    net.wait_for(A, NicState::Active);
    net.passes(&A.to(STRANGER).ping(), R);
    net.passes(&R.to(A.ip).src(STRANGER).udp(1, 2), A);
    net.dropped(&A.to(STRANGER).src(B.ip).ping());
    assert_eq!(net.status(A).interfaces[0].name, "vnet0");
}

/// No hook announces a hot plug: the link message is all there is.
#[test]
fn nic_found_by_mac_is_bound_when_its_tap_appears() {
    let mut by_bridge = nic(UNBOUND);
    by_bridge.interfaces = vec![selector(By::Bridge("br0".to_owned()))];
    let mut net = standard().nic(by_bridge).start();
    net.plug(UNBOUND, "br0");
    net.wait_for(UNBOUND, NicState::Active);
    net.passes(&UNBOUND.to(STRANGER).ping(), R);
}

#[test]
fn nic_with_a_link_local_address_only_is_held_to_it() {
    let mut net = plan().nic(bare_nic(A)).start();
    net.passes(&A.to(R.ll).ping(), R);
    net.dropped(&A.to(STRANGER).ping());
}
