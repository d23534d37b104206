//! The kernel's live flows: finds those to cut and deletes them, over netlink
//! (`NETLINK_NETFILTER`, `net/netfilter/nf_conntrack_netlink.c`).
//!
//! An entry is deleted by its original tuple, its zone and its id, so that a flow that
//! has begun anew with the same tuple meanwhile is not the one that goes.

use std::{future::poll_fn, io, time::Duration};

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_REQUEST, NLMSG_DONE, NLMSG_ERROR,
};
use netlink_sys::{AsyncSocket as _, SocketAddr, TokioSocket, protocols::NETLINK_NETFILTER};
use tokio::time::timeout;

use crate::ruleset::Flow;

mod message;

pub use message::Entry;
use message::{entry, error_code, messages, request};

/// How long one dump or one round of deletions may take: a hundred thousand flows take a
/// fraction of a second.
const LIMIT: Duration = Duration::from_secs(20);

/// How often a dump is repeated during which the table changed its shape.
const DUMPS: usize = 4;

/// Room for what the kernel sends ahead; it cuts this to `net.core.rmem_max`.
const RECEIVE_BUFFER: i32 = 4 << 20;

/// A datagram of a dump is at most 32 KiB (`netlink_recvmsg` in `net/netlink/af_netlink.c`).
const DATAGRAM: usize = 64 << 10;

/// How many deletions go out together. Their answers have to fit the receive buffer.
const TOGETHER: usize = 64;

// include/uapi/linux/netfilter/nfnetlink_conntrack.h
const IPCTNL_MSG_CT_NEW: u8 = 0;
const IPCTNL_MSG_CT_GET: u8 = 1;
const IPCTNL_MSG_CT_DELETE: u8 = 2;

/// include/uapi/asm-generic/errno-base.h: the flow has ended by itself.
const ENOENT: i32 = 2;

/// The IPv6 flows that are wanted.
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
            break;
        }
    }
    Ok(found)
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
    let flags = NLM_F_REQUEST | NLM_F_DUMP;
    send(socket, &request(IPCTNL_MSG_CT_GET, flags, &[])).await?;
    let mut complete = true;
    let mut datagram = Vec::with_capacity(DATAGRAM);
    loop {
        datagram.clear();
        poll_fn(|context| socket.poll_recv(context, &mut datagram)).await?;
        for message in messages(&datagram) {
            let message = message.map_err(invalid)?;
            complete &= message.flags() & NLM_F_DUMP_INTR == 0;
            match message.message_type() {
                NLMSG_DONE | NLMSG_ERROR => {
                    return match error_code(&message) {
                        0 => Ok(complete),
                        code => Err(io::Error::from_raw_os_error(code)),
                    };
                }
                kind if kind == message::kind(IPCTNL_MSG_CT_NEW) => {
                    // A flow without what we look at (a protocol's own tuple) is none that
                    // a rule can speak of by anything but its protocol.
                    if let Some(entry) = entry(message.payload()).map_err(invalid)?
                        && wanted(&entry.flow)
                    {
                        found.push(entry);
                    }
                }
                _ => {}
            }
        }
    }
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
        datagram.clear();
        poll_fn(|context| socket.poll_recv(context, &mut datagram)).await?;
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

async fn send(socket: &TokioSocket, octets: &[u8]) -> io::Result<()> {
    poll_fn(|context| socket.poll_send(context, octets)).await?;
    Ok(())
}

fn open() -> io::Result<TokioSocket> {
    let mut socket = TokioSocket::new(NETLINK_NETFILTER)?;
    let inner = socket.socket_mut();
    inner.set_rx_buf_sz(RECEIVE_BUFFER)?;
    inner.bind(&SocketAddr::new(0, 0))?;
    // From then on nobody but the kernel can send to it.
    inner.connect(&SocketAddr::new(0, 0))?;
    Ok(socket)
}

fn late(what: &str) -> io::Error {
    let seconds = LIMIT.as_secs();
    io::Error::new(
        io::ErrorKind::TimedOut,
        format!("{what} within {seconds} s"),
    )
}

fn invalid(error: impl std::error::Error + Send + Sync + 'static) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}
