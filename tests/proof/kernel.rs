//! What the evaluator says is what the kernel does: random datagrams are sent into a real
//! bridge with the real agent's rules, at the port of a NIC, at the uplink or by the host. The
//! bridge floods them, so each is judged once by its sender's rows and once by those of every
//! other port.
//!
//! After a flow began, replies to it and errors about it are sent from where it arrived.
//! A case that fails shrinks; its seed is kept in tests/proof.proptest-regressions.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::net::Ipv6Addr;
use std::time::{Duration, Instant};

use proptest::prelude::*;
use proptest::test_runner::{Config, FileFailurePersistence, TestCaseError, TestError};
use sgagent::model::Direction;
use sgagent::pb;
use sgagent::policy::{Explanation, FlowState, Origin, Verdict};

use super::frames::{Datagram, MACHINES, Recipe, World, recipe, world};
use super::host_port::HostPort;
use super::label::{fragment_id, label, labelled};
use super::model::{Course, Model};
use super::random::runner;
use super::reply::{error_about, reply_to};
use crate::support::bridge_kind::{BridgeKind, bridge_kind};
use crate::support::net::{Net, slowness};
use crate::support::plan::{Placement, placement, plan};
use crate::support::who::{HOST, Machine, R};

/// How many datagrams a world gets at most; half of them on average.
const EACH: usize = 100;

/// How many datagrams are sent: `SGAGENT_PROOF_PACKETS`.
fn wanted() -> u32 {
    let given = std::env::var("SGAGENT_PROOF_PACKETS").ok();
    given.map_or(2_000, |text| text.parse().unwrap())
}

/// What was compared.
#[derive(Debug, Default)]
struct Tally {
    datagrams: Cell<u32>,
    /// A datagram at a port where it might come out.
    verdicts: Cell<u32>,
    accepted: Cell<u32>,
    /// Of flows that had begun.
    in_flows: Cell<u32>,
}

fn more(count: &Cell<u32>, by: u32) {
    count.set(count.get() + by);
}

/// Where a datagram enters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Entrance {
    /// The port of a NIC, by its position.
    Nic(usize),
    Uplink,
    /// The host itself.
    Host,
}

/// A world in a real kernel.
struct Bench<'a> {
    net: Net,
    model: Model,
    host: HostPort,
    world: &'a World,
    tally: &'a Tally,
    sent: u32,
    /// Flows that connection tracking may know: two addresses and a protocol.
    known: BTreeSet<Vec<u8>>,
}

impl<'a> Bench<'a> {
    fn new(world: &'a World, tally: &'a Tally) -> Self {
        let texts = |all: &[Ipv6Addr]| all.iter().map(Ipv6Addr::to_string).collect::<Vec<_>>();
        let (routers, servers) = (texts(&world.routers), texts(&world.dhcpv6_servers));
        let mut plan = plan().limits(
            "fragments_per_second = 1000000\nfragment_burst = 1000000\n\
             mld_per_second = 1000000\nmld_burst = 1000000\n\
             nd_per_second = 1000000\nnd_burst = 1000000\n\
             flows_per_second = 1000000\nflow_burst = 1000000\n",
        );
        plan.ports = [R].iter().chain(&MACHINES).map(|m| (*m, "br0")).collect();
        plan.bridge_config = format!("routers = {routers:?}\ndhcpv6_servers = {servers:?}\n");
        // Flooded: every port sees every frame.
        for (machine, _) in plan.ports.clone() {
            plan = plan.ip(&format!(
                "link set {} type bridge_slave learning off",
                machine.port
            ));
        }
        let mut net = plan.start();
        net.namespace.sysctl("net/ipv6/auto_flowlabels", "0");
        net.apply(request(world));
        Self {
            host: HostPort::of(&net),
            net,
            model: Model::new(world),
            world,
            tally,
            sent: 0,
            known: BTreeSet::new(),
        }
    }

