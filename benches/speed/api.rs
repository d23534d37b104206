//! What a change costs, from the request to its acknowledgement: in the kernel and on disk.
//!
//! The real daemon of the same build runs in a namespace with managed bridges and a tap for each
//! NIC, and is called over its unix socket, on a connection that is there already. A call's time
//! on the wall is what a management server waits. Where something is compared with bare `nft -f`,
//! that loads the text that the daemon itself plans (`sgagent compile`, a dry run's plan), in a
//! namespace of its own with the same ruleset and interfaces; starting `nft` is part of it.
//!
//! Calls of the two sizes that a ratio compares are made in turn. What this can't tell: how it is
//! with a slow disk (the state is where temporary files are), or while interfaces come and go.

use std::path::Path;
use std::time::{Duration, Instant};

use sgagent::pb;
use tokio::task::JoinSet;

use super::daemon::Daemon;
use super::hosts::nft;
use super::memory::Reporter;
use super::namespace::Namespace;
use super::table::{Line, Target, median, ratios};
use super::{progress, revoke, world};

const SMALL: usize = 10;
const MIDDLE: usize = 1_000;
const LARGE: usize = 5_000;
/// Calls of each size in a round.
const CALLS: usize = 8;
const CALLERS: usize = 16;

const LOAD: &str = "API: 1,000 NICs with 20 groups of 10 rules";
const CHANGE: &str = "API: one NIC's address changed";
const MEMBER: &str = "API: one member added to a group";
const MEMORY: &str = "API: memory with 5,000 NICs";

/// The daemon in a namespace with its bridges and taps.
pub(crate) struct Host {
    /// The daemon.
    pub daemon: Daemon,
    /// Where it runs.
    pub namespace: Namespace,
    nics: usize,
}

/// Measures all of it.
pub(crate) fn measure(rounds: u16) -> Vec<Line> {
    let mut lines = load(rounds);
    progress("api: hosts with 10 and 5,000 NICs");
    let small = Host::new(SMALL, "nft");
    let large = Host::new(LARGE, "nft");
    let mut everything = world::sync(SMALL);
    for (id, size, offset) in [("few", 10, 0), ("many", 10_000, 100_000)] {
        let (group, members) = world::big_group(id, size, offset);
        everything.groups.push(group);
        everything.members.push(members);
        everything.nics[0].group_ids.push(id.to_owned());
    }
    small.sync(everything);
    large.sync(world::sync(LARGE));
    lines.extend(change(&small, &large, rounds));
    lines.extend(member(&small, rounds));
    drop(large);
    lines.extend(revoke::measure(&small, world::sync(SMALL), rounds));
    drop(small);
    lines.extend(memory());
    lines
}

impl Host {
    fn new(nics: usize, program: &str) -> Self {
        let namespace = ports(nics);
        let daemon = Daemon::start(&namespace, &world::config(nics), program);
        Self {
            daemon,
            namespace,
            nics,
        }
    }

    /// Pushes everything. Every NIC has to be active after it.
    pub(crate) fn sync(&self, everything: pb::SyncRequest) {
        let answer = self.daemon.sync(everything);
        let idle = answer.nics_not_active.first();
        assert!(idle.is_none(), "a NIC is not active: {idle:?}");
    }

    /// A namespace that looks the same and has the same rules, without a daemon.
    fn copy(&self) -> Namespace {
        let copy = ports(self.nics);
        nft(&copy, &compiled(self.nics));
        copy
    }

    /// Changes NIC 3's address, and tells how long that took.
    fn change(&self, turn: usize) -> Duration {
        timed(|| self.daemon.apply(changed(turn, false))).0
    }

    fn plan(&self, turn: usize) -> String {
        let lines = self.daemon.apply(changed(turn, true)).plan;
        lines.join("\n") + "\n"
    }
}

fn ports(nics: usize) -> Namespace {
    let namespace = Namespace::new();
    for key in ["all", "default"] {
        namespace.sysctl(&format!("net/ipv6/conf/{key}/disable_ipv6"), "1");
    }
    namespace.ip_batch(&world::ports(0, nics));
    namespace
}

fn changed(turn: usize, dry_run: bool) -> pb::ApplyRequest {
    pb::ApplyRequest {
        nics: vec![world::changed_nic(3, turn)],
        dry_run,
        ..pb::ApplyRequest::default()
    }
}

