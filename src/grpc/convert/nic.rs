//! A NIC as the API carries it, into the model's.

use super::{Faults, Path, enums, enums::LinkLocalMode, text};
use crate::{
    model::{
        Domain, InterfaceSelector, LinkLocal, Mac, Nic, OwnedAddress, Permission, Prefix, VmUuid,
        XenGuest,
    },
    pb::{self, interface_selector::By, xen_interface::Guest},
};

const DELEGATED: (u8, u8) = (32, 128);
const ON_LINK: (u8, u8) = (64, 127);
const SLAAC: (u8, u8) = (64, 64);

/// The NIC, or notes of all that is wrong with it.
pub(super) fn nic(f: &mut Faults, at: &Path<'_>, nic: pb::Nic) -> Option<Nic> {
    let before = f.count();
    let pb::Nic {
        id,
        instance_id,
        instance_name,
        mac,
        interfaces,
        addresses,
        slaac_prefix,
        link_local,
        link_local_addresses,
        virtual_macs,
        delegated_prefixes,
        on_link_prefix,
        group_ids,
        permissions,
        icmpv6_default,
        egress_default,
        ipv4,
    } = nic;
    let id = text::nic_id(f, &at.field("id"), id);
    let instance_id = text::instance_id(f, &at.field("instance_id"), instance_id);
    let instance_name = text::label(f, &at.field("instance_name"), instance_name);
    let mac = text::mac(f, &at.field("mac"), mac);
    let interfaces = self::interfaces(f, &at.field("interfaces"), interfaces);
    let addresses = self::addresses(f, &at.field("addresses"), addresses);
    let slaac_prefix = optional_prefix(f, &at.field("slaac_prefix"), slaac_prefix, SLAAC);
    let link_local = self::link_local(f, at, link_local, link_local_addresses);
    let virtual_macs = self::virtual_macs(f, &at.field("virtual_macs"), virtual_macs, &addresses);
    let owned = delegated(f, at, delegated_prefixes, slaac_prefix);
    let on_link_prefix = on_link(f, at, on_link_prefix, &owned);
    let groups = f.each(&at.field("group_ids"), group_ids, text::group_id);
    f.unique(&at.field("group_ids"), &groups);
    let permissions = self::permissions(f, &at.field("permissions"), permissions);
    let icmpv6_default = f.given(&at.field("icmpv6_default"), icmpv6_default, enums::action);
    let egress_default = f.given(&at.field("egress_default"), egress_default, enums::action);
    let ipv4 = f.given(&at.field("ipv4"), ipv4, enums::ipv4);
    if f.count() > before {
        return None;
    }
    Some(Nic {
        id: id?,
        instance_id: instance_id?,
        instance_name: instance_name?,
        mac: mac?,
        interfaces: some(interfaces),
        addresses: some(addresses),
        slaac_prefix,
        link_local,
        virtual_macs: some(virtual_macs),
        delegated_prefixes: some(owned),
        on_link_prefix,
        groups: some(groups),
        permissions: permissions.into_iter().flatten().collect(),
        icmpv6_default,
        egress_default,
        ipv4,
    })
}

/// The elements of a list none of which is at fault.
fn some<T>(list: Vec<Option<T>>) -> Vec<T> {
    list.into_iter().flatten().collect()
}

fn each<T, K>(list: &[Option<T>], key: impl Fn(&T) -> K) -> Vec<Option<K>> {
    list.iter()
        .map(|element| element.as_ref().map(&key))
        .collect()
}

fn interfaces(
    f: &mut Faults,
    at: &Path<'_>,
    list: Vec<pb::InterfaceSelector>,
) -> Vec<Option<InterfaceSelector>> {
    if list.is_empty() {
        f.invalid(at, "must not be empty: a NIC is found by its interfaces");
    }
    let selectors = f.each(at, list, |f, at, pb::InterfaceSelector { by }| match by {
        Some(By::Name(name)) => {
            text::interface_name(f, &at.field("name"), name).map(InterfaceSelector::Name)
        }
        Some(By::Bridge(name)) => {
            text::interface_name(f, &at.field("bridge"), name).map(InterfaceSelector::MacOnBridge)
        }
        Some(By::Xen(xen)) => xen_interface(f, &at.field("xen"), xen),
        None => {
            f.invalid(at, "must have a name, a bridge or an interface of Xen");
            None
        }
    });
    let named = |selector: &InterfaceSelector| match selector {
        InterfaceSelector::Name(name) => format!("interface {name}"),
        InterfaceSelector::MacOnBridge(bridge) => format!("bridge {bridge}"),
        InterfaceSelector::Xen { guest, device } => format!("device {device} of {guest}"),
    };
    f.unique(at, &each(&selectors, named));
    selectors
}

fn xen_interface(
    f: &mut Faults,
    at: &Path<'_>,
    pb::XenInterface { guest, device }: pb::XenInterface,
) -> Option<InterfaceSelector> {
    let guest = match guest {
        Some(Guest::VmUuid(uuid)) => {
            let uuid = f.check(&at.field("vm_uuid"), VmUuid::try_from(uuid));
            uuid.map(XenGuest::Vm)
        }
        Some(Guest::Domain(number)) => {
            let domain = f.check(&at.field("domain"), Domain::try_from(number));
            domain.map(XenGuest::Domain)
        }
        None => {
            f.invalid(at, "must have a VM's UUID or a domain's number");
            None
        }
    };
    guest.map(|guest| InterfaceSelector::Xen { guest, device })
}

