//! Reads what `nft -j list` prints. The `nftables` crate's own types can't: one object
//! that they don't know fails the whole document.

use std::{collections::BTreeMap, net::Ipv6Addr};

use serde::{Deserialize, de::DeserializeOwned};
use serde_json::Value;

use super::revoked::Listed;
use crate::{
    dataplane::{DataplaneError, Dropped},
    ruleset::{NicNumber, Reason, Ruleset, name::NUMBER_MASK},
};

#[derive(Deserialize)]
struct Document {
    nftables: Vec<Value>,
}

#[derive(Deserialize)]
struct Counter {
    name: String,
    packets: u64,
    bytes: u64,
}

#[derive(Deserialize)]
struct SetElement<K> {
    elem: CountedElement<K>,
}

#[derive(Deserialize)]
struct CountedElement<K> {
    val: K,
    counter: Count,
}

#[derive(Deserialize)]
struct Count {
    packets: u64,
    bytes: u64,
}

impl Count {
    fn dropped(self, nic: NicNumber, reason: Reason) -> Dropped {
        let Self { packets, bytes } = self;
        let nic = Some(nic);
        Dropped {
            nic,
            reason,
            packets,
            bytes,
        }
    }
}

fn unreadable(error: &serde_json::Error) -> DataplaneError {
    DataplaneError::Unreadable(format!("nft printed what is no listing: {error}"))
}

fn objects(text: &str, kind: &str) -> Result<Vec<Value>, DataplaneError> {
    let document: Document = serde_json::from_str(text).map_err(|e| unreadable(&e))?;
    let mut found = Vec::new();
    for mut object in document.nftables {
        if let Some(value) = object.get_mut(kind) {
            found.push(value.take());
        }
    }
    Ok(found)
}

/// The counters of our drop chains.
pub(super) fn counters(text: &str) -> Result<Vec<Dropped>, DataplaneError> {
    let mut all = Vec::new();
    for value in objects(text, "counter")? {
        let Counter {
            name,
            packets,
            bytes,
        } = serde_json::from_value(value).map_err(|e| unreadable(&e))?;
        if let Some(reason) = Reason::ALL.iter().find(|reason| reason.symbol() == name) {
            all.push(Dropped {
                nic: None,
                reason: *reason,
                packets,
                bytes,
            });
        }
    }
    Ok(all)
}

/// The elements of `nic_drops`: reason and NIC in one number, each with a counter.
pub(super) fn nic_drops(text: &str) -> Result<Vec<Dropped>, DataplaneError> {
    let mut all = Vec::new();
    for CountedElement { val, counter } in elements::<u32>(text)? {
        let [code, ..] = val.to_be_bytes();
        if let Some(reason) = Reason::of_code(code) {
            all.push(counter.dropped(NicNumber(val & NUMBER_MASK), reason));
        }
    }
    Ok(all)
}

/// The elements of `port_drops`: interfaces, each with a counter of G0.
pub(super) fn port_drops(text: &str, ruleset: &Ruleset) -> Result<Vec<Dropped>, DataplaneError> {
    let mut all = Vec::new();
    let owners: BTreeMap<_, _> = ruleset
        .nics
        .iter()
        .flat_map(|(number, nic)| nic.interfaces.keys().map(|name| (name.as_str(), *number)))
        .collect();
    for CountedElement { val, counter } in elements::<String>(text)? {
        if let Some(number) = owners.get(val.as_str()) {
            all.push(counter.dropped(*number, Reason::LinkLocalMac));
        }
    }
    Ok(all)
}

