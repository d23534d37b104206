//! Guests of Xen and their interfaces.

use std::{collections::BTreeMap, fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use super::{IfName, Mac, ValueError};

/// `DOMID_FIRST_RESERVED` (xen/include/public/xen.h): no domain has this number or a higher one.
const FIRST_RESERVED: u16 = 0x7ff0;

/// A virtual machine's UUID (RFC 9562 §4), which it keeps over reboots and migrations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct VmUuid(u128);

/// A running domain's number on its host: 1 to 32,751. It is another one after each start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "u32", into = "u32")]
pub struct Domain(u16);

/// One of a guest's NICs as Xen numbers them: the host calls its interfaces
/// `vif<domain>.<device>` and, where a device model runs, `tap<domain>.<device>`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct XenNic {
    /// Whose.
    pub domain: Domain,
    /// Which of the guest's, from 0.
    pub device: u32,
}

/// How a guest of Xen is named.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum XenGuest {
    /// By its UUID.
    Vm(VmUuid),
    /// By the number of its domain.
    Domain(Domain),
}

/// What Xen's store says of a NIC, where guests can't write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct XenFacts {
    /// The guest's MAC.
    pub mac: Mac,
    /// Whose it is; unknown for a moment when the domain is made.
    pub vm: Option<VmUuid>,
}

/// What is known of Xen's store.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct XenStore {
    /// The guests' NICs.
    pub nics: BTreeMap<XenNic, XenFacts>,
    /// How it is known.
    pub reading: Reading,
}

/// How Xen's store is known.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Reading {
    /// Not at all: this is no host of Xen's.
    #[default]
    Absent,
    /// As it is.
    Good,
    /// As it was, for it can't be read: why.
    Failed(String),
}

impl XenNic {
    /// The NIC whose interface is called so.
    pub fn of(name: &IfName) -> Option<Self> {
        let name = name.as_str();
        let numbers = name.strip_prefix("vif").or(name.strip_prefix("tap"))?;
        let (domain, device) = numbers.split_once('.')?;
        let domain = Domain::try_from(number(domain)?).ok()?;
        let device = number(device)?;
        Some(Self { domain, device })
    }
}

/// A number as the kernel writes it.
fn number(text: &str) -> Option<u32> {
    let number: u32 = text.parse().ok()?;
    (number.to_string() == text).then_some(number)
}

impl fmt::Display for XenNic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "device {} of domain {}", self.device, self.domain)
    }
}

impl fmt::Display for XenGuest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Vm(uuid) => write!(f, "VM {uuid}"),
            Self::Domain(domain) => write!(f, "domain {domain}"),
        }
    }
}

impl Domain {
    /// The number.
    pub fn number(self) -> u16 {
        self.0
    }
}

impl TryFrom<u32> for Domain {
    type Error = ValueError;

    fn try_from(number: u32) -> Result<Self, ValueError> {
        match u16::try_from(number) {
            Ok(domain @ 1..FIRST_RESERVED) => Ok(Self(domain)),
            Ok(0) => Err(ValueError::new("domain 0 is the host itself")),
            _ => Err(ValueError::new(format!(
                "{number} is no domain: at most {} is one",
                FIRST_RESERVED - 1
            ))),
        }
    }
}

impl From<Domain> for u32 {
    fn from(domain: Domain) -> Self {
        domain.0.into()
    }
}

impl fmt::Display for Domain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl FromStr for VmUuid {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let lengths = text.split('-').map(str::len);
        let digits = text.replace('-', "");
        let well_formed =
            lengths.eq([8, 4, 4, 4, 12]) && digits.bytes().all(|b| b.is_ascii_hexdigit());
        match u128::from_str_radix(&digits, 16) {
            Ok(uuid) if well_formed => Ok(Self(uuid)),
            _ => Err(ValueError::new(format!(
                "{text:?} is no UUID: 32 hexadecimal digits in groups of 8-4-4-4-12 are wanted"
            ))),
        }
    }
}

impl TryFrom<String> for VmUuid {
    type Error = ValueError;

    fn try_from(text: String) -> Result<Self, ValueError> {
        text.parse()
    }
}

impl From<VmUuid> for String {
    fn from(uuid: VmUuid) -> Self {
        uuid.to_string()
    }
}

impl fmt::Display for VmUuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut digits = format!("{:032x}", self.0);
        for hyphen in [20, 16, 12, 8] {
            digits.insert(hyphen, '-');
        }
        f.write_str(&digits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_interfaces_of_a_nic_are_known_by_their_names() {
        let of = |name: &str| {
            let nic = XenNic::of(&name.parse().unwrap())?;
            Some((nic.domain.number(), nic.device))
        };
        assert_eq!(of("vif7.0"), Some((7, 0)));
        assert_eq!(of("tap32751.12"), Some((32_751, 12)));
        for other in [
            "vif0.0",
            "vif32752.0",
            "vif07.0",
            "vif7.+1",
            "vif7",
            "vif7.0.1",
            "vnet7",
            "tap3",
        ] {
            assert_eq!(of(other), None, "{other}");
        }
    }

    #[test]
    fn a_uuid_has_one_spelling() {
        let uuid: VmUuid = "0a1B2c3d-0000-4fff-8000-00000000abCD".parse().unwrap();
        assert_eq!(uuid.to_string(), "0a1b2c3d-0000-4fff-8000-00000000abcd");
        for bad in [
            "",
            "0a1b2c3d00004fff80000000000000abcd",
            "0a1b2c3d-0000-4fff-8000-00000000abc",
            "+a1b2c3d-0000-4fff-8000-00000000abcd",
        ] {
            assert!(bad.parse::<VmUuid>().is_err(), "{bad:?}");
        }
    }
}
