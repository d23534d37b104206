//! Drops as they happen, for who watches: samples of the packets, and the counters, which miss
//! none.
//!
//! The kernel shows samples only as long as somebody watches, and at a bounded rate. One task reads
//! them for everybody. Who doesn't keep up misses the oldest, and is told how many.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::{broadcast, mpsc, oneshot, watch},
    time::{Instant, MissedTickBehavior, interval_at},
};

use super::{
    DropCount, Drops, NicDrops, ReadError, View, drops, handle::Command, reads::Question,
    times::now_ms,
};
use crate::{
    dataplane::{Reader, Sample, Sampled, Samples},
    model::{IfName, NicId},
    policy::{Glance, glance},
    ruleset::Reason,
};

/// How far behind who watches may fall.
const BEHIND: usize = 4_096;

/// How often the counters are read while something is dropped. Where that takes long, it is less
/// often.
const COUNTS: Duration = Duration::from_secs(1);

/// How long who begins to watch waits for the counters, from which on drops are counted: what is
/// dropped before they are read the first time is not. Less than a call may take until its answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// A packet that was dropped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DroppedPacket {
    /// When it was told, in milliseconds since 1970.
    pub at_ms: u64,
    /// Whose.
    pub nic: Option<NicId>,
    /// Why.
    pub reason: Reason,
    /// Where it came in; a port rather than its bridge.
    pub input: Option<IfName>,
    /// Where it was to leave.
    pub output: Option<IfName>,
    /// What carries it.
    pub ether_type: u16,
    /// What it is, where it is IPv6.
    pub glance: Option<Glance>,
    /// Its Ethernet header, where the kernel tells.
    pub link_header: Vec<u8>,
    /// What is behind that, cut off.
    pub payload: Vec<u8>,
}

/// What who watches gets.
#[derive(Debug, Clone)]
pub enum DropNews {
    /// One of the packets.
    Packet(Arc<DroppedPacket>),
    /// How many there were since the last time, within so much time.
    Counts(Arc<Drops>, Duration),
    /// So many samples or counts were not told here; nothing: nobody knows how many.
    Missed(Option<u64>),
    /// There will be no more, for this reason.
    Ended(Arc<str>),
}

/// What is wanted of the task, and where its news come from.
#[derive(Debug, Clone)]
pub(super) struct DropWatch {
    news: broadcast::Sender<DropNews>,
    /// How often somebody began to watch.
    wanted: watch::Sender<u64>,
    state: watch::Receiver<State>,
}

/// What the task is at.
#[derive(Debug, Clone)]
enum State {
    Idle,
    /// The kernel shows samples.
    Following,
    /// It shows none, for this reason, to those who began before.
    Failed(u64, Arc<str>),
}

/// Waits for drops.
#[derive(Debug)]
pub struct DropWatcher(broadcast::Receiver<DropNews>);

impl DropWatcher {
    /// The next news; nothing when the agent ends. May be dropped at any time.
    pub async fn next(&mut self) -> Option<DropNews> {
        match self.0.recv().await {
            Ok(news) => Some(news),
            Err(broadcast::error::RecvError::Lagged(missed)) => {
                Some(DropNews::Missed(Some(missed)))
            }
            Err(broadcast::error::RecvError::Closed) => None,
        }
    }
}

impl DropWatch {
    /// Starts the task, which ends when nobody holds this any more.
    pub(super) fn start(
        reader: impl Reader,
        commands: mpsc::WeakSender<Command>,
        view: watch::Receiver<Arc<View>>,
    ) -> Self {
        let news = broadcast::Sender::new(BEHIND);
        let (wanted, mut asked) = watch::channel(0);
        let (states, state) = watch::channel(State::Idle);
        let watch = Self {
            news: news.clone(),
            wanted,
            state,
        };
        let task = Task {
            reader,
            commands,
            view,
            news,
            states,
        };
        tokio::spawn(async move {
            while asked.changed().await.is_ok() {
                let number = *asked.borrow_and_update();
                task.follow(number).await;
            }
        });
        watch
    }

