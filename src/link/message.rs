//! What of an rtnetlink message concerns us.
//!
//! Only the attributes that we need are looked at, and they are read here and not with
//! netlink-packet-route: there, one attribute of a shape that it does not know (a newer
//! kernel's) makes the whole message an error, and an interface would be invisible.

use std::net::Ipv6Addr;

use netlink_packet_core::{
    DecodeError, NetlinkBuffer, NlaBuffer, NlasIterator, parse_ipv6, parse_mac, parse_u8, parse_u32,
};
use tracing::debug;

use crate::model::{Link, LinkKind, LinkSettings, is_link_local};

// include/uapi/linux/rtnetlink.h
pub(super) const RTM_NEWLINK: u16 = 16;
const RTM_DELLINK: u16 = 17;
const RTM_NEWADDR: u16 = 20;
const RTM_DELADDR: u16 = 21;

// include/linux/socket.h, include/uapi/linux/if.h
const AF_UNSPEC: u8 = 0;
const AF_BRIDGE: u8 = 7;
const AF_INET6: u8 = 10;
const IFF_LOOPBACK: u32 = 1 << 3;

// include/uapi/linux/if_link.h
const IFLA_ADDRESS: u16 = 1;
const IFLA_IFNAME: u16 = 3;
const IFLA_MASTER: u16 = 10;
const IFLA_WIRELESS: u16 = 11;
const IFLA_PROTINFO: u16 = 12;
const IFLA_LINKINFO: u16 = 18;
const IFLA_PHYS_PORT_NAME: u16 = 38;
const IFLA_PARENT_DEV_BUS_NAME: u16 = 57;
const IFLA_INFO_KIND: u16 = 1;
const IFLA_INFO_DATA: u16 = 2;
const IFLA_INFO_SLAVE_KIND: u16 = 4;
const IFLA_INFO_SLAVE_DATA: u16 = 5;
const IFLA_BR_VLAN_FILTERING: u16 = 7;
const IFLA_BR_MCAST_SNOOPING: u16 = 23;
const IFLA_BR_NF_CALL_IP6TABLES: u16 = 37;
const IFLA_BR_MULTI_BOOLOPT: u16 = 46;
const IFLA_BRPORT_MCAST_MAX_GROUPS: u16 = 42;

/// `BR_BOOLOPT_NO_LL_LEARN` of `include/uapi/linux/if_bridge.h`.
const NO_LINK_LOCAL_LEARN: u32 = 1 << 0;

// include/uapi/linux/if_addr.h
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;

/// A change of the host's interfaces.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Event {
    /// The interface is there and is like this.
    Link(Link, LinkSettings),
    /// The port of this index may be in so many multicast groups.
    PortGroups(u32, u32),
    /// The interface of this index is gone, or has a name that nobody can mean.
    NoLink(u32),
    /// The interface of this index has this link-local address.
    LinkLocal(u32, Ipv6Addr),
    /// The interface of this index does not have this link-local address.
    NoLinkLocal(u32, Ipv6Addr),
}

/// What a message says; nothing where it does not concern us.
pub(super) fn event(message: &NetlinkBuffer<&[u8]>) -> Result<Option<Event>, DecodeError> {
    let body = message.payload();
    match message.message_type() {
        RTM_NEWLINK => new_link(body),
        RTM_DELLINK => {
            let (header, _) = split::<16>(body)?;
            Ok((header[0] == AF_UNSPEC).then_some(Event::NoLink(word(header, 4))))
        }
        RTM_NEWADDR => Ok(link_local(body)?.map(|(index, ip)| Event::LinkLocal(index, ip))),
        RTM_DELADDR => Ok(link_local(body)?.map(|(index, ip)| Event::NoLinkLocal(index, ip))),
        _ => Ok(None),
    }
}

