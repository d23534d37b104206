//! The host's interfaces, and the few settings of theirs that a row of the packet policy needs.
//!
//! [`Netlink`] subscribes first, then reads everything, then follows the events, so that no
//! change falls between. The kernel drops events when nobody reads them fast enough and says so
//! once; then everything is read again, as it also is from time to time. A snapshot is published
//! after all events that were waiting are applied, and only if it differs from the one before.
//!
//! Two things look like an event of an interface and are not: what a bridge says of its ports
//! (family `AF_BRIDGE`; its `RTM_DELLINK` means that the port left), and what a wireless driver says
//! of its radio. Both are passed over, but for a port's setting that only the bridge tells of:
//! leaving a bridge is told by an `RTM_NEWLINK` of the interface itself, without `IFLA_MASTER`.
//!
//! The kernel tells of a bridge's changed options only while the bridge is up (`netdev_state_change`,
//! net/core/dev.c), so `multicast_snooping` of a bridge that is down may be old. It
//! forwards nothing then, and going up is an event.

#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
mod message;
mod setting;
mod state;
mod traffic;
mod watch;
mod xen;
mod xenstore;

use std::{collections::BTreeMap, fmt, future::Future, io, path::PathBuf, sync::Arc};

use serde::{Deserialize, Serialize};
use tokio::sync::watch::{Receiver, channel};

use crate::model::{BridgeConfig, IfName, IfPattern, Interfaces, LinkState, Traffic};

/// The host, as the agent sees it.
pub trait Host: Send + Sync + 'static {
    /// The interfaces as they are, and each change of them.
    fn interfaces(&self) -> Receiver<Arc<Interfaces>>;

    /// Reads a setting; `None` where this kernel does not have it.
    fn get(&self, setting: &Setting)
    -> impl Future<Output = Result<Option<u64>, LinkError>> + Send;

    /// Whether an interface can carry anything; `None` where there is none of this name.
    fn state(
        &self,
        interface: &IfName,
    ) -> impl Future<Output = Result<Option<LinkState>, LinkError>> + Send;

    /// What each interface has carried, by its index.
    fn traffic(&self) -> impl Future<Output = Result<BTreeMap<u32, Traffic>, LinkError>> + Send;

    /// Writes a setting. It is read back: what the kernel passed over is an error.
    fn set(
        &self,
        setting: &Setting,
        value: u64,
    ) -> impl Future<Output = Result<(), LinkError>> + Send;
}

/// What we set outside our tables; `purge` puts the value from before back.
///
/// A port's settings end with its membership: it has the kernel's defaults after it left a
/// bridge and came back.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Setting {
    /// A bridge's `BR_BOOLOPT_NO_LL_LEARN` (Linux 5.0): 1, learn nothing from link-local frames.
    NoLinkLocalLearn(IfName),
    /// A bridge's `IFLA_BR_NF_CALL_IP6TABLES`: 1, its IPv6 passes ip6tables.
    NfCallIp6tables(IfName),
    /// A bridge port's `IFLA_BRPORT_MCAST_MAX_GROUPS` (Linux 6.3): 0, any number.
    MulticastMaxGroups(IfName),
    /// `net.netfilter.nf_conntrack_frag6_timeout`, in seconds.
    Frag6Timeout,
    /// `net.netfilter.nf_conntrack_frag6_high_thresh`, in octets.
    Frag6HighThresh,
    /// `net.bridge.bridge-nf-call-ip6tables`, all bridges' at once. Only read.
    AllNfCallIp6tables,
    /// `net.bridge.bridge-nf-filter-vlan-tagged`, all bridges' at once: 1, what has a tag passes
    /// ip6tables like the rest.
    FilterVlanTagged,
}

impl fmt::Display for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoLinkLocalLearn(bridge) => write!(f, "no_linklocal_learn of {bridge}"),
            Self::NfCallIp6tables(bridge) => write!(f, "nf_call_ip6tables of {bridge}"),
            Self::MulticastMaxGroups(port) => write!(f, "mcast_max_groups of {port}"),
            Self::Frag6Timeout => f.write_str("net.netfilter.nf_conntrack_frag6_timeout"),
            Self::Frag6HighThresh => f.write_str("net.netfilter.nf_conntrack_frag6_high_thresh"),
            Self::AllNfCallIp6tables => f.write_str("net.bridge.bridge-nf-call-ip6tables"),
            Self::FilterVlanTagged => f.write_str("net.bridge.bridge-nf-filter-vlan-tagged"),
        }
    }
}

