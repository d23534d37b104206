//! What goes in and out of the agent's task: values only.

use std::sync::Arc;

use tokio::time::Instant;

use super::{Drift, NicTimes, status, times::Times};
use crate::{
    model::{Delta, Desired, Generation, IfName, Interfaces, NicId, Outcome, Summary},
    policy::Compiled,
};

/// A change that the management server asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Its generation, where it carries one.
    pub generation: Option<Generation>,
    /// Whether only to say what would change.
    pub dry_run: bool,
    /// The change itself. One that replaces everything adopts every bridge.
    pub delta: Delta,
    /// The bridge that is to be enforced from now on.
    pub adopt: Option<IfName>,
}

/// What became of a [`Change`] that was not refused.
#[derive(Debug, Clone)]
pub struct Applied {
    /// What changed, or would change.
    pub summary: Summary,
    /// With `dry_run`: the transaction as nft text, a line each.
    pub plan: Vec<String>,
    /// How many live flows were cut because nothing allows them any more (S7).
    pub flows_cut: u64,
    /// The bridges that are enforced since this change, or would be.
    pub adopted: Vec<BridgeView>,
    /// What is in force now; with `dry_run`, what would be.
    pub view: Arc<View>,
}

/// What the agent is, found out once at its start.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Identity {
    /// "nftables" or "ip6tables".
    pub dataplane: String,
    /// "bridge" or "`br_netfilter`".
    pub placement: String,
    /// Why this placement, in words.
    pub placement_reason: String,
    /// The kernel's release.
    pub kernel_version: String,
    /// What nft, or the programs of ip6tables, say of their version.
    pub nft_version: String,
    /// Whether ip6tables sees fragments when they are joined only.
    pub fragments_joined: bool,
    /// Why the kernel shows no samples of drops, where it doesn't.
    pub no_samples: Option<String>,
}

/// How full the host's table of flows is. All NICs and the host itself share it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FlowTable {
    /// Flows in it.
    pub entries: u64,
    /// As many as fit.
    pub maximum: u64,
}

/// A bridge that the configuration names, as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BridgeView {
    /// Its name.
    pub name: IfName,
    /// Ports that lead out of the host.
    pub uplinks: Vec<IfName>,
    /// How many ports NICs are bound to.
    pub bound_ports: u32,
    /// Ports that carry nothing, or would where it is held back.
    pub closed_ports: Vec<IfName>,
    /// The conntrack zone of its flows; 0 where it is held back.
    pub zone: u16,
    /// Whether it is not enforced yet.
    pub held: bool,
}

/// Everything that can be read of the agent without asking the kernel, at one moment.
/// Made for every change, so what takes a walk over the host is made when it is asked for.
#[derive(Debug, Clone, Default)]
pub struct View {
    /// What is wanted, and what was made of it.
    pub(super) compiled: Arc<Compiled>,
    /// The generation in force.
    pub generation: Option<u64>,
    /// The agent's own count of changes.
    pub revision: u64,
    /// Why what was acknowledged may not be in the kernel or on disk.
    pub unhealthy: Option<String>,
    /// What the agent is.
    pub identity: Identity,
    /// What this placement or kernel can't do.
    pub limitations: Vec<String>,
    /// What someone should look at in the host's settings.
    pub(super) host_warnings: Vec<String>,
    /// What others changed of ours, the latest first.
    pub drifts: Vec<Drift>,
    /// How much of that was repaired since the start.
    pub drift_repairs: u64,
    /// Since when the NICs are what they are.
    pub(super) times: Times,
    /// When our tables were last loaded whole: what the kernel learns is from then on.
    pub(super) loaded: Option<Instant>,
}

impl View {
    /// What is wanted.
    pub fn desired(&self) -> &Desired {
        &self.compiled.desired
    }

    /// What the host has, and which bridges are managed.
    pub fn interfaces(&self) -> &Arc<Interfaces> {
        self.compiled.host.snapshot()
    }

    /// What became of a NIC.
    pub fn outcome(&self, nic: &NicId) -> Option<&Outcome> {
        self.compiled.outcomes.get(nic).map(|outcome| &**outcome)
    }

    /// Since when a NIC is what it is.
    pub fn times(&self, nic: &NicId) -> NicTimes {
        self.times.of(nic)
    }

    /// What on this host is not protected.
    pub fn unprotected(&self) -> Vec<String> {
        status::unprotected(&self.compiled.host)
    }

    /// What someone should look at.
    pub fn warnings(&self) -> Vec<String> {
        let mut all = self.host_warnings.clone();
        all.extend(status::warnings(&self.compiled));
        all
    }

    /// The bridges that are managed and were held back before.
    pub(super) fn adopted_since(&self, before: &Self) -> Vec<BridgeView> {
        let before = before.interfaces();
        if before.held.is_empty() {
            return Vec::new();
        }
        let mut bridges = self.bridges();
        bridges.retain(|now| !now.held && before.held_config_of(&now.name).is_some());
        bridges
    }

    /// The managed bridges and those that are held back, by name.
    pub fn bridges(&self) -> Vec<BridgeView> {
        status::bridges(&self.compiled)
    }
}

/// Packets dropped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DropCount {
    /// As packet-policy.md names it.
    pub reason: String,
    /// Packets.
    pub packets: u64,
    /// Their octets.
    pub bytes: u64,
}

/// What one NIC lost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NicDrops {
    /// The NIC.
    pub nic: NicId,
    /// By reason.
    pub drops: Vec<DropCount>,
}

/// What was dropped since the rules were loaded.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Drops {
    /// By NIC, those that lost something.
    pub nics: Vec<NicDrops>,
    /// By reason, over all NICs and closed ports.
    pub totals: Vec<DropCount>,
}
