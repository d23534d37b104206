//! The targets of the API: requests as they come in, and ones that are made of an input by decisions
//! over a dictionary of values at the border of what is valid.

use std::sync::LazyLock;

use prost::Message as _;
use sgagent::{
    pb::{self, interface_selector::By},
    sgctl::document,
};

use crate::{
    agent::Agent,
    host::{self, PORTS},
    source::Source,
};

/// Most requests of an input.
const STEPS: usize = 12;

/// Requests, octet by octet: each piece begins with what it is.
pub fn raw_requests(data: &[u8]) {
    let mut source = Source::new(data);
    let mut agent = Agent::new(host::ordinary());
    let mut stream = Vec::new();
    for _ in 0..STEPS {
        let Some(piece) = source.piece() else { break };
        let Some((kind, octets)) = piece.split_first() else {
            continue;
        };
        match kind % 3 {
            0 => {
                if let Ok(request) = pb::ApplyRequest::decode(octets) {
                    agent.apply(request);
                }
            }
            1 => {
                let Ok(message) = pb::SyncRequest::decode(octets) else {
                    stream.clear();
                    continue;
                };
                let complete = message.complete;
                stream.push(message);
                if complete {
                    agent.sync(std::mem::take(&mut stream));
                }
            }
            _ => {
                if let Ok(request) = pb::ListNicsRequest::decode(octets) {
                    let after = sgagent::grpc::fuzzing::page(&request.page_token);
                    assert!(after.is_none() || !request.page_token.is_empty());
                }
            }
        }
    }
    agent.finish();
}

/// Requests that are made to be accepted, or nearly, and changes of the host between them.
pub fn requests(data: &[u8]) {
    let mut source = Source::new(data);
    let configured = host::configured(&mut source);
    let mut agent = Agent::new(host::interfaces(&mut source, &configured));
    if source.either() {
        agent.apply(ordinary());
    }
    for _ in 0..STEPS {
        if source.is_empty() {
            break;
        }
        match source.below(8) {
            0..=4 => {
                let request = apply(&mut source, &agent);
                agent.apply(request);
            }
            5 => {
                let messages = sync(&mut source);
                agent.sync(messages);
            }
            _ => {
                let configured = agent.configured().clone();
                agent.host(host::interfaces(&mut source, &configured));
            }
        }
    }
    agent.finish();
}

/// Four NICs of an ordinary host, in two groups.
pub fn ordinary() -> pb::ApplyRequest {
    static REQUEST: LazyLock<pb::ApplyRequest> = LazyLock::new(|| {
        let text = include_str!("ordinary.yaml");
        document::apply("ordinary.yaml", text).unwrap_or_else(|error| panic!("{error}"))
    });
    REQUEST.clone()
}

fn apply(source: &mut Source<'_>, agent: &Agent) -> pb::ApplyRequest {
    let nics: Vec<_> = agent
        .desired()
        .nics
        .keys()
        .map(ToString::to_string)
        .collect();
    let groups: Vec<_> = agent
        .desired()
        .groups
        .keys()
        .map(ToString::to_string)
        .collect();
    let gone = |source: &mut Source<'_>, known: &[String]| {
        if known.is_empty() || source.seldom(8) {
            id(source, "n")
        } else {
            source.pick(known)
        }
    };
    pb::ApplyRequest {
        generation: source.seldom(32).then(|| u64::from(source.octet())),
        dry_run: source.seldom(8),
        nics: source.list(3, nic),
        remove_nics: source.list(1, |source| gone(source, &nics)),
        groups: source.list(2, group),
        remove_groups: if source.seldom(48) {
            vec![gone(source, &groups)]
        } else {
            Vec::new()
        },
        members: source.list(2, |source| pb::MembersDelta {
            group_id: id(source, "g"),
            add: source.list(4, member),
            remove: if source.either() {
                Vec::new()
            } else {
                source.list(2, address)
            },
        }),
    }
}

fn sync(source: &mut Source<'_>) -> Vec<pb::SyncRequest> {
    let mut messages = source.list(2, |source| pb::SyncRequest {
        generation: source.seldom(16).then_some(7),
        dry_run: source.seldom(8),
        nics: source.list(3, nic),
        groups: source.list(4, group),
        members: source.list(2, |source| pb::GroupMembers {
            group_id: id(source, "g"),
            members: source.list(4, member),
        }),
        complete: source.seldom(8),
    });
    // All groups, so that what refers to them is accepted.
    let groups = (0..4).map(|i| pb::Group {
        id: format!("g{i}"),
        ..pb::Group::default()
    });
    let known: Vec<_> = messages
        .iter()
        .flat_map(|m| m.groups.iter().map(|g| g.id.clone()))
        .collect();
    messages.push(pb::SyncRequest {
        groups: groups.filter(|group| !known.contains(&group.id)).collect(),
        complete: !source.seldom(8),
        ..pb::SyncRequest::default()
    });
    messages
}

