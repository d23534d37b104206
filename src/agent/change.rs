//! Changes: one transaction for those that wait together.
//!
//! A change that carries a generation, replaces everything or only asks is made alone.
//! Others that wait are made together as long as none names what another has named, so
//! that each is judged, and answered, as if it had come alone. Where the kernel refuses
//! them together, each gets its own try.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use tokio::time::{Instant, timeout};
use tracing::{error, info};

use super::{
    Applied, ApplyError, BridgeView, Change, EventKind,
    actor::Agent,
    adoption::Adoption,
    handle::{Command, Reply},
    meter::Phase,
};
use crate::{
    dataplane::{Dataplane, DataplaneError},
    failpoint::reach,
    link::Host,
    model::{Delta, Desired, Fault, FaultKind, GroupId, Limits, Located, NicId, Summary},
    policy::{Compiled, Numbering, compile},
    store::{Saved, Store, StoreError},
};

/// How many changes may share a transaction.
const TOGETHER: usize = 64;

/// How long to wait for more where the last changes came in a crowd: callers that were
/// just answered are about to come back.
const LINGER: Duration = Duration::from_millis(1);

/// A change that waits for its answer.
type Waiting = (Box<Change>, Reply);

/// What changes name.
#[derive(Default)]
struct Named {
    nics: BTreeSet<NicId>,
    groups: BTreeSet<GroupId>,
}

impl Named {
    /// Adds what a change names, unless some of it is named already.
    fn add(&mut self, delta: &Delta) -> bool {
        let nics = delta.nics.iter().map(|nic| &nic.id);
        let nics: BTreeSet<_> = nics.chain(&delta.remove_nics).cloned().collect();
        let groups = delta.groups.iter().map(|group| &group.id);
        let groups = groups.chain(&delta.remove_groups);
        let groups = groups.chain(delta.members.iter().map(|members| &members.group));
        let groups: BTreeSet<_> = groups.cloned().collect();
        let new = self.nics.is_disjoint(&nics) && self.groups.is_disjoint(&groups);
        if new {
            self.nics.extend(nics);
            self.groups.extend(groups);
        }
        new
    }
}

/// What is to become the acknowledged state.
struct Draft {
    desired: Desired,
    revision: u64,
    adoption: Adoption,
    /// What it is judged and compiled by.
    host: Arc<Located>,
}

impl Draft {
    /// Adds a change, or says what is wrong with it.
    fn add(&mut self, change: &Change, limits: &Limits) -> Result<Summary, ApplyError> {
        let next = self
            .desired
            .change(&change.delta, limits, &self.host)
            .map_err(ApplyError::Faults)?;
        let summary = next.summary(&self.desired);
        self.revision += u64::from(summary != Summary::default());
        self.desired = next;
        Ok(summary)
    }
}

impl<D: Dataplane, H: Host, S: Store> Agent<D, H, S> {
    /// Makes a change and those that wait behind it; gives back a command that was met
    /// and does not belong to them.
    pub(super) async fn changes(&mut self, first: Waiting) -> Option<Command> {
        let mut named = Named::default();
        if !may_share(&first.0) || !named.add(&first.0.delta) {
            self.alone(*first.0, first.1).await;
            return None;
        }
        let mut together = vec![first];
        let mut met = None;
        while together.len() < TOGETHER {
            let linger = if self.crowded { LINGER } else { Duration::ZERO };
            match timeout(linger, self.commands.recv()).await {
                Ok(Some(Command::Apply(change, reply)))
                    if may_share(&change) && named.add(&change.delta) =>
                {
                    together.push((change, reply));
                }
                Ok(other) => {
                    met = other;
                    break;
                }
                Err(_) => break,
            }
        }
        self.crowded = together.len() > 1;
        self.together(together).await;
        met
    }

