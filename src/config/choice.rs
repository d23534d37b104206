//! Keys of which the value is one of a few words.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// What programs the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
#[clap(rename_all = "snake_case")]
pub enum Kind {
    /// `Nftables` where the kernel and the host's programs can do it, else `Ip6tables`.
    Auto,
    /// nftables.
    Nftables,
    /// ip6tables, ipset and ebtables.
    Ip6tables,
}

/// Where the stateful stage runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
#[clap(rename_all = "snake_case")]
pub enum Placement {
    /// `Bridge` where the kernel can do it, else `BrNetfilter`.
    Auto,
    /// In table bridge, by the bridge's own connection tracking.
    Bridge,
    /// In table ip6, behind `br_netfilter`.
    BrNetfilter,
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    /// `Journald` where stderr leads to the journal, else `Text`.
    Auto,
    /// Entries of systemd's journal with a field for each value.
    Journald,
    /// For people.
    Text,
    /// For programs.
    Json,
}

/// Where Xen's store is asked whose the interfaces of guests are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub enum Xenstore {
    /// Where a host of Xen has it; nowhere on any other.
    Auto,
    /// Nowhere.
    None,
    /// At this socket of its daemon.
    Socket(PathBuf),
}

impl From<String> for Xenstore {
    fn from(text: String) -> Self {
        match text.as_str() {
            "auto" => Self::Auto,
            "none" => Self::None,
            _ => Self::Socket(text.into()),
        }
    }
}

impl From<Xenstore> for String {
    fn from(xenstore: Xenstore) -> Self {
        match xenstore {
            Xenstore::Auto => "auto".to_owned(),
            Xenstore::None => "none".to_owned(),
            Xenstore::Socket(path) => path.to_string_lossy().into_owned(),
        }
    }
}
