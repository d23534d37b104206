//! What the agent does about drift.

use std::{sync::Arc, time::Duration};

use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at};

use super::{Agent, Dataplane, Host, Store};
use crate::dataplane::Tampering;

/// How often the host's settings are looked at that nobody tells of: sysctls, and the
/// options of a bridge that is down.
const LOOK: Duration = Duration::from_secs(2);

/// When to look.
pub(super) fn looks() -> Interval {
    let mut looks = interval_at(Instant::now() + LOOK, LOOK);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    looks
}

impl<D: Dataplane, H: Host, S: Store> Agent<D, H, S> {
    /// Somebody changed our tables. Whatever is programmed next replaces them.
    pub(super) fn tampered(&mut self, tampering: Tampering) {
        self.kernel = None;
        if self.drifts.tampered(tampering) {
            self.publish();
        }
    }

    /// When our tables are to be repaired. After a failure, that is the next try's.
    pub(super) fn repair_at(&self) -> Option<Instant> {
        match self.trouble.kernel {
            None => self.drifts.due(),
            Some(_) => None,
        }
    }

    pub(super) async fn repair(&mut self) {
        self.restore().await;
        self.publish();
    }

    /// Looks at the settings of the host without an event of its interfaces.
    pub(super) async fn look(&mut self) {
        let interfaces = Arc::clone(&self.interfaces.borrow());
        let told = |agent: &Self| (agent.drifts.told(), agent.settings.warnings().to_vec());
        let before = told(self);
        self.settle(&interfaces).await;
        if told(self) != before {
            self.publish();
        }
    }
}
