//! Netlink overruns: the agent is held while more happens than the kernel keeps for it. What it
//! missed is found out all the same.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use sgagent::pb::NicState;

use super::fixture::{host, start};
use super::kills::push_all;
use super::served::wait_for_health;
use super::traffic::Traffic;
use super::wanted::Wanted;
use crate::support::net::{Net, slowness};
use crate::support::want::nic;
use crate::support::want::{ChangeExt as _, NicExt as _, change};
use crate::support::who::UNBOUND;

/// What was lost so far by sockets that listen to groups of a netlink protocol: the agent has the
/// only ones of its namespace.
fn lost(net: &Net, protocol: &str) -> u64 {
    let text = net.namespace.read("/proc/thread-self/net/netlink");
    let lines = text
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>());
    lines
        .filter(|words| words[1] == protocol && words[3] != "00000000")
        .map(|words| words[8].parse::<u64>().unwrap_or(0))
        .sum()
}

/// Does something again and again while the agent is held, until its socket overflows.
fn overrun(net: &Net, protocol: &str, mut more: impl FnMut(&Net)) -> usize {
    let before = lost(net, protocol);
    let mut rounds = 0;
    while lost(net, protocol) == before {
        rounds += 1;
        assert!(rounds < 400, "nothing is lost");
        more(net);
    }
    rounds
}

fn hold(net: &Net, signal: Signal) {
    kill(Pid::from_raw(net.agent.pid().try_into().unwrap()), signal).unwrap();
}

/// What is done faster than is told takes the processors from the traffic, too. Where that was too
/// slow, it proves little, and is done again.
fn until_fast(done: impl Fn() -> bool) {
    assert!((0..3).any(|_| done()), "too slow three times");
}

/// Somebody changes our tables behind it; nothing of that opens or closes what flows.
#[test]
fn rules_that_change_faster_than_is_told() {
    until_fast(rules_change);
}

fn rules_change() -> bool {
    let mut net = start(host());
    push_all(&mut net);
    let mut wanted = Wanted::first();
    let mut traffic = Traffic::start(&net);
    wanted.begin_flow(&mut traffic);
    let elements: Vec<_> = (0..60_000).map(|n| n.to_string()).collect();
    let script = tempfile::NamedTempFile::new().unwrap();
    let text = format!(
        "add table inet theirs\nadd set inet theirs s {{ type mark; }}\n\
         flush set inet theirs s\nadd element inet theirs s {{ {} }}\n",
        elements.join(", ")
    );
    std::fs::write(script.path(), text).unwrap();
    traffic.doing("the agent is held, rules change");
    hold(&net, Signal::SIGSTOP);
    let line = format!("nft -f {}", script.path().display());
    let rounds = overrun(&net, "12", |net| drop(net.namespace.command(&line)));
    // The probed guest goes dark by that.
    net.namespace
        .command("nft delete element bridge sgagent port_in { vnet3 }");
    traffic.doing("the agent goes on");
    hold(&net, Signal::SIGCONT);
    let told = "events lost: what others did to the rules is not known; they were replaced";
    let deadline = Instant::now() + Duration::from_secs(10) * slowness();
    while !net.agent.log().contains(told) {
        assert!(Instant::now() < deadline, "{}", net.agent.log());
        std::thread::sleep(Duration::from_millis(5));
    }
    wait_for_health(&net, true, "");
    wanted.is_in_force(&mut traffic, 0);
    let next = wanted.next();
    next.push(Some(wanted), &net).unwrap();
    wanted = next;
    wanted.is_in_force(&mut traffic, 1);
    println!("rules: lost after {rounds} rounds");
    traffic.finish_if_fast("rules_that_change_faster_than_is_told", 1)
}

/// Interfaces come and go; when it is over, the agent knows those that are there.
#[test]
fn interfaces_that_change_faster_than_is_told() {
    until_fast(interfaces_change);
}

fn interfaces_change() -> bool {
    let mut net = start(host());
    push_all(&mut net);
    let wanted = Wanted::first();
    let newcomer = UNBOUND.at("vnet8");
    let mut pending = nic(newcomer);
    "06:b2:00:00:04:88".clone_into(&mut pending.mac);
    pending.slaac_prefix.clear();
    net.apply(change().nic(pending.address("2001:db8:100:1::8")));
    let mut traffic = Traffic::start(&net);
    wanted.begin_flow(&mut traffic);
    let mut lines = String::new();
    for n in 0..100 {
        let _ = writeln!(lines, "tuntap add d{n} mode tap\nlink set d{n} up");
    }
    for n in 0..100 {
        let _ = writeln!(lines, "link del d{n}");
    }
    traffic.doing("the agent is held, interfaces change");
    hold(&net, Signal::SIGSTOP);
    let rounds = overrun(&net, "0", |net| net.namespace.ip_batch(&lines));
    net.namespace.ip_batch(
        "tuntap add vnet8 mode tap\nlink set vnet8 address fe:b2:00:00:04:88\n\
         link set vnet8 master br0 up\n",
    );
    traffic.doing("the agent goes on");
    hold(&net, Signal::SIGCONT);
    net.wait_for(newcomer, NicState::Active);
    wait_for_health(&net, true, "");
    wanted.is_in_force(&mut traffic, 0);
    assert!(wanted.flow_lives(&mut traffic));
    println!("interfaces: lost after {rounds} rounds");
    traffic.finish_if_fast("interfaces_that_change_faster_than_is_told", 1)
}
