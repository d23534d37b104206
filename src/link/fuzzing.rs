//! A way in for `fuzz/`: what the kernel says of the host's interfaces.

use super::{message::event, watch::apply};
use crate::{model::Interfaces, netlink::messages};

/// Takes a datagram in on top of what is known.
pub fn take(host: &mut Interfaces, datagram: &[u8]) {
    for message in messages(datagram) {
        if let Ok(Some(event)) = message.and_then(|message| event(&message)) {
            apply(host, event);
        }
    }
}
