//! Says what becomes of packets, by what is in force.

use std::{borrow::Cow, net::Ipv6Addr, sync::Arc};

use etherparse::{IpNumber, PacketBuilder, PacketBuilderStep, err::packet::BuildWriteError};

use super::{Handle, View};
use crate::{
    model::{Direction, Fault, FaultKind, IfName, NicId, NicState, is_link_local},
    policy::{
        ExplainError, Explainer, Explanation, FlowState, Origin, Question, Verdict, packets,
        summary,
    },
    ruleset::{Learned, NicNumber, NicRules, Reason},
};

/// What is asked.
#[derive(Debug, Clone)]
pub struct Query {
    /// The NIC that sends it, or that it is delivered to.
    pub nic: NicId,
    /// Which of its interfaces; nothing, its first.
    pub interface: Option<IfName>,
    /// Which way; nothing, by the source MAC.
    pub direction: Option<Direction>,
    /// The packets.
    pub given: Given,
    /// What connection tracking knows of them.
    pub flow: FlowState,
    /// Where they come from.
    pub origin: Origin,
    /// Whether checksums are to be believed.
    pub checksums: bool,
}

/// What is explained.
#[derive(Debug, Clone)]
pub enum Given {
    /// Frames, as they were captured.
    Frames(Vec<Vec<u8>>),
    /// A packet that is to be made.
    Packet(PacketFields),
}

/// What goes into a packet; the rest is as it should be.
#[derive(Debug, Clone)]
pub struct PacketFields {
    /// From.
    pub source: Option<Ipv6Addr>,
    /// To.
    pub destination: Option<Ipv6Addr>,
    /// From which MAC.
    pub source_mac: Option<[u8; 6]>,
    /// To which MAC.
    pub destination_mac: Option<[u8; 6]>,
    /// What is in it.
    pub transport: Transport,
    /// Its hop limit.
    pub hop_limit: Option<u8>,
}

/// What is in a packet that is to be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// A TCP SYN from and to these ports.
    Tcp(u16, u16),
    /// A UDP datagram.
    Udp(u16, u16),
    /// An SCTP INIT.
    Sctp(u16, u16),
    /// An ICMPv6 message.
    Icmpv6 {
        /// Its type.
        kind: u8,
        /// Its code.
        code: u8,
        /// Of neighbour discovery, what it is about.
        target: Option<Ipv6Addr>,
    },
    /// Another protocol, with 16 octets of zero.
    Number(u8),
}

/// What became of one packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explained {
    /// What became of it, and why.
    pub explanation: Explanation,
    /// Which way it was judged.
    pub direction: Direction,
    /// Which of the frames it is.
    pub frames: Vec<usize>,
    /// The packet in a few words.
    pub summary: String,
}

/// Why there is no explanation.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ExplainRefusal {
    /// The question is wrong.
    #[error("{0}")]
    Fault(Fault),
    /// What the kernel has learned could not be read.
    #[error("{0}")]
    Unreadable(String),
}

fn fault(kind: FaultKind, path: &str, text: impl Into<String>) -> ExplainRefusal {
    ExplainRefusal::Fault(Fault::new(kind, path, text.into()))
}

impl Handle {
    /// Says what becomes of packets.
    pub async fn explain(&self, query: Query) -> Result<Vec<Explained>, ExplainRefusal> {
        let view = self.view();
        if !view.desired().nics.contains_key(&query.nic) {
            let text = format!("there is no NIC {}", query.nic);
            return Err(fault(FaultKind::NotFound, "nic_id", text));
        }
        let mut nics = view.compiled.ruleset.nics.iter();
        let Some((number, nic)) = nics.find(|(_, nic)| nic.id == query.nic) else {
            return closed(&view, &query);
        };
        let (number, nic) = (*number, Arc::clone(nic));
        // Only then does it matter what others were first to use.
        let learned = if nic.any_link_local {
            let learned = self.learned().await;
            learned.map_err(|error| ExplainRefusal::Unreadable(error.0))?
        } else {
            Learned::default()
        };
        // Thousands of packets may be asked about, and others wait for this thread.
        let explained = tokio::task::spawn_blocking(move || {
            let asked = Asked {
                explainer: Explainer::new(&view.compiled.ruleset),
                number,
                nic: &nic,
                interface: interface(&nic, query.interface.as_ref())?,
                learned,
                br_netfilter: view.identity.placement == "br_netfilter",
            };
            asked.all(&query)
        });
        explained.await.unwrap_or_else(|error| {
            let why = format!("the explanation was not finished: {error}");
            Err(ExplainRefusal::Unreadable(why))
        })
    }
}

