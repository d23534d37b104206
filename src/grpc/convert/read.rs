//! Values of the model into messages of the API.

use crate::{
    agent::{DropCount, NicDrops, NicTimes, View},
    model::{
        Bound, DefaultAction, Direction, GroupRule, Icmpv6Match, InterfaceSelector, Ipv4Mode,
        LinkLocal, Member, Nic, NicId, NicState, Outcome, OwnedAddress, Permission, PortRange,
        Protocol, Remote, SecurityGroup, Summary, Traffic, XenGuest,
    },
    pb::{self, interface_selector::By, xen_interface::Guest},
};

/// A NIC as it was pushed.
pub fn nic(nic: &Nic) -> pb::Nic {
    let Nic {
        id,
        instance_id,
        instance_name,
        mac,
        interfaces,
        addresses,
        slaac_prefix,
        link_local,
        virtual_macs,
        delegated_prefixes,
        on_link_prefix,
        groups,
        permissions,
        icmpv6_default,
        egress_default,
        ipv4,
    } = nic;
    let explicit = match link_local {
        Some(LinkLocal::Explicit(addresses)) => texts(addresses),
        Some(LinkLocal::Eui64 | LinkLocal::AnyUnowned) | None => Vec::new(),
    };
    pb::Nic {
        id: id.to_string(),
        instance_id: instance_id.as_str().to_owned(),
        instance_name: instance_name.as_str().to_owned(),
        mac: mac.to_string(),
        interfaces: interfaces.iter().map(selector).collect(),
        addresses: addresses.iter().map(address).collect(),
        slaac_prefix: slaac_prefix
            .map(|prefix| prefix.to_string())
            .unwrap_or_default(),
        link_local: link_local.as_ref().map(|mode| link_local_mode(mode).into()),
        link_local_addresses: explicit,
        virtual_macs: texts(virtual_macs),
        delegated_prefixes: texts(delegated_prefixes),
        on_link_prefix: on_link_prefix
            .map(|prefix| prefix.to_string())
            .unwrap_or_default(),
        group_ids: texts(groups),
        permissions: permissions
            .iter()
            .map(|one| permission(*one).into())
            .collect(),
        icmpv6_default: icmpv6_default.map(|one| action(one).into()),
        egress_default: egress_default.map(|one| action(one).into()),
        ipv4: ipv4.map(|one| ipv4_mode(one).into()),
    }
}

/// What is in force for a NIC. A NIC without an outcome is one that the agent has not
/// looked at yet.
pub fn nic_status(nic: &Nic, view: &View) -> pb::NicStatus {
    let NicTimes {
        since_ms,
        changed_at_ms,
    } = view.times(&nic.id);
    let (state, reason, bound) = match view.outcome(&nic.id) {
        Some(Outcome { state, bound }) => match state {
            NicState::Active => (pb::NicState::Active, "", bound.as_slice()),
            NicState::Pending(why) => (pb::NicState::Pending, why.as_str(), bound.as_slice()),
            NicState::Quarantined(why) => {
                (pb::NicState::Quarantined, why.as_str(), bound.as_slice())
            }
        },
        None => (
            pb::NicState::Pending,
            "its interfaces were not looked at yet",
            [].as_slice(),
        ),
    };
    pb::NicStatus {
        id: nic.id.to_string(),
        state: state.into(),
        reason: reason.to_owned(),
        interfaces: bound.iter().map(interface).collect(),
        addresses: effective_addresses(nic),
        link_local: link_local_mode(&nic.effective_link_local()).into(),
        since_ms,
        changed_at_ms,
    }
}

/// A NIC with what became of it.
pub fn nic_info(nic: &Nic, view: &View) -> pb::NicInfo {
    pb::NicInfo {
        nic: Some(self::nic(nic)),
        status: Some(nic_status(nic, view)),
    }
}

