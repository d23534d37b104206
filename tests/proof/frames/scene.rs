//! What a world has to offer to a datagram: addresses near the border, ports at the edges of
//! rules, and a list of choices already made.

use std::net::Ipv6Addr;

use sgagent::model::{Desired, Direction, LinkLocal, Mac, Nic, Prefix};

use super::world::{MACHINES, World, loose};
use crate::support::who::{HOST, OTHER, R, STRANGER, ip};

/// Ports of rules, their edges and what is beyond these.
const PORTS: [u16; 12] = [80, 1000, 1003, 53, 79, 81, 999, 1004, 546, 547, 0, 65_535];

pub(super) struct Scene<'a> {
    pub direction: Direction,
    pub mac: [u8; 6],
    /// The virtual MACs with which the NIC may send.
    pub virtual_macs: Vec<[u8; 6]>,
    desired: Desired,
    world: &'a World,
    nic: usize,
    choices: std::iter::Cycle<std::slice::Iter<'a, u16>>,
}

impl<'a> Scene<'a> {
    pub(super) fn new(
        world: &'a World,
        nic: usize,
        direction: Direction,
        choices: &'a [u16],
    ) -> Self {
        let desired = world.desired();
        let virtual_macs = desired.nics[&world.id(nic)].virtual_macs.clone();
        Self {
            direction,
            mac: MACHINES[nic].mac,
            virtual_macs: virtual_macs.into_iter().map(Mac::octets).collect(),
            desired,
            world,
            nic,
            choices: choices.iter().cycle(),
        }
    }

    pub(super) fn egress(&self) -> bool {
        self.direction == Direction::Egress
    }

    pub(super) fn number(&mut self) -> u16 {
        *self.choices.next().unwrap()
    }

    pub(super) fn one_of<T: Copy>(&mut self, list: &[T]) -> T {
        list[usize::from(self.number()) % list.len()]
    }

    /// One of `right` in five of six cases.
    fn mostly<T: Copy>(&mut self, right: &[T], wrong: &[T]) -> T {
        if self.number() % 6 == 5 || right.is_empty() {
            self.one_of(wrong)
        } else {
            self.one_of(right)
        }
    }

    fn model(&self, nic: usize) -> &Nic {
        &self.desired.nics[&self.world.id(nic)]
    }

    /// The MAC that the NIC sends with.
    pub(super) fn own_mac(&mut self) -> [u8; 6] {
        let macs = self.virtual_macs.clone();
        if self.number() % 4 == 3 && !macs.is_empty() {
            self.one_of(&macs)
        } else {
            self.mac
        }
    }

    /// Any MAC that means something.
    pub(super) fn any_mac(&mut self) -> [u8; 6] {
        let [a, b, ..] = MACHINES;
        let near = [a.mac, b.mac, R.mac, HOST.mac];
        let virtual_mac = [0, 0, 0x5e, 0, 2, 1];
        let all = [&near[..], &[virtual_mac, self.mac], &self.virtual_macs].concat();
        self.one_of(&all)
    }

    /// An address of the NIC, or now and then one that is near to being its own.
    pub(super) fn own(&mut self) -> Ipv6Addr {
        let (right, wrong) = (self.bound(self.nic), self.odd());
        self.mostly(&right, &wrong)
    }

    /// The same, link-local where it can be.
    pub(super) fn own_link_local(&mut self) -> Ipv6Addr {
        let right = link_locals(self.model(self.nic));
        let wrong = [self.bound(self.nic), self.odd()].concat();
        self.mostly(&right, &wrong)
    }

    /// The same, of those on the link.
    pub(super) fn own_on_link(&mut self) -> Ipv6Addr {
        let right = on_link(self.model(self.nic));
        let wrong = [self.bound(self.nic), self.odd()].concat();
        self.mostly(&right, &wrong)
    }

    /// An address that the NIC shares, where it shares one.
    pub(super) fn shared(&mut self) -> Option<Ipv6Addr> {
        let own = &self.model(self.nic).addresses;
        own.iter().find(|own| own.shared).map(|own| own.address)
    }

