//! Random worlds: what a management server might push for the NICs of one bridge, and what the
//! configuration says of that bridge. The agent accepts every one of them.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::Ipv6Addr;

use proptest::prelude::*;
use sgagent::grpc::convert;
use sgagent::model::{
    BridgeConfig, Desired, Interfaces, Limits, Link, LinkKind, LinkLocal, Located, NicId,
};
use sgagent::pb;

use super::super::oracle::FirstCome;
use crate::support::who::{A, B, C, HOST, Machine, R, UNBOUND, ip};

/// Who may be there: the ports of the bridge that are no uplink.
pub(crate) const MACHINES: [Machine; 4] = [A, B, C, UNBOUND];

/// What is pushed and configured. Every NIC is named after its port.
#[derive(Clone)]
pub(crate) struct World {
    pub nics: Vec<pb::Nic>,
    pub groups: Vec<pb::Group>,
    pub members: Vec<pb::GroupMembers>,
    pub routers: Vec<Ipv6Addr>,
    pub dhcpv6_servers: Vec<Ipv6Addr>,
    /// Addresses that `ANY_UNOWNED` NICs have sent from before, by position, as many as fit.
    pub earlier: Vec<Vec<Ipv6Addr>>,
    pub heard_routers: Vec<Ipv6Addr>,
}

impl World {
    pub(crate) fn request(&self) -> pb::SyncRequest {
        pb::SyncRequest {
            nics: self.nics.clone(),
            groups: self.groups.clone(),
            members: self.members.clone(),
            complete: true,
            ..pb::SyncRequest::default()
        }
    }

    /// What the agent takes the request for; it refuses none.
    pub(crate) fn desired(&self) -> Desired {
        let synced = convert::sync(self.request()).unwrap();
        let delta = synced.into_parts().0.delta;
        let desired = Desired::default().change(&delta, &Limits::default(), &self.host());
        desired.unwrap()
    }

    pub(crate) fn host(&self) -> Located {
        let link = |index, name: &str, mac, master, kind| Link {
            index,
            name: name.parse().unwrap(),
            mac,
            master,
            kind,
            multicast_snooping: false,
        };
        let mut links = vec![
            link(1, "br0", HOST.mac, None, LinkKind::Bridge),
            link(2, R.port, [2, 0, 0, 0, 1, 2], Some(1), LinkKind::Other),
        ];
        for (index, machine) in (10..).zip(MACHINES) {
            let mut tap = machine.mac;
            tap[0] = 0xfe;
            links.push(link(index, machine.port, tap, Some(1), LinkKind::Other));
        }
        let config = BridgeConfig {
            uplinks: vec![R.port.parse().unwrap()],
            routers: self.routers.clone(),
            dhcpv6_servers: self.dhcpv6_servers.clone(),
            ..BridgeConfig::new("br0".parse().unwrap())
        };
        let interfaces = Interfaces {
            links: links.into_iter().map(|link| (link.index, link)).collect(),
            link_locals: BTreeMap::from([(1, BTreeSet::from([HOST.ll]))]),
            bridges: vec![config],
            guest_patterns: vec!["vnet*".parse().unwrap()],
            ..Interfaces::default()
        };
        interfaces.into()
    }

    pub(crate) fn id(&self, nic: usize) -> NicId {
        self.nics[nic].id.parse().unwrap()
    }

    /// What came before, as far as the policy lets it: nobody claims another's address.
    pub(crate) fn first_come(&self, desired: &Desired) -> FirstCome {
        let mut taken: BTreeSet<Ipv6Addr> = [HOST.ll].into();
        taken.extend(self.routers.iter().chain(&self.heard_routers));
        for nic in desired.nics.values() {
            taken.extend(nic.link_local_addresses());
        }
        let mut claims = BTreeMap::new();
        for (nic, earlier) in self.earlier.iter().enumerate().take(self.nics.len()) {
            let id = self.id(nic);
            if desired.nics[&id].effective_link_local() == LinkLocal::AnyUnowned {
                let free = earlier.iter().filter(|address| taken.insert(**address));
                claims.insert(id, free.take(4).copied().collect());
            }
        }
        let heard_routers = self.heard_routers.iter().copied().collect();
        FirstCome {
            claims,
            heard_routers,
        }
    }
}

