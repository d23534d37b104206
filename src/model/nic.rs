//! A NIC: an interface of an instance, and all that is promised about it.

use std::{collections::BTreeSet, net::Ipv6Addr};

use serde::{Deserialize, Serialize};

use super::{GroupId, IfName, Label, Mac, NicId, Prefix, XenGuest};

/// How to find one interface of a NIC on the host.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum InterfaceSelector {
    /// By the kernel's name.
    Name(IfName),
    /// The port of this bridge that carries [`Mac::tap`] of the NIC's MAC; on a host of Xen, those
    /// of which its store says that the guest's MAC is the NIC's.
    MacOnBridge(IfName),
    /// Both interfaces of a guest of Xen, as far as they are there.
    Xen {
        /// Whose.
        guest: XenGuest,
        /// Which of the guest's NICs, from 0.
        device: u32,
    },
}

impl InterfaceSelector {
    /// The field of the API that it is given by.
    pub fn field(&self) -> &'static str {
        match self {
            Self::Name(_) => "name",
            Self::MacOnBridge(_) => "bridge",
            Self::Xen { .. } => "xen",
        }
    }
}

/// A global address that a NIC owns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct OwnedAddress {
    /// The address.
    pub address: Ipv6Addr,
    /// Whether other NICs own it too.
    pub shared: bool,
}

/// Which link-local addresses a NIC may use.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LinkLocal {
    /// The one of its MAC.
    Eui64,
    /// These.
    Explicit(Vec<Ipv6Addr>),
    /// Any that nobody else on the bridge owns, four at a time, first come (RFC 6620).
    AnyUnowned,
}

/// What a NIC may do beyond an ordinary guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Permission {
    /// Send RAs, redirects and MLD queries; receive RSs.
    RouterAdvertisements,
    /// Be a DHCPv6 server or relay.
    Dhcpv6Server,
    /// Use any source address, and speak for any in neighbour discovery.
    AnySource,
}

/// What happens to traffic that no rule speaks of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DefaultAction {
    /// It passes.
    Allow,
    /// It is dropped.
    Deny,
}

/// What happens to IPv4 and ARP frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ipv4Mode {
    /// Left to whoever handles IPv4 on this host.
    Pass,
    /// Dropped.
    Block,
}

/// An interface of an instance, and all that is promised about it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Nic {
    /// The management server's name of it.
    pub id: NicId,
    /// The instance; for people.
    pub instance_id: Label,
    /// The instance's name; for people.
    pub instance_name: Label,
    /// The guest's MAC.
    pub mac: Mac,
    /// Where to find it. Never empty.
    pub interfaces: Vec<InterfaceSelector>,
    /// Its /128s but the SLAAC one.
    pub addresses: Vec<OwnedAddress>,
    /// The /64 in which it makes an address from its MAC.
    pub slaac_prefix: Option<Prefix>,
    /// Its link-local addresses, as the management server said it.
    pub link_local: Option<LinkLocal>,
    /// Virtual routers' MACs that it may use for its shared addresses.
    pub virtual_macs: Vec<Mac>,
    /// Prefixes routed to it.
    pub delegated_prefixes: Vec<Prefix>,
    /// A prefix on the link that is its alone.
    pub on_link_prefix: Option<Prefix>,
    /// Its groups.
    pub groups: Vec<GroupId>,
    /// What it may do beyond an ordinary guest.
    pub permissions: BTreeSet<Permission>,
    /// Echo requests beyond its groups' rules.
    pub icmpv6_default: Option<DefaultAction>,
    /// What it may send beyond its groups' rules.
    pub egress_default: Option<DefaultAction>,
    /// Its IPv4.
    pub ipv4: Option<Ipv4Mode>,
}

impl Nic {
    /// The address that it makes by SLAAC.
    pub fn slaac_address(&self) -> Option<Ipv6Addr> {
        self.slaac_prefix.map(|prefix| self.mac.eui64(&prefix))
    }

    /// The link-local mode in force: EUI-64 by default, any when a whole prefix of the
    /// link is the NIC's own.
    pub fn effective_link_local(&self) -> LinkLocal {
        match (&self.link_local, self.on_link_prefix) {
            (Some(mode), _) => mode.clone(),
            (None, Some(_)) => LinkLocal::AnyUnowned,
            (None, None) => LinkLocal::Eui64,
        }
    }

    /// The link-local addresses that are known to be its own.
    pub fn link_local_addresses(&self) -> Vec<Ipv6Addr> {
        match self.effective_link_local() {
            LinkLocal::Eui64 => vec![self.mac.link_local()],
            LinkLocal::Explicit(addresses) => addresses,
            LinkLocal::AnyUnowned => Vec::new(),
        }
    }

    /// Every single address that is its own on the link, link-local ones included.
    pub fn on_link_addresses(&self) -> BTreeSet<Ipv6Addr> {
        let mut all: BTreeSet<_> = self.link_local_addresses().into_iter().collect();
        all.extend(self.addresses.iter().map(|owned| owned.address));
        all.extend(self.slaac_address());
        all
    }

    /// Whether echo requests pass without a rule.
    pub fn allows_icmpv6(&self) -> bool {
        self.icmpv6_default != Some(DefaultAction::Deny)
    }

    /// Whether it may send without a rule, as long as no group has an egress rule.
    pub fn allows_egress(&self) -> bool {
        self.egress_default != Some(DefaultAction::Deny)
    }

    /// Whether its IPv4 passes.
    pub fn passes_ipv4(&self) -> bool {
        self.ipv4 != Some(Ipv4Mode::Block)
    }

    /// Whether it has a permission.
    pub fn may(&self, permission: Permission) -> bool {
        self.permissions.contains(&permission)
    }
}
