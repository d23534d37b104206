//! Whether the interface of a name is still the NIC's own.
//!
//! A name says little: libvirt gives `vnet3` to the next guest when the one before is
//! gone, and a rename is one netlink message. But libvirt writes the guest's MAC into
//! the host's end of its tap ([`Mac::tap`]), and that tells whose tap it is. Who makes taps
//! otherwise leaves the kernel's random MAC there; such an interface is its NIC's by its name
//! alone. Xen writes a constant one, and says in its store whose the interface is.

use std::{collections::BTreeMap, sync::Arc};

use crate::model::{Desired, IfName, Link, Located, Mac, Nic, NicId, Outcome};

/// The MAC of every host-side interface of Xen.
const XEN: [u8; 6] = [0xfe, 0xff, 0xff, 0xff, 0xff, 0xff];

/// How libvirt's names begin (`VIR_NET_GENERATED_VNET_PREFIX`).
const LIBVIRT_NAME: &str = "vnet";

/// Interfaces that carried their NIC's MAC as libvirt writes it: their index and MAC.
pub(super) type Seen = BTreeMap<(NicId, IfName), (u32, [u8; 6])>;

/// The NICs of this host by the MAC that libvirt gives their taps.
pub(super) fn taps(desired: &Desired) -> BTreeMap<[u8; 6], &NicId> {
    let nics = desired.nics.values();
    nics.map(|nic| (nic.mac.tap().octets(), &nic.id)).collect()
}

/// Why the interface that a NIC is found by the name of is not its own; nothing where
/// it is, or may be.
pub(super) fn not_own<'a>(
    nic: &Nic,
    link: &Link,
    host: &Located,
    taps: impl FnOnce() -> &'a BTreeMap<[u8; 6], &'a NicId>,
    seen: &Seen,
) -> Option<String> {
    if let Some((xen, facts)) = host.xen_facts(link) {
        return (facts.mac != nic.mac).then(|| {
            let name = &link.name;
            format!(
                "interface {name} is of {xen}, whose MAC is {} as Xen's store says; expected {}",
                facts.mac, nic.mac
            )
        });
    }
    let own = nic.mac.tap().octets();
    if link.mac == own || link.mac == XEN {
        return None;
    }
    let found = Mac::text(link.mac);
    let expected = nic.mac.tap();
    let name = &link.name;
    if let Some(other) = taps().get(&link.mac) {
        return Some(format!(
            "interface {name} has MAC {found}, which is that of NIC {other}'s tap; expected {expected}"
        ));
    }
    if name.as_str().starts_with(LIBVIRT_NAME) && matches!(link.mac[0], 0xfe | 0xfa) {
        return Some(format!(
            "interface {name} has MAC {found}, which is that of another guest's tap; \
             expected {expected}"
        ));
    }
    match seen.get(&(nic.id.clone(), name.clone())) {
        Some((index, mac)) if *index != link.index && *mac == own => Some(format!(
            "interface {name} had MAC {expected} and is another one with MAC {found}"
        )),
        Some(_) | None => None,
    }
}

/// Notes which interfaces carry their NIC's MAC as libvirt writes it.
pub(super) fn remember(nic: &Nic, outcome: &Outcome, host: &Located, seen: &mut Arc<Seen>) {
    for bound in &outcome.bound {
        let Some(link) = host.links.get(&bound.index) else {
            continue;
        };
        let (key, is) = ((nic.id.clone(), bound.name.clone()), (link.index, link.mac));
        if link.mac == nic.mac.tap().octets() && seen.get(&key) != Some(&is) {
            Arc::make_mut(seen).insert(key, is);
        }
    }
}

/// Forgets NICs that are wanted no more.
pub(super) fn forget(desired: &Desired, seen: &mut Arc<Seen>) {
    if seen.keys().any(|(id, _)| !desired.nics.contains_key(id)) {
        Arc::make_mut(seen).retain(|(id, _), _| desired.nics.contains_key(id));
    }
}
