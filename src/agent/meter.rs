//! What the agent counts of its own work, for [`crate::metrics`].

use std::time::Duration;

use prometheus::{
    Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, Opts, Registry, Result,
    proto::MetricFamily,
};

use super::{Applied, ApplyError};
use crate::model::Summary;

/// Seconds. A change takes some 10 ms; a load of thousands of NICs a second.
const BUCKETS: [f64; 13] = [
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
];

/// A part of the way from a change's receipt to its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// Until those before it are done.
    Wait,
    /// Compiled, and in force.
    Kernel,
    /// On disk.
    Disk,
    /// The flows that nothing allows any more, cut.
    Flows,
}

impl Phase {
    const ALL: [Self; 4] = [Self::Wait, Self::Kernel, Self::Disk, Self::Flows];

    fn name(self) -> &'static str {
        match self {
            Self::Wait => "wait",
            Self::Kernel => "kernel",
            Self::Disk => "disk",
            Self::Flows => "flows",
        }
    }
}

/// What failed, in a change or on its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Failure {
    /// A transaction was refused, or what became of it is not known.
    Kernel,
    /// The store was not written.
    Disk,
    /// Flows that lost their permission live on.
    Flows,
}

impl Failure {
    const ALL: [Self; 3] = [Self::Kernel, Self::Disk, Self::Flows];

    fn name(self) -> &'static str {
        match self {
            Self::Kernel => "kernel",
            Self::Disk => "disk",
            Self::Flows => "flows",
        }
    }
}

/// What becomes of a change.
const RESULTS: [&str; 5] = ["applied", "unchanged", INVALID, "stale", "unavailable"];
const INVALID: &str = "invalid";

fn result(answer: &std::result::Result<Applied, ApplyError>) -> &'static str {
    match answer {
        Ok(applied) if applied.summary == Summary::default() => "unchanged",
        Ok(_) => "applied",
        Err(ApplyError::Faults(_)) => INVALID,
        Err(ApplyError::Generation { .. }) => "stale",
        Err(ApplyError::Unavailable(_)) => "unavailable",
    }
}

/// Counts and times. Cheap to clone; the clones count together.
#[derive(Debug, Clone)]
pub struct Meter {
    registry: Registry,
    changes: IntCounterVec,
    duration: Histogram,
    phases: HistogramVec,
    failures: IntCounterVec,
    flows_cut: IntCounter,
}

impl Meter {
    /// Everything at zero.
    ///
    /// # Errors
    ///
    /// None that depends on anything: a name below would have to be wrong.
    pub fn new() -> Result<Self> {
        let meter = Self {
            registry: Registry::new(),
            changes: IntCounterVec::new(
                Opts::new(
                    "sgagent_changes_total",
                    "Changes that were asked for, by what became of them; dry runs are left out, where they can be read.",
                ),
                &["result"],
            )?,
            duration: Histogram::with_opts(
                HistogramOpts::new(
                    "sgagent_change_duration_seconds",
                    "Time from the receipt of a change to its acknowledgement.",
                )
                .buckets(BUCKETS.to_vec()),
            )?,
            phases: HistogramVec::new(
                HistogramOpts::new(
                    "sgagent_change_phase_duration_seconds",
                    "Time of the phases of that: until its turn, in the kernel, on disk, flows cut.",
                )
                .buckets(BUCKETS.to_vec()),
                &["phase"],
            )?,
            failures: IntCounterVec::new(
                Opts::new(
                    "sgagent_failures_total",
                    "What failed, in changes and on the agent's own: transactions, writes, cuts.",
                ),
                &["kind"],
            )?,
            flows_cut: IntCounter::new(
                "sgagent_flows_cut_total",
                "Live flows that were cut because nothing allowed them any more.",
            )?,
        };
        meter.register()?;
        Ok(meter)
    }

    fn register(&self) -> Result<()> {
        let Self {
            registry,
            changes,
            duration,
            phases,
            failures,
            flows_cut,
        } = self;
        registry.register(Box::new(changes.clone()))?;
        registry.register(Box::new(duration.clone()))?;
        registry.register(Box::new(phases.clone()))?;
        registry.register(Box::new(failures.clone()))?;
        registry.register(Box::new(flows_cut.clone()))?;
        // There from the start, so that the first of each is an increase.
        for name in RESULTS {
            changes.with_label_values(&[name]);
        }
        for phase in Phase::ALL {
            phases.with_label_values(&[phase.name()]);
        }
        for failure in Failure::ALL {
            failures.with_label_values(&[failure.name()]);
        }
        Ok(())
    }

    /// All of it as it is now.
    pub fn gather(&self) -> Vec<MetricFamily> {
        self.registry.gather()
    }

    pub(super) fn answered(
        &self,
        answer: &std::result::Result<Applied, ApplyError>,
        took: Duration,
    ) {
        let result = result(answer);
        self.changes.with_label_values(&[result]).inc();
        if result == "applied" {
            self.duration.observe(took.as_secs_f64());
        }
    }

    /// A change that never came to the agent.
    pub(super) fn refused(&self) {
        self.changes.with_label_values(&[INVALID]).inc();
    }

    pub(super) fn took(&self, phase: Phase, time: Duration) {
        let phase = self.phases.with_label_values(&[phase.name()]);
        phase.observe(time.as_secs_f64());
    }

    pub(super) fn failed(&self, what: Failure) {
        self.failures.with_label_values(&[what.name()]).inc();
    }

    pub(super) fn cut(&self, flows: u64) {
        self.flows_cut.inc_by(flows);
    }
}