/// `struct ifinfomsg` and its attributes.
fn new_link(body: &[u8]) -> Result<Option<Event>, DecodeError> {
    let (header, attributes) = split::<16>(body)?;
    match header[0] {
        AF_UNSPEC => {}
        AF_BRIDGE => {
            let groups = port_groups(attributes)?;
            return Ok(groups.map(|groups| Event::PortGroups(word(header, 4), groups)));
        }
        _ => return Ok(None),
    }
    let mut draft = Draft::default();
    for attribute in NlasIterator::new(attributes) {
        draft.read(&attribute?)?;
    }
    if draft.partial {
        return Ok(None);
    }
    let index = word(header, 4);
    let name = match draft.name.parse() {
        Ok(name) => name,
        Err(error) => {
            debug!(index, %error, "interface left out");
            return Ok(Some(Event::NoLink(index)));
        }
    };
    let loopback = word(header, 8) & IFF_LOOPBACK != 0;
    let kind = if loopback {
        LinkKind::Other
    } else {
        draft.link_kind()
    };
    let link = Link {
        index,
        name,
        mac: draft.mac,
        master: draft.master,
        kind,
        multicast_snooping: draft.snooping,
    };
    Ok(Some(Event::Link(link, draft.settings)))
}

/// What a bridge says of a port: its attributes in `IFLA_PROTINFO`.
fn port_groups(attributes: &[u8]) -> Result<Option<u32>, DecodeError> {
    for attribute in NlasIterator::new(attributes) {
        let attribute = attribute?;
        if attribute.kind() == IFLA_PROTINFO {
            return max_groups(attribute.value());
        }
    }
    Ok(None)
}

/// Of a port's attributes, where the kernel has it (Linux 6.3).
fn max_groups(port: &[u8]) -> Result<Option<u32>, DecodeError> {
    for attribute in NlasIterator::new(port) {
        let attribute = attribute?;
        if attribute.kind() == IFLA_BRPORT_MCAST_MAX_GROUPS {
            return parse_u32(attribute.value()).map(Some);
        }
    }
    Ok(None)
}

/// `struct ifaddrmsg` and its attributes.
fn link_local(body: &[u8]) -> Result<Option<(u32, Ipv6Addr)>, DecodeError> {
    let (header, attributes) = split::<8>(body)?;
    if header[0] != AF_INET6 {
        return Ok(None);
    }
    // With a peer, IFA_ADDRESS is the peer's (`inet6_fill_ifaddr`, net/ipv6/addrconf.c).
    let (mut local, mut address) = (None, None);
    for attribute in NlasIterator::new(attributes) {
        let attribute = attribute?;
        match attribute.kind() {
            IFA_LOCAL => local = Some(Ipv6Addr::from(parse_ipv6(attribute.value())?)),
            IFA_ADDRESS => address = Some(Ipv6Addr::from(parse_ipv6(attribute.value())?)),
            _ => {}
        }
    }
    let own = local.or(address).filter(|address| is_link_local(*address));
    Ok(own.map(|address| (word(header, 4), address)))
}

/// Which end of something that hardware or a hypervisor made.
#[derive(Default, Clone, Copy, PartialEq, Eq)]
enum Side {
    #[default]
    Host,
    Guest,
}

/// What an `RTM_NEWLINK` said so far.
#[derive(Default)]
struct Draft {
    name: String,
    mac: [u8; 6],
    master: Option<u32>,
    kind: Option<String>,
    port_of: Option<String>,
    snooping: bool,
    settings: LinkSettings,
    side: Side,
    partial: bool,
}

impl Draft {
    fn read(&mut self, attribute: &NlaBuffer<&[u8]>) -> Result<(), DecodeError> {
        let value = attribute.value();
        match attribute.kind() {
            IFLA_IFNAME => self.name = text(value),
            // InfiniBand's has 20 octets.
            IFLA_ADDRESS => self.mac = parse_mac(value).unwrap_or_default(),
            IFLA_MASTER => self.master = Some(parse_u32(value)?),
            IFLA_LINKINFO => self.read_info(value)?,
            // An event of the radio has the name and this, no master and no kind
            // (`rtnetlink_ifinfo_prep`, net/wireless/wext-core.c).
            IFLA_WIRELESS => self.partial = true,
            IFLA_PHYS_PORT_NAME if is_representor(&text(value)) => self.side = Side::Guest,
            IFLA_PARENT_DEV_BUS_NAME if text(value) == "xen-backend" => self.side = Side::Guest,
            _ => {}
        }
        Ok(())
    }

