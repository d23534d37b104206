//! What becomes of one packet, and why: the policy as an executable model.
//!
//! [`Explainer::explain`] takes a packet through the stages in the order in which the kernel
//! does, by the [`Ruleset`] that is programmed there, and says which row of packet-policy
//! decided, which rule of which group, and what the usual cause is. `tests/proof` holds it to
//! the kernel and to an oracle of its own.
//!
//! A packet is one frame, or all fragments of one packet in the order they are sent: each is
//! judged by the guard; what they make together, by the groups.
//!
//! Not modelled: rates (G15, G16, S8), flows that were cut and would be revived (S7), and what
//! connection tracking knows, which the question has to say ([`FlowState`]).

use std::{collections::BTreeMap, sync::Arc};

use crate::{
    model::{Direction, IfName, Mac},
    ruleset::{Judge, Learned, NicNumber, Reason, Ruleset},
};

mod delivery;
mod glance;
mod groups;
mod guard;
mod hint;
mod octets;
mod owned;
mod reassembly;
mod trace;
mod tracking;

use delivery::{Delivered, Delivery};
pub use glance::{Glance, glance};
use groups::{Allowed, Groups};
use guard::{Guard, Passed};
pub(super) use hint::usual_cause;
use octets::{Frame, HOP_BY_HOP, IPV6, Packet, octet};
use owned::Owner;
use reassembly::Joined;
use trace::{Denial, Trace};
pub use trace::{Explanation, RuleRef, Stage, Step, Verdict};

/// What connection tracking knows of the packet's flow.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum FlowState {
    /// Nothing.
    #[default]
    None,
    /// It was allowed to begin.
    Established,
    /// The packet is an error about one that was.
    Related,
}

/// Where a packet comes from that is delivered to a NIC.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Origin {
    /// An uplink of the bridge.
    #[default]
    Uplink,
    /// Another NIC, whose own guard and groups are asked separately.
    Nic,
    /// The host itself.
    Host,
}

/// One packet, and what is to be assumed.
#[derive(Debug, Clone, Copy)]
pub struct Question<'a> {
    /// Whose it is.
    pub nic: NicNumber,
    /// The interface that it is sent or delivered through.
    pub interface: &'a IfName,
    /// Which way.
    pub direction: Direction,
    /// Where it comes from, if it is delivered.
    pub origin: Origin,
    /// Ethernet frames: one, or all fragments of one packet.
    pub frames: &'a [Vec<u8>],
    /// What is known of its flow.
    pub flow: FlowState,
    /// What the kernel has learned.
    pub learned: &'a Learned,
    /// Whether the stateful stage is behind `br_netfilter`, which checks IPv6 headers itself
    /// and never sees what the host sends (S6).
    pub br_netfilter: bool,
    /// Whether checksums are to be believed: not those of a packet that was captured before
    /// hardware filled them in.
    pub checksums: bool,
}

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ExplainError {
    /// No NIC is bound to that interface.
    #[error("interface {0} is bound to no NIC")]
    NotBound(IfName),
    /// There are no frames.
    #[error("there is no frame")]
    NoFrame,
}

/// A ruleset with what it takes to explain many packets by it.
#[derive(Debug)]
pub struct Explainer {
    ruleset: Arc<Ruleset>,
    judge: Judge,
}

impl Explainer {
    /// Explains by a ruleset.
    pub fn new(ruleset: &Arc<Ruleset>) -> Self {
        Self {
            ruleset: Arc::clone(ruleset),
            judge: Judge::new(ruleset),
        }
    }

    /// Says what becomes of a packet.
    pub fn explain(&self, question: &Question<'_>) -> Result<Explanation, ExplainError> {
        let not_bound = || ExplainError::NotBound(question.interface.clone());
        let nic = self.ruleset.nics.get(&question.nic).ok_or_else(not_bound)?;
        let (bridge, _) = nic
            .interfaces
            .get(question.interface)
            .ok_or_else(not_bound)?;
        let bridge = self.ruleset.bridges.get(bridge).ok_or_else(not_bound)?;
        if question.frames.is_empty() {
            return Err(ExplainError::NoFrame);
        }
        let mut course = Course {
            question,
            judge: &self.judge,
            owner: Owner {
                ruleset: &self.ruleset,
                number: question.nic,
                nic,
                bridge,
            },
            learned: question.learned.clone(),
            trace: Trace::default(),
        };
        let end = match question.direction {
            Direction::Egress => course.sent(),
            Direction::Ingress => course.delivered(),
        };
        Ok(course.explanation(end))
    }
}

