//! Questions about packets, and their answers.

use super::{
    Faults, Path,
    enums::{self, ProtocolName},
    group::{goes_with, octet},
    text,
};
use crate::{
    agent::{
        Explained, Explanation, FlowState, Given, Origin, PacketFields, Query, RuleRef, Step,
        Transport, Verdict,
    },
    model::Direction,
    pb,
};

/// Most frames of one question.
const MAX_FRAMES: usize = 10_000;

const SOURCE_PORT: u16 = 40_000;

/// A question; and whether its steps are wanted.
pub(in crate::grpc) fn explain(
    f: &mut Faults,
    request: pb::ExplainRequest,
) -> Option<(Query, bool)> {
    let pb::ExplainRequest {
        nic_id,
        interface,
        direction,
        frames,
        packet,
        flow_state,
        origin,
        verify_checksums,
        trace,
    } = request;
    let nic = text::nic_id(f, &Path::top("nic_id"), nic_id);
    let interface = if interface.is_empty() {
        Some(None)
    } else {
        text::interface_name(f, &Path::top("interface"), interface).map(Some)
    };
    let direction = direction.and_then(|value| enums::direction(f, &Path::top("direction"), value));
    let given = given(f, frames, packet);
    let flow = flow_state.map_or(Some(FlowState::None), |value| {
        enums::flow_state(f, &Path::top("flow_state"), value)
    });
    let origin = origin.map_or(Some(Origin::Uplink), |value| {
        enums::packet_origin(f, &Path::top("origin"), value)
    });
    let query = Query {
        nic: nic?,
        interface: interface?,
        direction,
        given: given?,
        flow: flow?,
        origin: origin?,
        checksums: verify_checksums,
    };
    Some((query, trace))
}

fn given(f: &mut Faults, frames: Vec<Vec<u8>>, packet: Option<pb::PacketFields>) -> Option<Given> {
    let at = Path::top("frames");
    match packet {
        Some(packet) if frames.is_empty() => {
            fields(f, &Path::top("packet"), packet).map(Given::Packet)
        }
        None if frames.len() > MAX_FRAMES => {
            let text = format!(
                "has {} frames, at most {MAX_FRAMES} are allowed",
                frames.len()
            );
            f.invalid(&at, text);
            None
        }
        None if !frames.is_empty() => Some(Given::Frames(frames)),
        _ => {
            f.invalid(&at, "exactly one of frames and packet must be given");
            None
        }
    }
}

fn fields(f: &mut Faults, at: &Path<'_>, packet: pb::PacketFields) -> Option<PacketFields> {
    let pb::PacketFields {
        source,
        destination,
        source_mac,
        destination_mac,
        protocol,
        protocol_number,
        source_port,
        destination_port,
        icmpv6_type,
        icmpv6_code,
        target,
        hop_limit,
    } = packet;
    let before = f.count();
    let source = text::any_address(f, &at.field("source"), &source);
    let destination = text::any_address(f, &at.field("destination"), &destination);
    let source_mac = text::any_mac(f, &at.field("source_mac"), &source_mac);
    let destination_mac = text::any_mac(f, &at.field("destination_mac"), &destination_mac);
    let upper = Numbers {
        protocol: enums::protocol(f, &at.field("protocol"), protocol),
        number: protocol_number,
        source_port,
        destination_port,
        kind: icmpv6_type,
        code: icmpv6_code,
        target: &target,
    };
    let transport = upper.transport(f, at);
    let hop_limit = hop_limit.and_then(|value| octet(f, &at.field("hop_limit"), value));
    if f.count() > before {
        return None;
    }
    Some(PacketFields {
        source,
        destination,
        source_mac,
        destination_mac,
        transport: transport?,
        hop_limit,
    })
}

/// What says what is in a packet.
struct Numbers<'a> {
    protocol: Option<ProtocolName>,
    number: Option<u32>,
    source_port: Option<u32>,
    destination_port: Option<u32>,
    kind: Option<u32>,
    code: Option<u32>,
    target: &'a str,
}

