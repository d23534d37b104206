//! What of a message about a flow concerns us, and requests.
//!
//! Read here and not with netlink-packet-netfilter, which knows neither the zone nor the
//! id of a flow, by which one is deleted.

use std::net::Ipv6Addr;

use netlink_packet_core::{DecodeError, NlaBuffer, NlasIterator};

use crate::{
    netlink::{self, ATTRIBUTE_TYPE},
    ruleset::{Flow, ICMPV6, Upper},
};

/// `NFNL_SUBSYS_CTNETLINK` of include/uapi/linux/netfilter/nfnetlink.h.
const SUBSYSTEM: u16 = 1;

/// include/linux/socket.h
const AF_INET6: u8 = 10;

// include/uapi/linux/netfilter/nfnetlink_conntrack.h
const CTA_TUPLE_ORIG: u16 = 1;
const CTA_ID: u16 = 12;
const CTA_ZONE: u16 = 18;
const CTA_TUPLE_IP: u16 = 1;
const CTA_TUPLE_PROTO: u16 = 2;
const CTA_IP_V6_SRC: u16 = 3;
const CTA_IP_V6_DST: u16 = 4;
const CTA_PROTO_NUM: u16 = 1;
const CTA_PROTO_SRC_PORT: u16 = 2;
const CTA_PROTO_DST_PORT: u16 = 3;
const CTA_PROTO_ICMPV6_TYPE: u16 = 8;
const CTA_PROTO_ICMPV6_CODE: u16 = 9;

/// A live flow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The flow.
    pub flow: Flow,
    /// The attributes that name it to the kernel, as the kernel sent them.
    pub(super) key: Vec<u8>,
}

pub(super) const fn kind(message: u8) -> u16 {
    (SUBSYSTEM << 8) | message as u16
}

/// A message to the kernel, attributes and all.
pub(super) fn request(message: u8, flags: u16, attributes: &[u8]) -> Vec<u8> {
    // `struct nfgenmsg`
    let body = [&[AF_INET6, 0, 0, 0], attributes].concat();
    netlink::request(kind(message), flags, &body)
}

/// The flow that a message speaks of; nothing where it is no IPv6 flow.
pub(super) fn entry(body: &[u8]) -> Result<Option<Entry>, DecodeError> {
    let Some((&[AF_INET6, ..], attributes)) = body.split_first_chunk::<4>() else {
        return Ok(None);
    };
    let (mut zone, mut tuple, mut key) = (0, None, Vec::new());
    for attribute in NlasIterator::new(attributes) {
        let attribute = attribute?;
        match attribute.kind() & ATTRIBUTE_TYPE {
            CTA_TUPLE_ORIG => {
                tuple = read_tuple(attribute.value())?;
                append(&mut key, &attribute);
            }
            CTA_ZONE => {
                zone = port(attribute.value()).unwrap_or_default();
                append(&mut key, &attribute);
            }
            CTA_ID => append(&mut key, &attribute),
            _ => {}
        }
    }
    Ok(tuple.map(|flow| Entry {
        flow: Flow { zone, ..flow },
        key,
    }))
}

fn append(key: &mut Vec<u8>, attribute: &NlaBuffer<&[u8]>) {
    let whole = (*attribute).into_inner();
    key.extend(
        whole
            .get(..usize::from(attribute.length()))
            .unwrap_or_default(),
    );
    key.resize(key.len().next_multiple_of(4), 0);
}

fn read_tuple(tuple: &[u8]) -> Result<Option<Flow>, DecodeError> {
    let (mut source, mut destination) = (None, None);
    let (mut protocol, mut ports, mut icmpv6) = (None, (None, None), (None, None));
    for part in NlasIterator::new(tuple) {
        let part = part?;
        for attribute in NlasIterator::new(part.value()) {
            let attribute = attribute?;
            let value = attribute.value();
            match (
                part.kind() & ATTRIBUTE_TYPE,
                attribute.kind() & ATTRIBUTE_TYPE,
            ) {
                (CTA_TUPLE_IP, CTA_IP_V6_SRC) => source = address(value),
                (CTA_TUPLE_IP, CTA_IP_V6_DST) => destination = address(value),
                (CTA_TUPLE_PROTO, CTA_PROTO_NUM) => protocol = value.first().copied(),
                (CTA_TUPLE_PROTO, CTA_PROTO_SRC_PORT) => ports.0 = port(value),
                (CTA_TUPLE_PROTO, CTA_PROTO_DST_PORT) => ports.1 = port(value),
                (CTA_TUPLE_PROTO, CTA_PROTO_ICMPV6_TYPE) => icmpv6.0 = value.first().copied(),
                (CTA_TUPLE_PROTO, CTA_PROTO_ICMPV6_CODE) => icmpv6.1 = value.first().copied(),
                _ => {}
            }
        }
    }
    let (Some(source), Some(destination), Some(protocol)) = (source, destination, protocol) else {
        return Ok(None);
    };
    let upper = match (icmpv6, ports) {
        ((Some(kind), Some(code)), _) if protocol == ICMPV6 => Upper::Icmpv6 { kind, code },
        (_, (Some(source), Some(destination))) => Upper::Ports {
            source,
            destination,
        },
        _ => Upper::Other,
    };
    Ok(Some(Flow {
        zone: 0,
        protocol,
        source,
        destination,
        upper,
    }))
}

fn address(value: &[u8]) -> Option<Ipv6Addr> {
    value
        .first_chunk::<16>()
        .map(|octets| Ipv6Addr::from(*octets))
}

fn port(value: &[u8]) -> Option<u16> {
    value
        .first_chunk::<2>()
        .map(|octets| u16::from_be_bytes(*octets))
}

#[cfg(test)]
mod tests;
