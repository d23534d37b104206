//! A guest that floods at full speed: its neighbours' established flows lose nothing, the agent
//! answers, and what it keeps and writes stays bounded.
//!
//! What the processors explain is measured beside it: the same flood, dropped by somebody else's
//! table before anything of the agent's sees it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use sgagent::pb;

use super::fixture::{PROBED, host, start};
use super::kills::push_all;
use super::served::serving;
use super::traffic::{Totals, Traffic};
use super::wanted::Wanted;
use crate::support::frag::Cut;
use crate::support::net::{Net, slowness};
use crate::support::packet::ICMP;
use crate::support::tap::Tap;
use crate::support::who::{A, R, STRANGER, ip, solicited};

/// How long each flood lasts.
const LASTS: Duration = Duration::from_secs(2);

/// How long a change may take meanwhile.
const ANSWER: Duration = Duration::from_secs(5);

/// How much the agent may write to its log in all of it, and how much more memory it may have.
const LOG: usize = 64 << 10;
const MEMORY_KIB: u64 = 32 << 10;

/// The floods: a name, and the frames of one round.
fn floods() -> Vec<(&'static str, Vec<Vec<u8>>)> {
    // The guest that floods is the one without traffic of its own.
    let guest = PROBED;
    let many = |frame: &dyn Fn(u16) -> Vec<u8>| (0..256).map(frame).collect::<Vec<_>>();
    let fragment = |n: u16| {
        let cut = Cut {
            before: 0,
            id: u32::from(n),
            lengths: &[],
        };
        let ping = guest.to(STRANGER).echo(128, 4, 1400);
        let offset = if n.is_multiple_of(2) { 0 } else { 1400 };
        ping.piece(&cut, (ICMP, offset, true), &ping.body[..1400])
    };
    let group = |n: u16| ip(&format!("ff05::1:{n:x}"));
    vec![
        ("solicitations", many(&|_| guest.asks_for(R.ll).frame())),
        (
            "probes of others' addresses",
            many(&|n| guest.probes(ip(&format!("2001:db8:100:1::{n:x}"))).frame()),
        ),
        ("advertisements", many(&|_| guest.claims(R.ll).frame())),
        (
            "listener reports",
            many(&|n| guest.joins(&[group(n), group(n + 256)]).frame()),
        ),
        (
            "listener done",
            many(&|n| guest.mld1(132, solicited(group(n))).frame()),
        ),
        ("fragments", many(&fragment)),
        (
            "new flows",
            many(&|n| guest.to(STRANGER).udp(1000 + n, 9).frame()),
        ),
        (
            "spoofed addresses",
            many(&|n| {
                guest
                    .to(STRANGER)
                    .src(ip(&format!("2001:db8:9::{n:x}")))
                    .udp(1, n)
                    .frame()
            }),
        ),
        (
            "spoofed MACs",
            many(&|n| {
                let [high, low] = n.to_be_bytes();
                guest
                    .to(STRANGER)
                    .eth_src([6, 0xb2, 9, 9, high, low])
                    .udp(1, 2)
                    .frame()
            }),
        ),
        (
            "rogue advertisements",
            many(&|_| guest.advertises().frame()),
        ),
        (
            "headers",
            many(&|_| guest.to(A.ip).routing(0, 1).padded(60).udp(1, 2).frame()),
        ),
    ]
}

/// Sends all of it in turn, as fast as it goes, until told to stop.
struct Flood {
    stop: Arc<AtomicBool>,
    sent: Arc<AtomicU64>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Flood {
    fn start(tap: Arc<Tap>, mut frames: Vec<Vec<u8>>, new_flows: bool) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let sent = Arc::new(AtomicU64::new(0));
        let (stopped, count) = (Arc::clone(&stop), Arc::clone(&sent));
        let thread = std::thread::spawn(move || {
            let mut port = 0_u16;
            while !stopped.load(Ordering::Relaxed) {
                for frame in &mut frames {
                    if new_flows {
                        renumber(frame, port);
                        port = port.wrapping_add(1);
                    }
                    tap.send(frame);
                }
                count.fetch_add(u64::try_from(frames.len()).unwrap(), Ordering::Relaxed);
            }
        });
        Self {
            stop,
            sent,
            thread: Some(thread),
        }
    }

    fn end(mut self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.take().unwrap().join().unwrap();
        self.sent.load(Ordering::Relaxed)
    }
}

