//! The nftables dataplane.
//!
//! A fixed skeleton ([`skeleton`]), which a person can read, and data in sets and maps
//! ([`fragment`]). The first load, and whenever it is not known what the kernel holds,
//! replaces our tables whole in one transaction; after that a plan becomes the edits
//! between the fragments of each object before and after ([`batch`]): elements only,
//! as JSON ([`json`]), unless groups or prefix lengths change, which is text.
//!
//! The table of the guests' ports ([`skeleton::ports`]) is the exception: it names
//! devices, one that vanished fails its transaction, and so it has one of its own, after
//! the other. Until that one is made, a new port is closed or bound all the same.

use std::{fmt::Write as _, sync::Arc, time::Duration};

use tracing::{debug, warn};

use super::{Dataplane, DataplaneError, Tampering, conntrack, exec, exec::ExecError};
use crate::{
    failpoint::reach,
    ruleset::{Cut, Flow, Object, Pardon, Plan, Ruleset, Selector, name},
};

mod batch;
mod element;
mod fragment;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
mod held;
mod json;
mod listing;
mod monitor;
mod probe;
mod reader;
mod revoked;
mod rule;
pub mod skeleton;

pub use probe::{Ability, ProbeError, can};
pub use skeleton::{Parameters, Placement};

use batch::Batch;
use monitor::{Monitor, Ran};
pub use reader::Reader;

/// How long `nft` may take. A load of 5,000 NICs takes a fraction of a second.
const LIMIT: Duration = Duration::from_secs(30);

/// How nft says that a device of a netdev chain does not exist.
const NO_SUCH_DEVICE: &str = "No such file or directory";

/// The nftables dataplane: our tables, programmed by the `nft` program.
#[derive(Debug)]
pub struct Nft {
    program: String,
    parameters: Parameters,
    /// What was programmed last.
    programmed: Arc<Ruleset>,
    /// Whether the table of the guests' ports is behind.
    ports_behind: bool,
    /// Who else changes our tables, where that is followed.
    monitor: Option<Monitor>,
    /// Whether the kernel may keep flows that were cut from coming back.
    revoked: bool,
}

impl Nft {
    /// A dataplane that starts the given `nft` program.
    pub fn new(program: String, parameters: Parameters) -> Self {
        Self {
            program,
            parameters,
            programmed: Arc::default(),
            ports_behind: true,
            monitor: None,
            revoked: true,
        }
    }

    /// Follows from now on what others do to our tables, in this thread's network namespace.
    pub fn watch(&mut self) -> std::io::Result<()> {
        self.monitor = Some(Monitor::open(&self.program)?);
        Ok(())
    }

    /// What `nft --version` says.
    pub async fn version(&self) -> Result<String, ExecError> {
        let text = exec::run(&self.program, &["--version"], "", LIMIT).await?;
        Ok(text.trim().to_owned())
    }

    /// The whole ruleset as nft text.
    pub fn render(&self, ruleset: &Arc<Ruleset>) -> String {
        self.rules_text(&Plan::replace(ruleset)) + &skeleton::ports(&self.parameters, ruleset)
    }

    /// The transaction of a plan as nft text, but for the guests' ports.
    fn rules_text(&self, plan: &Plan) -> String {
        if plan.from.is_some() {
            return Batch::of(plan, self.parameters.placement).text();
        }
        let mut text = String::new();
        // The table of the other placement goes, too. `destroy` is missing before Linux 6.3; adding
        // first makes deleting safe. Dormant: a chain that is deleted keeps its rules, without
        // its maps, until the commit has come to it (nf_tables_commit_chain_prepare), and would
        // drop what the new one lets pass. Asleep, its hook goes first of all.
        for edit in ["add", "delete"] {
            for family in ["bridge", "ip6"] {
                let flags = if edit == "add" {
                    " { flags dormant; }"
                } else {
                    ""
                };
                // Writing to a String can't fail.
                let _ = writeln!(text, "{edit} table {family} {}{flags}", name::TABLE);
            }
        }
        if !plan.to.is_empty() {
            text.push_str(&skeleton::text(&self.parameters, &plan.to));
            text.push_str(&Batch::of(plan, self.parameters.placement).text());
        }
        text
    }

