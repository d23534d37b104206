//! The product's evaluator, asked about a world.

use std::sync::Arc;

use sgagent::model::{Desired, Direction, IfName, Located};
use sgagent::policy::{Explainer, Explanation, FlowState, Numbering, Origin, Question, compile};
use sgagent::ruleset::{Learned, NicNumber, Ruleset};

use super::frames::World;
use super::oracle::FirstCome;

/// A world as the agent compiles it.
pub(crate) struct Model {
    pub desired: Desired,
    pub host: Arc<Located>,
    ruleset: Arc<Ruleset>,
    explainer: Explainer,
    interfaces: Vec<IfName>,
    numbers: Vec<NicNumber>,
    pub learned: Learned,
}

/// What is asked of a datagram beside its frames.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Course {
    /// The position of the NIC in the world.
    pub nic: usize,
    pub direction: Direction,
    pub origin: Origin,
    pub flow: FlowState,
    pub br_netfilter: bool,
}

impl Model {
    pub(crate) fn new(world: &World) -> Self {
        let (desired, host) = (world.desired(), Arc::new(world.host()));
        let compiled = compile(&desired, &host, &mut Numbering::default());
        let ruleset = compiled.ruleset;
        let number = |nic: usize| {
            let id = world.id(nic);
            let mut all = ruleset.nics.iter();
            *all.find(|(_, rules)| rules.id == id).unwrap().0
        };
        let nics = 0..world.nics.len();
        Self {
            numbers: nics.clone().map(number).collect(),
            interfaces: nics
                .map(|nic| world.nics[nic].id.parse().unwrap())
                .collect(),
            explainer: Explainer::new(&ruleset),
            desired,
            host,
            ruleset,
            learned: Learned::default(),
        }
    }

    /// What came before.
    pub(crate) fn learn(&mut self, first_come: &FirstCome) {
        for (number, rules) in &self.ruleset.nics {
            if let Some(claims) = first_come.claims.get(&rules.id) {
                self.learned.claims.insert(*number, claims.clone());
            }
        }
        self.learned
            .heard_routers
            .clone_from(&first_come.heard_routers);
    }

    pub(crate) fn explain(&self, frames: &[Vec<u8>], course: Course) -> Explanation {
        let question = Question {
            nic: self.numbers[course.nic],
            interface: &self.interfaces[course.nic],
            direction: course.direction,
            origin: course.origin,
            frames,
            flow: course.flow,
            learned: &self.learned,
            br_netfilter: course.br_netfilter,
            checksums: true,
        };
        self.explainer.explain(&question).unwrap()
    }
}
