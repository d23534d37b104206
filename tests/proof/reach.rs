//! The strategies reach every row of the policy, alone, and what passes: a comparison over them is
//! not blind.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::{RngAlgorithm, TestError, TestRng, TestRunner};
use sgagent::model::Direction;

use super::frames::{datagram, recipe, world};
use super::oracle::{FlowState, Question, complete, violated};

const ROWS: [&str; 21] = [
    "G1", "G2", "G3", "G4", "G5", "G6", "G7", "G8", "G9", "G10", "G11", "G12", "G13", "T1", "T2",
    "T3", "T4", "T5", "S2", "S3", "S4",
];

#[test]
fn random_datagrams_reach_every_row_alone_and_what_passes() {
    let mut random = TestRunner::deterministic();
    let mut alone: BTreeMap<&str, u32> = BTreeMap::new();
    let mut sizes: BTreeMap<Direction, (u32, u32)> = BTreeMap::new();
    for _ in 0..400 {
        let world = world().new_tree(&mut random).unwrap().current();
        let (desired, host) = (world.desired(), world.host());
        let first_come = world.first_come(&desired);
        for _ in 0..50 {
            let tree = datagram(world.clone()).new_tree(&mut random);
            let datagram = tree.unwrap().current();
            let nic = world.id(datagram.nic);
            let rows = violated(&Question {
                desired: &desired,
                host: &host,
                interface: &world.nics[datagram.nic].id.parse().unwrap(),
                nic: &nic,
                direction: datagram.direction,
                unseen: false,
                frames: &datagram.frames,
                flow: FlowState::None,
                first_come: &first_come,
            });
            let (all, passed) = sizes.entry(datagram.direction).or_default();
            *all += 1;
            *passed += u32::from(rows.is_empty() && complete(&datagram.frames));
            if let [row] = rows.into_iter().collect::<Vec<_>>()[..] {
                *alone.entry(row).or_default() += 1;
            }
        }
    }
    let missed: BTreeSet<_> = ROWS
        .iter()
        .filter(|row| !alone.contains_key(*row))
        .collect();
    assert!(
        missed.is_empty(),
        "never violated alone: {missed:?} of {alone:?}"
    );
    for (direction, (all, passed)) in &sizes {
        assert!(
            passed * 100 >= all * 15,
            "{direction:?}: {passed} of {all} pass"
        );
    }
    println!("alone: {alone:?}\npassed of: {sizes:?}");
}

#[test]
fn what_fails_shrinks_to_a_small_world_and_one_change() {
    let config = ProptestConfig {
        failure_persistence: None,
        max_shrink_iters: 20_000,
        ..ProptestConfig::default()
    };
    let random = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    let mut runner = TestRunner::new_with_rng(config, random);
    let tagged = |frame: &Vec<u8>| frame[12..14] == [0x81, 0];
    let found = runner.run(&(world(), recipe()), |(world, recipe)| {
        let datagram = recipe.in_world(&world);
        prop_assert!(!datagram.frames.iter().any(tagged));
        Ok(())
    });
    let Err(TestError::Fail(_, (world, recipe))) = found else {
        unreachable!("one in thirty changes is a tag");
    };
    let datagram = recipe.in_world(&world);
    assert_eq!(datagram.story, "Udp [Tag([129, 0, 0, 5])]");
    assert_eq!((datagram.nic, world.nics.len()), (0, 2));
    let text = format!("{world:?}");
    assert!(text.lines().count() <= 8 && text.len() < 800, "{text}");
}
