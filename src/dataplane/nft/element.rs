//! Elements of sets and maps.

use std::{fmt, net::Ipv6Addr};

use crate::model::{IfName, Mac, Prefix};

/// A set or map, by its family and name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct SetRef {
    pub(super) family: &'static str,
    pub(super) name: String,
}

/// A part of an element's key.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Part {
    IfName(IfName),
    Mac(Mac),
    Address(Ipv6Addr),
    Prefix(Prefix),
    Mark(u32),
    /// An address as a field of a packet: a number of 128 bits.
    RawAddress(Ipv6Addr),
    /// A MAC as a field of a packet: a number of 48 bits.
    RawMac(Mac),
}

/// What a map says of a key.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Value {
    Mark(u32),
    Accept,
    Goto(String),
}

/// An element.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Element {
    pub(super) key: Vec<Part>,
    pub(super) value: Option<Value>,
}

impl Part {
    /// The part as a word: what nft text and JSON have in common.
    pub(super) fn word(&self) -> String {
        match self {
            Self::IfName(name) => name.to_string(),
            Self::Mac(mac) => mac.to_string(),
            Self::Address(address) => address.to_string(),
            Self::Prefix(prefix) => prefix.to_string(),
            Self::Mark(mark) => format!("{mark:#010x}"),
            Self::RawAddress(address) => format!("0x{:032x}", u128::from(*address)),
            Self::RawMac(mac) => format!("0x{}", mac.to_string().replace(':', "")),
        }
    }
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::IfName(name) => write!(f, "\"{name}\""),
            Self::Mac(_)
            | Self::Address(_)
            | Self::Prefix(_)
            | Self::Mark(_)
            | Self::RawAddress(_)
            | Self::RawMac(_) => f.write_str(&self.word()),
        }
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Mark(mark) => write!(f, "{mark:#010x}"),
            Self::Accept => f.write_str("accept"),
            Self::Goto(chain) => write!(f, "goto {chain}"),
        }
    }
}

impl Element {
    /// The element as nft text names it to delete it: maps go by key.
    pub(super) fn key_text(&self) -> String {
        self.key
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
            .join(" . ")
    }
}

impl fmt::Display for Element {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.key_text())?;
        match &self.value {
            Some(value) => write!(f, " : {value}"),
            None => Ok(()),
        }
    }
}
