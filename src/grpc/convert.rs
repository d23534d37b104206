//! Messages of the API into values of the model, and back.
//!
//! Into the model every field of a message is looked at, and each of its faults is
//! collected with the path of the field, in the order of the fields. The messages are
//! taken apart without `..`, so that a field that is new in the API does not compile
//! until it is handled here.

mod change;
mod diagnose;
mod enums;
mod explain;
mod fingerprint;
mod group;
mod nic;
mod overview;
mod path;
mod read;
#[cfg(test)]
mod tests;
mod text;
mod watch;

pub(super) use change::adopt;
pub use change::{Synced, apply, sync};
pub(super) use diagnose::diagnosed;
pub(super) use explain::{explain, explained};
pub(super) use overview::bridge;
pub use overview::{group_info, group_infos, status};
pub use read::{
    drop_counts, group, member, nic, nic_drops, nic_info, nic_status, nic_traffic, summary,
};

pub(super) use enums::nic_state;
pub(super) use fingerprint::hex;
pub(super) use path::{Faults, Path};
pub(super) use text::{group_id, nic_id, reason};
pub(super) use watch::{WantedDrops, event, event_news, is_about};