    /// Sends a datagram, and says where it comes out that it should not, or does not where it
    /// should.
    fn datagram(&mut self, datagram: &Datagram) -> Result<(), String> {
        let from = match datagram.direction {
            Direction::Egress => Entrance::Nic(datagram.nic),
            Direction::Ingress if is_of_host(datagram) => Entrance::Host,
            Direction::Ingress => Entrance::Uplink,
        };
        if !can_be_sent(&datagram.frames) {
            return Ok(());
        }
        more(&self.tally.datagrams, 1);
        self.forget_flows(&datagram.frames);
        let arrived = self
            .compare(from, &datagram.frames, FlowState::None)
            .map_err(|why| format!("{datagram:?}\n{why}"))?;
        let Some(to) = arrived.first() else {
            return Ok(());
        };
        let to = MACHINES.iter().position(|machine| machine.port == to);
        let to = to.map_or(Entrance::Uplink, Entrance::Nic);
        if from == Entrance::Host {
            return Ok(()); // nothing tracks it
        }
        let [frame] = datagram.frames.as_slice() else {
            return Ok(());
        };
        if let Some(reply) = reply_to(frame) {
            more(&self.tally.in_flows, 2);
            // Where it came out last is where the answer comes from.
            let why = |why| format!("{datagram:?}\nits reply: {why}");
            self.compare(to, &[reply], FlowState::Established)
                .map_err(why)?;
            if from != Entrance::Uplink {
                let error = error_about(frame);
                let why = |why| format!("{datagram:?}\nan error about it: {why}");
                self.compare(Entrance::Uplink, &[error], FlowState::Related)
                    .map_err(why)?;
            }
        }
        Ok(())
    }

    /// Makes sure that a datagram is of no flow that is known.
    fn forget_flows(&mut self, frames: &[Vec<u8>]) {
        let key = flow_key(frames);
        let clash = key.as_ref().is_none_or(|key| self.known.contains(key));
        if clash {
            self.net.namespace.command("conntrack -F");
            self.known.clear();
        }
        self.known.extend(key);
    }

    /// The ports where it comes out.
    fn compare(
        &mut self,
        from: Entrance,
        frames: &[Vec<u8>],
        flow: FlowState,
    ) -> Result<Vec<String>, String> {
        self.sent += 1;
        let frames = labelled(frames, self.sent);
        let (expected, why) = self.expected(from, &frames, flow);
        self.net.drain();
        let sender = match from {
            Entrance::Nic(nic) => MACHINES[nic],
            Entrance::Uplink => R,
            Entrance::Host => HOST,
        };
        for frame in &frames {
            match from {
                Entrance::Host => self.host.send(frame),
                Entrance::Nic(_) | Entrance::Uplink => self.net.tap(sender).send(frame),
            }
        }
        let arrived = self.arrived(sender, &frames, &expected);
        // Its own tracking loses these (`nf_br_ip6_fragment`).
        let lossy = placement() == Placement::Bridge && are_small_fragments(&frames);
        // And a bridge that snoops what it takes for broken (`ipv6_mc_check_mld`).
        let lossy = lossy || (bridge_kind() == BridgeKind::Snooping && may_be_broken(&frames[0]));
        if lossy && arrived.is_subset(&expected) {
            return Ok(Vec::new());
        }
        more(&self.tally.verdicts, u32::try_from(MACHINES.len()).unwrap());
        more(&self.tally.accepted, u32::try_from(arrived.len()).unwrap());
        if arrived == expected {
            return Ok(arrived.into_iter().collect());
        }
        Err(format!(
            "{flow:?} from {}: arrived at {arrived:?}, not at {expected:?}\n{why}",
            sender.port
        ))
    }

