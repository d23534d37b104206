//! What the kernel learns from packets, and no ruleset says.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv6Addr,
};

use super::NicNumber;

/// What the kernel has learned from packets.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Learned {
    /// Link-local addresses that NICs were the first to use (RFC 6620), four each at most.
    pub claims: BTreeMap<NicNumber, BTreeSet<Ipv6Addr>>,
    /// Who sent a router advertisement from outside.
    pub heard_routers: BTreeSet<Ipv6Addr>,
}
