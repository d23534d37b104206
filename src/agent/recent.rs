//! What was dropped lately, from counters that only grow.
//!
//! Whoever reads the counters leaves a sample of them here, a few at most; nobody reads them for
//! the sake of it. What the counters have grown by since the oldest sample of the last minute is
//! what was dropped lately.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use tokio::time::Instant;

use super::drops;
use crate::{
    dataplane::Dropped,
    policy::Recent,
    ruleset::{NicNumber, Reason},
};

/// How long ago is lately.
const LATELY: Duration = Duration::from_secs(60);

/// What is younger says too little.
pub(super) const LEAST: Duration = Duration::from_secs(1);

/// The least time between two samples that are kept.
const APART: Duration = Duration::from_secs(15);

type Counts = BTreeMap<(NicNumber, Reason), (u64, u64)>;

/// Readings of the counters, the oldest first.
#[derive(Debug, Default)]
pub(super) struct Samples(VecDeque<(Instant, Counts)>);

impl Samples {
    /// Takes a reading, and says what a NIC lost since the oldest of the last minute; nothing
    /// where there is none that is old enough.
    pub(super) fn take(&mut self, all: &[Dropped], nic: Option<NicNumber>) -> Option<Recent> {
        let now = Instant::now();
        let counts = counts(all);
        self.0.retain(|(at, _)| now.duration_since(*at) <= LATELY);
        let oldest = self.0.front();
        let oldest = oldest.filter(|(at, _)| now.duration_since(*at) >= LEAST);
        let recent = oldest.map(|(at, before)| {
            let ms = u64::try_from(now.duration_since(*at).as_millis()).unwrap_or(u64::MAX);
            let drops = nic.map(|nic| grown(before, &counts, nic));
            Recent {
                ms,
                drops: drops.unwrap_or_default(),
            }
        });
        let last = self.0.back();
        if last.is_none_or(|(at, _)| now.duration_since(*at) >= APART) {
            self.0.push_back((now, counts));
        }
        recent
    }
}

fn counts(all: &[Dropped]) -> Counts {
    let mut counts = Counts::new();
    for dropped in all {
        if let Some(nic) = dropped.nic {
            let sum = counts.entry((nic, dropped.reason)).or_default();
            sum.0 += dropped.packets;
            sum.1 += dropped.bytes;
        }
    }
    counts
}

fn grown(before: &Counts, now: &Counts, nic: NicNumber) -> Vec<(Reason, u64, u64)> {
    let of_nic = now.iter().filter(|((of, _), _)| *of == nic);
    let mut all: Vec<_> = of_nic
        .filter_map(|(key, count)| {
            let was = before.get(key).copied().unwrap_or_default();
            let (packets, bytes) = drops::grown(was, *count)?;
            Some((key.1, packets, bytes))
        })
        .collect();
    all.sort_by_key(|(_, packets, _)| std::cmp::Reverse(*packets));
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dropped(nic: u32, reason: Reason, packets: u64) -> Dropped {
        Dropped {
            nic: Some(NicNumber(nic)),
            reason,
            packets,
            bytes: packets * 100,
        }
    }

    fn took(samples: &mut Samples, spoofed: u64) -> Option<Recent> {
        let all = [
            dropped(1, Reason::SpoofedMac, spoofed),
            dropped(1, Reason::NdRate, 2 * spoofed),
            dropped(2, Reason::SpoofedMac, 900 + spoofed),
        ];
        samples.take(&all, Some(NicNumber(1)))
    }

    #[tokio::test(start_paused = true)]
    async fn what_counters_grew_by_since_the_oldest_sample_was_dropped_lately() {
        let mut samples = Samples::default();
        assert_eq!(took(&mut samples, 5), None);
        assert_eq!(took(&mut samples, 5), None, "too young");
        tokio::time::advance(Duration::from_secs(30)).await;
        let recent = took(&mut samples, 7).unwrap();
        assert_eq!(recent.ms, 30_000);
        let drops = [(Reason::NdRate, 4, 400), (Reason::SpoofedMac, 2, 200)];
        assert_eq!(recent.drops, drops);
        // The first sample is too old by then; the second is not.
        tokio::time::advance(Duration::from_secs(40)).await;
        let recent = took(&mut samples, 7).unwrap();
        assert_eq!((recent.ms, recent.drops), (40_000, Vec::new()));
        tokio::time::advance(Duration::from_secs(100)).await;
        assert_eq!(took(&mut samples, 8), None);
    }

    #[tokio::test(start_paused = true)]
    async fn counters_that_began_anew_count_from_nothing() {
        let mut samples = Samples::default();
        took(&mut samples, 50);
        tokio::time::advance(Duration::from_secs(2)).await;
        let recent = took(&mut samples, 3).unwrap();
        let drops = [(Reason::NdRate, 6, 600), (Reason::SpoofedMac, 3, 300)];
        assert_eq!(recent.drops, drops);
    }
}
