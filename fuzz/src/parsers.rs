//! The targets of one parser each.

use std::net::Ipv6Addr;

use sgagent::{
    config,
    dataplane::{Sampled, conntrack, nflog, nft},
    link,
    model::{Desired, Interfaces, LinkKind},
    pb,
    policy::{Numbering, compile, glance},
    ruleset::{Ruleset, Upper, name::NUMBER_MASK},
    sgctl, store,
};

use crate::{agent::Agent, host, requests, source::Source, words};

/// Most pieces of an input.
const PIECES: usize = 64;

fn pieces(data: &[u8]) -> Vec<&[u8]> {
    let mut source = Source::new(data);
    std::iter::from_fn(|| source.piece()).take(PIECES).collect()
}

/// What the kernel says of the host's interfaces leads to rules for a host as it may be.
pub fn interfaces(data: &[u8]) {
    let mut source = Source::new(data);
    let ways = source.octet();
    let mut known = if ways & 1 == 0 {
        host::ordinary()
    } else {
        Interfaces {
            links: [].into(),
            ..host::ordinary()
        }
    };
    let mut agent = Agent::new(known.clone());
    if ways & 2 == 0 {
        agent.apply(requests::ordinary());
        assert_eq!(agent.desired().nics.len(), 4);
    }
    while let Some(datagram) = source.piece() {
        link::fuzzing::take(&mut known, datagram);
        for (index, link) in &known.links {
            assert_eq!(*index, link.index);
            let guest = known
                .guest_patterns
                .iter()
                .any(|pattern| pattern.matches(&link.name));
            assert!(
                !guest || link.kind != LinkKind::Outward,
                "a guest leads outward"
            );
        }
        assert!(
            known
                .settings
                .keys()
                .all(|index| known.links.contains_key(index))
        );
        assert!(
            known
                .link_locals
                .values()
                .flatten()
                .all(|a| sgagent::model::is_link_local(*a))
        );
    }
    agent.host(unique(known));
    agent.finish();
}

/// The kernel has no two interfaces of one name, whatever an input says.
fn unique(mut host: Interfaces) -> Interfaces {
    let mut names = std::collections::BTreeSet::new();
    host.links.retain(|_, link| names.insert(link.name.clone()));
    host
}

/// A flow is deleted by what names just that flow.
pub fn flows(data: &[u8]) {
    for datagram in pieces(data) {
        for entry in conntrack::fuzzing::entries(datagram) {
            let request = conntrack::fuzzing::named(&entry, false);
            let length = u32::from_ne_bytes(*request.first_chunk().expect("a header"));
            assert_eq!(length as usize, request.len());
            assert_eq!(request.len() % 4, 0);
            let again = conntrack::fuzzing::named(&entry, true);
            let told = conntrack::fuzzing::entries(&again);
            assert_eq!(
                told.iter().map(|one| one.flow).collect::<Vec<_>>(),
                [entry.flow]
            );
            assert_eq!(told, [entry.clone()]);
            let icmpv6 = matches!(entry.flow.upper, Upper::Icmpv6 { .. });
            assert!(!icmpv6 || entry.flow.protocol == 58);
        }
    }
}

/// What is shown of a drop is in the octets that were told, and a glance at it tells ports of
/// protocols that have some.
pub fn drops(data: &[u8]) {
    for datagram in pieces(data) {
        for sampled in nflog::fuzzing::samples(datagram) {
            let Sampled::Packet(sample) = sampled else {
                panic!("a datagram says nothing of what is lost");
            };
            assert!(sample.link_header.len() + sample.payload.len() <= datagram.len());
            assert!(
                sample
                    .nic
                    .is_none_or(|nic| nic.0 <= NUMBER_MASK && nic.0 > 0)
            );
            let Some(seen) = glance(sample.ether_type, &sample.payload) else {
                continue;
            };
            assert_eq!(seen.source.octets(), sample.payload[8..24]);
            assert_eq!(seen.destination.octets(), sample.payload[24..40]);
            match seen.upper {
                Upper::Ports { .. } => assert!(matches!(seen.protocol, Some(6 | 17 | 132))),
                Upper::Icmpv6 { .. } => assert_eq!(seen.protocol, Some(58)),
                Upper::Other => {}
            }
        }
    }
}

/// What is told of transactions is a line, and not a long one.
pub fn transactions(data: &[u8]) {
    for (what, by) in nft::fuzzing::told(&pieces(data)).into_iter().flatten() {
        assert!(!what.is_empty());
        for text in [what, by] {
            assert!(!text.chars().any(char::is_control), "{text:?}");
        }
    }
}

