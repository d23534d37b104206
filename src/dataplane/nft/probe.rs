//! What a kernel can do, found out by asking it for just that: never by its version.
//!
//! `nft --check` sends the transaction and has the kernel take it back at its end. By then
//! every expression was initialised, which is where a kernel says no to what it doesn't
//! have, and where it loads the modules of what it has. (Tried on Linux 6.18 without
//! bridge connection tracking, EPROTO for `ct` and EOPNOTSUPP for `ibrname`, and on
//! Debian's 6.1 with neither module loaded.)

use std::{fmt::Write as _, path::Path};

use super::{LIMIT, skeleton::Placement};
use crate::dataplane::{exec, exec::ExecError};

/// A table that nobody has, so that nothing of anybody's is in the way.
const TABLE: &str = "sgagent_probe";

/// There as soon as the module is.
const BR_NETFILTER: &str = "/proc/sys/net/bridge/bridge-nf-call-ip6tables";

/// Why a placement is not to be had on this host.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// The kernel, or nft, does not know something that is needed.
    #[error("{what}: {why}")]
    Refused {
        /// What was asked for.
        what: &'static str,
        /// What nft said.
        why: String,
    },
    /// The module is not there.
    #[error("{BR_NETFILTER} is missing: load the module br_netfilter")]
    NoBrNetfilter,
    /// nft did not run.
    #[error("{0}")]
    Nft(ExecError),
}

/// What a placement needs, as the one rule of a chain that the kernel has to take.
struct Need {
    what: &'static str,
    family: &'static str,
    chain: &'static str,
    rule: &'static str,
}

const OF_BRIDGE: [Need; 2] = [
    Need {
        what: "connection tracking of the bridge family (nf_conntrack_bridge)",
        family: "bridge",
        chain: "type filter hook prerouting priority -150;",
        rule: "ct state established accept",
    },
    Need {
        what: "the name of a frame's bridge (nft_meta_bridge)",
        family: "bridge",
        chain: "type filter hook prerouting priority -150;",
        rule: "meta ibrname \"br0\" ct zone set 1",
    },
];
const OF_BR_NETFILTER: [Need; 1] = [Need {
    what: "connection tracking of IPv6 (nft_ct)",
    family: "ip6",
    chain: "type filter hook prerouting priority -450;",
    rule: "ct zone set 1",
}];

const OF_SAMPLES: [Need; 2] = [
    Need {
        what: "samples of drops (nfnetlink_log)",
        family: "bridge",
        chain: "type filter hook prerouting priority -150;",
        rule: "log group 1 snaplen 1",
    },
    Need {
        what: "samples of drops (nfnetlink_log)",
        family: "ip6",
        chain: "type filter hook prerouting priority -150;",
        rule: "log group 1 snaplen 1",
    },
];

/// What a host can do that can do a placement.
#[derive(Debug)]
pub struct Ability {
    /// Why it can't show samples of what is dropped, where it can't.
    pub no_samples: Option<ProbeError>,
}

/// Whether this host can do a placement, and what else.
pub async fn can(program: &str, placement: Placement) -> Result<Ability, ProbeError> {
    let needs: &[Need] = match placement {
        Placement::Bridge => &OF_BRIDGE,
        Placement::BrNetfilter if !Path::new(BR_NETFILTER).exists() => {
            return Err(ProbeError::NoBrNetfilter);
        }
        Placement::BrNetfilter => &OF_BR_NETFILTER,
    };
    // All at once, since what takes time is to start nft; one by one to learn which it was.
    let all: Vec<&Need> = needs.iter().chain(&OF_SAMPLES).collect();
    let Err(why) = ask(program, &all).await else {
        return Ok(Ability { no_samples: None });
    };
    for need in needs {
        ask(program, &[need]).await?;
    }
    let samples: Vec<&Need> = OF_SAMPLES.iter().collect();
    match ask(program, &samples).await {
        Err(no_samples) => Ok(Ability {
            no_samples: Some(no_samples),
        }),
        Ok(()) => Err(why),
    }
}

async fn ask(program: &str, needs: &[&Need]) -> Result<(), ProbeError> {
    let mut text = String::new();
    for (number, need) in needs.iter().enumerate() {
        let Need {
            what: _,
            family,
            chain,
            rule,
        } = need;
        // Writing to a String can't fail.
        let _ = write!(
            text,
            "add table {family} {TABLE}\n\
             add chain {family} {TABLE} asked{number} {{ {chain} }}\n\
             add rule {family} {TABLE} asked{number} {rule}\n"
        );
    }
    match exec::run(program, &["--check", "-f", "-"], &text, LIMIT).await {
        Ok(_) => Ok(()),
        Err(ExecError::Failed { stderr, .. }) => Err(ProbeError::Refused {
            what: needs.first().map_or("", |need| need.what),
            why: reason(&stderr),
        }),
        Err(
            error @ (ExecError::Start { .. }
            | ExecError::Untold { .. }
            | ExecError::TimedOut { .. }),
        ) => Err(ProbeError::Nft(error)),
    }
}

/// What nft says before it shows the place: `/dev/stdin:4:33-40: Error: Could not
/// process rule: Protocol error`.
fn reason(stderr: &str) -> String {
    let line = stderr.lines().next().unwrap_or_default();
    line.split_once("Error: ")
        .map_or(line, |(_, why)| why)
        .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reason_is_nfts_own() {
        let stderr = "/dev/stdin:4:3-4: Error: Could not process rule: Protocol error\nadd rule";
        assert_eq!(reason(stderr), "Could not process rule: Protocol error");
        assert_eq!(reason("no such thing\nat all"), "no such thing");
    }

    #[tokio::test]
    async fn nft_that_does_not_start_is_no_answer_of_the_kernel() {
        let error = can("no-such-nft", Placement::Bridge).await.unwrap_err();
        assert!(matches!(error, ProbeError::Nft(_)), "{error}");
    }
}
