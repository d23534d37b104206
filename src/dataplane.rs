//! The kernel side: programs a [`crate::ruleset::Ruleset`].
//!
//! One transaction for each plan: either all of it is in force or nothing changed ([`nft`]); where
//! there is no nft, one for each of the tools, in an order that opens nothing ([`ip6tables`]).
//! [`exec`] is the only place that starts a process.

use std::future::Future;

use crate::ruleset::{Cut, Held, Learned, NicNumber, Plan, Reason, Ruleset};

pub mod any;
pub mod conntrack;
pub mod exec;
pub mod ip6tables;
pub mod nflog;
pub mod nft;
pub mod orphans;

/// Why the kernel side did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum DataplaneError {
    /// The transaction was refused; nothing changed.
    #[error("the kernel refused the transaction: {0}")]
    Refused(exec::ExecError),
    /// Whether the transaction is in force is not known.
    #[error("it is not known whether the transaction is in force: {0}")]
    Unknown(exec::ExecError),
    /// What the kernel holds could not be read.
    #[error("can't read what the kernel holds: {0}")]
    Unreadable(String),
    /// Flows that lost their permission may live on.
    #[error("{cut} flows were cut, others that lost their permission may live on: {reason}")]
    FlowsLeft {
        /// How many were cut.
        cut: u64,
        /// Why not all.
        reason: String,
    },
}

/// A counter of dropped packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Dropped {
    /// Whose; nobody's for the sum over all.
    pub nic: Option<NicNumber>,
    /// Why.
    pub reason: Reason,
    /// Packets.
    pub packets: u64,
    /// Their octets.
    pub bytes: u64,
}

/// One of the packets that are dropped, as far as it is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sample {
    /// Whose; nothing where no NIC is to blame, or it is not known which.
    pub nic: Option<NicNumber>,
    /// Why.
    pub reason: Reason,
    /// The index of the interface that it came by; a port rather than its bridge.
    pub input: Option<u32>,
    /// The index of the interface that it was to leave by.
    pub output: Option<u32>,
    /// The frame as far as it is known: nothing, or from its Ethernet header on.
    pub link_header: Vec<u8>,
    /// What it carries, as the kernel sees it.
    pub ether_type: u16,
    /// From the network header on, cut off.
    pub payload: Vec<u8>,
}

/// The next of what is dropped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sampled {
    /// A packet.
    Packet(Sample),
    /// There were others, and nobody knows which.
    Lost,
}

/// Packets that are dropped, some of them, as they are dropped.
pub trait Samples: Send + 'static {
    /// The next one. May be dropped at any time; nothing is lost by that.
    fn next(&mut self) -> impl Future<Output = Result<Sampled, DataplaneError>> + Send;
}

/// What somebody else did to what is programmed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Tampering {
    /// Our tables were edited.
    Edited {
        /// How, in words.
        what: String,
        /// Who did it, where that is known.
        by: String,
    },
    /// More happened than could be followed; our tables may have been edited.
    Lost,
}

/// Reads what the kernel holds, beside what programs it: no change waits for that.
pub trait Reader: Send + Sync + 'static {
    /// What shows packets that are dropped.
    type Samples: Samples;

    /// Begins to watch what is dropped.
    fn samples(&self) -> impl Future<Output = Result<Self::Samples, DataplaneError>> + Send;

    /// What was dropped since the rules were loaded.
    fn drops(&self) -> impl Future<Output = Result<Vec<Dropped>, DataplaneError>> + Send;

    /// What the kernel has learned from packets since the rules were loaded.
    fn learned(&self) -> impl Future<Output = Result<Learned, DataplaneError>> + Send;

    /// What is there of one NIC, of what is to be.
    fn held(
        &self,
        wanted: &Ruleset,
        nic: NicNumber,
    ) -> impl Future<Output = Result<Held, DataplaneError>> + Send;

    /// What is programmed, as text.
    fn text(&self) -> impl Future<Output = Result<String, DataplaneError>> + Send;
}

/// The kernel side.
pub trait Dataplane: Send + 'static {
    /// What reads.
    type Reader: Reader;

    /// What reads the kernel, as it is programmed now.
    fn reader(&self) -> Self::Reader;

    /// Whether the kernel holds anything of ours, an earlier agent's too.
    fn is_programmed(&self) -> impl Future<Output = Result<bool, DataplaneError>> + Send;

    /// Carries out a plan in one transaction.
    fn apply(&mut self, plan: &Plan) -> impl Future<Output = Result<(), DataplaneError>> + Send;

    /// Cuts the live flows that what is in force doesn't allow any more (S7), and says how
    /// many. After an error it has to be asked again.
    fn cut(&mut self, cut: &Cut) -> impl Future<Output = Result<u64, DataplaneError>> + Send;

    /// The transaction of a plan in words of the dataplane, a line each.
    fn preview(&self, plan: &Plan) -> Vec<String>;

    /// The next thing that somebody else does to what is programmed. May be dropped at any
    /// time; nothing is lost by that.
    fn tampered(&mut self) -> impl Future<Output = Tampering> + Send;

    /// Removes all that is ours, and nothing else.
    fn purge(&mut self) -> impl Future<Output = Result<(), DataplaneError>> + Send;
}