/// Whatever nft prints: what is read of it is sent back as ours only.
pub fn listings(data: &[u8]) {
    let Ok(text) = str::from_utf8(data) else {
        return;
    };
    let ruleset = ruleset();
    for drops in nft::fuzzing::drops(text, &ruleset).into_iter().flatten() {
        for one in drops {
            assert!(one.nic.is_none_or(|number| number.0 < 1 << 24));
        }
    }
    let [by_mark, by_protocol] = nft::fuzzing::addresses(text);
    let there = |found: Result<Vec<_>, _>| found.is_ok_and(|all| !all.is_empty());
    assert!(!(there(by_mark) && there(by_protocol)), "{text}");
    for set in nft::fuzzing::revoked_sets() {
        let Ok((flows, text)) = nft::fuzzing::revoked(set, text, &ruleset) else {
            continue;
        };
        assert_eq!(text.is_empty(), flows.is_empty(), "{flows:?} {text}");
        for line in text.lines() {
            let head = format!("add element ip6 sgagent {set} {{ ");
            let list = line
                .strip_prefix(&head)
                .and_then(|rest| rest.strip_suffix(" }"));
            for element in list
                .expect("an element of the set that was read")
                .split(", ")
            {
                assert!(is_revoked(set, element), "{element}");
            }
        }
        // What was read, printed again, is read again.
        let again = relisted(&text);
        if let Ok((same, _)) = nft::fuzzing::revoked(set, &again, &ruleset) {
            assert!(same.is_empty() == flows.is_empty() && same.iter().all(|f| flows.contains(f)));
        }
    }
}

fn is_revoked(set: &str, element: &str) -> bool {
    match element.split(" . ").collect::<Vec<_>>().as_slice() {
        [bridge, one, other, numbers @ ..] => {
            let (count, max) = if set == "revoked_other" {
                (1, 255)
            } else {
                (2, 65535)
            };
            words::is_interface(bridge)
                && [one, other].iter().all(|word| words::is_address(word))
                && numbers.len() == count
                && numbers
                    .iter()
                    .all(|word| words::number(word, max).is_some())
        }
        _ => false,
    }
}

/// Elements of nft text as nft prints them in JSON.
fn relisted(text: &str) -> String {
    let mut all = Vec::new();
    for line in text.lines() {
        let list = line
            .split_once("{ ")
            .map_or("", |(_, rest)| rest.trim_end_matches(" }"));
        for element in list.split(", ").filter(|element| !element.is_empty()) {
            let word = |word: &str| match word.parse::<u64>() {
                Ok(number) => number.to_string(),
                Err(_) => format!("\"{}\"", word.trim_matches('"')),
            };
            let parts: Vec<_> = element.split(" . ").map(word).collect();
            all.push(format!("{{\"concat\":[{}]}}", parts.join(",")));
        }
    }
    format!(
        "{{\"nftables\":[{{\"set\":{{\"elem\":[{}]}}}}]}}",
        all.join(",")
    )
}

fn ruleset() -> std::sync::Arc<Ruleset> {
    use std::sync::{Arc, LazyLock};
    static RULESET: LazyLock<Arc<Ruleset>> = LazyLock::new(|| {
        let mut agent = Agent::new(host::ordinary());
        agent.apply(requests::ordinary());
        let host = Arc::new(host::ordinary().into());
        compile(agent.desired(), &host, &mut Numbering::default()).ruleset
    });
    Arc::clone(&RULESET)
}

/// Rows that are not refused are what could have been acknowledged, as far as it matters: they make
/// rules of ours only, and open nothing else than they say.
pub fn store(data: &[u8]) {
    let mut source = Source::new(data);
    let kinds = source.octet();
    let mut rows: [Vec<&[u8]>; 3] = Default::default();
    let mut head: &[u8] = br#"{"format":1,"generation":null,"revision":1}"#;
    if kinds & 1 == 1 {
        head = source.piece().unwrap_or_default();
    }
    let mut members = Vec::new();
    for _ in 0..PIECES {
        let kind = source.octet();
        let Some(row) = source.piece() else { break };
        match kind % 4 {
            0 => rows[0].push(row),
            1 => rows[1].push(row),
            _ => {
                let group = ["web", "db", "g0", "a b"][usize::from(kind >> 2) % 4];
                let address = u128::from(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, kind.into()));
                members.push(((group, address), row));
            }
        }
    }
    let Some(saved) = store::fuzzing::load(head, &rows[0], &rows[1], &members) else {
        return;
    };
    same_in_rows(&saved.desired);
    Agent::restored(host::ordinary(), &saved.desired).finish();
}