/// How a packet's course ends, unless it is dropped.
enum End {
    Allowed(Allowed),
    Incomplete,
}

/// One packet on its way.
struct Course<'a> {
    question: &'a Question<'a>,
    judge: &'a Judge,
    owner: Owner<'a>,
    learned: Learned,
    trace: Trace,
}

impl Course<'_> {
    fn sent(&mut self) -> Result<End, Denial> {
        let mut passed = Ok(Passed::ToGroups);
        for (i, octets) in self.question.frames.iter().enumerate() {
            // What the guard drops first decides; from the others it learns all the same.
            let mut unread = Trace::default();
            let trace = match passed {
                Ok(_) => &mut self.trace,
                Err(_) => &mut unread,
            };
            trace.frame = i;
            let mut guard = Guard {
                owner: self.owner,
                learned: &mut self.learned,
                trace,
            };
            passed = passed.and(guard.frame(octets));
        }
        if passed? == Passed::Unjudged {
            return Ok(unjudged());
        }
        let Some(octets) = self.joined()? else {
            return Ok(End::Incomplete);
        };
        let packet = Packet::of(&octets).map_err(|why| Denial::by_host("S1", why))?;
        self.groups().sent(&packet).map(End::Allowed)
    }

    fn delivered(&mut self) -> Result<End, Denial> {
        if self.question.br_netfilter && self.question.origin == Origin::Host {
            return self.of_host_unjudged();
        }
        if self.question.origin == Origin::Uplink {
            for (i, octets) in self.question.frames.iter().enumerate() {
                self.trace.frame = i;
                if let Some(router) = delivery::entering(octets, &mut self.trace)? {
                    self.learned.heard_routers.insert(router);
                }
            }
        }
        let Some(head) = self
            .question
            .frames
            .iter()
            .find_map(|octets| Frame::of(octets))
        else {
            return Err(Denial::by_host("T2", "the Ethernet header is cut off"));
        };
        if head.ether_type != IPV6 {
            self.delivery(&head, None)?;
            return Ok(unjudged());
        }
        let Some(octets) = self.joined()? else {
            return Ok(End::Incomplete);
        };
        let packet = Packet::of(&octets);
        let delivered = self.delivery(&head, packet.as_ref().ok())?;
        let packet = packet.map_err(|why| Denial::new(Reason::Invalid, "S1", why))?;
        match delivered {
            Delivered::Unjudged => Ok(unjudged()),
            Delivered::ToGroups => self.groups().delivered(&packet).map(End::Allowed),
        }
    }

    /// Placement `br_netfilter` sees nothing of what the host sends but at the guests' ports, frame
    /// by frame: nothing is joined, tracked or judged by groups.
    fn of_host_unjudged(&mut self) -> Result<End, Denial> {
        for (i, octets) in self.question.frames.iter().enumerate() {
            self.trace.frame = i;
            let Some(frame) = Frame::of(octets) else {
                return Err(Denial::by_host("T2", "the Ethernet header is cut off"));
            };
            let packet = Some(frame.payload).filter(|_| frame.ether_type == IPV6);
            let packet = packet.and_then(|octets| Packet::of(octets).ok());
            self.delivery(&frame, packet.as_ref())?;
        }
        let text = "from the host itself, whose packets no group judges in this placement";
        Ok(End::Allowed(Allowed::by("S6", text)))
    }

    fn delivery(
        &mut self,
        head: &Frame<'_>,
        packet: Option<&Packet<'_>>,
    ) -> Result<Delivered, Denial> {
        let mut delivery = Delivery {
            owner: self.owner,
            learned: &self.learned,
            trace: &mut self.trace,
        };
        delivery.frame(head, packet)
    }

    fn groups(&mut self) -> Groups<'_, '_> {
        Groups {
            owner: self.owner,
            judge: self.judge,
            flow: self.question.flow,
            checksums: self.question.checksums,
            trace: &mut self.trace,
        }
    }

    /// The one packet that the frames make; nothing while some are missing.
    fn joined(&mut self) -> Result<Option<Vec<u8>>, Denial> {
        let mut packets = Vec::new();
        for octets in self.question.frames {
            let Some(frame) = Frame::of(octets) else {
                return Err(Denial::by_host("G2", "the Ethernet header is cut off"));
            };
            if self.question.br_netfilter && !hop_by_hop_is_sane(frame.payload) {
                let text = "br_netfilter drops malformed hop-by-hop options";
                return Err(Denial::by_host("G3", text));
            }
            packets.push(frame.payload);
        }
        match reassembly::join(&packets) {
            Joined::Whole(octets) => {
                if packets.len() > 1 {
                    let text = format!("{} fragments make one packet", packets.len());
                    self.trace.step(Stage::Reassembly, "G14", text);
                }
                Ok(Some(octets))
            }
            Joined::Alone(octets) => {
                let text = "the first fragment lacks some of the upper-layer header: it goes on \
                            by itself";
                self.trace.step(Stage::Reassembly, "G14", text);
                Ok(Some(octets))
            }
            Joined::Missing => Ok(None),
            Joined::Contradictory(why) => Err(Denial::by_host("G14", why)),
        }
    }

    fn explanation(self, end: Result<End, Denial>) -> Explanation {
        let Self { learned, trace, .. } = self;
        let (verdict, row, reason, rule, text, hint) = match end {
            Ok(End::Allowed(Allowed { row, rule, text })) => {
                (Verdict::Accept, row, None, rule, text, None)
            }
            Ok(End::Incomplete) => {
                let text = "the guard lets these fragments pass; without the others nothing is \
                            delivered";
                (
                    Verdict::Incomplete,
                    "G14",
                    None,
                    None,
                    text.to_owned(),
                    None,
                )
            }
            Err(Denial {
                reason,
                row,
                text,
                hint,
            }) => (Verdict::Drop, row, reason, None, text, hint),
        };
        Explanation {
            verdict,
            row,
            reason,
            rule,
            text,
            hint,
            steps: trace.steps,
            learned,
        }
    }
}

