//! The programs, and whether this host's can do what is asked of them: found out by asking for just
//! that, never by a version.

use std::fmt::Write as _;

use super::{LIMIT, ebtables::Ebtables};
use crate::dataplane::exec::{self, ExecError};

/// The programs.
#[derive(Debug, Clone)]
pub struct Tools {
    /// `ip6tables-restore`.
    pub restore: String,
    /// `ip6tables-save`.
    pub save: String,
    /// `ebtables`.
    pub frames: String,
    /// `ebtables-restore`.
    pub frames_restore: String,
    /// `ebtables-save`.
    pub frames_save: String,
    /// `ipset`.
    pub ipset: String,
    /// `tc`.
    pub tc: String,
    /// Whether `ip6tables-restore` waits for others (`-w`, since 1.6.2).
    pub waits: bool,
}

/// Why a host can't do it.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// The module is not there.
    #[error("{BR_NETFILTER} is missing: load the module br_netfilter")]
    NoBrNetfilter,
    /// A program, or the kernel, does not know something that is needed.
    #[error("{0}")]
    Refused(ExecError),
}

/// There as soon as the module is.
const BR_NETFILTER: &str = "/proc/sys/net/bridge/bridge-nf-call-ip6tables";

/// A chain and a set of these names are nobody's.
const PROBE: &str = "sgagent_probe";

/// A rule with every match and every target that we use, in table raw.
const RAW: [&str; 4] = [
    "-m bpf --bytecode \"1,6 0 0 1\" -m u32 --u32 \"4>>16=8\" -m ah --ahspi 0:4294967295 \
     -m rt --rt-type 2 --rt-segsleft 0:4294967295 -m frag --fragid 0:4294967295 --fragfirst \
     -m hl --hl-eq 255 -m limit --limit 1/sec -j CT --zone 1",
    "-p icmpv6 -m icmp6 --icmpv6-type 135 -m mark --mark 0x1/0x1 -j MARK --set-xmark 0x1/0x1",
    "-m set --match-set sgagent_probe src -j SET --add-set sgagent_probe src --exist",
    "-p sctp -m sctp --dport 1:2 -j DROP",
];

/// The same in table mangle.
const MANGLE: [&str; 1] = ["-m physdev --physdev-is-bridged --physdev-out vnet+ \
     -m conntrack --ctstate NEW --ctstatus CONFIRMED \
     -m connlimit --connlimit-above 1 --connlimit-mask 0 --connlimit-saddr -j DROP"];

/// And in the bridge's table nat.
const FRAMES: [&str; 2] = [
    "-p IPv6 -i vnet+ --ip6-proto 17 --ip6-dport 546 -j DROP",
    "-p IPv6 --mark 0x1/0x1 -j mark --mark-set 0x1 --mark-target ACCEPT",
];

impl Tools {
    /// Programs whose names begin so.
    pub fn named(ip6tables: &str, ebtables: &str, ipset: &str) -> Self {
        Self {
            restore: format!("{ip6tables}-restore"),
            save: format!("{ip6tables}-save"),
            frames: ebtables.to_owned(),
            frames_restore: format!("{ebtables}-restore"),
            frames_save: format!("{ebtables}-save"),
            ipset: ipset.to_owned(),
            tc: "tc".to_owned(),
            waits: false,
        }
    }

    /// How `ip6tables-restore` is called: all in one commit a table, what is others' stays.
    pub(super) fn restore_args(&self) -> &'static [&'static str] {
        if self.waits {
            &["--noflush", "-w", "20"]
        } else {
            &["--noflush"]
        }
    }

    /// What the programs say of themselves.
    pub async fn versions(&self) -> Result<String, ExecError> {
        let mut all = Vec::new();
        for program in [&self.restore, &self.ipset] {
            let text = exec::run(program, &["--version"], "", LIMIT).await?;
            all.push(text.lines().next().unwrap_or_default().trim().to_owned());
        }
        Ok(all.join(", "))
    }

    /// Finds out how the programs are called.
    pub(super) async fn learn(&mut self) -> Result<(), ExecError> {
        let version = exec::run(&self.restore, &["--version"], "", LIMIT).await?;
        self.waits = waits(&version);
        Ok(())
    }

    /// Whether this host can do all that is asked of it.
    pub async fn can(&mut self) -> Result<(), ProbeError> {
        self.learn().await.map_err(ProbeError::Refused)?;
        if !std::path::Path::new(BR_NETFILTER).exists() {
            return Err(ProbeError::NoBrNetfilter);
        }
        let set = format!("create {PROBE} hash:ip family inet6 timeout 1 -exist\n");
        self.ask(&self.ipset, &["restore"], &set).await?;
        let tables = [("raw", &RAW[..]), ("mangle", &MANGLE)];
        let all = table(&tables, "- [0:0]");
        let asked = self.ask(&self.restore, self.restore_args(), &all).await;
        let none = gone(&["raw", "mangle"], "- [0:0]");
        let gone_again = self.ask(&self.restore, self.restore_args(), &none).await;
        let ended = self
            .ask(&self.ipset, &["restore"], &format!("destroy {PROBE}\n"))
            .await;
        asked.and(gone_again).and(ended)?;
        self.frames().await
    }

    async fn frames(&self) -> Result<(), ProbeError> {
        let frames = Ebtables::new(self);
        let asked = frames.edit(&table(&[("nat", &FRAMES[..])], "ACCEPT")).await;
        let gone_again = frames.edit(&gone(&["nat"], "ACCEPT")).await;
        asked.and(gone_again).map_err(ProbeError::Refused)
    }

    async fn ask(&self, program: &str, args: &[&str], input: &str) -> Result<(), ProbeError> {
        let asked = exec::run(program, args, input, LIMIT).await;
        asked.map(drop).map_err(ProbeError::Refused)
    }
}

/// Tables with the chain that nobody calls.
fn table(tables: &[(&str, &[&str])], declared: &str) -> String {
    let mut text = String::new();
    // Writing to a String can't fail.
    for (table, rules) in tables {
        let _ = writeln!(text, "*{table}\n:{PROBE} {declared}");
        for rule in *rules {
            let _ = writeln!(text, "-A {PROBE} {rule}");
        }
        text.push_str("COMMIT\n");
    }
    text
}

/// The end of these chains.
fn gone(tables: &[&str], declared: &str) -> String {
    let one = |table: &&str| format!("*{table}\n:{PROBE} {declared}\n-X {PROBE}\nCOMMIT\n");
    tables.iter().map(one).collect()
}

/// Whether `ip6tables-restore v1.8.9 (legacy)` takes `-w` (since 1.6.2).
fn waits(version: &str) -> bool {
    let number = version
        .split_whitespace()
        .find_map(|word| word.strip_prefix('v'));
    let parts = number.map(|number| number.split('.').map(|part| part.parse().unwrap_or(0)));
    let parts: Vec<u32> = parts.into_iter().flatten().collect();
    parts.as_slice() >= &[1, 6, 2][..]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waiting_is_since_1_6_2() {
        assert!(waits("ip6tables-restore v1.8.9 (legacy)\n"));
        assert!(waits("ip6tables-restore v1.6.2"));
        assert!(!waits("ip6tables-restore v1.6.1"));
        assert!(!waits("ip6tables-restore v1.4.21"));
        assert!(!waits("what?"));
    }
}
