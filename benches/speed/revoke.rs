//! What taking a rule away costs where live flows need it (S7): from the request to the
//! acknowledgement, and they are cut by then.
//!
//! The flows are put into connection tracking by `conntrack`, as the traffic would have made
//! them; those to cut anew for every call. A NIC's flows that another rule allows are judged and
//! go on.

use std::fmt::Write as _;
use std::time::Instant;

use sgagent::pb;

use super::api::Host;
use super::table::{Line, Target, median};
use super::{progress, world};

const GROUP: &str = "API: a rule taken away that live flows need (S7), request to acknowledgement";
/// Where its rule lets in.
const PORT: u16 = 8_443;
/// Calls of a round.
const CALLS: usize = 4;
/// Flows to cut, and flows of the same NIC that go on.
const SIZES: [(usize, usize); 3] = [(0, 0), (1_000, 0), (1_000, 100_000)];
/// Whose flows they are.
const NIC: usize = 3;

/// Measures on a host of its own, with NICs and groups as `everything`.
pub(crate) fn measure(host: &Host, mut everything: pb::SyncRequest, rounds: u16) -> Vec<Line> {
    let cut = group(true);
    everything.groups.push(cut.clone());
    everything.nics[NIC].group_ids.push(cut.id);
    host.sync(everything);
    let mut lines = Vec::new();
    for (gone, others) in SIZES {
        progress(&format!("api: {gone} flows cut beside {others}"));
        host.namespace.command("conntrack -F");
        fill(host, "-p udp", world::FLOW_PORTS.0, others);
        let mut medians = Vec::new();
        for round in 0..=rounds {
            let mut times = Vec::new();
            for _ in 0..CALLS {
                fill(host, "-p tcp --state ESTABLISHED", PORT, gone);
                let began = Instant::now();
                let answer = host.daemon.apply(with(group(false)));
                times.push(began.elapsed().as_secs_f64() * 1e3);
                assert_eq!(answer.flows_cut, u64::try_from(gone).unwrap());
                host.daemon.apply(with(group(true)));
            }
            // Round 0 warms up.
            if round > 0 {
                medians.push(median(&times));
            }
        }
        lines.push(Line {
            group: GROUP,
            name: format!("{gone} flows cut, {others} judged that go on"),
            unit: "ms",
            rounds: medians,
            // They are cut before the answer, which is what is promised; this is what that takes.
            target: Target::None,
            note: String::new(),
        });
    }
    lines
}

/// So many established flows to a port of the NIC.
fn fill(host: &Host, protocol: &str, port: u16, count: usize) {
    let zone = host.namespace.read("/sys/class/net/br0/ifindex");
    let mut text = String::new();
    for i in 0..count {
        let (from, to) = (world::elsewhere(i), world::slaac(NIC));
        let _ = writeln!(
            text,
            "-I -s {from} -d {to} {protocol} --sport 40000 --dport {port} \
             -u SEEN_REPLY,ASSURED -t 3600 -w {zone}"
        );
    }
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), text).unwrap();
    let load = format!("conntrack --load-file {}", file.path().display());
    host.namespace.command(&load);
}

/// The group whose one rule comes and goes.
fn group(open: bool) -> pb::Group {
    let rule = pb::Rule {
        direction: pb::Direction::Ingress.into(),
        protocol: pb::Protocol::Tcp.into(),
        ports: Some(pb::PortRange {
            first: PORT.into(),
            last: PORT.into(),
        }),
        remote: Some(pb::Remote {
            anyone: true,
            ..pb::Remote::default()
        }),
        ..pb::Rule::default()
    };
    pb::Group {
        id: "comes-and-goes".to_owned(),
        rules: open.then_some(rule).into_iter().collect(),
        ..pb::Group::default()
    }
}

fn with(group: pb::Group) -> pb::ApplyRequest {
    pb::ApplyRequest {
        groups: vec![group],
        ..pb::ApplyRequest::default()
    }
}
