//! The one owner of state.
//!
//! One task owns what is wanted and what is in force. Everyone else holds a
//! [`Handle`], sends a command and awaits the answer. A command, an event of the
//! host's interfaces and a timer all end in the same line: compile, plan, apply,
//! and, for a command, persist and acknowledge.
//!
//! What was acknowledged is in the kernel and on disk. If the kernel refuses, nothing
//! of the change is in force; if the disk does, the kernel is taken back to what was.
//! Whenever it is not known what the kernel holds, all of ours is replaced by what was
//! acknowledged, again and again until it succeeds, and the agent is not healthy
//! meanwhile. What others change of ours is repaired in the same way and told ([`Drift`]).
//!
//! Who watches is told what happens ([`Event`]) and what is dropped ([`DropNews`]) as it comes, and
//! is never waited for.

mod actor;
mod adoption;
mod change;
mod diagnose;
mod drift;
mod drop_watch;
mod drops;
mod events;
mod explain;
mod handle;
mod meter;
mod reads;
mod recent;
mod revoke;
mod settings;
mod status;
mod times;
mod view;

pub use crate::{
    model::Generation,
    policy::{Check, Explanation, FlowState, Found, Glance, Origin, RuleRef, Step, Verdict},
    ruleset::{Reason, Upper},
};
pub use actor::{Agent, Parts};
pub use diagnose::Diagnosis;
pub use drift::Drift;
pub use drop_watch::{DropNews, DropWatcher, DroppedPacket};
pub use events::{Event, EventKind, EventNews, EventWatch};
pub use explain::{ExplainRefusal, Explained, Given, PacketFields, Query, Transport};
pub use handle::{ApplyError, Handle, ReadError};
pub use meter::Meter;
pub use settings::{HostPolicy, restore as restore_settings};
pub use times::NicTimes;
pub use view::{
    Applied, BridgeView, Change, DropCount, Drops, FlowTable, Identity, NicDrops, View,
};