/// A group as it was pushed.
pub fn group(group: &SecurityGroup) -> pb::Group {
    let SecurityGroup { id, name, rules } = group;
    pb::Group {
        id: id.to_string(),
        name: name.as_str().to_owned(),
        rules: rules.iter().map(rule).collect(),
    }
}

/// A member as it was pushed.
pub fn member(member: &Member) -> pb::Member {
    let Member {
        address,
        delegated_prefixes,
    } = member;
    pb::Member {
        address: address.to_string(),
        delegated_prefixes: texts(delegated_prefixes),
    }
}

/// How many objects a change touched.
pub fn summary(summary: &Summary) -> pb::ChangeSummary {
    let Summary {
        nics,
        groups,
        members,
    } = summary;
    pb::ChangeSummary {
        nics_added: nics.added,
        nics_changed: nics.changed,
        nics_removed: nics.removed,
        groups_added: groups.added,
        groups_changed: groups.changed,
        groups_removed: groups.removed,
        members_added: members.added,
        members_changed: members.changed,
        members_removed: members.removed,
    }
}

/// What one NIC lost.
pub fn nic_drops(drops: &NicDrops) -> pb::NicDrops {
    let NicDrops { nic, drops } = drops;
    pb::NicDrops {
        nic_id: nic.to_string(),
        drops: drop_counts(drops),
    }
}

/// What one NIC sent and received.
pub fn nic_traffic(nic: &NicId, traffic: &Traffic) -> pb::NicTraffic {
    let Traffic {
        sent_packets,
        sent_bytes,
        received_packets,
        received_bytes,
    } = *traffic;
    pb::NicTraffic {
        nic_id: nic.to_string(),
        sent_packets,
        sent_bytes,
        received_packets,
        received_bytes,
    }
}

/// Counters by reason.
pub fn drop_counts(counts: &[DropCount]) -> Vec<pb::DropCount> {
    let count = |DropCount {
                     reason,
                     packets,
                     bytes,
                 }: &DropCount| pb::DropCount {
        reason: reason.clone(),
        packets: *packets,
        bytes: *bytes,
    };
    counts.iter().map(count).collect()
}

fn texts(list: &[impl ToString]) -> Vec<String> {
    list.iter().map(ToString::to_string).collect()
}

fn selector(selector: &InterfaceSelector) -> pb::InterfaceSelector {
    let by = match selector {
        InterfaceSelector::Name(name) => By::Name(name.to_string()),
        InterfaceSelector::MacOnBridge(bridge) => By::Bridge(bridge.to_string()),
        InterfaceSelector::Xen { guest, device } => {
            let guest = match guest {
                XenGuest::Vm(uuid) => Guest::VmUuid(uuid.to_string()),
                XenGuest::Domain(domain) => Guest::Domain(domain.number().into()),
            };
            By::Xen(pb::XenInterface {
                guest: Some(guest),
                device: *device,
            })
        }
    };
    pb::InterfaceSelector { by: Some(by) }
}

fn address(owned: &OwnedAddress) -> pb::Address {
    let OwnedAddress { address, shared } = owned;
    pb::Address {
        address: address.to_string(),
        shared: *shared,
    }
}

fn interface(bound: &Bound) -> pb::BoundInterface {
    let Bound {
        name,
        index,
        bridge,
    } = bound;
    pb::BoundInterface {
        name: name.to_string(),
        index: *index,
        bridge: bridge.to_string(),
    }
}

fn effective_addresses(nic: &Nic) -> Vec<pb::EffectiveAddress> {
    use pb::AddressKind as Kind;
    let one = |address: &dyn ToString, kind: Kind, shared| pb::EffectiveAddress {
        address: address.to_string(),
        kind: kind.into(),
        shared,
    };
    let mut all = Vec::new();
    for address in nic.link_local_addresses() {
        all.push(one(&address, Kind::LinkLocal, false));
    }
    for owned in &nic.addresses {
        all.push(one(&owned.address, Kind::Address, owned.shared));
    }
    all.extend(
        nic.slaac_address()
            .map(|address| one(&address, Kind::Slaac, false)),
    );
    for prefix in &nic.delegated_prefixes {
        all.push(one(prefix, Kind::DelegatedPrefix, false));
    }
    all.extend(
        nic.on_link_prefix
            .map(|prefix| one(&prefix, Kind::OnLinkPrefix, false)),
    );
    all
}

