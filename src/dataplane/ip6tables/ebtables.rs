//! The two programs that are called ebtables.
//!
//! That of nft edits a table in one transaction (`ebtables-restore --noflush`). The one that is
//! older can only replace a whole table: `ebtables-restore` of 2.0.10 has no options, and one rule
//! after the other by `ebtables` would be as many changes. So a table is read, edited here and
//! put back, others' rules and their counters with it (`ebtables -L --Lc`; `ebtables-save` is a Perl
//! script, which reads what `/usr/sbin/ebtables` is, and every table). Each table that is put back is
//! one change. Chains of ours that are filled anew begin to count anew.
//!
//! What somebody else changes between the reading and the putting back would be lost. Those who take
//! ebtables' own lock (`--concurrent`) wait for us; of others there is no telling, and so the table is
//! read once more, right before it is put back: if it has changed meanwhile, all begins again.

use std::{fmt::Write as _, os::fd::OwnedFd, sync::Arc, time::Duration};

use rustix::fs::{FlockOperation, Mode, OFlags, flock, open};
use tokio::{sync::OnceCell, time::sleep};
use tracing::{debug, warn};

use super::{LIMIT, Tools};
use crate::dataplane::{exec, exec::ExecError};

/// Where programs that were built differently have their lock. One that does not exist is nobody's,
/// and is not made: to ebtables before 2.0.10-4 it would be held for ever.
const LOCKS: [&str; 3] = [
    "/var/lib/ebtables/lock",
    "/run/ebtables.lock",
    "/run/lock/ebtables.lock",
];

/// The older one leaves fields of a watcher `nflog` as it finds them in memory (`extensions/ebt_nflog.c`
/// sets neither `flags` nor `pad`), and Linux refuses flags that it does not know (`ebt_nflog_tg_check`).
/// So its memory is to be zero: glibc fills what it gives with the complement of this (mallopt(3)).
const ZEROED: [(&str, &str); 1] = [("MALLOC_PERTURB_", "255")];

/// How long a lock is waited for, and how often it is looked at.
const PATIENCE: (u32, Duration) = (100, Duration::from_millis(50));

/// How often a table may change under our hands.
const ATTEMPTS: u32 = 5;

/// Which of them the host's is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Variant {
    /// Edits a table.
    Nft,
    /// Replaces a table.
    Legacy,
}

impl Variant {
    /// What `ebtables --version` says: `ebtables 1.8.9 (nf_tables)`, `ebtables v2.0.10-4 (December
    /// 2011)`, `ebtables v2.0.11 (legacy) (December 2011)`.
    fn of(version: &str) -> Self {
        if version.contains("nf_tables") {
            Self::Nft
        } else {
            Self::Legacy
        }
    }
}

/// The host's ebtables.
#[derive(Debug, Clone)]
pub(super) struct Ebtables {
    program: String,
    restore: String,
    save: String,
    variant: Arc<OnceCell<Variant>>,
}

impl Ebtables {
    pub(super) fn new(tools: &Tools) -> Self {
        Self {
            program: tools.frames.clone(),
            restore: tools.frames_restore.clone(),
            save: tools.frames_save.clone(),
            variant: Arc::default(),
        }
    }

    /// What is in a table, as `ebtables-save` prints it; `[PACKETS:OCTETS]` before each rule, if
    /// these are asked for.
    pub(super) async fn save(&self, table: &str, counters: bool) -> Result<String, ExecError> {
        match self.variant().await? {
            Variant::Nft if counters => self.run(&self.save, &["-c", "-t", table], "").await,
            Variant::Nft => self.run(&self.save, &["-t", table], "").await,
            Variant::Legacy => Ok(self.read(table).await?.saved(counters)),
        }
    }

    /// Carries out edits, which are written for `ebtables-restore --noflush` of nft.
    pub(super) async fn edit(&self, edits: &str) -> Result<(), ExecError> {
        match self.variant().await? {
            Variant::Nft => self
                .run(&self.restore, &["--noflush"], edits)
                .await
                .map(drop),
            Variant::Legacy => self.replace(edits).await,
        }
    }

    async fn variant(&self) -> Result<Variant, ExecError> {
        let ask = || async {
            let version = self.run(&self.program, &["--version"], "").await?;
            Ok(Variant::of(&version))
        };
        self.variant.get_or_try_init(ask).await.copied()
    }

