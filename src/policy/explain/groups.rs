//! The stateful stage: rows G14 and S1 to S6, of the whole packet.

use super::{
    FlowState, RuleRef, hint,
    octets::{Packet, octet, word},
    owned::Owner,
    trace::{Denial, Stage, Trace},
    tracking::{self, First},
};
use crate::{
    model::{Direction, Icmpv6Match, PortRange, Prefix, Protocol},
    ruleset::{Allow, Flow, Ground, ICMPV6, Judge, Reason, RemoteRules, SCTP, TCP, UDP, Upper},
};

/// What let a packet pass.
pub(super) struct Allowed {
    pub(super) row: &'static str,
    pub(super) rule: Option<RuleRef>,
    pub(super) text: String,
}

impl Allowed {
    pub(super) fn by(row: &'static str, text: impl Into<String>) -> Self {
        Self {
            row,
            rule: None,
            text: text.into(),
        }
    }
}

pub(super) struct Groups<'a, 'b> {
    pub(super) owner: Owner<'a>,
    pub(super) judge: &'a Judge,
    pub(super) flow: FlowState,
    pub(super) checksums: bool,
    pub(super) trace: &'b mut Trace,
}

impl Groups<'_, '_> {
    /// What the NIC sends.
    pub(super) fn sent(&mut self, packet: &Packet<'_>) -> Result<Allowed, Denial> {
        let flow = flow_of(packet);
        // G14 comes before any flow is believed.
        let ground = match flow {
            Some(flow) => self.judge.sends(self.owner.nic, &flow),
            None => Err(Reason::Icmpv6Type),
        };
        match ground {
            Ok(Ground::Exempt) => {
                let text = "neighbour discovery, MLD or DHCPv6: no matter of the groups";
                return Ok(Allowed::by("S4", text));
            }
            Ok(Ground::Permission) => {
                return Ok(Allowed::by("S4", "a permission of the NIC exempts it"));
            }
            Err(reason @ (Reason::RogueRa | Reason::Icmpv6Type | Reason::RogueDhcpv6)) => {
                let text = "put together of its fragments it is what a guest may not send";
                return Err(Denial::new(reason, "G14", text));
            }
            Ok(Ground::Echo | Ground::Rule { .. } | Ground::Default) | Err(_) => {}
        }
        if let Some(allowed) = self.known(packet)? {
            return Ok(allowed);
        }
        self.by_policy(Direction::Egress, ground, packet)
    }

    /// What is delivered to the NIC.
    pub(super) fn delivered(&mut self, packet: &Packet<'_>) -> Result<Allowed, Denial> {
        if self.is_established(packet) {
            return Ok(established());
        }
        let ground = match flow_of(packet) {
            Some(flow) => self.judge.receives(self.owner.nic, &flow),
            None => Err(Reason::GroupIngress),
        };
        match ground {
            Ok(Ground::Exempt) => return Ok(Allowed::by("S1", "always delivered: IPv6 needs it")),
            Ok(Ground::Permission) => {
                return Ok(Allowed::by("S3", "a permission of the NIC exempts it"));
            }
            Ok(Ground::Echo | Ground::Rule { .. } | Ground::Default) | Err(_) => {}
        }
        if let Some(allowed) = self.known(packet)? {
            return Ok(allowed);
        }
        self.by_policy(Direction::Ingress, ground, packet)
    }

    /// What is broken, or no matter of flows, belongs to none.
    fn is_established(&self, packet: &Packet<'_>) -> bool {
        let first = tracking::first(packet, self.checksums);
        self.flow == FlowState::Established && matches!(first, First::New | First::Unanswered(_))
    }

    /// S1 (b) to (d); nothing where rules have to decide.
    fn known(&mut self, packet: &Packet<'_>) -> Result<Option<Allowed>, Denial> {
        match (self.flow, tracking::first(packet, self.checksums)) {
            (_, First::Broken(why)) | (FlowState::None, First::Unanswered(why)) => {
                let text = format!("connection tracking makes no sense of it: {why}");
                return Err(Denial::new(Reason::Invalid, "S1", text).hint(unanswered(packet)));
            }
            (FlowState::Established, First::New | First::Unanswered(_)) => {
                return Ok(Some(established()));
            }
            (FlowState::Related, First::New | First::Unanswered(_)) => {
                if let Some(1..=4) = packet.upper(ICMPV6).and_then(|data| octet(data, 0)) {
                    let text = "an ICMPv6 error about a flow that was allowed to begin";
                    return Ok(Some(Allowed::by("S1", text)));
                }
            }
            (_, First::Untracked) | (FlowState::None, First::New) => {}
        }
        let text = "it belongs to no flow that is known, and begins one";
        self.trace.step(Stage::Groups, "S1", text);
        Ok(None)
    }

