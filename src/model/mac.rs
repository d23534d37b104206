//! MAC addresses and what is derived from them.

use std::{fmt, net::Ipv6Addr, str::FromStr};

use serde::{Deserialize, Serialize};

use super::{Prefix, ValueError};

/// A MAC address that an interface can have: unicast and not zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Mac([u8; 6]);

impl Mac {
    /// The address of these octets; refuses groups and zero.
    pub fn new(octets: [u8; 6]) -> Result<Self, ValueError> {
        let mac = Self(octets);
        if octets == [0; 6] {
            return Err(ValueError::new("a zero MAC address belongs to nobody"));
        }
        if octets[0] & 1 == 1 {
            return Err(ValueError::new(format!("{mac} is a multicast MAC address")));
        }
        Ok(mac)
    }

    /// The octets that a text says, those of groups and zero included.
    pub fn any_octets(text: &str) -> Result<[u8; 6], ValueError> {
        let wrong = || {
            ValueError::new(format!(
                "{text:?} is no MAC address: six octets in hexadecimal with colons are wanted"
            ))
        };
        let mut octets = [0; 6];
        let mut parts = text.split(':');
        for octet in &mut octets {
            let part = parts.next().ok_or_else(wrong)?;
            if part.len() != 2 || !part.bytes().all(|b| b.is_ascii_hexdigit()) {
                return Err(wrong());
            }
            *octet = u8::from_str_radix(part, 16).map_err(|_| wrong())?;
        }
        if parts.next().is_some() {
            return Err(wrong());
        }
        Ok(octets)
    }

    /// Octets as they are written, those of groups and zero included.
    pub fn text(octets: [u8; 6]) -> String {
        octets.map(|octet| format!("{octet:02x}")).join(":")
    }

    /// The six octets.
    pub fn octets(self) -> [u8; 6] {
        self.0
    }

    /// The address that SLAAC makes of this MAC in a /64: the interface identifier is
    /// the modified EUI-64 of RFC 4291 appendix A.
    pub fn eui64(self, prefix: &Prefix) -> Ipv6Addr {
        let [first, second, third, ..] = self.0;
        let [.., fourth, fifth, sixth] = self.0;
        let id = [first ^ 2, second, third, 0xff, 0xfe, fourth, fifth, sixth];
        let id = u64::from_be_bytes(id);
        let network = u128::from(prefix.network());
        Ipv6Addr::from(network & !u128::from(u64::MAX) | u128::from(id))
    }

    /// The link-local address of this MAC (RFC 4862 §5.3 with EUI-64).
    pub fn link_local(self) -> Ipv6Addr {
        self.eui64(&Prefix::LINK_LOCAL_64)
    }

    /// The MAC that libvirt gives the host's end of a tap: the guest's with the first
    /// octet fe, or fa where the guest's is fe already (libvirt virnetdevtap.c).
    #[must_use]
    pub fn tap(self) -> Self {
        let mut octets = self.0;
        octets[0] = if octets[0] == 0xfe { 0xfa } else { 0xfe };
        Self(octets)
    }

    /// Whether this is a virtual router's: 00:00:5e:00:01:xx (VRRP for IPv4, CARP) or
    /// 00:00:5e:00:02:xx (VRRP for IPv6), RFC 9568 §7.3.
    pub fn is_virtual_router(self) -> bool {
        matches!(self.0, [0, 0, 0x5e, 0, 1 | 2, _])
    }
}

impl FromStr for Mac {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        Self::any_octets(text).and_then(Self::new)
    }
}

impl TryFrom<String> for Mac {
    type Error = ValueError;

    fn try_from(text: String) -> Result<Self, ValueError> {
        text.parse()
    }
}

impl From<Mac> for String {
    fn from(mac: Mac) -> Self {
        mac.to_string()
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&Self::text(self.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn eui64_flips_the_universal_bit_and_inserts_fffe() {
        let mac: Mac = "06:b2:00:00:04:79".parse().unwrap();
        let prefix: Prefix = "2001:db8:100:1::/64".parse().unwrap();
        assert_eq!(
            mac.eui64(&prefix).to_string(),
            "2001:db8:100:1:4b2:ff:fe00:479"
        );
        assert_eq!(mac.link_local().to_string(), "fe80::4b2:ff:fe00:479");
    }

    #[test]
    fn groups_zero_and_other_spellings_are_refused() {
        for bad in [
            "00:00:00:00:00:00",
            "01:00:5e:00:00:01",
            "ff:ff:ff:ff:ff:ff",
            "06-b2-00-00-04-79",
            "6:b2:0:0:4:79",
            "06:b2:00:00:04",
            "06:b2:00:00:04:79:00",
            "+6:b2:00:00:04:79",
            "",
        ] {
            assert!(bad.parse::<Mac>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_tap_carries_the_guests_mac_with_another_first_octet() {
        let tap = |text: &str| text.parse::<Mac>().unwrap().tap().to_string();
        assert_eq!(tap("06:b2:00:00:04:79"), "fe:b2:00:00:04:79");
        assert_eq!(tap("fe:b2:00:00:04:79"), "fa:b2:00:00:04:79");
    }
}
