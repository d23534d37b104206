//! A way in for `fuzz/`: what the kernel tells of transactions.

use super::{Event, Transaction, take};

/// What is told of datagrams that come one after the other: in words, and by whom; nothing
/// where there may have been more.
pub(in super::super) fn told(datagrams: &[&[u8]]) -> Vec<Option<(String, String)>> {
    let mut current = Transaction::default();
    let words = |event| match event {
        Event::Transaction(one) => {
            let by = one.process.as_ref().map(ToString::to_string);
            Some((one.to_string(), by.unwrap_or_default()))
        }
        Event::Lost => None,
    };
    let taken = datagrams.iter().map(|one| take(&mut current, one));
    taken.flatten().map(words).collect()
}
