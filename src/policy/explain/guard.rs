//! The guard on what a NIC sends: rows G0 to G13, of one frame.

use std::net::Ipv6Addr;

use super::{
    hint,
    octets::{
        AUTHENTICATION, DESTINATION, FRAGMENT, Frame, HOP_BY_HOP, Header, IPV6, Packet, ROUTING,
        address, link_layer, octet, word,
    },
    owned::Owner,
    trace::{Denial, Stage, Trace},
};
use crate::{
    model::{Mac, Permission, is_link_local},
    ruleset::{ICMPV6, Learned, Reason, SCTP, TCP, UDP},
};

/// Where a frame goes on to that the guard lets pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Passed {
    /// Out: no group judges it.
    Unjudged,
    /// To the stateful stage.
    ToGroups,
}

use Passed::{ToGroups, Unjudged};

type Outcome<T = Passed> = Result<T, Denial>;

/// The guard, with what it learns as it goes.
pub(super) struct Guard<'a, 'b> {
    pub(super) owner: Owner<'a>,
    pub(super) learned: &'b mut Learned,
    pub(super) trace: &'b mut Trace,
}

impl Guard<'_, '_> {
    pub(super) fn frame(&mut self, octets: &[u8]) -> Outcome {
        let Some(frame) = Frame::of(octets) else {
            let text = "the Ethernet header is cut off";
            return Err(Denial::by_host("G2", text));
        };
        let Frame { destination, .. } = frame;
        if let [0x01, 0x80, 0xc2, 0, 0, 0..=0x0f] = destination {
            let text = format!(
                "{} is an address that bridges keep for themselves",
                Mac::text(destination)
            );
            return Err(Denial::new(Reason::LinkLocalMac, "G0", text));
        }
        self.step("G0", "not to an address that bridges keep for themselves");
        self.own_mac(frame.source)?;
        match frame.ether_type {
            IPV6 => self.packet(&frame),
            0x0806 | 0x0800 if self.owner.nic.ipv4 => {
                self.step("G2", "IPv4 or ARP, which is left to others (ipv4: PASS)");
                Ok(Unjudged)
            }
            0x8035 => {
                self.step("G2", "RARP, with which QEMU announces a migrated guest");
                Ok(Unjudged)
            }
            other => Err(not_carried(other)),
        }
    }

    fn step(&mut self, row: &'static str, text: impl Into<String>) {
        self.trace.step(Stage::Guard, row, text);
    }

    fn may(&self, permission: Permission) -> bool {
        self.owner.nic.permissions.contains(&permission)
    }

    fn own_mac(&mut self, source: [u8; 6]) -> Outcome<()> {
        if self.owner.is_own_mac(source) {
            self.step(
                "G1",
                format!("from {}, a MAC of the NIC", Mac::text(source)),
            );
            return Ok(());
        }
        let text = format!(
            "the frame is from {}, the NIC's MAC is {}",
            Mac::text(source),
            self.owner.nic.mac
        );
        Err(Denial::new(Reason::SpoofedMac, "G1", text).hint(hint::OTHER_MAC.to_owned()))
    }

    fn packet(&mut self, frame: &Frame<'_>) -> Outcome {
        self.step("G2", "IPv6, without a tag");
        let malformed = |why| Denial::new(Reason::ExtHeader, "G3", why);
        let packet = Packet::of(frame.payload).map_err(malformed)?;
        if packet.ends_off_8_octets() {
            return Err(malformed(OFF_8_OCTETS));
        }
        if packet.is_later_fragment() {
            if let Some(HOP_BY_HOP | ROUTING | FRAGMENT | AUTHENTICATION) =
                packet.fragment.map(|fragment| fragment.next)
            {
                return Err(malformed(
                    "a fragment of what no first fragment begins with",
                ));
            }
            self.step("G3", "a fragment that is not the first: that one decides");
            return self.bound(frame, &packet);
        }
        headers(&packet)?;
        let Some(upper) = packet.upper else {
            return Err(malformed("its headers can't be followed to their end"));
        };
        if let HOP_BY_HOP
        | ROUTING
        | FRAGMENT
        | AUTHENTICATION
        | DESTINATION
        | 135
        | 139
        | 140
        | 253..=255 = upper.protocol
        {
            let text = format!("behind header {} nothing can be seen", upper.protocol);
            return Err(Denial::new(Reason::ExtHeader, "G3", text));
        }
        let data = packet.octets.get(upper.at..).unwrap_or_default();
        let least = match upper.protocol {
            TCP => 20,
            SCTP => 12,
            UDP => 8,
            _ => 1,
        };
        if data.len() < least {
            let text = "the upper-layer header is not all there (RFC 7112)";
            return Err(Denial::new(Reason::ExtHeader, "G3", text));
        }
        self.step(
            "G3",
            format!("its headers lead to protocol {}", upper.protocol),
        );
        match upper.protocol {
            ICMPV6 => self.icmpv6(frame, &packet, data),
            UDP => self.udp(frame, &packet, data),
            _ => self.bound(frame, &packet),
        }
    }

