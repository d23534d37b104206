//! Frames to 01:80:c2:00:00:00–0f are dropped at the guests' ports, before the bridge learns from
//! them (G0).
//!
//! No hook of ebtables sees them (`br_handle_frame`, `net/bridge/br_input.c`), and a bridge that does
//! not learn from them (`no_linklocal_learn`, Linux 5.0) still parses BPDUs and hands the frames to
//! the host. So there is one filter on each port, of classic BPF, where `tc` filters what enters.
//! It drops or has no opinion: others' filters are asked as ever. It comes before those that were
//! added without a number (49152 and less, counting down), and behind those with a smaller one.
//!
//! What holds it is the port's `clsact`, which is added where it is missing. `replace` changes
//! nothing where there is one. Where there is `ingress` instead, which nothing replaces, the
//! filter is in that one: `ffff:fff2` is of either (`ingress_tcf_block`, `net/sched/sch_ingress.c`).

use std::{collections::BTreeSet, fmt::Write as _, sync::Arc};

use tracing::debug;

use super::{LIMIT, failed};
use crate::{
    dataplane::{DataplaneError, exec, exec::ExecError},
    failpoint::reach,
    model::IfName,
    ruleset::{Object, Plan},
};

/// Where our filter is among a port's.
const PREFERENCE: u16 = 21367;

/// 2 (`TC_ACT_SHOT`) where the destination is one of the sixteen, else -1 (`TC_ACT_UNSPEC`).
const PROGRAM: &str =
    "7,32 0 0 0,21 0 4 25215488,40 0 0 4,84 0 0 65520,21 0 1 0,6 0 0 2,6 0 0 4294967295";

/// How `tc` and the kernel say that a device does not exist.
const NO_SUCH_DEVICE: [&str; 2] = ["Cannot find device", "No such device"];

/// The filters on the guests' ports.
#[derive(Debug)]
pub(super) struct Ports {
    /// The program `tc`.
    program: String,
    /// Which ports have the filter, where that is known.
    held: Option<BTreeSet<IfName>>,
    /// Whether they are others than they are to be.
    behind: bool,
    holders: Holders,
}

/// What becomes of what has held our filter, and holds none now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Holders {
    /// It goes.
    Go,
    /// It stays.
    Stay,
}

impl Ports {
    pub(super) fn new(program: String) -> Self {
        Self {
            program,
            held: None,
            behind: true,
            holders: Holders::Go,
        }
    }

    /// Carries out what a plan says of the guests' ports, where it does.
    pub(super) async fn apply(&mut self, plan: &Plan) -> Result<(), DataplaneError> {
        let ports = |(object, _): &(Object, _)| *object == Object::GuestPorts;
        if plan.from.is_none() {
            self.held = None;
        }
        self.behind |= plan.from.is_none() || plan.changes.iter().any(ports);
        if !self.behind {
            return Ok(());
        }
        reach("ports");
        let wanted = if plan.to.is_empty() {
            Arc::default()
        } else {
            Arc::clone(&plan.to.guest_ports)
        };
        self.make(&wanted).await
    }

    /// Takes the filter from all ports that have it.
    pub(super) async fn purge(&mut self, holders: Holders) -> Result<(), DataplaneError> {
        self.held = None;
        self.holders = holders;
        self.make(&BTreeSet::new()).await
    }

    /// A port that is gone by now is no failure; it is tried again with the next plan.
    async fn make(&mut self, wanted: &BTreeSet<IfName>) -> Result<(), DataplaneError> {
        // An error leaves it unknown.
        let held = self.held.take();
        self.behind = true;
        let known = held.is_some();
        let before = match held {
            Some(held) => held,
            None => self.filtered().await?,
        };
        for port in before.difference(wanted) {
            self.open(port).await?;
        }
        let missing = wanted
            .iter()
            .filter(|port| !known || !before.contains(*port));
        let gone = self.close(missing.collect()).await?;
        self.behind = !gone.is_empty();
        self.held = Some(wanted.difference(&gone).cloned().collect());
        Ok(())
    }

