//! The host of a test, and the verdict: what arrives.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use sgagent::pb;

use super::agent::Agent;
use super::bridge_kind::trunk_command;
use super::coverage;
use super::frag::join;
use super::namespace::Namespace;
use super::packet::Wire;
use super::plan::{NO_BRIDGE, Placement, Plan, placement, port_commands};
use super::tap::Tap;
use super::want::Ipv4Mode;
use super::who::{HOST, Machine};

/// How long a frame that has to arrive may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(3);

/// How much longer everything may take here: an emulated machine (tests/vm) takes its time.
pub(crate) fn slowness() -> u32 {
    if std::env::var_os("SGAGENT_TEST_VM").is_some() {
        8
    } else {
        1
    }
}

/// A running host. Fields are dropped in order: the agent goes before its network.
pub(crate) struct Net {
    pub agent: Agent,
    pub taps: BTreeMap<String, Arc<Tap>>,
    ports: BTreeMap<String, (Machine, &'static str)>,
    /// Ports that a sentinel reaches: uplinks, unmanaged ports, guests with a NIC.
    live: BTreeSet<String>,
    sentinels: u32,
    started: Instant,
    pub namespace: Namespace,
}

impl Drop for Net {
    fn drop(&mut self) {
        coverage::record(&self.namespace, self.started);
    }
}

/// Frames by the port where they came out.
pub(crate) type Arrivals = BTreeMap<String, Vec<Vec<u8>>>;

impl Net {
    pub(crate) fn new(plan: Plan) -> Self {
        let namespace = Namespace::new();
        for name in ["iptables", "ip6tables", "arptables"] {
            let path = format!("net/bridge/bridge-nf-call-{name}");
            // Placement bridge needs no br_netfilter, which makes these.
            if placement() == Placement::BrNetfilter || namespace.has(&format!("/proc/sys/{path}"))
            {
                namespace.sysctl(&path, "0");
            }
        }
        // The guests' ports and the uplink have no addresses of their own, as on a hypervisor.
        namespace.sysctl("net/ipv6/conf/default/disable_ipv6", "1");
        let machines = plan.ports.iter().map(|(machine, _)| machine.port);
        let taps = machines
            .map(|name| (name.to_owned(), Arc::new(Tap::new(&namespace, name))))
            .collect();
        namespace.ip_batch(&plan.ip_commands());
        let on_bridges = plan.ports.iter().filter(|(_, bridge)| *bridge != NO_BRIDGE);
        for command in on_bridges.filter_map(|(machine, _)| trunk_command(machine)) {
            namespace.command(&command);
        }
        for (option, value) in [("accept_dad", "0"), ("router_solicitations", "0")] {
            namespace.sysctl(&format!("net/ipv6/conf/br0/{option}"), value);
        }
        namespace.sysctl("net/ipv6/conf/br0/disable_ipv6", "0");

        let agent = Agent::new(&plan.config());
        let ports = plan
            .ports
            .iter()
            .map(|port| (port.0.port.to_owned(), *port))
            .collect();
        let live = first_live(&plan);
        let mut net = Self {
            agent,
            taps,
            ports,
            live,
            sentinels: 0,
            started: Instant::now(),
            namespace,
        };
        net.agent.start(&net.namespace);
        let wanted = plan.change.nics.len();
        if wanted + plan.change.groups.len() > 0 {
            net.apply(plan.change);
        }
        net
    }

    // ---- the agent

