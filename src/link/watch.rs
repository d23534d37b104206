//! Follows the interfaces: one task, one multicast socket, one state.

use std::{collections::BTreeMap, future::poll_fn, io, sync::Arc, time::Duration};

use netlink_packet_core::{NLM_F_DUMP, NLM_F_REQUEST, NetlinkBuffer, NetlinkMessage};
use netlink_packet_route::{
    AddressFamily, RouteNetlinkMessage,
    address::AddressMessage,
    link::{LinkAttribute, LinkExtentMask, LinkMessage},
};
use netlink_sys::{AsyncSocket as _, SocketAddr, TokioSocket, protocols::NETLINK_ROUTE};
use tokio::{
    select,
    sync::watch::{Receiver, Sender, channel},
    time::{Instant, MissedTickBehavior, interval_at, sleep},
};
use tracing::{debug, warn};

use super::message::{Event, event};
use crate::{
    model::{Interfaces, Link, LinkKind, XenStore},
    netlink::{self, DATAGRAM, messages},
};

/// Room for the events of 5,000 interfaces; the kernel cuts it to `net.core.rmem_max`. What does
/// not fit is lost, and costs a resync.
pub(super) const RECEIVE_BUFFER: i32 = 32 << 20;

/// `RTNLGRP_LINK` (1) and `RTNLGRP_IPV6_IFADDR` (9) of include/uapi/linux/rtnetlink.h, as bits.
const GROUPS: u32 = 1 << 0 | 1 << 8;

/// How many datagrams may be applied before a snapshot is published and other tasks get a
/// turn, on a host where events never cease.
const BURST: usize = 4096;

/// How often everything is read although no event was lost. A change that the kernel does not
/// announce (an option of a bridge that is down) is not older than this.
const RESYNC: Duration = Duration::from_secs(300);

/// The pause after a failure to read.
const RETRY: Duration = Duration::from_secs(1);

/// How often a dump is repeated that a change interrupted.
const DUMPS: usize = 8;

/// include/uapi/asm-generic/errno.h
const ENOBUFS: i32 = 105;

/// Reads the interfaces, then follows them until the last receiver is gone. `host` has the
/// configuration and no interfaces.
pub(super) async fn start(
    host: Interfaces,
    xen: Receiver<Arc<XenStore>>,
    receive_buffer: i32,
) -> io::Result<Receiver<Arc<Interfaces>>> {
    let mut watch = Watch {
        events: open(GROUPS, receive_buffer)?,
        datagram: Vec::with_capacity(DATAGRAM),
        state: host,
        xen,
        stale: true,
    };
    watch.resync().await?;
    watch.drain();
    watch.take_xen();
    let (publish, interfaces) = channel(Arc::new(watch.state.clone()));
    tokio::spawn(watch.run(publish));
    Ok(interfaces)
}

struct Watch {
    events: TokioSocket,
    datagram: Vec<u8>,
    state: Interfaces,
    xen: Receiver<Arc<XenStore>>,
    /// Events were lost, or may have been.
    stale: bool,
}

impl Watch {
    async fn run(mut self, publish: Sender<Arc<Interfaces>>) {
        let mut timer = interval_at(Instant::now() + RESYNC, RESYNC);
        timer.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let more = self.catch_up().await;
            self.take_xen();
            publish.send_if_modified(|published| {
                let differs = **published != self.state;
                if differs {
                    *published = Arc::new(self.state.clone());
                }
                differs
            });
            if publish.is_closed() {
                return;
            }
            if more {
                tokio::task::yield_now().await;
                continue;
            }
            self.datagram.clear();
            let Self {
                events,
                datagram,
                xen,
                ..
            } = &mut self;
            select! {
                () = publish.closed() => return,
                Ok(()) = xen.changed() => {}
                _ = timer.tick() => self.stale = true,
                received = poll_fn(|context| events.poll_recv_from(context, datagram)) => {
                    self.take(received);
                }
            }
        }
    }

    fn take_xen(&mut self) {
        self.state.xen = Arc::clone(&self.xen.borrow_and_update());
    }

    /// Brings the state up to the kernel's; whether there is more to do at once.
    async fn catch_up(&mut self) -> bool {
        if self.stale
            && let Err(error) = self.resync().await
        {
            warn!(%error, "interfaces cannot be read, the last known ones stay in force");
            sleep(RETRY).await;
            return true;
        }
        self.drain()
    }

    /// Reads everything. The events that wait after it are newer than the subscription and
    /// may be older than what was read; the last one of an interface is not, so applying them
    /// all leads to the truth.
    async fn resync(&mut self) -> io::Result<()> {
        self.discard()?;
        let mut fresh = Interfaces {
            bridges: self.state.bridges.clone(),
            guest_patterns: self.state.guest_patterns.clone(),
            xen: Arc::clone(&self.state.xen),
            ..Interfaces::default()
        };
        dump(&mut fresh).await?;
        for (index, settings) in &mut fresh.settings {
            let moved = master(&self.state.links, *index) != master(&fresh.links, *index);
            let known = self.state.settings.get(index);
            settings.joined = known.map_or(0, |known| known.joined + u32::from(moved));
        }
        self.state = fresh;
        self.stale = false;
        Ok(())
    }

    /// Empties the receive buffer. Until it was empty once, the kernel goes on dropping
    /// events without a word (`netlink_overrun` in `net/netlink/af_netlink.c`).
    fn discard(&mut self) -> io::Result<()> {
        loop {
            match self.receive() {
                Ok(_) => {}
                Err(error) if error.raw_os_error() == Some(ENOBUFS) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
        }
    }

    /// Applies what waits; whether there is more to do at once.
    fn drain(&mut self) -> bool {
        for _ in 0..BURST {
            let received = self.receive();
            if !self.take(received) {
                return self.stale;
            }
        }
        true
    }

    /// The next datagram, without waiting.
    fn receive(&mut self) -> io::Result<SocketAddr> {
        self.datagram.clear();
        let (_, sender) = self.events.socket_ref().recv_from(&mut self.datagram, 0)?;
        Ok(sender)
    }

    /// Takes what was received; whether more may be waiting that is worth taking.
    fn take(&mut self, received: io::Result<SocketAddr>) -> bool {
        match received {
            Ok(sender) if sender.port_number() == 0 => self.apply_datagram(),
            // Not the kernel's.
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return false,
            Err(error) if error.raw_os_error() == Some(ENOBUFS) => {
                debug!("interface events were lost, reading all");
                self.stale = true;
                return false;
            }
            Err(error) => {
                warn!(%error, "interface events cannot be read, reading all");
                self.stale = true;
                return false;
            }
        }
        true
    }

    fn apply_datagram(&mut self) {
        for message in messages(&self.datagram) {
            match message.and_then(|message| event(&message)) {
                Ok(Some(event)) => apply(&mut self.state, event),
                Ok(None) => {}
                Err(error) => {
                    warn!(%error, "an interface event cannot be understood, reading all");
                    self.stale = true;
                }
            }
        }
    }
}

