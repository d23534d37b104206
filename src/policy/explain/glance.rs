//! What a packet is, as far as its first octets tell.

use std::net::Ipv6Addr;

use super::{
    groups::flow_of,
    octets::{IPV6, Packet},
};
use crate::ruleset::Upper;

/// What a packet is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Glance {
    /// From where.
    pub source: Ipv6Addr,
    /// Where to.
    pub destination: Ipv6Addr,
    /// What is behind the extension headers, as far as they are there.
    pub protocol: Option<u8>,
    /// Ports, or what `ICMPv6` message.
    pub upper: Upper,
    /// Whether it is a fragment.
    pub fragment: bool,
}

/// Looks at what an Ethernet frame of this type carries; it may be cut off. Nothing where it is
/// no IPv6 packet.
pub fn glance(ether_type: u16, octets: &[u8]) -> Option<Glance> {
    if ether_type != IPV6 {
        return None;
    }
    let packet = Packet::cut_off(octets).ok()?;
    let flow = flow_of(&packet);
    Some(Glance {
        source: packet.source,
        destination: packet.destination,
        protocol: packet.upper.map(|upper| upper.protocol),
        upper: flow.map_or(Upper::Other, |flow| flow.upper),
        fragment: packet.fragment.is_some(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(next: u8, rest: &[u8]) -> Vec<u8> {
        let mut octets = vec![0x60, 0, 0, 0, 4, 0, next, 64];
        octets.extend("2001:db8::1".parse::<Ipv6Addr>().unwrap().octets());
        octets.extend("ff02::1".parse::<Ipv6Addr>().unwrap().octets());
        octets.extend(rest);
        octets
    }

    #[test]
    fn a_packet_that_is_cut_off_tells_what_is_there() {
        let udp = glance(IPV6, &packet(17, &[2, 0x23, 2, 0x22])).unwrap();
        assert_eq!(udp.source, "2001:db8::1".parse::<Ipv6Addr>().unwrap());
        assert_eq!(udp.protocol, Some(17));
        let ports = Upper::Ports {
            source: 547,
            destination: 546,
        };
        assert_eq!(udp.upper, ports);
        let none = glance(IPV6, &packet(58, &[])).unwrap();
        assert_eq!((none.protocol, none.upper), (Some(58), Upper::Other));
        let hidden = glance(IPV6, &packet(60, &[58])).unwrap();
        assert_eq!(hidden.protocol, None);
        assert_eq!(glance(0x0800, &packet(58, &[])), None);
        assert_eq!(glance(IPV6, &packet(58, &[])[..39]), None);
    }
}
