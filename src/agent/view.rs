//! What goes in and out of the agent's task: values only.

use std::{collections::BTreeMap, sync::Arc};

use crate::model::{Delta, Desired, Generation, IfName, NicId, Outcome, Summary};

/// A change that the management server asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Its generation, where it carries one.
    pub generation: Option<Generation>,
    /// Whether only to say what would change.
    pub dry_run: bool,
    /// The change itself.
    pub delta: Delta,
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
    /// What `nft --version` says.
    pub nft_version: String,
}

/// A managed bridge as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BridgeView {
    /// Its name.
    pub name: IfName,
    /// Ports that lead out of the host.
    pub uplinks: Vec<IfName>,
    /// How many ports NICs are bound to.
    pub bound_ports: u32,
    /// Ports that carry nothing.
    pub closed_ports: Vec<IfName>,
    /// The conntrack zone of its flows.
    pub zone: u16,
}

/// Everything that can be read of the agent without asking the kernel, at one moment.
#[derive(Debug, Clone, Default)]
pub struct View {
    /// What is wanted.
    pub desired: Desired,
    /// What became of each NIC of it.
    pub outcomes: BTreeMap<NicId, Outcome>,
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
    /// What on this host is not protected.
    pub unprotected: Vec<String>,
    /// What someone should look at.
    pub warnings: Vec<String>,
    /// The managed bridges, by name.
    pub bridges: Vec<BridgeView>,
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
