//! Single values that the API carries as text.

use std::net::Ipv6Addr;

use super::{Faults, Path};
use crate::agent::Reason;
use crate::model::{GroupId, IfName, Label, Mac, NicId, Prefix, global_unicast};

/// Longest `instance_id`, in characters.
const MAX_INSTANCE_ID: usize = 128;

/// What is not global unicast and so nobody's on a NIC: first and last address, name
/// (RFC 4291 §2.4, §2.5.5).
const NOT_GLOBAL: [(u128, u128, &str); 4] = [
    (
        0,
        0xffff_ffff,
        "::/96, the loopback and IPv4-compatible addresses",
    ),
    (
        0xffff << 32,
        (0xffff << 32) | 0xffff_ffff,
        "::ffff:0:0/96, the IPv4-mapped addresses",
    ),
    (
        0xfe80 << 112,
        (0xfec0 << 112) - 1,
        "fe80::/10, the link-local addresses",
    ),
    (
        0xff00 << 112,
        u128::MAX,
        "ff00::/8, the multicast addresses",
    ),
];

pub(in crate::grpc) fn nic_id(faults: &mut Faults, at: &Path<'_>, id: String) -> Option<NicId> {
    faults.check(at, NicId::try_from(id))
}

pub(in crate::grpc) fn group_id(faults: &mut Faults, at: &Path<'_>, id: String) -> Option<GroupId> {
    faults.check(at, GroupId::try_from(id))
}

/// Why packets are dropped, by a name of packet-policy.
pub(in crate::grpc) fn reason(faults: &mut Faults, at: &Path<'_>, name: &str) -> Option<Reason> {
    let found = Reason::ALL.iter().find(|reason| reason.name() == name);
    if found.is_none() {
        let names: Vec<_> = Reason::ALL.iter().map(|reason| reason.name()).collect();
        let known = names.join(", ");
        faults.invalid(at, format!("\"{name}\" is no reason; these are: {known}"));
    }
    found.copied()
}

pub(super) fn label(faults: &mut Faults, at: &Path<'_>, text: String) -> Option<Label> {
    faults.check(at, Label::try_from(text))
}

pub(super) fn instance_id(faults: &mut Faults, at: &Path<'_>, text: String) -> Option<Label> {
    let length = text.chars().count();
    if length > MAX_INSTANCE_ID {
        let text = format!("has {length} characters, at most {MAX_INSTANCE_ID} are allowed");
        faults.invalid(at, text);
        return None;
    }
    label(faults, at, text)
}

pub(super) fn interface_name(faults: &mut Faults, at: &Path<'_>, name: String) -> Option<IfName> {
    faults.check(at, IfName::try_from(name))
}

pub(super) fn mac(faults: &mut Faults, at: &Path<'_>, text: String) -> Option<Mac> {
    faults.check(at, Mac::try_from(text))
}

pub(super) fn virtual_mac(faults: &mut Faults, at: &Path<'_>, text: String) -> Option<Mac> {
    let mac = mac(faults, at, text)?;
    if !mac.is_virtual_router() {
        let text = format!("{mac} is no VRRP or CARP MAC, 00:00:5e:00:01:xx or 00:00:5e:00:02:xx");
        faults.invalid(at, text);
        return None;
    }
    Some(mac)
}

pub(super) fn address(faults: &mut Faults, at: &Path<'_>, text: &str) -> Option<Ipv6Addr> {
    faults.check(at, global_unicast(text))
}

/// An address of `fe80::/64`.
pub(super) fn link_local(faults: &mut Faults, at: &Path<'_>, text: &str) -> Option<Ipv6Addr> {
    if text.contains('/') {
        faults.invalid(at, format_args!("{text:?} is no IPv6 address"));
        return None;
    }
    // As a prefix of full length, so that the notation is judged in one place.
    let address = faults
        .check(at, format!("{text}/128").parse::<Prefix>())?
        .network();
    if !Prefix::LINK_LOCAL_64.contains(address) {
        faults.invalid(
            at,
            format_args!("{address} is no link-local address of fe80::/64"),
        );
        return None;
    }
    Some(address)
}

