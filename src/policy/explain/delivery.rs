//! The guard on what is delivered to a NIC: rows T1 to T5. One frame at a time where it
//! enters the bridge, the packet as a whole where it leaves it.

use std::net::Ipv6Addr;

use super::{
    guard::{OFF_8_OCTETS, first_fragment},
    hint,
    octets::{Frame, IPV6, Packet, octet, word},
    owned::Owner,
    trace::{Denial, Stage, Trace},
};
use crate::{
    model::{Mac, is_link_local},
    ruleset::{ICMPV6, Learned, Reason, UDP},
};

/// Whether groups judge what the guard delivers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Delivered {
    /// By the guard alone.
    Unjudged,
    /// If the stateful stage allows it.
    ToGroups,
}

/// T4 where a fragment enters by an uplink, before it is joined with others. Says who
/// advertises itself as a router: its address is nobody's to be first to use.
pub(super) fn entering(octets: &[u8], trace: &mut Trace) -> Result<Option<Ipv6Addr>, Denial> {
    let frame = Frame::of(octets).map(Frame::untagged);
    let frame = frame.filter(|frame| frame.ether_type == IPV6);
    let Some(Ok(packet)) = frame.map(|frame| Packet::of(frame.payload)) else {
        return Ok(None);
    };
    if packet.fragment.is_none() {
        let kind = packet.upper(ICMPV6).and_then(|data| octet(data, 0));
        let router = kind == Some(134) && packet.hop_limit == 255;
        return Ok(router.then_some(packet.source));
    }
    if packet.ends_off_8_octets() {
        return Err(Denial::new(Reason::ExtHeader, "T4", OFF_8_OCTETS));
    }
    if packet.is_later_fragment() {
        return Ok(None);
    }
    if let Err(why) = first_fragment(&packet) {
        return Err(Denial::new(Reason::ExtHeader, "T4", why));
    }
    match packet.upper(ICMPV6).map(|data| octet(data, 0)) {
        Some(Some(133..=137)) => {
            let text = "neighbour discovery in fragments (RFC 6980)";
            return Err(Denial::new(Reason::NdMalformed, "T4", text));
        }
        Some(None) => {
            let text = "the first fragment does not reach the upper layer (RFC 7112)";
            return Err(Denial::new(Reason::ExtHeader, "T4", text));
        }
        Some(Some(_)) | None => {}
    }
    trace.step(Stage::Guard, "T4", "no neighbour discovery in fragments");
    Ok(None)
}

pub(super) struct Delivery<'a, 'b> {
    pub(super) owner: Owner<'a>,
    pub(super) learned: &'b Learned,
    pub(super) trace: &'b mut Trace,
}

impl Delivery<'_, '_> {
    /// Judges the packet that a frame of this head brings; nothing, where it is no IPv6.
    pub(super) fn frame(
        &mut self,
        head: &Frame<'_>,
        packet: Option<&Packet<'_>>,
    ) -> Result<Delivered, Denial> {
        let to = head.destination;
        if to[0] & 1 == 0 && !self.owner.is_own_mac(to) {
            let text = format!(
                "the frame is to {}, the NIC's MAC is {}",
                Mac::text(to),
                self.owner.nic.mac
            );
            let denial = Denial::new(Reason::NotForNic, "T1", text);
            return Err(denial.hint(hint::FLOODED.to_owned()));
        }
        self.step("T1", format!("to {}", Mac::text(to)));
        match head.ether_type {
            IPV6 => {}
            0x0800 | 0x0806 if self.owner.nic.ipv4 => {
                self.step("T2", "IPv4 or ARP, which is left to others (ipv4: PASS)");
                return Ok(Delivered::Unjudged);
            }
            other => {
                let text = format!("EtherType {other:#06x}, which this NIC does not carry");
                return Err(Denial::new(Reason::Ethertype, "T2", text));
            }
        }
        self.step("T2", "IPv6, without a tag");
        let Some(packet) = packet else {
            return Ok(Delivered::ToGroups);
        };
        let kind = packet.upper(ICMPV6).and_then(|data| octet(data, 0));
        match kind {
            Some(134 | 137) => return self.advertisement(packet),
            Some(135 | 136) => self.neighbour(packet)?,
            _ => {}
        }
        if packet.upper(UDP).and_then(|data| word(data, 2)) == Some(546) {
            return self.dhcpv6(packet, to);
        }
        Ok(Delivered::ToGroups)
    }

    fn step(&mut self, row: &'static str, text: impl Into<String>) {
        self.trace.step(Stage::Guard, row, text);
    }

    fn advertisement(&mut self, packet: &Packet<'_>) -> Result<Delivered, Denial> {
        let rogue = |text: String| Denial::new(Reason::RogueRa, "T3", text);
        let source = packet.source;
        if !is_link_local(source) {
            return Err(rogue(format!("from {source}, which is not link-local")));
        }
        if packet.hop_limit != 255 {
            return Err(rogue("its hop limit is not 255".to_owned()));
        }
        let routers = &self.owner.bridge.routers;
        if !routers.is_empty() && !routers.contains(&source) {
            let hint = "the bridge's configuration names its `routers`, and this is none of them";
            let text = format!("from {source}, which is no router");
            return Err(rogue(text).hint(hint.to_owned()));
        }
        self.step(
            "T3",
            format!("a router advertisement or redirect from {source}"),
        );
        Ok(Delivered::Unjudged)
    }

    fn neighbour(&mut self, packet: &Packet<'_>) -> Result<(), Denial> {
        let code = packet.upper(ICMPV6).and_then(|data| octet(data, 1));
        if packet.hop_limit != 255 || code != Some(0) {
            let text = "neighbour discovery whose hop limit is not 255, or whose code is not 0";
            return Err(Denial::new(Reason::NdMalformed, "T4", text));
        }
        self.step("T4", "neighbour discovery with hop limit 255 and code 0");
        Ok(())
    }

    fn dhcpv6(&mut self, packet: &Packet<'_>, to: [u8; 6]) -> Result<Delivered, Denial> {
        let rogue = |text: String| Denial::new(Reason::RogueDhcpv6, "T5", text);
        let (source, destination) = (packet.source, packet.destination);
        if !self.owner.is_destination(self.learned, to, destination) {
            return Err(rogue(format!(
                "a DHCPv6 reply to {destination}, which is not the NIC's"
            )));
        }
        let servers = &self.owner.bridge.dhcpv6_servers;
        let known = if servers.is_empty() {
            is_link_local(source)
        } else {
            servers.contains(&source)
        };
        if !known {
            let hint = "the bridge's configuration says who the `dhcpv6_servers` are; without a \
                        list, any link-local address";
            let text = format!("a DHCPv6 reply from {source}, which is no server");
            return Err(rogue(text).hint(hint.to_owned()));
        }
        self.step("T5", format!("a DHCPv6 reply from {source}"));
        Ok(Delivered::Unjudged)
    }
}
