//! The kernel's live flows: finds those to cut and deletes them, over netlink
//! (`NETLINK_NETFILTER`, `net/netfilter/nf_conntrack_netlink.c`).
//!
//! An entry is deleted by its original tuple, its zone and its id, so that a flow that
//! has begun anew with the same tuple meanwhile is not the one that goes.

use std::{io, time::Duration};

use netlink_packet_core::{NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST, NLMSG_ERROR, NetlinkBuffer};
use netlink_sys::{TokioSocket, protocols::NETLINK_NETFILTER};
use tokio::time::timeout;

use crate::{
    netlink::{self, DATAGRAM, error_code, invalid, messages, send},
    ruleset::Flow,
};

#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
mod message;

pub use message::Entry;
use message::{entry, request};

/// How long one dump or one round of deletions may take: a hundred thousand flows take a
/// fraction of a second.
const LIMIT: Duration = Duration::from_secs(20);

/// How often a dump is repeated during which the table changed its shape.
const DUMPS: usize = 4;

/// Room for what the kernel sends ahead; it cuts this to `net.core.rmem_max`.
const RECEIVE_BUFFER: i32 = 4 << 20;

/// How many deletions go out together. Their answers have to fit the receive buffer.
const TOGETHER: usize = 64;

// include/uapi/linux/netfilter/nfnetlink_conntrack.h
const IPCTNL_MSG_CT_NEW: u8 = 0;
const IPCTNL_MSG_CT_GET: u8 = 1;
const IPCTNL_MSG_CT_DELETE: u8 = 2;

/// include/uapi/asm-generic/errno-base.h: the flow has ended by itself.
const ENOENT: i32 = 2;

/// The IPv6 flows that are wanted: all of them, or an error.
pub async fn find(mut wanted: impl FnMut(&Flow) -> bool + Send) -> io::Result<Vec<Entry>> {
    let socket = open()?;
    let mut found = Vec::new();
    for _ in 0..DUMPS {
        found.clear();
        let dump = dump(&socket, &mut wanted, &mut found);
        if timeout(LIMIT, dump)
            .await
            .map_err(|_| late("the flows could not be read"))??
        {
            return Ok(found);
        }
    }
    Err(io::Error::other(
        "the table of flows changes too fast to be read whole",
    ))
}

/// Deletes flows. Says how many it deleted itself: those that had ended meanwhile don't
/// count. After an error the others may still be there.
pub async fn delete(entries: &[Entry]) -> (u64, io::Result<()>) {
    let mut cut = 0;
    let socket = match open() {
        Ok(socket) => socket,
        Err(error) => return (cut, Err(error)),
    };
    for some in entries.chunks(TOGETHER) {
        let done = timeout(LIMIT, delete_some(&socket, some, &mut cut)).await;
        match done.map_err(|_| late("the flows could not be deleted")) {
            Ok(Ok(())) => {}
            Ok(Err(error)) | Err(error) => return (cut, Err(error)),
        }
    }
    (cut, Ok(()))
}

/// Whether nothing changed meanwhile that could hide a flow.
async fn dump(
    socket: &TokioSocket,
    wanted: &mut (impl FnMut(&Flow) -> bool + Send),
    found: &mut Vec<Entry>,
) -> io::Result<bool> {
    let get = request(IPCTNL_MSG_CT_GET, NLM_F_REQUEST | NLM_F_DUMP, &[]);
    let look = |message: &NetlinkBuffer<&[u8]>| {
        if message.message_type() == message::kind(IPCTNL_MSG_CT_NEW) {
            // A flow without what we look at (a protocol's own tuple) is none that a rule
            // can speak of by anything but its protocol.
            let entry = entry(message.payload()).map_err(invalid)?;
            found.extend(entry.filter(|entry| wanted(&entry.flow)));
        }
        Ok(())
    };
    netlink::dump(socket, &get, look).await
}

async fn delete_some(socket: &TokioSocket, some: &[Entry], cut: &mut u64) -> io::Result<()> {
    let flags = NLM_F_REQUEST | NLM_F_ACK;
    let mut octets = Vec::new();
    for entry in some {
        octets.extend(request(IPCTNL_MSG_CT_DELETE, flags, &entry.key));
    }
    send(socket, &octets).await?;
    let mut waiting = some.len();
    let mut datagram = Vec::with_capacity(DATAGRAM);
    while waiting > 0 {
        netlink::receive(socket, &mut datagram).await?;
        for message in messages(&datagram) {
            let message = message.map_err(invalid)?;
            if message.message_type() != NLMSG_ERROR {
                continue;
            }
            waiting = waiting.saturating_sub(1);
            match error_code(&message) {
                0 => *cut += 1,
                ENOENT => {}
                code => return Err(io::Error::from_raw_os_error(code)),
            }
        }
    }
    Ok(())
}

fn open() -> io::Result<TokioSocket> {
    netlink::open(NETLINK_NETFILTER, 0, RECEIVE_BUFFER)
}

fn late(what: &str) -> io::Error {
    let seconds = LIMIT.as_secs();
    io::Error::new(
        io::ErrorKind::TimedOut,
        format!("{what} within {seconds} s"),
    )
}
