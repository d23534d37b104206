//! Neighbor Discovery, MLD and ICMPv6 errors.

use std::net::Ipv6Addr;

use super::packet::{HOP_BY_HOP, Packet};
use super::who::{ALL_NODES, ALL_ROUTERS, MLD_ROUTERS, Mac, Machine, UNSPECIFIED, solicited};

pub(crate) const ROUTER_FLAG: u8 = 0x80;
pub(crate) const SOLICITED: u8 = 0x40;
pub(crate) const OVERRIDE: u8 = 0x20;

/// A source link-layer address option (RFC 4861 §4.6.1).
pub(crate) fn source_option(mac: Mac) -> Vec<u8> {
    link_layer(1, mac)
}

/// A target link-layer address option.
pub(crate) fn target_option(mac: Mac) -> Vec<u8> {
    link_layer(2, mac)
}

fn link_layer(kind: u8, mac: Mac) -> Vec<u8> {
    let mut option = vec![kind, 1];
    option.extend(mac);
    option
}

/// A Nonce option (RFC 3971 §5.3.2, used by RFC 7527).
pub(crate) fn nonce() -> Vec<u8> {
    vec![14, 1, 1, 2, 3, 4, 5, 6]
}

impl Packet {
    /// Neighbour solicitation with these options.
    pub(crate) fn ns(self, target: Ipv6Addr, options: &[u8]) -> Self {
        let mut rest = vec![0; 4];
        rest.extend(target.octets());
        rest.extend_from_slice(options);
        self.hop(255).icmp(135, 0, &rest)
    }

    /// Neighbour advertisement with these options.
    pub(crate) fn na(self, target: Ipv6Addr, flags: u8, options: &[u8]) -> Self {
        let mut rest = vec![flags, 0, 0, 0];
        rest.extend(target.octets());
        rest.extend_from_slice(options);
        self.hop(255).icmp(136, 0, &rest)
    }

    /// Router advertisement with one autonomous prefix.
    pub(crate) fn ra(self) -> Self {
        let mut rest = vec![64, 0, 7, 8, 0, 0, 0, 0, 0, 0, 0, 0];
        rest.extend([3, 4, 64, 0xc0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
        rest.extend(super::who::ip("2001:db8:bad::").octets());
        self.hop(255).icmp(134, 0, &rest)
    }

    /// Redirect of `destination` to `target`.
    pub(crate) fn redirect(self, target: Ipv6Addr, destination: Ipv6Addr) -> Self {
        let mut rest = vec![0; 4];
        rest.extend(target.octets());
        rest.extend(destination.octets());
        self.hop(255).icmp(137, 0, &rest)
    }

    /// A router alert before what is there, as MLD carries it (RFC 2711).
    pub(crate) fn router_alert(self) -> Self {
        self.header(HOP_BY_HOP, &[0, 5, 2, 0, 0, 1, 0])
    }

    /// An ICMPv6 error about `about`, a packet without its Ethernet header.
    pub(crate) fn error(self, kind: u8, about: &Packet) -> Self {
        let mut rest = if kind == 2 {
            vec![0, 0, 5, 0]
        } else {
            vec![0; 4]
        };
        rest.extend(about.packet());
        self.icmp(kind, 0, &rest)
    }
}

impl Machine {
    /// The NS with which it asks for `target`'s MAC.
    pub(crate) fn asks_for(self, target: Ipv6Addr) -> Packet {
        self.to(solicited(target))
            .ns(target, &source_option(self.mac))
    }

    /// The probe with which it would claim `target` (RFC 4862 §5.4.2).
    pub(crate) fn probes(self, target: Ipv6Addr) -> Packet {
        self.to(solicited(target)).src(UNSPECIFIED).ns(target, &[])
    }

    /// The unsolicited NA with which it claims `target`.
    pub(crate) fn claims(self, target: Ipv6Addr) -> Packet {
        self.to(ALL_NODES)
            .na(target, OVERRIDE, &target_option(self.mac))
    }

    pub(crate) fn solicits_routers(self) -> Packet {
        self.to(ALL_ROUTERS)
            .hop(255)
            .icmp(133, 0, &rs_rest(&source_option(self.mac)))
    }

    pub(crate) fn advertises(self) -> Packet {
        self.to(ALL_NODES).ra()
    }

    /// A general `MLDv2` query.
    pub(crate) fn queries(self) -> Packet {
        let mut rest = vec![0x03, 0xe8, 0, 0];
        rest.extend([0; 16]);
        rest.extend([2, 0x7d, 0, 0]);
        self.to(ALL_NODES).hop(1).router_alert().icmp(130, 0, &rest)
    }

    /// An `MLDv2` report that joins these groups (RFC 3810 §5.2).
    pub(crate) fn joins(self, groups: &[Ipv6Addr]) -> Packet {
        let mut rest = vec![0, 0];
        rest.extend(u16::try_from(groups.len()).unwrap().to_be_bytes());
        for group in groups {
            rest.extend([4, 0, 0, 0]);
            rest.extend(group.octets());
        }
        self.to(MLD_ROUTERS)
            .hop(1)
            .router_alert()
            .icmp(143, 0, &rest)
    }

    /// An `MLDv1` report (131) or done (132) for a group.
    pub(crate) fn mld1(self, kind: u8, group: Ipv6Addr) -> Packet {
        let mut rest = vec![0; 4];
        rest.extend(group.octets());
        let to = if kind == 132 { ALL_ROUTERS } else { group };
        self.to(to)
            .src(self.ll)
            .hop(1)
            .router_alert()
            .icmp(kind, 0, &rest)
    }
}

/// What follows the checksum of an RS.
pub(crate) fn rs_rest(options: &[u8]) -> Vec<u8> {
    let mut rest = vec![0; 4];
    rest.extend_from_slice(options);
    rest
}
