//! Reads what there is to know of a NIC's path, and has it judged.

use std::{collections::BTreeSet, sync::Arc};

use tokio::time::sleep;

use super::{
    Drift, DropCount, FlowTable, Handle, ReadError, View,
    reads::{Along, Path, Question},
    recent::LEAST,
};
use crate::{
    model::{Nic, NicId},
    policy::{Check, Facts, Read, Recent, diagnose, located},
    ruleset::{Held, NicNumber},
};

/// How often the rules are looked at where they change meanwhile.
const TRIES: usize = 3;

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnosis {
    /// Every check, in the order of the path.
    pub checks: Vec<Check>,
    /// What was dropped lately, those with most packets first.
    pub recent: Vec<DropCount>,
    /// How long that is, in milliseconds; 0 where it could not be read.
    pub recent_ms: u64,
}

impl Handle {
    /// Goes along the path of a NIC; nothing where there is none of this id.
    pub async fn diagnose(&self, id: &NicId, flows: Option<FlowTable>) -> Option<Diagnosis> {
        let before = self.view();
        before.desired().nics.get(id)?;
        let recent = self.recent(id);
        let learned = self.learned();
        let (recent, learned, (view, held)) = tokio::join!(recent, learned, self.held(id));
        let nic = view.desired().nics.get(id)?;
        let Path { links, shown } = self.path(nic, &view).await;
        // What was changed and repaired while the kernel was read explains what was missing.
        let now = self.view();
        let missing = held.as_ref().is_ok_and(|held| !held.missing.is_empty());
        let matters = |drift: &&Drift| {
            drift.lasted_ms.is_none() || (missing && !before.drifts.contains(drift))
        };
        let drift = now.drifts.iter().find(matters);
        let facts = Facts {
            nic,
            outcome: view.outcome(id),
            host: &view.compiled.host,
            links,
            shown,
            unhealthy: now.unhealthy.as_deref(),
            drift: drift.map(Drift::words),
            held,
            flows: flows.map(|FlowTable { entries, maximum }| (entries, maximum)),
            heard: words(learned.map(|learned| learned.heard_routers)),
            listened: view.loaded.map(|at| at.elapsed().as_secs()),
            recent,
        };
        let checks = diagnose(&facts);
        let Recent { ms, drops } = facts.recent.unwrap_or_default();
        let count = |(reason, packets, bytes): (crate::ruleset::Reason, _, _)| DropCount {
            reason: reason.name().to_owned(),
            packets,
            bytes,
        };
        Some(Diagnosis {
            checks,
            recent: drops.into_iter().map(count).collect(),
            recent_ms: ms,
        })
    }

    /// What was dropped lately. Where nobody has read the counters before, they are read twice.
    async fn recent(&self, id: &NicId) -> Read<Recent> {
        let ask = || self.read(|reply| Question::Recent(reply, id.clone()));
        let mut found = words(ask().await)?;
        if found.is_none() {
            sleep(LEAST).await;
            found = words(ask().await)?;
        }
        found.ok_or_else(|| "the counters were read a moment ago".to_owned())
    }

    /// What of a NIC is in the kernel, with the view that it is wanted by.
    async fn held(&self, id: &NicId) -> (Arc<View>, Read<Held>) {
        let mut view = self.view();
        for _ in 1..TRIES {
            let held = self.held_of(id, &view).await;
            if held.as_ref().is_ok_and(|held| held.missing.is_empty()) {
                return (view, held);
            }
            // A change that was under way when the kernel was read is done with by this turn.
            let _ = self.read(Question::Turn).await;
            let now = self.view();
            if Arc::ptr_eq(&now.compiled.ruleset, &view.compiled.ruleset) {
                return (view, held);
            }
            view = now;
        }
        let held = self.held_of(id, &view).await;
        (view, held)
    }

    async fn held_of(&self, id: &NicId, view: &View) -> Read<Held> {
        let ruleset = &view.compiled.ruleset;
        let number = number(id, view).ok_or_else(|| "the NIC is not in force".to_owned())?;
        let ask = |reply| Question::Held(reply, Arc::clone(ruleset), number);
        words(self.read(ask).await)
    }

    async fn path(&self, nic: &Nic, view: &View) -> Path {
        let host = &view.compiled.host;
        let (interfaces, _) = located(nic, host);
        let bridges = interfaces.iter().filter_map(|link| host.bridge_of(link));
        let bridges: BTreeSet<_> = bridges.map(|bridge| bridge.name.clone()).collect();
        let managed = bridges.iter().filter(|name| host.config_of(name).is_some());
        let behind = view.identity.placement == "br_netfilter";
        let along = Along {
            shown: managed.filter(|_| behind).cloned().collect(),
            links: interfaces
                .iter()
                .map(|link| link.name.clone())
                .chain(bridges)
                .collect(),
        };
        // What is not there is not known.
        let path = self.read(|reply| Question::Path(reply, along)).await;
        path.unwrap_or_default()
    }
}

fn number(id: &NicId, view: &View) -> Option<NicNumber> {
    let mut nics = view.compiled.ruleset.nics.iter();
    nics.find(|(_, nic)| nic.id == *id)
        .map(|(number, _)| *number)
}

fn words<T>(read: Result<T, ReadError>) -> Read<T> {
    read.map_err(|error| error.0)
}
