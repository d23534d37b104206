//! Packets that the rules show as they drop them, over netlink (`net/netfilter/nfnetlink_log.c`).
//!
//! One socket listens to a group, and the kernel builds messages only as long as it does. The
//! mark of such a packet is the reason of the drop and the NIC (`charge` in
//! [`skeleton`](super::nft::skeleton)); a rule of one NIC alone says so by its prefix instead.

use std::{collections::VecDeque, fmt, io, time::Duration};

use netlink_packet_core::{NLMSG_ERROR, NetlinkBuffer};
use netlink_sys::{TokioSocket, protocols::NETLINK_NETFILTER};
use rustix::io::Errno;
use tokio::time::timeout;
use tracing::debug;

use super::{DataplaneError, Sampled, Samples};
use crate::netlink::{self, DATAGRAM, error_code, invalid, messages, send};

#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
mod message;

/// Room for what comes while nobody reads. The kernel cuts this to `net.core.rmem_max`.
const RECEIVE_BUFFER: i32 = 4 << 20;

/// The netlink group that samples of drops go to. One process can listen to a group, and nobody else
/// is likely to have chosen this one.
pub(super) const GROUP: u16 = 0x5367;

/// What a rule of one NIC says before the NIC's number, where the mark does not have it.
pub(super) const WHOSE: &str = "sgagent_";

/// How long the kernel may take to let us listen.
const LIMIT: Duration = Duration::from_secs(5);

/// Listens to a group.
pub struct Listener {
    socket: TokioSocket,
    datagram: Vec<u8>,
    ready: VecDeque<Sampled>,
}

impl Listener {
    /// Listens from now on, in this thread's network namespace. `EBUSY`: somebody else does.
    pub async fn start(group: u16) -> io::Result<Self> {
        let socket = netlink::open(NETLINK_NETFILTER, 0, RECEIVE_BUFFER)?;
        let mut listener = Self {
            socket,
            datagram: Vec::with_capacity(DATAGRAM),
            ready: VecDeque::new(),
        };
        for request in message::listen(group) {
            send(&listener.socket, &request).await?;
            let answered = timeout(LIMIT, listener.answer()).await;
            answered.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
        }
        Ok(listener)
    }

    /// Waits for the answer to a request.
    async fn answer(&mut self) -> io::Result<()> {
        loop {
            netlink::receive(&self.socket, &mut self.datagram).await?;
            for message in messages(&self.datagram) {
                let message = message.map_err(invalid)?;
                match (message.message_type(), error_code(&message)) {
                    (NLMSG_ERROR, 0) => return Ok(()),
                    (NLMSG_ERROR, code) => return Err(io::Error::from_raw_os_error(code)),
                    _ => take(&message, &mut self.ready),
                }
            }
        }
    }
}

impl fmt::Debug for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Listener").finish_non_exhaustive()
    }
}

impl Samples for Listener {
    async fn next(&mut self) -> Result<Sampled, DataplaneError> {
        loop {
            if let Some(sampled) = self.ready.pop_front() {
                return Ok(sampled);
            }
            match netlink::receive(&self.socket, &mut self.datagram).await {
                Ok(()) => {}
                // The receive buffer was full.
                Err(error) if Errno::from_io_error(&error) == Some(Errno::NOBUFS) => {
                    return Ok(Sampled::Lost);
                }
                Err(error) => return Err(DataplaneError::Unreadable(error.to_string())),
            }
            for message in messages(&self.datagram) {
                match message {
                    Ok(message) => take(&message, &mut self.ready),
                    Err(error) => {
                        debug!(%error, "a message about a drop can't be understood");
                        break;
                    }
                }
            }
        }
    }
}

fn take(message: &NetlinkBuffer<&[u8]>, ready: &mut VecDeque<Sampled>) {
    if !message::is_packet(message.message_type()) {
        return;
    }
    match message::sample(message.payload()) {
        Ok(Some(sample)) => ready.push_back(Sampled::Packet(sample)),
        Ok(None) => debug!("a packet was shown that no reason of ours has dropped"),
        Err(error) => debug!(%error, "a message about a drop can't be understood"),
    }
}
