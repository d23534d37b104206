//! A host goes from one dataplane to another and back, while packets flow: for a moment both are in
//! force, and never neither.

use super::fixture::{host, start};
use super::kills::push_all;
use super::random::number;
use super::served::restart;
use super::traffic::Traffic;
use super::wanted::Wanted;
use crate::support::net::Net;
use crate::support::plan::{Dataplane, keys};

#[test]
fn switched_between_dataplanes() {
    let rounds = number("SGAGENT_FAULTS_APPLIES", 50).div_ceil(10);
    let mut net = start(host());
    push_all(&mut net);
    // What holds the filters of the guests' ports is there from now on: to put it on a port that
    // carries packets costs some of them (qdisc_graft, net/sched/sch_api.c).
    switch(&mut net, Dataplane::Ip6tables);
    switch(&mut net, Dataplane::Nftables);
    let mut traffic = Traffic::start(&net);
    for round in 0..rounds {
        let next = if round % 2 == 0 {
            Dataplane::Ip6tables
        } else {
            Dataplane::Nftables
        };
        traffic.doing(&format!("round {round}: to {next:?}"));
        switch(&mut net, next);
        Wanted::first().is_in_force(&mut traffic, u16::try_from(round).unwrap());
    }
    traffic.finish("switched_between_dataplanes", rounds);
}

/// Starts the agent anew with another dataplane: of the one before nothing is left.
fn switch(net: &mut Net, to: Dataplane) {
    let path = net.agent.path("sgagent.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    let (_, rest) = text.split_once("# of all dataplanes\n").unwrap();
    std::fs::write(&path, keys(to) + rest).unwrap();
    assert!(restart(net, &[]), "{}", net.agent.log());
    let status = net.agent_status();
    let nft = to == Dataplane::Nftables;
    assert_eq!(status.dataplane == "nftables", nft);
    assert!(status.healthy, "{status:?}");
    let tables = net.namespace.command("nft list tables");
    let sets = net.namespace.command("ipset list -n");
    assert_eq!(tables.contains("sgagent"), nft, "{tables}");
    assert_eq!(sets.contains("sgagent"), !nft, "{sets}");
}
