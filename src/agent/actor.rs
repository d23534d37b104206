//! The agent's task.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::{mpsc, watch},
    time::{Instant, sleep_until},
};
use tracing::{error, info, warn};

use super::{
    EventKind, Handle, HostPolicy, Identity, Meter, View, adoption::Adoption, drift::Drifts,
    drop_watch::DropWatch, events::Events, handle::Command, meter::Failure, reads::Reads,
    revoke::Revocation, settings::Settings, status, times::Times,
};
use crate::{
    dataplane::{Dataplane, DataplaneError},
    failpoint::reach,
    link::Host,
    model::{Interfaces, Limits, Located, Reading},
    policy::{Compiled, Numbering, compile},
    ruleset::{Plan, Ruleset},
    store::{Saved, Store, StoreError},
};

mod repair;

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
    /// What counts its work.
    pub meter: Meter,
}

/// The agent's task.
#[derive(Debug)]
pub struct Agent<D, H, S> {
    pub(super) dataplane: D,
    host: Arc<H>,
    pub(super) store: S,
    pub(super) limits: Limits,
    identity: Identity,
    settings: Settings,
    pub(super) interfaces: watch::Receiver<Arc<Interfaces>>,
    pub(super) commands: mpsc::Receiver<Command>,
    pub(super) view: watch::Sender<Arc<View>>,
    pub(super) saved: Saved,
    pub(super) numbering: Numbering,
    pub(super) compiled: Arc<Compiled>,
    /// What the kernel is known to hold.
    kernel: Option<Arc<Ruleset>>,
    pub(super) revocation: Revocation,
    pub(super) trouble: Trouble,
    /// Whether the last changes came together, and more are likely to.
    pub(super) crowded: bool,
    pub(super) drifts: Drifts,
    reads: Reads,
    times: Times,
    pub(super) events: Events,
    /// When our tables were last loaded whole.
    loaded: Option<Instant>,
    pub(super) meter: Meter,
    /// What is not enforced yet.
    pub(super) adoption: Adoption,
}

/// What is wrong, and when to try again.
#[derive(Debug, Default)]
pub(super) struct Trouble {
    kernel: Option<String>,
    pub(super) disk: Option<String>,
    pub(super) flows: Option<String>,
    tries: u32,
    /// When to try again; set by the first look at the trouble.
    next: Option<Instant>,
}

