//! Traffic that flows while faults are injected: what is permitted and what is forbidden, in a
//! fixed ratio, each frame with a number, and what of it arrived.
//!
//! One thread sends at a steady pace, one receives. A frame that is permitted has to arrive; one
//! that is forbidden must not; and a frame of a guest or the router that is neither of them is
//! taken as forbidden.

use std::collections::BTreeMap;
use std::os::fd::AsFd as _;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::fixture::{CLOSED, PROBED, STREAMS, Stream, streams};
use super::wire::label;
use crate::support::net::Net;
use crate::support::tap::Tap;
use crate::support::who::{A, B, C, R};

/// What is aimed at, and the least that will do, in packets a second.
const PACE: u32 = 7_500;
const LEAST: u64 = 5_000;

/// What is not sent when the sender was held up for long: a burst of more would say nothing of
/// the agent, and fill any queue.
const MOST_BEHIND: u32 = 2_000;

/// The label of what tests ask with.
pub(super) const PROBE: u16 = 1_000;

/// Losses that are told one by one.
const TOLD: usize = 20;

/// What the threads and the test share.
#[derive(Default)]
struct Shared {
    stop: AtomicBool,
    /// The receiver has nothing more to wait for.
    end: AtomicBool,
    sent: [AtomicU64; STREAMS],
    received: [AtomicU64; STREAMS],
    strange: AtomicU64,
    probes: Mutex<BTreeMap<u32, Vec<String>>>,
    /// What the test is doing, for what is told of a loss.
    doing: Mutex<String>,
    told: Mutex<Vec<String>>,
}

/// Traffic that flows until [`Traffic::finish`].
pub(super) struct Traffic {
    shared: Arc<Shared>,
    taps: BTreeMap<&'static str, Arc<Tap>>,
    sender: Option<JoinHandle<Duration>>,
    receiver: Option<JoinHandle<()>>,
    numbers: u32,
}

/// What became of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Totals {
    pub sent: u64,
    pub forbidden_passed: u64,
    pub permitted_lost: u64,
    pub rate: u64,
}

impl Traffic {
    /// Begins. The flows that are to be established already are.
    pub(super) fn start(net: &Net) -> Self {
        let taps: BTreeMap<_, _> = [R, A, B, C, PROBED, CLOSED]
            .into_iter()
            .map(|machine| (machine.port, Arc::clone(&net.taps[machine.port])))
            .collect();
        let shared = Arc::new(Shared::default());
        let receiver = {
            let (shared, taps) = (Arc::clone(&shared), taps.clone());
            std::thread::spawn(move || receive(&shared, &taps))
        };
        let sender = {
            let (shared, taps) = (Arc::clone(&shared), taps.clone());
            std::thread::spawn(move || send(&shared, &taps))
        };
        Self {
            shared,
            taps,
            sender: Some(sender),
            receiver: Some(receiver),
            numbers: 0,
        }
    }

    /// What is being done to the agent from now on.
    pub(super) fn doing(&self, what: &str) {
        what.clone_into(&mut self.shared.doing.lock().unwrap());
    }

    /// A number that no probe had.
    pub(super) fn number(&mut self) -> u32 {
        self.numbers += 1;
        self.numbers
    }

    /// Sends a frame beside the others.
    pub(super) fn send(&self, port: &str, frame: &[u8]) {
        self.taps[port].send(frame);
    }

    /// Where the probe of this number came out by now.
    pub(super) fn probed(&self, number: u32) -> Vec<String> {
        let probes = self.shared.probes.lock().unwrap();
        probes.get(&number).cloned().unwrap_or_default()
    }

    /// How much was forbidden and passed so far.
    pub(super) fn forbidden_passed(&self) -> u64 {
        let forbidden = streams().into_iter().zip(&self.shared.received);
        let passed: u64 = forbidden
            .filter(|(stream, _)| !stream.permitted)
            .map(|(_, count)| count.load(Ordering::Relaxed))
            .sum();
        passed + self.shared.strange.load(Ordering::Relaxed)
    }

    /// Ends it, tells what became of it, and asserts that nothing forbidden passed, nothing
    /// permitted was lost, and it was fast enough.
    pub(super) fn finish(self, name: &str, faults: usize) {
        assert!(self.finish_if_fast(name, faults), "{name}: too slow");
    }

    /// The same, but says whether it was fast enough.
    pub(super) fn finish_if_fast(self, name: &str, faults: usize) -> bool {
        let told = Arc::clone(&self.shared);
        let totals = self.end(name, faults);
        let told = told.told.lock().unwrap().join("\n");
        assert_eq!(totals.forbidden_passed, 0, "{name}: {totals:?}\n{told}");
        assert_eq!(totals.permitted_lost, 0, "{name}: {totals:?}\n{told}");
        totals.rate >= LEAST
    }

