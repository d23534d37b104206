//! Where the host itself writes frames: its end of the bridge.

use std::os::fd::{AsRawFd as _, OwnedFd};

use nix::ifaddrs::getifaddrs;
use nix::sys::socket::{AddressFamily, LinkAddr, MsgFlags, SockFlag, SockType, sendto, socket};

use crate::support::net::Net;

pub(crate) struct HostPort {
    socket: OwnedFd,
    bridge: LinkAddr,
}

impl HostPort {
    pub(crate) fn of(net: &Net) -> Self {
        net.namespace.run(|| {
            let all = getifaddrs().unwrap();
            let mut of_bridge = all.filter(|one| one.interface_name == "br0");
            let bridge = of_bridge.find_map(|one| one.address?.as_link_addr().copied());
            let flags = SockFlag::empty();
            Self {
                socket: socket(AddressFamily::Packet, SockType::Raw, flags, None).unwrap(),
                bridge: bridge.unwrap(),
            }
        })
    }

    /// It went through the bridge when this returns.
    pub(crate) fn send(&self, frame: &[u8]) {
        let socket = self.socket.as_raw_fd();
        sendto(socket, frame, &self.bridge, MsgFlags::empty()).unwrap();
    }
}