impl fmt::Debug for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for nic in &self.nics {
            writeln!(f, "nic {}", brief(nic))?;
        }
        for group in &self.groups {
            for rule in &group.rules {
                writeln!(f, "group {}: {}", group.id, brief(rule))?;
            }
        }
        for group in &self.members {
            for member in &group.members {
                let delegated = &member.delegated_prefixes;
                writeln!(
                    f,
                    "member of {}: {} {delegated:?}",
                    group.group_id, member.address
                )?;
            }
        }
        let (routers, servers) = (&self.routers, &self.dhcpv6_servers);
        writeln!(f, "routers {routers:?}, DHCPv6 servers {servers:?}")?;
        write!(
            f,
            "earlier {:?}, heard {:?}",
            self.earlier, self.heard_routers
        )
    }
}

/// The fields of a message that say something.
fn brief(message: &impl fmt::Debug) -> String {
    let text = format!("{message:?}");
    let mut depth = 0;
    let (mut fields, mut field) = (Vec::new(), String::new());
    for c in text.chars() {
        depth += i32::from(matches!(c, '{' | '[' | '(')) - i32::from(matches!(c, '}' | ']' | ')'));
        if c == ',' && depth == 1 {
            fields.push(std::mem::take(&mut field));
        } else {
            field.push(c);
        }
    }
    fields.push(field);
    let empty = |field: &String| {
        [": \"\"", ": []", ": None"]
            .iter()
            .any(|end| field.trim_end_matches(" }").ends_with(end))
    };
    fields.retain(|field| !empty(field));
    fields.join(",")
}

fn option<T: Clone + fmt::Debug + 'static>(values: Vec<T>) -> BoxedStrategy<Option<T>> {
    prop_oneof![3 => Just(None), 2 => prop::sample::select(values).prop_map(Some)].boxed()
}

/// None, mostly.
fn seldom<T: Clone + fmt::Debug + 'static>(values: Vec<T>) -> BoxedStrategy<Option<T>> {
    prop_oneof![5 => Just(None), 1 => prop::sample::select(values).prop_map(Some)].boxed()
}

fn some<T: Clone + fmt::Debug + 'static>(values: Vec<T>) -> BoxedStrategy<Vec<T>> {
    let most = values.len();
    prop::sample::subsequence(values, 0..=most).boxed()
}

const SHARED: &str = "2001:db8:100:1::99";

prop_compose! {
    fn nic(i: usize)(
        (addresses, shared, macs, slaac) in (
            some(vec![format!("2001:db8:100:1::d{i}"), format!("2001:db8:100:2::e{i}")]),
            seldom(vec![1, 2]),
            some(vec!["00:00:5e:00:02:01", "00:00:5e:00:01:07"]),
            option(vec!["2001:db8:100:1::/64", "2001:db8:100:2::/64"]),
        ),
        (link_local, explicit) in (option(vec![1, 2, 3]), 1..3_usize),
        delegated in some(vec![
            format!("fd00:{}::/32", i + 1),
            format!("2001:db9:{}00::/40", i + 1),
            format!("2001:db8:100:10{i}0::/60"),
            format!("2001:db8:100:1:8{i}00::/72"),
            format!("2001:db8:e{i}::1/128"),
        ]),
        on_link in seldom(vec![
            format!("2001:db8:100:a{i}::/64"),
            format!("2001:db8:100:1:b{i}::/80"),
            format!("2001:db8:100:1::c{i}0/127"),
        ]),
        group_ids in some(vec!["g0", "g1", "g2", "g3"]),
        permissions in prop_oneof![3 => Just(vec![]), 2 => some(vec![1, 2, 3])],
        (icmpv6_default, egress_default, ipv4) in
            (option(vec![1, 2]), option(vec![1, 2]), option(vec![1, 2])),
    ) -> pb::Nic {
        let machine = MACHINES[i];
        let address = |address, shared| pb::Address { address, shared };
        let mut addresses: Vec<_> = addresses.into_iter().map(|own| address(own, false)).collect();
        addresses.extend(shared.map(|_| address(SHARED.to_owned(), true)));
        let explicit: Vec<_> = (0..explicit).map(|j| format!("fe80::{}{j}a", i + 1)).collect();
        let by = pb::interface_selector::By::Name(machine.port.to_owned());
        pb::Nic {
            id: machine.port.to_owned(),
            mac: crate::support::want::mac_text(machine.mac),
            interfaces: vec![pb::InterfaceSelector { by: Some(by) }],
            addresses,
            slaac_prefix: slaac.unwrap_or_default().to_owned(),
            link_local,
            link_local_addresses: if link_local == Some(2) { explicit } else { Vec::new() },
            virtual_macs: texts(shared.map_or(&[][..], |_| &macs)),
            delegated_prefixes: delegated,
            on_link_prefix: on_link.unwrap_or_default(),
            group_ids: texts(&group_ids),
            permissions,
            icmpv6_default,
            egress_default,
            ipv4,
            ..pb::Nic::default()
        }
    }
}