    /// Whoever has the answer misses nothing from then on.
    pub(super) async fn watch(&self) -> Result<DropWatcher, ReadError> {
        let watcher = DropWatcher(self.news.subscribe());
        let mut mine = 0;
        self.wanted.send_modify(|number| {
            *number += 1;
            mine = *number;
        });
        let decided = |state: &State| match state {
            State::Idle => false,
            State::Following => true,
            State::Failed(number, _) => *number >= mine,
        };
        let mut states = self.state.clone();
        match &*states.wait_for(decided).await.map_err(|_| stopping())? {
            State::Failed(_, why) => Err(ReadError(why.to_string())),
            State::Idle | State::Following => Ok(watcher),
        }
    }
}

fn stopping() -> ReadError {
    ReadError("the agent is stopping".to_owned())
}

struct Task<R> {
    reader: R,
    commands: mpsc::WeakSender<Command>,
    view: watch::Receiver<Arc<View>>,
    news: broadcast::Sender<DropNews>,
    states: watch::Sender<State>,
}

impl<R: Reader> Task<R> {
    /// Tells what is dropped for as long as anybody watches.
    async fn follow(&self, number: u64) {
        if self.news.receiver_count() == 0 {
            return;
        }
        let ended = match self.tell_all().await {
            Ok(()) => State::Idle,
            Err(why) => {
                let why: Arc<str> = why.into();
                self.tell(DropNews::Ended(Arc::clone(&why)));
                State::Failed(number, why)
            }
        };
        self.states.send_replace(ended);
    }

    fn tell(&self, news: DropNews) {
        // Nobody may be watching any more.
        let _ = self.news.send(news);
    }

    async fn tell_all(&self) -> Result<(), String> {
        let samples = self.reader.samples().await;
        let mut samples = samples.map_err(|error| error.to_string())?;
        let mut ticks = interval_at(Instant::now() + COUNTS, COUNTS);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut counting = Counting::default();
        counting.begin(&self.commands);
        let patience = Instant::now() + PATIENCE;
        let mut more = false;
        loop {
            tokio::select! {
                next = samples.next() => {
                    more = true;
                    self.tell(match next.map_err(|error| error.to_string())? {
                        Sampled::Packet(sample) => DropNews::Packet(Arc::new(self.named(sample))),
                        Sampled::Lost => DropNews::Missed(None),
                    });
                }
                counted = counting.end(), if counting.is_under_way() => {
                    if let Some((drops, since)) = counted {
                        self.tell(DropNews::Counts(Arc::new(drops), since));
                    }
                    self.follows();
                }
                _ = ticks.tick() => {
                    if self.news.receiver_count() == 0 {
                        return Ok(());
                    }
                    if more && counting.is_due() {
                        counting.begin(&self.commands);
                        more = !counting.is_under_way();
                    }
                    // The agent may have no time to count: a change may hang.
                    if Instant::now() >= patience {
                        self.follows();
                    }
                }
            }
        }
    }

    /// From now on nothing is missed.
    fn follows(&self) {
        self.states.send_if_modified(|state| {
            let begins = !matches!(state, State::Following);
            *state = State::Following;
            begins
        });
    }

    /// A sample in the words of the host.
    fn named(&self, sample: Sample) -> DroppedPacket {
        let Sample {
            nic,
            reason,
            input,
            output,
            link_header,
            ether_type,
            payload,
        } = sample;
        let view = Arc::clone(&self.view.borrow());
        let links = &view.compiled.host.snapshot().links;
        let name = |index: Option<u32>| Some(links.get(&index?)?.name.clone());
        let (input, output) = (name(input), name(output));
        let nics = &view.compiled.ruleset.nics;
        let nic = match nic {
            Some(number) => nics.get(&number).map(|nic| nic.id.clone()),
            // The devices' table knows no numbers.
            None if reason == Reason::LinkLocalMac => {
                let of_port =
                    |port: &IfName| nics.values().find(|n| n.interfaces.contains_key(port));
                input.as_ref().and_then(of_port).map(|nic| nic.id.clone())
            }
            None => None,
        };
        DroppedPacket {
            at_ms: now_ms(),
            nic,
            reason,
            input,
            output,
            ether_type,
            glance: glance(ether_type, &payload),
            link_header,
            payload,
        }
    }
}

