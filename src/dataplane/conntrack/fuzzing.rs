//! A way in for `fuzz/`: what the kernel says of live flows.

use super::{
    Entry, IPCTNL_MSG_CT_DELETE, IPCTNL_MSG_CT_NEW,
    message::{self, entry, request},
};
use crate::netlink::{error_code, messages};

/// The flows in a datagram; what ends or faults a dump ends it.
pub fn entries(datagram: &[u8]) -> Vec<Entry> {
    let mut found = Vec::new();
    for message in messages(datagram) {
        let Ok(message) = message else { break };
        let _ = error_code(&message);
        if message.message_type() == message::kind(IPCTNL_MSG_CT_NEW) {
            let Ok(entry) = entry(message.payload()) else {
                break;
            };
            found.extend(entry);
        }
    }
    found
}

/// The request to delete a flow; as a message that tells of it, where that is wanted.
pub fn named(entry: &Entry, as_news: bool) -> Vec<u8> {
    let message = if as_news {
        IPCTNL_MSG_CT_NEW
    } else {
        IPCTNL_MSG_CT_DELETE
    };
    request(message, 0, &entry.key)
}
