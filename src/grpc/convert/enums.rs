//! The API's enumerations. Absent means the default; UNSPECIFIED and numbers that are
//! not known are refused, for a newer server may mean something narrower by them.

use super::{Faults, Path};
use crate::{
    agent::{FlowState, Origin},
    model::{DefaultAction, Direction, Ipv4Mode, Permission},
    pb,
};

const LINK_LOCAL: &str =
    "LINK_LOCAL_MODE_EUI64, LINK_LOCAL_MODE_EXPLICIT, LINK_LOCAL_MODE_ANY_UNOWNED";
const PERMISSION: &str =
    "PERMISSION_ROUTER_ADVERTISEMENTS, PERMISSION_DHCPV6_SERVER, PERMISSION_ANY_SOURCE";
const ACTION: &str = "DEFAULT_ACTION_ALLOW, DEFAULT_ACTION_DENY";
const IPV4: &str = "IPV4_MODE_PASS, IPV4_MODE_BLOCK";
const DIRECTION: &str = "DIRECTION_INGRESS, DIRECTION_EGRESS";
const PROTOCOL: &str = "PROTOCOL_ANY, PROTOCOL_TCP, PROTOCOL_UDP, PROTOCOL_SCTP, \
     PROTOCOL_ICMPV6, PROTOCOL_NUMBER";
const FLOW_STATE: &str = "FLOW_STATE_NEW, FLOW_STATE_ESTABLISHED, FLOW_STATE_RELATED";
const ORIGIN: &str = "PACKET_ORIGIN_UPLINK, PACKET_ORIGIN_NIC, PACKET_ORIGIN_HOST";
const NIC_STATE: &str = "NIC_STATE_ACTIVE, NIC_STATE_PENDING, NIC_STATE_QUARANTINED";

/// A link-local mode, without the addresses that may go with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LinkLocalMode {
    Eui64,
    Explicit,
    AnyUnowned,
}

/// A protocol, without the numbers that may go with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ProtocolName {
    Any,
    Tcp,
    Udp,
    Sctp,
    Icmpv6,
    Number,
}

pub(super) fn link_local(f: &mut Faults, at: &Path<'_>, value: i32) -> Option<LinkLocalMode> {
    choose(f, at, (value, LINK_LOCAL), |mode| match mode {
        pb::LinkLocalMode::Unspecified => None,
        pb::LinkLocalMode::Eui64 => Some(LinkLocalMode::Eui64),
        pb::LinkLocalMode::Explicit => Some(LinkLocalMode::Explicit),
        pb::LinkLocalMode::AnyUnowned => Some(LinkLocalMode::AnyUnowned),
    })
}

pub(super) fn permission(f: &mut Faults, at: &Path<'_>, value: i32) -> Option<Permission> {
    choose(f, at, (value, PERMISSION), |permission| match permission {
        pb::Permission::Unspecified => None,
        pb::Permission::RouterAdvertisements => Some(Permission::RouterAdvertisements),
        pb::Permission::Dhcpv6Server => Some(Permission::Dhcpv6Server),
        pb::Permission::AnySource => Some(Permission::AnySource),
    })
}

pub(super) fn action(f: &mut Faults, at: &Path<'_>, value: i32) -> Option<DefaultAction> {
    choose(f, at, (value, ACTION), |action| match action {
        pb::DefaultAction::Unspecified => None,
        pb::DefaultAction::Allow => Some(DefaultAction::Allow),
        pb::DefaultAction::Deny => Some(DefaultAction::Deny),
    })
}

pub(super) fn ipv4(f: &mut Faults, at: &Path<'_>, value: i32) -> Option<Ipv4Mode> {
    choose(f, at, (value, IPV4), |mode| match mode {
        pb::Ipv4Mode::Unspecified => None,
        pb::Ipv4Mode::Pass => Some(Ipv4Mode::Pass),
        pb::Ipv4Mode::Block => Some(Ipv4Mode::Block),
    })
}