    /// A change that has to be accepted. NICs whose port is there have to be active after it.
    pub(crate) fn apply(&mut self, change: pb::ApplyRequest) -> pb::ApplyResponse {
        let (nics, removed) = (change.nics.clone(), change.remove_nics.clone());
        let answer = self
            .agent
            .call(async |mut client| client.apply(change).await);
        let answer = answer.unwrap_or_else(|error| panic!("apply: {error}"));
        for nic in &nics {
            let Some(pb::interface_selector::By::Name(port)) = &nic.interfaces[0].by else {
                continue;
            };
            let blocked = nic.ipv4 == Some(Ipv4Mode::Block.into());
            if self.taps.contains_key(port) {
                let status = answer
                    .nics
                    .iter()
                    .find(|status| status.id == nic.id)
                    .unwrap();
                assert_eq!(status.state, i32::from(pb::NicState::Active), "{status:?}");
                if !blocked {
                    self.live.insert(port.clone());
                }
            }
        }
        for id in &removed {
            self.live.remove(id);
        }
        answer
    }

    /// A full sync that takes these machines' NICs away.
    pub(crate) fn sync(
        &mut self,
        everything: pb::SyncRequest,
        gone: &[Machine],
    ) -> pb::SyncResponse {
        let pieces = tokio_stream::iter([everything]);
        let answer = self
            .agent
            .call(async |mut client| client.sync(pieces).await)
            .unwrap_or_else(|error| panic!("sync: {error}"));
        for machine in gone {
            self.live.remove(machine.port);
        }
        answer
    }

    /// Has a bridge enforced, on which these machines have no NICs.
    pub(crate) fn adopt(
        &mut self,
        bridge: &str,
        dry_run: bool,
        gone: &[Machine],
    ) -> Vec<pb::BridgeStatus> {
        let request = pb::AdoptBridgeRequest {
            bridge: bridge.to_owned(),
            dry_run,
        };
        let answer = self
            .agent
            .call(async |mut client| client.adopt_bridge(request).await);
        for machine in gone {
            self.live.remove(machine.port);
        }
        answer.unwrap().bridges_adopted
    }

    /// The state of the NIC named after a machine's port.
    pub(crate) fn status(&self, machine: Machine) -> pb::NicStatus {
        let request = pb::GetNicRequest {
            id: machine.port.to_owned(),
        };
        let answer = self
            .agent
            .call(async |mut client| client.get_nic(request).await)
            .unwrap();
        answer.nic.unwrap().status.unwrap()
    }

    /// Waits until a NIC has a state: the agent learns of ports from the kernel.
    pub(crate) fn wait_for(&mut self, machine: Machine, state: pb::NicState) {
        let deadline = Instant::now() + Duration::from_secs(10) * slowness();
        loop {
            let status = self.status(machine);
            if status.state == i32::from(state) {
                break;
            }
            assert!(Instant::now() < deadline, "still {status:?}");
            std::thread::sleep(Duration::from_millis(10));
        }
        if state == pb::NicState::Active {
            self.live.insert(machine.port.to_owned());
        }
    }