fn long(source: &mut Source<'_>, lengths: &[usize]) -> String {
    "x".repeat(source.pick(lengths))
}

/// Words that must never get anywhere.
const HOSTILE: [&str; 12] = [
    "",
    " ",
    "a b",
    "a\"b",
    "a;b",
    "a\nb",
    "\"; flush ruleset; #",
    "}",
    "{{stage}}",
    "$(id)",
    "é",
    "a\0b",
];

fn id(source: &mut Source<'_>, kind: &str) -> String {
    if source.seldom(6) {
        return match source.below(3) {
            0 => source.pick(&HOSTILE).to_owned(),
            1 => long(source, &[127, 128, 129]),
            _ => "\"';|&<>`\\*?[]~!@#%^()=+,/".to_owned(),
        };
    }
    format!("{kind}{}", source.below(if kind == "g" { 4 } else { 7 }))
}

fn label(source: &mut Source<'_>) -> String {
    match source.below(48) {
        1 => source.pick(&HOSTILE).to_owned(),
        2 => long(source, &[254, 255, 256]),
        3 => "é".repeat(source.pick(&[127, 128, 255, 256])),
        _ => String::new(),
    }
}

fn mac(source: &mut Source<'_>) -> String {
    const BORDER: [&str; 8] = [
        "",
        "00:00:00:00:00:00",
        "ff:ff:ff:ff:ff:ff",
        "06:B2:00:00:00:01",
        "06-b2-00-00-00-01",
        "00:00:5e:00:01:01",
        "fe:b2:00:00:00:01",
        "33:33:00:00:00:01",
    ];
    if source.seldom(8) {
        return source.pick(&BORDER).to_owned();
    }
    format!("06:b2:00:00:00:{:02x}", source.below(7))
}

fn interface(source: &mut Source<'_>) -> pb::InterfaceSelector {
    let by = match source.below(24) {
        0..=13 => By::Name(source.pick(&PORTS[..8]).to_owned()),
        14..=16 => By::Bridge("br0".to_owned()),
        17 => By::Bridge(source.pick(&["br-a", "br-b", "other0", "br9"]).to_owned()),
        18 => By::Name(source.pick(&PORTS).to_owned()),
        19 => By::Name(long(source, &[14, 15, 16])),
        20 => By::Name(source.pick(&HOSTILE).to_owned()),
        21 => return pb::InterfaceSelector { by: None },
        _ => By::Name(
            source
                .pick(&["br0", ".", "..", "-", "a*", "eth0.100", "+_.-"])
                .to_owned(),
        ),
    };
    pb::InterfaceSelector { by: Some(by) }
}

fn address(source: &mut Source<'_>) -> String {
    const BORDER: [&str; 16] = [
        "::",
        "::1",
        "::2",
        "fe80::1",
        "febf::1",
        "fec0::1",
        "ff02::1",
        "::ffff:192.0.2.1",
        "192.0.2.1",
        "2001:DB8::1",
        "2001:db8::01",
        "2001:db8::1/128",
        "fd00::1",
        "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
        "feff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
        "",
    ];
    match source.below(40) {
        1 => source.pick(&BORDER).to_owned(),
        // What SLAAC makes of a MAC.
        2 => format!("2001:db8:1:0:4b2:ff:fe00:{}", source.below(7)),
        n @ 3..=6 => format!("2001:db8:d{}::1", n - 3),
        _ => format!("2001:db8::{:x}", 1 + source.below(12)),
    }
}

fn prefix(source: &mut Source<'_>) -> String {
    const BORDER: [&str; 16] = [
        "::/0",
        "::/1",
        "8000::/1",
        "2000::/3",
        "fe80::/64",
        "ff00::/8",
        "::/32",
        "2001:db8::1/64",
        "2001:db8::/129",
        "2001:db8::/064",
        "2001:db8::",
        "10.0.0.0/8",
        "2001:db8::/31",
        "2001:db8:1::/64",
        "ffff::/16",
        "",
    ];
    let n = source.below(4);
    match source.below(24) {
        1 => source.pick(&BORDER).to_owned(),
        2 => format!(
            "2001:db8:d{n}::/{}",
            source.pick(&[31u8, 32, 33, 47, 63, 65, 127, 128])
        ),
        3 => format!("2001:db8:d{n}:{}::/64", source.below(3)),
        4 => format!("2001:db8::{}/128", 1 + n),
        5..=8 => format!("2001:db8:d{n}::/48"),
        9..=12 => format!("2001:db8:d{n}:10::/60"),
        13..=14 => format!("2001:db8:d{n}:20::/60"),
        15 => "2001:db8::/32".to_owned(),
        _ => format!("2001:db8:d{n}::/56"),
    }
}

