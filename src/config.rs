//! The daemon's configuration: a TOML file, every key of which is a flag too.
//!
//! `packaging/sgagent.toml` is the documented default; a test holds it against
//! [`Config::default`].

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use serde::{Deserialize, Serialize};

use crate::{
    access::{Access, Client, Crowding, TlsFiles, Who},
    agent::HostPolicy,
    dataplane::nft::{self, Parameters},
    model::{BridgeConfig, IfPattern, Limits, is_link_local},
};

mod choice;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;

pub use choice::{Kind, LogFormat, Placement, Xenstore};

/// Why a configuration is refused.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file could not be read.
    #[error("{path}: {source}", path = path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file is no TOML.
    #[error("{path}: {source}", path = path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// Where and why.
        source: toml::de::Error,
    },
    /// A key is unknown, or its value is wrong.
    #[error("configuration: {0}")]
    Key(String),
}

/// The daemon's configuration.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The unix socket to listen on.
    pub unix_socket: PathBuf,
    /// TCP addresses to listen on besides, with mutual TLS.
    pub tcp_listen: Vec<SocketAddr>,
    /// What is shown to TCP clients, and what they have to show.
    pub tls: TlsFiles,
    /// Who may call besides root and the daemon's own user.
    pub clients: Vec<Client>,
    /// TCP addresses where a Prometheus may scrape, without a question who it is.
    pub metrics_listen: Vec<SocketAddr>,
    /// Where what was acknowledged is kept.
    pub state_dir: PathBuf,
    /// What programs the kernel.
    pub dataplane: Kind,
    /// Where the stateful stage runs.
    pub placement: Placement,
    /// The `nft` program.
    pub nft: String,
    /// What the names of `ip6tables-restore` and `ip6tables-save` begin with.
    pub ip6tables: String,
    /// The same of `ebtables-restore` and `ebtables-save`, and the program itself.
    pub ebtables: String,
    /// The `ipset` program.
    pub ipset: String,
    /// What to log: `error`, `warn`, `info`, `debug`, or a filter of `tracing`.
    pub log: String,
    /// How log lines look.
    pub log_format: LogFormat,
    /// Names of interfaces that look like a guest's.
    pub guest_interfaces: Vec<IfPattern>,
    /// Xen's store.
    pub xenstore: Xenstore,
    /// The managed bridges.
    pub bridges: Vec<BridgeConfig>,
    /// How much of everything.
    pub limits: LimitsConfig,
}

impl Default for Config {
    fn default() -> Self {
        let pattern = |text: &str| text.parse::<IfPattern>().ok();
        Self {
            unix_socket: "/run/sgagent/sgagent.sock".into(),
            tcp_listen: Vec::new(),
            tls: TlsFiles::default(),
            clients: Vec::new(),
            metrics_listen: Vec::new(),
            state_dir: "/var/lib/sgagent".into(),
            dataplane: Kind::Auto,
            placement: Placement::Auto,
            nft: "nft".to_owned(),
            ip6tables: "ip6tables".to_owned(),
            ebtables: "ebtables".to_owned(),
            ipset: "ipset".to_owned(),
            log: "info".to_owned(),
            log_format: LogFormat::Auto,
            guest_interfaces: ["vnet*", "vif*", "tap*"]
                .into_iter()
                .filter_map(pattern)
                .collect(),
            xenstore: Xenstore::Auto,
            bridges: Vec::new(),
            limits: LimitsConfig::default(),
        }
    }
}

/// Limits of which 0 means that there is none.
const UNLIMITED_AT_ZERO: &[&str] = &["max_flows"];