    /// Ends it and tells what became of it.
    pub(super) fn end(mut self, name: &str, faults: usize) -> Totals {
        self.shared.stop.store(true, Ordering::Relaxed);
        let took = self.sender.take().unwrap().join().unwrap();
        // A frame is in its tap before its sender goes on, unless the tap's queue was busy.
        std::thread::sleep(Duration::from_millis(100));
        self.shared.end.store(true, Ordering::Relaxed);
        self.receiver.take().unwrap().join().unwrap();
        let count = |counts: &[AtomicU64; STREAMS], permitted: bool| {
            let of = streams().into_iter().zip(counts);
            of.filter(|(stream, _)| stream.permitted == permitted)
                .map(|(_, count)| count.load(Ordering::Relaxed))
                .sum::<u64>()
        };
        let Shared { sent, received, .. } = &*self.shared;
        let all = count(sent, true) + count(sent, false);
        let milliseconds = u64::try_from(took.as_millis()).unwrap().max(1);
        let totals = Totals {
            sent: all,
            forbidden_passed: self.forbidden_passed(),
            permitted_lost: count(sent, true) - count(received, true),
            rate: all * 1000 / milliseconds,
        };
        println!(
            "faults: {name}: {faults} faults injected, {} packets sent, {} forbidden passed, \
             {} permitted lost",
            totals.sent, totals.forbidden_passed, totals.permitted_lost
        );
        println!(
            "rate of {name}: {} packets a second, {:.1} s",
            totals.rate,
            took.as_secs_f64()
        );
        totals
    }
}

impl Drop for Traffic {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        self.shared.end.store(true, Ordering::Relaxed);
        for line in &*self.shared.told.lock().unwrap() {
            eprintln!("{line}");
        }
    }
}

/// Sends at [`PACE`] until told to stop; how long it was at it.
fn send(shared: &Shared, taps: &BTreeMap<&'static str, Arc<Tap>>) -> Duration {
    let mut streams: [Stream; STREAMS] = streams();
    let cycle = super::fixture::cycle();
    let begun = Instant::now();
    let mut pace = begun;
    let mut next = 0;
    let mut done = 0_u32;
    while !shared.stop.load(Ordering::Relaxed) {
        let due = u64::try_from(pace.elapsed().as_micros()).unwrap() * u64::from(PACE) / 1_000_000;
        let due = u32::try_from(due).unwrap();
        if due.saturating_sub(done) > MOST_BEHIND {
            (pace, done) = (Instant::now(), 0);
            continue;
        }
        for _ in done..due {
            let at = cycle[next % cycle.len()];
            next += 1;
            let stream = &mut streams[at];
            let number = u32::try_from(shared.sent[at].fetch_add(1, Ordering::Relaxed)).unwrap();
            taps[stream.port].send(stream.frame(number));
        }
        done = due;
        std::thread::sleep(Duration::from_millis(1));
    }
    begun.elapsed()
}

fn receive(shared: &Shared, taps: &BTreeMap<&'static str, Arc<Tap>>) {
    let streams = streams();
    let mut expected = [0_u32; STREAMS];
    let mut frame = vec![0; 16 * 1024];
    let started = Instant::now();
    loop {
        // Read before the taps are: what was sent before it was set is in them.
        let end = shared.end.load(Ordering::Relaxed);
        for (port, tap) in taps {
            while let Some(length) = tap.read(&mut frame) {
                arrived(
                    shared,
                    &streams,
                    &mut expected,
                    (port, &frame[..length], started),
                );
            }
        }
        if end {
            return;
        }
        let mut fds: Vec<_> = taps
            .values()
            .map(|tap| PollFd::new(tap.device.as_fd(), PollFlags::POLLIN))
            .collect();
        let _ = poll(&mut fds, PollTimeout::from(20_u8));
    }
}

fn arrived(
    shared: &Shared,
    streams: &[Stream; STREAMS],
    expected: &mut [u32; STREAMS],
    (port, frame, started): (&str, &[u8], Instant),
) {
    let tell = |what: String| {
        let mut told = shared.told.lock().unwrap();
        if told.len() < TOLD {
            let doing = shared.doing.lock().unwrap();
            told.push(format!(
                "{:.3} s, {doing}: {what}",
                started.elapsed().as_secs_f64()
            ));
        }
    };
    let at = match label(frame) {
        Some(label) if label.stream == PROBE => {
            let mut probes = shared.probes.lock().unwrap();
            probes
                .entry(label.number)
                .or_default()
                .push(port.to_owned());
            return;
        }
        Some(label) => {
            let at = usize::from(label.stream);
            let Some(stream) = streams.get(at) else {
                tell(format!("a frame of no stream at {port}: {label:?}"));
                shared.strange.fetch_add(1, Ordering::Relaxed);
                return;
            };
            // A flooded frame may come out at other ports, too: once is enough, and where it
            // has to.
            if stream.permitted && stream.to != port {
                return;
            }
            if label.number != expected[at] {
                let (name, from) = (stream.name, expected[at]);
                tell(format!(
                    "{name}: {} comes after {from} was due",
                    label.number
                ));
            }
            if stream.permitted && label.number < expected[at] {
                shared.strange.fetch_add(1, Ordering::Relaxed);
                return;
            }
            expected[at] = label.number + 1;
            at
        }
        None => match streams.iter().position(|stream| stream.is(frame)) {
            Some(at) => at,
            None if super::fixture::is_strange(frame) => {
                tell(format!("a strange frame at {port}: {frame:02x?}"));
                shared.strange.fetch_add(1, Ordering::Relaxed);
                return;
            }
            None => return,
        },
    };
    if !streams[at].permitted {
        tell(format!("{} passed at {port}", streams[at].name));
    }
    shared.received[at].fetch_add(1, Ordering::Relaxed);
}
