//! Clocks that jump.
//!
//! The wall clock is the whole machine's and is not set here. That nothing depends on it is read
//! from the source: it is asked in one place, for what is told of drifts, NICs, events and drops.
//! The clocks that timers go by are jumped as far as they can be: they begin elsewhere at each
//! start (a time namespace), and they jump forward while the agent is held, as they do for a machine
//! that was suspended.

use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::fixture::{host, start};
use super::kills::push_all;
use super::places::sources;
use super::served::wait_for_health;
use super::traffic::Traffic;
use super::wanted::Wanted;
use crate::support::net::Net;

#[test]
fn the_wall_clock_is_asked_for_what_is_told_only() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let code = |file: &PathBuf| {
        let text = std::fs::read_to_string(file).unwrap();
        text.split("#[cfg(test)]").next().unwrap().to_owned()
    };
    // The operator's client is no part of the daemon.
    let daemon = sources(&root).into_iter();
    let daemon: Vec<_> = daemon
        .filter(|file| !file.starts_with(root.join("sgctl")))
        .collect();
    let words = [
        "SystemTime::now",
        "UNIX_EPOCH)",
        "clock_gettime",
        "Utc::now",
    ];
    let asks = |file: &&PathBuf| words.iter().any(|word| code(file).contains(word));
    let asking: Vec<_> = daemon.iter().filter(asks).collect();
    let times = root.join("agent/times.rs");
    assert_eq!(asking, [&times]);
    assert_eq!(code(&times).matches("SystemTime::now").count(), 1);
    let told = [
        (
            "agent/actor.rs",
            "let now = super::times::now_ms();\n        self.times.advance(",
        ),
        ("agent/drift.rs", "noticed_at_ms: now_ms()"),
        ("agent/events.rs", " at_ms: now_ms()"),
        ("agent/drop_watch.rs", " at_ms: now_ms()"),
    ];
    for (file, telling) in told {
        assert_eq!(code(&root.join(file)).matches(telling).count(), 1, "{file}");
    }
    let calls = daemon
        .iter()
        .map(|file| code(file).matches("now_ms()").count());
    // One is the function itself.
    assert_eq!(calls.sum::<usize>(), told.len() + 1);
}

/// Starts it where the clocks since the machine's start have advanced by so many seconds more.
fn start_at(net: &mut Net, offset: u64) {
    net.agent.kill();
    // What was in a time namespace dies of its parent's death, a moment later.
    std::thread::sleep(Duration::from_millis(300));
    if offset == 0 {
        return net.agent.spawn(&net.namespace, &[], &[]);
    }
    let offset = offset.to_string();
    let by = [
        "unshare",
        "--time",
        "--monotonic",
        &offset,
        "--boottime",
        &offset,
    ];
    let by = [&by[..], &["--fork", "--kill-child"]].concat();
    net.agent.spawn(&net.namespace, &by, &[]);
}

#[test]
fn a_start_at_another_time_and_a_long_pause() {
    let mut net = start(host());
    push_all(&mut net);
    let mut wanted = Wanted::first();
    let mut traffic = Traffic::start(&net);
    wanted.begin_flow(&mut traffic);
    // As far as a time namespace goes, and back to the time since the machine's start.
    let offsets = [0, 1_000_000, 1_000_000_000, 0];
    for (round, offset) in (0..).zip(offsets) {
        traffic.doing(&format!("a start {offset} s later"));
        start_at(&mut net, offset);
        assert!(net.agent.wait_until_ready().is_ok(), "{}", net.agent.log());
        let status = wait_for_health(&net, true, "");
        assert!(status.uptime_seconds < 60, "{status:?}");
        let next = wanted.next();
        next.push(Some(wanted), &net).unwrap();
        wanted = next;
        wanted.is_in_force(&mut traffic, round);
        wanted.begin_flow(&mut traffic);
    }
    traffic.doing("the agent is held");
    let pid = Pid::from_raw(net.agent.pid().try_into().unwrap());
    kill(pid, Signal::SIGSTOP).unwrap();
    std::thread::sleep(Duration::from_secs(4));
    kill(pid, Signal::SIGCONT).unwrap();
    traffic.doing("the agent goes on");
    let next = wanted.next();
    next.push(Some(wanted), &net).unwrap();
    next.is_in_force(&mut traffic, 100);
    let status = wait_for_health(&net, true, "");
    assert!(status.drifts.is_empty(), "{status:?}");
    traffic.finish(
        "a_start_at_another_time_and_a_long_pause",
        offsets.len() + 1,
    );
}
