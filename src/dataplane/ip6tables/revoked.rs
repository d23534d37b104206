//! Flows that were cut and must not come back from their other end (S7). Why is told in
//! `nft/revoked.rs`, of which this is the like.
//!
//! Each flow that is cut leaves its addresses and ports behind, as its replies have them. No set has
//! two addresses and two ports: each bridge has two sets of `hash:ip,port,ip`, one with the port that
//! a reply is from and one with the port that it goes to, and a packet is of the flow where both have
//! it. That is wider than the flows that were cut only where several between the same two addresses
//! crossed their ports: cut are 443 to 40000 and 22 to 40001, and 443 to 40001 does not begin either.
//! Protocols without ports have port 0 in both (`get_port` in the kernel's
//! `net/netfilter/ipset/ip_set_getport.c`).
//!
//! An element lasts as long as connection tracking would keep an idle flow, from the last packet that
//! it stopped. The kernel is the only place where they are kept: what is programmed has the sets, not
//! what is in them, and neither an agent that starts nor a repair takes that away.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    net::Ipv6Addr,
};

use super::{
    Ip6tables, LIMIT,
    chains::Chains,
    dispatch,
    groups::goto,
    sets::{Kind, Set, Sets},
};
use crate::{
    dataplane::{DataplaneError, conntrack, exec},
    failpoint::reach,
    model::IfName,
    ruleset::{Cut, Flow, ICMPV6, Pardon, Reason, Ruleset, SCTP, Selector, TCP, UDP, Upper},
};

/// What looks at packets that a NIC sends or that are delivered to one by a bridge.
pub(super) const REVOKED: &str = "sgagent_revoked";

/// What looks at packets of the host, or that it routes, by the bridge that they leave by.
pub(super) const TO_BRIDGE: &str = "sgagent_revoked_to";

/// The roots of the trees over the bridges' names, short enough for any name behind them.
const BY: &str = "sgagent_cutby";
const TO: &str = "sgagent_cutto";

/// Groups judge what a bridge delivers, never what the host sends or routes (S6).
const HOST_IS_JUDGED: bool = false;

const UDPLITE: u8 = 136;

/// So many edits one `ipset` makes: it takes some 40 µs for each, and has a limited time.
const TOGETHER: usize = 100_000;

/// The protocols whose ports the kernel looks at, as `ipset` prints them.
const BY_PORT: [(&str, u8); 4] = [
    ("tcp", TCP),
    ("udp", UDP),
    ("sctp", SCTP),
    ("udplite", UDPLITE),
];

/// Names of the other protocols are this host's.
const PROTOCOLS: &str = "/etc/protocols";

/// How long an element lasts, in seconds.
fn seconds(protocol: u8) -> u32 {
    match protocol {
        TCP | SCTP => 432_000,
        UDP => 180,
        _ => 600,
    }
}

/// The set with the ports that replies are from, and the one with those that they go to.
fn names(bridge: u16) -> [String; 2] {
    ["from", "to"].map(|end| format!("sgagent_revoked_{bridge}_{end}"))
}

/// What of a packet is looked up in each of them.
const LOOKED_UP: [&str; 2] = ["src,src,dst", "src,dst,dst"];

/// The chains and the sets. What jumps to them has let pass what begins no flow.
pub(super) fn stage(chains: &mut Chains, ruleset: &Ruleset) -> Sets {
    let mut sets = Sets::new();
    for (root, tree) in [(REVOKED, BY), (TO_BRIDGE, TO)] {
        chains.rule(root, format!("-p {ICMPV6} -j RETURN"));
        // A connection of its own.
        chains.rule(
            root,
            "-p tcp -m tcp --tcp-flags FIN,SYN,RST,ACK SYN -j RETURN",
        );
        chains.rule(root, format!("-g {tree}"));
    }
    for (bridge, rules) in &ruleset.bridges {
        let number = rules.number.0;
        for set in names(number) {
            sets.insert(set, Set::learned(Kind::Revoked));
        }
        of_bridge(chains, bridge, number);
    }
    for (option, tree) in [("-i", BY), ("-o", TO)] {
        let leaves = ruleset.bridges.iter().map(|(bridge, rules)| {
            let look = format!("-g sgagent_revoked_{}", rules.number.0);
            (bridge, vec![look])
        });
        dispatch::by_name(chains, tree, (option, "-g"), leaves);
    }
    sets
}

