//! SIGKILL at every step of a change and of a start.
//!
//! The agent is started to die at one of its places (src/failpoint.rs) and gets changes until it
//! does. Then it is started again: what it has is what was acknowledged, or what it was being told
//! when it died; the kernel has the same; a flow that this does not allow is cut; and whoever
//! repeats what was not answered gets his answer.

use std::collections::BTreeMap;

use sgagent::failpoint;

use super::fixture::{host, start};
use super::random::{Random, number};
use super::served::{
    empty_disk, fill_disk, large_change, own_disk, restart, wait_for_end, wait_for_health,
};
use super::traffic::Traffic;
use super::wanted::Wanted;
use crate::support::net::Net;

/// So many changes, or starts, get to every place.
const TRIES: usize = 60;

/// Places that only a full disk leads to.
const FULL_DISK: &[&str] = &["take-back", "taken-back"];

/// What was acknowledged, and what was not answered.
struct State {
    acknowledged: Wanted,
    asked: Option<Wanted>,
    round: u16,
}

#[test]
fn killed_at_every_step() {
    let kills = number("SGAGENT_FAULTS_KILLS", 20);
    let mut random = Random::new();
    let mut net = start(host());
    own_disk(&mut net, 6);
    push_all(&mut net);
    let mut traffic = Traffic::start(&net);
    let mut state = State {
        acknowledged: Wanted::first(),
        asked: None,
        round: 0,
    };
    let mut died_at: BTreeMap<&str, usize> = BTreeMap::new();
    for kill in 0..kills {
        // Each in its turn, but those of a default run from anywhere in the list.
        let place = failpoint::ALL[(kill * 7 + 3) % failpoint::ALL.len()];
        let nth = nth(place, &mut random);
        traffic.doing(&format!("kill {kill} at {place}:{nth}"));
        state.acknowledged.begin_flow(&mut traffic);
        die(&mut net, &mut traffic, &mut state, place, nth);
        *died_at.entry(place).or_default() += 1;
        if random.below(4) == 0 {
            // Nobody is there: what is in force stays.
            std::thread::sleep(std::time::Duration::from_millis(300));
        }
        traffic.doing(&format!("start after kill {kill} at {place}:{nth}"));
        assert!(restart(&mut net, &[]), "{}", net.agent.log());
        judge(&net, &mut traffic, &mut state);
    }
    println!("died at {died_at:?}");
    if kills >= failpoint::ALL.len() {
        assert_eq!(died_at.len(), failpoint::ALL.len());
    }
    traffic.finish("killed_at_every_step", kills);
}

/// 7 and the number of places have no divisor in common, or some would never have their turn.
#[test]
fn every_place_has_its_turn() {
    let all = failpoint::ALL.len();
    let turns: std::collections::BTreeSet<_> = (0..all).map(|kill| (kill * 7 + 3) % all).collect();
    assert_eq!(turns.len(), all);
}

/// The fixture's NICs and the one that is changed.
pub(super) fn push_all(net: &mut Net) {
    let request = host().change;
    net.apply(request);
    Wanted::first().push(None, net).unwrap();
    net.wait_for(super::fixture::PROBED, sgagent::pb::NicState::Active);
}

/// Places that a start gets to, too, are taken there as well as in a change.
fn nth(place: &str, random: &mut Random) -> usize {
    match place {
        "nft-start" | "nft-started" | "nft-ended" => 1 + random.below(20),
        "ports" | "start" | "start-loaded" | "start-applied" | "start-listening" => 1,
        _ if FULL_DISK.contains(&place) => 1,
        _ => 1 + random.below(4),
    }
}

/// Starts the agent so that it dies at a place, and drives it there.
fn die(net: &mut Net, traffic: &mut Traffic, state: &mut State, place: &str, nth: usize) {
    let environment = [("SGAGENT_FAILPOINT", format!("{place}:{nth}"))];
    if !restart(net, &environment) {
        return died(net, place);
    }
    for _ in 0..TRIES {
        if FULL_DISK.contains(&place) {
            fill_disk(net);
            let large = large_change();
            let answer = net.agent.call(async |mut client| client.apply(large).await);
            assert!(answer.is_err(), "there was room on the disk");
            empty_disk(net);
        } else {
            let next = state.acknowledged.next();
            match next.push(Some(state.acknowledged), net) {
                Ok(()) => state.acknowledged = next,
                Err(_) => state.asked = Some(next),
            }
        }
        if state.asked.is_some() || FULL_DISK.contains(&place) || net.agent.ended().is_some() {
            wait_for_end(net);
        }
        if net.agent.ended().is_some() {
            return died(net, place);
        }
        if state.acknowledged.generation.is_multiple_of(2) {
            state.acknowledged.begin_flow(traffic);
        }
    }
    panic!("{place}:{nth} is not reached");
}

fn died(net: &mut Net, place: &str) {
    use std::os::unix::process::ExitStatusExt as _;
    let status = net.agent.ended().unwrap();
    assert_eq!(status.signal(), Some(9), "{place}:\n{}", net.agent.log());
}

/// The agent is back: it, its disk and the kernel have the same, and nothing is forgotten.
fn judge(net: &Net, traffic: &mut Traffic, state: &mut State) {
    wait_for_health(net, true, "");
    let State { round, .. } = *state;
    state.round += 1;
    let has = Wanted::told_by(net);
    let before = state.acknowledged;
    let may_have = [Some(before), state.asked];
    assert!(
        may_have.contains(&Some(has)),
        "{has:?} is none of {may_have:?}"
    );
    has.is_in_force(traffic, round * 3);
    // A flow of before lives if its rule is the same; it was begun in the last state that
    // was acknowledged while the flow was made.
    assert!(!has.same_rule(before) || before.flow_lives(traffic));
    if let Some(asked) = state.asked.take() {
        // It is repeated, and has come true already or does now.
        traffic.doing("repeat what was not answered");
        asked.push(Some(before), net).unwrap();
        assert_eq!(Wanted::told_by(net), asked);
        asked.is_in_force(traffic, round * 3 + 1);
        assert!(asked.same_rule(before) || !before.flow_lives(traffic));
        state.acknowledged = asked;
    }
}
