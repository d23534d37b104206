//! Random worlds and datagrams, at the border of what the policy allows: each datagram begins as
//! a message that somebody might well send, and is then changed in a few ways.

mod draft;
mod message;
mod mutation;
mod scene;
mod world;

use std::fmt;

use proptest::prelude::*;
use sgagent::model::Direction;
use sgagent::policy::packets;

pub(crate) use world::{MACHINES, World, world};

use super::label::fragment_id;
use message::Kind;
use mutation::Mutation;
use scene::Scene;

/// One datagram, sent by a NIC, or to be delivered to it.
#[derive(Clone)]
pub(crate) struct Datagram {
    /// Its position in [`World::nics`].
    pub nic: usize,
    pub direction: Direction,
    /// If it is to be delivered: the host, and not the uplink, is to send it where it can.
    pub by_host: bool,
    /// One Ethernet frame, or its fragments. The flow label is zero.
    pub frames: Vec<Vec<u8>>,
    /// How it came about; for people.
    pub story: String,
}

impl Datagram {
    /// The same as reassembly takes it: what it finds no fragment header in is a packet of its
    /// own.
    pub(crate) fn packets(&self) -> Vec<Self> {
        let part = |which: Vec<usize>| Self {
            frames: which.iter().map(|i| self.frames[*i].clone()).collect(),
            ..self.clone()
        };
        packets(&self.frames).into_iter().map(part).collect()
    }

    /// Whether the host can be who sends it: T4 is about fragments that enter by a port.
    pub(crate) fn may_be_of_host(&self) -> bool {
        let whole = self.frames.len() == 1 && fragment_id(&self.frames[0]).is_none();
        self.by_host && whole && self.direction == Direction::Ingress
    }
}

impl fmt::Debug for Datagram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (port, story) = (MACHINES[self.nic].port, &self.story);
        write!(f, "{port} {:?} {story}", self.direction)?;
        for frame in &self.frames {
            let octets: Vec<_> = frame.iter().map(|octet| format!("{octet:02x}")).collect();
            write!(f, "\n  {}", octets.concat())?;
        }
        Ok(())
    }
}

/// How to make a datagram, in whatever world. It shrinks to a right message of the first NIC.
#[derive(Debug, Clone)]
pub(crate) struct Recipe {
    nic: usize,
    egress: bool,
    kind: Kind,
    /// Choices among what a world has to offer; zero is the likeliest to be right.
    choices: Vec<u16>,
    mutations: Vec<Mutation>,
}

impl Recipe {
    pub(crate) fn in_world(&self, world: &World) -> Datagram {
        let nic = self.nic % world.nics.len();
        let direction = if self.egress {
            Direction::Egress
        } else {
            Direction::Ingress
        };
        let mut scene = Scene::new(world, nic, direction, &self.choices);
        let mut draft = message::draft(self.kind, &mut scene);
        for mutation in &self.mutations {
            mutation.change(&mut draft, &mut scene);
        }
        Datagram {
            nic,
            direction,
            by_host: self.choices.last().is_some_and(|last| last % 5 == 4),
            frames: draft.frames(),
            story: format!("{:?} {:?}", self.kind, self.mutations),
        }
    }
}

pub(crate) fn recipe() -> impl Strategy<Value = Recipe> {
    let choices = prop::collection::vec(any::<u16>(), 12);
    let mutations = prop::collection::vec(mutation::mutation(), 0..=3);
    (
        0..4_usize,
        any::<bool>(),
        message::kind(),
        choices,
        mutations,
    )
        .prop_map(|(nic, egress, kind, choices, mutations)| Recipe {
            nic,
            egress,
            kind,
            choices,
            mutations,
        })
}

/// A datagram of a world.
pub(crate) fn datagram(world: World) -> impl Strategy<Value = Datagram> {
    recipe().prop_map(move |recipe| recipe.in_world(&world))
}