/// Whose port an interface is.
fn master(links: &BTreeMap<u32, Link>, index: u32) -> Option<u32> {
    links.get(&index)?.master
}

/// One event on top of what is known.
pub(super) fn apply(host: &mut Interfaces, event: Event) {
    match event {
        Event::Link(mut link, mut settings) => {
            // A guest's interface without a link kind is no uplink.
            if link.kind == LinkKind::Outward && host.looks_like_guest(&link.name) {
                link.kind = LinkKind::Other;
            }
            let known = host.settings.get(&link.index).map_or(0, |s| s.joined);
            let moved = link.master.is_some() && link.master != master(&host.links, link.index);
            settings.joined = known + u32::from(moved);
            host.settings.insert(link.index, settings);
            host.links.insert(link.index, link);
        }
        Event::NoLink(index) => {
            host.links.remove(&index);
            host.settings.remove(&index);
        }
        Event::PortGroups(index, groups) => {
            if let Some(settings) = host.settings.get_mut(&index) {
                settings.multicast_max_groups = Some(groups);
            }
        }
        Event::LinkLocal(index, address) => {
            host.link_locals.entry(index).or_default().insert(address);
        }
        Event::NoLinkLocal(index, address) => {
            if let Some(addresses) = host.link_locals.get_mut(&index) {
                addresses.remove(&address);
                if addresses.is_empty() {
                    host.link_locals.remove(&index);
                }
            }
        }
    }
}

/// A socket of its own for the dump, so that no event mingles with the answers.
async fn dump(host: &mut Interfaces) -> io::Result<()> {
    let socket = open(0, RECEIVE_BUFFER)?;
    let mut links = LinkMessage::default();
    links
        .attributes
        .push(LinkAttribute::ExtMask(vec![LinkExtentMask::SkipStats]));
    let mut addresses = AddressMessage::default();
    addresses.header.family = AddressFamily::Inet6;
    for request in [
        RouteNetlinkMessage::GetLink(links),
        RouteNetlinkMessage::GetAddress(addresses),
    ] {
        // A dump that a change interrupted may have left out others (older kernels count
        // positions in hash buckets). Several together have them all; what they have too
        // much, an event removes.
        let mut complete = false;
        for _ in 0..DUMPS {
            complete = dump_once(&socket, request.clone(), host).await?;
            if complete {
                break;
            }
        }
        if !complete {
            debug!("the interfaces change too fast for a consistent dump");
        }
    }
    Ok(())
}

/// Whether nothing changed meanwhile.
async fn dump_once(
    socket: &TokioSocket,
    request: RouteNetlinkMessage,
    host: &mut Interfaces,
) -> io::Result<bool> {
    let mut request = NetlinkMessage::from(request);
    request.header.flags = NLM_F_REQUEST | NLM_F_DUMP;
    request.finalize();
    let mut octets = vec![0; request.buffer_len()];
    request.serialize(&mut octets);
    let look = |message: &NetlinkBuffer<&[u8]>| {
        match event(message) {
            Ok(Some(event)) => apply(host, event),
            Ok(None) => {}
            Err(error) => warn!(%error, "an interface cannot be understood, left out"),
        }
        Ok(())
    };
    netlink::dump(socket, &octets, look).await
}

fn open(groups: u32, receive_buffer: i32) -> io::Result<TokioSocket> {
    netlink::open(NETLINK_ROUTE, groups, receive_buffer)
}