    /// Waits until the agent has seen a port that no NIC is bound to.
    pub(crate) fn wait_until_closed(&self, machine: Machine) {
        let deadline = Instant::now() + Duration::from_secs(10) * slowness();
        loop {
            let request = pb::GetStatusRequest {};
            let answer = self
                .agent
                .call(async |mut client| client.get_status(request).await)
                .unwrap();
            let closed = |bridge: &pb::BridgeStatus| {
                bridge.closed_ports.iter().any(|port| port == machine.port)
            };
            if answer.bridges.iter().any(closed) {
                return;
            }
            assert!(Instant::now() < deadline, "{:?}", answer.bridges);
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// What the agent says of itself.
    pub(crate) fn agent_status(&self) -> pb::GetStatusResponse {
        let request = pb::GetStatusRequest {};
        let answer = self
            .agent
            .call(async |mut client| client.get_status(request).await);
        answer.unwrap()
    }

    // ---- ports

    /// A guest's tap appears on the bridge.
    pub(crate) fn plug(&mut self, machine: Machine, bridge: &'static str) {
        let tap = Tap::new(&self.namespace, machine.port);
        self.namespace.ip_batch(&port_commands(&machine, bridge));
        if let Some(command) = trunk_command(&machine) {
            self.namespace.command(&command);
        }
        self.taps.insert(machine.port.to_owned(), Arc::new(tap));
        self.ports
            .insert(machine.port.to_owned(), (machine, bridge));
    }

    /// A guest's tap goes away.
    pub(crate) fn unplug(&mut self, machine: Machine) {
        self.live.remove(machine.port);
        self.ports.remove(machine.port);
        self.taps.remove(machine.port);
    }

    /// A port that carried frames carries none any more.
    pub(crate) fn falls_silent(&mut self, machine: Machine) {
        self.live.remove(machine.port);
    }

    /// A port is on another bridge.
    pub(crate) fn moved(&mut self, machine: Machine, bridge: &'static str) {
        self.ports
            .insert(machine.port.to_owned(), (machine, bridge));
    }

    pub(crate) fn tap(&self, machine: Machine) -> &Tap {
        &self.taps[machine.port]
    }

    // ---- verdicts

    /// Sends and returns what came out where, up to a sentinel sent after it.
    ///
    /// Frames of the host itself are left out; [`Self::host_frames`] has them.
    pub(crate) fn arrivals(&mut self, wire: &impl Wire) -> Arrivals {
        self.drain();
        let port = wire.port().to_owned();
        for frame in wire.frames() {
            self.taps[&port].send(&frame);
        }
        assert_ne!(self.ports[&port].1, NO_BRIDGE, "use `send` and read");
        self.sentinel(&port)
    }

    /// It has to come out at `to`, whole and as it was.
    pub(crate) fn passes(&mut self, wire: &impl Wire, to: Machine) {
        let sent = wire.frames();
        let mut arrived = self.arrivals(wire).remove(to.port).unwrap_or_default();
        let deadline = Instant::now() + PATIENCE * slowness();
        while !contains(&arrived, &sent) {
            let port = wire.port();
            let Some(frame) = self.taps[to.port].receive(deadline) else {
                panic!("{port} to {}: not delivered\n{}", to.port, dump(&sent));
            };
            arrived.push(frame);
        }
    }

    /// As [`Self::passes`]; but the bridge's own tracking cuts what it has joined to the size of
    /// its largest piece, and loses what would be less than any path has room for
    /// (`nf_br_ip6_fragment`, net/ipv6/netfilter.c).
    pub(crate) fn passes_in_a_small_fragment(&mut self, wire: &impl Wire, to: Machine) {
        match placement() {
            Placement::BrNetfilter => self.passes(wire, to),
            Placement::Bridge => self.dropped(wire),
        }
    }

    /// Nothing of it may come out at `to`.
    pub(crate) fn blocked(&mut self, wire: &impl Wire, to: Machine) {
        let arrived = self.arrivals(wire).remove(to.port).unwrap_or_default();
        let port = wire.port();
        assert!(
            arrived.is_empty(),
            "{port} to {}: delivered\n{}",
            to.port,
            dump(&arrived)
        );
    }

    /// Nothing of it may come out anywhere.
    pub(crate) fn dropped(&mut self, wire: &impl Wire) {
        let from = wire.port().to_owned();
        for (port, frames) in self.arrivals(wire) {
            assert!(
                frames.is_empty(),
                "{from} to {port}: delivered\n{}",
                dump(&frames)
            );
        }
    }

    /// The good one comes out at `to`, the bad one nowhere.
    pub(crate) fn only(&mut self, good: &impl Wire, bad: &impl Wire, to: Machine) {
        self.passes(good, to);
        self.dropped(bad);
        self.passes(good, to);
    }

    /// The frames that the host itself has sent to a port and that were not read yet.
    pub(crate) fn host_frames(&self, machine: Machine) -> Vec<Vec<u8>> {
        let tap = self.tap(machine);
        std::iter::from_fn(|| tap.pending())
            .filter(|frame| frame[6..12] == HOST.mac)
            .collect()
    }

    /// Throws away what is waiting at the ports.
    pub(crate) fn drain(&self) {
        for tap in self.taps.values() {
            while tap.pending().is_some() {}
        }
    }

    /// An ARP request of its own number, which no IPv6 rule touches, from `port` or, where that
    /// carries nothing, from another of its bridge. Once it is everywhere, so is all before it.
    pub(crate) fn sentinel(&mut self, port: &str) -> Arrivals {
        let (_, bridge) = self.ports[port];
        let same = |name: &String| self.live.contains(name) && self.ports[name].1 == bridge;
        let live: Vec<String> = self
            .ports
            .keys()
            .filter(|name| same(name))
            .cloned()
            .collect();
        let from = live.iter().find(|name| *name == port).or(live.first());
        let from = from.unwrap_or_else(|| panic!("{bridge} has no port that carries anything"));
        self.sentinels += 1;
        let sentinel = arp_request(self.ports[from].0, self.sentinels);
        self.taps[from].send(&sentinel);
        let mut arrivals = Arrivals::new();
        for (name, tap) in self.taps.iter().filter(|(name, _)| *name != from) {
            let expected = live.contains(name);
            let deadline = Instant::now()
                + if expected {
                    PATIENCE * slowness()
                } else {
                    Duration::ZERO
                };
            let mut frames = Vec::new();
            loop {
                match tap.receive(deadline) {
                    Some(frame) if frame == sentinel => break,
                    Some(frame) if frame[6..12] == HOST.mac => {}
                    Some(frame) => frames.push(frame),
                    None if expected => panic!("the sentinel from {from} is lost to {name}"),
                    None => break,
                }
            }
            arrivals.insert(name.clone(), frames);
        }
        // What the sender itself gets back: a bridge never returns a frame to its port.
        let own = &self.taps[from];
        let back = std::iter::from_fn(|| own.pending()).filter(|frame| frame[6..12] != HOST.mac);
        arrivals.insert(from.clone(), back.collect());
        arrivals
    }
}

/// Uplinks and the ports of unmanaged bridges carry frames from the beginning.
fn first_live(plan: &Plan) -> BTreeSet<String> {
    let live = |machine: &Machine, on: &str| {
        plan.bridges.iter().any(|b| {
            b.name == on && (!b.managed || !plan.adopted || b.uplinks.contains(&machine.port))
        })
    };
    plan.ports
        .iter()
        .filter(|(m, on)| live(m, on))
        .map(|(m, _)| m.port.to_owned())
        .collect()
}

fn arp_request(machine: Machine, number: u32) -> Vec<u8> {
    let mut frame = vec![0xff; 6];
    frame.extend(machine.mac);
    frame.extend([8, 6, 0, 1, 8, 0, 6, 4, 0, 1]);
    frame.extend(machine.mac);
    frame.extend([192, 0, 2, 1, 0, 0, 0, 0, 0, 0]);
    frame.extend(number.to_be_bytes());
    frame
}

/// Whether all that was sent is there: IPv6 after reassembly, anything else octet by octet.
pub(crate) fn contains(arrived: &[Vec<u8>], sent: &[Vec<u8>]) -> bool {
    let is_ip6 = |frame: &&Vec<u8>| frame[12..14] == [0x86, 0xdd];
    let (sent_whole, arrived_whole) = (join(sent), join(arrived));
    let others: Vec<_> = sent.iter().filter(|frame| !is_ip6(frame)).collect();
    assert!(
        !sent_whole.is_empty() || !others.is_empty(),
        "nothing whole was sent"
    );
    sent_whole
        .iter()
        .all(|datagram| arrived_whole.contains(datagram))
        && others.iter().all(|frame| arrived.contains(frame))
}

pub(crate) fn dump(frames: &[Vec<u8>]) -> String {
    let hex = |frame: &Vec<u8>| {
        frame
            .iter()
            .map(|octet| format!("{octet:02x}"))
            .collect::<Vec<_>>()
            .join(" ")
    };
    frames.iter().map(hex).collect::<Vec<_>>().join("\n")
}