    /// Where the evaluator says that it comes out, and why.
    fn expected(
        &mut self,
        from: Entrance,
        frames: &[Vec<u8>],
        flow: FlowState,
    ) -> (BTreeSet<String>, String) {
        let mut why = String::new();
        let (mut ports, mut passed) = (BTreeSet::new(), !stays(&frames[0]));
        if from == Entrance::Host {
            // The bridge floods all but what is to itself.
            passed = frames[0][..6] != HOST.mac;
            ports.extend(passed.then(|| R.port.to_owned()));
        }
        if let Entrance::Nic(nic) = from {
            let course = Course {
                nic,
                direction: Direction::Egress,
                origin: Origin::Uplink,
                flow,
                br_netfilter: placement() == Placement::BrNetfilter,
            };
            let said = self.model.explain(frames, course);
            why.push_str(&in_words("out", &said));
            passed &= said.verdict == Verdict::Accept;
            if passed {
                ports.insert(R.port.to_owned());
            }
            self.model.learned = said.learned;
        }
        let origin = match from {
            Entrance::Nic(_) => Origin::Nic,
            Entrance::Uplink => Origin::Uplink,
            Entrance::Host => Origin::Host,
        };
        for nic in (0..self.world.nics.len()).filter(|nic| Entrance::Nic(*nic) != from) {
            let course = Course {
                nic,
                direction: Direction::Ingress,
                origin,
                flow,
                br_netfilter: placement() == Placement::BrNetfilter,
            };
            let said = self.model.explain(frames, course);
            let port = MACHINES[nic].port;
            why.push_str(&in_words(port, &said));
            if passed && said.verdict == Verdict::Accept {
                ports.insert(port.to_owned());
            }
            self.model.learned = said.learned;
        }
        (ports, why)
    }

    /// Where it comes out. The kernel is done with a frame before `send` returns; only what
    /// does not come is waited for.
    fn arrived(
        &self,
        sender: Machine,
        frames: &[Vec<u8>],
        expected: &BTreeSet<String>,
    ) -> BTreeSet<String> {
        let mut arrived = BTreeSet::new();
        let deadline = Instant::now() + Duration::from_millis(300) * slowness();
        for machine in [R].iter().chain(&MACHINES) {
            if machine.port == sender.port {
                continue;
            }
            let tap = self.net.tap(*machine);
            let mut found = false;
            while let Some(frame) = tap.pending() {
                found |= is_of(&frame, frames);
            }
            while !found && expected.contains(machine.port) {
                let Some(frame) = tap.receive(deadline) else {
                    break;
                };
                found = is_of(&frame, frames);
            }
            if found {
                arrived.insert(machine.port.to_owned());
            }
        }
        arrived
    }
}

/// Whether the host sends it, as whoever writes to the bridge itself does (a DHCPv6 relay, say).
/// In placement `bridge` such a frame has no state, not even that of a packet of no flow.
/// A bridge that filters VLANs reads a tag of the host's, and takes it off or drops the frame.
fn is_of_host(datagram: &Datagram) -> bool {
    let tagged = |frame: &Vec<u8>| frame.get(12..14) == Some(&[0x81, 0]);
    let is_read = bridge_kind() == BridgeKind::Filtering && datagram.frames.iter().any(tagged);
    datagram.may_be_of_host() && !is_read && placement() == Placement::BrNetfilter
}

fn in_words(port: &str, said: &Explanation) -> String {
    let Explanation {
        verdict, row, text, ..
    } = said;
    format!("  {port}: {verdict:?} {row} {text}\n")
}

fn request(world: &World) -> pb::ApplyRequest {
    let pb::SyncRequest {
        groups,
        nics,
        members,
        ..
    } = world.request();
    let delta = |all: pb::GroupMembers| pb::MembersDelta {
        group_id: all.group_id,
        add: all.members,
        ..pb::MembersDelta::default()
    };
    pb::ApplyRequest {
        groups,
        nics,
        members: members.into_iter().map(delta).collect(),
        ..pb::ApplyRequest::default()
    }
}

/// A tap takes no frame without an Ethernet header, and a bridge none from a group's MAC.
fn can_be_sent(frames: &[Vec<u8>]) -> bool {
    let good = |frame: &Vec<u8>| {
        frame.len() >= 14 && frame[6] & 1 == 0 && frame[6..12] != [0; 6] && frame[6..12] != HOST.mac
    };
    frames.iter().all(good)
}

/// Frames to the bridge itself, and to what it keeps for itself, are not forwarded.
fn stays(frame: &[u8]) -> bool {
    frame[..6] == HOST.mac || matches!(frame[..6], [1, 0x80, 0xc2, 0, 0, 0..=15])
}

