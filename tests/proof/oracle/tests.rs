//! The oracle asked about frames made by hand: what passes, and what one row alone stops.

mod cut;
mod first;
mod groups;
mod received;
mod sent;
mod special;

use sgagent::model::Direction;
use sgagent::pb;

use super::super::frames::World;
use super::{FirstCome, FlowState, Question, violated};
use crate::support::packet::Wire;
use crate::support::want::{bare_nic, group, nic};
use crate::support::who::{A, B, Machine, R};

/// A as the test wants it, and B, on a bridge whose configuration names nobody.
fn world(a: pb::Nic) -> World {
    World {
        nics: vec![a, nic(B)],
        groups: vec![group("open", &[]), group("rules", &[])],
        members: Vec::new(),
        routers: Vec::new(),
        dhcpv6_servers: Vec::new(),
        earlier: Vec::new(),
        heard_routers: Vec::new(),
    }
}

/// A with its SLAAC address and its delegated prefix, in no group.
fn usual() -> World {
    world(nic(A))
}

/// A with a link-local address alone.
fn bare() -> pb::Nic {
    bare_nic(A)
}

struct Asked<'a> {
    world: &'a World,
    direction: Direction,
    flow: FlowState,
    first_come: FirstCome,
}

impl Asked<'_> {
    fn rows(&self, frames: &[Vec<u8>]) -> String {
        let rows = violated(&Question {
            desired: &self.world.desired(),
            host: &self.world.host(),
            interface: &A.port.parse().unwrap(),
            nic: &A.port.parse().unwrap(),
            direction: self.direction,
            unseen: false,
            frames,
            flow: self.flow,
            first_come: &self.first_come,
        });
        rows.into_iter().collect::<Vec<_>>().join(" ")
    }
}

fn asked(world: &World, direction: Direction) -> Asked<'_> {
    Asked {
        world,
        direction,
        flow: FlowState::None,
        first_come: FirstCome::default(),
    }
}

/// The rows that A violates by sending this.
fn sent(world: &World, wire: &impl Wire) -> String {
    asked(world, Direction::Egress).rows(&wire.frames())
}

/// The rows by which this doesn't get to A.
fn received(world: &World, wire: &impl Wire) -> String {
    asked(world, Direction::Ingress).rows(&wire.frames())
}

/// What the router sends to A: to its global address, or to its link-local one.
fn to_a(packet: &crate::support::packet::Packet) -> crate::support::packet::Packet {
    packet.clone().eth_src(R.mac).eth_dst(A.mac)
}

/// The link-local address of A at the end of a NIC's other one.
const OTHERS: Machine = B;