    fn by_policy(
        &self,
        way: Direction,
        ground: Result<Ground, Reason>,
        packet: &Packet<'_>,
    ) -> Result<Allowed, Denial> {
        match ground {
            Ok(Ground::Echo) => Ok(Allowed::by("S2", "an echo request (icmpv6_default: ALLOW)")),
            Ok(Ground::Default) => {
                let text =
                    "no group of the NIC has a rule for what it sends (egress_default: ALLOW)";
                Ok(Allowed::by("S4", text))
            }
            Ok(Ground::Rule { group, index }) => {
                let Some(rules) = self.owner.ruleset.groups.get(&group) else {
                    return Err(self.refused(way, packet));
                };
                let words = rules.rules.get(index).map(|rule| self.words(rule));
                let id = &rules.id;
                let text = format!(
                    "rule {index} of group {id} allows it: {}",
                    words.unwrap_or_default()
                );
                Ok(Allowed {
                    row: "S5",
                    rule: Some(RuleRef {
                        group: id.clone(),
                        index,
                    }),
                    text,
                })
            }
            Ok(Ground::Exempt | Ground::Permission) | Err(_) => Err(self.refused(way, packet)),
        }
    }

    fn refused(&self, way: Direction, packet: &Packet<'_>) -> Denial {
        let nic = self.owner.nic;
        let policy = self.owner.ruleset.policies.get(&nic.policy);
        let groups: Vec<_> = policy
            .into_iter()
            .flat_map(|policy| &policy.groups)
            .filter_map(|group| self.owner.ruleset.groups.get(group))
            .map(|group| group.id.as_str())
            .collect();
        let which = if groups.is_empty() {
            "the NIC is in no group".to_owned()
        } else {
            format!("no rule of {} does", groups.join(", "))
        };
        let what = describe(packet);
        match way {
            Direction::Ingress => {
                let text = format!("nothing allows {what} from {}: {which}", packet.source);
                Denial::new(Reason::GroupIngress, "S3", text)
            }
            Direction::Egress => {
                let text = format!("nothing allows {what} to {}: {which}", packet.destination);
                Denial::new(Reason::GroupEgress, "S4", text).hint(hint::EGRESS.to_owned())
            }
        }
    }

    fn words(&self, rule: &Allow) -> String {
        let what = match rule.protocol {
            Protocol::Any => "any protocol".to_owned(),
            Protocol::Tcp(range) => ports("tcp", range),
            Protocol::Udp(range) => ports("udp", range),
            Protocol::Sctp(range) => ports("sctp", range),
            Protocol::Icmpv6(Icmpv6Match::Any) => "icmpv6".to_owned(),
            Protocol::Icmpv6(Icmpv6Match::Type(kind)) => format!("icmpv6 type {kind}"),
            Protocol::Icmpv6(Icmpv6Match::TypeAndCode(kind, code)) => {
                format!("icmpv6 type {kind} code {code}")
            }
            Protocol::Number(number) => format!("protocol {number}"),
        };
        let side = match rule.direction {
            Direction::Ingress => "from",
            Direction::Egress => "to",
        };
        let whom = match &rule.remote {
            RemoteRules::Anyone => "anyone".to_owned(),
            RemoteRules::Prefixes(prefixes) => {
                let all: Vec<_> = prefixes.iter().map(Prefix::to_string).collect();
                all.join(", ")
            }
            RemoteRules::Members { group, .. } => {
                let group = self.owner.ruleset.groups.get(group);
                group.map_or("members of a group".to_owned(), |g| {
                    format!("members of {}", g.id)
                })
            }
        };
        format!("{what} {side} {whom}")
    }
}

fn established() -> Allowed {
    Allowed::by("S1", "it belongs to a flow that was allowed to begin")
}

fn ports(protocol: &str, range: PortRange) -> String {
    match (range.first(), range.last()) {
        _ if range == PortRange::ALL => protocol.to_owned(),
        (first, last) if first == last => format!("{protocol} {first}"),
        (first, last) => format!("{protocol} {first}-{last}"),
    }
}

/// The packet as the beginning of a flow; nothing for an ICMPv6 message without a type.
pub(super) fn flow_of(packet: &Packet<'_>) -> Option<Flow> {
    let protocol = packet.upper.map_or(0, |upper| upper.protocol);
    let data = packet.upper(protocol).unwrap_or_default();
    let upper = match protocol {
        TCP | UDP | SCTP => match (word(data, 0), word(data, 2)) {
            (Some(source), Some(destination)) => Upper::Ports {
                source,
                destination,
            },
            _ => Upper::Other,
        },
        ICMPV6 => Upper::Icmpv6 {
            kind: octet(data, 0)?,
            code: octet(data, 1).unwrap_or_default(),
        },
        _ => Upper::Other,
    };
    Some(Flow {
        zone: 0,
        protocol,
        source: packet.source,
        destination: packet.destination,
        upper,
    })
}

/// What is in a packet, in a few words.
pub(super) fn describe(packet: &Packet<'_>) -> String {
    if packet.is_later_fragment() {
        return "a later fragment".to_owned();
    }
    let Some(flow) = flow_of(packet) else {
        return "icmpv6".to_owned();
    };
    let named = match flow.protocol {
        TCP => "tcp".to_owned(),
        UDP => "udp".to_owned(),
        SCTP => "sctp".to_owned(),
        ICMPV6 => "icmpv6".to_owned(),
        number => format!("protocol {number}"),
    };
    match flow.upper {
        Upper::Ports { destination, .. } => format!("{named} port {destination}"),
        Upper::Icmpv6 { kind, .. } => format!("{named} type {kind}"),
        Upper::Other => named,
    }
}

fn unanswered(packet: &Packet<'_>) -> Option<String> {
    let tcp = packet.upper(TCP).is_some();
    tcp.then(|| {
        "if it is part of a connection, ask again with its flow established; that connection \
         is not known here, or timed out"
            .to_owned()
    })
}
