//! Sends packets, and tells how much processor time that took.

use std::io::IoSlice;
use std::net::{SocketAddrV6, UdpSocket};
use std::os::fd::AsRawFd as _;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, MultiHeaders, SockaddrIn6, sendmmsg};
use nix::time::{ClockId, clock_gettime};

/// Packets of one system call: the kernel's path dominates.
const BATCH: usize = 64;
/// Octets of a packet's payload.
const PAYLOAD: [u8; 64] = [0x5a; 64];

/// What sending took.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Effort {
    /// Processor time of this thread, soft interrupts on it included.
    pub processor: Duration,
    /// Time on the wall.
    pub wall: Duration,
}

impl std::ops::AddAssign for Effort {
    fn add_assign(&mut self, other: Self) {
        self.processor += other.processor;
        self.wall += other.wall;
    }
}

/// Sends `count` packets out of `socket`, to `target` with ports counted up from its own, or, where
/// there is none, to what the socket is connected to.
pub(crate) fn send(socket: &UdpSocket, target: Option<SocketAddrV6>, count: u16) -> Effort {
    let mut headers = MultiHeaders::<SockaddrIn6>::preallocate(BATCH, None);
    let slices = [[IoSlice::new(&PAYLOAD)]; BATCH];
    let mut next = target;
    let mut take = || {
        let target = next.as_mut()?;
        let now = *target;
        target.set_port(target.port() + 1);
        Some(SockaddrIn6::from(now))
    };
    let (began, processor) = (Instant::now(), processor_time());
    let (mut sent, count) = (0, usize::from(count));
    while sent < count {
        let batch = BATCH.min(count - sent);
        let targets: Vec<_> = (0..batch).map(|_| take()).collect();
        let messages = &slices[..batch];
        let result = sendmmsg(
            socket.as_raw_fd(),
            &mut headers,
            messages,
            &targets,
            [],
            MsgFlags::empty(),
        );
        match result {
            Ok(results) => sent += results.count(),
            Err(Errno::EINTR) => {}
            Err(error) => panic!("sendmmsg: {error}"),
        }
    }
    Effort {
        processor: processor_time().checked_sub(processor).unwrap(),
        wall: began.elapsed(),
    }
}

fn processor_time() -> Duration {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID)
        .unwrap()
        .into()
}
