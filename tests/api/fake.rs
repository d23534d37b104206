//! A kernel and a host that do what a test says.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use sgagent::{
    dataplane::{
        Dataplane, DataplaneError, Dropped, Reader, Sample, Sampled, Samples, Tampering,
        exec::ExecError,
    },
    link::{Host, LinkError, Setting},
    model::{BridgeConfig, IfName, Interfaces, Link, LinkKind, LinkState, Traffic},
    ruleset::{Cut, Held, Learned, NicNumber, Object, Plan, Reason, Ruleset},
    store::{Redb, Saved, Store, StoreError},
};
use tokio::sync::{broadcast, mpsc, watch};

/// How the kernel takes a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mood {
    Obey,
    Refuse,
    /// Neither until the mood changes.
    Hang,
    /// Refuses edits of more than one NIC.
    RefuseCrowds,
}

/// What a test holds of the kernel.
#[derive(Debug)]
pub(crate) struct Kernel {
    pub(crate) mood: watch::Sender<Mood>,
    /// What it holds; nothing after a reboot, or when somebody flushed it.
    pub(crate) ruleset: watch::Sender<Option<Arc<Ruleset>>>,
    /// Transactions that it carried out.
    pub(crate) applied: Arc<AtomicUsize>,
    tampering: mpsc::UnboundedSender<Tampering>,
    /// What was asked to be cut.
    pub(crate) cuts: watch::Receiver<Vec<Cut>>,
    /// Whether flows can't be cut.
    pub(crate) flows_stay: watch::Sender<bool>,
    /// Whether what reads it gets no answer for now.
    pub(crate) slow_reads: watch::Sender<bool>,
    /// How many packets each NIC lost.
    pub(crate) dropped: watch::Sender<u64>,
    /// Packets that are shown as they are dropped.
    pub(crate) samples: broadcast::Sender<Sampled>,
}

impl Kernel {
    /// Somebody flushes the rules.
    pub(crate) fn flush(&self) {
        self.ruleset.send_replace(None);
        self.tamper(Tampering::Edited {
            what: "table bridge sgagent deleted".to_owned(),
            by: "nft (pid 4711)".to_owned(),
        });
    }

    pub(crate) fn tamper(&self, tampering: Tampering) {
        self.tampering.send(tampering).unwrap();
    }

    pub(crate) fn applied(&self) -> usize {
        self.applied.load(Ordering::SeqCst)
    }
}

/// The agent's end of a [`Kernel`].
#[derive(Debug)]
pub(crate) struct FakeDataplane {
    mood: watch::Receiver<Mood>,
    ruleset: watch::Sender<Option<Arc<Ruleset>>>,
    applied: Arc<AtomicUsize>,
    tampering: mpsc::UnboundedReceiver<Tampering>,
    cuts: watch::Sender<Vec<Cut>>,
    flows_stay: watch::Receiver<bool>,
    slow_reads: watch::Receiver<bool>,
    dropped: watch::Receiver<u64>,
    samples: broadcast::Sender<Sampled>,
}

impl FakeDataplane {
    pub(crate) fn new() -> (Self, Kernel) {
        let (mood, moods) = watch::channel(Mood::Obey);
        let (ruleset, _) = watch::channel(None);
        let applied = Arc::new(AtomicUsize::new(0));
        let (tamper, tampering) = mpsc::unbounded_channel();
        let (cuts, cuts_seen) = watch::channel(Vec::new());
        let (flows_stay, staying) = watch::channel(false);
        let (slow_reads, slow) = watch::channel(false);
        let (dropped, lost) = watch::channel(3);
        let samples = broadcast::Sender::new(10_000);
        let kernel = Kernel {
            mood,
            ruleset: ruleset.clone(),
            applied: Arc::clone(&applied),
            tampering: tamper,
            cuts: cuts_seen,
            flows_stay,
            slow_reads,
            dropped,
            samples: samples.clone(),
        };
        (
            Self {
                mood: moods,
                ruleset,
                applied,
                tampering,
                cuts,
                flows_stay: staying,
                slow_reads: slow,
                dropped: lost,
                samples,
            },
            kernel,
        )
    }

    fn refused(why: &str) -> DataplaneError {
        DataplaneError::Refused(ExecError::Failed {
            command: "nft -f -".to_owned(),
            how: "exited with 1".to_owned(),
            stderr: why.to_owned(),
        })
    }
}