fn link_local_mode(mode: &LinkLocal) -> pb::LinkLocalMode {
    match mode {
        LinkLocal::Eui64 => pb::LinkLocalMode::Eui64,
        LinkLocal::Explicit(_) => pb::LinkLocalMode::Explicit,
        LinkLocal::AnyUnowned => pb::LinkLocalMode::AnyUnowned,
    }
}

fn permission(permission: Permission) -> pb::Permission {
    match permission {
        Permission::RouterAdvertisements => pb::Permission::RouterAdvertisements,
        Permission::Dhcpv6Server => pb::Permission::Dhcpv6Server,
        Permission::AnySource => pb::Permission::AnySource,
    }
}

fn action(action: DefaultAction) -> pb::DefaultAction {
    match action {
        DefaultAction::Allow => pb::DefaultAction::Allow,
        DefaultAction::Deny => pb::DefaultAction::Deny,
    }
}

fn ipv4_mode(mode: Ipv4Mode) -> pb::Ipv4Mode {
    match mode {
        Ipv4Mode::Pass => pb::Ipv4Mode::Pass,
        Ipv4Mode::Block => pb::Ipv4Mode::Block,
    }
}

fn rule(rule: &GroupRule) -> pb::Rule {
    let GroupRule {
        direction,
        protocol,
        remote,
        description,
    } = rule;
    let direction = match direction {
        Direction::Ingress => pb::Direction::Ingress,
        Direction::Egress => pb::Direction::Egress,
    };
    let mut message = pb::Rule {
        direction: direction.into(),
        remote: Some(self::remote(remote)),
        description: description.as_str().to_owned(),
        ..pb::Rule::default()
    };
    match *protocol {
        Protocol::Any => message.set_protocol(pb::Protocol::Any),
        Protocol::Tcp(range) => {
            message.set_protocol(pb::Protocol::Tcp);
            message.ports = ports(range);
        }
        Protocol::Udp(range) => {
            message.set_protocol(pb::Protocol::Udp);
            message.ports = ports(range);
        }
        Protocol::Sctp(range) => {
            message.set_protocol(pb::Protocol::Sctp);
            message.ports = ports(range);
        }
        Protocol::Icmpv6(matched) => {
            message.set_protocol(pb::Protocol::Icmpv6);
            (message.icmpv6_type, message.icmpv6_code) = icmpv6(matched);
        }
        Protocol::Number(number) => {
            message.set_protocol(pb::Protocol::Number);
            message.protocol_number = Some(number.into());
        }
    }
    message
}

/// Every port is what absence means.
fn ports(range: PortRange) -> Option<pb::PortRange> {
    (range != PortRange::ALL).then(|| pb::PortRange {
        first: range.first().into(),
        last: range.last().into(),
    })
}

fn icmpv6(matched: Icmpv6Match) -> (Option<u32>, Option<u32>) {
    match matched {
        Icmpv6Match::Any => (None, None),
        Icmpv6Match::Type(kind) => (Some(kind.into()), None),
        Icmpv6Match::TypeAndCode(kind, code) => (Some(kind.into()), Some(code.into())),
    }
}

fn remote(remote: &Remote) -> pb::Remote {
    let empty = pb::Remote::default();
    match remote {
        Remote::Anyone => pb::Remote {
            anyone: true,
            ..empty
        },
        Remote::Prefixes(prefixes) => pb::Remote {
            prefixes: texts(prefixes),
            ..empty
        },
        Remote::Group(id) => pb::Remote {
            group_id: id.to_string(),
            ..empty
        },
    }
}
