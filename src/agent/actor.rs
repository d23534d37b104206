//! The agent's task.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::{mpsc, oneshot, watch},
    time::{Instant, sleep_until},
};
use tracing::{error, info, warn};

use super::{
    Applied, ApplyError, Change, Handle, HostPolicy, Identity, ReadError, View, drops,
    handle::Command, revoke::Revocation, settings::Settings, status,
};
use crate::{
    dataplane::{Dataplane, DataplaneError},
    link::Host,
    model::{Interfaces, Limits, Summary},
    policy::{Compiled, Numbering, compile},
    ruleset::{Plan, Ruleset},
    store::{Saved, Store, StoreError},
};

/// How many commands may wait.
const QUEUE: usize = 64;

/// How long to wait before the next try after a failure: doubled each time.
const FIRST_RETRY: Duration = Duration::from_millis(500);
const LAST_RETRY: Duration = Duration::from_secs(30);

/// What an agent is made of.
#[derive(Debug)]
pub struct Parts<D, H, S> {
    /// The kernel side.
    pub dataplane: D,
    /// The host's interfaces and settings.
    pub host: H,
    /// The disk.
    pub store: S,
    /// How much may be pushed.
    pub limits: Limits,
    /// What the host's settings are to be.
    pub host_policy: HostPolicy,
    /// What the agent is.
    pub identity: Identity,
}

/// The agent's task.
#[derive(Debug)]
pub struct Agent<D, H, S> {
    dataplane: D,
    host: H,
    store: S,
    limits: Limits,
    identity: Identity,
    settings: Settings,
    interfaces: watch::Receiver<Arc<Interfaces>>,
    commands: mpsc::Receiver<Command>,
    view: watch::Sender<Arc<View>>,
    saved: Saved,
    numbering: Numbering,
    compiled: Compiled,
    ruleset: Arc<Ruleset>,
    /// What the kernel is known to hold.
    kernel: Option<Arc<Ruleset>>,
    revocation: Revocation,
    trouble: Trouble,
}

/// What is wrong, and when to try again.
#[derive(Debug, Default)]
struct Trouble {
    kernel: Option<String>,
    disk: Option<String>,
    flows: Option<String>,
    tries: u32,
    /// When to try again; set by the first look at the trouble.
    next: Option<Instant>,
}

impl Trouble {
    fn text(&self) -> Option<String> {
        let all = [&self.kernel, &self.disk, &self.flows];
        all.into_iter().flatten().next().cloned()
    }

    /// When to try again. Commands that come meanwhile don't put it off.
    fn retry(&mut self) -> Option<Instant> {
        if self.text().is_none() {
            self.next = None;
            return None;
        }
        let pause = FIRST_RETRY.saturating_mul(1 << self.tries.min(10));
        let next = Instant::now() + pause.min(LAST_RETRY);
        Some(*self.next.get_or_insert(next))
    }
}

impl<D: Dataplane, H: Host, S: Store> Agent<D, H, S> {
    /// Restores what was acknowledged, in the kernel too; where that fails, the agent
    /// is not healthy and tries on.
    pub async fn start(parts: Parts<D, H, S>) -> Result<(Self, Handle), StoreError> {
        let Parts {
            dataplane,
            host,
            mut store,
            limits,
            host_policy,
            identity,
        } = parts;
        let saved = store.load().await?;
        let (sender, commands) = mpsc::channel(QUEUE);
        let (view, views) = watch::channel(Arc::new(View::default()));
        let interfaces = host.interfaces();
        let mut agent = Self {
            dataplane,
            host,
            store,
            limits,
            identity,
            settings: Settings::new(host_policy),
            interfaces,
            commands,
            view,
            saved,
            numbering: Numbering::default(),
            compiled: Compiled::default(),
            ruleset: Arc::default(),
            kernel: None,
            revocation: Revocation::default(),
            trouble: Trouble::default(),
        };
        agent.forget_settings().await;
        agent.reconcile().await;
        info!(
            nics = agent.saved.desired.nics.len(),
            groups = agent.saved.desired.groups.len(),
            revision = agent.saved.revision,
            healthy = agent.trouble.text().is_none(),
            "restored what was acknowledged"
        );
        Ok((
            agent,
            Handle {
                commands: sender,
                view: views,
            },
        ))
    }

    /// Works until every [`Handle`] is gone. What is in the kernel stays there.
    pub async fn run(mut self) {
        loop {
            let retry = self.trouble.retry();
            let at = retry.unwrap_or_else(Instant::now);
            tokio::select! {
                command = self.commands.recv() => match command {
                    Some(command) => self.obey(command).await,
                    None => return,
                },
                changed = self.interfaces.changed() => {
                    if changed.is_err() {
                        error!("the host's interfaces are not watched any more");
                        return;
                    }
                    self.reconcile().await;
                }
                () = sleep_until(at), if retry.is_some() => self.retry().await,
            }
        }
    }