    /// Puts the filter on ports, and returns those that don't exist.
    async fn close(&self, ports: Vec<&IfName>) -> Result<BTreeSet<IfName>, DataplaneError> {
        let mut gone = BTreeSet::new();
        let text: String = ports
            .iter()
            .map(|port| clsact(port) + &filter(port))
            .collect();
        if text.is_empty() || self.run(&["-batch", "-"], &text).await.is_ok() {
            return Ok(gone);
        }
        // One by one, to know which it is. What a port's qdisc lacks, its filter misses.
        for port in ports {
            if let Err(error) = self.run(&["-batch", "-"], &clsact(port)).await {
                debug!(%port, %error, "no clsact");
            }
            match self.run(&["-batch", "-"], &filter(port)).await {
                Ok(_) => {}
                Err(error) if is_gone(&error) => {
                    gone.insert(port.clone());
                }
                Err(error) => return Err(failed(error)),
            }
        }
        Ok(gone)
    }

    /// Takes the filter from a port, and with it what holds filters, where it holds none now.
    async fn open(&self, port: &IfName) -> Result<(), DataplaneError> {
        let name = port.as_str();
        let ours = PREFERENCE.to_string();
        let filter = [
            "filter", "del", "dev", name, "ingress", "protocol", "all", "pref", &ours, "handle",
            "1", "bpf",
        ];
        if self.has(port).await? {
            match self.run(&filter, "").await {
                Err(error) if !is_gone(&error) => return Err(failed(error)),
                Ok(_) | Err(_) => {}
            }
        }
        if self.holders == Holders::Stay {
            return Ok(());
        }
        let qdiscs = self.list(&["qdisc", "show", "dev", name, "clsact"]).await?;
        let clsact = qdiscs.lines().any(|line| line.starts_with("qdisc clsact "));
        let mut others = String::new();
        for way in ["ingress", "egress"] {
            others += &self.list(&["filter", "show", "dev", name, way]).await?;
        }
        if clsact && others.trim().is_empty() {
            // Somebody may be about to use it, and then it stays.
            if let Err(error) = self.run(&["qdisc", "del", "dev", name, "clsact"], "").await {
                debug!(%port, %error, "clsact stays");
            }
        }
        Ok(())
    }

    /// The ports that have our filter.
    async fn filtered(&self) -> Result<BTreeSet<IfName>, DataplaneError> {
        let mut ports = BTreeSet::new();
        for port in with_filters(&self.list(&["qdisc", "show"]).await?) {
            if self.has(&port).await? {
                ports.insert(port);
            }
        }
        Ok(ports)
    }

    /// Whether a port has our filter.
    async fn has(&self, port: &IfName) -> Result<bool, DataplaneError> {
        let filters = self
            .list(&["filter", "show", "dev", port.as_str(), "ingress"])
            .await?;
        Ok(is_filtered(&filters))
    }

    /// What `tc` lists; of a device that does not exist, nothing.
    async fn list(&self, args: &[&str]) -> Result<String, DataplaneError> {
        match self.run(args, "").await {
            Ok(text) => Ok(text),
            Err(error) if is_gone(&error) => Ok(String::new()),
            Err(error) => Err(DataplaneError::Unreadable(error.to_string())),
        }
    }

    async fn run(&self, args: &[&str], input: &str) -> Result<String, ExecError> {
        exec::run(&self.program, args, input, LIMIT).await
    }
}

fn clsact(port: &IfName) -> String {
    format!("qdisc replace dev {port} clsact\n")
}

fn filter(port: &IfName) -> String {
    let mut line = format!("filter replace dev {port} ingress protocol all pref {PREFERENCE} ");
    // Writing to a String can't fail.
    let _ = writeln!(line, "handle 1 bpf da bytecode \"{PROGRAM}\"");
    line
}

fn is_gone(error: &ExecError) -> bool {
    match error {
        ExecError::Failed { stderr, .. } => {
            NO_SUCH_DEVICE.iter().any(|words| stderr.contains(words))
        }
        ExecError::Start { .. } | ExecError::Untold { .. } | ExecError::TimedOut { .. } => false,
    }
}