    /// Who the NIC might talk to.
    pub(super) fn remote(&mut self) -> Ipv6Addr {
        let mut right = vec![STRANGER, OTHER, R.ip, ip("2001:db8:fffe::2")];
        for group in &self.world.members {
            for member in &group.members {
                right.push(ip(&member.address));
                for prefix in &member.delegated_prefixes {
                    right.extend(around(&prefix.parse().unwrap()));
                }
            }
        }
        let others = (0..self.world.nics.len()).filter(|nic| *nic != self.nic);
        right.extend(others.flat_map(|nic| self.bound(nic)));
        let wrong = self.odd();
        self.mostly(&right, &wrong)
    }

    /// A router of the bridge.
    pub(super) fn router(&mut self) -> Ipv6Addr {
        let wrong = [&[ip("fe80::2"), R.ip][..], &self.odd()].concat();
        self.mostly(&[R.ll], &wrong)
    }

    /// A DHCPv6 server of the bridge.
    pub(super) fn server(&mut self) -> Ipv6Addr {
        let right = [&self.world.dhcpv6_servers[..], &[ip("fe80::547")]].concat();
        self.mostly(&right, &[ip("2001:db8:ffff::547"), R.ll, STRANGER])
    }

    pub(super) fn port(&mut self) -> u16 {
        self.one_of(&PORTS)
    }

    /// Any address that means something.
    pub(super) fn any(&mut self) -> Ipv6Addr {
        let all = [self.odd(), self.bound(self.nic)].concat();
        self.one_of(&all)
    }

    /// What is not, or maybe not, the NIC's own.
    fn odd(&self) -> Vec<Ipv6Addr> {
        let mut all = vec![R.ll, R.ip, HOST.ll, STRANGER];
        let fixed = [
            "2001:db8:100:1::dead",
            "2001:db8:100:1::99",
            "fe80::dead",
            "fe80:0:0:1::1",
            "fe80::",
            "::",
            "::1",
            "ff02::1",
            "::ffff:192.0.2.1",
        ];
        all.extend(fixed.map(ip));
        for nic in 0..self.world.nics.len() {
            if nic != self.nic {
                all.extend(self.bound(nic));
            }
        }
        let nic = self.model(self.nic);
        let prefixes = nic.delegated_prefixes.iter().chain(&nic.on_link_prefix);
        all.extend(prefixes.flat_map(beyond));
        all.extend([
            nic.mac.link_local(),
            nic.mac.eui64(&"2001:db8:100:1::/64".parse().unwrap()),
        ]);
        all
    }

    fn bound(&self, nic: usize) -> Vec<Ipv6Addr> {
        let nic = self.model(nic);
        let mut all = on_link(nic);
        all.extend(nic.delegated_prefixes.iter().flat_map(around));
        all
    }
}

fn link_locals(nic: &Nic) -> Vec<Ipv6Addr> {
    match nic.effective_link_local() {
        LinkLocal::AnyUnowned => loose(),
        LinkLocal::Eui64 | LinkLocal::Explicit(_) => nic.link_local_addresses(),
    }
}

fn on_link(nic: &Nic) -> Vec<Ipv6Addr> {
    let mut all: Vec<_> = nic.addresses.iter().map(|own| own.address).collect();
    all.extend(nic.slaac_address());
    all.extend(nic.on_link_prefix.iter().flat_map(around));
    all.extend(link_locals(nic));
    all
}

/// The first, the last and another address of a prefix.
fn around(prefix: &Prefix) -> Vec<Ipv6Addr> {
    let (first, last) = prefix.bounds();
    let middle = u128::from(first) | u128::from(last) & 0x1234_5678_9abc;
    vec![middle.into(), first, last]
}

/// What is next to a prefix.
fn beyond(prefix: &Prefix) -> [Ipv6Addr; 2] {
    let (first, last) = prefix.bounds();
    [
        (u128::from(first) - 1).into(),
        (u128::from(last) + 1).into(),
    ]
}
