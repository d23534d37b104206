//! `sgagent restore`: what a boot puts in force before there is a network, or closes.

use std::process::Output;

use super::host::{Host, nic};

const UNLOAD: &str = "nft delete table bridge sgagent; nft delete table ip6 sgagent; nft delete table netdev sgagent";

fn restore(host: &Host, bridges: &[&str]) -> (bool, String) {
    let Output { status, stderr, .. } = host.command("restore", bridges).output().unwrap();
    (status.success(), String::from_utf8(stderr).unwrap())
}

/// A host that was shut down with a NIC in force.
fn after_a_boot() -> Host {
    let mut host = Host::new();
    host.start(&["br0"]);
    assert!(host.sgctl(&["apply", &nic(host.files.path())]).0);
    host.stop();
    host.sh(UNLOAD);
    std::fs::remove_file(host.socket()).unwrap();
    host
}

fn damage(host: &Host) {
    let store = host.files.path().join("state/state.redb");
    std::fs::write(store, b"").unwrap();
}

fn guard(host: &Host) -> String {
    host.sh("nft list chain bridge sgagent guard; nft list map bridge sgagent nic_mark")
}

#[test]
fn what_was_acknowledged_is_in_force_and_nobody_is_served() {
    let host = after_a_boot();
    let (done, said) = restore(&host, &["br0"]);
    assert!(done, "{said}");
    let guard = guard(&host);
    assert!(
        guard.contains("goto drop_unbound") && guard.contains("vnet0"),
        "{guard}"
    );
    assert!(!host.socket().exists());
}

#[test]
fn guests_are_closed_where_the_state_is_damaged() {
    let host = after_a_boot();
    damage(&host);
    let (done, said) = restore(&host, &["br0"]);
    assert!(
        !done && said.contains("state.redb") && said.contains("guests' ports are closed"),
        "{said}"
    );
    let guard = guard(&host);
    assert!(
        guard.contains("goto drop_unbound") && !guard.contains("vnet0"),
        "{guard}"
    );
}

#[test]
fn guests_are_closed_where_there_never_was_a_state() {
    let host = Host::new();
    let (done, said) = restore(&host, &["br0"]);
    assert!(done, "{said}");
    assert!(guard(&host).contains("goto drop_unbound"));
}

#[test]
fn what_is_in_the_kernel_is_better_than_nothing() {
    let host = after_a_boot();
    assert!(restore(&host, &["br0"]).0);
    let before = guard(&host);
    damage(&host);
    let (done, said) = restore(&host, &["br0"]);
    assert!(!done && !said.contains("guests' ports"), "{said}");
    assert_eq!(guard(&host), before);
}

#[test]
fn a_daemon_whose_state_is_damaged_closes_guests_too() {
    let host = after_a_boot();
    damage(&host);
    let said = host.command("run", &["br0"]).output().unwrap();
    assert!(!said.status.success());
    let guard = guard(&host);
    assert!(
        guard.contains("goto drop_unbound") && !guard.contains("vnet0"),
        "{guard}"
    );
}

#[test]
fn a_daemon_that_runs_is_not_disturbed() {
    let mut host = Host::new();
    host.start(&["br0"]);
    assert!(host.sgctl(&["apply", &nic(host.files.path())]).0);
    let before = guard(&host);
    let (done, said) = restore(&host, &["br0"]);
    assert!(
        !done && said.contains("is another sgagent running?"),
        "{said}"
    );
    assert_eq!(guard(&host), before);
    assert!(host.sgctl(&["status", "--check"]).0);
}

#[test]
fn nothing_is_touched_where_no_bridge_is_managed() {
    let host = Host::new();
    let before = (host.settings(), host.tables());
    let (done, said) = restore(&host, &[]);
    assert!(done, "{said}");
    damage(&host);
    assert!(!restore(&host, &[]).0);
    assert_eq!((host.settings(), host.tables()), before);
}