fn of_bridge(chains: &mut Chains, bridge: &IfName, number: u16) {
    let ends = || names(number).into_iter().zip(LOOKED_UP);
    let both = ends().map(|(set, by)| format!("-m set --match-set {set} {by} "));
    let both: String = both.collect();
    let revived = format!("sgagent_revived_{number}");
    chains.rule(
        &format!("sgagent_revoked_{number}"),
        format!("{both}-g {revived}"),
    );
    // The host's marks are no NIC's.
    chains.rule(
        &revived,
        format!("! -i {bridge} -j MARK --set-xmark 0x0/0xffffffff"),
    );
    let renew = |seconds: u32| format!("sgagent_renew_{number}_{seconds}");
    for (protocol, kind) in [
        ("-p tcp ", TCP),
        ("-p udp ", UDP),
        ("-p sctp ", SCTP),
        ("", 0),
    ] {
        chains.rule(&revived, format!("{protocol}-g {}", renew(seconds(kind))));
    }
    for seconds in [TCP, UDP, 0].map(seconds) {
        for (set, by) in ends() {
            let add = format!("-j SET --add-set {set} {by} --exist --timeout {seconds}");
            chains.rule(&renew(seconds), add);
        }
        chains.rule(&renew(seconds), goto(Reason::Revoked));
    }
}

/// One of the two elements that are left of a flow.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Element {
    set: String,
    member: String,
    seconds: u32,
}

/// What keeps flows between two addresses from coming back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Pair {
    /// As its replies have them.
    source: Ipv6Addr,
    destination: Ipv6Addr,
    protocol: u8,
}

impl Pair {
    /// The element of a port in the one set or the other.
    fn element(self, set: &str, port: u16) -> Element {
        let Self {
            source,
            destination,
            protocol,
        } = self;
        let names = BY_PORT.iter().find(|(_, number)| *number == protocol);
        let name = names.map_or_else(|| protocol.to_string(), |(name, _)| (*name).to_owned());
        Element {
            set: set.to_owned(),
            member: format!("{source},{name}:{port},{destination}"),
            seconds: seconds(protocol),
        }
    }

    /// The flow whose replies are from one port and go to another.
    fn flow(self, zone: u16, from: u16, to: u16) -> Flow {
        let ports = BY_PORT.iter().any(|(_, number)| *number == self.protocol);
        let upper = if ports {
            Upper::Ports {
                source: to,
                destination: from,
            }
        } else {
            Upper::Other
        };
        Flow {
            zone,
            protocol: self.protocol,
            source: self.destination,
            destination: self.source,
            upper,
        }
    }
}

/// What keeps a flow from coming back on a bridge. Nothing for ICMPv6: an echo reply begins no flow.
/// Nothing for 0, which is no upper layer and of which there is no flow.
fn elements(bridge: u16, flow: &Flow) -> Vec<Element> {
    let Flow {
        zone: _,
        protocol,
        source,
        destination,
        upper,
    } = flow;
    if [0, ICMPV6].contains(protocol) {
        return Vec::new();
    }
    let by_port = BY_PORT.iter().any(|(_, number)| number == protocol);
    let (from, to) = match upper {
        Upper::Ports {
            source,
            destination,
        } if by_port => (*destination, *source),
        Upper::Ports { .. } | Upper::Icmpv6 { .. } | Upper::Other => (0, 0),
    };
    let pair = Pair {
        source: *destination,
        destination: *source,
        protocol: *protocol,
    };
    let ends = names(bridge).into_iter().zip([from, to]);
    ends.map(|(set, port)| pair.element(&set, port)).collect()
}

/// The input of `ipset restore`.
fn edits(remove: &BTreeSet<Element>, add: &BTreeSet<Element>) -> String {
    let mut text = String::new();
    // Writing to a String can't fail.
    for Element { set, member, .. } in remove {
        let _ = writeln!(text, "del {set} {member}");
    }
    for Element {
        set,
        member,
        seconds,
    } in add
    {
        let _ = writeln!(text, "add {set} {member} timeout {seconds}");
    }
    text
}

/// Ports that replies are from, and ports that they go to.
type Ports = [BTreeSet<u16>; 2];

/// What is in the two sets of a bridge, as `ipset save` prints them. What can't be read stays where
/// it is until its time is up: flows stay cut.
fn parse(printed: [&str; 2], protocols: &BTreeMap<String, u8>) -> BTreeMap<Pair, Ports> {
    let mut all = BTreeMap::<_, Ports>::new();
    let member = |line: &str| {
        let mut words = line.split_whitespace();
        (words.next() == Some("add")).then_some(())?;
        let mut parts = words.nth(1)?.split(',');
        let source = parts.next()?.parse().ok()?;
        let (name, port) = parts.next()?.split_once(':')?;
        let destination = parts.next()?.parse().ok()?;
        let by_port = BY_PORT.iter().find(|(known, _)| *known == name);
        let number = by_port.map(|(_, number)| *number);
        let number = number.or_else(|| protocols.get(name).copied());
        let protocol = number.or_else(|| name.parse().ok())?;
        Some((
            Pair {
                source,
                destination,
                protocol,
            },
            port.parse().ok()?,
        ))
    };
    for (end, text) in printed.into_iter().enumerate() {
        for (pair, port) in text.lines().filter_map(member) {
            if let Some(ports) = all.entry(pair).or_default().get_mut(end) {
                ports.insert(port);
            }
        }
    }
    all
}

