//! Each check comes out as it should, both ways.

use std::sync::Arc;

use super::*;
use crate::model::{
    BridgeConfig, Delta, Desired, InterfaceSelector, Interfaces, Limits, LinkKind, NicId,
};
use crate::policy::{Numbering, compile};

const UP: LinkState = LinkState {
    up: true,
    carrier: true,
};

fn link(index: u32, name: &str, kind: LinkKind, master: Option<u32>) -> (u32, Link) {
    let link = Link {
        index,
        name: name.parse().unwrap(),
        mac: [2, 0, 0, 0, 0, index.to_be_bytes()[3]],
        master,
        kind,
        multicast_snooping: false,
    };
    (index, link)
}

/// br0 is managed and has the uplink eth0, br1 is not; vnet0 is a port of this one.
fn host(master: Option<u32>) -> Interfaces {
    Interfaces {
        links: BTreeMap::from([
            link(1, "br0", LinkKind::Bridge, None),
            link(2, "eth0", LinkKind::Outward, Some(1)),
            link(3, "vnet0", LinkKind::Other, master),
            link(4, "br1", LinkKind::Bridge, None),
        ]),
        bridges: vec![BridgeConfig::new("br0".parse().unwrap())],
        ..Interfaces::default()
    }
}

/// A NIC found at this interface, with what became of it.
struct Scene {
    nic: Arc<Nic>,
    outcome: Arc<Outcome>,
    host: Arc<Located>,
}

impl Scene {
    fn new(interface: &str, host: Interfaces) -> Self {
        let nic = Nic {
            id: "n".parse().unwrap(),
            instance_id: String::new().try_into().unwrap(),
            instance_name: String::new().try_into().unwrap(),
            mac: "06:00:00:00:00:01".parse().unwrap(),
            interfaces: vec![InterfaceSelector::Name(interface.parse().unwrap())],
            addresses: Vec::new(),
            slaac_prefix: None,
            link_local: None,
            virtual_macs: Vec::new(),
            delegated_prefixes: Vec::new(),
            on_link_prefix: None,
            groups: Vec::new(),
            permissions: BTreeSet::new(),
            icmpv6_default: None,
            egress_default: None,
            ipv4: None,
        };
        let host = Arc::new(Located::from(host));
        let delta = Delta {
            nics: vec![nic],
            ..Delta::default()
        };
        let desired = Desired::default().change(&delta, &Limits::default(), &host);
        let desired = desired.unwrap();
        let id: NicId = "n".parse().unwrap();
        let compiled = compile(&desired, &host, &mut Numbering::default());
        Self {
            nic: Arc::clone(&desired.nics[&id]),
            outcome: Arc::clone(&compiled.outcomes[&id]),
            host,
        }
    }

    fn well() -> Self {
        Self::new("vnet0", host(Some(1)))
    }

    /// All is well but for what the scene has.
    fn facts(&self) -> Facts<'_> {
        let names = ["vnet0", "eth0", "br0", "br1"].map(|name| name.parse().unwrap());
        let recent = Recent {
            ms: 30_000,
            drops: vec![(Reason::NotForNic, 9, 900)],
        };
        Facts {
            nic: &self.nic,
            outcome: Some(&self.outcome),
            host: &self.host,
            links: names.map(|name| (name, Ok(Some(UP)))).into(),
            unhealthy: None,
            drift: None,
            held: Ok(Held {
                elements: 9,
                rules: 4,
                missing: Vec::new(),
            }),
            shown: BTreeMap::from([("br0".parse().unwrap(), Ok(true))]),
            flows: Some((94, 100)),
            heard: Ok(BTreeSet::from(["fe80::1".parse().unwrap()])),
            listened: Some(5),
            recent: Ok(recent),
        }
    }
}

fn found(facts: &Facts<'_>, name: &str) -> (Found, String, Option<String>) {
    let checks = diagnose(facts);
    let check = checks.into_iter().find(|check| check.name == name).unwrap();
    (check.found, check.text, check.hint)
}

/// The first thing that is wrong.
fn first(facts: &Facts<'_>) -> (&'static str, String) {
    let checks = diagnose(facts);
    let wrong = checks.into_iter().find(|check| check.found == Found::Wrong);
    wrong.map(|check| (check.name, check.text)).unwrap()
}

#[test]
fn nothing_is_wrong_where_all_is_well() {
    let scene = Scene::well();
    for check in diagnose(&scene.facts()) {
        assert_eq!(check.found, Found::Ok, "{check:?}");
    }
    assert_eq!(diagnose(&scene.facts()).len(), 10);
}

#[test]
fn an_interface_that_is_missing_down_or_loose_is_wrong() {
    let scene = Scene::new("vnet9", host(Some(1)));
    let text = "interface vnet9 does not exist".to_owned();
    assert_eq!(first(&scene.facts()), ("interface", text));
    // What makes no sense without one has no answer.
    for name in ["bridge", "uplink", "rules", "router"] {
        assert_eq!(found(&scene.facts(), name).0, Found::Unknown, "{name}");
    }
    let scene = Scene::well();
    let states = [
        (
            Ok(Some(LinkState { up: false, ..UP })),
            Found::Wrong,
            "is down",
        ),
        (
            Ok(Some(LinkState {
                carrier: false,
                ..UP
            })),
            Found::Wrong,
            "no carrier",
        ),
        (Ok(None), Found::Wrong, "has just gone"),
        (Err("no netlink".to_owned()), Found::Unknown, "no netlink"),
    ];
    for (state, result, words) in states {
        let mut facts = scene.facts();
        facts.links.insert("vnet0".parse().unwrap(), state);
        let (came, text, _) = found(&facts, "interface");
        assert_eq!(came, result);
        assert!(text.contains(words), "{text}");
    }
}

