//! Ways in for `fuzz/`: the messages of a stream, refusals, and tokens of pages.

use tonic::Status;

use super::{convert::Faults, join::Join, page::Page, status};
use crate::{
    model::{Fault, Limits, NicId},
    pb,
};

/// The messages of a sync, joined.
pub fn join(
    messages: Vec<pb::SyncRequest>,
    limits: Limits,
    max_octets: usize,
) -> Result<pb::SyncRequest, Fault> {
    let mut join = Join::new(limits, max_octets);
    for message in messages {
        join.add(message)?;
    }
    join.finish()
}

/// The status that names faults.
pub fn refused(faults: &[Fault]) -> Status {
    status::refused(faults)
}

/// The NIC after which the page of a token begins.
pub fn page(token: &str) -> Option<NicId> {
    Page::parse(&mut Faults::default(), "nics", (0, 1_000), token).after
}