/// What the daemon would load, by `sgagent compile`, without the table of the ports: it is a
/// transaction of its own, and the kernel takes no more than 256 devices in a chain.
fn compiled(nics: usize) -> String {
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = directory.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let config = world::config(nics)
        .replace("{dir}", "/nowhere")
        .replace("{nft}", "nft");
    let config = file("config", &config);
    let desired = file("desired", &world::sync_text(nics));
    let text = compile(&config, &desired);
    let rest = text.split_once("add table netdev ");
    rest.map_or(text.as_str(), |(head, _)| head).to_owned()
}

fn compile(config: &Path, desired: &Path) -> String {
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_sgagent"))
        .arg("compile")
        .arg("--config")
        .args([config, desired])
        .output()
        .unwrap();
    let why = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "sgagent compile: {why}");
    String::from_utf8(output.stdout).unwrap()
}

/// Lines 1 and 4: everything at once, and a thousand changes by many callers.
fn load(rounds: u16) -> Vec<Line> {
    progress("api: a host with 1,000 NICs");
    let host = Host::new(MIDDLE, "nft");
    let empty = ports(MIDDLE);
    let text = compiled(MIDDLE);
    let (mut ours, mut bare, mut many) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..=rounds {
        progress(&format!(
            "api: load and 1,000 changes, round {round} of {rounds}"
        ));
        host.sync(world::sync(0));
        empty.command("nft flush ruleset");
        let everything = world::sync(MIDDLE);
        let (took, ()) = timed(|| host.sync(everything));
        let (alone, ()) = timed(|| nft(&empty, &text));
        let changes = concurrent(&host, usize::from(round));
        if round > 0 {
            ours.push(took.as_secs_f64());
            bare.push(alone.as_secs_f64());
            many.push(changes.as_secs_f64());
        }
    }
    vec![
        Line {
            group: LOAD,
            name: "Sync into an empty host / bare nft -f".to_owned(),
            unit: "x",
            rounds: ratios(&ours, &bare),
            target: Target::AtMost(3.0),
            note: format!("{:.2} s, bare {:.2} s", median(&ours), median(&bare)),
        },
        Line {
            group: LOAD,
            name: "1,000 NIC changes by 16 callers".to_owned(),
            unit: "s",
            note: format!("{:.0} changes a second", 1_000.0 / median(&many)),
            rounds: many,
            target: Target::AtMost(2.0),
        },
    ]
}

/// Every NIC changed once, each caller one change after the other.
fn concurrent(host: &Host, turn: usize) -> Duration {
    let socket = host.daemon.socket();
    host.daemon.call(async |_| {
        let mut callers = JoinSet::new();
        let mut connections = Vec::new();
        for _ in 0..CALLERS {
            connections.push(Daemon::connect(socket.clone()).await.unwrap());
        }
        let began = Instant::now();
        for (caller, mut client) in connections.into_iter().enumerate() {
            callers.spawn(async move {
                for i in (caller..MIDDLE).step_by(CALLERS) {
                    let change = pb::ApplyRequest {
                        nics: vec![world::changed_nic(i, turn + 1)],
                        ..pb::ApplyRequest::default()
                    };
                    client.apply(change).await.unwrap();
                }
            });
        }
        while let Some(ended) = callers.join_next().await {
            ended.unwrap();
        }
        began.elapsed()
    })
}

/// Line 2: one NIC, where there are few and where there are many.
fn change(small: &Host, large: &Host, rounds: u16) -> Vec<Line> {
    progress("api: their rules without a daemon");
    let hosts = [small, large];
    let copies = hosts.map(Host::copy);
    let mut ours = [Vec::new(), Vec::new()];
    let mut bare = [Vec::new(), Vec::new()];
    let mut turn = 0;
    for round in 0..=rounds {
        progress(&format!("api: one NIC changed, round {round} of {rounds}"));
        let mut times = [const { [Vec::new(), Vec::new()] }; 2];
        for _ in 0..CALLS {
            turn += 1;
            for (i, host) in hosts.iter().enumerate() {
                let plan = host.plan(turn);
                times[0][i].push(host.change(turn).as_secs_f64() * 1e3);
                let (alone, ()) = timed(|| nft(&copies[i], &plan));
                times[1][i].push(alone.as_secs_f64() * 1e3);
            }
        }
        // Round 0 warms up.
        for i in (0..2).filter(|_| round > 0) {
            ours[i].push(median(&times[0][i]));
            bare[i].push(median(&times[1][i]));
        }
    }
    let note = |i: usize| {
        format!(
            "bare nft -f of the same elements {:.1} ms",
            median(&bare[i])
        )
    };
    let notes = [note(0), note(1)];
    latencies(CHANGE, ["10 NICs", "5,000 NICs"], ours, notes)
}