    fn read_info(&mut self, info: &[u8]) -> Result<(), DecodeError> {
        for attribute in NlasIterator::new(info) {
            let attribute = attribute?;
            match attribute.kind() {
                IFLA_INFO_KIND => self.kind = Some(text(attribute.value())),
                // The kind precedes the data (`rtnl_link_info_fill`, net/core/rtnetlink.c).
                IFLA_INFO_DATA if self.kind.as_deref() == Some("bridge") => {
                    self.read_bridge(attribute.value())?;
                }
                IFLA_INFO_SLAVE_KIND => self.port_of = Some(text(attribute.value())),
                IFLA_INFO_SLAVE_DATA if self.port_of.as_deref() == Some("bridge") => {
                    self.settings.multicast_max_groups = max_groups(attribute.value())?;
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn read_bridge(&mut self, data: &[u8]) -> Result<(), DecodeError> {
        for attribute in NlasIterator::new(data) {
            let attribute = attribute?;
            let value = attribute.value();
            match attribute.kind() {
                IFLA_BR_MCAST_SNOOPING => self.snooping = parse_u8(value)? != 0,
                IFLA_BR_VLAN_FILTERING => self.settings.vlan_filtering = parse_u8(value)? != 0,
                IFLA_BR_NF_CALL_IP6TABLES => {
                    self.settings.nf_call_ip6tables = Some(parse_u8(value)? != 0);
                }
                // `struct br_boolopt_multi`: the values, then which the kernel knows.
                IFLA_BR_MULTI_BOOLOPT if value.len() >= 8 => {
                    let known = word(value, 4) & NO_LINK_LOCAL_LEARN != 0;
                    let on = word(value, 0) & NO_LINK_LOCAL_LEARN != 0;
                    self.settings.no_link_local_learn = known.then_some(on);
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn link_kind(&self) -> LinkKind {
        match self.kind.as_deref() {
            Some("bridge") => LinkKind::Bridge,
            Some("openvswitch") => LinkKind::OpenVswitch,
            Some("bond" | "vlan" | "vxlan") => LinkKind::Outward,
            // A guest's end of the host's hardware, or xen-netback's of a vif, has no link
            // kind either: taken for an uplink, a guest would be trusted like the network.
            None if self.side == Side::Host => LinkKind::Outward,
            Some(_) | None => LinkKind::Other,
        }
    }
}

/// Whether a switch port's name is that of a virtual function's or a subfunction's
/// representor, `pf0vf3` or `c1pf0sf88` (Documentation/networking/switchdev.rst).
fn is_representor(port: &str) -> bool {
    port.contains("pf") && (port.contains("vf") || port.contains("sf"))
}

/// A name may have any octets but a few (`dev_valid_name`, net/core/dev.c).
fn text(value: &[u8]) -> String {
    String::from_utf8_lossy(value.strip_suffix(&[0]).unwrap_or(value)).into_owned()
}

pub(super) fn split<const N: usize>(body: &[u8]) -> Result<(&[u8; N], &[u8]), DecodeError> {
    body.split_first_chunk()
        .ok_or_else(|| DecodeError::buffer_too_small(body.len(), N))
}

/// The four octets at `at`, which every caller's header has.
pub(super) fn word(header: &[u8], at: usize) -> u32 {
    header[at..]
        .first_chunk()
        .map_or(0, |octets| u32::from_ne_bytes(*octets))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::netlink::messages;

    fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
        let length = u16::try_from(4 + value.len()).unwrap();
        let mut octets = [length.to_ne_bytes(), kind.to_ne_bytes()].concat();
        octets.extend(value);
        octets.resize(octets.len().next_multiple_of(4), 0);
        octets
    }

    fn info(kind: &str) -> Vec<u8> {
        attribute(
            IFLA_LINKINFO,
            &attribute(IFLA_INFO_KIND, format!("{kind}\0").as_bytes()),
        )
    }

    fn datagram(message_type: u16, header: &[u8], attributes: &[Vec<u8>]) -> Vec<u8> {
        let body = [header, &attributes.concat()].concat();
        let length = u32::try_from(16 + body.len()).unwrap();
        let mut octets = length.to_ne_bytes().to_vec();
        octets.extend(message_type.to_ne_bytes());
        octets.extend([0; 10]);
        octets.extend(body);
        octets
    }

    fn link(message_type: u16, family: u8, flags: u32, attributes: &[Vec<u8>]) -> Option<Event> {
        let mut header = vec![family, 0, 1, 0];
        for number in [7, flags, 0] {
            header.extend(u32::to_ne_bytes(number));
        }
        let mut all = vec![attribute(IFLA_IFNAME, b"x0\0")];
        all.extend_from_slice(attributes);
        let octets = datagram(message_type, &header, &all);
        let message = messages(&octets).next().unwrap().unwrap();
        event(&message).unwrap()
    }

    fn kind(flags: u32, attributes: &[Vec<u8>]) -> LinkKind {
        match link(RTM_NEWLINK, AF_UNSPEC, flags, attributes) {
            Some(Event::Link(link, _)) => link.kind,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn hardware_bonds_vlans_and_vxlans_lead_outward() {
        assert_eq!(kind(0, &[]), LinkKind::Outward);
        for outward in ["bond", "vlan", "vxlan"] {
            assert_eq!(kind(0, &[info(outward)]), LinkKind::Outward, "{outward}");
        }
        assert_eq!(kind(0, &[info("bridge")]), LinkKind::Bridge);
        for other in ["tun", "veth", "dummy", "macvlan", ""] {
            assert_eq!(kind(0, &[info(other)]), LinkKind::Other, "{other}");
        }
        assert_eq!(kind(IFF_LOOPBACK, &[]), LinkKind::Other);
    }

    #[test]
    fn the_host_end_of_a_guests_interface_does_not_lead_outward() {
        let xen = attribute(IFLA_PARENT_DEV_BUS_NAME, b"xen-backend\0");
        assert_eq!(kind(0, &[xen]), LinkKind::Other);
        for port in ["pf0vf3\0", "c1pf0vf12\0", "pf1sf88\0"] {
            let port = attribute(IFLA_PHYS_PORT_NAME, port.as_bytes());
            assert_eq!(kind(0, &[port]), LinkKind::Other);
        }
        let uplink = attribute(IFLA_PHYS_PORT_NAME, b"p0\0");
        let pci = attribute(IFLA_PARENT_DEV_BUS_NAME, b"pci\0");
        assert_eq!(kind(0, &[uplink, pci]), LinkKind::Outward);
    }

    #[test]
    fn what_a_bridge_or_a_radio_says_is_no_link_event() {
        assert_eq!(link(RTM_DELLINK, AF_BRIDGE, 0, &[]), None);
        assert_eq!(link(RTM_NEWLINK, AF_BRIDGE, 0, &[]), None);
        assert_eq!(
            link(
                RTM_NEWLINK,
                AF_UNSPEC,
                0,
                &[attribute(IFLA_WIRELESS, &[0; 8])]
            ),
            None
        );
        assert_eq!(link(RTM_DELLINK, AF_UNSPEC, 0, &[]), Some(Event::NoLink(7)));
    }

    #[test]
    fn what_a_bridge_says_of_a_ports_groups_is_heard() {
        let groups = attribute(IFLA_BRPORT_MCAST_MAX_GROUPS, &16_u32.to_ne_bytes());
        // With NLA_F_NESTED, as the kernel writes it.
        let port = attribute(IFLA_PROTINFO | 0x8000, &groups);
        let event = link(RTM_NEWLINK, AF_BRIDGE, 0, &[port]);
        assert_eq!(event, Some(Event::PortGroups(7, 16)));
    }

    #[test]
    fn a_name_that_nobody_can_mean_is_no_link() {
        for odd in [&b"a b\0"[..], b"\xff\xfe\0", b"\0", b""] {
            let name = attribute(IFLA_IFNAME, odd);
            let event = link(RTM_NEWLINK, AF_UNSPEC, 0, &[name]);
            assert_eq!(event, Some(Event::NoLink(7)), "{odd:?}");
        }
    }

    #[test]
    fn a_hardware_address_of_another_length_is_zero() {
        let infiniband = attribute(IFLA_ADDRESS, &[1; 20]);
        match link(RTM_NEWLINK, AF_UNSPEC, 0, &[infiniband]) {
            Some(Event::Link(link, _)) => assert_eq!(link.mac, [0; 6]),
            other => panic!("{other:?}"),
        }
    }

    proptest! {
        #[test]
        fn no_octets_make_it_panic(
            kind in 14_u16..24,
            body in proptest::collection::vec(any::<u8>(), 0..80),
            junk in proptest::collection::vec(any::<u8>(), 0..40),
        ) {
            let mut octets = datagram(kind, &body, &[]);
            octets.resize(octets.len().next_multiple_of(4), 0);
            octets.extend(junk);
            for message in messages(&octets).flatten() {
                let _ = event(&message);
            }
        }
    }
}