    fn udp(&mut self, frame: &Frame<'_>, packet: &Packet<'_>, data: &[u8]) -> Outcome {
        let serves = self.may(Permission::Dhcpv6Server);
        let rogue = |row, text: &str| Denial::new(Reason::RogueDhcpv6, row, text);
        let (from, to) = (word(data, 0), word(data, 2));
        if (from == Some(547) || to == Some(546)) && !serves {
            let denial = rogue("G11", "a DHCPv6 server's or relay's message");
            return Err(denial.hint(hint::DHCPV6_SERVER.to_owned()));
        }
        if to == Some(547) && !serves {
            if from != Some(546) {
                return Err(rogue("G12", "to port 547, and not from 546"));
            }
            if packet.header(FRAGMENT).is_some() {
                return Err(rogue("G12", "a DHCPv6 client's message in fragments"));
            }
            if !matches!(octet(data, 8), Some(1 | 3..=6 | 8 | 9 | 11 | 36)) {
                return Err(rogue(
                    "G12",
                    "to port 547, and no message that a client sends",
                ));
            }
        }
        self.step("G11", "no DHCPv6 that it may not send");
        self.bound(frame, packet)
    }

    fn icmpv6(&mut self, frame: &Frame<'_>, packet: &Packet<'_>, data: &[u8]) -> Outcome {
        let kind = octet(data, 0).unwrap_or_default();
        let advertises = self.may(Permission::RouterAdvertisements);
        let of_no_router =
            |reason, what: &str| Denial::new(reason, "G4", what).hint(hint::ROUTER.to_owned());
        match kind {
            1..=4 | 128 | 129 => {
                self.step("G4", format!("ICMPv6 type {kind}, which a guest may send"));
                self.bound(frame, packet)
            }
            133 => self.router_solicitation(frame, packet, data),
            135 => self.solicitation(frame, packet, data),
            136 => self.advertisement(frame, packet, data),
            131 | 132 | 143 => self.mld(frame, packet),
            130 if advertises => self.mld(frame, packet),
            134 | 137 if advertises => {
                self.well_formed(packet, data)?;
                self.bound(frame, packet)
            }
            134 => Err(of_no_router(Reason::RogueRa, "a router advertisement")),
            137 => Err(of_no_router(Reason::RogueRa, "a redirect")),
            130 => Err(of_no_router(Reason::Icmpv6Type, "an MLD query")),
            _ => {
                let text = format!("ICMPv6 type {kind} is none that a guest sends");
                Err(Denial::new(Reason::Icmpv6Type, "G4", text))
            }
        }
    }

    fn well_formed(&mut self, packet: &Packet<'_>, data: &[u8]) -> Outcome<()> {
        let wrong = |text: &str| Denial::new(Reason::NdMalformed, "G5", text);
        if packet.next != ICMPV6 {
            return Err(wrong(
                "neighbour discovery behind an extension or fragment header (RFC 6980)",
            ));
        }
        if packet.hop_limit != 255 {
            return Err(wrong("neighbour discovery whose hop limit is not 255"));
        }
        if octet(data, 1) != Some(0) {
            return Err(wrong("neighbour discovery whose code is not 0"));
        }
        self.step("G5", "hop limit 255, code 0, no extension header");
        Ok(())
    }

    /// The one option that neighbour discovery may have behind `at` octets.
    fn option(&self, packet: &Packet<'_>, data: &[u8], at: u16, kind: u8) -> NdOption {
        let from = usize::from(at);
        if packet.length == at {
            return NdOption::None;
        }
        if packet.length != at + 8 || word(data, from) != Some(u16::from_be_bytes([kind, 1])) {
            return NdOption::Wrong;
        }
        match link_layer(data, from + 2) {
            Some(mac) if self.owner.is_real_mac(mac) => NdOption::Own,
            Some(mac) => NdOption::Other(mac),
            None => NdOption::Wrong,
        }
    }

