//! Bridges that the configuration names, and that are not enforced yet.
//!
//! Where guests run before the agent is there, nobody has told it whose their ports are, and to
//! enforce their bridge would cut them off. Such a bridge is held back, as if it was not managed,
//! until it is adopted: by the first sync, which says whose the ports are, or by an operator who
//! has seen which it closes. All other bridges are enforced from the start, and what was enforced
//! once always is.

use std::{collections::BTreeSet, sync::Arc};

use tracing::{error, warn};

use super::actor::Agent;
use crate::{
    dataplane::Dataplane,
    link::Host,
    model::{BridgeConfig, IfName, IfPattern, Interfaces, Link, LinkKind},
    store::{Saved, Store},
};

/// Which entries of the configuration are held back.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Adoption {
    held: BTreeSet<IfPattern>,
}

impl Adoption {
    /// What has to wait: entries with a bridge of which ports would be closed, and with none that
    /// was enforced before, under whatever entry.
    pub(super) fn decide(interfaces: &Interfaces, saved: &Saved) -> Self {
        let entries = &interfaces.bridges;
        let at_once = entries.iter().filter(|config| config.adopted);
        let before = saved.adopted.iter().flatten();
        let patterns: Vec<_> = before.chain(at_once.map(|config| &config.name)).collect();
        let enforced = |bridge: &Link| patterns.iter().any(|one| one.matches(&bridge.name));
        let waits = |config: &&BridgeConfig| {
            let links = interfaces.links.values();
            let bridges: Vec<_> = links
                .filter(|link| link.kind == LinkKind::Bridge)
                .filter(|link| interfaces.config_of(&link.name) == Some(config))
                .collect();
            let closes = |bridge: &&Link| {
                let mut ports = interfaces.ports_of(bridge.index);
                ports.any(|port| !interfaces.is_uplink(port, config))
            };
            bridges.iter().any(closes) && !bridges.iter().any(|bridge| enforced(bridge))
        };
        let held = entries.iter().filter(waits);
        Self {
            held: held.map(|config| config.name.clone()).collect(),
        }
    }

    /// Whether anything is held back.
    pub(super) fn waits(&self) -> bool {
        !self.held.is_empty()
    }

    /// Adopts all.
    pub(super) fn all(&mut self) {
        self.held.clear();
    }

    /// Adopts the entry of a bridge; says whether there is one.
    pub(super) fn one(&mut self, bridge: &IfName, interfaces: &Interfaces) -> bool {
        let config = interfaces.config_of(bridge);
        if let Some(config) = config {
            self.held.remove(&config.name);
        }
        config.is_some()
    }

    /// The entries that are enforced.
    pub(super) fn adopted(&self, interfaces: &Interfaces) -> BTreeSet<IfPattern> {
        let names = interfaces.bridges.iter().map(|config| &config.name);
        let names = names.filter(|name| !self.held.contains(name));
        names.cloned().collect()
    }

    /// The host as it is to be enforced.
    pub(super) fn of(&self, interfaces: &Arc<Interfaces>) -> Arc<Interfaces> {
        if !self.waits() {
            return Arc::clone(interfaces);
        }
        let mut host = Interfaces::clone(interfaces);
        let held = |config: &BridgeConfig| self.held.contains(&config.name);
        (host.held, host.bridges) = host.bridges.into_iter().partition(held);
        Arc::new(host)
    }
}

impl<D: Dataplane, H: Host, S: Store> Agent<D, H, S> {
    /// Decides, once, what has to wait.
    pub(super) async fn decide_adoption(&mut self) {
        let interfaces = Arc::clone(&self.interfaces.borrow());
        self.adoption = Adoption::decide(&interfaces, &self.saved);
        // Nothing that is closed opens because nobody has recorded that it was.
        let unrecorded = self.saved.adopted.is_none();
        if unrecorded && self.adoption.waits() && self.enforced_before().await {
            self.adoption.all();
        }
        for entry in &self.adoption.held {
            warn!(%entry, "bridge is not enforced before the first sync: guests may run there");
        }
        let adopted = Some(self.adoption.adopted(&interfaces));
        if self.saved.adopted == adopted {
            return;
        }
        let saved = Saved {
            adopted,
            ..self.saved.clone()
        };
        if let Err(error) = self.commit(&saved).await {
            error!(%error, "which bridges are enforced could not be written to disk");
            self.trouble.disk = Some(error.to_string());
        }
        self.saved = saved;
    }

    async fn enforced_before(&self) -> bool {
        // Who can't say may have rules.
        self.saved.revision > 0 || self.dataplane.is_programmed().await.unwrap_or(true)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    /// The configuration names br-ex and br-*; there are br-ex with a guest, and br-in with none.
    fn host() -> Interfaces {
        let link = |index, name: &str, kind, master| {
            let name = name.parse().unwrap();
            let link = Link {
                index,
                name,
                mac: [0; 6],
                master,
                kind,
                multicast_snooping: false,
            };
            (index, link)
        };
        let entry = |name: &str| BridgeConfig::new(name.parse().unwrap());
        Interfaces {
            links: BTreeMap::from([
                link(1, "br-ex", LinkKind::Bridge, None),
                link(2, "vnet0", LinkKind::Other, Some(1)),
                link(3, "br-in", LinkKind::Bridge, None),
                link(4, "eth0", LinkKind::Outward, Some(3)),
            ]),
            bridges: vec![entry("br-ex"), entry("br-*")],
            ..Interfaces::default()
        }
    }

    fn held(host: &Interfaces, adopted: Option<&[&str]>) -> Vec<String> {
        let names = adopted.map(|names| names.iter().map(|name| name.parse().unwrap()).collect());
        let saved = Saved {
            adopted: names,
            ..Saved::default()
        };
        let adoption = Adoption::decide(host, &saved);
        adoption.held.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn the_entry_that_a_bridge_belongs_to_waits() {
        assert_eq!(held(&host(), None), ["br-ex"]);
        assert_eq!(held(&host(), Some(&["br-ex"])), [""; 0]);
        let mut host = host();
        host.bridges[0].adopted = true;
        assert_eq!(held(&host, None), [""; 0]);
    }

    /// What the configuration calls it now opens nothing.
    #[test]
    fn a_bridge_that_was_enforced_under_another_entry_is_enforced() {
        assert_eq!(held(&host(), Some(&["br-*"])), [""; 0]);
        let mut host = host();
        host.bridges.remove(0);
        assert_eq!(held(&host, Some(&["br-ex"])), [""; 0]);
        assert_eq!(held(&host, Some(&["br0"])), ["br-*"]);
    }
}