/// The world's one NIC sends something that is dropped.
pub(crate) fn sample(reason: Reason) -> Sampled {
    let mut payload = vec![0x60, 0, 0, 0, 0, 8, 17, 64];
    payload.extend([0; 31]);
    payload.extend([1, 0x10, 0, 0, 53]);
    Sampled::Packet(Sample {
        nic: Some(NicNumber(1)),
        reason,
        input: None,
        output: Some(77),
        link_header: Vec::new(),
        ether_type: 0x86dd,
        payload,
    })
}

/// What reads a [`Kernel`].
pub(crate) struct FakeReader {
    samples: broadcast::Sender<Sampled>,
    mood: watch::Receiver<Mood>,
    slow: watch::Receiver<bool>,
    dropped: watch::Receiver<u64>,
    ruleset: watch::Sender<Option<Arc<Ruleset>>>,
}

impl FakeReader {
    fn unless_refused(&self) -> Result<(), DataplaneError> {
        if *self.mood.borrow() == Mood::Refuse {
            return Err(DataplaneError::Unreadable("made to refuse".to_owned()));
        }
        Ok(())
    }
}

/// Packets that a test says are dropped.
pub(crate) struct FakeSamples(broadcast::Receiver<Sampled>);

impl Samples for FakeSamples {
    async fn next(&mut self) -> Result<Sampled, DataplaneError> {
        let next = self.0.recv().await;
        next.map_err(|error| DataplaneError::Unreadable(error.to_string()))
    }
}

impl Reader for FakeReader {
    type Samples = FakeSamples;

    async fn samples(&self) -> Result<FakeSamples, DataplaneError> {
        self.unless_refused()?;
        Ok(FakeSamples(self.samples.subscribe()))
    }

    async fn learned(&self) -> Result<Learned, DataplaneError> {
        Ok(Learned::default())
    }

    async fn drops(&self) -> Result<Vec<Dropped>, DataplaneError> {
        let _ = self.slow.clone().wait_for(|slow| !slow).await;
        self.unless_refused()?;
        let packets = *self.dropped.borrow();
        let of = |nic| Dropped {
            nic,
            reason: Reason::SpoofedMac,
            packets,
            bytes: packets * 60,
        };
        let mut all = vec![of(None)];
        let numbers: Vec<NicNumber> = self
            .ruleset
            .borrow()
            .iter()
            .flat_map(|held| held.nics.keys().copied())
            .collect();
        all.extend(numbers.into_iter().map(|number| of(Some(number))));
        Ok(all)
    }

    async fn held(&self, wanted: &Ruleset, nic: NicNumber) -> Result<Held, DataplaneError> {
        self.unless_refused()?;
        let held = self.ruleset.borrow();
        let held = held.as_ref().and_then(|held| held.nics.get(&nic));
        let missing = if held == wanted.nics.get(&nic) {
            Vec::new()
        } else {
            vec!["no element of the NIC".to_owned()]
        };
        Ok(Held {
            elements: 1,
            rules: 1,
            missing,
        })
    }

    async fn text(&self) -> Result<String, DataplaneError> {
        self.unless_refused()?;
        Ok("# é a line of the ruleset\n".repeat(40_000))
    }
}

impl Dataplane for FakeDataplane {
    type Reader = FakeReader;

    fn reader(&self) -> FakeReader {
        FakeReader {
            samples: self.samples.clone(),
            mood: self.mood.clone(),
            slow: self.slow_reads.clone(),
            dropped: self.dropped.clone(),
            ruleset: self.ruleset.clone(),
        }
    }

    async fn is_programmed(&self) -> Result<bool, DataplaneError> {
        Ok(self.ruleset.borrow().is_some())
    }

    async fn apply(&mut self, plan: &Plan) -> Result<(), DataplaneError> {
        let decided = self.mood.wait_for(|mood| *mood != Mood::Hang).await;
        let mood = decided.map_or(Mood::Refuse, |mood| *mood);
        if mood == Mood::Refuse {
            return Err(Self::refused("made to refuse"));
        }
        let nic = |(object, _): &&(Object, _)| matches!(object, Object::Nic(_));
        let crowd = plan.changes.iter().filter(nic).count() > 1;
        if mood == Mood::RefuseCrowds && plan.from.is_some() && crowd {
            return Err(Self::refused("made to refuse crowds"));
        }
        if plan.from.is_some() && self.ruleset.borrow().is_none() {
            return Err(Self::refused("No such file or directory"));
        }
        self.ruleset.send_replace(Some(Arc::clone(&plan.to)));
        self.applied.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }

    /// A flow for each suspect.
    async fn cut(&mut self, cut: &Cut) -> Result<u64, DataplaneError> {
        self.cuts.send_modify(|cuts| cuts.push(cut.clone()));
        if *self.flows_stay.borrow() {
            let reason = "made to fail".to_owned();
            return Err(DataplaneError::FlowsLeft { cut: 0, reason });
        }
        Ok(cut.suspects.len() as u64)
    }

    fn preview(&self, plan: &Plan) -> Vec<String> {
        plan.changes
            .iter()
            .map(|change| format!("{change:?}"))
            .collect()
    }

    async fn tampered(&mut self) -> Tampering {
        match self.tampering.recv().await {
            Some(tampering) => tampering,
            None => std::future::pending().await,
        }
    }

    async fn purge(&mut self) -> Result<(), DataplaneError> {
        self.ruleset.send_replace(None);
        Ok(())
    }
}

/// A store that can be told that the disk is full.
pub(crate) struct FakeStore {
    pub(crate) disk: Redb,
    pub(crate) full: watch::Receiver<bool>,
}

impl Store for FakeStore {
    async fn load(&mut self) -> Result<Saved, StoreError> {
        self.disk.load().await
    }

    async fn commit(&mut self, before: &Saved, after: &Saved) -> Result<(), StoreError> {
        if *self.full.borrow() {
            let path = "the-store".into();
            return Err(StoreError::new(
                path,
                "can't be written",
                "the disk is full",
            ));
        }
        self.disk.commit(before, after).await
    }
}

/// A host whose interfaces and settings a test changes; at first every setting is 0.
pub(crate) struct FakeHost {
    pub(crate) interfaces: watch::Receiver<Arc<Interfaces>>,
    pub(crate) settings: watch::Sender<BTreeMap<Setting, u64>>,
}

impl Host for FakeHost {
    fn interfaces(&self) -> watch::Receiver<Arc<Interfaces>> {
        self.interfaces.clone()
    }

    async fn get(&self, setting: &Setting) -> Result<Option<u64>, LinkError> {
        Ok(Some(
            self.settings.borrow().get(setting).copied().unwrap_or(0),
        ))
    }

    /// What there is, is up.
    async fn state(&self, interface: &IfName) -> Result<Option<LinkState>, LinkError> {
        let there = self.interfaces.borrow().by_name(interface).is_some();
        let (up, carrier) = (true, true);
        Ok(there.then_some(LinkState { up, carrier }))
    }

    /// Each interface has carried what its index says.
    async fn traffic(&self) -> Result<BTreeMap<u32, Traffic>, LinkError> {
        let interfaces = self.interfaces.borrow();
        let traffic = |index: u32| Traffic {
            sent_packets: index.into(),
            sent_bytes: 100 * u64::from(index),
            received_packets: 2 * u64::from(index),
            received_bytes: 300 * u64::from(index),
        };
        let indices = interfaces.links.keys();
        Ok(indices.map(|index| (*index, traffic(*index))).collect())
    }

    async fn set(&self, setting: &Setting, value: u64) -> Result<(), LinkError> {
        self.settings.send_modify(|all| {
            all.insert(setting.clone(), value);
        });
        Ok(())
    }
}

/// A host with the managed bridge br0, its uplink eth0, and these guests' ports.
pub(crate) fn interfaces(ports: &[&str]) -> Arc<Interfaces> {
    // No guest's MAC, as in taps that libvirt did not make.
    let link = |index: u32, name: &str, kind, master| Link {
        index,
        name: name.parse().unwrap(),
        mac: [2, 0, 0, 0, 0, index.to_be_bytes()[3]],
        master,
        kind,
        multicast_snooping: false,
    };
    let mut links = BTreeMap::from([
        (1, link(1, "br0", LinkKind::Bridge, None)),
        (2, link(2, "eth0", LinkKind::Outward, Some(1))),
    ]);
    for (index, name) in (3..).zip(ports) {
        links.insert(index, link(index, name, LinkKind::Other, Some(1)));
    }
    let bridge = BridgeConfig {
        adopted: true,
        ..BridgeConfig::new("br0".parse().unwrap())
    };
    Arc::new(Interfaces {
        links,
        bridges: vec![bridge],
        ..Interfaces::default()
    })
}
