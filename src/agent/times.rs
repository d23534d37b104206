//! Since when each NIC is what it is. Not kept over a restart.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use crate::{
    model::{NicId, differences},
    policy::Compiled,
};

/// When something of a NIC was last another, in milliseconds since 1970.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct NicTimes {
    /// Its state, the reason and its interfaces.
    pub since_ms: Option<u64>,
    /// What was pushed for it; nothing where that was before the agent started.
    pub changed_at_ms: Option<u64>,
}

/// The times of all NICs.
#[derive(Debug, Clone, Default)]
pub(super) struct Times {
    by_nic: Arc<BTreeMap<NicId, NicTimes>>,
    /// Whether what was on disk is compiled: that is no change.
    begun: bool,
}

impl Times {
    pub(super) fn of(&self, nic: &NicId) -> NicTimes {
        self.by_nic.get(nic).copied().unwrap_or_default()
    }

    /// What is in force becomes another, at this time.
    pub(super) fn advance(&mut self, before: &Compiled, after: &Compiled, now: u64) {
        let changed_at_ms = self.begun.then_some(now);
        self.begun = true;
        for found in differences(&before.desired.nics, &after.desired.nics) {
            let all = Arc::make_mut(&mut self.by_nic);
            if found.new.is_some() {
                all.entry(found.key.clone()).or_default().changed_at_ms = changed_at_ms;
            } else {
                all.remove(found.key);
            }
        }
        for found in differences(&before.outcomes, &after.outcomes) {
            if found.new.is_some() {
                let all = Arc::make_mut(&mut self.by_nic);
                all.entry(found.key.clone()).or_default().since_ms = Some(now);
            }
        }
    }

    /// The times of what would be: what would be another has none.
    pub(super) fn if_it_were(&self, is: &Compiled, would_be: &Compiled) -> Self {
        let mut times = self.clone();
        for found in differences(&is.desired.nics, &would_be.desired.nics) {
            let all = Arc::make_mut(&mut times.by_nic);
            all.entry(found.key.clone()).or_default().changed_at_ms = None;
        }
        for found in differences(&is.outcomes, &would_be.outcomes) {
            let all = Arc::make_mut(&mut times.by_nic);
            all.entry(found.key.clone()).or_default().since_ms = None;
        }
        times
    }
}

/// Milliseconds since 1970, to be told. The wall clock jumps: nothing else may depend on it.
pub(super) fn now_ms() -> u64 {
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH);
    u64::try_from(since_1970.unwrap_or_default().as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{NicState, Outcome};

    fn with(states: &[(&str, NicState)]) -> Compiled {
        let outcome = |(id, state): &(&str, NicState)| {
            let bound = Vec::new();
            let state = state.clone();
            (id.parse().unwrap(), Arc::new(Outcome { state, bound }))
        };
        Compiled {
            outcomes: states.iter().map(outcome).collect(),
            ..Compiled::default()
        }
    }

    #[test]
    fn a_time_moves_with_the_state_and_with_nothing_else() {
        let pending = || NicState::Pending("there is none".to_owned());
        let (none, first) = (with(&[]), with(&[("a", pending()), ("b", pending())]));
        let mut times = Times::default();
        times.advance(&none, &first, 1_000);
        let (a, b): (NicId, NicId) = ("a".parse().unwrap(), "b".parse().unwrap());
        let before = (times.of(&a), times.of(&b));
        assert_eq!(before.0.since_ms, Some(1_000));
        let second = with(&[("a", NicState::Active), ("b", pending())]);
        let dry = times.if_it_were(&first, &second);
        assert_eq!((dry.of(&a).since_ms, dry.of(&b)), (None, before.1));
        assert_eq!((times.of(&a), times.of(&b)), before);
        times.advance(&first, &second, 2_000);
        assert_eq!(times.of(&a).since_ms, Some(2_000));
        assert_eq!(times.of(&b), before.1);
    }
}
