//! Which NICs a change can be in conflict with.
//!
//! Whether two NICs claim the same is a question about all pairs, answered by sorting
//! everything ([`super::conflicts`]). A change of one NIC asks only who comes near that
//! one, and the answer must not cost more on a host of thousands.

use std::{collections::BTreeSet, net::Ipv6Addr};

use super::{IfName, InterfaceSelector, LinkLocal, Located, Mac, Nic, XenGuest};

/// What some NICs claim, to be compared with what others do.
#[derive(Debug, Default)]
pub struct Nearby {
    macs: BTreeSet<Mac>,
    interfaces: BTreeSet<IfName>,
    /// Bridge and MAC of a port.
    ports: BTreeSet<(IfName, [u8; 6])>,
    xen: BTreeSet<(XenGuest, u32)>,
    /// First and last address, in order and disjoint.
    ranges: Vec<(Ipv6Addr, Ipv6Addr)>,
}

impl Nearby {
    /// What these NICs claim.
    pub fn of<'a>(nics: impl IntoIterator<Item = &'a Nic>, host: &Located) -> Self {
        let mut near = Self::default();
        let mut ranges = Vec::new();
        for nic in nics {
            near.macs.insert(nic.mac);
            for selector in &nic.interfaces {
                near.add_interface(selector, nic, host);
            }
            each_range(nic, |first, last| ranges.push((first, last)));
        }
        ranges.sort_unstable();
        for (first, last) in ranges {
            match near.ranges.last_mut() {
                Some(before) if first <= before.1 => before.1 = before.1.max(last),
                _ => near.ranges.push((first, last)),
            }
        }
        near
    }

    /// Another name of the same port counts too.
    fn add_interface(&mut self, selector: &InterfaceSelector, nic: &Nic, host: &Located) {
        for link in host.meant(selector, nic.mac) {
            if let Some(bridge) = host.bridge_of(link) {
                self.ports.insert((bridge.name.clone(), link.mac));
            }
            self.interfaces.insert(link.name.clone());
            if let Some((xen, facts)) = host.xen_facts(link) {
                self.add_xen(XenGuest::Domain(xen.domain), xen.device);
                if let Some(vm) = facts.vm {
                    self.add_xen(XenGuest::Vm(vm), xen.device);
                }
            }
        }
        match selector {
            InterfaceSelector::Name(name) => {
                self.interfaces.insert(name.clone());
            }
            InterfaceSelector::MacOnBridge(bridge) => {
                let tap = nic.mac.tap().octets();
                self.ports.insert((bridge.clone(), tap));
            }
            InterfaceSelector::Xen { guest, device } => self.add_xen(*guest, *device),
        }
    }

    fn add_xen(&mut self, guest: XenGuest, device: u32) {
        self.xen.insert((guest, device));
    }

    /// Whether a NIC claims anything that these do, or something that overlaps.
    pub fn touches(&self, nic: &Nic) -> bool {
        let claimed = |selector: &InterfaceSelector| match selector {
            InterfaceSelector::Name(name) => self.interfaces.contains(name),
            InterfaceSelector::MacOnBridge(bridge) => {
                let port = (bridge.clone(), nic.mac.tap().octets());
                self.ports.contains(&port)
            }
            InterfaceSelector::Xen { guest, device } => self.xen.contains(&(*guest, *device)),
        };
        let mut overlap = false;
        each_range(nic, |first, last| {
            let after = self.ranges.partition_point(|range| range.1 < first);
            overlap |= self.ranges.get(after).is_some_and(|range| range.0 <= last);
        });
        overlap || self.macs.contains(&nic.mac) || nic.interfaces.iter().any(claimed)
    }
}

fn each_range(nic: &Nic, mut see: impl FnMut(Ipv6Addr, Ipv6Addr)) {
    for owned in &nic.addresses {
        see(owned.address, owned.address);
    }
    if let Some(address) = nic.slaac_address() {
        see(address, address);
    }
    match &nic.link_local {
        Some(LinkLocal::Explicit(own)) => own.iter().for_each(|address| see(*address, *address)),
        // More than it may be: with a prefix on the link, none is its own.
        Some(LinkLocal::Eui64) | None => see(nic.mac.link_local(), nic.mac.link_local()),
        Some(LinkLocal::AnyUnowned) => {}
    }
    for prefix in nic.delegated_prefixes.iter().chain(&nic.on_link_prefix) {
        let (first, last) = prefix.bounds();
        see(first, last);
    }
}