/// Reads the counters, beside all else, and tells what they have grown by.
#[derive(Debug, Default)]
struct Counting {
    /// What they were, and when.
    before: Option<(Drops, Instant)>,
    /// Since when they are read.
    reading: Option<(Instant, oneshot::Receiver<Result<Drops, ReadError>>)>,
    /// Not before.
    due: Option<Instant>,
}

impl Counting {
    fn is_due(&self) -> bool {
        !self.is_under_way() && self.due.is_none_or(|due| Instant::now() >= due)
    }

    fn is_under_way(&self) -> bool {
        self.reading.is_some()
    }

    fn begin(&mut self, commands: &mpsc::WeakSender<Command>) {
        let (reply, answer) = oneshot::channel();
        let command = Command::Read(Question::Drops(reply));
        // Where the agent has too much to do already, the next try is a moment later.
        let asked = commands
            .upgrade()
            .is_some_and(|commands| commands.try_send(command).is_ok());
        self.reading = asked.then(|| (Instant::now(), answer));
    }

    /// What there was since the last time. May be dropped at any time.
    async fn end(&mut self) -> Option<(Drops, Duration)> {
        let (began, answer) = self.reading.as_mut()?;
        let (began, answer) = (*began, answer.await);
        self.reading = None;
        let now = Instant::now();
        // A tenth of the time at most.
        self.due = Some(now + 9 * (now - began));
        let after = answer.ok()?.ok()?;
        let told = self.before.as_ref();
        let told = told.map(|(before, at)| (grown(before, &after), now - *at));
        self.before = Some((after, now));
        told
    }
}

/// What counters have grown by.
fn grown(before: &Drops, after: &Drops) -> Drops {
    let mut old = before.nics.iter().peekable();
    let mut nics = Vec::new();
    for NicDrops { nic, drops } in &after.nics {
        while old.next_if(|one| one.nic < *nic).is_some() {}
        let was = old.next_if(|one| one.nic == *nic);
        let drops = counts(was.map_or(&[], |one| &one.drops), drops);
        if !drops.is_empty() {
            let nic = nic.clone();
            nics.push(NicDrops { nic, drops });
        }
    }
    Drops {
        nics,
        totals: counts(&before.totals, &after.totals),
    }
}

fn counts(before: &[DropCount], after: &[DropCount]) -> Vec<DropCount> {
    let grown = |now: &DropCount| {
        let was = before.iter().find(|was| was.reason == now.reason);
        let was = was.map_or((0, 0), |was| (was.packets, was.bytes));
        let (packets, bytes) = drops::grown(was, (now.packets, now.bytes))?;
        let reason = now.reason.clone();
        Some(DropCount {
            reason,
            packets,
            bytes,
        })
    };
    after.iter().filter_map(grown).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drops(nics: &[(&str, u64)], total: u64) -> Drops {
        let count = |packets| {
            vec![DropCount {
                reason: "spoofed-mac".to_owned(),
                packets,
                bytes: packets * 60,
            }]
        };
        let nic = |(nic, packets): &(&str, u64)| NicDrops {
            nic: nic.parse().unwrap(),
            drops: count(*packets),
        };
        Drops {
            nics: nics.iter().map(nic).collect(),
            totals: count(total),
        }
    }

    #[test]
    fn counts_are_what_the_counters_have_grown_by() {
        let before = drops(&[("a", 3), ("b", 5), ("d", 9)], 17);
        let after = drops(&[("a", 3), ("b", 7), ("c", 4), ("d", 2)], 24);
        let grew = grown(&before, &after);
        assert_eq!(grew, drops(&[("b", 2), ("c", 4), ("d", 2)], 7));
        assert_eq!(grown(&after, &after), Drops::default());
    }
}