    async fn replace(&self, edits: &str) -> Result<(), ExecError> {
        let locks = locks().await;
        let mut merged = String::new();
        for _ in 0..ATTEMPTS {
            let mut before = Vec::new();
            merged.clear();
            for (name, edits) in by_table(edits) {
                let table = self.read(name).await?;
                let edited = table.edited(edits).ok_or_else(|| not_understood(edits))?;
                merged.push_str(&edited.restored());
                before.push(table);
            }
            let mut same = true;
            for table in before {
                same &= self.read(&table.name).await?.is_like(&table);
            }
            if same {
                break;
            }
            debug!("somebody else edits the bridge's tables");
        }
        let none: [&str; 0] = [];
        let done = exec::run_with(&ZEROED, &self.restore, &none, &merged, LIMIT).await;
        drop(locks);
        done.map(drop)
    }

    async fn read(&self, name: &str) -> Result<Table, ExecError> {
        let printed = self
            .run(&self.program, &["-t", name, "-L", "--Lc"], "")
            .await?;
        Table::parse(name, &printed).ok_or_else(|| not_understood(&printed))
    }

    async fn run(&self, program: &str, args: &[&str], input: &str) -> Result<String, ExecError> {
        exec::run(program, args, input, LIMIT).await
    }
}

fn not_understood(text: &str) -> ExecError {
    ExecError::Failed {
        command: "ebtables".to_owned(),
        how: "is not understood".to_owned(),
        stderr: text.lines().next().unwrap_or_default().to_owned(),
    }
}

/// Waits for those who edit the bridge's tables and use a lock. Who holds it longer than an edit takes
/// has forgotten it.
async fn locks() -> Vec<OwnedFd> {
    let mut held = Vec::new();
    for path in LOCKS {
        let Ok(file) = open(path, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty()) else {
            continue;
        };
        let (times, pause) = PATIENCE;
        for time in 0..=times {
            if flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok() {
                break;
            }
            if time == times {
                warn!(path, "somebody holds the lock of the bridge's tables");
                break;
            }
            sleep(pause).await;
        }
        held.push(file);
    }
    held
}

/// The edits of each table.
fn by_table(edits: &str) -> Vec<(&str, &str)> {
    let tables = edits
        .split("COMMIT\n")
        .filter_map(|part| part.strip_prefix('*'));
    tables.filter_map(|part| part.split_once('\n')).collect()
}

/// A table as it is printed.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Table {
    name: String,
    chains: Vec<Chain>,
}

/// A chain, with its rules in order: others' order counts, too.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Chain {
    name: String,
    policy: String,
    rules: Vec<Rule>,
}

/// A rule as options of `-A CHAIN`, with packets and octets.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Rule {
    text: String,
    counters: (u64, u64),
}

impl Rule {
    fn new(text: &str) -> Self {
        Self {
            text: spaced(text.trim()),
            counters: (0, 0),
        }
    }

    fn parse(line: &str) -> Option<Self> {
        let (text, counters) = line.rsplit_once(", pcnt = ")?;
        let (packets, octets) = counters.split_once(" -- bcnt = ")?;
        let counters = (packets.trim().parse().ok()?, octets.trim().parse().ok()?);
        Some(Self {
            counters,
            ..Self::new(text)
        })
    }
}

/// With a blank behind each text in quotes, where the older one prints none (`--nflog-prefix`).
fn spaced(text: &str) -> String {
    let mut parts = text.split('"');
    let mut spaced = parts.next().unwrap_or_default().to_owned();
    while let (Some(quoted), Some(behind)) = (parts.next(), parts.next()) {
        let blank = if behind.is_empty() || behind.starts_with(' ') {
            ""
        } else {
            " "
        };
        // Writing to a String can't fail.
        let _ = write!(spaced, "\"{quoted}\"{blank}{behind}");
    }
    spaced
}

impl Table {
    /// What `ebtables -L --Lc` prints.
    fn parse(name: &str, printed: &str) -> Option<Self> {
        let mut chains: Vec<Chain> = Vec::new();
        for line in printed.lines().filter(|line| !line.is_empty()) {
            if let Some(heading) = line.strip_prefix("Bridge chain: ") {
                let (chain, rest) = heading.split_once(", entries: ")?;
                let (_, policy) = rest.split_once(", policy: ")?;
                chains.push(Chain {
                    name: chain.to_owned(),
                    policy: policy.trim().to_owned(),
                    rules: Vec::new(),
                });
            } else if !line.starts_with("Bridge table: ") {
                chains.last_mut()?.rules.push(Rule::parse(line)?);
            }
        }
        (!chains.is_empty()).then(|| Self {
            name: name.to_owned(),
            chains,
        })
    }