    async fn rules(&mut self, plan: &Plan) -> Result<(), DataplaneError> {
        let batch = Batch::of(plan, self.parameters.placement);
        let done = match batch.only_elements() {
            Some(_) if plan.from.is_some() && batch.is_empty() => return Ok(()),
            Some((remove, add)) if plan.from.is_some() => {
                let document = json::document(remove, add);
                self.transaction(&["-j", "-f", "-"], document).await
            }
            Some(_) | None => {
                let text = self.rules_text(plan) + &self.kept(plan).await;
                self.transaction(&["-f", "-"], text).await
            }
        };
        done.map_err(failed)
    }

    /// What keeps flows that were cut from coming back outlives a replacement of our tables.
    async fn kept(&mut self, plan: &Plan) -> String {
        if plan.from.is_some() || plan.to.is_empty() {
            return String::new();
        }
        match self.revoked().await {
            Ok(all) => {
                self.revoked = !all.is_empty();
                let all: Vec<_> = all.into_iter().map(|(element, _)| element).collect();
                revoked::edits(&[], &all)
            }
            Err(error) => {
                warn!(%error, "flows that were cut may come back");
                String::new()
            }
        }
    }

    /// Replaces the table of the guests' ports. A port may be gone by now: its removal
    /// is an event that brings us here again.
    async fn ports(&mut self) -> Result<(), DataplaneError> {
        let text = skeleton::ports(&self.parameters, &self.programmed);
        match self.transaction(&["-f", "-"], text).await {
            Ok(()) => {
                self.ports_behind = false;
                Ok(())
            }
            Err(ExecError::Failed { stderr, .. }) if stderr.contains(NO_SUCH_DEVICE) => {
                debug!(stderr, "a port is gone already");
                Ok(())
            }
            Err(error) => Err(failed(error)),
        }
    }

    /// Runs a transaction that certainly changes something: that `nft` ends well is not enough.
    async fn transaction(&mut self, args: &[&str], input: String) -> Result<(), ExecError> {
        if self.change(args, input).await? {
            return Ok(());
        }
        let command = format!("{} {}", self.program, args.join(" "));
        Err(ExecError::Untold { command })
    }

    /// Runs a transaction, and takes note of what others did to our tables meanwhile. Says
    /// whether the kernel told of it, where that is followed; it does not of one that changes
    /// nothing.
    ///
    /// It is in force when the kernel tells of it. Where elements were deleted, `nft` ends
    /// some 15 ms later: closing its socket waits for the readers of what is gone
    /// (`nft_rcv_nl_event`, `net/netfilter/nf_tables_api.c`). That is not waited for.
    async fn change(&mut self, args: &[&str], input: String) -> Result<bool, ExecError> {
        let mut nft = exec::spawn(&self.program, args, &input, LIMIT)?;
        let Some(monitor) = &mut self.monitor else {
            return nft.end().await.map(|_| true);
        };
        let pid = nft.pid;
        let done = tokio::select! {
            // What nft says counts, where it has ended.
            biased;
            done = nft.end() => done,
            () = monitor.committed(pid) => {
                reach("nft-told");
                return Ok(true);
            }
        };
        let how = match &done {
            Ok(_) => Ran::Done,
            Err(ExecError::TimedOut { .. }) => Ran::Killed,
            Err(ExecError::Start { .. } | ExecError::Failed { .. } | ExecError::Untold { .. }) => {
                Ran::Failed
            }
        };
        let told = monitor.ran(pid, how);
        done.map(|_| told)
    }

    /// What keeps flows that were cut from coming back. Nothing where our tables are missing.
    async fn revoked(&self) -> Result<Vec<(revoked::Element, Flow)>, DataplaneError> {
        let mut all = Vec::new();
        if !self.revoked {
            return Ok(all);
        }
        let reader = self.reader();
        let ours = reader.our_families().await?;
        for family in revoked::families(self.parameters.placement) {
            for set in revoked::sets().filter(|_| ours.contains(family)) {
                let args = ["-j", "-n", "-p", "list", "set", family, name::TABLE, set];
                // A table of an older version has no such sets.
                match reader.run(&args).await {
                    Ok(text) => all.extend(revoked::parse(family, set, &text, &self.programmed)?),
                    Err(ExecError::Failed { stderr, .. }) if stderr.contains(NO_SUCH_DEVICE) => {}
                    Err(error) => return Err(DataplaneError::Unreadable(error.to_string())),
                }
            }
        }
        Ok(all)
    }