/// The devices that what enters may be filtered on, of what `tc qdisc show` prints.
fn with_filters(printed: &str) -> BTreeSet<IfName> {
    let device = |line: &str| {
        let mut words = line.split_whitespace();
        let kind = (words.next()?, words.next()?);
        let mut rest = words.skip_while(|word| *word != "dev");
        let known = matches!(kind, ("qdisc", "clsact" | "ingress"));
        rest.nth(1).filter(|_| known)?.parse().ok()
    };
    printed.lines().filter_map(device).collect()
}

/// Whether our filter is among those that `tc filter show` prints of a device.
fn is_filtered(printed: &str) -> bool {
    let (number, program) = (
        format!(" pref {PREFERENCE} bpf "),
        format!(" bytecode '{PROGRAM}'"),
    );
    printed
        .lines()
        .any(|line| line.contains(&number) && line.contains(&program))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_devices_that_filter_what_enters_are_looked_at() {
        let printed = "qdisc noqueue 0: dev lo root refcnt 2 \n\
                       qdisc clsact ffff: dev vnet0 parent ffff:fff1 \n\
                       qdisc fq_codel 0: dev eth0 root refcnt 2 limit 10240p\n\
                       qdisc ingress ffff: dev vif1.0 parent ffff:fff1 ---------------- \n";
        let found: Vec<_> = with_filters(printed)
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(found, ["vif1.0", "vnet0"]);
    }

    #[test]
    fn a_filter_is_ours_by_its_place_and_its_program() {
        let ours = format!(
            "filter protocol all pref 21367 bpf chain 0 \n\
             filter protocol all pref 21367 bpf chain 0 handle 0x1 direct-action not_in_hw bytecode '{PROGRAM}'\n"
        );
        assert!(is_filtered(&ours));
        // As iproute2 of 2017 prints it.
        assert!(is_filtered(&format!(
            "filter protocol all pref 21367 bpf handle 0x1 direct-action bytecode '{PROGRAM}' \n"
        )));
        assert!(!is_filtered(&ours.replace("21367", "5")));
        assert!(!is_filtered(&ours.replace("25215488", "0")));
        assert!(!is_filtered(""));
    }

    /// Of classic BPF only what the program has (`include/uapi/linux/bpf_common.h`).
    fn verdict(destination: [u8; 6]) -> u32 {
        let code: Vec<Vec<u32>> = PROGRAM
            .split(',')
            .skip(1)
            .map(|line| line.split(' ').map(|n| n.parse().unwrap()).collect())
            .collect();
        assert!(PROGRAM.starts_with(&format!("{},", code.len())));
        let (mut at, mut value) = (0, 0);
        loop {
            let (yes, no, with) = (code[at][1], code[at][2], code[at][3]);
            at += 1;
            let octets = &destination[with.min(4) as usize..];
            match code[at - 1][0] {
                0x20 => value = u32::from_be_bytes(octets[..4].try_into().unwrap()),
                0x28 => value = u32::from(u16::from_be_bytes(octets[..2].try_into().unwrap())),
                0x54 => value &= with,
                0x15 => at += if value == with { yes } else { no } as usize,
                0x06 => return with,
                other => panic!("{other}"),
            }
        }
    }

    #[test]
    fn sixteen_addresses_are_dropped_and_no_other() {
        let mut group = [0x01, 0x80, 0xc2, 0, 0, 0];
        for last in 0..=0xff {
            group[5] = last;
            let expected = if last < 0x10 { 2 } else { u32::MAX };
            assert_eq!(verdict(group), expected, "{last:02x}");
        }
        for other in [
            [0x01, 0x80, 0xc2, 0, 1, 0],
            [0x01, 0x80, 0xc3, 0, 0, 0],
            [0xff; 6],
        ] {
            assert_eq!(verdict(other), u32::MAX, "{other:02x?}");
        }
    }
}