/// The elements of a set of flows that were cut: a bridge, two addresses and one or two
/// numbers. Without a timeout of its own an element may be printed bare.
pub(super) fn revoked(text: &str) -> Result<Vec<Listed>, DataplaneError> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Found {
        Whole { elem: Val },
        Bare(Key),
    }
    #[derive(Deserialize)]
    struct Val {
        val: Key,
    }
    #[derive(Deserialize)]
    struct Key {
        concat: Vec<Value>,
    }
    let wrong = || DataplaneError::Unreadable("nft printed no flow that was cut".to_owned());
    let mut all = Vec::new();
    for mut set in objects(text, "set")? {
        let Some(list) = set.get_mut("elem") else {
            continue;
        };
        let list: Vec<Found> = serde_json::from_value(list.take()).map_err(|e| unreadable(&e))?;
        for found in list {
            let (Found::Whole {
                elem: Val { val: key },
            }
            | Found::Bare(key)) = found;
            let [bridge, source, destination, rest @ ..] = key.concat.as_slice() else {
                return Err(wrong());
            };
            let number = |value: &Value| value.as_u64().and_then(|n| u16::try_from(n).ok());
            let rest: Option<Vec<_>> = rest.iter().map(number).collect();
            let word = |value: &Value| value.as_str().map(str::to_owned).unwrap_or_default();
            all.push((
                word(bridge).parse().map_err(|_| wrong())?,
                word(source).parse().map_err(|_| wrong())?,
                word(destination).parse().map_err(|_| wrong())?,
                rest.ok_or_else(wrong)?,
            ));
        }
    }
    Ok(all)
}

/// The elements of a set of a first part and an address that was read as octets: nft prints
/// that as one number.
pub(super) fn by_address<K: DeserializeOwned>(
    text: &str,
) -> Result<Vec<(K, Ipv6Addr)>, DataplaneError> {
    #[derive(Deserialize)]
    struct Found<K> {
        elem: Val<K>,
    }
    #[derive(Deserialize)]
    struct Val<K> {
        val: Key<K>,
    }
    #[derive(Deserialize)]
    struct Key<K> {
        concat: (K, String),
    }
    let mut all = Vec::new();
    for mut set in objects(text, "set")? {
        let Some(list) = set.get_mut("elem") else {
            continue;
        };
        let list: Vec<Found<K>> =
            serde_json::from_value(list.take()).map_err(|e| unreadable(&e))?;
        for found in list {
            let (first, number) = found.elem.val.concat;
            let digits = number.strip_prefix("0x").unwrap_or_default();
            let address = u128::from_str_radix(digits, 16).map_err(|_| {
                DataplaneError::Unreadable(format!("nft printed {number}, which is no address"))
            })?;
            all.push((first, Ipv6Addr::from(address)));
        }
    }
    Ok(all)
}

fn elements<K: DeserializeOwned>(text: &str) -> Result<Vec<CountedElement<K>>, DataplaneError> {
    let mut all = Vec::new();
    for mut set in objects(text, "set")? {
        if let Some(list) = set.get_mut("elem") {
            let list: Vec<SetElement<K>> =
                serde_json::from_value(list.take()).map_err(|e| unreadable(&e))?;
            all.extend(list.into_iter().map(|element| element.elem));
        }
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_and_elements_are_found() {
        let text = r#"{"nftables":[{"metainfo":{"version":"1.0.6"}},
            {"counter":{"family":"bridge","name":"spoofed_mac","table":"sgagent","handle":1,
             "comment":"G1","packets":3,"bytes":180}},
            {"counter":{"family":"bridge","name":"other","table":"sgagent","handle":2,
             "packets":1,"bytes":1}}]}"#;
        let found = counters(text).unwrap();
        assert_eq!(found.len(), 1);
        assert_eq!((found[0].reason, found[0].packets), (Reason::SpoofedMac, 3));
        let text = r#"{"nftables":[{"metainfo":{}},{"set":{"name":"nic_drops","type":"mark",
            "elem":[{"elem":{"val":33554437,"counter":{"packets":2,"bytes":9}}}]}}]}"#;
        let found = nic_drops(text).unwrap();
        assert_eq!(found[0].nic, Some(NicNumber(5)));
        assert_eq!(found[0].reason, Reason::SpoofedMac);
        assert!(nic_drops("rubbish").is_err());
    }
    #[test]
    fn addresses_that_were_read_as_octets_are_found() {
        let text = r#"{"nftables":[{"metainfo":{}},{"set":{"name":"claim_1","type":["mark","integer"],
            "elem":[{"elem":{"val":{"concat":[1358954497,"0xfe800000000000000000000000000001"]},
            "expires":3599}}]}}]}"#;
        let found = by_address::<u32>(text).unwrap();
        assert_eq!(found, [(0x5100_0001, "fe80::1".parse().unwrap())]);
        assert!(by_address::<u32>(&text.replace("0xfe8", "0xfe8g")).is_err());
    }
}
