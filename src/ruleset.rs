//! What is to be enforced, in terms that every dataplane can express.
//!
//! A [`Ruleset`] has no text of nft or ip6tables in it: it says who owns what, which
//! ports are what, which groups allow what and who their members are. It is what
//! [`crate::policy::compile`] makes and what a dataplane programs; [`Plan`] is the way
//! from one to the next, object by object.
//!
//! Numbers. NICs, groups, policies and bridges have a number each, allocated by the
//! compiler and never taken from what a caller chose; names in the kernel are made of
//! numbers ([`name`]).
//!
//! Two dataplanes are made of it, [`crate::dataplane::nft`] and [`crate::dataplane::ip6tables`]. What the
//! second needs beyond the first is the name of each NIC's bridge (ip6tables sees the bridge as the
//! interface) and the uplinks by name; both are here ([`PortRole::Uplink`],
//! [`NicRules::interfaces`]).

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv6Addr,
    sync::Arc,
};

use crate::model::{
    Direction, GroupId, IfName, IfPattern, Mac, Members, NicId, Permission, Prefix, Protocol,
};

mod cut;
mod flow;
mod held;
mod learned;
pub mod name;
mod narrow;
mod owners;
mod plan;
mod reason;

pub use cut::{Before, Cut, Pardon, Selector, Suspect};
pub use flow::{Flow, Ground, Judge, Upper};
pub(crate) use flow::{ICMPV6, SCTP, TCP, UDP};
pub use held::Held;
pub use learned::Learned;
pub use narrow::Comparison;
pub use plan::{Change, Object, Plan};
pub use reason::{Reason, Where};

/// The number of a NIC: 1 to 2^24 − 1, so that it fits beside a tag in a mark. Not
/// used again as long as the process lives, so that counters and claims that are kept
/// by number die with the NIC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct NicNumber(pub u32);

/// The number of a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct GroupNumber(pub u32);

/// The number of a policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct PolicyNumber(pub u32);

/// The number of a bridge, and the conntrack zone of its flows (S9): 1 to 65535.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct BridgeNumber(pub u16);

/// A managed bridge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BridgeRules {
    /// Its number and conntrack zone.
    pub number: BridgeNumber,
    /// Its own MAC, where it has one: frames to it are for the host.
    pub host_mac: Option<Mac>,
    /// Its routers. Empty: any (T3).
    pub routers: BTreeSet<Ipv6Addr>,
    /// Its DHCPv6 servers. Empty: any link-local (T5).
    pub dhcpv6_servers: BTreeSet<Ipv6Addr>,
    /// Link-local addresses that somebody owns: NICs, routers, the host.
    pub owned_link_locals: BTreeSet<Ipv6Addr>,
}

/// What a port is that no NIC is bound to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PortRole {
    /// It leads out of the host, from a managed bridge.
    Uplink,
    /// It looks like a guest's but is on an unmanaged bridge or on none: left alone.
    Unmanaged,
    /// On a managed bridge and no uplink: carries nothing.
    Closed,
}

/// A NIC that is bound.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NicRules {
    /// Whose rules these are.
    pub id: NicId,
    /// Its interfaces, each with its bridge.
    pub interfaces: BTreeMap<IfName, (IfName, BridgeNumber)>,
    /// Its MAC.
    pub mac: Mac,
    /// Virtual routers' MACs that it may use for its shared addresses.
    pub virtual_macs: BTreeSet<Mac>,
    /// Its addresses on the link, link-local ones included.
    pub on_link: BTreeSet<Ipv6Addr>,
    /// Those of them that are shared.
    pub shared: BTreeSet<Ipv6Addr>,
    /// Prefixes routed to it.
    pub delegated: BTreeSet<Prefix>,
    /// The prefix on the link that is its alone.
    pub on_link_prefix: Option<Prefix>,
    /// Whether it may take any link-local address that nobody owns.
    pub any_link_local: bool,
    /// What it may do beyond an ordinary guest.
    pub permissions: BTreeSet<Permission>,
    /// Whether its IPv4 passes.
    pub ipv4: bool,
    /// What judges it in the stateful stage.
    pub policy: PolicyNumber,
}

/// What a NIC may send without a rule that allows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum EgressMode {
    /// Everything but what [`Policy::icmpv6`] speaks of.
    Open,
    /// Nothing.
    RulesOnly,
}

/// What judges NICs in the stateful stage: a combination of groups and defaults, shared
/// by all NICs that have it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Policy {
    /// The groups.
    pub groups: BTreeSet<GroupNumber>,
    /// Whether echo requests pass in both directions (S2).
    pub icmpv6: bool,
    /// S4.
    pub egress: EgressMode,
}

/// The other end of a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RemoteRules {
    /// Anyone.
    Anyone,
    /// These prefixes.
    Prefixes(BTreeSet<Prefix>),
    /// The members of a group.
    Members {
        /// Which.
        group: GroupNumber,
        /// Whether any member opted in to be recognised by a delegated prefix.
        with_prefixes: bool,
    },
}

/// A rule of a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Allow {
    /// Which way.
    pub direction: Direction,
    /// What.
    pub protocol: Protocol,
    /// With whom.
    pub remote: RemoteRules,
}

/// A group's rules.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupRules {
    /// Whose rules these are.
    pub id: GroupId,
    /// What it allows.
    pub rules: Vec<Allow>,
}

/// The lengths of the prefixes in use: each costs the kernel a map and a rule.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Lengths {
    /// Of all prefixes that NICs send from.
    pub source: BTreeSet<u8>,
    /// Of those that are a NIC's own on the link.
    pub on_link: BTreeSet<u8>,
}

/// Everything that is to be enforced on this host.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ruleset {
    /// Whether the configuration manages any bridge, be it there yet or not.
    pub enforced: bool,
    /// Names of interfaces that look like a guest's.
    pub guest_patterns: Vec<IfPattern>,
    /// Names of the bridges that are managed, be they there yet or not.
    pub bridge_patterns: Vec<IfPattern>,
    /// The managed bridges.
    pub bridges: BTreeMap<IfName, Arc<BridgeRules>>,
    /// Ports that no NIC is bound to.
    pub ports: BTreeMap<IfName, PortRole>,
    /// Every port of a managed bridge but the uplinks, for what must be dropped before
    /// the bridge sees it (G0).
    pub guest_ports: Arc<BTreeSet<IfName>>,
    /// The groups.
    pub groups: BTreeMap<GroupNumber, GroupRules>,
    /// The groups' members.
    pub members: BTreeMap<GroupNumber, Arc<Members>>,
    /// The policies in use.
    pub policies: BTreeMap<PolicyNumber, Policy>,
    /// The NICs that are bound.
    pub nics: BTreeMap<NicNumber, Arc<NicRules>>,
    /// The lengths of their prefixes.
    pub lengths: Lengths,
}

impl Ruleset {
    /// Whether there is nothing to enforce: the configuration manages no bridge, and the
    /// kernel holds nothing of ours.
    pub fn is_empty(&self) -> bool {
        !self.enforced
    }

    /// Finds out which prefix lengths are in use.
    pub fn measure(&mut self) {
        let mut lengths = Lengths::default();
        for nic in self.nics.values() {
            lengths
                .source
                .extend(nic.delegated.iter().map(Prefix::length));
            if let Some(prefix) = nic.on_link_prefix {
                lengths.source.insert(prefix.length());
                lengths.on_link.insert(prefix.length());
            }
        }
        self.lengths = lengths;
    }
}
