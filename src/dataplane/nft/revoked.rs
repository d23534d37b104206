//! Flows that were cut and must not come back from their other end (S7).
//!
//! Deleting a flow is not enough. Its other end goes on sending: connection tracking takes
//! a TCP segment out of the middle of a connection for the begin of one
//! (`nf_conntrack_tcp_loose`, on by default), and any UDP packet. Where that end may send,
//! as most guests may (S4), the flow would live on with its ends exchanged. So each flow
//! that is cut leaves an element behind: the bridge, and the addresses and ports as its
//! replies have them. They are looked up by packets that begin a flow only.
//!
//! An element lasts as long as connection tracking would keep an idle flow, from the last
//! packet that it stopped. The kernel is the only place where they are kept.

use std::{collections::BTreeMap, fmt::Write as _, net::Ipv6Addr};

use crate::{
    dataplane::DataplaneError,
    model::IfName,
    ruleset::{Flow, ICMPV6, Ruleset, SCTP, TCP, UDP, Upper, name::TABLE},
};

use super::{listing, skeleton::Placement};

/// The sets, each with the protocol whose ports are in it.
const BY_PORT: [(&str, u8); 3] = [
    ("revoked_tcp", TCP),
    ("revoked_udp", UDP),
    ("revoked_sctp", SCTP),
];
const BY_PROTOCOL: &str = "revoked_other";

/// The names of all sets.
pub(super) fn sets() -> impl Iterator<Item = &'static str> {
    BY_PORT.iter().map(|(set, _)| *set).chain([BY_PROTOCOL])
}

/// The families whose tables have these sets. In placement bridge the host's own packets are
/// looked at in table ip6, before the bridge sees them (`host.nft`).
pub(super) fn families(placement: Placement) -> &'static [&'static str] {
    match placement {
        Placement::Bridge => &["bridge", "ip6"],
        Placement::BrNetfilter => &["ip6"],
    }
}

/// An element: a set, and a key as nft text.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Element {
    family: &'static str,
    set: &'static str,
    key: String,
}

/// What keeps a flow from coming back on a bridge: the flows with the host, or through it, are in
/// zone 0.
pub(super) fn elements(placement: Placement, bridge: &IfName, flow: &Flow) -> Vec<Element> {
    families(placement)
        .iter()
        .filter(|family| **family == placement.family() || flow.zone == 0)
        .filter_map(|family| element(family, bridge, flow))
        .collect()
}

/// Nothing for ICMPv6: an echo reply begins no flow.
fn element(family: &'static str, bridge: &IfName, flow: &Flow) -> Option<Element> {
    let Flow {
        zone: _,
        protocol,
        source,
        destination,
        upper,
    } = flow;
    let by_port = BY_PORT.iter().find(|(_, number)| number == protocol);
    match (by_port, upper) {
        _ if *protocol == ICMPV6 => None,
        (
            Some((set, _)),
            Upper::Ports {
                source: from,
                destination: to,
            },
        ) => Some(Element {
            family,
            set,
            key: format!("\"{bridge}\" . {destination} . {source} . {to} . {from}"),
        }),
        (_, Upper::Ports { .. } | Upper::Icmpv6 { .. } | Upper::Other) => Some(Element {
            family,
            set: BY_PROTOCOL,
            key: format!("\"{bridge}\" . {destination} . {source} . {protocol}"),
        }),
    }
}

/// The edits as nft text.
pub(super) fn edits(remove: &[Element], add: &[Element]) -> String {
    let mut text = String::new();
    for (verb, all) in [("delete", remove), ("add", add)] {
        let mut by_set = BTreeMap::<_, Vec<_>>::new();
        for Element { family, set, key } in all {
            by_set.entry((family, set)).or_default().push(key.as_str());
        }
        for ((family, set), keys) in by_set {
            // Writing to a String can't fail.
            let _ = writeln!(
                text,
                "{verb} element {family} {TABLE} {set} {{ {} }}",
                keys.join(", ")
            );
        }
    }
    text
}

