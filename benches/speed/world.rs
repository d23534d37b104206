//! What is pushed: NICs and groups, as many as wanted.

use std::fmt::Write as _;
use std::net::Ipv6Addr;

use sgagent::pb;

/// A bridge has 1,023 ports at most.
pub(crate) const PORTS_PER_BRIDGE: usize = 1_000;
/// The groups of the targets.
pub(crate) const GROUPS: usize = 20;
const RULES: usize = 10;
/// Where among the rules of a group the one is that allows the measured flow.
pub(crate) const OPEN_RULE: usize = 5;
/// The ports of the measured flows.
pub(crate) const FLOW_PORTS: (u16, u16) = (9_000, 65_000);

/// The MAC of NIC number `i`.
pub(crate) fn mac(i: usize) -> [u8; 6] {
    let [.., high, low] = i.to_be_bytes();
    [0x06, 0xb2, 0, 0, high, low]
}

/// A MAC in the usual notation.
pub(crate) fn mac_text(mac: [u8; 6]) -> String {
    mac.map(|octet| format!("{octet:02x}")).join(":")
}

/// The address that NIC number `i` makes from its MAC (RFC 4291, appendix A).
pub(crate) fn slaac(i: usize) -> Ipv6Addr {
    let [.., high, low] = i.to_be_bytes();
    let net = u16::try_from(i / PORTS_PER_BRIDGE + 1).unwrap();
    let last = u16::from_be_bytes([high, low]);
    Ipv6Addr::new(0x2001, 0xdb8, 0x100, net, 0x4b2, 0xff, 0xfe00, last)
}

/// An address of somebody elsewhere.
pub(crate) fn elsewhere(i: usize) -> String {
    Ipv6Addr::from((0x2001_0db8_0200_u128 << 80) | i as u128).to_string()
}

/// NIC number `i` on interface `vnet<i>`: a SLAAC address, a delegated /60, one group.
pub(crate) fn nic(i: usize) -> pb::Nic {
    let by = pb::interface_selector::By::Name(format!("vnet{i}"));
    let delegated = Ipv6Addr::from((0x2001_0db8_1000_u128 << 80) | ((i as u128) << 68));
    pb::Nic {
        id: format!("nic-{i}"),
        mac: mac_text(mac(i)),
        interfaces: vec![pb::InterfaceSelector { by: Some(by) }],
        slaac_prefix: format!("2001:db8:100:{:x}::/64", i / PORTS_PER_BRIDGE + 1),
        delegated_prefixes: vec![format!("{delegated}/60")],
        group_ids: vec![group_id(i % GROUPS)],
        ..pb::Nic::default()
    }
}

/// NIC number `i` with an address besides, which depends on `turn`.
pub(crate) fn changed_nic(i: usize, turn: usize) -> pb::Nic {
    let address =
        Ipv6Addr::from((0x2001_0db8_0300_u128 << 80) | ((turn as u128) << 32) | i as u128);
    let mut nic = nic(i);
    nic.addresses.push(pb::Address {
        address: address.to_string(),
        shared: false,
    });
    nic
}

/// The id of group number `i`.
pub(crate) fn group_id(i: usize) -> String {
    format!("group-{i}")
}

/// Group number `i`: ten rules for what is delivered; one of them allows the measured flows.
pub(crate) fn group(i: usize) -> pb::Group {
    let rule = |k: usize| {
        let first = u32::try_from(1_000 + 20 * k).unwrap();
        let (protocol, ports, remote) = match k {
            OPEN_RULE => (
                pb::Protocol::Udp,
                (FLOW_PORTS.0.into(), FLOW_PORTS.1.into()),
                anyone(),
            ),
            0 => (pb::Protocol::Tcp, (443, 443), anyone()),
            1 => (pb::Protocol::Tcp, (first, first + 9), group_of(i)),
            _ if k.is_multiple_of(2) => (pb::Protocol::Tcp, (first, first), prefix(k)),
            _ => (pb::Protocol::Udp, (first, first + 9), prefix(k)),
        };
        pb::Rule {
            direction: pb::Direction::Ingress.into(),
            protocol: protocol.into(),
            ports: Some(pb::PortRange {
                first: ports.0,
                last: ports.1,
            }),
            remote: Some(remote),
            ..pb::Rule::default()
        }
    };
    pb::Group {
        id: group_id(i),
        name: String::new(),
        rules: (0..RULES).map(rule).collect(),
    }
}

