//! A kernel and a host that do what a test says.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use sgagent::{
    dataplane::{Dataplane, DataplaneError, Dropped, exec::ExecError},
    link::{Host, LinkError, Setting},
    model::{BridgeConfig, Interfaces, Link, LinkKind},
    ruleset::{Cut, NicNumber, Plan, Reason, Ruleset},
    store::{Redb, Saved, Store, StoreError},
};
use tokio::sync::watch;

/// How the kernel takes a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mood {
    Obey,
    Refuse,
    /// Neither until the mood changes.
    Hang,
}

/// What a test holds of the kernel.
#[derive(Debug)]
pub(crate) struct Kernel {
    pub(crate) mood: watch::Sender<Mood>,
    /// What it holds; nothing after a reboot, or when somebody flushed it.
    pub(crate) ruleset: watch::Sender<Option<Arc<Ruleset>>>,
    /// Transactions that it carried out.
    pub(crate) applied: Arc<AtomicUsize>,
    /// What was asked to be cut.
    pub(crate) cuts: watch::Receiver<Vec<Cut>>,
    /// Whether flows can't be cut.
    pub(crate) flows_stay: watch::Sender<bool>,
}

impl Kernel {
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
    cuts: watch::Sender<Vec<Cut>>,
    flows_stay: watch::Receiver<bool>,
}

impl FakeDataplane {
    pub(crate) fn new() -> (Self, Kernel) {
        let (mood, moods) = watch::channel(Mood::Obey);
        let (ruleset, _) = watch::channel(None);
        let applied = Arc::new(AtomicUsize::new(0));
        let (cuts, cuts_seen) = watch::channel(Vec::new());
        let (flows_stay, staying) = watch::channel(false);
        let kernel = Kernel {
            mood,
            ruleset: ruleset.clone(),
            applied: Arc::clone(&applied),
            cuts: cuts_seen,
            flows_stay,
        };
        (
            Self {
                mood: moods,
                ruleset,
                applied,
                cuts,
                flows_stay: staying,
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

impl Dataplane for FakeDataplane {
    async fn apply(&mut self, plan: &Plan) -> Result<(), DataplaneError> {
        let decided = self.mood.wait_for(|mood| *mood != Mood::Hang).await;
        let mood = decided.map_or(Mood::Refuse, |mood| *mood);
        if mood == Mood::Refuse {
            return Err(Self::refused("made to refuse"));
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

    async fn drops(&mut self) -> Result<Vec<Dropped>, DataplaneError> {
        if *self.mood.borrow() == Mood::Refuse {
            return Err(DataplaneError::Unreadable("made to refuse".to_owned()));
        }
        let of = |nic| Dropped {
            nic,
            reason: Reason::SpoofedMac,
            packets: 3,
            bytes: 180,
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

    async fn text(&mut self) -> Result<String, DataplaneError> {
        if *self.mood.borrow() == Mood::Refuse {
            return Err(DataplaneError::Unreadable("made to refuse".to_owned()));
        }
        Ok("# é a line of the ruleset\n".repeat(40_000))
    }

    async fn purge(&mut self) -> Result<(), DataplaneError> {
        self.ruleset.send_replace(None);
        Ok(())
    }
}

/// A host whose interfaces a test changes and that has every setting at 0.
#[derive(Debug)]
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

pub(crate) struct FakeHost(pub(crate) watch::Receiver<Arc<Interfaces>>);

impl Host for FakeHost {
    fn interfaces(&self) -> watch::Receiver<Arc<Interfaces>> {
        self.0.clone()
    }

    async fn get(&self, _: &Setting) -> Result<Option<u64>, LinkError> {
        Ok(Some(0))
    }

    async fn set(&self, _: &Setting, _: u64) -> Result<(), LinkError> {
        Ok(())
    }
}

/// A host with the managed bridge br0, its uplink eth0, and these guests' ports.
pub(crate) fn interfaces(ports: &[&str]) -> Arc<Interfaces> {
    let link = |index, name: &str, kind, master| Link {
        index,
        name: name.parse().unwrap(),
        mac: [0xfe, 0, 0, 0, 0, 1],
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
        name: "br0".parse().unwrap(),
        uplinks: Vec::new(),
        routers: Vec::new(),
        dhcpv6_servers: Vec::new(),
    };
    Arc::new(Interfaces {
        links,
        bridges: vec![bridge],
        ..Interfaces::default()
    })
}
