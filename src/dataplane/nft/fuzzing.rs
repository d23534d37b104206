//! Ways in for `fuzz/`: what nft prints, what the kernel tells of transactions, and the
//! JSON that is made of a plan.

use std::net::Ipv6Addr;

use super::{batch::Batch, json, listing, monitor, revoked, skeleton::Placement};
use crate::{
    dataplane::{DataplaneError, Dropped},
    ruleset::{Flow, Plan, Ruleset},
};

/// What each of the readers of counters makes of a listing.
pub fn drops(text: &str, ruleset: &Ruleset) -> [Result<Vec<Dropped>, DataplaneError>; 3] {
    [
        listing::counters(text),
        listing::nic_drops(text),
        listing::port_drops(text, ruleset),
    ]
}

/// The addresses in the listing of a set of marks and addresses, or of protocols and addresses.
pub fn addresses(text: &str) -> [Result<Vec<Ipv6Addr>, DataplaneError>; 2] {
    let by_mark = listing::by_address::<u32>(text);
    let by_protocol = listing::by_address::<String>(text);
    [
        by_mark.map(|all| all.into_iter().map(|(_, address)| address).collect()),
        by_protocol.map(|all| all.into_iter().map(|(_, address)| address).collect()),
    ]
}

/// The sets of flows that were cut.
pub fn revoked_sets() -> impl Iterator<Item = &'static str> {
    revoked::sets()
}

/// The flows in the listing of such a set, and the text that puts them there again.
pub fn revoked(
    set: &'static str,
    text: &str,
    ruleset: &Ruleset,
) -> Result<(Vec<Flow>, String), DataplaneError> {
    let all = revoked::parse("ip6", set, text, ruleset)?;
    let (elements, flows): (Vec<_>, Vec<_>) = all.into_iter().unzip();
    Ok((flows, revoked::edits(&[], &elements)))
}

/// What is told of datagrams about transactions: in words, and by whom; nothing where
/// there may have been more.
pub fn told(datagrams: &[&[u8]]) -> Vec<Option<(String, String)>> {
    monitor::fuzzing::told(datagrams)
}

/// The JSON of a plan that is of elements only.
pub fn json(plan: &Plan, placement: Placement) -> Option<String> {
    let batch = Batch::of(plan, placement);
    let (remove, add) = batch.only_elements()?;
    Some(json::document(remove, add))
}
