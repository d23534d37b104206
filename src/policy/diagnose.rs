//! What is wrong with a NIC: its path on this host, step by step. Pure: what there is to know
//! was read before ([`Facts`]).
//!
//! The order is that of the path, so that what is wrong early explains what is wrong later. A
//! question that makes no sense before something else is mended has no answer yet.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv6Addr,
};

use super::binding::absent;
use super::{binding::not_managed, explain::usual_cause};
use crate::{
    model::{IfName, Link, LinkState, Located, Nic, NicState, Outcome},
    ruleset::{Held, Reason},
};

#[cfg(test)]
mod tests;

/// Routers say that they are there at least so often, in seconds (RFC 4861 §6.2.1,
/// `MaxRtrAdvInterval`).
const ADVERTISED_WITHIN: u64 = 1_800;

/// From this share of the table of flows on, in hundredths, it is as good as full.
const FULL: u64 = 95;

/// What was read, or why it could not be.
pub type Read<T> = Result<T, String>;

/// What was dropped lately.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Recent {
    /// How long that is, in milliseconds.
    pub ms: u64,
    /// Packets and octets by reason, those with most packets first.
    pub drops: Vec<(Reason, u64, u64)>,
}

/// What there is to know of a NIC's path.
#[derive(Debug, Clone)]
pub struct Facts<'a> {
    /// What is wanted.
    pub nic: &'a Nic,
    /// What became of it.
    pub outcome: Option<&'a Outcome>,
    /// The interfaces.
    pub host: &'a Located,
    /// What the kernel says of those that the NIC's path goes by, bridges too; nothing of one
    /// that does not exist.
    pub links: BTreeMap<IfName, Read<Option<LinkState>>>,
    /// Why what was acknowledged may not be in force.
    pub unhealthy: Option<&'a str>,
    /// What somebody else changed of the rules, where that is not repaired yet.
    pub drift: Option<String>,
    /// What of the NIC is in the kernel.
    pub held: Read<Held>,
    /// Of each managed bridge of the path whether bridge netfilter shows its IPv6 to the ip6
    /// tables. Empty where the bridge tracks connections itself.
    pub shown: BTreeMap<IfName, Read<bool>>,
    /// Entries of the host's table of flows, and how many fit.
    pub flows: Option<(u64, u64)>,
    /// Who sent a router advertisement from outside.
    pub heard: Read<BTreeSet<Ipv6Addr>>,
    /// How long the kernel has been listening for them, in seconds.
    pub listened: Option<u64>,
    /// What was dropped of the NIC lately.
    pub recent: Read<Recent>,
}

/// What came out of a check.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    /// It is as it should be.
    Ok,
    /// It is not.
    Wrong,
    /// It could not be found out, or does not matter before something else is mended.
    Unknown,
}

/// A question about the path, and its answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// What was looked at.
    pub name: &'static str,
    /// What came out.
    pub found: Found,
    /// Why, in words.
    pub text: String,
    /// The usual cause, and what to do about it.
    pub hint: Option<String>,
}

/// An answer without its name.
struct Answer {
    found: Found,
    text: String,
    hint: Option<String>,
}

impl Answer {
    fn new(found: Found, text: impl Into<String>) -> Self {
        Self {
            found,
            text: text.into(),
            hint: None,
        }
    }

    fn ok(text: impl Into<String>) -> Self {
        Self::new(Found::Ok, text)
    }

    fn wrong(text: impl Into<String>) -> Self {
        Self::new(Found::Wrong, text)
    }

    fn unknown(text: impl Into<String>) -> Self {
        Self::new(Found::Unknown, text)
    }

    fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

/// Asks one question.
type Look = fn(&Facts<'_>) -> Answer;

/// Goes along the path of a NIC.
pub fn diagnose(facts: &Facts<'_>) -> Vec<Check> {
    let checks: [(&'static str, Look); 10] = [
        ("interface", interface),
        ("bridge", bridge),
        ("uplink", uplink),
        ("state", state),
        ("agent", agent),
        ("rules", rules),
        ("tracking", tracking),
        ("router", router),
        ("flow-table", flow_table),
        ("drops", drops),
    ];
    let one = |(name, look): (&'static str, Look)| {
        let Answer { found, text, hint } = look(facts);
        Check {
            name,
            found,
            text,
            hint,
        }
    };
    checks.into_iter().map(one).collect()
}

/// The interfaces that a NIC's selectors name, as far as they are there, and what is not.
pub fn located<'a>(nic: &Nic, host: &'a Located) -> (Vec<&'a Link>, Vec<String>) {
    let (mut there, mut missing) = (Vec::new(), Vec::new());
    for selector in &nic.interfaces {
        let found = host.meant(selector, nic.mac);
        if found.is_empty() {
            missing.push(absent(selector, nic, host));
        }
        there.extend(found);
    }
    (there, missing)
}

fn interface(facts: &Facts<'_>) -> Answer {
    let (there, missing) = located(facts.nic, facts.host);
    if there.is_empty() {
        let hint = "the guest is not running, or its interface has another name or MAC: the agent \
                    looks for what the NIC's `interfaces` say";
        return Answer::wrong(missing.join("; ")).hint(hint);
    }
    let mut words = Vec::new();
    for link in there {
        let name = &link.name;
        match facts.links.get(name) {
            Some(Ok(Some(LinkState { up: false, .. }))) => {
                let hint = format!("who started the guest sets it up: ip link set {name} up");
                return Answer::wrong(format!("interface {name} is down")).hint(hint);
            }
            Some(Ok(Some(LinkState { carrier: false, .. }))) => {
                let text = format!("interface {name} has no carrier: nobody holds its other end");
                return Answer::wrong(text).hint("the guest is not running, or unplugged it");
            }
            Some(Ok(None)) => {
                return Answer::wrong(format!("interface {name} has just gone"));
            }
            Some(Err(why)) => return Answer::unknown(why.as_str()),
            None => return Answer::unknown(format!("interface {name} was not looked at")),
            Some(Ok(Some(_))) => words.push(format!("{name} (index {}) is up", link.index)),
        }
    }
    Answer::ok(words.join(", "))
}

fn bridge(facts: &Facts<'_>) -> Answer {
    let (there, _) = located(facts.nic, facts.host);
    if there.is_empty() {
        return Answer::unknown("there is no interface");
    }
    let mut words = Vec::new();
    for link in there {
        let name = &link.name;
        let Some(bridge) = facts.host.bridge_of(link) else {
            let text = format!("interface {name} is not a port of a bridge");
            let hint = format!("ip link set {name} master BRIDGE, one that is managed");
            return Answer::wrong(text).hint(hint);
        };
        let bridge = &bridge.name;
        if facts.host.config_of(bridge).is_none() {
            let why = not_managed(facts.host, bridge);
            let text = format!("interface {name} is a port of bridge {bridge}, {why}");
            let hint = if facts.host.held_config_of(bridge).is_some() {
                format!("sgctl adopt {bridge} says which ports that would close; a sync does it")
            } else {
                format!(
                    "the port belongs on another bridge, or the configuration should name \
                     {bridge} under [[bridges]]"
                )
            };
            return Answer::wrong(text).hint(hint);
        }
        match facts.links.get(bridge) {
            Some(Ok(Some(state))) if !state.up => {
                let hint = format!("ip link set {bridge} up");
                return Answer::wrong(format!("bridge {bridge} is down")).hint(hint);
            }
            Some(Err(why)) => return Answer::unknown(why.as_str()),
            Some(Ok(_)) | None => {
                words.push(format!("{name} is a port of {bridge}, which is managed"));
            }
        }
    }
    Answer::ok(words.join(", "))
}

fn uplink(facts: &Facts<'_>) -> Answer {
    let (there, _) = located(facts.nic, facts.host);
    let managed = |link: &&Link| {
        let bridge = facts.host.bridge_of(link)?;
        facts.host.config_of(&bridge.name)
    };
    let mut any = false;
    for link in there {
        let Some(config) = managed(&link) else {
            continue;
        };
        any = true;
        if facts.host.is_uplink(link, config) {
            let text = format!("interface {} is an uplink of its bridge", link.name);
            let hint = "the NIC names a wrong interface, or the configuration's `uplinks` do";
            return Answer::wrong(text).hint(hint);
        }
    }
    if any {
        Answer::ok("it is no uplink")
    } else {
        Answer::unknown("there is no port of a managed bridge")
    }
}

fn state(facts: &Facts<'_>) -> Answer {
    match facts.outcome.map(|outcome| &outcome.state) {
        Some(NicState::Active) => Answer::ok("the NIC is ACTIVE"),
        Some(NicState::Pending(why)) => Answer::wrong(format!("the NIC is PENDING: {why}")),
        Some(NicState::Quarantined(why)) => {
            let hint = "it carries nothing until that is mended";
            Answer::wrong(format!("the NIC is QUARANTINED: {why}")).hint(hint)
        }
        None => Answer::unknown("its interfaces were not looked at yet"),
    }
}

fn is_active(facts: &Facts<'_>) -> bool {
    let state = facts.outcome.map(|outcome| &outcome.state);
    state == Some(&NicState::Active)
}

fn agent(facts: &Facts<'_>) -> Answer {
    match facts.unhealthy {
        None => Answer::ok("what was acknowledged is in the kernel and on disk"),
        Some(why) => Answer::wrong(format!("the agent is not healthy: {why}"))
            .hint("it tries again by itself; sgctl status and the log have more"),
    }
}

fn rules(facts: &Facts<'_>) -> Answer {
    if !is_active(facts) {
        return Answer::unknown("none are programmed for a NIC that is not ACTIVE");
    }
    match (&facts.held, &facts.drift) {
        (Ok(held), drift) if !held.missing.is_empty() => {
            let text = format!("not in the kernel as wanted: {}", held.missing.join("; "));
            let hint = drift.as_ref().map_or_else(
                || "nobody told the agent of a change: sgctl ruleset has all of it".to_owned(),
                |drift| format!("{drift}; it is repaired at most once a second"),
            );
            Answer::wrong(text).hint(hint)
        }
        (_, Some(drift)) => {
            let hint = "it is repaired at most once a second";
            Answer::wrong(format!("somebody changed the rules: {drift}")).hint(hint)
        }
        (
            Ok(Held {
                elements, rules, ..
            }),
            None,
        ) => Answer::ok(format!(
            "its {elements} elements and the {rules} rules of its groups are in the kernel"
        )),
        (Err(why), None) => Answer::unknown(why.as_str()),
    }
}

fn tracking(facts: &Facts<'_>) -> Answer {
    for (bridge, shown) in &facts.shown {
        match shown {
            Ok(true) => {}
            Ok(false) => {
                let text = format!(
                    "bridge {bridge} shows no IPv6 to connection tracking: nf_call_ip6tables is off"
                );
                let hint = "the agent turns it on again within 2 s; who turns it off?";
                return Answer::wrong(text).hint(hint);
            }
            Err(why) => return Answer::unknown(why.as_str()),
        }
    }
    match (facts.flows, facts.shown.is_empty()) {
        (None, _) => Answer::unknown("the kernel tells of no table of flows"),
        (Some(_), true) => Answer::ok("the bridge tracks connections itself"),
        (Some(_), false) => Answer::ok("connections are tracked behind br_netfilter"),
    }
}

fn router(facts: &Facts<'_>) -> Answer {
    let (there, _) = located(facts.nic, facts.host);
    let bridges = there.iter().filter_map(|link| facts.host.bridge_of(link));
    let configs: Vec<_> = bridges
        .filter_map(|bridge| Some((bridge, facts.host.config_of(&bridge.name)?)))
        .collect();
    let Some((bridge, config)) = configs.first() else {
        return Answer::unknown("there is no port of a managed bridge");
    };
    let heard = match &facts.heard {
        Ok(heard) => heard,
        Err(why) => return Answer::unknown(why.as_str()),
    };
    let listed =
        |address: &&Ipv6Addr| config.routers.is_empty() || config.routers.contains(address);
    if let Some(one) = heard.iter().find(listed) {
        // The kernel keeps it by address, not by bridge.
        let text = format!("router {one} advertised itself by an uplink of a managed bridge");
        return Answer::ok(text);
    }
    if let Some(one) = heard.first() {
        let text = format!(
            "router {one} advertised itself, but the configuration of bridge {} does not name it",
            bridge.name
        );
        return Answer::wrong(text).hint("its `routers` are all that guests may hear");
    }
    let mut ports = facts.host.ports_of(bridge.index);
    if !ports.any(|port| facts.host.is_uplink(port, config)) {
        return Answer::unknown(format!("bridge {} has no uplink", bridge.name));
    }
    match facts.listened {
        Some(seconds) if seconds >= ADVERTISED_WITHIN => {
            let hours = "in the last 2 h, or since the rules were loaded";
            let text = format!("no router advertised itself by an uplink {hours} {seconds} s ago");
            let hint = "without one a guest has no default route: is the uplink connected, does \
                        the router send advertisements into this network?";
            Answer::wrong(text).hint(hint)
        }
        Some(seconds) => Answer::unknown(format!(
            "no router advertised itself in the {seconds} s since the rules were loaded; routers \
             do at least every {ADVERTISED_WITHIN} s"
        )),
        None => Answer::unknown("the rules are not loaded"),
    }
}

fn flow_table(facts: &Facts<'_>) -> Answer {
    match facts.flows {
        None => Answer::unknown("the kernel tells of no table of flows"),
        Some((entries, most)) if entries.saturating_mul(100) >= most.saturating_mul(FULL) => {
            let text = format!("the host's table of flows is full: {entries} of {most}");
            let hint = "new connections fail; raise net.netfilter.nf_conntrack_max, and see with \
                        conntrack -L who fills it";
            Answer::wrong(text).hint(hint)
        }
        Some((entries, most)) => Answer::ok(format!("{entries} flows of {most}")),
    }
}

/// What a bridge floods to a NIC for somebody else is nobody's fault.
fn drops(facts: &Facts<'_>) -> Answer {
    let recent = match &facts.recent {
        Ok(recent) => recent,
        Err(why) => return Answer::unknown(why.as_str()),
    };
    let (seconds, tenths) = (recent.ms / 1000, recent.ms % 1000 / 100);
    let lately = format!("in the last {seconds}.{tenths} s");
    let theirs = |(reason, ..): &&(Reason, u64, u64)| *reason != Reason::NotForNic;
    let counted: Vec<_> = recent.drops.iter().filter(theirs).collect();
    let Some((most, packets, _)) = counted.first() else {
        return Answer::ok(format!("nothing was dropped {lately}"));
    };
    let all: u64 = counted.iter().map(|(_, packets, _)| packets).sum();
    let (name, row) = (most.name(), most.row());
    let text = if all == *packets {
        format!("{all} packets were dropped {lately}, as {name} ({row})")
    } else {
        format!("{all} packets were dropped {lately}, {packets} of them as {name} ({row})")
    };
    let answer = Answer::wrong(text);
    match usual_cause(*most) {
        Some(hint) => answer.hint(hint),
        None => answer,
    }
}