    fn router_solicitation(
        &mut self,
        frame: &Frame<'_>,
        packet: &Packet<'_>,
        data: &[u8],
    ) -> Outcome {
        self.well_formed(packet, data)?;
        if packet.destination != Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 2) {
            return Err(spoof(
                "G6",
                "a router solicitation to somebody else than ff02::2",
            ));
        }
        match self.option(packet, data, 8, 1) {
            NdOption::None if packet.source.is_unspecified() => {
                self.step("G6", "a router solicitation from ::");
                Ok(Unjudged)
            }
            NdOption::None | NdOption::Own => self.own_source(frame, packet),
            NdOption::Other(other) => Err(names("G6", other)),
            NdOption::Wrong => Err(spoof("G6", "a router solicitation with other options")),
        }
    }

    fn solicitation(&mut self, frame: &Frame<'_>, packet: &Packet<'_>, data: &[u8]) -> Outcome {
        self.well_formed(packet, data)?;
        if packet.source.is_unspecified() {
            return self.probe(packet, data);
        }
        match self.option(packet, data, 24, 1) {
            NdOption::None | NdOption::Own => self.bound(frame, packet),
            NdOption::Other(other) => Err(names("G7", other)),
            NdOption::Wrong => Err(spoof("G7", "a neighbour solicitation with other options")),
        }
    }

    fn probe(&mut self, packet: &Packet<'_>, data: &[u8]) -> Outcome {
        let solicited = packet.destination.octets();
        if !matches!(solicited, [0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, ..]) {
            return Err(spoof("G8", "an address probe to no solicited-node group"));
        }
        let nonce = packet.length == 32 && word(data, 24) == Some(0x0e01);
        if packet.length != 24 && !nonce {
            return Err(spoof(
                "G8",
                "an address probe with other options than a nonce",
            ));
        }
        self.target(data)?;
        self.step("G8", "an address probe for an address of the NIC");
        Ok(Unjudged)
    }

    fn advertisement(&mut self, frame: &Frame<'_>, packet: &Packet<'_>, data: &[u8]) -> Outcome {
        self.well_formed(packet, data)?;
        if packet.length < 24 {
            return Err(spoof("G9", "a neighbour advertisement without a target"));
        }
        self.target(data)?;
        match self.option(packet, data, 24, 2) {
            NdOption::None | NdOption::Own => self.own_source(frame, packet),
            NdOption::Other(other) if self.speaks_for_shared(other, data) => {
                self.own_source(frame, packet)
            }
            NdOption::Other(other) => Err(names("G9", other)),
            NdOption::Wrong => Err(spoof("G9", "a neighbour advertisement with other options")),
        }
    }

    fn speaks_for_shared(&self, mac: [u8; 6], data: &[u8]) -> bool {
        let nic = self.owner.nic;
        let shared = address(data, 8).is_some_and(|target| nic.shared.contains(&target));
        shared && nic.virtual_macs.iter().any(|own| own.octets() == mac)
    }

    fn target(&mut self, data: &[u8]) -> Outcome<()> {
        let Some(target) = address(data, 8) else {
            return Err(spoof("G8 G9", "neighbour discovery without a target"));
        };
        if self.may(Permission::AnySource) {
            self.step(
                "G8 G9",
                format!("target {target}: any is permitted (ANY_SOURCE)"),
            );
            return Ok(());
        }
        let owned = self.owner.as_target(self.learned, target)?;
        self.step("G8 G9", format!("target {target}: {}", owned.words()));
        Ok(())
    }

    fn mld(&mut self, frame: &Frame<'_>, packet: &Packet<'_>) -> Outcome {
        let wrong = |text: &str| Denial::new(Reason::Mld, "G10", text);
        if packet.hop_limit != 1 {
            return Err(wrong("MLD whose hop limit is not 1"));
        }
        if !is_all_there(packet) {
            return Err(wrong("MLD behind more than a router alert, or cut off"));
        }
        if packet.source.is_unspecified() {
            self.step("G10", "MLD from ::");
            return Ok(Unjudged);
        }
        if !is_link_local(packet.source) {
            return Err(wrong("MLD from an address that is not link-local"));
        }
        self.step("G10", "MLD with hop limit 1, from a link-local address");
        self.own_source(frame, packet)
    }

    fn own_source(&mut self, frame: &Frame<'_>, packet: &Packet<'_>) -> Outcome {
        let source = packet.source;
        let owned = self.owner.as_source(self.learned, frame.source, source)?;
        self.step("G13", format!("source {source}: {}", owned.words()));
        Ok(ToGroups)
    }

    /// The source is the NIC's own, or any where that is permitted.
    fn bound(&mut self, frame: &Frame<'_>, packet: &Packet<'_>) -> Outcome {
        let any = self.may(Permission::AnySource) && self.owner.is_real_mac(frame.source);
        if any {
            self.step("G13", "any source is permitted (ANY_SOURCE)");
            return Ok(ToGroups);
        }
        self.own_source(frame, packet)
    }
}