/// Protocols by name, as `ipset` prints them: it asks the same file.
fn protocols(file: &str) -> BTreeMap<String, u8> {
    let line = |line: &str| {
        let line = line.split('#').next()?;
        let mut words = line.split_whitespace();
        let name = words.next()?;
        Some((name.to_owned(), words.next()?.parse().ok()?))
    };
    file.lines().filter_map(line).collect()
}

/// The elements that may go, because the flows that they keep away are allowed again.
///
/// An element goes where it stops no flow any more that is not allowed. What a flow is judged by is
/// where it went to: one port that it came from is as good as another, but for that of DHCPv6
/// servers (`ruleset/flow.rs`).
fn pardoned(
    bridge: u16,
    all: BTreeMap<Pair, Ports>,
    allows: impl Fn(&Flow) -> bool,
) -> BTreeSet<Element> {
    let mut gone = BTreeSet::new();
    let [from_set, to_set] = names(bridge);
    for (pair, [from, to]) in all {
        let server = to.get(&547);
        let client = to.iter().find(|port| **port != 547);
        let judged: Vec<_> = client.into_iter().chain(server).copied().collect();
        let (mut stopped, mut stays) = (BTreeSet::new(), false);
        for port in &from {
            let denied = |to: &&u16| !allows(&pair.flow(bridge, *port, **to));
            let denied: Vec<_> = judged.iter().filter(denied).copied().collect();
            stays |= denied.iter().any(|port| *port != 547);
            stopped.extend(denied.iter().copied());
            if denied.is_empty() && !judged.is_empty() {
                gone.insert(pair.element(&from_set, *port));
            }
        }
        let free = |to: &&u16| {
            if **to == 547 {
                !stopped.contains(to)
            } else {
                !stays
            }
        };
        if !from.is_empty() {
            gone.extend(
                to.iter()
                    .filter(free)
                    .map(|port| pair.element(&to_set, *port)),
            );
        }
    }
    gone
}

impl Ip6tables {
    /// Cuts flows: first what keeps them from coming back, then the flows themselves.
    pub(super) async fn cut_flows(&mut self, cut: &Cut) -> Result<u64, DataplaneError> {
        let left = |reason: String| DataplaneError::FlowsLeft { cut: 0, reason };
        let (mut entries, mut add) = (Vec::new(), BTreeSet::new());
        if !cut.suspects.is_empty() {
            let selector = Selector::new(cut, HOST_IS_JUDGED);
            let found = conntrack::find(|flow| selector.cuts(flow)).await;
            entries = found.map_err(|error| left(error.to_string()))?;
            for entry in &entries {
                let bridges = selector.bridges(&entry.flow);
                // On a bridge that is not managed any more nobody looks.
                let bridges = bridges
                    .iter()
                    .filter_map(|bridge| cut.to.bridges.get(bridge));
                add.extend(bridges.flat_map(|b| elements(b.number.0, &entry.flow)));
            }
        }
        let mut remove = BTreeSet::new();
        if cut.widened && self.revoked {
            let freed = self.pardoned(cut).await;
            remove = freed.map_err(|error| left(error.to_string()))?;
            remove.retain(|element| !add.contains(element));
        }
        let text = edits(&remove, &add);
        let lines: Vec<_> = text.lines().collect();
        for some in lines.chunks(TOGETHER) {
            self.revoked = true;
            let some = some.join("\n") + "\n";
            let done = exec::run(&self.tools.ipset, &["-exist", "restore"], &some, LIMIT).await;
            done.map_err(|error| left(error.to_string()))?;
        }
        reach("cut-marked");
        if entries.is_empty() {
            return Ok(0);
        }
        let (cut, done) = conntrack::delete(&entries).await;
        done.map(|()| cut)
            .map_err(|error| DataplaneError::FlowsLeft {
                cut,
                reason: error.to_string(),
            })
    }

    /// What is not to keep flows from coming back any more.
    async fn pardoned(&mut self, cut: &Cut) -> Result<BTreeSet<Element>, exec::ExecError> {
        let pardon = Pardon::new(&cut.to, HOST_IS_JUDGED);
        let names_of = tokio::fs::read_to_string(PROTOCOLS)
            .await
            .unwrap_or_default();
        let names_of = protocols(&names_of);
        let (mut gone, mut any) = (BTreeSet::new(), false);
        for number in cut.to.bridges.values().map(|bridge| bridge.number.0) {
            let [from, to] = names(number);
            let program = &self.tools.ipset;
            let from = exec::run(program, &["save", &from], "", LIMIT).await?;
            if !from.lines().any(|line| line.starts_with("add ")) {
                continue;
            }
            any = true;
            let to = exec::run(program, &["save", &to], "", LIMIT).await?;
            let all = parse([&from, &to], &names_of);
            gone.extend(pardoned(number, all, |flow| pardon.allows(flow)));
        }
        self.revoked = any;
        Ok(gone)
    }
}

#[cfg(test)]
mod tests;
