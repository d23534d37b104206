//! What others changed of ours, and how long it lasted.
//!
//! The tables are repaired as a whole, at once, and then at most once in [`PAUSE`]: whoever
//! repairs them to something else, again and again, must not keep the agent from its
//! work. What is done to them in the meantime belongs to the same drift. Where it is not
//! known whether anything was done, the pause is longer.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use tokio::time::Instant;
use tracing::{info, warn};

use super::{EventKind, events::Events, times::now_ms};
use crate::{dataplane::Tampering, link::Setting};

/// How many drifts are told.
const TOLD: usize = 16;

/// The least time between two repairs of the tables.
const PAUSE: Duration = Duration::from_secs(1);

/// The same, where only events were lost.
const LOST_PAUSE: Duration = Duration::from_secs(60);

/// So many repairs within [`STRIFE_TIME`] are somebody's doing again and again.
const STRIFE: usize = 5;
const STRIFE_TIME: Duration = Duration::from_secs(60);

/// Something of ours that somebody else changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Drift {
    /// What, in words.
    pub what: String,
    /// Who did it; empty where that is not known.
    pub by: String,
    /// When it was noticed, in milliseconds since 1970.
    pub noticed_at_ms: u64,
    /// How long it lasted since then, in milliseconds, where it is repaired.
    pub lasted_ms: Option<u64>,
}

impl Drift {
    /// What, and by whom.
    pub(super) fn words(&self) -> String {
        match self.by.as_str() {
            "" => self.what.clone(),
            by => format!("{} by {by}", self.what),
        }
    }
}

/// The drifts.
#[derive(Debug, Default)]
pub(super) struct Drifts {
    events: Events,
    /// The last ones, by number.
    told: VecDeque<(u64, Drift)>,
    next: u64,
    repaired: u64,
    tables: Tables,
    settings: BTreeMap<Setting, Open>,
}

/// A drift that is not repaired.
#[derive(Debug)]
struct Open {
    number: u64,
    noticed: Instant,
    /// What else was done meanwhile.
    more: usize,
}

/// What is known of our tables.
#[derive(Debug, Default)]
struct Tables {
    open: Option<Open>,
    /// When events were lost that nothing was done about.
    lost: Option<Instant>,
    /// When they were repaired because somebody changed them, and because events were lost.
    repairs: VecDeque<Instant>,
    lost_repair: Option<Instant>,
}

impl Drifts {
    /// Drifts that are told as events, too.
    pub(super) fn new(events: Events) -> Self {
        Self {
            events,
            ..Self::default()
        }
    }

    /// What is told of drifts, the latest first.
    pub(super) fn told(&self) -> Vec<Drift> {
        let latest_first = self.told.iter().rev();
        latest_first.map(|(_, drift)| drift.clone()).collect()
    }

    /// How many were repaired since the start.
    pub(super) fn repaired(&self) -> u64 {
        self.repaired
    }

    /// Whether somebody undoes what the agent does.
    pub(super) fn warning(&self) -> Option<String> {
        let recent = |at: &&Instant| at.elapsed() < STRIFE_TIME;
        let times = self.tables.repairs.iter().filter(recent).count();
        (times >= STRIFE).then(|| {
            format!(
                "somebody changes our tables again and again ({times} repairs within a minute): \
                 see the drifts"
            )
        })
    }

    /// The tables were tampered with; whether that is a drift of its own.
    pub(super) fn tampered(&mut self, tampering: Tampering) -> bool {
        match (tampering, &mut self.tables.open) {
            (Tampering::Lost, _) => {
                self.tables.lost.get_or_insert_with(Instant::now);
                false
            }
            (Tampering::Edited { .. }, Some(open)) => {
                open.more += 1;
                false
            }
            (Tampering::Edited { what, by }, None) => {
                warn!(what, by, "somebody changed the rules");
                self.tables.open = Some(self.notice(what, by));
                true
            }
        }
    }

    /// When the tables are to be repaired, where they are.
    pub(super) fn due(&self) -> Option<Instant> {
        let Tables {
            open,
            lost,
            repairs,
            lost_repair,
        } = &self.tables;
        let after = |noticed: Instant, last: Option<Instant>, pause| {
            last.map_or(noticed, |last| noticed.max(last + pause))
        };
        let edited = open
            .as_ref()
            .map(|open| after(open.noticed, repairs.back().copied(), PAUSE));
        let lost = lost.map(|noticed| after(noticed, *lost_repair, LOST_PAUSE));
        edited.into_iter().chain(lost).min()
    }

