//! What the management server wants of the guest that is changed: a state that each change moves
//! on by one, and of which both the API and packets tell how far it has come.

use sgagent::pb;
use sgagent::pb::Protocol;

use super::fixture::{PROBED, outside};
use super::probe::{ALWAYS, Question, inward, outward};
use super::traffic::Traffic;
use crate::support::net::Net;
use crate::support::want::{
    ChangeExt as _, NicExt as _, RuleExt as _, allow_in, change, group, nic, open, web,
};
use crate::support::who::{A, B, C, ip};

/// How far each part has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Wanted {
    /// Each change has one: its generation.
    pub generation: u64,
    /// A rule of `probed` lets in to this port.
    rule: u16,
    /// This member of `peers` may come in.
    member: u16,
    /// This address is the guest's.
    address: u16,
}

/// Where the members may come in to.
const PEERS: u16 = 11_000;

/// Which ports the rules are about.
const RULES: u16 = 20_000;

impl Wanted {
    pub(super) fn first() -> Self {
        Self {
            generation: 1,
            rule: 1,
            member: 1,
            address: 1,
        }
    }

    /// One change on: of a rule, of a member, of a NIC, or of all by a full sync.
    pub(super) fn next(self) -> Self {
        let mut next = self;
        next.generation += 1;
        let all = next.generation.is_multiple_of(4);
        next.rule += u16::from(all || next.generation % 4 == 1);
        next.member += u16::from(all || next.generation % 4 == 2);
        next.address += u16::from(all || next.generation % 4 == 3);
        next
    }

    fn group(self) -> pb::Group {
        group(
            "probed",
            &[
                allow_in(Protocol::Udp).port(u32::from(ALWAYS)),
                allow_in(Protocol::Udp).port(u32::from(RULES + self.rule)),
                allow_in(Protocol::Udp)
                    .port(u32::from(PEERS))
                    .members_of("peers"),
            ],
        )
    }

    fn nic(self) -> pb::Nic {
        nic(PROBED)
            .address(&address(self.address))
            .groups(&["probed"])
    }

    /// What leads here from the state before: a change, or a full sync.
    pub(super) fn push(self, before: Option<Self>, net: &Net) -> Result<(), tonic::Status> {
        let generation = Some(self.generation);
        let Some(before) = before else {
            let request = change().group(self.group()).group(group("peers", &[]));
            let mut request = request
                .nic(self.nic())
                .member("peers", &peer(self.member), &[]);
            request.generation = generation;
            let done = net
                .agent
                .call(async |mut client| client.apply(request).await);
            return done.map(drop);
        };
        if self.generation.is_multiple_of(4) {
            let mut request = self.everything();
            request.generation = generation;
            let pieces = tokio_stream::iter([request]);
            let done = net.agent.call(async |mut client| client.sync(pieces).await);
            return done.map(drop);
        }
        let mut request = change();
        if self.rule != before.rule {
            request = request.group(self.group());
        }
        if self.member != before.member {
            request = request.remove_member("peers", &peer(before.member)).member(
                "peers",
                &peer(self.member),
                &[],
            );
        }
        if self.address != before.address {
            request = request.nic(self.nic());
        }
        request.generation = generation;
        let done = net
            .agent
            .call(async |mut client| client.apply(request).await);
        done.map(drop)
    }

    /// All that there is.
    pub(super) fn everything(self) -> pb::SyncRequest {
        pb::SyncRequest {
            nics: vec![
                nic(A).groups(&["open"]),
                nic(B).groups(&["open"]),
                nic(C).groups(&["web"]),
                self.nic(),
            ],
            groups: vec![open(), web(), self.group(), group("peers", &[])],
            members: vec![pb::GroupMembers {
                group_id: "peers".to_owned(),
                members: vec![pb::Member {
                    address: peer(self.member),
                    delegated_prefixes: Vec::new(),
                }],
            }],
            complete: true,
            ..pb::SyncRequest::default()
        }
    }

    /// What the agent says it has.
    pub(super) fn told_by(net: &Net) -> Self {
        let id = || "probed".to_owned();
        let request = pb::GetGroupRequest { id: id() };
        let group = net
            .agent
            .call(async |mut client| client.get_group(request).await);
        let group = group.unwrap().group.unwrap().group.unwrap();
        let port = group.rules[1].ports.unwrap().first;
        let request = pb::ListMembersRequest {
            group_id: "peers".to_owned(),
            ..pb::ListMembersRequest::default()
        };
        let members = net
            .agent
            .call(async |mut client| client.list_members(request).await);
        let members = members.unwrap().members;
        assert_eq!(members.len(), 1, "{members:?}");
        let request = pb::GetNicRequest {
            id: PROBED.port.to_owned(),
        };
        let nic = net
            .agent
            .call(async |mut client| client.get_nic(request).await);
        let nic = nic.unwrap().nic.unwrap().nic.unwrap();
        let last = |text: &str| ip(text).segments()[7];
        Self {
            generation: net.agent_status().generation.unwrap(),
            rule: u16::try_from(port).unwrap() - RULES,
            member: last(&members[0].address),
            address: last(&nic.addresses[0].address),
        }
    }

    /// Asks the kernel: this is in force, and neither what was before nor what comes next. `round`
    /// makes flows of its own.
    pub(super) fn is_in_force(self, traffic: &mut Traffic, round: u16) {
        let from = 30_000 + round % 30_000;
        for (step, wanted) in [(-1, false), (0, true), (1, false)] {
            let at = |now: u16| now.checked_add_signed(step).unwrap();
            let mut asked = vec![("the rule", inward(from, RULES + at(self.rule)))];
            let mut member = inward(from, PEERS);
            member.packet = outside(PROBED).src(ip(&peer(at(self.member))));
            asked.push(("the member", member));
            let mut own = outward(from, 7_000);
            own.packet = own.packet.src(ip(&address(at(self.address))));
            asked.push(("the address", own));
            for (what, question) in asked {
                let passed = traffic.passes(question);
                assert_eq!(passed, wanted, "{what} {step} of {self:?}");
            }
        }
    }

    /// A flow that the rule allows, with an answer.
    pub(super) fn begin_flow(self, traffic: &mut Traffic) {
        assert!(traffic.passes(self.flow()), "{self:?}");
        assert!(traffic.passes(outward(RULES + self.rule, self.flow_port())));
    }

    /// Whether that flow goes on.
    pub(super) fn flow_lives(self, traffic: &mut Traffic) -> bool {
        traffic.passes(self.flow())
    }

    pub(super) fn same_rule(self, other: Self) -> bool {
        self.rule == other.rule
    }

    fn flow(self) -> Question {
        inward(self.flow_port(), RULES + self.rule)
    }

    fn flow_port(self) -> u16 {
        3_000 + self.rule % 20_000
    }
}

fn peer(n: u16) -> String {
    format!("2001:db8:ffff:2::{n:x}")
}

fn address(n: u16) -> String {
    format!("2001:db8:100:1::5:{n:x}")
}
