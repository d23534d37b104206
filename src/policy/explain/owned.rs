//! Whether an address is the NIC's own (rows G6 to G9, G13, T5).

use std::{collections::BTreeSet, net::Ipv6Addr};

use super::trace::Denial;
use crate::{
    model::{Mac, Prefix, is_link_local},
    ruleset::{BridgeRules, Learned, NicNumber, NicRules, Reason, Ruleset},
};

/// How many link-local addresses a NIC may have that are first come, first served.
const CLAIMS: usize = 4;

/// A NIC at one of its interfaces.
#[derive(Debug, Clone, Copy)]
pub(super) struct Owner<'a> {
    pub(super) ruleset: &'a Ruleset,
    pub(super) number: NicNumber,
    pub(super) nic: &'a NicRules,
    pub(super) bridge: &'a BridgeRules,
}

/// Why an address may be used.
pub(super) enum Owned {
    /// It is the NIC's.
    Address,
    /// It is in a prefix of the NIC's.
    Prefix(Prefix),
    /// The NIC was the first to use it, now or before.
    Claimed,
}

impl Owned {
    pub(super) fn words(&self) -> String {
        match self {
            Self::Address => "an address of the NIC".to_owned(),
            Self::Prefix(prefix) => format!("in {prefix}, a prefix of the NIC"),
            Self::Claimed => "a link-local address that the NIC was first to use".to_owned(),
        }
    }
}