/// What was read, written again, is the same.
fn same_in_rows(desired: &Desired) {
    let rows = |list: Vec<serde_json::Result<Vec<u8>>>| -> Vec<Vec<u8>> {
        list.into_iter().map(|row| row.expect("a row")).collect()
    };
    let nics = rows(desired.nics.values().map(serde_json::to_vec).collect());
    let groups = rows(desired.groups.values().map(serde_json::to_vec).collect());
    let mut members = Vec::new();
    for (group, list) in &desired.members {
        for (address, member) in &**list {
            let row = serde_json::to_vec(member).expect("a row");
            members.push(((group.as_str(), u128::from(*address)), row));
        }
    }
    let nics: Vec<_> = nics.iter().map(Vec::as_slice).collect();
    let groups: Vec<_> = groups.iter().map(Vec::as_slice).collect();
    let members: Vec<_> = members
        .iter()
        .map(|(key, row)| (*key, row.as_slice()))
        .collect();
    let head = br#"{"format":1,"generation":null,"revision":1}"#;
    let again = store::fuzzing::load(head, &nics, &groups, &members);
    assert_eq!(again.map(|saved| saved.desired).as_ref(), Some(desired));
}

/// A file that is understood, printed as JSON, is understood as the same.
pub fn documents(data: &[u8]) {
    let Ok(text) = str::from_utf8(data) else {
        return;
    };
    let shown = |failure: &sgctl::Failure| {
        let text = failure.to_string();
        assert!(text.starts_with("f.yaml:"), "{text}");
    };
    match sgctl::document::apply("f.yaml", text) {
        Ok(request) => {
            let json = sgctl::fuzzing::json(&request, "ApplyRequest").expect("JSON");
            let again: Result<pb::ApplyRequest, _> = sgctl::document::apply("f.json", &json);
            assert_eq!(again.ok().as_ref(), Some(&request));
            let mut agent = Agent::new(host::ordinary());
            agent.apply(request);
            agent.finish();
        }
        Err(failure) => shown(&failure),
    }
    if let Err(failure) = sgctl::document::sync("f.yaml", text) {
        shown(&failure);
    }
}

/// A configuration that is accepted, written again, is the same, and its words make a skeleton of ours.
pub fn configuration(data: &[u8]) {
    let Ok(text) = str::from_utf8(data) else {
        return;
    };
    let config = match config::fuzzing::parse(text) {
        Ok(config) => config,
        Err(error) => {
            assert!(!error.to_string().is_empty());
            return;
        }
    };
    let again = toml::to_string(&config).expect("TOML");
    assert_eq!(config::fuzzing::parse(&again).ok().as_ref(), Some(&config));
    for placement in [nft::Placement::Bridge, nft::Placement::BrNetfilter] {
        let _ = config.host_policy(placement);
        let parameters = config.parameters(placement);
        let ruleset = Ruleset {
            enforced: true,
            guest_patterns: config.guest_interfaces.clone(),
            bridge_patterns: config.bridges.iter().map(|b| b.name.clone()).collect(),
            ..Ruleset::default()
        };
        skeleton(&nft::skeleton::text(&parameters, &ruleset), &ruleset);
    }
    let _ = config.model_limits();
    let mut host = Interfaces {
        bridges: config.bridges,
        guest_patterns: config.guest_interfaces,
        ..host::ordinary()
    };
    host.links = host::ordinary().links;
    if !host.bridges.is_empty() {
        let mut agent = Agent::new(host);
        agent.apply(requests::ordinary());
        agent.finish();
    }
}

/// The words in quotes that are not comments are the patterns, and nothing else differs but numbers.
fn skeleton(text: &str, ruleset: &Ruleset) {
    let patterns = ruleset
        .guest_patterns
        .iter()
        .chain(&ruleset.bridge_patterns);
    let patterns: std::collections::BTreeSet<_> = patterns.map(ToString::to_string).collect();
    for line in text.lines() {
        assert!(!line.contains("{{") && !line.contains("}}"), "{line}");
        if line.contains("goto drop_unbound") {
            for word in line.split('"').skip(1).step_by(2) {
                assert!(patterns.contains(word), "{line}");
            }
        }
    }
    let braces = |open| text.matches(open).count();
    assert_eq!(braces('{'), braces('}'));
}