struct Asked<'a> {
    explainer: Explainer,
    number: NicNumber,
    nic: &'a NicRules,
    interface: &'a IfName,
    learned: Learned,
    br_netfilter: bool,
}

impl Asked<'_> {
    fn all(&self, query: &Query) -> Result<Vec<Explained>, ExplainRefusal> {
        let frames = match &query.given {
            Given::Frames(frames) => Cow::Borrowed(frames),
            Given::Packet(fields) => Cow::Owned(vec![made(fields, self.nic, query.direction)?]),
        };
        let all = packets(&frames).into_iter();
        all.map(|which| self.explain(query, &frames, which))
            .collect::<Result<_, ExplainError>>()
            .map_err(|error| fault(FaultKind::Invalid, "frames", error.to_string()))
    }

    fn explain(
        &self,
        query: &Query,
        frames: &[Vec<u8>],
        which: Vec<usize>,
    ) -> Result<Explained, ExplainError> {
        let packet: Vec<_> = which
            .iter()
            .filter_map(|i| frames.get(*i))
            .cloned()
            .collect();
        let first = packet.first().map_or(&[][..], |frame| frame);
        let direction = query.direction.unwrap_or_else(|| self.direction(first));
        let mut explanation = self.explainer.explain(&Question {
            nic: self.number,
            interface: self.interface,
            direction,
            origin: query.origin,
            frames: &packet,
            flow: query.flow,
            learned: &self.learned,
            br_netfilter: self.br_netfilter,
            checksums: query.checksums,
        })?;
        for step in &mut explanation.steps {
            step.frame = which.get(step.frame).copied().unwrap_or_default();
        }
        Ok(Explained {
            explanation,
            direction,
            summary: summary(first),
            frames: which,
        })
    }

    /// What is from one of the NIC's MACs was sent by it.
    fn direction(&self, frame: &[u8]) -> Direction {
        let mut own = std::iter::once(&self.nic.mac).chain(&self.nic.virtual_macs);
        if own.any(|mac| frame.get(6..12) == Some(&mac.octets())) {
            Direction::Egress
        } else {
            Direction::Ingress
        }
    }
}

fn interface<'a>(nic: &'a NicRules, wanted: Option<&IfName>) -> Result<&'a IfName, ExplainRefusal> {
    let mut all = nic.interfaces.keys();
    let found = match wanted {
        Some(name) => all.find(|own| *own == name),
        None => all.next(),
    };
    found.ok_or_else(|| {
        let name = wanted.map_or("", IfName::as_str);
        let text = format!("NIC {} is not bound to interface {name:?}", nic.id);
        fault(FaultKind::Invalid, "interface", text)
    })
}

/// A NIC that is not bound carries nothing, whatever it is.
fn closed(view: &View, query: &Query) -> Result<Vec<Explained>, ExplainRefusal> {
    let why = match view.outcome(&query.nic).map(|outcome| &outcome.state) {
        Some(NicState::Pending(why)) => format!("the NIC is PENDING: {why}"),
        Some(NicState::Quarantined(why)) => format!("the NIC is QUARANTINED: {why}"),
        Some(NicState::Active) | None => "the NIC is not in force".to_owned(),
    };
    let count = match &query.given {
        Given::Frames(frames) => frames.len(),
        Given::Packet(_) => 1,
    };
    if count == 0 {
        return Err(fault(
            FaultKind::Invalid,
            "frames",
            ExplainError::NoFrame.to_string(),
        ));
    }
    let one = |i| Explained {
        explanation: Explanation {
            verdict: Verdict::Drop,
            row: "closed",
            reason: Some(Reason::Unbound),
            rule: None,
            text: format!("a port that no NIC is bound to carries nothing; {why}"),
            hint: None,
            steps: Vec::new(),
            learned: Learned::default(),
        },
        direction: query.direction.unwrap_or(Direction::Egress),
        frames: vec![i],
        summary: match &query.given {
            Given::Frames(frames) => frames.get(i).map(|f| summary(f)).unwrap_or_default(),
            Given::Packet(_) => String::new(),
        },
    };
    Ok((0..count).map(one).collect())
}

