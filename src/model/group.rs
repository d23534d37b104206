//! Security groups: what is allowed, in which direction, with whom
//! (packet-policy S5).

use std::net::Ipv6Addr;

use serde::{Deserialize, Serialize};

use super::{GroupId, Label, Prefix, ValueError};

/// Seen from the instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// Delivered to the instance.
    Ingress,
    /// Sent by the instance.
    Egress,
}

/// A range of ports, both ends included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "Ends")]
pub struct PortRange {
    first: u16,
    last: u16,
}

/// A range as it is written, which may run backwards.
#[derive(Deserialize)]
struct Ends {
    first: u16,
    last: u16,
}

impl TryFrom<Ends> for PortRange {
    type Error = ValueError;

    fn try_from(Ends { first, last }: Ends) -> Result<Self, ValueError> {
        Self::new(first, last)
    }
}

impl PortRange {
    /// Every port.
    pub const ALL: Self = Self {
        first: 0,
        last: u16::MAX,
    };

    /// The ports from `first` to `last`; refuses a range that runs backwards.
    pub fn new(first: u16, last: u16) -> Result<Self, ValueError> {
        if first > last {
            return Err(ValueError::new(format!(
                "runs backwards, from {first} to {last}"
            )));
        }
        Ok(Self { first, last })
    }

    /// The lowest port.
    pub fn first(self) -> u16 {
        self.first
    }

    /// The highest port.
    pub fn last(self) -> u16 {
        self.last
    }
}

/// Which ICMPv6 messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Icmpv6Match {
    /// All that the guard lets pass.
    Any,
    /// One type.
    Type(u8),
    /// One type with one code.
    TypeAndCode(u8, u8),
}

/// The upper layer that a rule speaks of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Protocol {
    /// Every protocol.
    Any,
    /// TCP to these ports.
    Tcp(PortRange),
    /// UDP to these ports.
    Udp(PortRange),
    /// SCTP to these ports.
    Sctp(PortRange),
    /// ICMPv6.
    Icmpv6(Icmpv6Match),
    /// An IP protocol by its number.
    Number(u8),
}

/// The other end of a rule: the source of what comes in, the destination of what
/// goes out.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Remote {
    /// Anyone.
    Anyone,
    /// Whoever is in one of these prefixes. Never empty.
    Prefixes(Vec<Prefix>),
    /// Whoever is a member of this group.
    Group(GroupId),
}

/// A line of a security group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupRule {
    /// Which way.
    pub direction: Direction,
    /// What.
    pub protocol: Protocol,
    /// With whom.
    pub remote: Remote,
    /// For people.
    pub description: Label,
}

/// A named list of what is allowed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecurityGroup {
    /// The management server's name of it.
    pub id: GroupId,
    /// For people.
    pub name: Label,
    /// What it allows; the order does not matter to anyone but the reader.
    pub rules: Vec<GroupRule>,
}

/// A member of a group: an exact address, here or anywhere.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// Its address.
    pub address: Ipv6Addr,
    /// Its delegated prefixes, where it opted in to be recognised by them.
    pub delegated_prefixes: Vec<Prefix>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_range_does_not_run_backwards() {
        assert!(PortRange::new(80, 80).is_ok());
        assert!(PortRange::new(81, 80).is_err());
    }
}