    /// Makes changes of which each could be made alone.
    async fn together(&mut self, waiting: Vec<Waiting>) {
        self.catch_up().await;
        let mut draft = self.draft();
        let mut accepted = Vec::with_capacity(waiting.len());
        for (change, reply) in waiting {
            self.begun(&reply);
            match draft.add(&change, &self.limits) {
                Ok(summary) => accepted.push((change, reply, summary)),
                Err(error) => self.answer(reply, Err(error)),
            }
        }
        if accepted.is_empty() {
            return;
        }
        let refused = match self.make(draft, None).await {
            Ok(flows_cut) => {
                let view = self.publish();
                for (_, reply, summary) in accepted {
                    let applied = Applied {
                        summary,
                        plan: Vec::new(),
                        flows_cut,
                        adopted: Vec::new(),
                        view: Arc::clone(&view),
                    };
                    self.answer(reply, Ok(applied));
                }
                return;
            }
            Err(error) => error,
        };
        if accepted.len() == 1 || self.trouble.disk.is_some() {
            for (_, reply, _) in accepted {
                self.answer(reply, Err(refused.clone()));
            }
            return;
        }
        for (change, reply, _) in accepted {
            let done = self.change(*change).await;
            self.answer(reply, done);
        }
    }

    /// Makes one change.
    pub(super) async fn alone(&mut self, change: Change, reply: Reply) {
        self.begun(&reply);
        let done = self.change(change).await;
        self.answer(reply, done);
    }

    fn begun(&self, reply: &Reply) {
        if reply.counted {
            self.meter.took(Phase::Wait, reply.received.elapsed());
        }
    }

    /// Nobody may be waiting for the answer any more; the change counts all the same.
    fn answer(&self, reply: Reply, answer: Result<Applied, ApplyError>) {
        if reply.counted {
            self.meter.answered(&answer, reply.received.elapsed());
        }
        reach("answer");
        let _ = reply.to.send(answer);
        reach("answered");
    }

    async fn change(&mut self, change: Change) -> Result<Applied, ApplyError> {
        if self.is_repeated(&change)? {
            return Ok(Applied {
                summary: Summary::default(),
                plan: Vec::new(),
                flows_cut: 0,
                adopted: Vec::new(),
                view: Arc::clone(&self.view.borrow()),
            });
        }
        self.catch_up().await;
        let mut draft = self.draft();
        self.adopt(&mut draft, &change)?;
        let summary = draft.add(&change, &self.limits)?;
        let before = Arc::clone(&self.view.borrow());
        if change.dry_run {
            let mut numbering = self.numbering.clone();
            let compiled = Arc::new(self.compile(&draft, &mut numbering));
            let plan = self.dataplane.preview(&self.plan(&compiled.ruleset));
            let saved = self.saved_from(draft, change.generation);
            let view = Arc::new(self.view_of(&saved, &compiled));
            return Ok(Applied {
                summary,
                plan,
                flows_cut: 0,
                adopted: view.adopted_since(&before),
                view,
            });
        }
        if draft.adoption != self.adoption {
            self.settle(draft.host.snapshot()).await;
        }
        let flows_cut = self.make(draft, change.generation).await?;
        let view = self.publish();
        let adopted = view.adopted_since(&before);
        for BridgeView {
            name, closed_ports, ..
        } in &adopted
        {
            info!(bridge = %name, closed = ?closed_ports, "adopted");
        }
        Ok(Applied {
            summary,
            plan: Vec::new(),
            flows_cut,
            adopted,
            view,
        })
    }

    /// Has the draft enforce what the change adopts.
    fn adopt(&self, draft: &mut Draft, change: &Change) -> Result<(), ApplyError> {
        let interfaces = Arc::clone(&self.interfaces.borrow());
        if change.delta.replace {
            draft.adoption.all();
        }
        if let Some(bridge) = &change.adopt
            && !draft.adoption.one(bridge, &interfaces)
        {
            let text = format!("the configuration does not name bridge {bridge}");
            return Err(ApplyError::Faults(vec![Fault::new(
                FaultKind::Invalid,
                "bridge",
                text,
            )]));
        }
        if draft.adoption != self.adoption {
            draft.host = Arc::new(Located::from(draft.adoption.of(&interfaces)));
        }
        Ok(())
    }

    fn compile(&self, draft: &Draft, numbering: &mut Numbering) -> Compiled {
        if Arc::ptr_eq(&draft.host, &self.compiled.host) {
            self.compiled.next(&draft.desired, numbering)
        } else {
            compile(&draft.desired, &draft.host, numbering)
        }
    }

    /// Takes account of what happened to the interfaces before a change is judged by them.
    async fn catch_up(&mut self) {
        if self.interfaces.has_changed().unwrap_or(false) {
            self.reconcile().await;
        }
    }

    fn draft(&self) -> Draft {
        Draft {
            desired: self.saved.desired.clone(),
            revision: self.saved.revision,
            adoption: self.adoption.clone(),
            host: Arc::clone(&self.compiled.host),
        }
    }