/// The frame of these fields.
fn made(
    fields: &PacketFields,
    nic: &NicRules,
    direction: Option<Direction>,
) -> Result<Vec<u8>, ExplainRefusal> {
    let missing = |path: &str, why: &str| Err(fault(FaultKind::Invalid, path, why));
    let Some(direction) = direction else {
        return missing("direction", "must be given with a packet");
    };
    let own = own_address(nic);
    let (source, destination) = match (direction, fields.source, fields.destination) {
        (Direction::Egress, source, Some(destination)) => (source.unwrap_or(own), destination),
        (Direction::Ingress, Some(source), destination) => (source, destination.unwrap_or(own)),
        (Direction::Egress, _, None) => {
            return missing("packet.destination", "must be given with EGRESS");
        }
        (Direction::Ingress, None, _) => {
            return missing("packet.source", "must be given with INGRESS");
        }
    };
    // Somebody's, beyond the NIC.
    let other = [2, 0, 0, 0, 0, 1];
    let mac = nic.mac.octets();
    let (from, to) = match direction {
        Direction::Egress => (mac, other),
        Direction::Ingress => (other, mac),
    };
    let [.., a, b, c, d] = destination.octets();
    let to = if destination.is_multicast() {
        [0x33, 0x33, a, b, c, d]
    } else {
        to
    };
    let builder = PacketBuilder::ethernet2(
        fields.source_mac.unwrap_or(from),
        fields.destination_mac.unwrap_or(to),
    );
    let hop_limit = fields.hop_limit.unwrap_or(match fields.transport {
        Transport::Icmpv6 {
            kind: 133..=137, ..
        } => 255,
        Transport::Icmpv6 {
            kind: 130..=132 | 143,
            ..
        } => 1,
        Transport::Icmpv6 { .. }
        | Transport::Tcp(..)
        | Transport::Udp(..)
        | Transport::Sctp(..)
        | Transport::Number(_) => 64,
    });
    let builder = builder.ipv6(source.octets(), destination.octets(), hop_limit);
    write(builder, fields.transport, (source, destination))
        .map_err(|error| fault(FaultKind::Invalid, "packet", error.to_string()))
}

fn write(
    builder: PacketBuilderStep<etherparse::IpHeaders>,
    transport: Transport,
    (source, destination): (Ipv6Addr, Ipv6Addr),
) -> Result<Vec<u8>, BuildWriteError> {
    let mut frame = Vec::new();
    match transport {
        Transport::Tcp(from, to) => builder
            .tcp(from, to, 0, 64_240)
            .syn()
            .write(&mut frame, &[]),
        Transport::Udp(from, to) => builder.udp(from, to).write(&mut frame, &[0; 16]),
        Transport::Sctp(from, to) => {
            // A common header without a checksum, and an INIT chunk (RFC 9260 §3.3.2).
            let mut octets = [from.to_be_bytes(), to.to_be_bytes()].concat();
            octets.extend([0; 8]);
            octets.extend([
                1, 0, 0, 20, 0, 0, 0, 1, 0, 0, 255, 255, 0, 1, 0, 1, 0, 0, 0, 1,
            ]);
            builder.write(&mut frame, IpNumber::SCTP, &octets)
        }
        Transport::Icmpv6 { kind, code, target } => {
            let about = match kind {
                135 => target.unwrap_or(destination),
                _ => target.unwrap_or(source),
            };
            let body = match kind {
                135 | 136 => about.octets().to_vec(),
                133 => Vec::new(),
                _ => vec![0; 16],
            };
            builder
                .icmpv6_raw(kind, code, [0; 4])
                .write(&mut frame, &body)
        }
        Transport::Number(number) => builder.write(&mut frame, IpNumber(number), &[0; 16]),
    }?;
    Ok(frame)
}

/// An address that a NIC would use: a global one where it has one.
fn own_address(nic: &NicRules) -> Ipv6Addr {
    let mut all = nic.on_link.iter();
    let prefix = nic.on_link_prefix.iter().chain(&nic.delegated).next();
    all.clone()
        .find(|address| !is_link_local(**address))
        .or(all.next())
        .copied()
        .or(prefix.map(crate::model::Prefix::network))
        .unwrap_or(nic.mac.link_local())
}