impl Owner<'_> {
    pub(super) fn is_own_mac(&self, mac: [u8; 6]) -> bool {
        let mut all = std::iter::once(&self.nic.mac).chain(&self.nic.virtual_macs);
        all.any(|own| own.octets() == mac)
    }

    pub(super) fn is_real_mac(&self, mac: [u8; 6]) -> bool {
        self.nic.mac.octets() == mac
    }

    /// Whether a MAC and an address of the NIC go together: a virtual MAC goes with shared
    /// addresses only.
    fn goes_with(&self, mac: [u8; 6], address: Ipv6Addr) -> bool {
        if self.is_real_mac(mac) {
            self.nic.on_link.contains(&address)
        } else {
            self.is_own_mac(mac) && self.nic.shared.contains(&address)
        }
    }

    /// The source of a frame from this MAC, or nothing.
    pub(super) fn as_source(
        &self,
        learned: &mut Learned,
        mac: [u8; 6],
        address: Ipv6Addr,
    ) -> Result<Owned, Denial> {
        if self.goes_with(mac, address) {
            return Ok(Owned::Address);
        }
        let real = self.is_real_mac(mac);
        let mut prefixes = self.nic.delegated.iter().chain(&self.nic.on_link_prefix);
        if let Some(prefix) = prefixes.find(|prefix| real && prefix.contains(address)) {
            return Ok(Owned::Prefix(*prefix));
        }
        let denied = |why: &str| {
            let text = format!("the source {address} {why}");
            Denial::new(Reason::SpoofedSource, "G13", text)
        };
        if !self.nic.any_link_local || !Prefix::LINK_LOCAL_64.contains(address) {
            let why = if real {
                "is not the NIC's"
            } else {
                "does not go with the virtual MAC that it is sent from"
            };
            return Err(denied(why).hint(self.hint(address)));
        }
        if !real {
            return Err(denied(
                "does not go with the virtual MAC that it is sent from",
            ));
        }
        self.claim(learned, address).map_err(|why| denied(&why))
    }

    /// The target of neighbour discovery: on the link, so not in a delegated prefix.
    pub(super) fn as_target(
        &self,
        learned: &mut Learned,
        address: Ipv6Addr,
    ) -> Result<Owned, Denial> {
        if self.nic.on_link.contains(&address) {
            return Ok(Owned::Address);
        }
        if let Some(prefix) = self.nic.on_link_prefix
            && prefix.contains(address)
        {
            return Ok(Owned::Prefix(prefix));
        }
        let denied = |why: &str| {
            let text = format!("the target {address} {why}");
            Denial::new(Reason::NdSpoof, "G8 G9", text)
        };
        if self.nic.any_link_local && Prefix::LINK_LOCAL_64.contains(address) {
            return self.claim(learned, address).map_err(|why| denied(&why));
        }
        if self.nic.delegated.iter().any(|p| p.contains(address)) {
            let hint = "a delegated prefix is routed to the instance, not on the link: nobody \
                        asks for its neighbours there; the guest should answer for none of it";
            return Err(denied("is in a delegated prefix").hint(hint.to_owned()));
        }
        Err(denied("is not the NIC's").hint(self.hint(address)))
    }

    /// A destination that is delivered to this MAC.
    pub(super) fn is_destination(
        &self,
        learned: &Learned,
        mac: [u8; 6],
        address: Ipv6Addr,
    ) -> bool {
        let mut prefixes = self.nic.delegated.iter().chain(&self.nic.on_link_prefix);
        let claims = learned.claims.get(&self.number);
        self.goes_with(mac, address)
            || claims.is_some_and(|claims| claims.contains(&address))
            || (self.is_real_mac(mac) && prefixes.any(|prefix| prefix.contains(address)))
    }

    /// A link-local address that nobody owns is the first one's to use it.
    fn claim(&self, learned: &mut Learned, address: Ipv6Addr) -> Result<Owned, String> {
        if learned.heard_routers.contains(&address) {
            return Err("is a router's that advertised itself from outside".to_owned());
        }
        if self.bridge.owned_link_locals.contains(&address) {
            return Err("is another NIC's, a router's or the host's".to_owned());
        }
        let taken = |(number, claims): (&NicNumber, &BTreeSet<Ipv6Addr>)| {
            *number != self.number && claims.contains(&address) && self.is_near(*number)
        };
        if learned.claims.iter().any(taken) {
            return Err("was another NIC's first".to_owned());
        }
        let own = learned.claims.entry(self.number).or_default();
        if own.len() >= CLAIMS && !own.contains(&address) {
            return Err(format!(
                "would be the NIC's fifth; it uses {CLAIMS} at a time"
            ));
        }
        own.insert(address);
        Ok(Owned::Claimed)
    }

    fn is_near(&self, other: NicNumber) -> bool {
        let bridges = |nic: &NicRules| -> BTreeSet<_> {
            nic.interfaces.values().map(|(_, bridge)| *bridge).collect()
        };
        let other = self.ruleset.nics.get(&other).map(|nic| bridges(nic));
        other.is_some_and(|other| other.contains(&self.bridge.number))
    }

    /// What an address that is not the NIC's usually is.
    fn hint(&self, address: Ipv6Addr) -> Option<String> {
        if address.is_unspecified() {
            return Some("only neighbour discovery and MLD are sent from ::".to_owned());
        }
        if address.is_multicast() || address.is_loopback() {
            return None;
        }
        if let Some(other) = self.holder(address) {
            return Some(format!("{address} belongs to NIC {other}"));
        }
        let network = Prefix::link_of(address);
        if is_link_local(address) {
            if self.bridge.routers.contains(&address) {
                return Some(format!("{address} is a router's"));
            }
            return Some(format!(
                "{address} is not the link-local address of this MAC, which is {}: Windows, \
                 macOS and NetworkManager make others (RFC 7217); such a guest needs link_local \
                 ANY_UNOWNED or EXPLICIT",
                self.nic.mac.link_local()
            ));
        }
        let mut here = self.nic.on_link.iter().map(|own| Prefix::link_of(*own));
        if !here.any(|own| own == network) {
            return Some(format!(
                "{address} is in no prefix that this NIC has an address in: should it be among \
                 its addresses or its delegated prefixes?"
            ));
        }
        if address == self.nic.mac.eui64(&network) {
            return Some(format!(
                "{address} is the EUI-64 address of this MAC in {network}, which is not its \
                 slaac_prefix"
            ));
        }
        Some(match embedded_mac(address) {
            Some(mac) => format!(
                "{address} is the EUI-64 address of another MAC, {mac}: the guest bridges for \
                 somebody, or changed its MAC"
            ),
            None => format!(
                "{address} is not the EUI-64 address of this MAC: the guest uses privacy \
                 addresses (RFC 8981), stable-privacy addresses (RFC 7217), or one that was \
                 configured by hand"
            ),
        })
    }

    fn holder(&self, address: Ipv6Addr) -> Option<&str> {
        let mut others = self.ruleset.nics.values();
        let holds = |nic: &NicRules| {
            let mut prefixes = nic.delegated.iter().chain(&nic.on_link_prefix);
            nic.on_link.contains(&address) || prefixes.any(|prefix| prefix.contains(address))
        };
        let found = others.find(|nic| nic.id != self.nic.id && holds(nic))?;
        Some(found.id.as_str())
    }
}

/// The MAC that an address was made of (RFC 4291 appendix A).
fn embedded_mac(address: Ipv6Addr) -> Option<Mac> {
    let [.., first, second, third, 0xff, 0xfe, fourth, fifth, sixth] = address.octets() else {
        return None;
    };
    Mac::new([first ^ 2, second, third, fourth, fifth, sixth]).ok()
}
