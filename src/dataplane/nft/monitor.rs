//! Who else changes our tables.
//!
//! The kernel tells of every transaction in a netlink group, ours among them: the edits in
//! order, then one message that ends it and names the process. Each carries the address
//! of the socket that asked, which is the process's PID as that process sees it, so that of
//! an `nft` that we started is the PID that we know. (What the last message names is the PID
//! in the initial namespace, which may be another.) All of it is queued before the `nft`
//! ends. Reading the rules, counters that are reset, elements that the packet path adds or
//! that time out, and chains that lose a vanished device make no message.
//!
//! Where the group overflows, the kernel drops messages and says so once.

use std::{collections::VecDeque, io, os::fd::OwnedFd};

use rustix::{
    io::Errno,
    net::{
        AddressFamily, RecvFlags, SocketFlags, SocketType, bind, connect,
        netlink::{NETFILTER, SocketAddrNetlink},
        recv, socket_with, sockopt,
    },
};
use tokio::io::unix::AsyncFd;
use tracing::{debug, warn};

use crate::{dataplane::Tampering, netlink::messages};

#[cfg(feature = "fuzzing")]
pub(super) mod fuzzing;
mod transaction;

use transaction::{Told, Transaction};

/// `NFNLGRP_NFTABLES` (7) of include/uapi/linux/netfilter/nfnetlink.h, as a bit.
const GROUP: u32 = 1 << 6;

/// Room for what loading 5,000 NICs makes the kernel tell.
const RECEIVE_BUFFER: usize = 64 << 20;

/// A datagram is about a page, or as long as its one message.
const DATAGRAM: usize = 128 << 10;

/// As much of a process's name as the kernel keeps (`TASK_COMM_LEN`).
const MAX_NAME: usize = 15;

/// How many datagrams may be read before other tasks get a turn.
const BURST: usize = 256;

/// How much tampering may wait to be asked for: the first of it tells enough.
const MAX_PENDING: usize = 64;

/// What was told.
#[derive(Debug, PartialEq, Eq)]
enum Event {
    /// A transaction that concerns our tables.
    Transaction(Transaction),
    /// The kernel had no room for more.
    Lost,
}

/// What was there to be read.
enum Received {
    Event(Event),
    /// Much that is no business of ours, and there may be more.
    Much,
    Nothing,
}

/// Follows the transactions of the network namespace that it was opened in.
#[derive(Debug)]
pub(super) struct Monitor {
    socket: AsyncFd<OwnedFd>,
    buffer: Vec<u8>,
    /// What is being told.
    current: Transaction,
    /// How the kernel names our `nft`.
    program: String,
    /// An `nft` of ours that was killed and may have had its way all the same.
    killed: Option<u32>,
    /// What was told while an `nft` of ours runs, and is not certainly its doing.
    meanwhile: VecDeque<Event>,
    /// What others did and nobody has asked for yet.
    pending: VecDeque<Tampering>,
}