/// Another source port of a datagram whose payload makes up for it in the checksum.
fn renumber(frame: &mut [u8], port: u16) {
    let at = 54;
    let old = u16::from_be_bytes([frame[at], frame[at + 1]]);
    let word = u16::from_be_bytes([frame[at + 8], frame[at + 9]]);
    // The sum of both, in ones' complement, stays.
    let sum = ones(old, word);
    let word = ones(sum, !port);
    frame[at..at + 2].copy_from_slice(&port.to_be_bytes());
    frame[at + 8..at + 10].copy_from_slice(&word.to_be_bytes());
}

fn ones(a: u16, b: u16) -> u16 {
    let (sum, carry) = a.overflowing_add(b);
    sum + u16::from(carry)
}

/// Each flood in turn while traffic flows; what became of the traffic, and the slowest answer.
fn all(net: &Net, name: &str, mut wanted: Option<Wanted>) -> (Totals, Duration) {
    let traffic = Traffic::start(net);
    let mut slowest = Duration::ZERO;
    let floods = floods();
    let count = floods.len();
    for (what, frames) in floods {
        traffic.doing(what);
        let tap = Arc::clone(&net.taps[PROBED.port]);
        let flood = Flood::start(tap, frames, what == "new flows");
        let started = Instant::now();
        let mut slowest_of_this = Duration::ZERO;
        while started.elapsed() < LASTS {
            std::thread::sleep(Duration::from_millis(200));
            if let Some(before) = &mut wanted {
                let asked = Instant::now();
                let next = before.next();
                next.push(Some(*before), net).unwrap();
                *before = next;
                assert!(serving(net));
                slowest_of_this = slowest_of_this.max(asked.elapsed());
            }
        }
        let sent = flood.end();
        let rate = sent / started.elapsed().as_secs();
        println!("{name}, {what}: {rate} frames a second, slowest answer {slowest_of_this:?}");
        slowest = slowest.max(slowest_of_this);
    }
    (traffic.end(name, count), slowest)
}

fn memory_kib(net: &Net) -> u64 {
    let path = format!("/proc/{}/status", net.agent.pid());
    let text = std::fs::read_to_string(path).unwrap();
    let line = text
        .lines()
        .find(|line| line.starts_with("VmRSS:"))
        .unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// What others may be told of it in one answer.
fn told(net: &Net) -> usize {
    let status = net.agent_status();
    let request = pb::ListDropsRequest::default();
    let drops = net
        .agent
        .call(async |mut client| client.list_drops(request).await);
    format!("{status:?}{:?}", drops.unwrap()).len()
}

#[test]
fn a_guest_that_floods() {
    let mut net = start(host());
    push_all(&mut net);
    let (memory, log, answer) = (memory_kib(&net), net.agent.log().len(), told(&net));
    let (with_rules, slowest) = all(&net, "a_guest_that_floods", Some(Wanted::first()));
    let written = net.agent.log().len() - log;
    let more = memory_kib(&net).saturating_sub(memory);
    let answer = told(&net).saturating_sub(answer);
    println!(
        "floods: slowest answer {slowest:?}, {written} octets of log, {more} KiB more memory, \
         {answer} octets more to tell"
    );
    net.namespace.command("nft add table netdev theirs");
    let chain = "{ type filter hook ingress device vnet3 priority -500; }";
    let file = tempfile::NamedTempFile::new().unwrap();
    let script = format!("add chain netdev theirs c {chain}\nadd rule netdev theirs c drop\n");
    std::fs::write(file.path(), script).unwrap();
    net.namespace
        .command(&format!("nft -f {}", file.path().display()));
    let (dropped_at_once, _) = all(&net, "a_guest_whose_flood_is_dropped_at_once", None);
    assert_eq!(
        with_rules.forbidden_passed + dropped_at_once.forbidden_passed,
        0
    );
    assert!(
        with_rules.permitted_lost <= dropped_at_once.permitted_lost,
        "{with_rules:?}, and where the flood is dropped at once {dropped_at_once:?}"
    );
    assert!(with_rules.rate >= 5_000, "{with_rules:?}: too slow");
    assert!(slowest < ANSWER * slowness());
    assert!(written < LOG, "{}", net.agent.log());
    assert!(more < MEMORY_KIB);
    assert!(answer < 4096);
}
