//! The dataplane of hosts without nftables: ip6tables, ipset, ebtables and tc.
//!
//! All that is programmed is a pure function of the ruleset ([`program`]), rendered whole; what differs
//! from what is there is edited, chain by chain ([`chains`]) and element by element ([`sets`]).
//!
//! A frame's way. At a guest's port `tc` drops what is sent to bridges themselves ([`ports`]). On the
//! bridge, in table nat, ebtables looks at MACs and `EtherType`s and marks whose it is ([`frames`],
//! [`mark`]). Behind `br_netfilter` table raw has the guard ([`guard`]), and table mangle the sender's
//! groups; on its way out its receiver's ([`groups`]). Where it leaves the bridge, ebtables looks
//! whether it has been there. Each finds a NIC's rules through a tree of chains ([`dispatch`]).
//!
//! The tools know no common transaction, so the order is what keeps a host closed: sets come before
//! the rules that speak of them, rules before the ports that they judge; a mark that no rule knows
//! is dropped. After a step that failed nobody relies on what was there: all of it is read again.

use std::{path::Path, time::Duration};

use tokio::time::sleep;

use super::{
    Dataplane, DataplaneError, Tampering,
    exec::{self, ExecError},
};
use crate::ruleset::{Cut, Plan};

mod bpf;
mod chains;
mod counters;
mod dispatch;
mod drift;
mod ebtables;
mod frames;
mod groups;
mod guard;
mod held;
mod listing;
mod mark;
mod ports;
mod probe;
mod program;
mod question;
mod reader;
mod revoked;
mod sets;
mod tools;

pub use probe::sees_fragments;
pub use program::{Parameters, Program};
pub use reader::Reader;
pub use tools::{ProbeError, Tools};

use drift::Drift;
use ebtables::Ebtables;
use ports::{Holders, Ports};
use program::Known;

/// There as soon as the kernel has sets.
const SETS: &str = "/sys/module/ip_set";

/// How long somebody may take to list sets, and how often.
const LISTING: Duration = Duration::from_millis(50);
const LISTINGS: u32 = 20;

/// What the texts of a [`Program`] are input of, one after the other.
pub const INPUTS: [&str; 4] = [
    "ipset restore",
    "ip6tables-restore --noflush",
    "ebtables-restore --noflush",
    "ipset restore",
];

/// How long a program may take.
const LIMIT: Duration = Duration::from_secs(30);

/// The dataplane.
#[derive(Debug)]
pub struct Ip6tables {
    tools: Tools,
    parameters: Parameters,
    known: Known,
    /// Whether a change has failed half-way, so that what is there is not known.
    behind: bool,
    /// Whether the kernel may keep flows that were cut from coming back.
    revoked: bool,
    frames: Ebtables,
    ports: Ports,
    drift: Drift,
}

impl Ip6tables {
    /// A dataplane that starts these programs.
    pub fn new(tools: Tools, parameters: Parameters) -> Self {
        Self {
            frames: Ebtables::new(&tools),
            ports: Ports::new(tools.tc.clone()),
            tools,
            parameters,
            known: Known::default(),
            behind: false,
            revoked: true,
            drift: Drift::default(),
        }
    }

    /// Removes all that is ours, but for what holds the filters of the guests' ports: its end costs a
    /// port some packets (`qdisc_graft`, `net/sched/sch_api.c`, stops the device for that).
    pub async fn hand_over(&mut self) -> Result<(), DataplaneError> {
        self.end(Holders::Stay).await
    }

    async fn end(&mut self, holders: Holders) -> Result<(), DataplaneError> {
        self.tools.learn().await.map_err(failed)?;
        // First: that rules are there tells that this has to be done again.
        self.ports.purge(holders).await?;
        self.known = self.reader().known().await?;
        self.go(&Program::default()).await
    }

    /// Makes of what is there what is to be.
    async fn go(&mut self, to: &Program) -> Result<(), DataplaneError> {
        self.behind = true;
        self.steps(to).await?;
        self.behind = false;
        Ok(())
    }