    /// The table with edits of ours.
    fn edited(&self, edits: &str) -> Option<Self> {
        let mut table = self.clone();
        for line in edits.lines() {
            let (verb, rest) = line.split_once(' ')?;
            if let Some(name) = verb.strip_prefix(':') {
                table.declare(name, rest);
            } else if verb == "-X" {
                table.chains.retain(|chain| chain.name != rest);
            } else {
                let (name, rule) = rest.split_once(' ')?;
                let chain = table.chains.iter_mut().find(|chain| chain.name == name)?;
                match verb {
                    "-A" => chain.rules.push(Rule::new(rule)),
                    "-I" => chain.rules.insert(0, Rule::new(rule)),
                    "-D" => chain.rules.retain(|other| other.text != rule),
                    _ => return None,
                }
            }
        }
        Some(table)
    }

    /// A chain that is declared is empty.
    fn declare(&mut self, name: &str, policy: &str) {
        let empty = Chain {
            name: name.to_owned(),
            policy: policy.to_owned(),
            rules: Vec::new(),
        };
        match self.chains.iter_mut().find(|chain| chain.name == name) {
            Some(chain) => *chain = empty,
            None => self.chains.push(empty),
        }
    }

    /// Whether it is another only by what it has counted.
    fn is_like(&self, other: &Self) -> bool {
        self.saved(false) == other.saved(false)
    }

    /// As `ebtables-save` of nft prints it.
    fn saved(&self, counters: bool) -> String {
        self.text(
            |Rule {
                 counters: (packets, octets),
                 text,
             },
             chain| {
                let counted = if counters {
                    format!("[{packets}:{octets}] ")
                } else {
                    String::new()
                };
                format!("{counted}-A {chain} {text}")
            },
        )
    }

    /// As `ebtables-restore` takes it; that of 2.0.10 knows no `COMMIT`.
    fn restored(&self) -> String {
        self.text(
            |Rule {
                 counters: (packets, octets),
                 text,
             },
             chain| { format!("-A {chain} {text} -c {packets} {octets}") },
        )
    }