/// The elements of a set as `nft -j list set` prints them, each with the flow that it is
/// about. Which of the two zones of a bridge that was is not known any more: the flow is
/// said to be in the bridge's own.
pub(super) fn parse(
    family: &'static str,
    set: &'static str,
    text: &str,
    ruleset: &Ruleset,
) -> Result<Vec<(Element, Flow)>, DataplaneError> {
    let mut all = Vec::new();
    for (bridge, reply_source, reply_destination, rest) in listing::revoked(text)? {
        let zone = ruleset
            .bridges
            .get(&bridge)
            .map_or(0, |rules| rules.number.0);
        let protocol = BY_PORT.iter().find(|(name, _)| *name == set);
        let found = match (protocol, rest.as_slice()) {
            (Some((_, protocol)), [from, to]) => {
                let (source, destination) = (*to, *from);
                let ports = Upper::Ports {
                    source,
                    destination,
                };
                Some((*protocol, ports))
            }
            (None, [number]) => u8::try_from(*number).ok().map(|n| (n, Upper::Other)),
            (Some(_) | None, _) => None,
        };
        // What would be given back is of another set, or of another flow.
        let (protocol, upper) = found.ok_or_else(|| {
            DataplaneError::Unreadable(format!("nft printed no element of {set}: {rest:?}"))
        })?;
        let flow = Flow {
            zone,
            protocol,
            source: reply_destination,
            destination: reply_source,
            upper,
        };
        all.extend(element(family, &bridge, &flow).map(|element| (element, flow)));
    }
    Ok(all)
}

/// An element as a listing has it.
pub(super) type Listed = (IfName, Ipv6Addr, Ipv6Addr, Vec<u16>);

#[cfg(test)]
mod tests {
    use super::*;

    fn flow(protocol: u8, upper: Upper) -> Flow {
        Flow {
            zone: 3,
            protocol,
            source: "2001:db8::1".parse().unwrap(),
            destination: "2001:db8::2".parse().unwrap(),
            upper,
        }
    }

    #[test]
    fn an_element_is_the_flow_seen_from_its_other_end() {
        let bridge = "br0".parse().unwrap();
        let ports = Upper::Ports {
            source: 40000,
            destination: 443,
        };
        let of = |flow: &Flow| element("ip6", &bridge, flow);
        let tcp = of(&flow(TCP, ports)).unwrap();
        assert_eq!(
            edits(std::slice::from_ref(&tcp), &[]),
            "delete element ip6 sgagent revoked_tcp \
             { \"br0\" . 2001:db8::2 . 2001:db8::1 . 443 . 40000 }\n"
        );
        let esp = of(&flow(50, Upper::Other)).unwrap();
        assert_eq!(
            edits(&[], &[esp]),
            "add element ip6 sgagent revoked_other { \"br0\" . 2001:db8::2 . 2001:db8::1 . 50 }\n"
        );
        assert_eq!(
            of(&flow(ICMPV6, Upper::Icmpv6 { kind: 128, code: 0 })),
            None
        );
    }

    #[test]
    fn placement_bridge_has_a_flow_with_the_host_in_both_tables() {
        let bridge = "br0".parse().unwrap();
        let families = |placement, zone| {
            let flow = Flow {
                zone,
                ..flow(50, Upper::Other)
            };
            let all = elements(placement, &bridge, &flow);
            all.iter().map(|element| element.family).collect::<Vec<_>>()
        };
        assert_eq!(families(Placement::Bridge, 0), ["bridge", "ip6"]);
        assert_eq!(families(Placement::Bridge, 3), ["bridge"]);
        assert_eq!(families(Placement::BrNetfilter, 3), ["ip6"]);
    }

    #[test]
    fn a_listing_gives_the_flow_back() {
        let bridge = "br0".parse().unwrap();
        let ports = Upper::Ports {
            source: 40000,
            destination: 443,
        };
        let text = r#"{"nftables": [{"metainfo": {}}, {"set": {"elem": [
            {"elem": {"val": {"concat": ["br0", "2001:db8::2", "2001:db8::1", 443, 40000]},
             "timeout": 432000, "expires": 431999}}]}}]}"#;
        let all = parse("ip6", "revoked_tcp", text, &Ruleset::default()).unwrap();
        let wanted = Flow {
            zone: 0,
            ..flow(TCP, ports)
        };
        assert_eq!(all, [(element("ip6", &bridge, &wanted).unwrap(), wanted)]);
        let text = r#"{"nftables": [{"set": {"elem": [
            {"concat": ["br0", "2001:db8::2", "2001:db8::1", 50]}]}}]}"#;
        let all = parse("ip6", "revoked_other", text, &Ruleset::default()).unwrap();
        assert_eq!(all[0].1.protocol, 50);
    }

    /// They were taken for elements of another shape once.
    #[test]
    fn what_is_no_element_of_the_set_is_refused() {
        for (set, numbers) in [
            ("revoked_tcp", "50"),
            ("revoked_tcp", "1, 2, 3"),
            ("revoked_other", "443, 40000"),
            ("revoked_other", "256"),
        ] {
            let text = format!(
                r#"{{"nftables": [{{"set": {{"elem": [
                    {{"concat": ["br0", "2001:db8::2", "2001:db8::1", {numbers}]}}]}}}}]}}"#
            );
            let read = parse("ip6", set, &text, &Ruleset::default());
            assert!(read.is_err(), "{set}: {numbers}");
        }
    }
}
