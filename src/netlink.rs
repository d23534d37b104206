//! What our netlink sockets have in common: `link` follows interfaces with them, `dataplane`
//! flows and rules.

use std::{future::poll_fn, io};

use netlink_packet_core::{DecodeError, NLM_F_DUMP_INTR, NLMSG_DONE, NLMSG_ERROR, NetlinkBuffer};
use netlink_sys::{AsyncSocket as _, SocketAddr, TokioSocket};

/// Room for a datagram, which has at most 32 KiB (`netlink_recvmsg`,
/// `net/netlink/af_netlink.c`).
pub(crate) const DATAGRAM: usize = 64 << 10;

/// A socket that only the kernel can send to. The kernel cuts the receive buffer, in octets,
/// to `net.core.rmem_max`.
pub(crate) fn open(protocol: isize, groups: u32, receive_buffer: i32) -> io::Result<TokioSocket> {
    let mut socket = TokioSocket::new(protocol)?;
    let inner = socket.socket_mut();
    inner.set_rx_buf_sz(receive_buffer)?;
    inner.bind(&SocketAddr::new(0, groups))?;
    // From then on nobody but the kernel can send to it.
    inner.connect(&SocketAddr::new(0, 0))?;
    Ok(socket)
}

/// Sends a request for a dump and looks at each message of the answer. Whether nothing
/// changed meanwhile that could have hidden something.
pub(crate) async fn dump(
    socket: &TokioSocket,
    request: &[u8],
    mut look: impl FnMut(&NetlinkBuffer<&[u8]>) -> io::Result<()>,
) -> io::Result<bool> {
    send(socket, request).await?;
    let mut complete = true;
    let mut datagram = Vec::with_capacity(DATAGRAM);
    loop {
        receive(socket, &mut datagram).await?;
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
                _ => look(&message)?,
            }
        }
    }
}

/// The bits of an attribute's type that are not flags (`NLA_TYPE_MASK`,
/// `include/uapi/linux/netlink.h`).
pub(crate) const ATTRIBUTE_TYPE: u16 = 0x3fff;

/// A request of any protocol: `struct nlmsghdr`, without sequence and port, and what is behind it.
pub(crate) fn request(kind: u16, flags: u16, body: &[u8]) -> Vec<u8> {
    const HEADER: usize = 16;
    let length = u32::try_from(HEADER + body.len()).unwrap_or(u32::MAX);
    let mut octets = length.to_ne_bytes().to_vec();
    octets.extend(kind.to_ne_bytes());
    octets.extend(flags.to_ne_bytes());
    octets.resize(HEADER, 0);
    octets.extend(body);
    octets
}

/// Sends requests.
pub(crate) async fn send(socket: &TokioSocket, octets: &[u8]) -> io::Result<()> {
    poll_fn(|context| socket.poll_send(context, octets)).await?;
    Ok(())
}

/// Waits for the next datagram, in place of what the buffer held.
pub(crate) async fn receive(socket: &TokioSocket, datagram: &mut Vec<u8>) -> io::Result<()> {
    datagram.clear();
    poll_fn(|context| socket.poll_recv(context, datagram)).await?;
    Ok(())
}

/// The messages of one datagram.
pub(crate) fn messages(
    datagram: &[u8],
) -> impl Iterator<Item = Result<NetlinkBuffer<&[u8]>, DecodeError>> {
    let mut rest = datagram;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let message = NetlinkBuffer::new_checked(rest);
        rest = match &message {
            Ok(message) => {
                let aligned = (message.length() as usize).next_multiple_of(4);
                rest.get(aligned..).unwrap_or_default()
            }
            Err(_) => &[],
        };
        Some(message)
    })
}

/// The number of the error that a message reports, 0 for success.
pub(crate) fn error_code(message: &NetlinkBuffer<&[u8]>) -> i32 {
    let code = message.payload().first_chunk::<4>();
    code.map_or(0, |code| i32::from_ne_bytes(*code).saturating_neg())
}

/// What the kernel said makes no sense.
pub(crate) fn invalid(error: impl std::error::Error + Send + Sync + 'static) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}
