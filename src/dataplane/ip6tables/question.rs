//! Words of iptables for fields of a packet: `u32`, which reads octets from the IPv6 header on.

use std::net::Ipv6Addr;

use crate::model::{Mac, Prefix};

/// Where the upper layer begins when no extension header is before it.
const UPPER: usize = 40;

/// Where ND messages have their target, and where their options begin.
const TARGET: usize = UPPER + 8;
pub(super) const OPTION_OF_RS: usize = UPPER + 8;
pub(super) const OPTION: usize = UPPER + 24;

/// A question to `u32`: tests that all have to hold.
#[derive(Debug, Clone, Default)]
pub(super) struct Question(Vec<String>);

impl Question {
    fn and(mut self, test: String) -> Self {
        self.0.push(test);
        self
    }

    /// ND as it has to be (G5): no extension header, hop limit 255, code 0.
    pub(super) fn well_formed_nd() -> Self {
        Self::default()
            .and("4&0xffff=0x3aff".to_owned())
            .and("40>>16&0xff=0".to_owned())
    }

    /// Octets behind the IPv6 header.
    pub(super) fn length(self, octets: u16) -> Self {
        self.and(format!("4>>16={octets}"))
    }

    /// At least so many.
    pub(super) fn length_from(self, octets: u16) -> Self {
        self.and(format!("4>>16={octets}:65535"))
    }

    /// At a place, an option of this type, of 8 octets.
    pub(super) fn option(self, at: usize, kind: u8) -> Self {
        let head = u16::from_be_bytes([kind, 1]);
        self.and(format!("{at}>>16={head:#x}"))
    }

    /// In the option at a place, this MAC.
    pub(super) fn option_names(self, at: usize, mac: Mac) -> Self {
        let (first, second) = halves(mac);
        // Four octets are read at a time, and the option is the end of the packet.
        let (at, rest) = (at + 2, at + 4);
        self.and(format!("{at}={first:#x}"))
            .and(format!("{rest}&0xffff={second:#x}"))
    }

    /// The target of NS or NA is in a prefix.
    pub(super) fn target_in(mut self, prefix: &Prefix) -> Self {
        let words = |address: Ipv6Addr| {
            let number = u128::from(address);
            let word =
                |shift: u32| u32::try_from((number >> shift) & 0xffff_ffff).unwrap_or_default();
            [96, 64, 32, 0].map(word)
        };
        let (values, masks) = (words(prefix.network()), words(prefix.mask()));
        for (i, (value, mask)) in values.into_iter().zip(masks).enumerate() {
            let at = TARGET + 4 * i;
            match mask {
                0 => {}
                u32::MAX => self = self.and(format!("{at}={value:#x}")),
                _ => self = self.and(format!("{at}&{mask:#x}={value:#x}")),
            }
        }
        self
    }

    /// The address of the target of NS or NA.
    pub(super) fn target(self, address: Ipv6Addr) -> Self {
        self.target_in(&Prefix::host(address))
    }

    /// Any other test.
    pub(super) fn raw(self, test: &str) -> Self {
        self.and(test.to_owned())
    }

    /// As a match.
    pub(super) fn holds(&self) -> String {
        format!("-m u32 --u32 \"{}\"", self.0.join("&&"))
    }

    /// As a match of all else. What is too short for a test does not hold, either.
    pub(super) fn fails(&self) -> String {
        format!("-m u32 ! --u32 \"{}\"", self.0.join("&&"))
    }
}

/// The first four octets of a MAC, and the last two.
pub(super) fn halves(mac: Mac) -> (u32, u16) {
    let [a, b, c, d, rest @ ..] = mac.octets();
    (u32::from_be_bytes([a, b, c, d]), u16::from_be_bytes(rest))
}