/// Why the host could not be read or set.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// The interfaces could not be read.
    #[error("cannot read the interfaces of the host")]
    Interfaces(#[source] io::Error),
    /// A setting could not be read.
    #[error("cannot read {setting}")]
    Get {
        /// Which.
        setting: Setting,
        /// Why.
        source: io::Error,
    },
    /// A setting could not be written.
    #[error("cannot set {setting} to {value}")]
    Set {
        /// Which.
        setting: Setting,
        /// To what.
        value: u64,
        /// Why.
        source: io::Error,
    },
    /// The setting's interface does not exist.
    #[error("{setting}: there is no such interface")]
    NoInterface {
        /// Which.
        setting: Setting,
    },
    /// The setting's interface is no bridge, or no port of a bridge.
    #[error("{setting}: the interface is not {expected}")]
    WrongKind {
        /// Which.
        setting: Setting,
        /// What it would have to be.
        expected: &'static str,
    },
    /// A setting was to be written that this kernel does not have.
    #[error("{setting}: this kernel does not have it")]
    Unsupported {
        /// Which.
        setting: Setting,
    },
    /// The kernel took a value and holds another.
    #[error("{setting} was set to {value} and is {found}")]
    NotTaken {
        /// Which.
        setting: Setting,
        /// To what.
        value: u64,
        /// What it is.
        found: u64,
    },
}

/// The socket of Xen's store, where this is a host of Xen: its first domain.
pub fn xenstore_of_this_host() -> Option<PathBuf> {
    let capabilities = std::fs::read_to_string("/proc/xen/capabilities").ok()?;
    let sockets = ["/run/xenstored/socket", "/var/run/xenstored/socket"].map(PathBuf::from);
    let found = sockets.iter().find(|socket| socket.exists());
    let [usual, _] = &sockets;
    let is_first = capabilities.contains("control_d");
    is_first.then(|| found.unwrap_or(usual).clone())
}

/// The host over rtnetlink, in the network namespace of the thread that started it.
#[derive(Debug)]
pub struct Netlink {
    interfaces: Receiver<Arc<Interfaces>>,
}

impl Netlink {
    /// Reads the interfaces and follows them until nobody holds this or a receiver of it; so with
    /// Xen's store, where there is its daemon's socket.
    pub async fn start(
        bridges: Vec<BridgeConfig>,
        guest_patterns: Vec<IfPattern>,
        xenstore: Option<PathBuf>,
    ) -> Result<Self, LinkError> {
        let octets = watch::RECEIVE_BUFFER;
        Self::start_with_buffer(bridges, guest_patterns, xenstore, octets).await
    }

    /// [`start`](Self::start), with a receive buffer of so many octets: a test makes events
    /// get lost with a small one.
    #[doc(hidden)]
    pub async fn start_with_buffer(
        bridges: Vec<BridgeConfig>,
        guest_patterns: Vec<IfPattern>,
        xenstore: Option<PathBuf>,
        octets: i32,
    ) -> Result<Self, LinkError> {
        let host = Interfaces {
            bridges,
            guest_patterns,
            ..Interfaces::default()
        };
        let xen = match xenstore {
            Some(socket) => xen::start(socket).await,
            // Whose sender is gone: it never changes.
            None => channel(Arc::default()).1,
        };
        let interfaces = watch::start(host, xen, octets)
            .await
            .map_err(LinkError::Interfaces)?;
        Ok(Self { interfaces })
    }
}

impl Host for Netlink {
    fn interfaces(&self) -> Receiver<Arc<Interfaces>> {
        self.interfaces.clone()
    }

    async fn get(&self, setting: &Setting) -> Result<Option<u64>, LinkError> {
        setting::get(setting).await
    }

    async fn state(&self, interface: &IfName) -> Result<Option<LinkState>, LinkError> {
        state::get(interface).await
    }

    async fn traffic(&self) -> Result<BTreeMap<u32, Traffic>, LinkError> {
        traffic::all().await
    }

    async fn set(&self, setting: &Setting, value: u64) -> Result<(), LinkError> {
        setting::set(setting, value).await
    }
}
