//! Whether an interface can carry anything, asked of the kernel.

use std::io;

use futures::TryStreamExt as _;
use netlink_packet_route::{
    AddressFamily,
    link::{LinkExtentMask, LinkFlags, LinkMessage},
};

use super::{
    LinkError,
    setting::{is_no_device, request},
};
use crate::model::{IfName, LinkState};

pub(super) async fn get(name: &IfName) -> Result<Option<LinkState>, LinkError> {
    let found: io::Result<Vec<LinkMessage>> = request(async |handle| {
        let get = handle.link().get().match_name(name.as_str());
        get.set_filter_mask(AddressFamily::Unspec, vec![LinkExtentMask::SkipStats])
            .execute()
            .try_collect()
            .await
    })
    .await;
    match found {
        Ok(links) => Ok(links.first().map(|link| LinkState {
            up: link.header.flags.contains(LinkFlags::Up),
            carrier: link.header.flags.contains(LinkFlags::LowerUp),
        })),
        Err(error) if is_no_device(&error) => Ok(None),
        Err(error) => Err(LinkError::Interfaces(error)),
    }
}
