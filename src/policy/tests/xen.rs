//! NICs of Xen's guests, which are found by what its store says.

use super::*;
use crate::model::{Delta, Limits, Reading, XenFacts, XenGuest, XenNic, XenStore};

const VM: &str = "0a1b2c3d-0000-4fff-8000-00000000abcd";
const OTHER_VM: &str = "0a1b2c3d-0000-4fff-8000-00000000abce";

/// br0 has both interfaces of domain 7's device 0, of which the store knows the MAC; vif8.0 is a port
/// of Open vSwitch, and vif9.0 of nothing.
fn xen_host() -> Interfaces {
    let mut host = host(
        "
        bridge br0
        switch ovs-system
        port vif7.0 fe:ff:ff:ff:ff:ff br0
        port tap7.0 fe:ff:ff:ff:ff:ff br0
        port vif8.0 fe:ff:ff:ff:ff:ff ovs-system
        port vif9.0 fe:ff:ff:ff:ff:ff",
    );
    let known = |(domain, vm, mac): (u32, &str, &str)| {
        let domain = domain.try_into().unwrap();
        let facts = XenFacts {
            mac: mac.parse().unwrap(),
            vm: vm.parse().ok(),
        };
        (XenNic { domain, device: 0 }, facts)
    };
    let nics = [
        (7, VM, "06:b2:00:00:00:01"),
        (8, OTHER_VM, "06:b2:00:00:00:02"),
        (9, "", "06:b2:00:00:00:03"),
    ];
    host.xen = Arc::new(XenStore {
        nics: nics.map(known).into(),
        reading: Reading::Good,
    });
    host
}

fn of_vm(uuid: &str, device: u32) -> InterfaceSelector {
    let guest = XenGuest::Vm(uuid.parse().unwrap());
    InterfaceSelector::Xen { guest, device }
}

fn of_domain(domain: u32) -> InterfaceSelector {
    let guest = XenGuest::Domain(domain.try_into().unwrap());
    InterfaceSelector::Xen { guest, device: 0 }
}

fn outcome_on(host: &Interfaces, mac: &str, selector: InterfaceSelector) -> String {
    let mut nic = nic("a", mac, "none");
    nic.interfaces = vec![selector];
    outcome_of_a(&compiled(vec![nic], host))
}

#[test]
fn both_interfaces_of_a_guest_are_bound_however_they_are_named() {
    for selector in [
        of_vm(VM, 0),
        of_domain(7),
        InterfaceSelector::MacOnBridge("br0".parse().unwrap()),
    ] {
        let found = outcome_on(&xen_host(), "06:b2:00:00:00:01", selector);
        assert_eq!(found, "active tap7.0 vif7.0");
    }
    let by_name = InterfaceSelector::Name("vif7.0".parse().unwrap());
    let found = outcome_on(&xen_host(), "06:b2:00:00:00:01", by_name);
    assert_eq!(found, "active vif7.0");
}

#[test]
fn two_guests_with_one_mac_are_told_apart() {
    let mut host = xen_host();
    let vif = Link {
        index: 20,
        name: "vif20.0".parse().unwrap(),
        ..host.by_name(&"vif7.0".parse().unwrap()).unwrap().clone()
    };
    host.links.insert(vif.index, vif);
    let of = |vm: &str| {
        let mut host = host.clone();
        let domain = 20.try_into().unwrap();
        let facts = XenFacts {
            mac: "06:b2:00:00:00:01".parse().unwrap(),
            vm: vm.parse().ok(),
        };
        let store = Arc::make_mut(&mut host.xen);
        store.nics.insert(XenNic { domain, device: 0 }, facts);
        let by_mac = InterfaceSelector::MacOnBridge("br0".parse().unwrap());
        outcome_on(&host, "06:b2:00:00:00:01", by_mac)
    };
    let expected = "quarantined ports vif7.0 and vif20.0 of bridge br0 are of two guests, both with \
                    MAC 06:b2:00:00:00:01";
    assert_eq!(of(OTHER_VM), expected);
    assert_eq!(of(""), expected);
    // A VM that moves within its host.
    assert_eq!(of(VM), "active tap7.0 vif20.0 vif7.0");
}

#[test]
fn what_is_not_there_says_what_it_waits_for() {
    for (mac, selector, expected) in [
        (
            "06:b2:00:00:00:01",
            of_vm(VM, 1),
            "pending no interface is of device 1 of VM 0a1b2c3d-0000-4fff-8000-00000000abcd, as \
             Xen's store says",
        ),
        (
            "06:b2:00:00:00:02",
            of_vm(OTHER_VM, 0),
            "pending interface vif8.0 is a port of Open vSwitch, where no rule of the host sees \
             its packets: the host has to use bridges (XenServer: xe-switch-network-backend bridge)",
        ),
        (
            "06:b2:00:00:00:03",
            of_domain(9),
            "pending interface vif9.0 is not a port of a bridge",
        ),
    ] {
        assert_eq!(outcome_on(&xen_host(), mac, selector), expected);
    }
}

#[test]
fn interface_whose_mac_is_another_in_the_store_is_not_bound() {
    let expected = "pending interface vif7.0 is of device 0 of domain 7, whose MAC is \
                    06:b2:00:00:00:01 as Xen's store says; expected 06:b2:00:00:00:07";
    let by_name = InterfaceSelector::Name("vif7.0".parse().unwrap());
    for selector in [of_vm(VM, 0), of_domain(7), by_name] {
        let found = outcome_on(&xen_host(), "06:b2:00:00:00:07", selector);
        assert_eq!(found, expected);
    }
}

#[test]
fn store_that_cannot_be_read_is_what_is_missing() {
    let mut host = xen_host();
    for (reading, expected) in [
        (
            Reading::Failed("cannot read it".to_owned()),
            "pending cannot read it",
        ),
        (
            Reading::Absent,
            "pending domain 7 is nowhere: this is no host of Xen",
        ),
    ] {
        let nics = BTreeMap::new();
        host.xen = Arc::new(XenStore { nics, reading });
        let found = outcome_on(&host, "06:b2:00:00:00:01", of_domain(7));
        assert_eq!(found, expected);
    }
}

#[test]
fn two_nics_of_one_interface_are_in_conflict() {
    let named = |id: &str, mac: &str, selector: InterfaceSelector| {
        let mut nic = nic(id, mac, "none");
        nic.interfaces = vec![selector];
        nic
    };
    let delta = Delta {
        nics: vec![
            named("a", "06:b2:00:00:00:01", of_vm(VM, 0)),
            named("b", "06:b2:00:00:00:05", of_domain(7)),
        ],
        ..Delta::default()
    };
    let faults = Desired::default()
        .change(&delta, &Limits::default(), &xen_host().into())
        .unwrap_err();
    let text = format!("{faults:?}");
    assert!(
        text.contains("nics[1].interfaces[0].xen") && text.contains("already owned by NIC a"),
        "{text}"
    );
}