impl Numbers<'_> {
    fn transport(&self, f: &mut Faults, at: &Path<'_>) -> Option<Transport> {
        let protocol = self.protocol;
        let number = octet_with(
            f,
            &at.field("protocol_number"),
            protocol,
            self.number,
            NUMBER,
        );
        let from = port(f, &at.field("source_port"), protocol, self.source_port);
        let to = port(
            f,
            &at.field("destination_port"),
            protocol,
            self.destination_port,
        );
        let kind = octet_with(f, &at.field("icmpv6_type"), protocol, self.kind, ICMPV6);
        let code = octet_with(f, &at.field("icmpv6_code"), protocol, self.code, ICMPV6);
        let target = text::any_address(f, &at.field("target"), self.target);
        let kind = kind.unwrap_or(128);
        if target.is_some() && !matches!(kind, 135 | 136) {
            let text = "goes with ICMPv6 types 135 and 136 only";
            f.invalid(&at.field("target"), text);
        }
        let ports = || Some((from.unwrap_or(SOURCE_PORT), to?));
        let (transport, missing) = match protocol? {
            ProtocolName::Any => {
                let text = "PROTOCOL_ANY is no packet's; a packet has one protocol";
                f.invalid(&at.field("protocol"), text);
                return None;
            }
            ProtocolName::Tcp => (ports().map(|(a, b)| Transport::Tcp(a, b)), self.no_port()),
            ProtocolName::Udp => (ports().map(|(a, b)| Transport::Udp(a, b)), self.no_port()),
            ProtocolName::Sctp => (ports().map(|(a, b)| Transport::Sctp(a, b)), self.no_port()),
            ProtocolName::Icmpv6 => {
                let code = code.unwrap_or_default();
                (Some(Transport::Icmpv6 { kind, code, target }), None)
            }
            ProtocolName::Number => {
                let missing = self.number.is_none().then_some("protocol_number");
                (number.map(Transport::Number), missing)
            }
        };
        if let Some(field) = missing {
            f.invalid(&at.field(field), "must be given with this protocol");
        }
        transport
    }

    fn no_port(&self) -> Option<&'static str> {
        self.destination_port
            .is_none()
            .then_some("destination_port")
    }
}

type Only = (&'static [ProtocolName], &'static str);

const NUMBER: Only = (&[ProtocolName::Number], "PROTOCOL_NUMBER");
const ICMPV6: Only = (&[ProtocolName::Icmpv6], "PROTOCOL_ICMPV6");
const PORTS: Only = (
    &[ProtocolName::Tcp, ProtocolName::Udp, ProtocolName::Sctp],
    "PROTOCOL_TCP, PROTOCOL_UDP and PROTOCOL_SCTP",
);

fn octet_with(
    f: &mut Faults,
    at: &Path<'_>,
    protocol: Option<ProtocolName>,
    value: Option<u32>,
    only: Only,
) -> Option<u8> {
    goes_with(f, at, protocol.filter(|_| value.is_some()), only);
    octet(f, at, value?)
}

fn port(
    f: &mut Faults,
    at: &Path<'_>,
    protocol: Option<ProtocolName>,
    value: Option<u32>,
) -> Option<u16> {
    goes_with(f, at, protocol.filter(|_| value.is_some()), PORTS);
    let value = value?;
    let port = u16::try_from(value).ok();
    if port.is_none() {
        f.invalid(at, format_args!("{value} is not in 0-65535"));
    }
    port
}

/// The answers, with their steps if these are wanted.
pub(in crate::grpc) fn explained(all: Vec<Explained>, trace: bool) -> pb::ExplainResponse {
    let one = |explained| explanation(explained, trace);
    pb::ExplainResponse {
        packets: all.into_iter().map(one).collect(),
    }
}

fn explanation(explained: Explained, trace: bool) -> pb::PacketExplanation {
    let Explained {
        explanation,
        direction,
        frames,
        summary,
    } = explained;
    let Explanation {
        verdict,
        row,
        reason,
        rule,
        text,
        hint,
        steps,
        learned: _,
    } = explanation;
    let verdict = match verdict {
        Verdict::Accept => pb::PacketVerdict::Accept,
        Verdict::Drop => pb::PacketVerdict::Drop,
        Verdict::Incomplete => pb::PacketVerdict::Incomplete,
    };
    let direction = match direction {
        Direction::Ingress => pb::Direction::Ingress,
        Direction::Egress => pb::Direction::Egress,
    };
    let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    let steps = steps.into_iter().filter(|_| trace).map(|step| {
        let Step {
            stage,
            frame,
            row,
            text,
        } = step;
        pb::ExplainStep {
            stage: stage.name().to_owned(),
            row: row.to_owned(),
            text,
            frame: count(frame),
        }
    });
    let (group_id, rule_index) = match rule {
        Some(RuleRef { group, index }) => (group.to_string(), Some(count(index))),
        None => (String::new(), None),
    };
    pb::PacketExplanation {
        verdict: verdict.into(),
        row: row.to_owned(),
        reason: reason.map_or_else(String::new, |reason| reason.name().to_owned()),
        group_id,
        rule_index,
        text,
        hint: hint.unwrap_or_default(),
        direction: direction.into(),
        frames: frames.into_iter().map(count).collect(),
        summary,
        steps: steps.collect(),
    }
}
