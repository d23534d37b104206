//! The interfaces of one moment, to be found by name and by MAC.

use std::{collections::BTreeMap, ops::Deref, sync::Arc};

use super::{IfName, Interfaces, Link};

/// [`Interfaces`] that don't change any more, with an index of them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Located {
    interfaces: Arc<Interfaces>,
    by_name: BTreeMap<IfName, u32>,
    by_mac: BTreeMap<(u32, [u8; 6]), Vec<u32>>,
}

impl From<Arc<Interfaces>> for Located {
    fn from(interfaces: Arc<Interfaces>) -> Self {
        let mut by_name = BTreeMap::new();
        let mut by_mac: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for (index, link) in &interfaces.links {
            by_name.insert(link.name.clone(), *index);
            if let Some(master) = link.master {
                by_mac.entry((master, link.mac)).or_default().push(*index);
            }
        }
        Self {
            interfaces,
            by_name,
            by_mac,
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

    /// The ports of a bridge that have this MAC, in order of index.
    pub fn by_mac(&self, bridge: u32, mac: [u8; 6]) -> impl Iterator<Item = &Link> {
        let found = self.by_mac.get(&(bridge, mac));
        found
            .into_iter()
            .flatten()
            .filter_map(|index| self.links.get(index))
    }
}
