//! A host: bridges that are managed and one that is not, with guests' and other ports.

use std::net::Ipv6Addr;

use sgagent::model::{BridgeConfig, Interfaces, Link, LinkKind};

use crate::source::Source;

/// Bridges by index, then ports.
const BRIDGES: [(u32, &str); 4] = [(1, "br0"), (2, "br-a"), (3, "br-b"), (4, "other0")];
pub const PORTS: [&str; 10] = [
    "vnet0", "vnet1", "vnet2", "vnet3", "vnet4", "vnet5", "tap0", "vif1.0", "eth0", "p4p1",
];
const ROUTER: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);

/// The configuration, without interfaces.
pub fn configured(source: &mut Source<'_>) -> Interfaces {
    let bridge = |source: &mut Source<'_>, name: &str, uplinks: &[&str]| BridgeConfig {
        uplinks: uplinks
            .iter()
            .map(|name| name.parse().expect("a pattern"))
            .collect(),
        routers: if source.either() {
            vec![ROUTER]
        } else {
            Vec::new()
        },
        dhcpv6_servers: match source.below(3) {
            0 => Vec::new(),
            1 => vec![ROUTER],
            _ => vec![ROUTER, Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x547)],
        },
        ..BridgeConfig::new(name.parse().expect("a pattern"))
    };
    let mut patterns = vec!["vnet*", "tap*", "vif*"];
    if source.seldom(32) {
        patterns = vec!["vnet0", "eth*"];
    }
    Interfaces {
        bridges: vec![
            bridge(source, "br0", &[]),
            bridge(source, "br-*", &["eth*", "vnet5"]),
        ],
        guest_patterns: patterns
            .iter()
            .map(|p| p.parse().expect("a pattern"))
            .collect(),
        ..Interfaces::default()
    }
}

/// The interfaces: by default br0 with the guests that their names say.
pub fn interfaces(source: &mut Source<'_>, configured: &Interfaces) -> Interfaces {
    let mut host = configured.clone();
    for (index, name) in BRIDGES {
        if source.seldom(16) {
            continue;
        }
        let mac = [2, 0, 0, 0, 0xbb, octet(index)];
        let kind = if source.seldom(8) {
            LinkKind::Other
        } else {
            LinkKind::Bridge
        };
        add(&mut host, (index, name, mac), None, kind);
        if source.either() {
            let own = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0xbb, u16::from(octet(index)));
            host.link_locals.entry(index).or_default().insert(own);
        }
    }
    for (i, name) in (0u8..).zip(PORTS) {
        if source.seldom(24) {
            continue;
        }
        let master = match source.below(12) {
            0..=6 => Some(1),
            7 => Some(2),
            8 => Some(3),
            9 => Some(4),
            10 => Some(99),
            _ => None,
        };
        let whose = if source.seldom(48) {
            source.octet() % 8
        } else {
            i
        };
        let mac = match source.below(8) {
            0..=4 => [0xfe, 0xb2, 0, 0, 0, whose],
            5 => [0xfe, 0xff, 0xff, 0xff, 0xff, 0xff],
            6 => [0x72, 0x13, 0x37, 0, 0, whose],
            _ => [0; 6],
        };
        let outward = matches!(name, "eth0" | "p4p1") != source.seldom(8);
        let kind = if outward {
            LinkKind::Outward
        } else {
            LinkKind::Other
        };
        // Another interface of an old name has another index.
        let index = 10 + u32::from(i) + if source.seldom(24) { 100 } else { 0 };
        add(&mut host, (index, name, mac), master, kind);
    }
    host
}

fn octet(index: u32) -> u8 {
    u8::try_from(index).unwrap_or(u8::MAX)
}

fn add(
    host: &mut Interfaces,
    (index, name, mac): (u32, &str, [u8; 6]),
    master: Option<u32>,
    kind: LinkKind,
) {
    let link = Link {
        index,
        name: name.parse().expect("a name"),
        mac,
        master,
        kind,
        multicast_snooping: false,
    };
    host.links.insert(index, link);
}

/// What is most ordinary.
pub fn ordinary() -> Interfaces {
    let mut nothing = Source::new(&[]);
    let configured = configured(&mut nothing);
    interfaces(&mut nothing, &configured)
}
