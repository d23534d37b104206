//! How everyone else talks to the agent's task.

use std::{collections::BTreeMap, sync::Arc};

use tokio::{
    sync::{mpsc, oneshot, watch},
    time::Instant,
};

use super::{
    Applied, Change, DropWatcher, Drops, Event, EventWatch, Meter, View, drop_watch::DropWatch,
    events::Events, reads::Question,
};
use crate::{
    model::{Fault, NicId, Traffic},
    ruleset::Learned,
};

/// Why a change was not made. Nothing of it is in force.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ApplyError {
    /// The change itself is wrong.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Faults(Vec<Fault>),
    /// Its generation is not greater than the one in force, nor the same again.
    #[error("generation: {given} is not greater than {in_force}, which is in force{}",
        if given == in_force { " with other content" } else { "" })]
    Generation {
        /// The one that the change carries.
        given: u64,
        /// The one in force.
        in_force: u64,
    },
    /// The kernel or the disk refused.
    #[error("{0}")]
    Unavailable(String),
}

/// Why something could not be read from the kernel.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ReadError(pub String);

/// What can be asked of the agent's task.
#[derive(Debug)]
pub(super) enum Command {
    Apply(Box<Change>, Reply),
    Read(Question),
}

/// Who waits for what becomes of a change.
#[derive(Debug)]
pub(super) struct Reply {
    pub(super) to: oneshot::Sender<Result<Applied, ApplyError>>,
    pub(super) received: Instant,
    /// Whether it is counted: a dry run is no change.
    pub(super) counted: bool,
}

/// A way to the agent's task. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Handle {
    pub(super) commands: mpsc::Sender<Command>,
    pub(super) view: watch::Receiver<Arc<View>>,
    pub(super) meter: Meter,
    pub(super) events: Events,
    pub(super) drop_watch: DropWatch,
}

impl Handle {
    /// Makes a change. Answers when it is in the kernel and on disk.
    pub async fn apply(&self, change: Change) -> Result<Applied, ApplyError> {
        let stopped = || ApplyError::Unavailable("the agent is stopping".to_owned());
        let (to, answer) = oneshot::channel();
        let reply = Reply {
            to,
            received: Instant::now(),
            counted: !change.dry_run,
        };
        let command = Command::Apply(Box::new(change), reply);
        self.commands.send(command).await.map_err(|_| stopped())?;
        answer.await.map_err(|_| stopped())?
    }

    /// Counts a change that could not even be read.
    pub fn refused(&self) {
        self.meter.refused();
    }

    /// What the agent has counted.
    pub fn meter(&self) -> &Meter {
        &self.meter
    }

    /// What is in force, without waiting for a change that is under way.
    pub fn view(&self) -> Arc<View> {
        Arc::clone(&self.view.borrow())
    }

    /// Each new view as it comes.
    pub fn views(&self) -> watch::Receiver<Arc<View>> {
        self.view.clone()
    }

    /// What was dropped, from the kernel's counters.
    pub async fn drops(&self) -> Result<Drops, ReadError> {
        self.read(Question::Drops).await
    }

    /// What the NICs that are bound have sent and received, by id.
    pub async fn traffic(&self) -> Result<BTreeMap<NicId, Traffic>, ReadError> {
        let by_index = self.read(Question::Traffic).await?;
        let view = self.view();
        let mut by_nic: BTreeMap<NicId, Traffic> = BTreeMap::new();
        for (nic, outcome) in &view.compiled.outcomes {
            for bound in &outcome.bound {
                if let Some(traffic) = by_index.get(&bound.index) {
                    *by_nic.entry(nic.clone()).or_default() += *traffic;
                }
            }
        }
        Ok(by_nic)
    }

    /// What is dropped, from now on; an error where the kernel doesn't show it.
    pub async fn watch_drops(&self) -> Result<DropWatcher, ReadError> {
        match &self.view().identity.no_samples {
            Some(why) => Err(ReadError(why.clone())),
            None => self.drop_watch.watch().await,
        }
    }

    /// The last of what happened, the oldest first, and what happens from now on.
    pub fn watch_events(&self) -> (Vec<Arc<Event>>, EventWatch) {
        self.events.watch()
    }

    /// What is programmed in the kernel, as nft text.
    pub async fn ruleset_text(&self) -> Result<String, ReadError> {
        self.read(Question::RulesetText).await
    }

    /// What the kernel has learned from packets.
    pub(super) async fn learned(&self) -> Result<Learned, ReadError> {
        self.read(Question::Learned).await
    }

    pub(super) async fn read<T>(
        &self,
        question: impl FnOnce(oneshot::Sender<Result<T, ReadError>>) -> Question,
    ) -> Result<T, ReadError> {
        let stopped = || ReadError("the agent is stopping".to_owned());
        let (reply, answer) = oneshot::channel();
        self.commands
            .send(Command::Read(question(reply)))
            .await
            .map_err(|_| stopped())?;
        answer.await.map_err(|_| stopped())?
    }
}