    fn saved_from(&self, draft: Draft, generation: Option<crate::model::Generation>) -> Saved {
        Saved {
            desired: draft.desired,
            generation: generation.or_else(|| self.saved.generation.clone()),
            revision: draft.revision,
            settings: self.saved.settings.clone(),
            adopted: Some(draft.adoption.adopted(&self.interfaces.borrow())),
        }
    }

    /// Puts a draft in force: in the kernel, then on disk; then cuts the flows that it
    /// doesn't allow, and says how many.
    async fn make(
        &mut self,
        draft: Draft,
        generation: Option<crate::model::Generation>,
    ) -> Result<u64, ApplyError> {
        reach("compile");
        let began = Instant::now();
        let mut numbering = self.numbering.clone();
        let compiled = self.compile(&draft, &mut numbering);
        let adoption = draft.adoption.clone();
        self.program(&compiled).await?;
        let in_force = Instant::now();
        self.meter.took(Phase::Kernel, in_force - began);
        self.persist(self.saved_from(draft, generation)).await?;
        let on_disk = Instant::now();
        self.meter.took(Phase::Disk, on_disk - in_force);
        self.adoption = adoption;
        let before = self.advance(compiled);
        self.tell_transitions(&before);
        self.numbering = numbering;
        let flows_cut = self.revoke().await;
        self.meter.took(Phase::Flows, on_disk.elapsed());
        let generation = self.saved.generation.as_ref().map(|g| g.number);
        let nics = self.saved.desired.nics.len();
        let revision = self.saved.revision;
        info!(revision, generation, nics, "applied");
        let text = format!("revision {revision}, {nics} NICs, {flows_cut} flows cut");
        self.events.tell(EventKind::Applied, None, text);
        Ok(flows_cut)
    }

    /// Puts a change in force. Where the kernel refuses, what was acknowledged is put
    /// back, whatever the kernel holds: it may not be what we think.
    async fn program(&mut self, compiled: &Compiled) -> Result<(), ApplyError> {
        let Err(error) = self.enforce(&compiled.ruleset).await else {
            return Ok(());
        };
        error!(%error, "a change was not programmed");
        // Putting it back may take as long again.
        if let DataplaneError::Unknown(_) = error {
            self.failed(&error);
            self.publish();
        }
        self.restore().await;
        self.revoke().await;
        self.publish();
        Err(ApplyError::Unavailable(error.to_string()))
    }

    /// Makes a change that is in the kernel the acknowledged one; where the disk
    /// refuses, the kernel is taken back to what was.
    async fn persist(&mut self, saved: Saved) -> Result<(), ApplyError> {
        match self.commit(&saved).await {
            Ok(()) => {
                self.trouble.disk = None;
                self.saved = saved;
                Ok(())
            }
            Err(error) => Err(self.take_back(&error).await),
        }
    }

    /// Takes the kernel back to what was acknowledged, after the disk refused.
    async fn take_back(&mut self, cause: &StoreError) -> ApplyError {
        error!(error = %cause, "a change could not be written to disk and is taken back");
        self.trouble.disk = Some(cause.to_string());
        reach("take-back");
        if let Err(error) = self.enforce(&Arc::clone(&self.compiled.ruleset)).await {
            self.failed(&error);
        }
        reach("taken-back");
        self.revoke().await;
        self.publish();
        ApplyError::Unavailable(cause.to_string())
    }

    /// Whether a change is the one in force once more; an error if its generation is
    /// stale, or the same with other content.
    fn is_repeated(&self, change: &Change) -> Result<bool, ApplyError> {
        match (&change.generation, &self.saved.generation) {
            (Some(given), Some(in_force)) if given == in_force => match self.trouble.text() {
                // A bridge may have been named since.
                None => Ok(!(change.delta.replace && self.adoption.waits())),
                Some(trouble) => Err(ApplyError::Unavailable(trouble)),
            },
            (Some(given), Some(in_force)) if given.number <= in_force.number => {
                let (given, in_force) = (given.number, in_force.number);
                Err(ApplyError::Generation { given, in_force })
            }
            (Some(_) | None, Some(_) | None) => Ok(false),
        }
    }
}

fn may_share(change: &Change) -> bool {
    change.generation.is_none()
        && !change.dry_run
        && !change.delta.replace
        && change.adopt.is_none()
}
