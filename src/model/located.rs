//! The interfaces of one moment, to be found by name and by MAC.

use std::{collections::BTreeMap, ops::Deref, sync::Arc};

use super::{IfName, InterfaceSelector, Interfaces, Link, Mac, XenGuest};

/// [`Interfaces`] that don't change any more, with an index of them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Located {
    interfaces: Arc<Interfaces>,
    by_name: BTreeMap<IfName, u32>,
    by_mac: BTreeMap<(u32, [u8; 6]), Vec<u32>>,
    /// By a guest's MAC: the interfaces that Xen's store says are of it.
    by_xen_mac: BTreeMap<Mac, Vec<u32>>,
    by_xen: BTreeMap<(XenGuest, u32), Vec<u32>>,
}

impl From<Arc<Interfaces>> for Located {
    fn from(interfaces: Arc<Interfaces>) -> Self {
        let mut by_name = BTreeMap::new();
        let mut by_mac: BTreeMap<_, Vec<_>> = BTreeMap::new();
        let mut by_xen_mac: BTreeMap<_, Vec<_>> = BTreeMap::new();
        let mut by_xen: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for (index, link) in &interfaces.links {
            by_name.insert(link.name.clone(), *index);
            if let Some(master) = link.master {
                by_mac.entry((master, link.mac)).or_default().push(*index);
            }
            if let Some((nic, facts)) = interfaces.xen_facts(link) {
                by_xen_mac.entry(facts.mac).or_default().push(*index);
                let guests = facts.vm.map(XenGuest::Vm).into_iter();
                for guest in guests.chain([XenGuest::Domain(nic.domain)]) {
                    by_xen.entry((guest, nic.device)).or_default().push(*index);
                }
            }
        }
        Self {
            interfaces,
            by_name,
            by_mac,
            by_xen_mac,
            by_xen,
        }
    }
}

impl From<Interfaces> for Located {
    fn from(interfaces: Interfaces) -> Self {
        Arc::new(interfaces).into()
    }
}

impl Deref for Located {
    type Target = Interfaces;

    fn deref(&self) -> &Interfaces {
        &self.interfaces
    }
}

impl Located {
    /// The snapshot that this was made of.
    pub fn snapshot(&self) -> &Arc<Interfaces> {
        &self.interfaces
    }

    /// The interface of this name.
    pub fn by_name(&self, name: &IfName) -> Option<&Link> {
        self.links.get(self.by_name.get(name)?)
    }

    /// The ports of a bridge whose own MAC is this, in order of index.
    pub fn by_mac(&self, bridge: u32, mac: [u8; 6]) -> impl Iterator<Item = &Link> {
        self.each(self.by_mac.get(&(bridge, mac)))
    }

    /// The ports of a bridge of which Xen's store says that the guest's MAC is this.
    pub fn by_xen_mac(&self, bridge: u32, mac: Mac) -> impl Iterator<Item = &Link> {
        let all = self.each(self.by_xen_mac.get(&mac));
        all.filter(move |link| link.master == Some(bridge))
    }

    /// The interfaces of a guest's NIC, as Xen's store says whose they are.
    pub fn by_xen(&self, guest: XenGuest, device: u32) -> impl Iterator<Item = &Link> {
        self.each(self.by_xen.get(&(guest, device)))
    }

    /// The interfaces that a selector of a NIC with this MAC means.
    pub fn meant(&self, selector: &InterfaceSelector, mac: Mac) -> Vec<&Link> {
        match selector {
            InterfaceSelector::Name(name) => self.by_name(name).into_iter().collect(),
            InterfaceSelector::MacOnBridge(bridge) => {
                let Some(bridge) = self.by_name(bridge).map(|bridge| bridge.index) else {
                    return Vec::new();
                };
                let taps = self.by_mac(bridge, mac.tap().octets());
                taps.chain(self.by_xen_mac(bridge, mac)).collect()
            }
            InterfaceSelector::Xen { guest, device } => self.by_xen(*guest, *device).collect(),
        }
    }

    fn each<'a>(&'a self, indices: Option<&'a Vec<u32>>) -> impl Iterator<Item = &'a Link> {
        let indices = indices.into_iter().flatten();
        indices.filter_map(|index| self.links.get(index))
    }
}
