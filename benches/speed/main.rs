//! `make bench`: how fast sgagent is, as ratios of two things measured side by side in one run.
//!
//! - [`packets`]: what the rules cost a packet, against connection tracking alone, no filter at
//!   all, and a chain of rules per NIC in the manner of `CloudStack`.
//! - [`api`]: what a change costs, against what bare `nft -f` needs for the same one.
//!
//! Everything is measured in rounds that take a short slice of each variant in turn, so that what
//! else the machine does falls on all of them alike. A line shows the least, the median and the
//! greatest of its rounds; the median is held against the target. The run never fails for a
//! target that is missed: on a busy machine that says little. Absolute numbers are shown
//! for orientation; they are this machine's, and two runs of them are not comparable.
//!
//! Options: `--only packets` or `--only api`, `--rounds N` (at least 1, default 7; packets take
//! twice as many), `--json` (a line of JSON for each line of the table), `--trial FILE` (may be
//! repeated: another ruleset for the packets, loaded by `nft -f` into a host of its own).
#![expect(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a benchmark starts real programs, in real time, and prints; a fault ends it"
)]

use clap::{Parser, ValueEnum};

mod api;
mod cloudstack;
mod daemon;
mod hosts;
mod memory;
#[path = "../../tests/support/namespace.rs"]
#[expect(dead_code, reason = "the tests use all of it")]
mod namespace;
mod packets;
mod revoke;
mod sender;
mod table;
mod world;

/// A part of the benchmark.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Part {
    /// The cost of a packet.
    Packets,
    /// The cost of a change.
    Api,
}

/// How fast sgagent is, as ratios side by side.
#[derive(Debug, Parser)]
struct Options {
    /// Only this part.
    #[arg(long)]
    only: Option<Part>,
    /// Slices of each variant.
    #[arg(long, default_value_t = 7, value_parser = clap::value_parser!(u16).range(1..))]
    rounds: u16,
    /// A JSON object a line, instead of a table.
    #[arg(long)]
    json: bool,
    /// Another ruleset to send packets through.
    #[arg(long)]
    trial: Vec<std::path::PathBuf>,
    /// Only variants whose name has one of these in it (and what they are compared with).
    #[arg(long)]
    variant: Vec<String>,
    /// `cargo bench` adds it.
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() {
    let options = Options::parse();
    let wanted = |part| options.only.is_none_or(|only| only == part);
    let mut lines = Vec::new();
    if wanted(Part::Packets) {
        lines.extend(packets::measure(&packets::Settings {
            rounds: 2 * options.rounds,
            trials: &options.trial,
            only: &options.variant,
        }));
    }
    if wanted(Part::Api) {
        lines.extend(api::measure(options.rounds));
    }
    if options.json {
        table::print_json(&lines);
    } else {
        table::print(&lines);
    }
}

/// Progress, on stderr: the table alone is on stdout.
fn progress(what: &str) {
    eprintln!("bench: {what}");
}