impl Trouble {
    pub(super) fn text(&self) -> Option<String> {
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
            meter,
        } = parts;
        reach("start");
        let saved = store.load().await?;
        reach("start-loaded");
        let (sender, commands) = mpsc::channel(QUEUE);
        let (view, views) = watch::channel(Arc::new(View::default()));
        let interfaces = host.interfaces();
        let events = Events::default();
        let drop_watch = DropWatch::start(dataplane.reader(), sender.downgrade(), views.clone());
        let mut agent = Self {
            dataplane,
            host: Arc::new(host),
            store,
            limits,
            identity,
            settings: Settings::new(host_policy),
            interfaces,
            commands,
            view,
            saved,
            numbering: Numbering::default(),
            compiled: Arc::default(),
            kernel: None,
            revocation: Revocation::default(),
            trouble: Trouble::default(),
            crowded: false,
            drifts: Drifts::new(events.clone()),
            reads: Reads::default(),
            times: Times::default(),
            events: events.clone(),
            loaded: None,
            meter,
            adoption: Adoption::default(),
        };
        let what = format!("{} NICs to restore", agent.saved.desired.nics.len());
        agent.events.tell(EventKind::Started, None, what);
        agent.decide_adoption().await;
        agent.forget_settings().await;
        agent.reconcile().await;
        reach("start-applied");
        agent.log_start();
        let handle = Handle {
            commands: sender,
            view: views,
            meter: agent.meter.clone(),
            events,
            drop_watch,
        };
        Ok((agent, handle))
    }

    fn log_start(&self) {
        info!(
            nics = self.saved.desired.nics.len(),
            groups = self.saved.desired.groups.len(),
            revision = self.saved.revision,
            healthy = self.trouble.text().is_none(),
            "restored what was acknowledged"
        );
    }

    /// Works until every [`Handle`] is gone. What is in the kernel stays there.
    pub async fn run(mut self) {
        let mut looks = repair::looks();
        loop {
            let retry = self.trouble.retry();
            let at = retry.unwrap_or_else(Instant::now);
            let repair = self.repair_at();
            let repair_at = repair.unwrap_or_else(Instant::now);
            tokio::select! {
                command = self.commands.recv() => match command {
                    Some(Command::Apply(change, reply)) => {
                        let next = self.changes((change, reply)).await;
                        if let Some(command) = next {
                            self.obey(command).await;
                        }
                    }
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
                tampering = self.dataplane.tampered() => self.tampered(tampering),
                () = sleep_until(repair_at), if repair.is_some() => self.repair().await,
                _ = looks.tick() => self.look().await,
            }
        }
    }

    async fn obey(&mut self, command: Command) {
        // Nobody may be waiting for the answer any more; the change counts all the same.
        match command {
            Command::Apply(change, reply) => self.alone(*change, reply).await,
            Command::Read(question) => {
                let kernel = (self.dataplane.reader(), Arc::clone(&self.host));
                self.reads.begin(question, kernel, self.numbering.clone());
            }
        }
    }

    pub(super) fn plan(&self, to: &Arc<Ruleset>) -> Plan {
        match &self.kernel {
            Some(from) => Plan::between(from, to),
            None => Plan::replace(to),
        }
    }

    /// Puts a ruleset in force, from what the kernel is known to hold. After a failure
    /// that is not known any more.
    pub(super) async fn enforce(&mut self, to: &Arc<Ruleset>) -> Result<(), DataplaneError> {
        reach("plan");
        let plan = self.plan(to);
        let done = self.dataplane.apply(&plan).await;
        reach("in-force");
        // After a failure it may have been in force for a moment.
        self.revocation.advance(&plan);
        self.kernel = done.is_ok().then(|| Arc::clone(&plan.to));
        if done.is_ok() {
            self.trouble.kernel = None;
            if plan.from.is_none() {
                self.loaded = Some(Instant::now());
                self.drifts.replaced();
            }
        } else {
            self.meter.failed(Failure::Kernel);
        }
        done
    }

    /// Replaces whatever the kernel holds by what was acknowledged.
    pub(super) async fn restore(&mut self) {
        self.kernel = None;
        if let Err(error) = self.enforce(&Arc::clone(&self.compiled.ruleset)).await {
            self.failed(&error);
        }
    }

    /// Compiles what was acknowledged for the interfaces as they are, and programs it.
    pub(super) async fn reconcile(&mut self) {
        let interfaces = self.adoption.of(&self.interfaces.borrow_and_update());
        self.settle(&interfaces).await;
        let host = if Arc::ptr_eq(self.compiled.host.snapshot(), &interfaces) {
            Arc::clone(&self.compiled.host)
        } else {
            Arc::new(Located::from(interfaces))
        };
        let compiled = compile(&self.saved.desired, &host, &mut self.numbering);
        let before = self.advance(compiled);
        if let Err(error) = self.enforce(&Arc::clone(&self.compiled.ruleset)).await {
            warn!(%error, "the rules could not be changed and are replaced");
            self.restore().await;
        }
        self.tell_transitions(&before);
        self.revoke().await;
        self.publish();
    }

    /// Tells what became of NICs, when it is in force.
    pub(super) fn tell_transitions(&self, before: &Compiled) {
        let (before, after) = (&before.outcomes, &self.compiled.outcomes);
        status::log_transitions(before, after);
        self.events.transitions(before, after);
    }

    /// What is compiled becomes what is in force, or what is to be; gives back what was.
    pub(super) fn advance(&mut self, compiled: Compiled) -> Arc<Compiled> {
        let now = super::times::now_ms();
        self.times.advance(&self.compiled, &compiled, now);
        std::mem::replace(&mut self.compiled, Arc::new(compiled))
    }

    /// Cuts the flows that what is in force and acknowledged doesn't allow any more; says
    /// how many. What fails is tried again, and makes the agent unhealthy until it succeeds.
    pub(super) async fn revoke(&mut self) -> u64 {
        if self.kernel.is_none() {
            return 0;
        }
        let desired = &self.saved.desired;
        reach("cut");
        let (cut, trouble) = self.revocation.cut(&mut self.dataplane, desired).await;
        reach("cut-done");
        self.meter.cut(cut);
        if trouble.is_some() {
            self.meter.failed(Failure::Flows);
        }
        self.trouble.flows = trouble;
        cut
    }

    /// Writes to disk what is to be the acknowledged state.
    pub(super) async fn commit(&mut self, saved: &Saved) -> Result<(), StoreError> {
        let done = self.store.commit(&self.saved, saved).await;
        if done.is_err() {
            self.meter.failed(Failure::Disk);
        }
        done
    }

    pub(super) fn failed(&mut self, error: &DataplaneError) {
        error!(%error, "the rules are not known to be in force");
        self.trouble.kernel = Some(error.to_string());
    }

    async fn retry(&mut self) {
        self.trouble.tries = self.trouble.tries.saturating_add(1);
        self.trouble.next = None;
        if self.trouble.disk.is_some() {
            match self.commit(&self.saved.clone()).await {
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
    pub(super) async fn settle(&mut self, interfaces: &Interfaces) {
        let found = self
            .settings
            .examine(
                &*self.host,
                interfaces,
                &self.saved.settings,
                &mut self.drifts,
            )
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
        if let Err(error) = self.commit(&saved).await {
            self.trouble.disk = Some(error.to_string());
            self.settings.postponed(&error.to_string());
            return;
        }
        self.saved = saved;
        self.settings
            .set(&*self.host, &found, &mut self.drifts)
            .await;
    }

    /// Restores settings of bridges that are managed no more.
    async fn forget_settings(&mut self) {
        let interfaces = Arc::clone(&self.interfaces.borrow());
        let stale = self.settings.stale(&interfaces, &self.saved.settings);
        if stale.is_empty() {
            return;
        }
        let failed = super::settings::restore(&*self.host, &stale).await;
        for why in failed.values() {
            warn!(why, "a setting could not be restored");
        }
        let mut saved = self.saved.clone();
        saved
            .settings
            .retain(|name, _| failed.contains_key(name) || !stale.contains_key(name));
        match self.commit(&saved).await {
            Ok(()) => self.saved = saved,
            Err(error) => self.trouble.disk = Some(error.to_string()),
        }
    }

    pub(super) fn publish(&mut self) -> Arc<View> {
        let view = Arc::new(self.view_of(&self.saved, &self.compiled));
        let before = self.view.send_replace(Arc::clone(&view));
        match (&before.unhealthy, &view.unhealthy) {
            (Some(_), None) => self.events.tell(EventKind::Healthy, None, ""),
            (was, Some(why)) if was.as_ref() != Some(why) => {
                self.events.tell(EventKind::Unhealthy, None, why);
            }
            (Some(_) | None, _) => {}
        }
        view
    }

    pub(super) fn view_of(&self, saved: &Saved, compiled: &Arc<Compiled>) -> View {
        let mut warnings = self.settings.warnings().to_vec();
        warnings.extend(self.settings.memory_warning(compiled.ruleset.nics.len()));
        warnings.extend(self.drifts.warning());
        if let Reading::Failed(why) = &compiled.host.xen.reading {
            warnings.push(why.clone());
        }
        let times = if Arc::ptr_eq(compiled, &self.compiled) {
            self.times.clone()
        } else {
            self.times.if_it_were(&self.compiled, compiled)
        };
        View {
            compiled: Arc::clone(compiled),
            generation: saved.generation.as_ref().map(|given| given.number),
            revision: saved.revision,
            unhealthy: self.trouble.text(),
            identity: self.identity.clone(),
            limitations: status::limitations(&self.identity, self.settings.unsupported()),
            host_warnings: warnings,
            drifts: self.drifts.told(),
            drift_repairs: self.drifts.repaired(),
            times,
            loaded: self.loaded,
        }
    }
}