fn member(source: &mut Source<'_>) -> pb::Member {
    pb::Member {
        address: address(source),
        delegated_prefixes: if source.seldom(80) {
            source.list(2, prefix)
        } else {
            Vec::new()
        },
    }
}

fn nic(source: &mut Source<'_>) -> pb::Nic {
    let number = source.below(7);
    // Most are where their number says, so that they are bound.
    let odd = source.octet();
    let own = |bit: u8| odd & bit == 0;
    let addresses = source.list(2, |source| pb::Address {
        address: address(source),
        shared: source.seldom(64),
    });
    let mode = source.below(12);
    let given = source.octet();
    let set = |bit: u8| given & bit != 0;
    pb::Nic {
        id: if own(1) {
            format!("n{number}")
        } else {
            id(source, "n")
        },
        instance_id: label(source),
        instance_name: label(source),
        mac: if own(2) {
            format!("06:b2:00:00:00:{number:02x}")
        } else {
            mac(source)
        },
        interfaces: if own(4) {
            let name = PORTS[number.min(7)].to_owned();
            vec![pb::InterfaceSelector {
                by: Some(By::Name(name)),
            }]
        } else {
            source.list(3, interface)
        },
        virtual_macs: if addresses.iter().any(|a| a.shared) || source.seldom(4) {
            source.list(2, |source| {
                let other = [
                    "00:00:5e:00:01:0a",
                    "00:00:5e:00:02:ff",
                    "00:00:5e:00:03:01",
                    "",
                ];
                other[source.below(24) % 6 % 4].to_owned()
            })
        } else {
            Vec::new()
        },
        addresses,
        slaac_prefix: match source.below(16) {
            0 => prefix(source),
            1..=7 => "2001:db8:1::/64".to_owned(),
            _ => String::new(),
        },
        link_local: match mode {
            0..=6 => None,
            7 => Some(i32::from(source.octet())),
            mode => Some((i32::try_from(mode).unwrap_or(0) - 7).min(3)),
        },
        link_local_addresses: if mode == 9 || source.seldom(4) {
            source.list(3, |source| match source.below(12) {
                0 => address(source),
                n => format!("fe80::{n}"),
            })
        } else {
            Vec::new()
        },
        delegated_prefixes: source.list(2, prefix),
        on_link_prefix: match source.below(12) {
            1 => prefix(source),
            2 => format!("2001:db8:a{number}::/64"),
            3 => format!(
                "2001:db8:a{number}::/{}",
                source.pick(&[63u8, 65, 80, 127, 128])
            ),
            4 => "2001:db8::/64".to_owned(),
            _ => String::new(),
        },
        group_ids: source.list(3, |source| id(source, "g")),
        permissions: if set(1) {
            source.list(3, |source| i32::from(source.octet() % 5))
        } else {
            Vec::new()
        },
        icmpv6_default: set(2).then(|| i32::from(source.octet() % 4)),
        egress_default: set(4).then(|| i32::from(source.octet() % 4)),
        ipv4: set(8).then(|| i32::from(source.octet() % 4)),
    }
}

fn group(source: &mut Source<'_>) -> pb::Group {
    pb::Group {
        id: id(source, "g"),
        name: label(source),
        rules: source.list(4, rule),
    }
}

fn rule(source: &mut Source<'_>) -> pb::Rule {
    let border = [0u32, 1, 80, 255, 256, 443, 65535, 65536, u32::MAX];
    let protocol = 1 + i32::from(source.octet() % 6) - i32::from(source.seldom(4));
    let with = |source: &mut Source<'_>, right: bool| right != source.seldom(4);
    let (ports, icmpv6) = ((2..=4).contains(&protocol), protocol == 5);
    let octet = |source: &mut Source<'_>| match source.octet() {
        255 => 256,
        other => u32::from(other),
    };
    pb::Rule {
        direction: 1 + i32::from(source.octet() & 1) - i32::from(source.seldom(3)),
        protocol,
        protocol_number: with(source, protocol == 6).then(|| octet(source)),
        ports: (with(source, ports) && source.either()).then(|| {
            let first = source.pick(&border);
            let last = first.saturating_add(source.pick(&border));
            pb::PortRange {
                first,
                last: if source.seldom(8) {
                    0
                } else {
                    last.min(65535).max(first)
                },
            }
        }),
        icmpv6_type: (with(source, icmpv6) && source.either()).then(|| octet(source)),
        icmpv6_code: (with(source, icmpv6) && source.seldom(64)).then(|| octet(source)),
        remote: (!source.seldom(3)).then(|| {
            let kind = source.below(8);
            pb::Remote {
                anyone: kind < 2 || source.seldom(3),
                prefixes: if (2..5).contains(&kind) {
                    source.list(5, prefix)
                } else {
                    Vec::new()
                },
                group_id: if kind > 4 {
                    id(source, "g")
                } else {
                    String::new()
                },
            }
        }),
        description: label(source),
    }
}