/// Which frames are one packet: fragments of one go together.
pub fn packets(frames: &[Vec<u8>]) -> Vec<Vec<usize>> {
    let mut all: Vec<Vec<usize>> = Vec::new();
    let mut open = BTreeMap::new();
    for (i, octets) in frames.iter().enumerate() {
        let key = Frame::of(octets)
            .filter(|frame| frame.ether_type == IPV6)
            .and_then(|frame| {
                let packet = Packet::of(frame.payload).ok()?;
                let id = packet.fragment?.id;
                Some((frame.source, packet.source, packet.destination, id))
            });
        let known = key.and_then(|key| open.get(&key).copied());
        if let Some(packet) = known.and_then(|at: usize| all.get_mut(at)) {
            packet.push(i);
            continue;
        }
        if let Some(key) = key {
            open.insert(key, all.len());
        }
        all.push(vec![i]);
    }
    all
}

/// A frame in a few words.
pub fn summary(octets: &[u8]) -> String {
    let Some(frame) = Frame::of(octets) else {
        return format!("{} octets", octets.len());
    };
    if frame.ether_type != IPV6 {
        let (from, to) = (Mac::text(frame.source), Mac::text(frame.destination));
        return format!("{from} > {to} EtherType {:#06x}", frame.ether_type);
    }
    match Packet::of(frame.payload) {
        Ok(packet) => format!(
            "{} > {} {}",
            packet.source,
            packet.destination,
            groups::describe(&packet)
        ),
        Err(why) => why.to_owned(),
    }
}

fn unjudged() -> End {
    End::Allowed(Allowed::by("S1", "no group judges it"))
}

/// What `br_netfilter` asks of hop-by-hop options that come first (`nf_ip6_check_hbh_len`).
fn hop_by_hop_is_sane(octets: &[u8]) -> bool {
    const PAD1: u8 = 0;
    const JUMBO: u8 = 0xc2;
    let octets = Packet::trimmed(octets);
    if octet(octets, 6) != Some(HOP_BY_HOP) {
        return true;
    }
    let Some(units) = octet(octets, 41) else {
        return false;
    };
    let end = 48 + 8 * usize::from(units);
    if octets.len() < end {
        return false;
    }
    let mut at = 42;
    while at < end {
        match (octet(octets, at), octet(octets, at + 1)) {
            (Some(PAD1), _) => at += 1,
            (Some(JUMBO) | None, _) | (_, None) => return false,
            (Some(_), Some(length)) => at += 2 + usize::from(length),
        }
    }
    at == end
}
