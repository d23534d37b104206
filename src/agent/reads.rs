//! What is read from the kernel for a caller, beside the agent's task.

use std::{collections::BTreeMap, sync::Arc};

use tokio::sync::{Semaphore, oneshot, watch};

use super::{Drops, ReadError, drops, recent::Samples};
use crate::{
    dataplane::{DataplaneError, Dropped, Reader},
    link::{Host, Setting},
    model::{IfName, LinkState, NicId, Traffic},
    policy::{Numbering, Read, Recent},
    ruleset::{Held, Learned, NicNumber, Ruleset},
};

/// How many readings may go on at the same time: each walks over all that there is.
const TOGETHER: usize = 2;

type Reply<T> = oneshot::Sender<Result<T, ReadError>>;

/// What is asked of the kernel.
#[derive(Debug)]
pub(super) enum Question {
    Drops(Reply<Drops>),
    RulesetText(Reply<String>),
    Learned(Reply<Learned>),
    /// What was dropped of a NIC lately; nothing where there was no reading long enough ago.
    Recent(Reply<Option<Recent>>, NicId),
    /// What of a NIC is there, of what is to be.
    Held(Reply<Held>, Arc<Ruleset>, NicNumber),
    /// Interfaces and settings.
    Path(Reply<Path>, Along),
    /// What each interface has carried, by its index.
    Traffic(Reply<BTreeMap<u32, Traffic>>),
    /// Nothing: to be answered is to have had a turn, with no change under way.
    Turn(Reply<()>),
}

/// What is on a NIC's way.
#[derive(Debug, Default)]
pub(super) struct Along {
    /// Its interfaces and their bridges.
    pub(super) links: Vec<IfName>,
    /// Bridges whose IPv6 bridge netfilter has to show.
    pub(super) shown: Vec<IfName>,
}

/// What the kernel says of it.
#[derive(Debug, Clone, Default)]
pub(super) struct Path {
    pub(super) links: BTreeMap<IfName, Read<Option<LinkState>>>,
    pub(super) shown: BTreeMap<IfName, Read<bool>>,
}

/// Answers questions, a few at a time.
#[derive(Debug)]
pub(super) struct Reads {
    turns: Arc<Semaphore>,
    samples: watch::Sender<Samples>,
}

impl Default for Reads {
    fn default() -> Self {
        Self {
            turns: Arc::new(Semaphore::new(TOGETHER)),
            samples: watch::Sender::default(),
        }
    }
}

impl Reads {
    /// Begins to read; says nothing where nobody waits for it any more.
    pub(super) fn begin<H: Host>(
        &self,
        question: Question,
        (reader, host): (impl Reader, Arc<H>),
        numbering: Numbering,
    ) {
        let (turns, samples) = (Arc::clone(&self.turns), self.samples.clone());
        // Also whoever asks for something else leaves a sample.
        let leave = move |all: &[Dropped], nic| {
            let mut recent = None;
            samples.send_modify(|samples| recent = samples.take(all, nic));
            recent
        };
        tokio::spawn(async move {
            let Ok(_turn) = turns.acquire().await else {
                return;
            };
            match question {
                Question::Drops(reply) => {
                    let counted = async {
                        let all = reader.drops().await?;
                        leave(&all, None);
                        Ok(drops::tally(&all, &numbering))
                    };
                    answer(reply, counted).await;
                }
                Question::Recent(reply, nic) => {
                    let number = numbering.nics().find(|(_, id)| **id == nic);
                    let number = number.map(|(number, _)| number);
                    let counted = async { Ok(leave(&reader.drops().await?, number)) };
                    answer(reply, counted).await;
                }
                Question::RulesetText(reply) => answer(reply, reader.text()).await,
                Question::Learned(reply) => answer(reply, reader.learned()).await,
                Question::Held(reply, wanted, nic) => {
                    answer(reply, reader.held(&wanted, nic)).await;
                }
                Question::Path(reply, along) => {
                    answer(reply, async { Ok(path(&*host, along).await) }).await;
                }
                Question::Traffic(reply) => {
                    let read = async {
                        let read = host.traffic().await;
                        read.map_err(|e| DataplaneError::Unreadable(super::settings::in_full(&e)))
                    };
                    answer(reply, read).await;
                }
                Question::Turn(reply) => answer(reply, async { Ok(()) }).await,
            }
        });
    }
}

async fn path(host: &impl Host, along: Along) -> Path {
    let mut path = Path::default();
    for name in along.links {
        let state = host.state(&name).await;
        let state = state.map_err(|error| super::settings::in_full(&error));
        path.links.insert(name, state);
    }
    for name in along.shown {
        // One of both will do (br_nf_pre_routing, net/bridge/br_netfilter_hooks.c).
        let own = Setting::NfCallIp6tables(name.clone());
        let mut shown = Ok(false);
        for setting in [own, Setting::AllNfCallIp6tables] {
            match host.get(&setting).await {
                Ok(Some(value)) if value != 0 => {
                    shown = Ok(true);
                    break;
                }
                Ok(Some(_)) => {}
                Ok(None) => shown = Err(format!("this kernel has no {setting}")),
                Err(error) => shown = Err(super::settings::in_full(&error)),
            }
        }
        path.shown.insert(name, shown);
    }
    path
}

async fn answer<T>(mut reply: Reply<T>, reading: impl Future<Output = Result<T, DataplaneError>>) {
    tokio::select! {
        read = reading => {
            let _ = reply.send(read.map_err(|error| ReadError(error.to_string())));
        }
        () = reply.closed() => {}
    }
}
