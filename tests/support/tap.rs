//! A tap device as QEMU holds it: what is written to it the guest sends, what is read from it
//! the guest receives.

use std::io::ErrorKind;
use std::os::fd::AsFd as _;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use tun_rs::{DeviceBuilder, Layer, SyncDevice};

use super::bridge_kind::Wire;
use super::namespace::Namespace;

/// The longest frame that is read: these taps have an MTU of 1500 unless a test raises it.
const LONGEST: usize = 16 * 1024;

/// How long the name of a tap that was closed may be taken.
const PATIENCE: Duration = Duration::from_secs(5);

/// The guest's end of a port.
pub(crate) struct Tap {
    name: String,
    /// Tags that are out there, and nobody sees here.
    wire: Wire,
    pub device: SyncDevice,
}

impl Tap {
    pub(crate) fn new(namespace: &Namespace, name: &str) -> Self {
        let wanted = name.to_owned();
        let device = namespace.run(move || {
            let deadline = Instant::now() + PATIENCE;
            let device = loop {
                let builder = DeviceBuilder::new().name(&wanted).layer(Layer::L2);
                match builder.enable(false).build_sync() {
                    // A process that another test has forked holds the one before it until it
                    // becomes its program.
                    Err(error)
                        if error.kind() == ErrorKind::ResourceBusy && Instant::now() < deadline =>
                    {
                        std::thread::sleep(Duration::from_millis(1));
                    }
                    made => break made.expect("a tap needs /dev/net/tun"),
                }
            };
            device.set_nonblocking(true).unwrap();
            device
        });
        Self {
            name: name.to_owned(),
            wire: Wire::behind(name),
            device,
        }
    }

    /// The guest sends. The bridge handles the frame before this returns, up to the tap or the
    /// socket it goes to (`tun_get_user` in drivers/net/tun.c): order is kept and tests need no
    /// sleep.
    pub(crate) fn send(&self, frame: &[u8]) {
        let frame = &*self.wire.sent(frame);
        loop {
            match self.device.send(frame) {
                Ok(sent) => return assert_eq!(sent, frame.len(), "{}", self.name),
                Err(error) if error.kind() == ErrorKind::WouldBlock => std::thread::yield_now(),
                Err(error) => panic!("sending on {}: {error}", self.name),
            }
        }
    }

    /// The next frame the guest receives, if one comes before `deadline`.
    pub(crate) fn receive(&self, deadline: Instant) -> Option<Vec<u8>> {
        let mut frame = vec![0; LONGEST];
        loop {
            if let Some(length) = self.read(&mut frame) {
                frame.truncate(length);
                return Some(frame);
            }
            if Instant::now() >= deadline {
                return None;
            }
            self.wait(deadline);
        }
    }

    /// Until there may be a frame, or it is too late for one.
    pub(crate) fn wait(&self, deadline: Instant) {
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout = PollTimeout::try_from(left + Duration::from_millis(1)).unwrap();
        let mut fds = [PollFd::new(self.device.as_fd(), PollFlags::POLLIN)];
        let _ = poll(&mut fds, timeout);
    }

    /// Reads a frame that is there already: its length.
    pub(crate) fn read(&self, frame: &mut [u8]) -> Option<usize> {
        match self.device.recv(frame) {
            Ok(length) => Some(self.wire.received(&mut frame[..length])),
            Err(error) if error.kind() == ErrorKind::WouldBlock => None,
            Err(error) => panic!("receiving on {}: {error}", self.name),
        }
    }

    /// A frame that is there already.
    pub(crate) fn pending(&self) -> Option<Vec<u8>> {
        self.receive(Instant::now())
    }
}
