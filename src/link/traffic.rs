//! What interfaces have carried, asked of the kernel.

use std::{collections::BTreeMap, io};

use netlink_packet_core::{DecodeError, NLM_F_DUMP, NLM_F_REQUEST, NetlinkBuffer, NlasIterator};
use netlink_sys::protocols::NETLINK_ROUTE;

use super::{
    LinkError,
    message::{RTM_NEWLINK, split, word},
};
use crate::{
    model::Traffic,
    netlink::{self, invalid},
};

// include/uapi/linux/rtnetlink.h, include/uapi/linux/if_link.h
const RTM_GETLINK: u16 = 18;
const IFLA_STATS64: u16 = 23;

/// Room for what the kernel sends ahead; it cuts this to `net.core.rmem_max`.
const RECEIVE_BUFFER: i32 = 4 << 20;

/// By index. The kernel goes on counting meanwhile, and an interface that appears or vanishes may
/// be missing: neither is an error here.
pub(super) async fn all() -> Result<BTreeMap<u32, Traffic>, LinkError> {
    dump().await.map_err(LinkError::Interfaces)
}

async fn dump() -> io::Result<BTreeMap<u32, Traffic>> {
    let socket = netlink::open(NETLINK_ROUTE, 0, RECEIVE_BUFFER)?;
    // `struct ifinfomsg`: any interface.
    let request = netlink::request(RTM_GETLINK, NLM_F_REQUEST | NLM_F_DUMP, &[0; 16]);
    let mut found = BTreeMap::new();
    let look = |message: &NetlinkBuffer<&[u8]>| {
        found.extend(traffic(message).map_err(invalid)?);
        Ok(())
    };
    netlink::dump(&socket, &request, look).await?;
    Ok(found)
}

fn traffic(message: &NetlinkBuffer<&[u8]>) -> Result<Option<(u32, Traffic)>, DecodeError> {
    if message.message_type() != RTM_NEWLINK {
        return Ok(None);
    }
    let (header, attributes) = split::<16>(message.payload())?;
    for attribute in NlasIterator::new(attributes) {
        let attribute = attribute?;
        if attribute.kind() == IFLA_STATS64 {
            return Ok(Some((word(header, 4), counters(attribute.value()))));
        }
    }
    Ok(None)
}

/// The beginning of `struct rtnl_link_stats64`. What the host receives by an instance's interface
/// is what the instance sends.
fn counters(octets: &[u8]) -> Traffic {
    let counter = |n: usize| {
        let eight = octets.get(8 * n..).and_then(<[u8]>::first_chunk);
        eight.map_or(0, |eight| u64::from_ne_bytes(*eight))
    };
    Traffic {
        sent_packets: counter(0),
        received_packets: counter(1),
        sent_bytes: counter(2),
        received_bytes: counter(3),
    }
}