    fn text(&self, rule: impl Fn(&Rule, &str) -> String) -> String {
        let mut text = format!("*{}\n", self.name);
        // Writing to a String can't fail. All are declared before a rule names one.
        for Chain { name, policy, .. } in &self.chains {
            let _ = writeln!(text, ":{name} {policy}");
        }
        for chain in &self.chains {
            for one in &chain.rules {
                let _ = writeln!(text, "{}", rule(one, &chain.name));
            }
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As 2.0.11 prints it: some extensions leave no blank behind them.
    const PRINTED: &str = "\
Bridge table: filter

Bridge chain: INPUT, entries: 0, policy: ACCEPT

Bridge chain: FORWARD, entries: 2, policy: DROP
-j sgagent_forward, pcnt = 9 -- bcnt = 90
-i vif1.0 -j FORWARD_vif1.0, pcnt = 3 -- bcnt = 300

Bridge chain: OUTPUT, entries: 0, policy: ACCEPT

Bridge chain: FORWARD_vif1.0, entries: 2, policy: DROP
-s ! 0:11:22:33:44:55 -j DROP , pcnt = 4 -- bcnt = 400
--log-level debug --log-prefix \"a, b\" -j CONTINUE , pcnt = 5 -- bcnt = 500

Bridge chain: sgagent_forward, entries: 1, policy: ACCEPT
-p IPv6 -j mark --mark-set 0x1 --mark-target CONTINUE, pcnt = 6 -- bcnt = 600

Bridge chain: sgagent_old, entries: 0, policy: ACCEPT
";

    fn table() -> Table {
        Table::parse("filter", PRINTED).unwrap()
    }

    fn edited(edits: &str) -> String {
        table().edited(edits).unwrap().restored()
    }

    const OTHERS: &str = "\
-A FORWARD -i vif1.0 -j FORWARD_vif1.0 -c 3 300
-A FORWARD_vif1.0 -s ! 0:11:22:33:44:55 -j DROP -c 4 400
-A FORWARD_vif1.0 --log-level debug --log-prefix \"a, b\" -j CONTINUE -c 5 500
";

    #[test]
    fn others_rules_policies_and_counters_stay() {
        let text = edited(
            ":sgagent_forward ACCEPT\n:sgagent_new ACCEPT\n:sgagent_old ACCEPT\n-A sgagent_forward -j RETURN\n-X sgagent_old\n",
        );
        let declared = "*filter\n:INPUT ACCEPT\n:FORWARD DROP\n:OUTPUT ACCEPT\n:FORWARD_vif1.0 DROP\n\
                        :sgagent_forward ACCEPT\n:sgagent_new ACCEPT\n-A FORWARD -j sgagent_forward -c 9 90\n";
        let ours = "-A sgagent_forward -j RETURN -c 0 0\n";
        assert_eq!(text, format!("{declared}{OTHERS}{ours}"));
    }

    #[test]
    fn without_ours_all_is_as_before() {
        let text = edited(
            ":sgagent_forward ACCEPT\n:sgagent_old ACCEPT\n-D FORWARD -j sgagent_forward\n-X sgagent_forward\n-X sgagent_old\n",
        );
        let declared =
            "*filter\n:INPUT ACCEPT\n:FORWARD DROP\n:OUTPUT ACCEPT\n:FORWARD_vif1.0 DROP\n";
        assert_eq!(text, format!("{declared}{OTHERS}"));
        let again = ":sgagent_forward ACCEPT\n-I FORWARD -j sgagent_forward\n";
        let hooked = edited(again);
        assert!(hooked.contains(
            "\n-A FORWARD -j sgagent_forward -c 0 0\n-A FORWARD -j sgagent_forward -c 9 90\n"
        ));
    }

    #[test]
    fn it_is_saved_as_by_the_other_program() {
        let text = table().saved(true);
        assert!(
            text.contains("\n[9:90] -A FORWARD -j sgagent_forward\n"),
            "{text}"
        );
        let text = table().saved(false);
        assert!(
            text.contains("\n:sgagent_old ACCEPT\n-A FORWARD -j sgagent_forward\n"),
            "{text}"
        );
    }

    #[test]
    fn a_text_in_quotes_ends_in_a_blank() {
        let printed = "-i vnet1 --nflog-prefix \"sgagent_3\"--nflog-group 3 -j CONTINUE , pcnt = 0 -- bcnt = 0";
        let rule = Rule::parse(printed).unwrap();
        let text = "-i vnet1 --nflog-prefix \"sgagent_3\" --nflog-group 3 -j CONTINUE";
        assert_eq!(rule, Rule::new(text));
        assert_eq!(rule.text, text);
    }

    #[test]
    fn only_what_was_counted_may_differ() {
        let counted = Table::parse("filter", &PRINTED.replace("pcnt = 3", "pcnt = 4")).unwrap();
        assert!(counted != table() && counted.is_like(&table()));
        let other = Table::parse("filter", &PRINTED.replace("vif1.0 -j", "vif2.0 -j")).unwrap();
        assert!(!other.is_like(&table()));
    }

    #[test]
    fn what_is_not_understood_changes_nothing() {
        for printed in [
            "",
            "-j DROP , pcnt = 1 -- bcnt = 1\n",
            "Bridge chain: x, entries: 1, policy: DROP\n-j DROP\n",
        ] {
            assert_eq!(Table::parse("nat", printed), None, "{printed}");
        }
        for edits in ["-A nosuch -j DROP\n", "-R FORWARD 1\n", "COMMIT\n"] {
            assert_eq!(table().edited(edits), None, "{edits}");
        }
    }

    #[test]
    fn edits_are_told_apart_by_table() {
        let edits = "*nat\n:a ACCEPT\nCOMMIT\n*filter\n-X b\nCOMMIT\n";
        assert_eq!(
            by_table(edits),
            [("nat", ":a ACCEPT\n"), ("filter", "-X b\n")]
        );
    }

    #[test]
    fn the_program_says_which_it_is() {
        assert_eq!(Variant::of("ebtables 1.8.9 (nf_tables)\n"), Variant::Nft);
        for version in [
            "ebtables v2.0.10-4 (December 2011)\n",
            "ebtables v2.0.11 (legacy) (December 2011)\n",
        ] {
            assert_eq!(Variant::of(version), Variant::Legacy, "{version}");
        }
    }
}