/// The members of group number `i`: those of `nics` NICs that are in it.
fn members(i: usize, nics: usize) -> Vec<pb::Member> {
    let member = |nic| pb::Member {
        address: slaac(nic).to_string(),
        delegated_prefixes: Vec::new(),
    };
    (0..nics)
        .filter(|nic| nic % GROUPS == i)
        .map(member)
        .collect()
}

/// A group with members elsewhere and one rule that refers to them.
pub(crate) fn big_group(id: &str, size: usize, offset: usize) -> (pb::Group, pb::GroupMembers) {
    let rule = pb::Rule {
        direction: pb::Direction::Ingress.into(),
        protocol: pb::Protocol::Any.into(),
        remote: Some(pb::Remote {
            group_id: id.to_owned(),
            ..pb::Remote::default()
        }),
        ..pb::Rule::default()
    };
    let group = pb::Group {
        id: id.to_owned(),
        name: String::new(),
        rules: vec![rule],
    };
    let member = |i| pb::Member {
        address: elsewhere(offset + i),
        delegated_prefixes: Vec::new(),
    };
    let members = pb::GroupMembers {
        group_id: id.to_owned(),
        members: (0..size).map(member).collect(),
    };
    (group, members)
}

/// Everything: so many NICs, and the groups.
pub(crate) fn sync(nics: usize) -> pb::SyncRequest {
    pb::SyncRequest {
        nics: (0..nics).map(nic).collect(),
        groups: (0..GROUPS).map(group).collect(),
        members: (0..GROUPS)
            .map(|i| pb::GroupMembers {
                group_id: group_id(i),
                members: members(i, nics),
            })
            .collect(),
        complete: true,
        ..pb::SyncRequest::default()
    }
}

/// The same as a file for `sgagent compile`.
pub(crate) fn sync_text(nics: usize) -> String {
    let pool = prost_reflect::DescriptorPool::decode(pb::DESCRIPTORS).unwrap();
    let kind = pool.get_message_by_name("sgagent.v1.SyncRequest").unwrap();
    let mut message = prost_reflect::DynamicMessage::new(kind);
    message.transcode_from(&sync(nics)).unwrap();
    serde_json::to_string(&message).unwrap()
}

/// How many bridges so many NICs need.
pub(crate) fn bridges(nics: usize) -> usize {
    nics.div_ceil(PORTS_PER_BRIDGE).max(1)
}

/// `ip` commands for the bridges, and a tap as port for each NIC from number `from` on.
pub(crate) fn ports(from: usize, nics: usize) -> String {
    let mut text = String::new();
    for i in 0..bridges(nics) {
        let _ = writeln!(
            text,
            "link add br{i} address 02:00:00:00:00:{:02x} type bridge stp_state 0 mcast_snooping 0\n\
             link set br{i} up",
            i + 1
        );
    }
    for i in from..nics {
        let mut mac = mac(i);
        mac[0] = 0xfe;
        let (mac, bridge) = (mac_text(mac), i / PORTS_PER_BRIDGE);
        let _ = writeln!(
            text,
            "tuntap add dev vnet{i} mode tap\nlink set vnet{i} address {mac} master br{bridge} up"
        );
    }
    text
}

/// The configuration: `{dir}` in it is the daemon's directory.
pub(crate) fn config(nics: usize) -> String {
    let mut text = "unix_socket = \"{dir}/sgagent.sock\"\nstate_dir = \"{dir}/state\"\n\
                    placement = \"br_netfilter\"\nnft = \"{nft}\"\n"
        .to_owned();
    for i in 0..bridges(nics) {
        let _ = writeln!(
            text,
            "[[bridges]]\nname = \"br{i}\"\nuplinks = [\"uplink{i}\"]"
        );
    }
    text.push_str("[limits]\n");
    // A flow for each packet is more than any guest may open (S8).
    if include_str!("../../packaging/sgagent.toml").contains("flows_per_second") {
        text.push_str("flows_per_second = 4000000\nflow_burst = 4000000\n");
    }
    text
}

fn anyone() -> pb::Remote {
    pb::Remote {
        anyone: true,
        ..pb::Remote::default()
    }
}

fn group_of(i: usize) -> pb::Remote {
    pb::Remote {
        group_id: group_id(i),
        ..pb::Remote::default()
    }
}

fn prefix(k: usize) -> pb::Remote {
    pb::Remote {
        prefixes: vec![format!("2001:db8:{k:x}::/48")],
        ..pb::Remote::default()
    }
}