    async fn steps(&mut self, to: &Program) -> Result<(), DataplaneError> {
        let [sets, rules, frames, ends] = to.from(&self.known);
        let ipset = self.tools.ipset.clone();
        self.run(&ipset, &["restore"], &sets).await?;
        // A NIC's port is opened last of all, and what the bridge has marked passes no rules that
        // do not know whose it is. In the end what marks goes first. Nobody asks for a mark while
        // nothing marks: the other dataplane may have the bridge.
        if !to.is_any() {
            self.rules(&self.known.uncheck()).await?;
            self.edit(&frames).await?;
            self.rules(&rules).await?;
        } else if self.known.marks() {
            self.rules(&rules).await?;
            self.edit(&frames).await?;
        } else {
            let unchecked = to.unchecked();
            let [_, rules, ..] = unchecked.from(&self.known);
            self.rules(&rules).await?;
            self.edit(&frames).await?;
            let [_, check, ..] = to.from(&Known::programmed(&unchecked));
            self.rules(&check).await?;
        }
        self.destroy(ends).await?;
        self.known = Known::programmed(to);
        self.drift.programmed(&self.known);
        Ok(())
    }

    /// Runs a program that has something to do.
    async fn run(
        &mut self,
        program: &str,
        args: &[&str],
        input: &str,
    ) -> Result<(), DataplaneError> {
        if input.is_empty() {
            return Ok(());
        }
        self.drift.begins();
        let done = exec::run(program, args, input, LIMIT).await;
        done.map(drop).map_err(failed)
    }

    /// Edits ip6tables' tables.
    async fn rules(&mut self, rules: &str) -> Result<(), DataplaneError> {
        let restore = self.tools.restore.clone();
        let args = self.tools.restore_args();
        self.run(&restore, args, rules).await
    }

    /// Ends sets. Whoever lists them just now keeps them from it.
    async fn destroy(&mut self, mut ends: String) -> Result<(), DataplaneError> {
        let ipset = self.tools.ipset.clone();
        for _ in 0..LISTINGS {
            match self.run(&ipset, &["restore"], &ends).await {
                Err(DataplaneError::Unknown(ExecError::Failed { stderr, .. }))
                    if stderr.contains("in use") => {}
                ended => return ended,
            }
            sleep(LISTING).await;
            let left = self.reader().sets().await?;
            ends = ends
                .split_inclusive('\n')
                .filter(|line| {
                    left.iter()
                        .any(|name| line.trim_end().ends_with(&format!(" {name}")))
                })
                .collect();
        }
        self.run(&ipset, &["restore"], &ends).await
    }

    async fn edit(&mut self, frames: &str) -> Result<(), DataplaneError> {
        if frames.is_empty() {
            return Ok(());
        }
        self.drift.begins();
        self.frames.edit(frames).await.map_err(failed)
    }
}

/// Several programs make a change, and most of them several steps: one that failed may have done some
/// of it.
fn failed(error: ExecError) -> DataplaneError {
    DataplaneError::Unknown(error)
}

impl Dataplane for Ip6tables {
    type Reader = Reader;

    fn reader(&self) -> Reader {
        Reader::new(self.tools.clone(), self.parameters, self.frames.clone())
    }

    async fn is_programmed(&self) -> Result<bool, DataplaneError> {
        // Sets are there before all else of ours, and go last. To ask for them would load the module.
        if !Path::new(SETS).exists() {
            return Ok(false);
        }
        Ok(!self.reader().sets().await?.is_empty())
    }

    async fn apply(&mut self, plan: &Plan) -> Result<(), DataplaneError> {
        if plan.from.is_none() || self.behind {
            self.known = self.reader().known().await?;
        }
        let program = Program::of(&plan.to, self.parameters);
        self.go(&program).await?;
        self.ports.apply(plan).await?;
        let reader = self.reader();
        self.drift.late(&self.known, || reader.clone()).await;
        Ok(())
    }

    async fn cut(&mut self, cut: &Cut) -> Result<u64, DataplaneError> {
        self.cut_flows(cut).await
    }

    fn preview(&self, plan: &Plan) -> Vec<String> {
        let texts = Program::of(&plan.to, self.parameters).from(&self.known);
        texts
            .iter()
            .flat_map(|text| text.lines())
            .map(str::to_owned)
            .collect()
    }

    async fn tampered(&mut self) -> Tampering {
        let reader = self.reader();
        self.drift.next(&self.known, || reader.clone()).await
    }

    async fn purge(&mut self) -> Result<(), DataplaneError> {
        self.end(Holders::Go).await
    }
}
