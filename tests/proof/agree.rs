//! The evaluator and the naive oracle say the same of random datagrams.

use std::collections::BTreeMap;

use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::Config;
use sgagent::policy::{FlowState, Origin, Verdict};

use super::frames::{Datagram, World, recipe, world};
use super::model::{Course, Model};
use super::oracle::{self, Question, complete, violated};
use super::random::runner;

/// How many datagrams each world gets.
const EACH: u32 = 100;

/// How many datagrams are compared: `SGAGENT_PROOF_AGREE`.
fn wanted() -> u32 {
    let given = std::env::var("SGAGENT_PROOF_AGREE").ok();
    given.map_or(20_000, |text| text.parse().unwrap())
}

/// What both say of a datagram, where they disagree.
fn differ(world: &World, model: &Model, datagram: &Datagram, flow: FlowState) -> Option<String> {
    let first_come = world.first_come(&model.desired);
    let unseen = datagram.may_be_of_host();
    let origin = if unseen { Origin::Host } else { Origin::Uplink };
    let course = Course {
        nic: datagram.nic,
        direction: datagram.direction,
        origin,
        flow,
        // It asks more of hop-by-hop options than the policy does, but not of the host's.
        br_netfilter: unseen,
    };
    let said = model.explain(&datagram.frames, course);
    let rows = violated(&Question {
        desired: &model.desired,
        host: &model.host,
        interface: &world.nics[datagram.nic].id.parse().unwrap(),
        nic: &world.id(datagram.nic),
        direction: datagram.direction,
        unseen,
        frames: &datagram.frames,
        flow: match flow {
            FlowState::None => oracle::FlowState::None,
            FlowState::Established => oracle::FlowState::Established,
            FlowState::Related => oracle::FlowState::Related,
        },
        first_come: &first_come,
    });
    let accepted = said.verdict == Verdict::Accept;
    let passes = rows.is_empty() && complete(&datagram.frames);
    let row = said.row;
    (accepted != passes).then(|| {
        format!("{datagram:?}\n{flow:?}: the evaluator {:?} by {row} ({}), the oracle {rows:?}\n{world:?}", said.verdict, said.text)
    })
}

#[test]
fn evaluator_and_oracle_agree() {
    let mut random = runner(Config::default());
    let mut disagreements: BTreeMap<String, String> = BTreeMap::new();
    let (mut count, mut mismatches) = (0, 0);
    while count < wanted() {
        let world = world().new_tree(&mut random).unwrap().current();
        let mut model = Model::new(&world);
        model.learn(&world.first_come(&model.desired));
        for _ in 0..EACH {
            let (recipe, flow) = (recipe(), flow()).new_tree(&mut random).unwrap().current();
            for datagram in recipe.in_world(&world).packets() {
                if let Some(text) = differ(&world, &model, &datagram, flow) {
                    // One of each kind tells enough.
                    let kind = text.lines().find(|line| line.contains("the evaluator"));
                    mismatches += 1;
                    disagreements.insert(kind.unwrap_or_default().to_owned(), text);
                }
                count += 1;
            }
        }
        eprintln!("proof: {count} of {} datagrams agreed on", wanted());
    }
    println!("proof: agree: {count} datagrams compared, {mismatches} mismatches");
    let shown: Vec<_> = disagreements.into_values().take(40).collect();
    assert!(shown.is_empty(), "{}", shown.join("\n\n"));
}

fn flow() -> impl Strategy<Value = FlowState> {
    prop_oneof![
        6 => Just(FlowState::None),
        1 => Just(FlowState::Established),
        1 => Just(FlowState::Related),
    ]
}
