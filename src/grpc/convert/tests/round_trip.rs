//! What is let through comes back as it was.

use proptest::{collection::vec, option, prelude::*, sample};

use super::{
    super::{self as convert, apply, sync},
    texts,
};
use crate::pb;

#[expect(clippy::too_many_lines, reason = "as many as a NIC has fields")]
fn any_nic() -> impl Strategy<Value = pb::Nic> {
    let selector = prop_oneof!["[a-z]{1,6}[0-9]{1,9}", "[A-Za-z0-9_.@+-]{3,15}"].prop_map(|text| {
        let by = if text.len() % 2 == 0 {
            pb::interface_selector::By::Name(text)
        } else {
            pb::interface_selector::By::Bridge(text)
        };
        pb::InterfaceSelector { by: Some(by) }
    });
    let address = (any::<u64>(), any::<bool>()).prop_map(|(low, shared)| pb::Address {
        address: std::net::Ipv6Addr::from(0x2001_0db8_u128 << 96 | u128::from(low)).to_string(),
        shared,
    });
    let names = ("[!-~]{1,128}", "\\PC{0,60}", "[^\\p{Cc}]{0,80}");
    let found = (
        "02(:[0-9a-f]{2}){5}",
        vec(selector, 1..3),
        vec(address, 0..3),
    );
    let prefixes = (any::<bool>(), 0_usize..3, any::<bool>());
    let modes = (
        0_usize..4,
        vec("[!-~]{1,9}", 0..3),
        sample::subsequence(vec![1, 2, 3], 0..=3),
    );
    let defaults = (
        option::of(1..3_i32),
        option::of(1..3_i32),
        option::of(1..3_i32),
    );
    (names, found, prefixes, modes, defaults).prop_map(
        |(names, found, prefixes, modes, defaults)| {
            let explicit = modes.0 == 2;
            let shared = found.2.iter().any(|address| address.shared);
            pb::Nic {
                id: names.0,
                instance_id: names.1,
                instance_name: names.2,
                mac: found.0,
                interfaces: found.1,
                addresses: found.2,
                slaac_prefix: if prefixes.0 {
                    "2001:db8:7::/64".into()
                } else {
                    String::new()
                },
                link_local: (modes.0 > 0).then(|| i32::try_from(modes.0).unwrap()),
                link_local_addresses: if explicit {
                    texts(&["fe80::7"])
                } else {
                    Vec::new()
                },
                virtual_macs: if shared {
                    texts(&["00:00:5e:00:02:07"])
                } else {
                    Vec::new()
                },
                delegated_prefixes: (0..prefixes.1)
                    .map(|i| format!("2001:db8:8:{i}0::/60"))
                    .collect(),
                on_link_prefix: if prefixes.2 {
                    "2001:db8:9::/80".into()
                } else {
                    String::new()
                },
                group_ids: modes.1,
                permissions: modes.2,
                icmpv6_default: defaults.0,
                egress_default: defaults.1,
                ipv4: defaults.2,
            }
        },
    )
}

fn any_rule() -> impl Strategy<Value = pb::Rule> {
    let remote = prop_oneof![
        Just(pb::Remote {
            anyone: true,
            ..pb::Remote::default()
        }),
        "[!-~]{1,20}".prop_map(|group_id| pb::Remote {
            group_id,
            ..pb::Remote::default()
        }),
        (0_u8..=32).prop_map(|length| pb::Remote {
            prefixes: vec![format!("::/{length}"), "10:20::/32".to_owned()],
            ..pb::Remote::default()
        }),
    ];
    let numbers = (
        0..=255_u32,
        option::of(0..=255_u32),
        any::<bool>(),
        0..=65534_u32,
    );
    (1..3_i32, 1..7_i32, numbers, remote, "[^\\p{Cc}]{0,40}").prop_map(
        |(direction, protocol, (number, code, some, port), remote, description)| pb::Rule {
            direction,
            protocol,
            protocol_number: (protocol == 6).then_some(number),
            ports: (some && (2..=4).contains(&protocol)).then_some(pb::PortRange {
                first: port,
                last: 65534,
            }),
            icmpv6_type: (some && protocol == 5).then_some(number),
            icmpv6_code: if some && protocol == 5 { code } else { None },
            remote: Some(remote),
            description,
        },
    )
}

proptest! {
    #[test]
    fn a_nic_comes_back_as_it_was(nic in any_nic()) {
        let request = pb::ApplyRequest { nics: vec![nic], ..pb::ApplyRequest::default() };
        // Duplicates that chance made are refused, which is not what is tested here.
        let change = apply(request.clone());
        prop_assume!(change.is_ok());
        let change = change.unwrap();
        let back = convert::nic(&change.delta.nics[0]);
        prop_assert_eq!(&back, &request.nics[0]);
        let nics = vec![back];
        let again = apply(pb::ApplyRequest { nics, ..pb::ApplyRequest::default() }).unwrap();
        prop_assert_eq!(again.delta, change.delta);
    }

    #[test]
    fn a_group_comes_back_as_it_was(rules in vec(any_rule(), 0..4)) {
        let group = pb::Group { id: "g".to_owned(), name: "G".to_owned(), rules };
        let request = pb::ApplyRequest { groups: vec![group], ..pb::ApplyRequest::default() };
        let change = apply(request.clone()).unwrap();
        prop_assert_eq!(&convert::group(&change.delta.groups[0]), &request.groups[0]);
    }

    #[test]
    fn no_octets_make_it_panic(octets in vec(any::<u8>(), 0..400)) {
        use prost::Message;
        if let Ok(request) = pb::ApplyRequest::decode(octets.as_slice()) {
            let _ = apply(request);
        }
        if let Ok(request) = pb::SyncRequest::decode(octets.as_slice()) {
            let _ = sync(request);
        }
    }
}
