//! What a Prometheus scrapes: the agent's work ([`crate::agent::Meter`]), its state, and what was
//! dropped.
//!
//! State is read when it is asked for and nothing is kept between two scrapes. Names and units
//! are as Prometheus wants them (<https://prometheus.io/docs/practices/naming/>).

use prometheus::{
    GaugeVec, IntCounterVec, Opts, Registry, Result, TextEncoder,
    process_collector::ProcessCollector,
};

use crate::{
    agent::{DropCount, Drops, FlowTable, Handle, Identity, View},
    model::NicState,
};

mod serve;

pub use serve::serve;

/// What answers a scrape.
#[derive(Debug, Clone)]
pub struct Exporter {
    /// The agent.
    pub handle: Handle,
    /// How full the host's table of flows is.
    pub flow_table: fn() -> Option<FlowTable>,
}

impl Exporter {
    /// Everything, in Prometheus' text format. Where the kernel's counters can't be read, they
    /// are left out, and `sgagent_drops_readable` is 0.
    ///
    /// # Errors
    ///
    /// None that depends on anything: a name below would have to be wrong.
    pub async fn text(&self) -> Result<String> {
        let drops = self.handle.drops().await;
        let scrape = Scrape::default();
        scrape.state(&self.handle.view())?;
        if let Some(table) = (self.flow_table)() {
            scrape.flow_table(table)?;
        }
        let readable = u32::from(drops.is_ok());
        scrape.gauge(
            "drops_readable",
            "Whether the kernel's counters of drops could be read.",
            f64::from(readable),
        )?;
        if let Ok(drops) = &drops {
            scrape.drops(drops)?;
        }
        scrape.0.register(Box::new(ProcessCollector::for_self()))?;
        let mut families = self.handle.meter().gather();
        families.extend(scrape.0.gather());
        TextEncoder::new().encode_to_string(&families)
    }
}

/// The values of one scrape.
#[derive(Default)]
struct Scrape(Registry);

impl Scrape {
    fn gauges(&self, name: &str, help: &str, labels: &[&str]) -> Result<GaugeVec> {
        let gauges = GaugeVec::new(Opts::new(format!("sgagent_{name}"), help), labels)?;
        self.0.register(Box::new(gauges.clone()))?;
        Ok(gauges)
    }

    fn gauge(&self, name: &str, help: &str, value: f64) -> Result<()> {
        let none: &[&str] = &[];
        self.gauges(name, help, none)?
            .with_label_values(none)
            .set(value);
        Ok(())
    }

    fn counters(&self, name: &str, help: &str, labels: &[&str]) -> Result<IntCounterVec> {
        let counters = IntCounterVec::new(Opts::new(format!("sgagent_{name}"), help), labels)?;
        self.0.register(Box::new(counters.clone()))?;
        Ok(counters)
    }

    fn state(&self, view: &View) -> Result<()> {
        self.build(&view.identity)?;
        let healthy = f64::from(u32::from(view.unhealthy.is_none()));
        self.gauge(
            "healthy",
            "Whether what was acknowledged is known to be in the kernel and on disk.",
            healthy,
        )?;
        let nics = self.gauges("nics", "NICs by state.", &["state"])?;
        for state in ["active", "pending", "quarantined"] {
            nics.with_label_values(&[state]);
        }
        for nic in view.desired().nics.keys() {
            let state = match view.outcome(nic).map(|outcome| &outcome.state) {
                Some(NicState::Active) => "active",
                Some(NicState::Quarantined(_)) => "quarantined",
                Some(NicState::Pending(_)) | None => "pending",
            };
            nics.with_label_values(&[state]).inc();
        }
        let groups = number(view.desired().groups.len() as u64);
        self.gauge("groups", "Security groups.", groups)?;
        if let Some(generation) = view.generation {
            let help = "Generation of the management server that is in force.";
            self.gauge("generation", help, number(generation))?;
        }
        let help = "The agent's own count of changes, from the first on.";
        self.gauge("revision", help, number(view.revision))?;
        let help = "Interfaces that look like a guest's and are not protected.";
        self.gauge(
            "unprotected_interfaces",
            help,
            number(view.unprotected().len() as u64),
        )?;
        let help = "Warnings in the agent's status: what someone should look at.";
        self.gauge("warnings", help, number(view.warnings().len() as u64))?;
        let help = "How often something that others changed of ours was put back.";
        let none: &[&str] = &[];
        self.counters("drift_repairs_total", help, none)?
            .with_label_values(none)
            .inc_by(view.drift_repairs);
        self.ports(view)
    }

    fn build(&self, identity: &Identity) -> Result<()> {
        let Identity {
            dataplane,
            placement,
            placement_reason: _,
            kernel_version,
            nft_version,
            fragments_joined: _,
            no_samples: _,
        } = identity;
        let labels = ["version", "dataplane", "placement", "kernel", "nft"];
        let version = env!("CARGO_PKG_VERSION");
        self.gauges("build_info", "What the agent is; always 1.", &labels)?
            .with_label_values(&[version, dataplane, placement, kernel_version, nft_version])
            .set(1.0);
        Ok(())
    }

    fn ports(&self, view: &View) -> Result<()> {
        let help = "Ports of the managed bridges; a closed one carries nothing.";
        let ports = self.gauges("bridge_ports", help, &["bridge", "state"])?;
        for bridge in view.bridges() {
            let of = |state| ports.with_label_values(&[bridge.name.as_str(), state]);
            of("uplink").set(number(bridge.uplinks.len() as u64));
            of("bound").set(f64::from(bridge.bound_ports));
            of("closed").set(number(bridge.closed_ports.len() as u64));
        }
        Ok(())
    }

    fn flow_table(&self, table: FlowTable) -> Result<()> {
        let FlowTable { entries, maximum } = table;
        let help = "Flows in the host's conntrack table, everybody's.";
        self.gauge("conntrack_entries", help, number(entries))?;
        let help = "As many flows as fit into the host's conntrack table.";
        self.gauge("conntrack_entries_limit", help, number(maximum))
    }

    fn drops(&self, drops: &Drops) -> Result<()> {
        let Drops { nics, totals } = drops;
        let about = "dropped since the rules were loaded, by reason (packet-policy.md)";
        let all = self.counted("dropped", about, &["reason"])?;
        for count in totals {
            put(&all, &[&count.reason], count);
        }
        let about = "dropped of what a NIC sent or was sent since the rules were loaded, by reason";
        let each = self.counted("nic_dropped", about, &["nic", "reason"])?;
        for nic in nics {
            for count in &nic.drops {
                put(&each, &[nic.nic.as_str(), &count.reason], count);
            }
        }
        Ok(())
    }

    /// Packets, and their octets.
    fn counted(&self, name: &str, about: &str, labels: &[&str]) -> Result<[IntCounterVec; 2]> {
        let counters = |unit, what| {
            let name = format!("{name}_{unit}_total");
            self.counters(&name, &format!("{what} {about}."), labels)
        };
        Ok([
            counters("packets", "Packets")?,
            counters("bytes", "Octets")?,
        ])
    }
}

fn put([packets, bytes]: &[IntCounterVec; 2], labels: &[&str], count: &DropCount) {
    packets.with_label_values(labels).inc_by(count.packets);
    bytes.with_label_values(labels).inc_by(count.bytes);
}

/// As a gauge has it: exact up to 2^53.
#[expect(
    clippy::cast_precision_loss,
    reason = "Prometheus' values are floats, whatever they are of"
)]
fn number(value: u64) -> f64 {
    value as f64
}