    async fn obey(&mut self, command: Command) {
        // Nobody may be waiting for the answer any more; the change counts all the same.
        match command {
            Command::Apply(change, reply) => {
                let answer = self.change(*change).await;
                let _ = reply.send(answer);
            }
            Command::Drops(reply) => {
                let counted = self.dataplane.drops().await;
                let answer = counted
                    .map(|all| drops::tally(&all, &self.numbering))
                    .map_err(|error| ReadError(error.to_string()));
                let _ = reply.send(answer);
            }
            Command::RulesetText(reply) => self.text(reply).await,
        }
    }

    async fn text(&mut self, reply: oneshot::Sender<Result<String, ReadError>>) {
        let text = self.dataplane.text().await;
        let _ = reply.send(text.map_err(|error| ReadError(error.to_string())));
    }

    async fn change(&mut self, change: Change) -> Result<Applied, ApplyError> {
        if self.is_repeated(&change)? {
            return Ok(Applied {
                summary: Summary::default(),
                plan: Vec::new(),
                flows_cut: 0,
                view: Arc::clone(&self.view.borrow()),
            });
        }
        let interfaces = Arc::clone(&self.interfaces.borrow());
        let desired = self
            .saved
            .desired
            .change(&change.delta, &self.limits, &interfaces)
            .map_err(ApplyError::Faults)?;
        let summary = desired.summary(&self.saved.desired);
        let mut numbering = self.numbering.clone();
        let compiled = compile(&desired, &interfaces, &mut numbering);
        let ruleset = Arc::new(compiled.ruleset.clone());
        if !change.dry_run {
            self.settle(&interfaces).await;
        }
        let grown = u64::from(summary != Summary::default());
        let saved = Saved {
            desired,
            generation: change.generation.or_else(|| self.saved.generation.clone()),
            revision: self.saved.revision + grown,
            settings: self.saved.settings.clone(),
        };
        if change.dry_run {
            return Ok(Applied {
                summary,
                plan: self.dataplane.preview(&self.plan(&ruleset)),
                flows_cut: 0,
                view: Arc::new(self.view_of(&saved, &compiled, &interfaces)),
            });
        }
        self.program(&ruleset).await?;
        self.persist(saved).await?;
        status::log_transitions(&self.compiled.outcomes, &compiled.outcomes);
        self.numbering = numbering;
        self.compiled = compiled;
        self.ruleset = ruleset;
        let flows_cut = self.revoke().await;
        let generation = self.saved.generation.as_ref().map(|g| g.number);
        let nics = self.saved.desired.nics.len();
        info!(revision = self.saved.revision, generation, nics, "applied");
        Ok(Applied {
            summary,
            plan: Vec::new(),
            flows_cut,
            view: self.publish(),
        })
    }

    /// Makes a change that is in the kernel the acknowledged one; where the disk
    /// refuses, the kernel is taken back to what was.
    async fn persist(&mut self, saved: Saved) -> Result<(), ApplyError> {
        match self.store.commit(&self.saved, &saved).await {
            Ok(()) => {
                self.trouble.disk = None;
                self.saved = saved;
                Ok(())
            }
            Err(error) => Err(self.take_back(&error).await),
        }
    }

    /// Whether a change is the one in force once more; an error if its generation is
    /// stale, or the same with other content.
    fn is_repeated(&self, change: &Change) -> Result<bool, ApplyError> {
        match (&change.generation, &self.saved.generation) {
            (Some(given), Some(in_force)) if given == in_force => match self.trouble.text() {
                None => Ok(true),
                Some(trouble) => Err(ApplyError::Unavailable(trouble)),
            },
            (Some(given), Some(in_force)) if given.number <= in_force.number => {
                let (given, in_force) = (given.number, in_force.number);
                Err(ApplyError::Generation { given, in_force })
            }
            (Some(_) | None, Some(_) | None) => Ok(false),
        }
    }

    fn plan(&self, to: &Arc<Ruleset>) -> Plan {
        match &self.kernel {
            Some(from) => Plan::between(from, to),
            None => Plan::replace(to),
        }
    }

    /// Puts a ruleset in force, from what the kernel is known to hold. After a failure
    /// that is not known any more.
    async fn enforce(&mut self, to: &Arc<Ruleset>) -> Result<(), DataplaneError> {
        let plan = self.plan(to);
        let done = self.dataplane.apply(&plan).await;
        // After a failure it may have been in force for a moment.
        self.revocation.advance(&plan);
        self.kernel = done.is_ok().then_some(plan.to);
        if done.is_ok() {
            self.trouble.kernel = None;
        }
        done
    }

    /// Replaces whatever the kernel holds by what was acknowledged.
    async fn restore(&mut self) {
        self.kernel = None;
        if let Err(error) = self.enforce(&Arc::clone(&self.ruleset)).await {
            self.failed(&error);
        }
    }

    /// Puts a change in force. Where the kernel refuses, what was acknowledged is put
    /// back, whatever the kernel holds: it may not be what we think.
    async fn program(&mut self, to: &Arc<Ruleset>) -> Result<(), ApplyError> {
        let Err(error) = self.enforce(to).await else {
            return Ok(());
        };
        error!(%error, "a change was not programmed");
        self.restore().await;
        self.revoke().await;
        self.publish();
        Err(ApplyError::Unavailable(error.to_string()))
    }

