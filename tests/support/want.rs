//! What a test pushes to the agent, with the defaults that most tests share.

use sgagent::pb;

use super::who::{A, C, Machine};

pub(crate) use pb::{DefaultAction, Ipv4Mode, LinkLocalMode, Permission};

/// A NIC as the standard fixture has it, named after its port: A and C with their delegated
/// prefixes, C with an address by DHCPv6, the others with SLAAC.
pub(crate) fn nic(machine: Machine) -> pb::Nic {
    let mut nic = bare_nic(machine);
    if machine.mac == C.mac {
        return nic
            .address(&C.ip.to_string())
            .delegated("2001:db8:100:1030::/60");
    }
    "2001:db8:100:1::/64".clone_into(&mut nic.slaac_prefix);
    if machine.mac == A.mac {
        nic.delegated("2001:db8:100:1010::/60")
    } else {
        nic
    }
}

/// A NIC with a MAC, an interface and a link-local address only.
pub(crate) fn bare_nic(machine: Machine) -> pb::Nic {
    let by = pb::interface_selector::By::Name(machine.port.to_owned());
    pb::Nic {
        id: machine.port.to_owned(),
        mac: mac_text(machine.mac),
        interfaces: vec![pb::InterfaceSelector { by: Some(by) }],
        ..pb::Nic::default()
    }
}

pub(crate) fn mac_text(mac: [u8; 6]) -> String {
    mac.map(|octet| format!("{octet:02x}")).join(":")
}

/// Names for what a NIC has, so that a test reads as a sentence.
pub(crate) trait NicExt: Sized {
    fn address(self, address: &str) -> Self;
    fn shared_address(self, address: &str) -> Self;
    fn delegated(self, prefix: &str) -> Self;
    fn on_link(self, prefix: &str) -> Self;
    fn groups(self, groups: &[&str]) -> Self;
    fn permit(self, permission: Permission) -> Self;
    fn link_local(self, mode: LinkLocalMode) -> Self;
    fn icmpv6(self, action: DefaultAction) -> Self;
    fn egress(self, action: DefaultAction) -> Self;
    fn ipv4(self, mode: Ipv4Mode) -> Self;
}

impl NicExt for pb::Nic {
    fn address(mut self, address: &str) -> Self {
        self.addresses.push(pb::Address {
            address: address.to_owned(),
            shared: false,
        });
        self
    }
    fn shared_address(mut self, address: &str) -> Self {
        self.addresses.push(pb::Address {
            address: address.to_owned(),
            shared: true,
        });
        self
    }
    fn delegated(mut self, prefix: &str) -> Self {
        self.delegated_prefixes.push(prefix.to_owned());
        self
    }
    fn on_link(mut self, prefix: &str) -> Self {
        prefix.clone_into(&mut self.on_link_prefix);
        self
    }
    fn groups(mut self, groups: &[&str]) -> Self {
        self.group_ids = groups.iter().map(|&group| group.to_owned()).collect();
        self
    }
    fn permit(mut self, permission: Permission) -> Self {
        self.permissions.push(permission.into());
        self
    }
    fn link_local(mut self, mode: LinkLocalMode) -> Self {
        self.link_local = Some(mode.into());
        self
    }
    fn icmpv6(mut self, action: DefaultAction) -> Self {
        self.icmpv6_default = Some(action.into());
        self
    }
    fn egress(mut self, action: DefaultAction) -> Self {
        self.egress_default = Some(action.into());
        self
    }
    fn ipv4(mut self, mode: Ipv4Mode) -> Self {
        self.ipv4 = Some(mode.into());
        self
    }
}

pub(crate) fn group(id: &str, rules: &[pb::Rule]) -> pb::Group {
    pb::Group {
        id: id.to_owned(),
        name: String::new(),
        rules: rules.to_vec(),
    }
}

/// Everything in, from anyone.
pub(crate) fn open() -> pb::Group {
    group("open", &[allow_in(pb::Protocol::Any)])
}

/// TCP to 443 in, from anyone.
pub(crate) fn web() -> pb::Group {
    group("web", &[allow_in(pb::Protocol::Tcp).port(443)])
}

