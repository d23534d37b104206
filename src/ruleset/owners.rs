//! Who owns an address, without a walk over all NICs.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv6Addr,
};

use super::NicRules;
use crate::model::{Permission, is_link_local};

/// How sure it is that a packet from or to an address is the owner's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Sure {
    /// The address is its alone.
    Yes,
    /// It may be another's: a shared address, one of `fe80::/64` that is first come first
    /// served, any at all where the NIC may use any, or, in zone 0, the same one on another
    /// bridge.
    No,
}

/// The owners of addresses, by bridge.
#[derive(Debug)]
pub(super) struct Owners<T> {
    exact: BTreeMap<(u16, Ipv6Addr), Vec<(T, Sure)>>,
    prefixes: BTreeMap<(u8, u16, Ipv6Addr), Vec<T>>,
    lengths: BTreeSet<u8>,
    link_local: BTreeMap<u16, Vec<T>>,
    any_source: BTreeMap<u16, Vec<T>>,
    zones: BTreeSet<u16>,
}

impl<T: Copy> Owners<T> {
    pub(super) fn new() -> Self {
        Self {
            exact: BTreeMap::new(),
            prefixes: BTreeMap::new(),
            lengths: BTreeSet::new(),
            link_local: BTreeMap::new(),
            any_source: BTreeMap::new(),
            zones: BTreeSet::new(),
        }
    }

    pub(super) fn add(&mut self, owner: T, nic: &NicRules) {
        for zone in zones(nic) {
            self.zones.insert(zone);
            for address in &nic.on_link {
                let sure = if nic.shared.contains(address) {
                    Sure::No
                } else {
                    Sure::Yes
                };
                let owners = self.exact.entry((zone, *address)).or_default();
                owners.push((owner, sure));
            }
            for prefix in nic.delegated.iter().chain(&nic.on_link_prefix) {
                self.lengths.insert(prefix.length());
                let key = (prefix.length(), zone, prefix.network());
                self.prefixes.entry(key).or_default().push(owner);
            }
            if nic.any_link_local {
                self.link_local.entry(zone).or_default().push(owner);
            }
            if nic.permissions.contains(&Permission::AnySource) {
                self.any_source.entry(zone).or_default().push(owner);
            }
        }
    }

    /// Who may have sent from this address, or have received what was sent to it. In zone 0
    /// it is not known which bridge the packet was on.
    pub(super) fn of(&self, zone: u16, address: Ipv6Addr) -> Vec<(T, Sure)> {
        if zone != 0 {
            return self.on(zone, address);
        }
        let all = self.zones.iter().flat_map(|zone| self.on(*zone, address));
        all.map(|(owner, _)| (owner, Sure::No)).collect()
    }

    fn on(&self, zone: u16, address: Ipv6Addr) -> Vec<(T, Sure)> {
        if let Some(owners) = self.exact.get(&(zone, address)) {
            return owners.clone();
        }
        let mut found = Vec::new();
        for length in &self.lengths {
            let mask = u128::MAX.checked_shl(128 - u32::from(*length)).unwrap_or(0);
            let network = Ipv6Addr::from(u128::from(address) & mask);
            let owners = self.prefixes.get(&(*length, zone, network));
            found.extend(
                owners
                    .into_iter()
                    .flatten()
                    .map(|owner| (*owner, Sure::Yes)),
            );
        }
        if found.is_empty() {
            let link_local = self
                .link_local
                .get(&zone)
                .filter(|_| is_link_local(address));
            let anyone = link_local.into_iter().chain(self.any_source.get(&zone));
            found.extend(anyone.flatten().map(|owner| (*owner, Sure::No)));
        }
        found
    }
}

/// Whether an address is a NIC's own on a bridge, as [`Owners`] has it.
pub(super) fn owns(nic: &NicRules, zone: u16, address: Ipv6Addr) -> bool {
    let here = zone == 0 || zones(nic).contains(&zone);
    let mut prefixes = nic.delegated.iter().chain(&nic.on_link_prefix);
    here && (nic.on_link.contains(&address)
        || prefixes.any(|prefix| prefix.contains(address))
        || (nic.any_link_local && is_link_local(address))
        || nic.permissions.contains(&Permission::AnySource))
}

pub(super) fn zones(nic: &NicRules) -> BTreeSet<u16> {
    nic.interfaces
        .values()
        .map(|(_, bridge)| bridge.0)
        .collect()
}