#[test]
fn a_port_of_no_managed_bridge_is_wrong_and_so_is_a_bridge_that_is_down() {
    for (master, words) in [
        (None, "is not a port of a bridge"),
        (
            Some(4),
            "is a port of bridge br1, which the configuration does not manage",
        ),
    ] {
        let scene = Scene::new("vnet0", host(master));
        let (name, text) = first(&scene.facts());
        assert_eq!(name, "bridge");
        assert!(text.contains(words), "{text}");
    }
    let scene = Scene::well();
    let mut facts = scene.facts();
    let down = Ok(Some(LinkState { up: false, ..UP }));
    facts.links.insert("br0".parse().unwrap(), down);
    assert_eq!(first(&facts), ("bridge", "bridge br0 is down".to_owned()));
}

#[test]
fn an_uplink_is_no_nics() {
    let scene = Scene::new("eth0", host(Some(1)));
    let text = "interface eth0 is an uplink of its bridge".to_owned();
    assert_eq!(first(&scene.facts()), ("uplink", text));
    assert_eq!(found(&scene.facts(), "state").0, Found::Wrong);
}

#[test]
fn a_state_is_told_with_its_reason() {
    let mut scene = Scene::well();
    let state = NicState::Quarantined("because".to_owned());
    let bound = Vec::new();
    scene.outcome = Arc::new(Outcome { state, bound });
    let text = "the NIC is QUARANTINED: because".to_owned();
    assert_eq!(first(&scene.facts()), ("state", text));
    assert_eq!(found(&scene.facts(), "rules").0, Found::Unknown);
    let facts = Facts {
        outcome: None,
        ..scene.facts()
    };
    assert_eq!(found(&facts, "state").0, Found::Unknown);
}

#[test]
fn what_the_agent_could_not_do_is_wrong() {
    let scene = Scene::well();
    let facts = Facts {
        unhealthy: Some("the disk is full"),
        ..scene.facts()
    };
    let text = "the agent is not healthy: the disk is full".to_owned();
    assert_eq!(first(&facts), ("agent", text));
}

#[test]
fn rules_that_are_missing_or_changed_are_wrong() {
    let scene = Scene::well();
    let mut facts = scene.facts();
    facts.held = Ok(Held {
        missing: vec!["no element vnet0".to_owned()],
        ..Held::default()
    });
    let text = "not in the kernel as wanted: no element vnet0".to_owned();
    assert_eq!(first(&facts), ("rules", text));
    facts.drift = Some("element deleted by nft (pid 7)".to_owned());
    let (_, _, hint) = found(&facts, "rules");
    assert!(hint.unwrap().contains("pid 7"));
    facts.held = scene.facts().held;
    assert_eq!(found(&facts, "rules").0, Found::Wrong);
    facts.drift = None;
    facts.held = Err("nft hangs".to_owned());
    assert_eq!(found(&facts, "rules").0, Found::Unknown);
}

#[test]
fn a_bridge_that_shows_no_ipv6_tracks_nothing() {
    let scene = Scene::well();
    let mut facts = scene.facts();
    facts.shown.insert("br0".parse().unwrap(), Ok(false));
    assert_eq!(first(&facts).0, "tracking");
    facts
        .shown
        .insert("br0".parse().unwrap(), Err("?".to_owned()));
    assert_eq!(found(&facts, "tracking").0, Found::Unknown);
    facts.shown.clear();
    assert_eq!(found(&facts, "tracking").0, Found::Ok);
    facts.flows = None;
    assert_eq!(found(&facts, "tracking").0, Found::Unknown);
    assert_eq!(found(&facts, "flow-table").0, Found::Unknown);
}

#[test]
fn no_router_is_wrong_once_one_should_have_spoken() {
    let scene = Scene::well();
    let mut facts = scene.facts();
    facts.heard = Ok(BTreeSet::new());
    assert_eq!(found(&facts, "router").0, Found::Unknown);
    facts.listened = Some(ADVERTISED_WITHIN);
    assert_eq!(first(&facts).0, "router");
    facts.heard = Err("nft hangs".to_owned());
    assert_eq!(found(&facts, "router").0, Found::Unknown);
    let mut named = host(Some(1));
    named.bridges[0].routers = vec!["fe80::2".parse().unwrap()];
    let scene = Scene::new("vnet0", named);
    let (name, text) = first(&scene.facts());
    assert_eq!(name, "router");
    assert!(text.contains("fe80::1"), "{text}");
}

#[test]
fn a_full_table_of_flows_is_wrong() {
    let scene = Scene::well();
    let facts = Facts {
        flows: Some((95, 100)),
        ..scene.facts()
    };
    let text = "the host's table of flows is full: 95 of 100".to_owned();
    assert_eq!(first(&facts), ("flow-table", text));
}

#[test]
fn drops_are_told_by_the_reason_of_most_with_its_usual_cause() {
    let scene = Scene::well();
    let mut facts = scene.facts();
    let drops = vec![
        (Reason::NotForNic, 9, 900),
        (Reason::SpoofedSource, 3, 300),
        (Reason::NdRate, 1, 80),
    ];
    facts.recent = Ok(Recent { ms: 30_500, drops });
    let (name, text) = first(&facts);
    let words = "4 packets were dropped in the last 30.5 s, 3 of them as spoofed-source (G13)";
    assert_eq!((name, text.as_str()), ("drops", words));
    let (.., hint) = found(&facts, "drops");
    assert_eq!(hint.as_deref(), usual_cause(Reason::SpoofedSource));
    facts.recent = Err("nft hangs".to_owned());
    assert_eq!(found(&facts, "drops").0, Found::Unknown);
}
