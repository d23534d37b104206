//! Each field that can be wrong, by its path.

use super::{address, faults, name, texts, with_nic, with_rule};
use crate::pb;

#[test]
#[expect(clippy::too_many_lines, reason = "a table")]
fn a_nic_is_refused_by_the_field_that_is_wrong() {
    type Edit = fn(&mut pb::Nic);
    let table: &[(Edit, &[&str])] = &[
        (|_| {}, &[]),
        (
            |n| n.instance_id = "x".repeat(129),
            &["nics[0].instance_id"],
        ),
        (|n| n.interfaces.clear(), &["nics[0].interfaces"]),
        (|n| n.interfaces[0].by = None, &["nics[0].interfaces[0]"]),
        (
            |n| n.interfaces.push(name("vnet0")),
            &["nics[0].interfaces[1]"],
        ),
        (
            |n| n.slaac_prefix = "2001:db8::/60".into(),
            &["nics[0].slaac_prefix"],
        ),
        (
            |n| n.slaac_prefix = "fe80::/64".into(),
            &["nics[0].slaac_prefix"],
        ),
        (
            |n| n.addresses = vec![address("2001:db8::1"); 2],
            &["nics[0].addresses[1].address"],
        ),
        (|n| n.link_local = Some(0), &["nics[0].link_local"]),
        (|n| n.link_local = Some(9), &["nics[0].link_local"]),
        (
            |n| n.link_local = Some(2),
            &["nics[0].link_local_addresses"],
        ),
        (
            |n| n.link_local_addresses = texts(&["fe80::1"]),
            &["nics[0].link_local_addresses"],
        ),
        (
            |n| {
                n.link_local = Some(2);
                n.link_local_addresses = texts(&["fe80::1", "2001:db8::1", "fe80::1"]);
            },
            &[
                "nics[0].link_local_addresses[1]",
                "nics[0].link_local_addresses[2]",
            ],
        ),
        (
            |n| n.virtual_macs = texts(&["00:00:5e:00:01:01"]),
            &["nics[0].virtual_macs"],
        ),
        (
            |n| {
                n.addresses = vec![pb::Address {
                    shared: true,
                    ..address("2001:db8::1")
                }];
                n.virtual_macs = texts(&["06:00:00:00:00:01", "00:00:5e:00:01:01"]);
                n.virtual_macs.push("00:00:5E:00:01:01".to_owned());
            },
            &["nics[0].virtual_macs[0]", "nics[0].virtual_macs[2]"],
        ),
        (
            |n| {
                let prefixes = ["2001:db8:0:20::/60", "2001:db8::/48", "2001:db8:1::/48"];
                n.delegated_prefixes = texts(&prefixes);
                n.on_link_prefix = "2001:db8:1:1::/64".into();
            },
            &["nics[0].delegated_prefixes[1]", "nics[0].on_link_prefix"],
        ),
        (
            |n| {
                n.slaac_prefix = "2001:db8::/64".into();
                n.delegated_prefixes = texts(&["2001:db8::/60"]);
            },
            &["nics[0].delegated_prefixes[0]"],
        ),
        (
            |n| {
                n.slaac_prefix = "2001:db8::/64".into();
                n.on_link_prefix = "2001:db8::/64".into();
            },
            &[],
        ),
        (
            |n| n.on_link_prefix = "2001:db8::1/128".into(),
            &["nics[0].on_link_prefix"],
        ),
        (
            |n| n.group_ids = texts(&["g", "", "g"]),
            &["nics[0].group_ids[1]", "nics[0].group_ids[2]"],
        ),
        (
            |n| n.permissions = vec![1, 0, 1],
            &["nics[0].permissions[1]", "nics[0].permissions[2]"],
        ),
        (|n| n.icmpv6_default = Some(0), &["nics[0].icmpv6_default"]),
        (|n| n.egress_default = Some(3), &["nics[0].egress_default"]),
        (|n| n.ipv4 = Some(0), &["nics[0].ipv4"]),
    ];
    for (i, (edit, paths)) in table.iter().enumerate() {
        assert_eq!(faults(with_nic(edit)), *paths, "row {i}");
    }
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table")]
fn a_rule_is_refused_by_the_field_that_is_wrong() {
    type Edit = fn(&mut pb::Rule);

    let table: &[(Edit, &[&str])] = &[
        (|r| r.direction = 0, &["direction"]),
        (|r| r.protocol = 0, &["protocol"]),
        (|r| r.protocol = 7, &["protocol"]),
        (|r| r.protocol_number = Some(6), &["protocol_number"]),
        (|r| r.protocol = 6, &["protocol_number"]),
        (
            |r| (r.protocol, r.protocol_number) = (6, Some(256)),
            &["protocol_number"],
        ),
        (|r| (r.protocol, r.protocol_number) = (6, Some(255)), &[]),
        (
            |r| r.ports = Some(pb::PortRange { first: 1, last: 2 }),
            &["ports"],
        ),
        (
            |r| (r.protocol, r.ports) = (2, Some(pb::PortRange { first: 2, last: 1 })),
            &["ports"],
        ),
        (
            |r| {
                (r.protocol, r.ports) = (
                    3,
                    Some(pb::PortRange {
                        first: 65536,
                        last: 65537,
                    }),
                );
            },
            &["ports.first", "ports.last"],
        ),
        (
            |r| {
                (r.protocol, r.ports) = (
                    4,
                    Some(pb::PortRange {
                        first: 0,
                        last: 65535,
                    }),
                );
            },
            &[],
        ),
        (|r| r.icmpv6_type = Some(1), &["icmpv6_type"]),
        (
            |r| (r.protocol, r.icmpv6_type) = (5, Some(256)),
            &["icmpv6_type"],
        ),
        (
            |r| (r.protocol, r.icmpv6_code) = (5, Some(1)),
            &["icmpv6_code"],
        ),
        (
            |r| (r.protocol, r.icmpv6_type, r.icmpv6_code) = (5, Some(1), Some(256)),
            &["icmpv6_code"],
        ),
        (|r| r.remote = None, &["remote"]),
        (|r| r.remote = Some(pb::Remote::default()), &["remote"]),
        (
            |r| r.remote.get_or_insert_default().group_id = "g".into(),
            &["remote"],
        ),
        (
            |r| {
                r.remote = Some(pb::Remote {
                    prefixes: texts(&["::/0", "2001:db8::1/64"]),
                    ..pb::Remote::default()
                });
            },
            &["remote.prefixes[1]"],
        ),
        (
            |r| {
                r.remote = Some(pb::Remote {
                    group_id: "a b".into(),
                    ..pb::Remote::default()
                });
            },
            &["remote.group_id"],
        ),
        (|r| r.description = "\u{7f}".into(), &["description"]),
    ];
    for (i, (edit, fields)) in table.iter().enumerate() {
        let paths: Vec<_> = fields
            .iter()
            .map(|f| format!("groups[0].rules[0].{f}"))
            .collect();
        assert_eq!(faults(with_rule(edit)), paths, "row {i}");
    }
}