/// Whether a frame that came out is, or is of, what was sent.
fn is_of(frame: &[u8], sent: &[Vec<u8>]) -> bool {
    match (label(frame), label(&sent[0])) {
        (Some(there), Some(here)) => there == here,
        _ => sent.iter().any(|sent| sent == frame),
    }
}

/// Whether a bridge that snoops may take it for broken: multicast whose header is wrong, says that
/// nothing follows or more than does (`ipv6_mc_check_ip6hdr`, `net/ipv6/mcast_snoop.c`), or what
/// may be MLD.
fn may_be_broken(frame: &[u8]) -> bool {
    let multicast = frame[0] & 1 == 1;
    let Some(header) = frame.get(14..54) else {
        return multicast;
    };
    let length = usize::from(u16::from_be_bytes([header[4], header[5]]));
    let wrong = header[0] >> 4 != 6 || length == 0 || frame.len() < 54 + length;
    multicast && (wrong || header[6] == 0)
}

/// Fragments that are less than any path has room for, or one that is whole in itself.
fn are_small_fragments(frames: &[Vec<u8>]) -> bool {
    frames
        .iter()
        .all(|frame| fragment_id(frame).is_some() && frame.len() < 14 + 1280)
}

/// The addresses of a datagram, in order, and what its header names; nothing where it may be
/// about another flow.
fn flow_key(frames: &[Vec<u8>]) -> Option<Vec<u8>> {
    let frame = frames.first()?;
    let (next, source, destination) = (frame.get(20)?, frame.get(22..38)?, frame.get(38..54)?);
    if !matches!(next, 6 | 17 | 132) {
        return None;
    }
    let (low, high) = if source < destination {
        (source, destination)
    } else {
        (destination, source)
    };
    Some([low, high, &[*next]].concat())
}

fn run(world: &World, recipes: &[Recipe], tally: &Tally) -> Result<(), TestCaseError> {
    let mut bench = Bench::new(world, tally);
    for recipe in recipes {
        for datagram in recipe.in_world(world).packets() {
            bench.datagram(&datagram).map_err(TestCaseError::fail)?;
        }
    }
    Ok(())
}

#[test]
fn kernel_does_what_the_evaluator_says() {
    let worlds = wanted().div_ceil(u32::try_from(EACH / 2).unwrap());
    let regressions = FileFailurePersistence::Direct("tests/proof.proptest-regressions");
    let mut runner = runner(Config {
        cases: worlds,
        // Each is a world of its own.
        max_shrink_iters: 200 / slowness(),
        failure_persistence: Some(Box::new(regressions)),
        source_file: Some(file!()),
        ..Config::default()
    });
    let tally = Tally::default();
    let cases = (world(), prop::collection::vec(recipe(), 1..=EACH));
    let done = runner.run(&cases, |(world, recipes)| {
        run(&world, &recipes, &tally)?;
        eprintln!("proof: {} of {} datagrams", tally.datagrams.get(), wanted());
        Ok(())
    });
    let Tally {
        datagrams,
        verdicts,
        accepted,
        in_flows,
    } = &tally;
    // The first one ends the run; the numbers are with those of its shrinking.
    println!(
        "proof: kernel {} {:?} {:?}: {} datagrams, {} replies and errors, {} verdicts compared, \
         {} to accept, {} mismatches",
        release(),
        placement(),
        bridge_kind(),
        datagrams.get(),
        in_flows.get(),
        verdicts.get(),
        accepted.get(),
        u8::from(done.is_err())
    );
    match done {
        Ok(()) => {}
        // The recipes say nothing to a person; the seed is in the file.
        Err(TestError::Fail(why, (world, recipes))) => {
            for recipe in &recipes {
                eprintln!("sent: {:?}", recipe.in_world(&world));
            }
            panic!("after {} datagrams: {why}\n{world:?}", datagrams.get())
        }
        Err(TestError::Abort(why)) => panic!("{why}"),
    }
    let share = accepted.get() * 100 / verdicts.get();
    assert!(share >= 3, "only {share} % of the verdicts are to accept");
}

fn release() -> String {
    let text = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    text.trim().to_owned()
}