fn texts(list: &[&str]) -> Vec<String> {
    list.iter().map(|&text| text.to_owned()).collect()
}

/// Ranges whose edges [`super::PORTS`] knows.
const RANGES: [(u32, u32); 5] = [(80, 80), (1000, 1003), (0, 79), (81, 65_535), (546, 547)];

fn protocol() -> impl Strategy<Value = pb::Rule> {
    let rule = pb::Rule::default;
    let with_ports =
        (2..5_i32, option(RANGES.to_vec())).prop_map(move |(protocol, range)| pb::Rule {
            protocol,
            ports: range.map(|(first, last)| pb::PortRange { first, last }),
            ..rule()
        });
    let types = vec![128, 129, 133, 132, 139, 1];
    let icmpv6 = (option(types), option(vec![0, 1])).prop_map(move |(kind, code)| pb::Rule {
        protocol: 5,
        icmpv6_type: kind,
        icmpv6_code: kind.and(code),
        ..rule()
    });
    let number = prop::sample::select(vec![50, 47, 6, 17, 58, 132, 89, 112, 59, 51, 44]);
    prop_oneof![
        1 => Just(pb::Rule { protocol: 1, ..rule() }),
        4 => with_ports,
        2 => icmpv6,
        2 => number.prop_map(move |number| pb::Rule {
            protocol: 6,
            protocol_number: Some(number),
            ..rule()
        }),
    ]
}

fn remote() -> impl Strategy<Value = pb::Remote> {
    let none = pb::Remote::default;
    let prefixes = [
        "2001:db8:ffff::/48",
        "2001:db8:fffe::1/128",
        "2001:db8:100:1::/64",
        "fe80::/10",
    ];
    prop_oneof![
        2 => Just(pb::Remote { anyone: true, ..none() }),
        2 => prop::sample::subsequence(prefixes.to_vec(), 1..3)
            .prop_map(move |list| pb::Remote { prefixes: texts(&list), ..none() }),
        1 => (0..4).prop_map(move |g| pb::Remote { group_id: format!("g{g}"), ..none() }),
    ]
}

fn group(i: usize) -> impl Strategy<Value = pb::Group> {
    let direction = prop_oneof![3 => Just(1), 1 => Just(2)];
    let rule = (direction, protocol(), remote()).prop_map(|(direction, rule, remote)| pb::Rule {
        direction,
        remote: Some(remote),
        ..rule
    });
    prop::collection::vec(rule, 0..3).prop_map(move |rules| pb::Group {
        id: format!("g{i}"),
        rules,
        ..pb::Group::default()
    })
}

fn members(i: usize) -> impl Strategy<Value = pb::GroupMembers> {
    let all = [
        "2001:db8:ffff::1",
        "2001:db8:100:1::d0",
        "2001:db8:100:1::d1",
        "2001:db8:fffd::7",
    ];
    let all: Vec<_> = all.iter().map(|&text| text.to_owned()).collect();
    (some(all), any::<bool>()).prop_map(move |(list, opted)| {
        let member = |(n, address)| pb::Member {
            address,
            delegated_prefixes: if opted {
                vec![format!("2001:db8:f{n}:{}0::/60", i + 1)]
            } else {
                vec![]
            },
        };
        pb::GroupMembers {
            group_id: format!("g{i}"),
            members: list.into_iter().enumerate().map(member).collect(),
        }
    })
}

/// Addresses of `fe80::/64` that are often nobody's.
pub(super) fn loose() -> Vec<Ipv6Addr> {
    let few = ["fe80::a1", "fe80::a2", "fe80::a3", "fe80::a4", "fe80::a5"].map(ip);
    [&few[..], &[B.ll, R.ll, C.ll]].concat()
}

pub(crate) fn world() -> impl Strategy<Value = World> {
    let nics = (nic(0), nic(1), nic(2), nic(3), 2..5_usize);
    let nics = nics.prop_map(|(a, b, c, d, many)| [a, b, c, d][..many].to_vec());
    (
        nics,
        [group(0), group(1), group(2), group(3)],
        [members(0), members(1), members(2), members(3)],
        some(vec![R.ll, ip("fe80::2")]),
        some(vec![ip("fe80::547"), ip("2001:db8:ffff::547")]),
        prop::collection::vec(some(loose()), 4),
        some(vec![ip("fe80::a2")]),
    )
        .prop_map(
            |(nics, groups, members, routers, dhcpv6_servers, earlier, heard_routers)| World {
                nics,
                groups: groups.to_vec(),
                members: members.to_vec(),
                routers,
                dhcpv6_servers,
                earlier,
                heard_routers,
            },
        )
}