macro_rules! limits {
    ($($(#[$doc:meta])* $name:ident: $type:ty = $default:expr;)*) => {
        /// How much of everything. Each is at least 1, but for [`UNLIMITED_AT_ZERO`].
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(deny_unknown_fields, default)]
        pub struct LimitsConfig {
            $($(#[$doc])* pub $name: $type,)*
        }

        impl Default for LimitsConfig {
            fn default() -> Self {
                Self { $($name: $default,)* }
            }
        }

        impl LimitsConfig {
            fn zero(&self) -> Option<&'static str> {
                $(if self.$name == 0 && !UNLIMITED_AT_ZERO.contains(&stringify!($name)) {
                    return Some(stringify!($name));
                })*
                None
            }
        }
    };
}

limits! {
    /// NICs on this host.
    nics: usize = Limits::default().nics;
    /// Groups on this host.
    groups: usize = Limits::default().groups;
    /// Rules in one group.
    rules_per_group: usize = Limits::default().rules_per_group;
    /// Prefixes in one rule.
    prefixes_per_rule: usize = Limits::default().prefixes_per_rule;
    /// Members of one group.
    members_per_group: usize = Limits::default().members_per_group;
    /// Groups of one NIC.
    groups_per_nic: usize = Limits::default().groups_per_nic;
    /// Addresses, prefixes and virtual MACs of one NIC, each.
    addresses_per_nic: usize = Limits::default().addresses_per_nic;
    /// Octets of one gRPC message.
    message_octets: usize = 16 << 20;
    /// Connections of clients, of TCP and of the unix socket each.
    connections: usize = Crowding::default().connections;
    /// Connections of one client.
    connections_per_client: usize = Crowding::default().connections_per_client;
    /// Calls at the same time of one connection.
    requests_per_connection: u32 = Crowding::default().requests_per_connection;
    /// Seconds that a call may take until its answer begins.
    request_seconds: u64 = Crowding::default().request.as_secs();
    /// Fragments that a NIC may send in a second (packet-policy G15).
    fragments_per_second: u32 = Parameters::default().fragments_per_second;
    /// Fragments that a NIC may send at once (G15).
    fragment_burst: u32 = Parameters::default().fragment_burst;
    /// Seconds that a fragment waits for the others, on the whole host (G15).
    fragment_timeout: u64 = 3;
    /// Octets of memory for fragments, on the whole host (G15).
    fragment_memory: u64 = 128 << 20;
    /// MLD messages that a NIC may send in a second (G16).
    mld_per_second: u32 = Parameters::default().mld_per_second;
    /// MLD messages that a NIC may send at once (G16).
    mld_burst: u32 = Parameters::default().mld_burst;
    /// Neighbour discovery messages that a NIC may send in a second (G16).
    nd_per_second: u32 = Parameters::default().nd_per_second;
    /// Neighbour discovery messages that a NIC may send at once (G16).
    nd_burst: u32 = Parameters::default().nd_burst;
    /// New flows that a NIC may begin in a second (S8).
    flows_per_second: u32 = Parameters::default().flows_per_second;
    /// New flows that a NIC may begin at once (S8).
    flow_burst: u32 = Parameters::default().flow_burst;
    /// Flows that a NIC may have at any time; 0, any number (S8).
    max_flows: u32 = Parameters::default().max_flows;
    /// Samples a second, for who watches drops, of what a NIC loses for one reason.
    drop_samples_per_second: u32 = Parameters::default().drop_samples_per_second;
    /// Such samples at once.
    drop_sample_burst: u32 = Parameters::default().drop_sample_burst;
    /// Multicast groups of one guest's port on snooping bridges (G16).
    multicast_groups: u64 = 64;
}

impl Config {
    /// Reads a file and lays the flags over it; without a file, over the default.
    pub fn load(path: Option<&PathBuf>, flags: toml::Table) -> Result<Self, ConfigError> {
        let Some(path) = path else {
            return Self::laid_over(toml::Table::new(), flags);
        };
        let text = std::fs::read_to_string(path).map_err(|source| ConfigError::Read {
            path: path.clone(),
            source,
        })?;
        Self::parse(path, &text, flags)
    }

    /// Lays the flags over the text of a file.
    fn parse(path: &Path, text: &str, flags: toml::Table) -> Result<Self, ConfigError> {
        let syntax = |source| ConfigError::Syntax {
            path: path.to_owned(),
            source,
        };
        // Parsed twice: here an error still has its line.
        let _: Self = toml::from_str(text).map_err(syntax)?;
        Self::laid_over(toml::from_str(text).map_err(syntax)?, flags)
    }

    fn laid_over(mut table: toml::Table, flags: toml::Table) -> Result<Self, ConfigError> {
        for (key, value) in flags {
            match (table.get_mut(&key), value) {
                (Some(toml::Value::Table(under)), toml::Value::Table(over)) => under.extend(over),
                (_, value) => {
                    table.insert(key, value);
                }
            }
        }
        let config: Self = toml::Value::Table(table)
            .try_into()
            .map_err(|error: toml::de::Error| ConfigError::Key(error.message().to_owned()))?;
        config.check()
    }

    fn check(self) -> Result<Self, ConfigError> {
        let refuse = |text: String| Err(ConfigError::Key(text));
        if let Some(name) = self.limits.zero() {
            return refuse(format!("limits.{name} must be at least 1"));
        }
        if self.dataplane == Kind::Ip6tables && self.placement == Placement::Bridge {
            return refuse("placement: ip6tables sees frames behind br_netfilter only".into());
        }
        if self.guest_interfaces.is_empty() {
            return refuse("guest_interfaces must not be empty: every port would be open".into());
        }
        if !self.tcp_listen.is_empty() {
            if let Some(key) = self.tls.missing() {
                return refuse(format!(
                    "tls.{key} must be given: tcp_listen needs mutual TLS"
                ));
            }
            let certified = |client: &Client| matches!(client.who, Who::San(_));
            if !self.clients.iter().any(certified) {
                return refuse(
                    "clients: none has a `san`, so nobody may call by tcp_listen".into(),
                );
            }
        }
        for (i, bridge) in self.bridges.iter().enumerate() {
            if let Some(router) = bridge
                .routers
                .iter()
                .find(|router| !is_link_local(**router))
            {
                return refuse(format!(
                    "bridges[{i}].routers: {router} is not link-local; routers advertise \
                     themselves from a link-local address (RFC 4861 §4.2)"
                ));
            }
        }
        Ok(self)
    }

    /// The limits of what may be pushed.
    pub fn model_limits(&self) -> Limits {
        let LimitsConfig {
            nics,
            groups,
            rules_per_group,
            prefixes_per_rule,
            members_per_group,
            groups_per_nic,
            addresses_per_nic,
            ..
        } = self.limits;
        Limits {
            nics,
            groups,
            rules_per_group,
            prefixes_per_rule,
            members_per_group,
            groups_per_nic,
            addresses_per_nic,
        }
    }

    /// Who may do what, where the daemon runs as this user.
    pub fn access(&self, own_uid: u32) -> Access {
        Access::new(self.clients.clone(), own_uid)
    }

    /// How many clients there may be, and what they may do at once.
    pub fn crowding(&self) -> Crowding {
        let LimitsConfig {
            connections,
            connections_per_client,
            requests_per_connection,
            request_seconds,
            ..
        } = self.limits;
        Crowding {
            connections,
            connections_per_client,
            requests_per_connection,
            request: Duration::from_secs(request_seconds),
        }
    }

    /// The placement and the limits of what a NIC may send.
    pub fn parameters(&self, placement: nft::Placement) -> Parameters {
        let LimitsConfig {
            fragments_per_second,
            fragment_burst,
            mld_per_second,
            mld_burst,
            nd_per_second,
            nd_burst,
            flows_per_second,
            flow_burst,
            max_flows,
            drop_samples_per_second,
            drop_sample_burst,
            ..
        } = self.limits;
        Parameters {
            placement,
            fragments_per_second,
            fragment_burst,
            mld_per_second,
            mld_burst,
            nd_per_second,
            nd_burst,
            flows_per_second,
            flow_burst,
            max_flows,
            drop_samples_per_second,
            drop_sample_burst,
        }
    }

    /// What the host's settings are to be.
    pub fn host_policy(&self, placement: nft::Placement) -> HostPolicy {
        HostPolicy {
            nf_call_ip6tables: placement == nft::Placement::BrNetfilter,
            fragment_timeout: self.limits.fragment_timeout,
            fragment_memory: self.limits.fragment_memory,
            multicast_groups: self.limits.multicast_groups,
            fragments_per_second: u64::from(self.limits.fragments_per_second),
            fragment_burst: u64::from(self.limits.fragment_burst),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(text: &str) -> Result<Config, ConfigError> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("c.toml");
        std::fs::write(&path, text).unwrap();
        Config::load(Some(&path), toml::Table::new())
    }

    #[test]
    fn the_packaged_file_is_the_default() {
        let packaged = include_str!("../packaging/sgagent.toml");
        assert_eq!(load(packaged).unwrap(), Config::default());
    }

    #[test]
    fn unknown_keys_are_refused_with_their_line() {
        for text in [
            "x = 1",
            "[limits]\nnicks = 1",
            "[[bridges]]\nname = \"br0\"\nuplink = []",
        ] {
            let error = load(text).unwrap_err().to_string();
            assert!(
                error.contains("unknown field") && error.contains("line"),
                "{error}"
            );
        }
    }

    #[test]
    fn flags_lie_over_the_file() {
        let flags: toml::Table = toml::from_str("nft = \"/x/nft\"\n[limits]\nnics = 3").unwrap();
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("c.toml");
        std::fs::write(&path, "nft = \"a\"\nlog = \"warn\"\n[limits]\ngroups = 4").unwrap();
        let config = Config::load(Some(&path), flags).unwrap();
        assert_eq!(
            (config.nft.as_str(), config.log.as_str()),
            ("/x/nft", "warn")
        );
        assert_eq!((config.limits.nics, config.limits.groups), (3, 4));
    }

    #[test]
    fn nonsense_is_refused() {
        for (text, word) in [
            ("[limits]\nnics = 0", "limits.nics"),
            ("[limits]\nflow_burst = 0", "limits.flow_burst"),
            ("guest_interfaces = []", "guest_interfaces"),
            (
                "[[bridges]]\nname = \"br0\"\nrouters = [\"2001:db8::1\"]",
                "bridges[0].routers",
            ),
            ("[[bridges]]\nname = \"br 0\"", "br 0"),
            ("placement = \"x\"", "placement"),
            ("tcp_listen = [\"[::]:1\"]", "tls.certificate"),
            (
                "tcp_listen = [\"[::]:1\"]\ntls = { certificate = \"c\", key = \"k\", client_ca = \"a\" }",
                "clients",
            ),
            ("[[clients]]\nrole = \"push\"", "exactly one of"),
        ] {
            let error = load(text).unwrap_err().to_string();
            assert!(error.contains(word), "{text}: {error}");
        }
    }
}
