//! A way in for `fuzz/`: what the kernel shows of drops.

use std::collections::VecDeque;

use super::take;
use crate::{dataplane::Sampled, netlink::messages};

/// The packets in a datagram, up to what can't be understood.
pub fn samples(datagram: &[u8]) -> Vec<Sampled> {
    let mut found = VecDeque::new();
    for message in messages(datagram) {
        let Ok(message) = message else { break };
        take(&message, &mut found);
    }
    found.into()
}