enum NdOption {
    None,
    /// It names the NIC's own MAC.
    Own,
    /// It names this one.
    Other([u8; 6]),
    /// It is another, or there are more.
    Wrong,
}

/// Whether a first fragment itself shows what it is of: the frame's padding, which is read like
/// the rest, does not come with it.
pub(super) fn first_fragment(packet: &Packet<'_>) -> Result<(), &'static str> {
    match packet.fragment.map(|fragment| fragment.next) {
        Some(HOP_BY_HOP | ROUTING | FRAGMENT) => {
            return Err(
                "behind the fragment header is another header that could hide a second one",
            );
        }
        Some(AUTHENTICATION) => return first_fragment_of_ah(packet),
        Some(DESTINATION) => {}
        Some(_) | None => return Ok(()),
    }
    let options = packet.header(DESTINATION);
    let units = options.and_then(|header| octet(packet.octets, header.at + 1));
    if let Some(HOP_BY_HOP | ROUTING | FRAGMENT | AUTHENTICATION | DESTINATION) =
        options.map(|header| header.next)
    {
        return Err("behind the fragment header are options that could hide a second one");
    }
    if let (FRAGMENT, Some(0..=7), 80..) | (FRAGMENT, Some(0..=143), 1168..) =
        (packet.next, units, packet.length)
    {
        return Ok(());
    }
    Err("a first fragment too short for its options and what is behind them")
}

/// One without an octet behind its headers is not joined, but goes on by itself.
fn first_fragment_of_ah(packet: &Packet<'_>) -> Result<(), &'static str> {
    let (at, more) = packet.fragment.map_or((0, false), |f| (f.at + 8, f.more));
    match (
        more,
        packet.next,
        octet(packet.octets, at + 1),
        packet.length,
    ) {
        (false, ..) | (true, FRAGMENT, Some(0..=10), 64..) | (true, FRAGMENT, _, 1044..) => Ok(()),
        _ => Err("a first fragment too short for its AH and what is behind it"),
    }
}

/// Reassembly lets such a fragment go on by itself (`nf_ct_frag6_gather`).
pub(super) const OFF_8_OCTETS: &str =
    "a fragment that is not the last ends off 8 octets (RFC 8200 §4.5)";

/// G3: what hides behind a second header of a kind that is looked for once.
fn headers(packet: &Packet<'_>) -> Outcome<()> {
    let hides = |text: &str| Err(Denial::new(Reason::ExtHeader, "G3", text));
    first_fragment(packet).or_else(hides)?;
    let Some(routing) = packet.header(ROUTING) else {
        return Ok(());
    };
    let (kind, left) = (
        octet(packet.octets, routing.at + 2),
        octet(packet.octets, routing.at + 3),
    );
    if left.is_some_and(|left| left != 0) && kind.is_some_and(|kind| kind != 2) {
        return hides("a routing header that is not used up, of another type than 2 (RFC 5095)");
    }
    if let HOP_BY_HOP | ROUTING | DESTINATION = routing.next {
        return hides("behind the routing header is another header that could hide a second one");
    }
    Ok(())
}

/// Whether MLD has its header within the packet's length, behind nothing but a router alert.
fn is_all_there(packet: &Packet<'_>) -> bool {
    match (packet.next, packet.headers.as_slice()) {
        (ICMPV6, _) => packet.length >= 8,
        (
            HOP_BY_HOP,
            [
                Header {
                    next: ICMPV6, at, ..
                },
            ],
        ) => octet(packet.octets, at + 1) == Some(0) && packet.length >= 16,
        _ => false,
    }
}

fn spoof(row: &'static str, text: &str) -> Denial {
    Denial::new(Reason::NdSpoof, row, text)
}

fn names(row: &'static str, other: [u8; 6]) -> Denial {
    let text = format!("its link-layer address option names {}", Mac::text(other));
    Denial::new(Reason::NdSpoof, row, text).hint(hint::OTHERS_LLADDR.to_owned())
}

fn not_carried(ether_type: u16) -> Denial {
    let (text, hint) = match ether_type {
        0x8100 | 0x88a8 => ("a VLAN tag".to_owned(), Some(hint::VLAN)),
        0x0800 | 0x0806 => (
            "IPv4 or ARP, which this NIC does not carry".to_owned(),
            Some("the NIC's ipv4 is BLOCK"),
        ),
        0..0x0600 => ("an LLC frame".to_owned(), None),
        other => (format!("EtherType {other:#06x}"), None),
    };
    Denial::new(Reason::Ethertype, "G2", text).hint(hint.map(str::to_owned))
}
