//! What the host itself sends and receives over its bridge.

use std::net::{Ipv6Addr, SocketAddrV6, UdpSocket};
use std::os::fd::AsRawFd as _;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrIn6, sendto, setsockopt,
    socket, sockopt,
};

use super::exchange::Talk;
use super::nd::{OVERRIDE, SOLICITED, target_option};
use super::net::Net;
use super::want::mac_text;
use super::who::{HOST, Mac, Machine};

/// A link-local address of the host on a guest's port.
pub(crate) const HOST_SIDE: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0xff);

/// What a socket of the host says.
pub(crate) const HOST_TEXT: &[u8] = b"from the host";

impl Net {
    /// How many datagrams of a [`HostSocket`] came to a port. The host
    /// says other things there in its own time, MLD reports above all.
    pub(crate) fn host_datagrams(&self, machine: Machine) -> usize {
        let frames = self.host_frames(machine);
        frames.iter().filter(|f| f.ends_with(HOST_TEXT)).count()
    }

    /// A UDP socket of the host, listening.
    pub(crate) fn host_socket(&self, port: u16) -> HostSocket {
        self.wait_for_address("br0", HOST.ll);
        let socket = self.namespace.run(move || {
            let socket = UdpSocket::bind((Ipv6Addr::UNSPECIFIED, port)).unwrap();
            socket.set_nonblocking(true).unwrap();
            socket
        });
        let index = self.bridge_index();
        HostSocket { socket, index }
    }
}

impl Net {
    /// An ICMPv6 message of the host out of br0, its checksum made by the kernel.
    pub(crate) fn host_sends(&self, to: Ipv6Addr, hop: u8, message: &[u8]) {
        let index = self.bridge_index();
        let message = message.to_vec();
        self.namespace.run(move || {
            let flags = SockFlag::empty();
            let raw = socket(
                AddressFamily::Inet6,
                SockType::Raw,
                flags,
                SockProtocol::IcmpV6,
            );
            let raw = raw.unwrap();
            setsockopt(&raw, sockopt::Ipv6MulticastHops, &i32::from(hop)).unwrap();
            setsockopt(&raw, sockopt::Ipv6Ttl, &i32::from(hop)).unwrap();
            let to = SockaddrIn6::from(SocketAddrV6::new(to, 0, 0, index));
            match sendto(raw.as_raw_fd(), &message, &to, MsgFlags::empty()) {
                // Dropped before it reached a bridge: the sender is told.
                Ok(_) | Err(Errno::EPERM) => {}
                Err(error) => panic!("{error}"),
            }
        });
    }

    /// Gives the host's side of a tap the address that it has where nobody turned IPv6 off.
    pub(crate) fn host_side_address(&self, machine: Machine, address: Ipv6Addr) {
        let port = machine.port;
        self.namespace
            .sysctl(&format!("net/ipv6/conf/{port}/disable_ipv6"), "0");
        self.host_address(port, address);
    }

    /// Gives the host an address, and waits until packets to it are the host's: the kernel
    /// makes the route to it in its own time (`addrconf_dad_work`).
    pub(crate) fn host_address(&self, interface: &str, address: Ipv6Addr) {
        self.namespace
            .command(&format!("ip addr add {address}/64 dev {interface} nodad"));
        self.wait_for_address(interface, address);
    }

    fn wait_for_address(&self, interface: &str, address: Ipv6Addr) {
        let list = format!("ip -6 route show table local dev {interface}");
        let wanted = format!("local {address} ");
        let deadline = Instant::now() + Duration::from_secs(5) * super::net::slowness();
        while !self.namespace.command(&list).contains(&wanted) {
            assert!(Instant::now() < deadline, "{interface} has no {address}");
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// The host knows a machine's MAC and doesn't ask.
    pub(crate) fn host_knows(&self, address: Ipv6Addr, mac: Mac) {
        let mac = mac_text(mac);
        self.namespace
            .command(&format!("ip neigh replace {address} lladdr {mac} dev br0"));
    }

    fn bridge_index(&self) -> u32 {
        self.namespace
            .read("/sys/class/net/br0/ifindex")
            .parse()
            .unwrap()
    }
}

impl Net {
    /// The host answers a guest's ping. It asks for the guest's MAC first, which the guest tells.
    pub(crate) fn host_answers(&self, guest: Machine, id: u16) {
        self.drain();
        let tap = self.tap(guest);
        tap.send(&Talk::Ping(id).request(guest, HOST).frame());
        let deadline = Instant::now() + Duration::from_secs(3) * super::net::slowness();
        while let Some(frame) = tap.receive(deadline) {
            let address = |at: usize| {
                let octets: Option<&[u8; 16]> = frame.get(at..at + 16)?.try_into().ok();
                octets.map(|octets| Ipv6Addr::from(*octets))
            };
            match frame.get(54) {
                Some(135) => {
                    let (asker, target) = (address(22).unwrap(), address(62).unwrap());
                    let option = target_option(guest.mac);
                    let told = guest.to(asker).na(target, SOLICITED | OVERRIDE, &option);
                    tap.send(&told.src(target).frame());
                }
                Some(129) if frame[58..60] == id.to_be_bytes() => {
                    return assert_eq!(address(38), Some(guest.ip));
                }
                _ => {}
            }
        }
        panic!("the host does not answer {} at {}", guest.ip, guest.port);
    }

    /// A guest's ping does not get to the host: what is for it is there before its sender goes on.
    pub(crate) fn host_hears_nothing(&self, guest: Machine, id: u16) {
        let before = self.host_echoes();
        let ping = Talk::Ping(id).request(guest, HOST);
        self.tap(guest).send(&ping.frame());
        assert_eq!(self.host_echoes(), before, "{} got to the host", guest.ip);
    }

    /// How many echo requests the host has got.
    fn host_echoes(&self) -> u64 {
        let counters = self.namespace.read("/proc/thread-self/net/snmp6");
        let line = counters
            .lines()
            .find_map(|line| line.strip_prefix("Icmp6InEchos"));
        line.unwrap().trim().parse().unwrap()
    }
}

pub(crate) struct HostSocket {
    socket: UdpSocket,
    index: u32,
}

impl HostSocket {
    /// What it sends has a mark from now on.
    pub(crate) fn mark(&self, mark: u32) {
        setsockopt(&self.socket, sockopt::Mark, &mark).unwrap();
    }

    /// It gets what goes to this group on br0, too.
    pub(crate) fn joins(&self, group: Ipv6Addr) {
        self.socket.join_multicast_v6(&group, self.index).unwrap();
    }

    /// Sends a datagram out of br0.
    pub(crate) fn send(&self, to: Ipv6Addr, port: u16) {
        self.try_send(to, port).unwrap();
    }

    /// The same where a rule of the host may drop it, which its sender is told.
    pub(crate) fn try_send(&self, to: Ipv6Addr, port: u16) -> std::io::Result<usize> {
        let to = SocketAddrV6::new(to, port, 0, self.index);
        self.socket.send_to(HOST_TEXT, to)
    }

    /// The sources of what has come: a frame is in the socket before its sender goes on.
    pub(crate) fn sources(&self) -> Vec<std::net::IpAddr> {
        let mut buffer = [0; 2048];
        let next = || {
            self.socket
                .recv_from(&mut buffer)
                .ok()
                .map(|(_, from)| from.ip())
        };
        std::iter::from_fn(next).collect()
    }
}