/// An address of a packet, where one is given: any there is.
pub(super) fn any_address(f: &mut Faults, at: &Path<'_>, text: &str) -> Option<Ipv6Addr> {
    if text.is_empty() {
        return None;
    }
    let address = text.parse().ok();
    if address.is_none() {
        f.invalid(at, format_args!("{text:?} is no IPv6 address"));
    }
    address
}

/// A MAC of a packet, where one is given: groups' and zero included.
pub(super) fn any_mac(f: &mut Faults, at: &Path<'_>, text: &str) -> Option<[u8; 6]> {
    if text.is_empty() {
        return None;
    }
    f.check(at, Mac::any_octets(text))
}

/// Any prefix, `::/0` included.
pub(super) fn prefix(faults: &mut Faults, at: &Path<'_>, text: String) -> Option<Prefix> {
    faults.check(at, Prefix::try_from(text))
}

/// A prefix that somebody owns: of a length in this range and global unicast throughout.
pub(super) fn owned_prefix(
    faults: &mut Faults,
    at: &Path<'_>,
    text: String,
    (shortest, longest): (u8, u8),
) -> Option<Prefix> {
    let prefix = prefix(faults, at, text)?;
    let length = prefix.length();
    if !(shortest..=longest).contains(&length) {
        let wanted = if shortest == longest {
            format!("/{shortest} is wanted")
        } else {
            format!("/{shortest} to /{longest} is wanted")
        };
        faults.invalid(
            at,
            format_args!("{prefix} has a length of {length}, {wanted}"),
        );
        return None;
    }
    let (first, last) = prefix.bounds();
    let (first, last) = (u128::from(first), u128::from(last));
    if let Some((.., name)) = NOT_GLOBAL
        .iter()
        .find(|(from, to, _)| first <= *to && *from <= last)
    {
        faults.invalid(at, format_args!("{prefix} overlaps {name}"));
        return None;
    }
    Some(prefix)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused<T>(value: impl FnOnce(&mut Faults, &Path<'_>) -> Option<T>) -> Option<String> {
        let mut faults = Faults::default();
        let value = value(&mut faults, &Path::top("field"));
        assert_eq!(value.is_none(), faults.count() > 0);
        faults.into_result().err().map(|list| list[0].text.clone())
    }

    #[test]
    fn an_owned_prefix_is_global_unicast_throughout() {
        let delegated =
            |text: &str| refused(|f, at| owned_prefix(f, at, text.to_owned(), (32, 128)));
        for good in [
            "2001:db8::/32",
            "2001:db8:0:10::/60",
            "fd00::/48",
            "2001:db8::1/128",
        ] {
            assert_eq!(delegated(good), None, "{good}");
        }
        for (bad, word) in [
            ("2001:d00::/24", "length"),
            ("::/0", "length"),
            ("::/32", "loopback"),
            ("::1/128", "loopback"),
            ("::ffff:0.0.0.0/96", "IPv4-mapped"),
            ("fe80::/64", "link-local"),
            ("febf:ffff::/32", "link-local"),
            ("ff02::/32", "multicast"),
            ("2001:db8::1/64", "host bits"),
            ("192.0.2.0/24", "IPv4"),
            ("2001:db8::", "length is missing"),
            ("2001:0db8::/32", "canonical"),
        ] {
            let text = delegated(bad).unwrap_or_default();
            assert!(text.contains(word), "{bad}: {text}");
        }
    }

    #[test]
    fn a_link_local_address_is_of_fe80_64_and_canonical() {
        let checked = |text: &str| refused(|f, at| link_local(f, at, text));
        assert_eq!(checked("fe80::1"), None);
        for bad in [
            "fe80:1::1",
            "2001:db8::1",
            "fe80::1/64",
            "fe80::01",
            "192.0.2.1",
            "x",
            "",
        ] {
            assert!(checked(bad).is_some(), "{bad}");
        }
    }

    #[test]
    fn only_virtual_routers_macs_are_virtual() {
        let checked = |text: &str| refused(|f, at| virtual_mac(f, at, text.to_owned()));
        assert_eq!(checked("00:00:5e:00:01:0a"), None);
        assert_eq!(checked("00:00:5e:00:02:ff"), None);
        assert!(checked("00:00:5e:00:03:01").is_some());
        assert!(checked("06:b2:00:00:04:79").is_some());
    }
}
