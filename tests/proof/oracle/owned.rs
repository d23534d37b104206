//! What a NIC owns ("Terms" of the policy).

use std::net::Ipv6Addr;

use sgagent::model::{BridgeConfig, IfName, InterfaceSelector, LinkLocal, Nic, Permission};

use super::Question;

/// How many link-local addresses an `ANY_UNOWNED` NIC has at a time.
const AT_A_TIME: usize = 4;

pub(super) fn nic<'a>(question: &'a Question<'_>) -> &'a Nic {
    &question.desired.nics[question.nic]
}

/// What the configuration says of the bridge; nothing where it is silent.
pub(super) fn config<'a>(question: &'a Question<'_>) -> Option<&'a BridgeConfig> {
    question.host.config_of(bridge(question)?)
}

/// The bridge that the NIC's interface is a port of.
fn bridge<'a>(question: &'a Question<'_>) -> Option<&'a IfName> {
    let port = question.host.by_name(question.interface)?;
    Some(&question.host.bridge_of(port)?.name)
}

/// Whether an address is bound for a frame with this source MAC: with a virtual one only the
/// shared addresses are.
pub(super) fn bound(question: &Question<'_>, mac: [u8; 6], address: Ipv6Addr) -> bool {
    on_link(question, mac, address)
        || (!is_virtual(question, mac)
            && nic(question)
                .delegated_prefixes
                .iter()
                .any(|prefix| prefix.contains(address)))
}

/// Whether an address is the NIC's own on the link.
pub(super) fn on_link(question: &Question<'_>, mac: [u8; 6], address: Ipv6Addr) -> bool {
    let nic = nic(question);
    if is_virtual(question, mac) {
        return shared(question, address);
    }
    nic.addresses.iter().any(|own| own.address == address)
        || nic.slaac_address() == Some(address)
        || nic
            .on_link_prefix
            .is_some_and(|prefix| prefix.contains(address))
        || own_link_local(question, mac, address)
}

/// Whether an address is one that the NIC shares.
pub(super) fn shared(question: &Question<'_>, address: Ipv6Addr) -> bool {
    nic(question)
        .addresses
        .iter()
        .any(|own| own.shared && own.address == address)
}

/// Whether the NIC may use a link-local address.
pub(super) fn own_link_local(question: &Question<'_>, mac: [u8; 6], address: Ipv6Addr) -> bool {
    if is_virtual(question, mac) {
        return false;
    }
    match nic(question).effective_link_local() {
        LinkLocal::Eui64 => address == nic(question).mac.link_local(),
        LinkLocal::Explicit(list) => list.contains(&address),
        LinkLocal::AnyUnowned => may_claim(question, address),
    }
}

/// Whether an address is the NIC's own by what has happened so far: a link-local one of an
/// `ANY_UNOWNED` NIC once that has sent from it or for it.
/// Other addresses go with the MAC that the frame is to.
pub(super) fn has(question: &Question<'_>, mac: [u8; 6], address: Ipv6Addr) -> bool {
    let own = nic(question).mac.octets() == mac || is_virtual_of(nic(question), mac);
    let any = nic(question).effective_link_local() == LinkLocal::AnyUnowned;
    if any && in_link_local_64(address) {
        return claimed(question, address);
    }
    own && bound(question, mac, address)
}

fn claimed(question: &Question<'_>, address: Ipv6Addr) -> bool {
    question
        .first_come
        .claims
        .get(question.nic)
        .is_some_and(|claims| claims.contains(&address))
}

/// `ANY_UNOWNED`: first come, four at a time, nobody else's.
fn may_claim(question: &Question<'_>, address: Ipv6Addr) -> bool {
    let had = question.first_come.claims.get(question.nic);
    let room = had.map_or(0, std::collections::BTreeSet::len) < AT_A_TIME;
    in_link_local_64(address)
        && !is_router(question, address)
        && !is_hosts(question, address)
        && !is_anothers(question, address)
        && (claimed(question, address) || room)
}

/// Whether a NIC may use two addresses at once, each of which it may: both can be new.
pub(super) fn room_for_both(question: &Question<'_>, one: Ipv6Addr, other: Ipv6Addr) -> bool {
    if nic(question).effective_link_local() != LinkLocal::AnyUnowned || one == other {
        return true;
    }
    let had = question.first_come.claims.get(question.nic);
    let new = |address| usize::from(in_link_local_64(address) && !claimed(question, address));
    had.map_or(0, std::collections::BTreeSet::len) + new(one) + new(other) <= AT_A_TIME
}

fn is_router(question: &Question<'_>, address: Ipv6Addr) -> bool {
    let named = config(question).is_some_and(|config| config.routers.contains(&address));
    named || question.first_come.heard_routers.contains(&address)
}

fn is_hosts(question: &Question<'_>, address: Ipv6Addr) -> bool {
    let mut each = question.host.link_locals.values();
    each.any(|own| own.contains(&address))
}

fn is_anothers(question: &Question<'_>, address: Ipv6Addr) -> bool {
    for (id, other) in &question.desired.nics {
        if id == question.nic || !on_same_bridge(question, other) {
            continue;
        }
        let claims = question.first_come.claims.get(id);
        let known = other.link_local_addresses();
        if known.contains(&address) || claims.is_some_and(|claims| claims.contains(&address)) {
            return true;
        }
    }
    false
}

fn on_same_bridge(question: &Question<'_>, other: &Nic) -> bool {
    let here = bridge(question);
    other.interfaces.iter().any(|selector| match selector {
        InterfaceSelector::MacOnBridge(name) => here == Some(name),
        InterfaceSelector::Name(name) => {
            let port = question.host.by_name(name);
            let bridge = port.and_then(|port| question.host.bridge_of(port));
            bridge.is_some_and(|bridge| here == Some(&bridge.name))
        }
        // There is no store of Xen in these worlds.
        InterfaceSelector::Xen { .. } => false,
    })
}

pub(super) fn in_link_local_64(address: Ipv6Addr) -> bool {
    address.octets()[..8] == [0xfe, 0x80, 0, 0, 0, 0, 0, 0]
}

pub(super) fn in_link_local_10(address: Ipv6Addr) -> bool {
    address.octets()[0] == 0xfe && address.octets()[1] & 0xc0 == 0x80
}

/// Whether a MAC is a declared virtual one.
pub(super) fn is_virtual(question: &Question<'_>, mac: [u8; 6]) -> bool {
    let nic = nic(question);
    nic.mac.octets() != mac && is_virtual_of(nic, mac)
}

pub(super) fn is_virtual_of(nic: &Nic, mac: [u8; 6]) -> bool {
    nic.virtual_macs.iter().any(|own| own.octets() == mac)
}

/// Whether the frame's sender may use any source: with its real MAC only.
pub(super) fn any_source(question: &Question<'_>, mac: [u8; 6]) -> bool {
    let nic = nic(question);
    nic.may(Permission::AnySource) && nic.mac.octets() == mac
}
