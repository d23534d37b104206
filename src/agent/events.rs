//! What happens, told to who watches.
//!
//! The last events are kept for who asks later. Who doesn't keep up misses the oldest, and is told
//! how many: nobody is waited for.

use std::{collections::VecDeque, sync::Arc};

use tokio::sync::{broadcast, watch};

use super::times::now_ms;
use crate::{
    model::{NicId, NicState, Outcome, differences},
    policy::Outcomes,
};

/// How many events are kept.
const KEPT: usize = 1_000;

/// How far behind who watches may fall: a full sync of a large host tells of every NIC at once.
const BEHIND: usize = 16_384;

/// What kind of thing happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EventKind {
    /// The agent started, and begins to restore what was acknowledged.
    Started,
    /// A NIC's policy is in force.
    Bound,
    /// A NIC has no interface, and waits for one.
    Unbound,
    /// Something contradicts a NIC; it carries nothing.
    Quarantined,
    /// A NIC is not wanted any more.
    Removed,
    /// A change is in the kernel and on disk.
    Applied,
    /// Somebody else changed something of ours.
    Drifted,
    /// That was repaired.
    Repaired,
    /// What was acknowledged may not be in the kernel or on disk.
    Unhealthy,
    /// It is again.
    Healthy,
}

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Its place in the order of all, from 1 since the agent started.
    pub number: u64,
    /// When, in milliseconds since 1970.
    pub at_ms: u64,
    /// What.
    pub kind: EventKind,
    /// To which NIC; nothing where it is not about one.
    pub nic: Option<NicId>,
    /// In words.
    pub text: String,
}

/// What who watches gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EventNews {
    /// The next event.
    Event(Arc<Event>),
    /// There were so many others meanwhile.
    Missed(u64),
}

/// The events.
#[derive(Debug, Clone)]
pub(super) struct Events {
    /// The last ones, the oldest first.
    past: watch::Sender<VecDeque<Arc<Event>>>,
    news: broadcast::Sender<Arc<Event>>,
}

impl Default for Events {
    fn default() -> Self {
        Self {
            past: watch::Sender::default(),
            news: broadcast::Sender::new(BEHIND),
        }
    }
}

impl Events {
    /// Something happened.
    pub(super) fn tell(&self, kind: EventKind, nic: Option<&NicId>, text: impl Into<String>) {
        let (nic, text) = (nic.cloned(), text.into());
        self.past.send_modify(|past| {
            let event = Arc::new(Event {
                number: past.back().map_or(0, |last| last.number) + 1,
                at_ms: now_ms(),
                kind,
                nic,
                text,
            });
            past.push_back(Arc::clone(&event));
            if past.len() > KEPT {
                past.pop_front();
            }
            // Nobody may be watching.
            let _ = self.news.send(event);
        });
    }

    /// Tells which NICs came into force, lost their interface, were quarantined or went.
    pub(super) fn transitions(&self, before: &Outcomes, after: &Outcomes) {
        for found in differences(before, after) {
            let (kind, text) = found
                .new
                .map_or((EventKind::Removed, String::new()), |outcome| {
                    state(outcome)
                });
            self.tell(kind, Some(found.key), text);
        }
    }

    /// The last of the events that were, the oldest first, and those to come.
    pub(super) fn watch(&self) -> (Vec<Arc<Event>>, EventWatch) {
        // Those to come first: what falls between is in both.
        let news = self.news.subscribe();
        let past: Vec<_> = self.past.borrow().iter().cloned().collect();
        let last = past.last().map_or(0, |event| event.number);
        (past, EventWatch { news, last })
    }
}

fn state(outcome: &Outcome) -> (EventKind, String) {
    match &outcome.state {
        NicState::Active => {
            let port = |bound: &crate::model::Bound| format!("{} on {}", bound.name, bound.bridge);
            let ports: Vec<_> = outcome.bound.iter().map(port).collect();
            (EventKind::Bound, ports.join(", "))
        }
        NicState::Pending(reason) => (EventKind::Unbound, reason.clone()),
        NicState::Quarantined(reason) => (EventKind::Quarantined, reason.clone()),
    }
}

/// Waits for events.
#[derive(Debug)]
pub struct EventWatch {
    news: broadcast::Receiver<Arc<Event>>,
    /// The number of the last one that is known.
    last: u64,
}

impl EventWatch {
    /// The next event; nothing when the agent ends. May be dropped at any time.
    pub async fn next(&mut self) -> Option<EventNews> {
        loop {
            match self.news.recv().await {
                Ok(event) if event.number <= self.last => {}
                Ok(event) => return Some(EventNews::Event(event)),
                Err(broadcast::error::RecvError::Lagged(missed)) => {
                    return Some(EventNews::Missed(missed));
                }
                Err(broadcast::error::RecvError::Closed) => return None,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn who_watches_gets_the_past_and_what_comes_and_nothing_twice() {
        let events = Events::default();
        events.tell(EventKind::Applied, None, "1");
        let (past, mut watch) = events.watch();
        events.tell(EventKind::Applied, None, "2");
        assert_eq!(past.len(), 1);
        let Some(EventNews::Event(event)) = watch.next().await else {
            panic!("no event");
        };
        assert_eq!((event.number, event.text.as_str()), (2, "2"));
        // As if it had been told between the subscription and the look at the past.
        watch.last = 3;
        events.tell(EventKind::Applied, None, "3");
        drop(events);
        assert_eq!(watch.next().await, None);
    }

    #[tokio::test]
    async fn who_falls_behind_is_told_how_far_and_the_last_are_kept() {
        let events = Events::default();
        let (_, mut watch) = events.watch();
        for n in 0..BEHIND + 5 {
            events.tell(EventKind::Applied, None, n.to_string());
        }
        assert_eq!(watch.next().await, Some(EventNews::Missed(5)));
        let (past, _) = events.watch();
        assert_eq!(past.len(), KEPT);
        assert_eq!(past[0].text, (BEHIND + 5 - KEPT).to_string());
    }
}
