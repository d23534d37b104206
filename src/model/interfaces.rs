//! What the host has: its interfaces, and which bridges are managed.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv6Addr,
    sync::Arc,
};

use serde::{Deserialize, Serialize};

use super::{IfName, IfPattern, XenFacts, XenNic, XenStore};

/// What sort of interface, as far as it matters which ports lead out of the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LinkKind {
    /// A bridge.
    Bridge,
    /// A device without a link kind (hardware), a bond, a VLAN or a VXLAN: a port of
    /// this kind leads out of the host where the configuration lists no uplinks.
    Outward,
    /// A switch of Open vSwitch: what passes there is seen by no rule of a bridge.
    OpenVswitch,
    /// Taps, veths and all else.
    Other,
}

/// An interface of the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// The kernel's index.
    pub index: u32,
    /// The kernel's name.
    pub name: IfName,
    /// The octets of its link-layer address; zero where it has none of six octets.
    pub mac: [u8; 6],
    /// The index of the bridge whose port it is.
    pub master: Option<u32>,
    /// What sort it is.
    pub kind: LinkKind,
    /// For a bridge: whether it snoops on MLD.
    pub multicast_snooping: bool,
}

/// Whether an interface can carry anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LinkState {
    /// Whether it is set up.
    pub up: bool,
    /// Whether its other end is there.
    pub carrier: bool,
}

/// What an instance sent and received by an interface, since that appeared.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Packets that the instance sent.
    pub sent_packets: u64,
    /// Their octets.
    pub sent_bytes: u64,
    /// Packets that were delivered to it.
    pub received_packets: u64,
    /// Their octets.
    pub received_bytes: u64,
}

impl std::ops::AddAssign for Traffic {
    fn add_assign(&mut self, other: Self) {
        self.sent_packets += other.sent_packets;
        self.sent_bytes += other.sent_bytes;
        self.received_packets += other.received_packets;
        self.received_bytes += other.received_bytes;
    }
}

/// What the kernel last told of an interface's settings: those that are ours to keep, and what
/// they depend on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LinkSettings {
    /// How often it became a port since it is known: a port's settings end with its
    /// membership.
    pub joined: u32,
    /// A bridge's `no_linklocal_learn`.
    pub no_link_local_learn: Option<bool>,
    /// A bridge's `nf_call_ip6tables`.
    pub nf_call_ip6tables: Option<bool>,
    /// Whether a bridge filters VLANs: its trunks have tagged frames.
    pub vlan_filtering: bool,
    /// A bridge port's `mcast_max_groups`.
    pub multicast_max_groups: Option<u32>,
}

/// What the configuration says of some bridges.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BridgeConfig {
    /// Which bridges: a name, or the beginning of one with a closing `*`.
    pub name: IfPattern,
    /// The ports that lead out of the host. Empty: physical devices, bonds, VLANs and
    /// VXLANs.
    #[serde(default)]
    pub uplinks: Vec<IfPattern>,
    /// The link-local addresses of the routers. Empty: any (T3).
    #[serde(default)]
    pub routers: Vec<Ipv6Addr>,
    /// The addresses of the DHCPv6 servers and relays. Empty: any of `fe80::/10` (T5).
    #[serde(default)]
    pub dhcpv6_servers: Vec<Ipv6Addr>,
    /// Whether they are enforced from the first start on, whoever has a port there. Otherwise
    /// what was there before the agent is cut off when somebody says so ([`Interfaces::held`]).
    #[serde(default)]
    pub adopted: bool,
}

impl BridgeConfig {
    /// The bridges of this name, of which nothing else is said.
    pub fn new(name: IfPattern) -> Self {
        Self {
            name,
            uplinks: Vec::new(),
            routers: Vec::new(),
            dhcpv6_servers: Vec::new(),
            adopted: false,
        }
    }
}

/// The interfaces of the host at one moment, and what the configuration says of them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Interfaces {
    /// By index.
    pub links: BTreeMap<u32, Link>,
    /// What is known of their settings, by index.
    pub settings: BTreeMap<u32, LinkSettings>,
    /// The host's own link-local addresses, by the index of the interface.
    pub link_locals: BTreeMap<u32, BTreeSet<Ipv6Addr>>,
    /// The managed bridges' configuration, first match first.
    pub bridges: Vec<BridgeConfig>,
    /// What the configuration says of bridges that are not managed yet: they had ports before
    /// the agent knew of whom these are.
    pub held: Vec<BridgeConfig>,
    /// Names of interfaces that look like a guest's.
    pub guest_patterns: Vec<IfPattern>,
    /// What Xen's store says of whose they are.
    pub xen: Arc<XenStore>,
}

impl Interfaces {
    /// The interface of this name.
    pub fn by_name(&self, name: &IfName) -> Option<&Link> {
        self.links.values().find(|link| link.name == *name)
    }

    /// What Xen's store says of the NIC that an interface is of.
    pub fn xen_facts(&self, link: &Link) -> Option<(XenNic, &XenFacts)> {
        let nic = XenNic::of(&link.name)?;
        Some((nic, self.xen.nics.get(&nic)?))
    }

    /// The bridge that a port belongs to.
    pub fn bridge_of(&self, port: &Link) -> Option<&Link> {
        let bridge = self.links.get(&port.master?)?;
        (bridge.kind == LinkKind::Bridge).then_some(bridge)
    }

    /// What the configuration says of a bridge; nothing where it is not managed.
    pub fn config_of(&self, bridge: &IfName) -> Option<&BridgeConfig> {
        self.bridges
            .iter()
            .find(|config| config.name.matches(bridge))
    }

    /// What the configuration says of a bridge that is held back; nothing of another.
    pub fn held_config_of(&self, bridge: &IfName) -> Option<&BridgeConfig> {
        let managed = self.config_of(bridge);
        let mut held = self.held.iter().filter(|_| managed.is_none());
        held.find(|config| config.name.matches(bridge))
    }

    /// The managed bridges that exist, with their configuration, in order of name.
    pub fn managed_bridges(&self) -> Vec<(&Link, &BridgeConfig)> {
        self.bridges_by(Self::config_of)
    }

    /// The bridges that exist and are held back, with their configuration, in order of name.
    pub fn held_bridges(&self) -> Vec<(&Link, &BridgeConfig)> {
        self.bridges_by(Self::held_config_of)
    }

    fn bridges_by(
        &self,
        config: for<'a> fn(&'a Self, &IfName) -> Option<&'a BridgeConfig>,
    ) -> Vec<(&Link, &BridgeConfig)> {
        let bridges = self.links.values();
        let bridges = bridges.filter(|link| link.kind == LinkKind::Bridge);
        let mut found: Vec<_> = bridges
            .filter_map(|link| Some((link, config(self, &link.name)?)))
            .collect();
        found.sort_by(|a, b| a.0.name.cmp(&b.0.name));
        found
    }

    /// The ports of a bridge.
    pub fn ports_of(&self, bridge: u32) -> impl Iterator<Item = &Link> {
        self.links
            .values()
            .filter(move |link| link.master == Some(bridge))
    }

    /// Whether a port of a managed bridge leads out of the host.
    pub fn is_uplink(&self, port: &Link, config: &BridgeConfig) -> bool {
        if config.uplinks.is_empty() {
            port.kind == LinkKind::Outward
        } else {
            config
                .uplinks
                .iter()
                .any(|pattern| pattern.matches(&port.name))
        }
    }

    /// Whether a name looks like a guest's interface.
    pub fn looks_like_guest(&self, name: &IfName) -> bool {
        self.guest_patterns
            .iter()
            .any(|pattern| pattern.matches(name))
    }
}