/// Line 3: one member of a small group, and of a large one.
fn member(host: &Host, rounds: u16) -> Vec<Line> {
    let mut ours = [Vec::new(), Vec::new()];
    let mut next = 1_000_000;
    for round in 0..=rounds {
        progress(&format!("api: one member added, round {round} of {rounds}"));
        let mut times = [Vec::new(), Vec::new()];
        for _ in 0..CALLS {
            next += 1;
            for (group, times) in ["few", "many"].into_iter().zip(&mut times) {
                let address = world::elsewhere(next);
                let (took, _) = timed(|| host.daemon.apply(joined(group, &address)));
                times.push(took.as_secs_f64() * 1e3);
                host.daemon.apply(left(group, &address));
            }
        }
        for i in (0..2).filter(|_| round > 0) {
            ours[i].push(median(&times[i]));
        }
    }
    let notes = [String::new(), String::new()];
    latencies(MEMBER, ["10 members", "10,000 members"], ours, notes)
}

fn joined(group: &str, address: &str) -> pb::ApplyRequest {
    let member = pb::Member {
        address: address.to_owned(),
        delegated_prefixes: Vec::new(),
    };
    members(pb::MembersDelta {
        group_id: group.to_owned(),
        add: vec![member],
        remove: Vec::new(),
    })
}

fn left(group: &str, address: &str) -> pb::ApplyRequest {
    members(pb::MembersDelta {
        group_id: group.to_owned(),
        add: Vec::new(),
        remove: vec![address.to_owned()],
    })
}

fn members(delta: pb::MembersDelta) -> pb::ApplyRequest {
    pb::ApplyRequest {
        members: vec![delta],
        ..pb::ApplyRequest::default()
    }
}

/// A line for each size, whose rounds are medians of calls, and one for their ratio. The time is
/// promised at the small size, and the ratio.
fn latencies(
    group: &'static str,
    sizes: [&str; 2],
    times: [Vec<f64>; 2],
    notes: [String; 2],
) -> Vec<Line> {
    let line = |name: String, unit, rounds, target, note| Line {
        group,
        name,
        unit,
        rounds,
        target,
        note,
    };
    let [small, large] = times;
    let [few, many] = notes;
    let ratio = ratios(&large, &small);
    let limit = Target::AtMost;
    let (p50, ratio_of) = (
        |size| format!("p50 with {size}"),
        format!("{} / {}", sizes[1], sizes[0]),
    );
    vec![
        line(p50(sizes[0]), "ms", small, limit(25.0), few),
        line(p50(sizes[1]), "ms", large, Target::None, many),
        line(ratio_of, "x", ratio, limit(1.5), String::new()),
    ]
}

/// Line 5. The children are measured with a daemon of their own: the reporter slows them.
fn memory() -> Vec<Line> {
    progress("api: memory with 5,000 NICs");
    let reporter = Reporter::new();
    let host = Host::new(LARGE, &reporter.program());
    host.sync(world::sync(LARGE));
    for turn in 0..5 {
        host.change(turn);
    }
    std::thread::sleep(Duration::from_secs(2));
    let mebibytes = |kibibytes: u32| vec![f64::from(kibibytes) / 1024.0];
    let line = |name: &str, kibibytes, target| Line {
        group: MEMORY,
        name: name.to_owned(),
        unit: "MiB",
        rounds: mebibytes(kibibytes),
        target,
        note: String::new(),
    };
    let daemon = &host.daemon;
    let lines = vec![
        line(
            "the daemon, at rest",
            daemon.memory("VmRSS"),
            Target::AtMost(64.0),
        ),
        line("the daemon, greatest", daemon.memory("VmHWM"), Target::None),
        line(
            "the greatest of its children (nft)",
            reporter.greatest(),
            Target::None,
        ),
    ];
    drop(host.namespace);
    lines
}

fn timed<T>(job: impl FnOnce() -> T) -> (Duration, T) {
    let began = Instant::now();
    let result = job();
    (began.elapsed(), result)
}