fn addresses(f: &mut Faults, at: &Path<'_>, list: Vec<pb::Address>) -> Vec<Option<OwnedAddress>> {
    let addresses = f.each(at, list, |f, at, pb::Address { address, shared }| {
        let address = text::address(f, &at.field("address"), &address)?;
        Some(OwnedAddress { address, shared })
    });
    f.unique_by(at, "address", &each(&addresses, |owned| owned.address));
    addresses
}

fn optional_prefix(
    f: &mut Faults,
    at: &Path<'_>,
    text: String,
    lengths: (u8, u8),
) -> Option<Prefix> {
    if text.is_empty() {
        return None;
    }
    text::owned_prefix(f, at, text, lengths)
}

fn link_local(
    f: &mut Faults,
    at: &Path<'_>,
    mode: Option<i32>,
    list: Vec<String>,
) -> Option<LinkLocal> {
    let given = mode.is_some();
    let mode = f.given(&at.field("link_local"), mode, enums::link_local);
    let at = at.field("link_local_addresses");
    let any = !list.is_empty();
    let addresses = f.each(&at, list, |f, at, text| text::link_local(f, at, &text));
    f.unique(&at, &addresses);
    match mode {
        Some(LinkLocalMode::Explicit) => {
            if !any {
                f.invalid(&at, "must not be empty with LINK_LOCAL_MODE_EXPLICIT");
            }
            Some(LinkLocal::Explicit(some(addresses)))
        }
        Some(LinkLocalMode::Eui64 | LinkLocalMode::AnyUnowned) | None => {
            // A mode that is itself at fault may have been meant to be EXPLICIT.
            if any && (mode.is_some() || !given) {
                f.invalid(&at, "goes with LINK_LOCAL_MODE_EXPLICIT only");
            }
            mode.map(|mode| match mode {
                LinkLocalMode::AnyUnowned => LinkLocal::AnyUnowned,
                LinkLocalMode::Eui64 | LinkLocalMode::Explicit => LinkLocal::Eui64,
            })
        }
    }
}

fn virtual_macs(
    f: &mut Faults,
    at: &Path<'_>,
    list: Vec<String>,
    addresses: &[Option<OwnedAddress>],
) -> Vec<Option<Mac>> {
    let any = !list.is_empty();
    let macs = f.each(at, list, text::virtual_mac);
    f.unique(at, &macs);
    // An address that is at fault may have been meant to be the shared one.
    let shared = addresses
        .iter()
        .any(|a| a.as_ref().is_none_or(|owned| owned.shared));
    if any && !shared {
        f.invalid(at, "goes with a shared address only, and there is none");
    }
    macs
}

fn delegated(
    f: &mut Faults,
    at: &Path<'_>,
    list: Vec<String>,
    slaac: Option<Prefix>,
) -> Vec<Option<Prefix>> {
    let at = at.field("delegated_prefixes");
    let prefixes = f.each(&at, list, |f, at, text| {
        text::owned_prefix(f, at, text, DELEGATED)
    });
    for (i, other) in overlaps(&prefixes) {
        let (Some(prefix), Some(around)) = (prefixes[i], prefixes[other]) else {
            continue;
        };
        let other = at.index(other);
        f.invalid(
            &at.index(i),
            format_args!("{prefix} overlaps {around} in {other}"),
        );
    }
    // A whole on-link /64 routed to one guest would make its neighbours' addresses its own.
    let on_link = |prefix: &Prefix| prefix.length() <= 64;
    for (i, prefix) in prefixes.iter().enumerate() {
        if let (Some(prefix), Some(slaac)) = (prefix, slaac)
            && on_link(prefix)
            && prefix.overlaps(&slaac)
        {
            f.invalid(
                &at.index(i),
                format_args!("{prefix} overlaps {slaac} in slaac_prefix"),
            );
        }
    }
    prefixes
}

fn on_link(
    f: &mut Faults,
    at: &Path<'_>,
    text: String,
    delegated: &[Option<Prefix>],
) -> Option<Prefix> {
    let at = at.field("on_link_prefix");
    let prefix = optional_prefix(f, &at, text, ON_LINK)?;
    let other = delegated
        .iter()
        .enumerate()
        .find_map(|(i, other)| Some((i, (*other)?)).filter(|(_, other)| other.overlaps(&prefix)));
    if let Some((i, other)) = other {
        let text = format!("{prefix} overlaps {other} in delegated_prefixes[{i}]");
        f.invalid(&at, text);
    }
    Some(prefix)
}

fn permissions(f: &mut Faults, at: &Path<'_>, list: Vec<i32>) -> Vec<Option<Permission>> {
    let name = |value: &i32| Some(pb::Permission::try_from(*value).ok()?.as_str_name());
    let names: Vec<_> = list.iter().map(name).collect();
    let permissions = f.each(at, list, enums::permission);
    f.unique(at, &names);
    permissions
}

/// Pairs of positions whose prefixes share an address, the later in the list first.
/// Prefixes nest or are disjoint, so that in order of address each is either within the
/// widest one before it or shares nothing with any before.
fn overlaps(prefixes: &[Option<Prefix>]) -> Vec<(usize, usize)> {
    let mut sorted: Vec<_> = prefixes
        .iter()
        .enumerate()
        .filter_map(|(i, prefix)| Some(((*prefix)?, i)))
        .collect();
    sorted.sort_by_key(|(prefix, i)| (prefix.network(), prefix.length(), *i));
    let mut widest: Option<(Prefix, usize)> = None;
    let mut found = Vec::new();
    for (prefix, i) in sorted {
        match widest {
            Some((outer, j)) if outer.overlaps(&prefix) => found.push((i.max(j), i.min(j))),
            _ => widest = Some((prefix, i)),
        }
    }
    found.sort_unstable();
    found
}
