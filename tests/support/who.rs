//! The machines of every test: three guests, a router and a stranger behind it.

use std::net::Ipv6Addr;

use super::packet::Packet;

/// A MAC address.
pub(crate) type Mac = [u8; 6];

/// Something with a port on the bridge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Machine {
    /// The port it is behind.
    pub port: &'static str,
    pub mac: Mac,
    /// Its link-local address (EUI-64 for the guests).
    pub ll: Ipv6Addr,
    /// Its global address.
    pub ip: Ipv6Addr,
}

const fn a(segments: [u16; 8]) -> Ipv6Addr {
    let s = segments;
    Ipv6Addr::new(s[0], s[1], s[2], s[3], s[4], s[5], s[6], s[7])
}

const fn guest(port: &'static str, last: u8) -> Machine {
    let host = 0x0400 | last as u16;
    Machine {
        port,
        mac: [0x06, 0xb2, 0, 0, 4, last],
        ll: a([0xfe80, 0, 0, 0, 0x04b2, 0x00ff, 0xfe00, host]),
        ip: a([0x2001, 0xdb8, 0x100, 1, 0x04b2, 0x00ff, 0xfe00, host]),
    }
}

/// A guest with a SLAAC address; `2001:db8:100:1010::/60` is routed to it.
pub(crate) const A: Machine = guest("vnet0", 0x79);
/// A guest with a SLAAC address.
pub(crate) const B: Machine = guest("vnet1", 0x7a);
/// A guest with a DHCPv6 address; `2001:db8:100:1030::/60` is routed to it.
pub(crate) const C: Machine = Machine {
    ip: a([0x2001, 0xdb8, 0x100, 1, 0, 0, 0, 0xd4]),
    ..guest("vnet2", 0x7c)
};
/// A guest that the agent has not been told of.
pub(crate) const UNBOUND: Machine = guest("vnet3", 0x7d);
/// The router, and with it the world, behind the uplink.
pub(crate) const R: Machine = Machine {
    port: "uplink0",
    mac: [2, 0, 0, 0, 0, 1],
    ll: a([0xfe80, 0, 0, 0, 0, 0, 0, 1]),
    ip: a([0x2001, 0xdb8, 0x100, 1, 0, 0, 0, 1]),
};
/// The host itself: the bridge's own interface.
pub(crate) const HOST: Machine = Machine {
    port: "br0",
    mac: [2, 0, 0, 0, 0, 0xb0],
    ll: a([0xfe80, 0, 0, 0, 0, 0x00ff, 0xfe00, 0x00b0]),
    ip: a([0x2001, 0xdb8, 0x100, 1, 0, 0, 0, 0xb0]),
};
/// An address in A's delegated prefix.
pub(crate) const A_DELEGATED: Ipv6Addr = a([0x2001, 0xdb8, 0x100, 0x101f, 0, 0, 0, 5]);
/// An address in C's delegated prefix.
pub(crate) const C_DELEGATED: Ipv6Addr = a([0x2001, 0xdb8, 0x100, 0x103a, 0, 0, 0, 5]);
/// Somebody behind the router.
pub(crate) const STRANGER: Ipv6Addr = a([0x2001, 0xdb8, 0xffff, 0, 0, 0, 0, 1]);
/// Somebody else behind the router.
pub(crate) const OTHER: Ipv6Addr = a([0x2001, 0xdb8, 0xfffe, 0, 0, 0, 0, 1]);

/// The stranger as an end of a conversation: its frames come and go by the router's port.
pub(crate) const WORLD: Machine = Machine { ip: STRANGER, ..R };

pub(crate) const ALL_NODES: Ipv6Addr = a([0xff02, 0, 0, 0, 0, 0, 0, 1]);
pub(crate) const ALL_ROUTERS: Ipv6Addr = a([0xff02, 0, 0, 0, 0, 0, 0, 2]);
/// Where `MLDv2` reports go (RFC 3810 §5.2.14).
pub(crate) const MLD_ROUTERS: Ipv6Addr = a([0xff02, 0, 0, 0, 0, 0, 0, 0x16]);
/// All DHCPv6 servers and relays (RFC 8415 §7.1).
pub(crate) const DHCP_SERVERS: Ipv6Addr = a([0xff02, 0, 0, 0, 0, 0, 1, 2]);
pub(crate) const UNSPECIFIED: Ipv6Addr = Ipv6Addr::UNSPECIFIED;

impl Machine {
    /// A packet from its global address to `dst`, or from its link-local one where `dst` is
    /// link-local or a group of the link.
    pub(crate) fn to(self, dst: Ipv6Addr) -> Packet {
        let first = dst.segments()[0];
        let local = first & 0xffc0 == 0xfe80 || first == 0xff02;
        Packet::new(
            self.port,
            self.mac,
            if local { self.ll } else { self.ip },
            dst,
        )
    }

    /// The same machine, its frames entering at another port.
    pub(crate) const fn at(self, port: &'static str) -> Self {
        Self { port, ..self }
    }
}

/// An address from its text.
pub(crate) fn ip(text: &str) -> Ipv6Addr {
    text.parse().unwrap()
}

/// The MAC that a frame to `dst` carries when nothing else is said.
pub(crate) fn mac_of(dst: Ipv6Addr) -> Mac {
    let o = dst.octets();
    if dst.is_multicast() {
        return [0x33, 0x33, o[12], o[13], o[14], o[15]];
    }
    [A, B, C, UNBOUND, HOST]
        .iter()
        .find(|machine| machine.ll == dst || machine.ip == dst)
        .map_or_else(|| delegated_to(dst), |machine| machine.mac)
}

/// Delegated prefixes are routed: their frames go to the guest that has the prefix. All else
/// goes to the router.
fn delegated_to(dst: Ipv6Addr) -> Mac {
    let prefix = u128::from(dst) >> 68;
    [(A_DELEGATED, A), (C_DELEGATED, C)]
        .iter()
        .find(|(inside, _)| u128::from(*inside) >> 68 == prefix)
        .map_or(R.mac, |(_, owner)| owner.mac)
}

/// The solicited-node group of an address (RFC 4291 §2.7.1).
pub(crate) fn solicited(target: Ipv6Addr) -> Ipv6Addr {
    let o = target.octets();
    let low = u16::from_be_bytes([o[14], o[15]]);
    a([0xff02, 0, 0, 0, 0, 1, 0xff00 | u16::from(o[13]), low])
}