    /// Takes the kernel back to what was acknowledged, after the disk refused.
    async fn take_back(&mut self, cause: &StoreError) -> ApplyError {
        error!(error = %cause, "a change could not be written to disk and is taken back");
        self.trouble.disk = Some(cause.to_string());
        if let Err(error) = self.enforce(&Arc::clone(&self.ruleset)).await {
            self.failed(&error);
        }
        self.revoke().await;
        self.publish();
        ApplyError::Unavailable(cause.to_string())
    }

    /// Compiles what was acknowledged for the interfaces as they are, and programs it.
    async fn reconcile(&mut self) {
        let interfaces = Arc::clone(&self.interfaces.borrow_and_update());
        self.settle(&interfaces).await;
        let compiled = compile(&self.saved.desired, &interfaces, &mut self.numbering);
        status::log_transitions(&self.compiled.outcomes, &compiled.outcomes);
        self.ruleset = Arc::new(compiled.ruleset.clone());
        self.compiled = compiled;
        if let Err(error) = self.enforce(&Arc::clone(&self.ruleset)).await {
            warn!(%error, "the rules could not be changed and are replaced");
            self.restore().await;
        }
        self.revoke().await;
        self.publish();
    }

    /// Cuts the flows that what is in force and acknowledged doesn't allow any more; says
    /// how many. What fails is tried again, and makes the agent unhealthy until it succeeds.
    async fn revoke(&mut self) -> u64 {
        if self.kernel.is_none() {
            return 0;
        }
        let desired = &self.saved.desired;
        let (cut, trouble) = self.revocation.cut(&mut self.dataplane, desired).await;
        self.trouble.flows = trouble;
        cut
    }

    fn failed(&mut self, error: &DataplaneError) {
        error!(%error, "the rules are not known to be in force");
        self.trouble.kernel = Some(error.to_string());
    }

    async fn retry(&mut self) {
        self.trouble.tries = self.trouble.tries.saturating_add(1);
        self.trouble.next = None;
        if self.trouble.disk.is_some() {
            match self.store.commit(&self.saved, &self.saved).await {
                Ok(()) => self.trouble.disk = None,
                Err(error) => self.trouble.disk = Some(error.to_string()),
            }
        }
        self.reconcile().await;
        if self.trouble.text().is_none() {
            info!(tries = self.trouble.tries, "healthy again");
            self.trouble.tries = 0;
        }
        self.publish();
    }

    /// Makes the host's settings what the rules need, each on record before it changes.
    async fn settle(&mut self, interfaces: &Interfaces) {
        let found = self
            .settings
            .examine(&self.host, interfaces, &self.saved.settings)
            .await;
        if found.is_empty() {
            return;
        }
        let mut saved = self.saved.clone();
        super::settings::forget_absent(&mut saved.settings, interfaces);
        for (setting, before, _) in &found {
            let name = super::settings::key(setting);
            saved.settings.entry(name).or_insert(*before);
        }
        if let Err(error) = self.store.commit(&self.saved, &saved).await {
            self.trouble.disk = Some(error.to_string());
            self.settings.postponed(&error.to_string());
            return;
        }
        self.saved = saved;
        self.settings.set(&self.host, &found).await;
    }

    /// Restores settings of bridges that are managed no more.
    async fn forget_settings(&mut self) {
        let interfaces = Arc::clone(&self.interfaces.borrow());
        let stale = self.settings.stale(&interfaces, &self.saved.settings);
        if stale.is_empty() {
            return;
        }
        let failed = super::settings::restore(&self.host, &stale).await;
        for why in failed.values() {
            warn!(why, "a setting could not be restored");
        }
        let mut saved = self.saved.clone();
        saved
            .settings
            .retain(|name, _| failed.contains_key(name) || !stale.contains_key(name));
        match self.store.commit(&self.saved, &saved).await {
            Ok(()) => self.saved = saved,
            Err(error) => self.trouble.disk = Some(error.to_string()),
        }
    }

    fn publish(&mut self) -> Arc<View> {
        let interfaces = Arc::clone(&self.interfaces.borrow());
        let view = Arc::new(self.view_of(&self.saved, &self.compiled, &interfaces));
        self.view.send_replace(Arc::clone(&view));
        view
    }

    fn view_of(&self, saved: &Saved, compiled: &Compiled, interfaces: &Interfaces) -> View {
        let mut warnings = self.settings.warnings().to_vec();
        warnings.extend(self.settings.memory_warning(compiled.ruleset.nics.len()));
        warnings.extend(status::warnings(compiled));
        View {
            desired: saved.desired.clone(),
            outcomes: compiled.outcomes.clone(),
            generation: saved
                .generation
                .as_ref()
                .map(|generation| generation.number),
            revision: saved.revision,
            unhealthy: self.trouble.text(),
            identity: self.identity.clone(),
            limitations: status::limitations(self.settings.unsupported()),
            unprotected: status::unprotected(interfaces),
            warnings,
            bridges: status::bridges(compiled, interfaces),
        }
    }
}