    /// Whether a guest's groups judge what the host itself sends to it (S6).
    fn host_is_judged(&self) -> bool {
        self.parameters.placement == Placement::Bridge
    }

    /// Cuts flows: first what keeps them from coming back, then the flows themselves.
    async fn cut_flows(&mut self, cut: &Cut) -> Result<u64, DataplaneError> {
        let left = |reason: String| DataplaneError::FlowsLeft { cut: 0, reason };
        let placement = self.parameters.placement;
        let mut entries = Vec::new();
        let mut add = Vec::new();
        if !cut.suspects.is_empty() {
            let selector = Selector::new(cut, self.host_is_judged());
            let found = conntrack::find(|flow| selector.cuts(flow)).await;
            entries = found.map_err(|error| left(error.to_string()))?;
            for entry in &entries {
                let bridges = selector.bridges(&entry.flow);
                add.extend(
                    bridges
                        .iter()
                        .flat_map(|b| revoked::elements(placement, b, &entry.flow)),
                );
            }
            add.sort();
            add.dedup();
        }
        let mut remove = Vec::new();
        if cut.widened && self.revoked {
            let all = self
                .revoked()
                .await
                .map_err(|error| left(error.to_string()))?;
            self.revoked = !all.is_empty();
            let pardon = Pardon::new(&cut.to, self.host_is_judged());
            let allowed = all.into_iter().filter(|(_, flow)| pardon.allows(flow));
            remove.extend(allowed.map(|(element, _)| element));
            remove.retain(|element| add.binary_search(element).is_err());
        }
        let text = revoked::edits(&remove, &add);
        if !text.is_empty() {
            self.revoked = true;
            let done = self.change(&["-f", "-"], text).await;
            done.map_err(|error| left(error.to_string()))?;
        }
        reach("cut-marked");
        if entries.is_empty() {
            return Ok(0);
        }
        let (cut, done) = conntrack::delete(&entries).await;
        match done {
            Ok(()) => Ok(cut),
            Err(error) => Err(DataplaneError::FlowsLeft {
                cut,
                reason: error.to_string(),
            }),
        }
    }
}

fn failed(error: ExecError) -> DataplaneError {
    match error {
        ExecError::TimedOut { .. } | ExecError::Untold { .. } => DataplaneError::Unknown(error),
        ExecError::Start { .. } | ExecError::Failed { .. } => DataplaneError::Refused(error),
    }
}

impl Dataplane for Nft {
    type Reader = Reader;

    fn reader(&self) -> Reader {
        Reader::new(
            self.program.clone(),
            self.parameters.placement,
            Arc::clone(&self.programmed),
        )
    }

    async fn apply(&mut self, plan: &Plan) -> Result<(), DataplaneError> {
        self.rules(plan).await?;
        self.programmed = Arc::clone(&plan.to);
        let ports = |(object, _): &(Object, _)| *object == Object::GuestPorts;
        self.ports_behind |= plan.from.is_none() || plan.changes.iter().any(ports);
        if self.ports_behind {
            reach("ports");
            self.ports().await?;
        }
        Ok(())
    }

    async fn cut(&mut self, cut: &Cut) -> Result<u64, DataplaneError> {
        self.cut_flows(cut).await
    }

    async fn is_programmed(&self) -> Result<bool, DataplaneError> {
        Ok(!self.reader().our_families().await?.is_empty())
    }

    fn preview(&self, plan: &Plan) -> Vec<String> {
        self.rules_text(plan).lines().map(str::to_owned).collect()
    }

    async fn tampered(&mut self) -> Tampering {
        match &mut self.monitor {
            Some(monitor) => monitor.tampered().await,
            None => std::future::pending().await,
        }
    }

    async fn purge(&mut self) -> Result<(), DataplaneError> {
        let mut text = String::new();
        let ours = self.reader().our_families().await?;
        // Asleep first, as in a replacement, or a chain without its maps drops what is permitted.
        for family in ours.iter().filter(|family| **family != "netdev") {
            let _ = writeln!(
                text,
                "add table {family} {} {{ flags dormant; }}",
                name::TABLE
            );
        }
        for family in ours {
            let _ = writeln!(text, "delete table {family} {}", name::TABLE);
        }
        if text.is_empty() {
            return Ok(());
        }
        let done = self.change(&["-f", "-"], text).await;
        done.map(drop).map_err(failed)
    }
}
