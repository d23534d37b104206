//! What became of a NIC on this host.

use super::IfName;

/// An interface that a NIC is bound to.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Bound {
    /// The kernel's name.
    pub name: IfName,
    /// The kernel's index.
    pub index: u32,
    /// The bridge whose port it is.
    pub bridge: IfName,
}

/// Whether a NIC's policy is in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NicState {
    /// It is.
    Active,
    /// Its interface is not there yet, for this reason.
    Pending(String),
    /// Something on the host contradicts it; it carries nothing.
    Quarantined(String),
}

/// What became of a NIC on this host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// Whether its policy is in force.
    pub state: NicState,
    /// What it is bound to; nothing unless active.
    pub bound: Vec<Bound>,
}