/// A rule for what the guest receives, from anyone until narrowed.
pub(crate) fn allow_in(protocol: pb::Protocol) -> pb::Rule {
    rule(pb::Direction::Ingress, protocol)
}

/// A rule for what the guest sends, to anyone until narrowed.
pub(crate) fn allow_out(protocol: pb::Protocol) -> pb::Rule {
    rule(pb::Direction::Egress, protocol)
}

/// A rule for what the guest receives of a protocol by its number.
pub(crate) fn allow_number_in(number: u32) -> pb::Rule {
    let rule = allow_in(pb::Protocol::Number);
    pb::Rule {
        protocol_number: Some(number),
        ..rule
    }
}

fn rule(direction: pb::Direction, protocol: pb::Protocol) -> pb::Rule {
    pb::Rule {
        direction: direction.into(),
        protocol: protocol.into(),
        remote: Some(pb::Remote {
            anyone: true,
            ..pb::Remote::default()
        }),
        ..pb::Rule::default()
    }
}

pub(crate) trait RuleExt: Sized {
    fn port(self, port: u32) -> Self;
    fn ports(self, first: u32, last: u32) -> Self;
    fn icmp_type(self, kind: u32) -> Self;
    fn icmp_code(self, code: u32) -> Self;
    fn prefixes(self, prefixes: &[&str]) -> Self;
    fn members_of(self, group: &str) -> Self;
}

impl RuleExt for pb::Rule {
    fn port(self, port: u32) -> Self {
        self.ports(port, port)
    }
    fn ports(mut self, first: u32, last: u32) -> Self {
        self.ports = Some(pb::PortRange { first, last });
        self
    }
    fn icmp_type(mut self, kind: u32) -> Self {
        self.icmpv6_type = Some(kind);
        self
    }
    fn icmp_code(mut self, code: u32) -> Self {
        self.icmpv6_code = Some(code);
        self
    }
    fn prefixes(mut self, prefixes: &[&str]) -> Self {
        let prefixes = prefixes.iter().map(|&prefix| prefix.to_owned()).collect();
        self.remote = Some(pb::Remote {
            prefixes,
            ..pb::Remote::default()
        });
        self
    }
    fn members_of(mut self, group: &str) -> Self {
        let group_id = group.to_owned();
        self.remote = Some(pb::Remote {
            group_id,
            ..pb::Remote::default()
        });
        self
    }
}

/// A change, empty.
pub(crate) fn change() -> pb::ApplyRequest {
    pb::ApplyRequest::default()
}

pub(crate) trait ChangeExt: Sized {
    fn nic(self, nic: pb::Nic) -> Self;
    fn group(self, group: pb::Group) -> Self;
    fn member(self, group: &str, address: &str, delegated: &[&str]) -> Self;
    fn remove_member(self, group: &str, address: &str) -> Self;
    fn remove_nic(self, machine: Machine) -> Self;
}

impl ChangeExt for pb::ApplyRequest {
    fn nic(mut self, nic: pb::Nic) -> Self {
        self.nics.push(nic);
        self
    }
    fn group(mut self, group: pb::Group) -> Self {
        self.groups.push(group);
        self
    }
    fn member(mut self, group: &str, address: &str, delegated: &[&str]) -> Self {
        let delegated_prefixes = delegated.iter().map(|&prefix| prefix.to_owned()).collect();
        let member = pb::Member {
            address: address.to_owned(),
            delegated_prefixes,
        };
        delta(&mut self, group).add.push(member);
        self
    }
    fn remove_member(mut self, group: &str, address: &str) -> Self {
        delta(&mut self, group).remove.push(address.to_owned());
        self
    }
    fn remove_nic(mut self, machine: Machine) -> Self {
        self.remove_nics.push(machine.port.to_owned());
        self
    }
}

/// The entry for a group: a request names each at most once.
fn delta<'a>(change: &'a mut pb::ApplyRequest, group: &str) -> &'a mut pb::MembersDelta {
    let at = change
        .members
        .iter()
        .position(|delta| delta.group_id == group)
        .unwrap_or_else(|| {
            let empty = pb::MembersDelta {
                group_id: group.to_owned(),
                ..Default::default()
            };
            change.members.push(empty);
            change.members.len() - 1
        });
    &mut change.members[at]
}