pub(super) fn direction(f: &mut Faults, at: &Path<'_>, value: i32) -> Option<Direction> {
    choose(f, at, (value, DIRECTION), |direction| match direction {
        pb::Direction::Unspecified => None,
        pb::Direction::Ingress => Some(Direction::Ingress),
        pb::Direction::Egress => Some(Direction::Egress),
    })
}

pub(super) fn protocol(f: &mut Faults, at: &Path<'_>, value: i32) -> Option<ProtocolName> {
    choose(f, at, (value, PROTOCOL), |protocol| match protocol {
        pb::Protocol::Unspecified => None,
        pb::Protocol::Any => Some(ProtocolName::Any),
        pb::Protocol::Tcp => Some(ProtocolName::Tcp),
        pb::Protocol::Udp => Some(ProtocolName::Udp),
        pb::Protocol::Sctp => Some(ProtocolName::Sctp),
        pb::Protocol::Icmpv6 => Some(ProtocolName::Icmpv6),
        pb::Protocol::Number => Some(ProtocolName::Number),
    })
}

pub(super) fn flow_state(f: &mut Faults, at: &Path<'_>, value: i32) -> Option<FlowState> {
    choose(f, at, (value, FLOW_STATE), |state| match state {
        pb::FlowState::Unspecified => None,
        pb::FlowState::New => Some(FlowState::None),
        pb::FlowState::Established => Some(FlowState::Established),
        pb::FlowState::Related => Some(FlowState::Related),
    })
}

pub(super) fn packet_origin(f: &mut Faults, at: &Path<'_>, value: i32) -> Option<Origin> {
    choose(f, at, (value, ORIGIN), |origin| match origin {
        pb::PacketOrigin::Unspecified => None,
        pb::PacketOrigin::Uplink => Some(Origin::Uplink),
        pb::PacketOrigin::Nic => Some(Origin::Nic),
        pb::PacketOrigin::Host => Some(Origin::Host),
    })
}

/// The states that a list is narrowed to.
pub(in crate::grpc) fn nic_state(
    f: &mut Faults,
    at: &Path<'_>,
    value: i32,
) -> Option<pb::NicState> {
    choose(f, at, (value, NIC_STATE), |state| match state {
        pb::NicState::Unspecified => None,
        pb::NicState::Active | pb::NicState::Pending | pb::NicState::Quarantined => Some(state),
    })
}

fn choose<E: TryFrom<i32>, T>(
    faults: &mut Faults,
    at: &Path<'_>,
    (value, allowed): (i32, &str),
    map: impl FnOnce(E) -> Option<T>,
) -> Option<T> {
    let chosen = E::try_from(value).ok().and_then(map);
    if chosen.is_none() {
        let what = if value == 0 {
            "is unspecified".into()
        } else {
            format!("{value} is unknown")
        };
        faults.invalid(at, format_args!("{what}; one of {allowed} is wanted"));
    }
    chosen
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowed<T>(one: impl Fn(&mut Faults, &Path<'_>, i32) -> Option<T>) -> Vec<i32> {
        let at = Path::top("field");
        (-1..20)
            .filter(|value| one(&mut Faults::default(), &at, *value).is_some())
            .collect()
    }

    #[test]
    fn a_refusal_lists_every_allowed_name() {
        let names = |list: &str| list.split(", ").map(str::to_owned).collect::<Vec<_>>();
        macro_rules! listed {
            ($convert:expr, $list:expr, $enum:ty) => {
                let known = allowed($convert)
                    .into_iter()
                    .map(|value| <$enum>::try_from(value).unwrap().as_str_name().to_owned());
                assert_eq!(known.collect::<Vec<_>>(), names($list));
            };
        }
        listed!(link_local, LINK_LOCAL, pb::LinkLocalMode);
        listed!(permission, PERMISSION, pb::Permission);
        listed!(action, ACTION, pb::DefaultAction);
        listed!(ipv4, IPV4, pb::Ipv4Mode);
        listed!(direction, DIRECTION, pb::Direction);
        listed!(protocol, PROTOCOL, pb::Protocol);
        listed!(flow_state, FLOW_STATE, pb::FlowState);
        listed!(packet_origin, ORIGIN, pb::PacketOrigin);
        listed!(nic_state, NIC_STATE, pb::NicState);
    }
}
