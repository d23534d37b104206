//! What the rules cost a packet.
//!
//! Two guests are namespaces that veths join to a bridge; one sends small UDP packets to the other,
//! 64 octets each, many in one system call. Each variant of the rules has a host of its own, made
//! in advance, and a round takes a slice of each. One processor does everything: veth delivers in
//! the sender's soft interrupts, so the sending thread's processor time is the cost of the whole
//! way, from
//! `sendmmsg` to the receiver's socket or (where each packet is a flow of its own, so
//! nobody listens) to a drop at the receiver's device. That time counts, not the wall's: on a
//! machine with other work it is far steadier. What the host gave to the receiver is counted at
//! its port, and a slice that loses packets ends the run.
//!
//! - *established*: one flow that has been answered, one way.
//! - *a flow per packet*: another destination port each, every flow forgotten before each slice.
//!
//! Every value is packets per processor second as a percentage of what connection tracking alone
//! lets through in the same round. What this can't tell: how it is with many processors at
//! once, with real tap devices and guests (whose own cost per packet is higher, so that the rules'
//! share is smaller), or with packets of full size (the same cost per packet).

use std::path::PathBuf;

use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;

use super::hosts::{Host, Rules, Traffic};
use super::progress;
use super::sender::Effort;
use super::table::{Line, Target, median, ratios};

/// Packets of a slice: some ten milliseconds, so that what disturbs one disturbs all.
const SLICE: u16 = 1_500;
/// Slices of a variant in a round.
const SLICES: u16 = 20;

/// How to measure.
#[derive(Debug)]
pub(crate) struct Settings<'a> {
    /// Slices of each variant.
    pub rounds: u16,
    /// Other rulesets.
    pub trials: &'a [PathBuf],
    /// Parts of the names of the wanted variants; empty: all.
    pub only: &'a [String],
}

/// Thousands of packets a second, one of each round.
#[derive(Debug, Default)]
struct Rates {
    processor: Vec<f64>,
    wall: Vec<f64>,
}

/// Measures all variants with both kinds of traffic.
pub(crate) fn measure(settings: &Settings<'_>) -> Vec<Line> {
    let mut hosts = hosts(settings);
    // From here on: what was started runs where it likes, this thread on one processor.
    let anywhere = sched_getaffinity(Pid::from_raw(0)).unwrap();
    sched_setaffinity(Pid::from_raw(0), &last_of(&anywhere)).unwrap();
    let kinds = [
        (
            Traffic::Established,
            "Packets of an established flow, % of connection tracking alone",
            85.0,
        ),
        (
            Traffic::FlowPerPacket,
            "A flow per packet, % of connection tracking alone",
            80.0,
        ),
    ];
    let mut rates = kinds.map(|_| hosts.iter().map(|_| Rates::default()).collect::<Vec<_>>());
    for number in 0..=settings.rounds {
        progress(&format!("packets: round {number} of {}", settings.rounds));
        for ((traffic, ..), rates) in kinds.iter().zip(&mut rates) {
            let efforts = round(&mut hosts, *traffic);
            // Round 0 warms up.
            for (effort, rates) in efforts.iter().zip(rates).filter(|_| number > 0) {
                let thousands = f64::from(SLICE) * f64::from(SLICES) / 1_000.0;
                rates
                    .processor
                    .push(thousands / effort.processor.as_secs_f64());
                rates.wall.push(thousands / effort.wall.as_secs_f64());
            }
        }
    }
    sched_setaffinity(Pid::from_raw(0), &anywhere).unwrap();
    kinds
        .iter()
        .zip(&rates)
        .flat_map(|((_, group, least), rates)| lines(group, *least, &hosts, rates))
        .collect()
}

/// What each host needed for as many packets, taken in turns.
fn round(hosts: &mut [Host], traffic: Traffic) -> Vec<Effort> {
    for host in &mut *hosts {
        host.begin(traffic);
    }
    let mut efforts = vec![Effort::default(); hosts.len()];
    for turn in 0..SLICES {
        let mut turns: Vec<_> = hosts.iter_mut().zip(&mut efforts).collect();
        if turn % 2 == 1 {
            turns.reverse();
        }
        for (host, effort) in turns {
            *effort += host.slice(traffic, SLICE);
        }
    }
    for host in hosts {
        host.end();
    }
    efforts
}

/// The second variant is what the others are compared with.
fn hosts(settings: &Settings<'_>) -> Vec<Host> {
    let mut variants = vec![
        Rules::Nothing,
        Rules::Conntrack,
        Rules::Ours(2),
        Rules::Ours(1_000),
        Rules::CloudStack(2),
        Rules::CloudStack(100),
        Rules::CloudStack(300),
    ];
    variants.extend(settings.trials.iter().cloned().map(Rules::Trial));
    let wanted = |rules: &Rules| {
        let named = |part: &String| rules.name().contains(part.as_str());
        *rules == Rules::Conntrack || settings.only.is_empty() || settings.only.iter().any(named)
    };
    let make = |rules| {
        progress(&format!("packets: a host with {}", Rules::name(rules)));
        Host::new(rules)
    };
    variants
        .iter()
        .filter(|rules| wanted(rules))
        .map(make)
        .collect()
}

fn lines(group: &'static str, least: f64, hosts: &[Host], rates: &[Rates]) -> Vec<Line> {
    let find = |rules: &Rules| {
        let at = hosts.iter().position(|host| host.name == rules.name())?;
        Some(&rates[at].processor)
    };
    let base = find(&Rules::Conntrack).expect("it is never left out");
    let percent = |values: Vec<f64>| values.iter().map(|value| value * 100.0).collect();
    let line = |(host, rates): (&Host, &Rates)| Line {
        group,
        name: host.name.clone(),
        unit: "%",
        rounds: percent(ratios(&rates.processor, base)),
        target: if host.name.starts_with("sgagent") {
            Target::AtLeast(least)
        } else {
            Target::None
        },
        note: format!(
            "{:.0} k packets per processor second, {:.0} k per second",
            median(&rates.processor),
            median(&rates.wall)
        ),
    };
    let mut lines: Vec<_> = hosts.iter().zip(rates).map(line).collect();
    if let (Some(few), Some(many)) = (find(&Rules::Ours(2)), find(&Rules::Ours(1_000))) {
        lines.push(Line {
            group,
            name: "sgagent, 1000 NICs of 2 NICs".to_owned(),
            unit: "%",
            rounds: percent(ratios(many, few)),
            target: Target::AtLeast(95.0),
            note: String::new(),
        });
    }
    lines
}

/// The last of these processors.
fn last_of(some: &CpuSet) -> CpuSet {
    let last = (0..CpuSet::count())
        .rev()
        .find(|&i| some.is_set(i).unwrap());
    let mut set = CpuSet::new();
    set.set(last.expect("this thread runs somewhere")).unwrap();
    set
}