    /// The tables were replaced by what was acknowledged.
    pub(super) fn replaced(&mut self) {
        let now = Instant::now();
        if let Some(noticed) = self.tables.lost.take() {
            self.tables.lost_repair = Some(now);
            let lasted = noticed.elapsed();
            warn!(
                ?lasted,
                "events lost: what others did to the rules is not known; they were replaced"
            );
        }
        if let Some(open) = self.tables.open.take() {
            self.tables.repairs.push_back(now);
            if self.tables.repairs.len() > STRIFE {
                self.tables.repairs.pop_front();
            }
            self.close(&open);
        }
    }

    /// A setting that was as wanted is not any more.
    pub(super) fn setting_changed(&mut self, setting: &Setting, found: u64, wanted: u64) {
        if self.settings.contains_key(setting) {
            return;
        }
        let what = format!("{setting} changed from {wanted} to {found}");
        warn!(what, "somebody changed a setting of the host");
        let open = self.notice(what, String::new());
        self.settings.insert(setting.clone(), open);
    }

    /// A setting is as wanted, or no business of ours any more.
    pub(super) fn setting_restored(&mut self, setting: &Setting) {
        if let Some(open) = self.settings.remove(setting) {
            self.close(&open);
        }
    }

    /// Settings of interfaces that are gone, or not ours any more, are repaired no more.
    pub(super) fn keep_settings(&mut self, wanted: impl Fn(&Setting) -> bool) {
        self.settings.retain(|setting, _| wanted(setting));
    }

    fn notice(&mut self, what: String, by: String) -> Open {
        let number = self.next;
        self.next += 1;
        let drift = Drift {
            what,
            by,
            noticed_at_ms: now_ms(),
            lasted_ms: None,
        };
        self.events.tell(EventKind::Drifted, None, drift.words());
        self.told.push_back((number, drift));
        if self.told.len() > TOLD {
            self.told.pop_front();
        }
        Open {
            number,
            noticed: Instant::now(),
            more: 0,
        }
    }

    fn close(&mut self, open: &Open) {
        let lasted_ms = millis(open.noticed.elapsed());
        self.repaired += 1;
        let mut told = self.told.iter_mut();
        let Some((_, drift)) = told.find(|(number, _)| *number == open.number) else {
            info!(lasted_ms, "repaired a drift of long ago");
            return;
        };
        drift.lasted_ms = Some(lasted_ms);
        if open.more > 0 {
            drift.what = format!("{}; and {} more transactions", drift.what, open.more);
        }
        let Drift { what, by, .. } = &*drift;
        warn!(what, by, lasted_ms, "repaired what somebody changed");
        self.events.tell(EventKind::Repaired, None, drift.words());
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn edited(what: &str) -> Tampering {
        Tampering::Edited {
            what: what.to_owned(),
            by: String::new(),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_repair_is_at_once_and_the_next_a_second_later() {
        let mut drifts = Drifts::default();
        assert_eq!(drifts.due(), None);
        drifts.tampered(edited("a"));
        assert_eq!(drifts.due(), Some(Instant::now()));
        drifts.replaced();
        assert_eq!(drifts.due(), None);
        tokio::time::advance(Duration::from_millis(300)).await;
        drifts.tampered(edited("b"));
        drifts.tampered(edited("c"));
        assert_eq!(
            drifts.due(),
            Some(Instant::now() + Duration::from_millis(700))
        );
        assert_eq!(drifts.told()[0].lasted_ms, None);
        tokio::time::advance(Duration::from_millis(700)).await;
        drifts.replaced();
        assert_eq!(drifts.told()[0].what, "b; and 1 more transactions");
        assert_eq!(drifts.told()[0].lasted_ms, Some(700));
        assert_eq!(drifts.repaired(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn lost_events_lead_to_a_repair_at_once_and_then_once_a_minute() {
        let mut drifts = Drifts::default();
        drifts.tampered(Tampering::Lost);
        assert_eq!(drifts.due(), Some(Instant::now()));
        drifts.replaced();
        drifts.tampered(Tampering::Lost);
        assert_eq!(drifts.due(), Some(Instant::now() + LOST_PAUSE));
        drifts.tampered(edited("a"));
        let soon = drifts.due().unwrap();
        assert!(soon <= Instant::now(), "what is known is repaired first");
        drifts.replaced();
        assert_eq!((drifts.repaired(), drifts.due()), (1, None));
    }

    #[tokio::test(start_paused = true)]
    async fn the_last_ones_are_told_and_strife_is_a_warning() {
        let mut drifts = Drifts::default();
        for n in 0..20 {
            assert_eq!(drifts.warning().is_some(), n >= 5, "{n}");
            drifts.tampered(edited(&n.to_string()));
            drifts.replaced();
            tokio::time::advance(Duration::from_secs(2)).await;
        }
        assert_eq!(drifts.told().len(), TOLD);
        assert_eq!(drifts.told()[0].what, "19");
        tokio::time::advance(STRIFE_TIME).await;
        assert_eq!(drifts.warning(), None);
    }
}
