//! IPv6 prefixes and which addresses may be owned.

use std::{fmt, net::Ipv6Addr, str::FromStr};

use ipnet::Ipv6Net;
use serde::{Deserialize, Serialize};

use super::ValueError;

/// An IPv6 prefix without host bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Prefix(Ipv6Net);

impl Prefix {
    /// `fe80::/64`, where every link-local address in use is (RFC 4291 §2.5.6).
    pub const LINK_LOCAL_64: Self = Self(Ipv6Net::new_assert(
        Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0),
        64,
    ));

    /// The prefix that holds this one address.
    pub fn host(address: Ipv6Addr) -> Self {
        Self(Ipv6Net::from(address))
    }

    /// The /64 that holds this address: a link's, as hosts make addresses in it.
    pub fn link_of(address: Ipv6Addr) -> Self {
        Self(Ipv6Net::new_assert(address, 64).trunc())
    }

    /// Its first address.
    pub fn network(&self) -> Ipv6Addr {
        self.0.network()
    }

    /// Its length in bits.
    pub fn length(&self) -> u8 {
        self.0.prefix_len()
    }

    /// Its mask as an address.
    pub fn mask(&self) -> Ipv6Addr {
        self.0.netmask()
    }

    /// Whether the address is in it.
    pub fn contains(&self, address: Ipv6Addr) -> bool {
        self.0.contains(&address)
    }

    /// Whether the two share an address.
    pub fn overlaps(&self, other: &Self) -> bool {
        self.0.contains(&other.0) || other.0.contains(&self.0)
    }

    /// The fewest prefixes that hold the same addresses: none within another.
    pub fn aggregate(prefixes: impl IntoIterator<Item = Self>) -> Vec<Self> {
        let all: Vec<_> = prefixes.into_iter().map(|prefix| prefix.0).collect();
        Ipv6Net::aggregate(&all).into_iter().map(Self).collect()
    }

    /// Its first and last address.
    pub fn bounds(&self) -> (Ipv6Addr, Ipv6Addr) {
        (self.0.network(), self.0.broadcast())
    }
}

impl FromStr for Prefix {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let wrong = |why: &str| ValueError::new(format!("{text:?} is no IPv6 prefix: {why}"));
        let (address, length) = text
            .split_once('/')
            .ok_or_else(|| wrong("the length is missing"))?;
        let address = parse_address(address)?;
        let length: u8 = match length.parse() {
            Ok(n) if n <= 128 && length == format!("{n}") => n,
            _ => return Err(wrong("the length must be 0 to 128")),
        };
        let net = Ipv6Net::new(address, length).map_err(|e| wrong(&e.to_string()))?;
        if net.network() != address {
            return Err(ValueError::new(format!(
                "{text} has host bits; the prefix is {}",
                net.trunc()
            )));
        }
        Ok(Self(net))
    }
}

impl TryFrom<String> for Prefix {
    type Error = ValueError;

    fn try_from(text: String) -> Result<Self, ValueError> {
        text.parse()
    }
}

impl From<Prefix> for String {
    fn from(prefix: Prefix) -> Self {
        prefix.to_string()
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// An address in the one spelling of RFC 5952 §4: a store, a log and a search then
/// mean the same by it.
pub(super) fn parse_address(text: &str) -> Result<Ipv6Addr, ValueError> {
    if text.parse::<std::net::Ipv4Addr>().is_ok() {
        return Err(ValueError::new(format!(
            "{text} is an IPv4 address; IPv6 is wanted"
        )));
    }
    let address: Ipv6Addr = text
        .parse()
        .map_err(|_| ValueError::new(format!("{text:?} is no IPv6 address")))?;
    if address.to_string() != text {
        return Err(ValueError::new(format!(
            "{text} is not in canonical form (RFC 5952), which is {address}"
        )));
    }
    Ok(address)
}

/// Whether the address is in `fe80::/10` (RFC 4291 §2.4).
pub fn is_link_local(address: Ipv6Addr) -> bool {
    address.segments()[0] & 0xffc0 == 0xfe80
}

/// Parses an address that an instance can own beyond its link: not unspecified,
/// loopback, multicast, link-local or v4-mapped (RFC 4291 §2.4, §2.5.5.2).
pub fn global_unicast(text: &str) -> Result<Ipv6Addr, ValueError> {
    let address = parse_address(text)?;
    match not_global(address) {
        Some(kind) => Err(ValueError::new(format!("{text} is {kind} address"))),
        None => Ok(address),
    }
}

/// What an address is that nobody owns beyond a link.
pub(super) fn not_global(address: Ipv6Addr) -> Option<&'static str> {
    if address.is_unspecified() {
        Some("the unspecified")
    } else if address.is_loopback() {
        Some("the loopback")
    } else if address.is_multicast() {
        Some("a multicast")
    } else if is_link_local(address) {
        Some("a link-local")
    } else if address.to_ipv4_mapped().is_some() {
        Some("an IPv4-mapped")
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_has_no_host_bits_and_one_spelling() {
        assert!("2001:db8:100:1010::/60".parse::<Prefix>().is_ok());
        for bad in [
            "2001:db8::1/64",
            "2001:db8::",
            "2001:db8::/129",
            "2001:db8::/064",
            "2001:db8::/",
            "2001:0db8::/32",
            "2001:DB8::/32",
            "10.0.0.0/8",
            "x/64",
        ] {
            assert!(bad.parse::<Prefix>().is_err(), "{bad}");
        }
    }

    #[test]
    fn only_global_unicast_addresses_can_be_owned() {
        assert!(global_unicast("2001:db8::1").is_ok());
        assert!(global_unicast("fd00::1").is_ok());
        for (bad, word) in [
            ("fe80::1", "link-local"),
            ("ff02::1", "multicast"),
            ("::1", "loopback"),
            ("::", "unspecified"),
            ("::ffff:192.0.2.1", "mapped"),
            ("192.0.2.1", "IPv4"),
            ("2001:0db8::1", "canonical"),
            ("2001:db8::1/128", "no IPv6 address"),
        ] {
            let error = global_unicast(bad).unwrap_err().to_string();
            assert!(error.contains(word), "{bad}: {error}");
        }
    }

    #[test]
    fn overlap_means_a_shared_address() {
        let prefix = |text: &str| text.parse::<Prefix>().unwrap();
        assert!(prefix("2001:db8::/32").overlaps(&prefix("2001:db8:1::/48")));
        assert!(prefix("2001:db8:1::/48").overlaps(&prefix("2001:db8::/32")));
        assert!(!prefix("2001:db8:1::/48").overlaps(&prefix("2001:db8:2::/48")));
    }
}
