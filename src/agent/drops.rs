//! Adds up what the kernel's counters say.

use std::collections::BTreeMap;

use super::{DropCount, Drops, NicDrops};
use crate::{
    dataplane::Dropped,
    model::NicId,
    policy::Numbering,
    ruleset::{NicNumber, Reason},
};

type Sums = BTreeMap<Reason, (u64, u64)>;

/// By NIC and in all. Counters of NICs that are gone count only in the sum.
pub(super) fn tally(all: &[Dropped], numbering: &Numbering) -> Drops {
    let mut totals = Sums::new();
    let mut by_number: BTreeMap<NicNumber, Sums> = BTreeMap::new();
    for Dropped {
        nic,
        reason,
        packets,
        bytes,
    } in all
    {
        let sums = match nic {
            Some(number) => by_number.entry(*number).or_default(),
            None => &mut totals,
        };
        let sum = sums.entry(*reason).or_default();
        sum.0 += packets;
        sum.1 += bytes;
    }
    let by_nic: BTreeMap<&NicId, Sums> = numbering
        .nics()
        .filter_map(|(number, nic)| Some((nic, by_number.remove(&number)?)))
        .collect();
    let nics = by_nic.into_iter().map(|(nic, sums)| NicDrops {
        nic: nic.clone(),
        drops: counts(sums),
    });
    Drops {
        nics: nics.collect(),
        totals: counts(totals),
    }
}

/// What a counter of packets and octets has grown by; nothing where it has not. One that is smaller
/// than before began anew, with the rules.
pub(super) fn grown(was: (u64, u64), now: (u64, u64)) -> Option<(u64, u64)> {
    let was = if was.0 > now.0 { (0, 0) } else { was };
    (now.0 > was.0).then(|| (now.0 - was.0, now.1.saturating_sub(was.1)))
}

fn counts(sums: Sums) -> Vec<DropCount> {
    sums.into_iter()
        .filter(|(_, (packets, _))| *packets > 0)
        .map(|(reason, (packets, bytes))| DropCount {
            reason: reason.name().to_owned(),
            packets,
            bytes,
        })
        .collect()
}