impl Monitor {
    /// Follows from now on. `program` is how we start `nft`.
    pub(super) fn open(program: &str) -> io::Result<Self> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let family = AddressFamily::NETLINK;
        let socket = socket_with(family, SocketType::RAW, flags, Some(NETFILTER))?;
        // Beyond net.core.rmem_max; not to be had in a user namespace.
        if sockopt::set_socket_recv_buffer_size_force(&socket, RECEIVE_BUFFER).is_err() {
            sockopt::set_socket_recv_buffer_size(&socket, RECEIVE_BUFFER)?;
        }
        bind(&socket, &SocketAddrNetlink::new(0, GROUP))?;
        // From then on nobody but the kernel can send to it.
        connect(&socket, &SocketAddrNetlink::new(0, 0))?;
        #[expect(
            deprecated,
            reason = "for types whose descriptor may change; an OwnedFd's does not, and the \
                      other way is unsafe code"
        )]
        let socket = AsyncFd::new(socket)?;
        let base = program.rsplit('/').next().unwrap_or_default();
        Ok(Self {
            socket,
            buffer: vec![0; DATAGRAM],
            current: Transaction::default(),
            program: base.chars().take(MAX_NAME).collect(),
            killed: None,
            meanwhile: VecDeque::new(),
            pending: VecDeque::new(),
        })
    }

    /// The next thing that others do to our tables. May be dropped at any time.
    pub(super) async fn tampered(&mut self) -> Tampering {
        loop {
            if let Some(tampering) = self.pending.pop_front() {
                return tampering;
            }
            match self.receive() {
                Received::Event(event) => {
                    let killed = self.killed;
                    self.judge(event, |one| Some(one.port) == killed);
                }
                Received::Much => tokio::task::yield_now().await,
                Received::Nothing => self.wait().await,
            }
        }
    }

    /// Waits until the kernel tells that a transaction of this PID, ours, is in force. May be
    /// dropped at any time.
    pub(super) async fn committed(&mut self, pid: Option<u32>) {
        loop {
            match self.receive() {
                Received::Event(Event::Transaction(one)) if Some(one.port) == pid => {
                    self.killed = None;
                    for event in std::mem::take(&mut self.meanwhile) {
                        self.judge(event, |_| false);
                    }
                    return;
                }
                Received::Event(event) => self.meanwhile.push_back(event),
                Received::Much => tokio::task::yield_now().await,
                Received::Nothing => self.wait().await,
            }
        }
    }

    async fn wait(&mut self) {
        match self.socket.readable().await {
            Ok(mut ready) => ready.clear_ready(),
            // Only when the runtime ends.
            Err(_) => std::future::pending().await,
        }
    }

    /// Takes in what was told while an `nft` of ours ran: what is not its doing is
    /// tampering. `pid` is its own where it was started. Whether the kernel told of its
    /// transaction, or may have.
    pub(super) fn ran(&mut self, pid: Option<u32>, how: Ran) -> bool {
        let mut events = std::mem::take(&mut self.meanwhile);
        loop {
            match self.receive() {
                Received::Event(event) => events.push_back(event),
                Received::Much => {}
                Received::Nothing => break,
            }
        }
        self.killed = if how == Ran::Killed { pid } else { None };
        let own = |one: &Transaction| Some(one.port) == pid;
        let is_own = |event: &Event| match event {
            Event::Transaction(one) => own(one),
            Event::Lost => true,
        };
        // The address is another where somebody holds the socket address of that PID, or
        // where the program that we start starts `nft` in its turn.
        let mut told = events.iter().any(is_own);
        if how == Ran::Done && !told {
            let named = |event: &Event| match event {
                Event::Transaction(one) => {
                    let process = one.process.as_ref();
                    process.is_some_and(|p| p.name == self.program || p.name == "nft")
                }
                Event::Lost => false,
            };
            if let Some(at) = events.iter().position(named) {
                events.remove(at);
                told = true;
            }
        }
        for event in events {
            self.judge(event, own);
        }
        told
    }

    fn judge(&mut self, event: Event, own: impl Fn(&Transaction) -> bool) {
        let tampering = match event {
            Event::Transaction(one) if own(&one) => return,
            Event::Transaction(one) => Tampering::Edited {
                what: one.to_string(),
                by: one.process.map_or_else(String::new, |p| p.to_string()),
            },
            Event::Lost => Tampering::Lost,
        };
        if self.pending.len() < MAX_PENDING && !self.pending.contains(&tampering) {
            self.pending.push_back(tampering);
        }
    }

    /// The next event that is there already.
    fn receive(&mut self) -> Received {
        for _ in 0..BURST {
            match recv(
                self.socket.get_ref(),
                &mut self.buffer[..],
                RecvFlags::TRUNC,
            ) {
                Ok((_, length)) if length > self.buffer.len() => {
                    warn!(length, "the kernel told more than there is room for");
                    return Received::Event(Event::Lost);
                }
                Ok((_, length)) => {
                    let datagram = self.buffer.get(..length).unwrap_or_default();
                    if let Some(event) = take(&mut self.current, datagram) {
                        return Received::Event(event);
                    }
                }
                Err(Errno::AGAIN) => return Received::Nothing,
                Err(Errno::INTR) => {}
                Err(Errno::NOBUFS) => {
                    self.current = Transaction::default();
                    self.discard();
                    return Received::Event(Event::Lost);
                }
                Err(error) => {
                    warn!(%error, "what others do to the rules can't be read");
                    return Received::Nothing;
                }
            }
        }
        Received::Much
    }

    /// Empties the receive buffer. Until it was empty once, the kernel goes on dropping
    /// messages without a word (`netlink_overrun` in `net/netlink/af_netlink.c`).
    fn discard(&mut self) {
        loop {
            match recv(
                self.socket.get_ref(),
                &mut self.buffer[..],
                RecvFlags::empty(),
            ) {
                Ok(_) | Err(Errno::INTR | Errno::NOBUFS) => {}
                Err(_) => return,
            }
        }
    }
}

/// What became of an `nft` of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ran {
    /// What it was asked.
    Done,
    /// Nothing.
    Failed,
    /// Nobody knows.
    Killed,
}

/// Takes a datagram into the transaction that is being told. The message that ends one is
/// the only one of its own.
fn take(current: &mut Transaction, datagram: &[u8]) -> Option<Event> {
    let mut ended = None;
    for message in messages(datagram) {
        match message.and_then(|message| current.take(&message)) {
            Ok(Told::Part) => {}
            Ok(Told::End) => ended = Some(std::mem::take(current)),
            Err(error) => {
                debug!(%error, "a message about the rules can't be understood");
                return Some(Event::Lost);
            }
        }
    }
    // The kernel's own doing: a device vanished.
    ended
        .filter(|one| !one.is_empty() && one.port != 0)
        .map(Event::Transaction)
}
