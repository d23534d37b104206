//! What somebody else does to our tables and sets.
//!
//! Nobody tells of it: there are no notifications of ip6tables, nor of sets. So all of it is listed
//! every few seconds. What is listed is written otherwise than what was programmed, by each version
//! of the tools, so that a chain is compared twice: at first with what was programmed, by its number
//! of rules, their targets and the names of ours in them; from then on with what was listed then,
//! letter by letter, for as long as the same is programmed. Sets are compared by their elements, but
//! for those that the kernel adds.
//!
//! A listing is thrown away that we have changed anything under. Who did it is not known.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    hash::{DefaultHasher, Hash as _, Hasher as _},
    net::Ipv6Addr,
    time::Duration,
};

use tokio::{
    task::JoinHandle,
    time::{Instant, sleep_until},
};
use tracing::{debug, warn};

use super::{
    chains::{Held, Hook, PREFIX},
    program::Known,
    reader::Reader,
    sets::{self, Sets},
};
use crate::dataplane::{DataplaneError, Tampering};

/// What the programs print: as [`Known::parse`] takes it.
pub(super) type Printed = [String; 5];

/// How long after a look the next one begins, at least and at most: a look that takes long may take
/// no more than a twentieth of the time.
const PAUSE: [Duration; 2] = [Duration::from_millis(2_500), Duration::from_secs(4)];
const SHARE: u32 = 20;

/// So late, whoever changes something waits until it is done: changes one after the other would
/// leave no time for a look.
const LATE: Duration = Duration::from_secs(5);

/// So many differences are told in words.
const WORDS: usize = 3;

/// Whether there is anything to look at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Nothing is programmed, or it is not known what.
    Unknown,
    /// It is to be as it was programmed.
    Programmed,
    /// It is not, and that was told: all of it will be programmed anew.
    Told,
}

/// A chain: its table's place and its name.
type Key = (usize, String);

/// Follows what is there.
#[derive(Debug)]
pub(super) struct Drift {
    state: State,
    /// When the next look begins, and the one that has begun.
    due: Instant,
    look: Option<(Instant, JoinHandle<Result<Printed, DataplaneError>>)>,
    failing: bool,
    /// What is to be told, whatever is programmed meanwhile.
    found: Option<Tampering>,
    /// What was listed when nothing differed, as long as nothing is programmed.
    same: Option<u64>,
    /// What chains were to be, and how they were listed.
    seen: BTreeMap<Key, (u64, u64)>,
    /// The same of those that seemed to differ from what was programmed. If they do again as soon as
    /// that is programmed anew, it is how they are written.
    doubted: BTreeMap<Key, (u64, u64)>,
}

impl Default for Drift {
    fn default() -> Self {
        Self {
            state: State::Unknown,
            due: Instant::now(),
            look: None,
            failing: false,
            found: None,
            same: None,
            seen: BTreeMap::new(),
            doubted: BTreeMap::new(),
        }
    }
}

impl Drift {
    /// Something is about to be programmed.
    pub(super) fn begins(&mut self) {
        self.state = State::Unknown;
        if let Some((_, look)) = self.look.take() {
            look.abort();
        }
    }

    /// All of it is programmed.
    pub(super) fn programmed(&mut self, known: &Known) {
        let any = |held: &Held| {
            held.rules
                .as_ref()
                .is_some_and(|chains| chains.iter().next().is_some())
        };
        let any = known.tables().into_iter().any(|table| any(table.held));
        self.state = if any {
            State::Programmed
        } else {
            State::Unknown
        };
        self.same = None;
    }

    /// The next thing that somebody does. May be dropped at any time.
    pub(super) async fn next(&mut self, known: &Known, reader: impl Fn() -> Reader) -> Tampering {
        loop {
            if let Some(found) = self.found.take() {
                self.state = State::Told;
                return found;
            }
            if self.state != State::Programmed {
                return std::future::pending().await;
            }
            if self.look.is_none() {
                sleep_until(self.due).await;
            }
            self.look(known, &reader).await;
        }
    }

    /// Looks at once where that is long due.
    pub(super) async fn late(&mut self, known: &Known, reader: impl Fn() -> Reader) {
        if self.state == State::Programmed && self.due.elapsed() > LATE {
            self.look(known, &reader).await;
        }
    }

    async fn look(&mut self, known: &Known, reader: &impl Fn() -> Reader) {
        let (began, look) = self.look.get_or_insert_with(|| {
            let reader = reader();
            let look = tokio::spawn(async move { reader.printed().await });
            (Instant::now(), look)
        });
        let ended = look.await;
        let began = *began;
        self.look = None;
        let [least, most] = PAUSE;
        match ended {
            Ok(Ok(printed)) => {
                self.failing = false;
                let differences = self.differences(known, &printed);
                self.found = (!differences.is_empty()).then(|| edited(&differences));
            }
            Ok(Err(error)) if !self.failing => {
                self.failing = true;
                warn!(%error, "what others do to the rules can't be seen");
            }
            Ok(Err(error)) => debug!(%error, "what others do to the rules can't be seen"),
            Err(stopped) => debug!(%stopped, "a look at the rules has ended"),
        }
        let took = began.elapsed();
        self.due = Instant::now() + (took * SHARE).clamp(least, most);
    }

    /// What is otherwise than it was programmed, in words.
    fn differences(&mut self, known: &Known, printed: &Printed) -> Vec<String> {
        let essence = essence(printed);
        if self.same == Some(essence) {
            return Vec::new();
        }
        let mut all = Vec::new();
        for (place, (table, text)) in known.tables().iter().zip(printed).enumerate() {
            let Some(wanted) = &table.held.rules else {
                continue;
            };
            let mut listed = chains(text, table.name);
            let name = table.words;
            all.extend(
                table
                    .hooks
                    .iter()
                    .filter_map(|hook| misplaced(hook, name, &listed)),
            );
            for (chain, rules) in wanted.iter() {
                match listed.remove(chain.as_str()) {
                    None => all.push(format!("chain {chain} of {name} deleted")),
                    Some(found) if !self.is_as_it_was((place, chain), rules, &found) => {
                        all.push(format!("chain {chain} of {name} changed"));
                    }
                    Some(_) => {}
                }
            }
            let added = listed.keys().filter(|chain| chain.starts_with(PREFIX));
            all.extend(added.map(|chain| format!("chain {chain} of {name} added")));
            self.seen
                .retain(|(at, chain), _| *at != place || wanted.has(chain));
            self.doubted
                .retain(|(at, chain), _| *at != place || wanted.has(chain));
        }
        let [.., listed] = printed;
        all.extend(of_sets(known.sets(), &sets::parse(listed)));
        self.same = all.is_empty().then_some(essence);
        all
    }

    fn is_as_it_was(
        &mut self,
        (place, chain): (usize, &str),
        wanted: &[String],
        found: &[&str],
    ) -> bool {
        let key = (place, chain.to_owned());
        let hashes = (hash(wanted), hash(found));
        if let Some((programmed, listed)) = self.seen.get(&key)
            && *programmed == hashes.0
        {
            return *listed == hashes.1;
        }
        // The first line is the chain's own.
        let rules = found.get(1..).unwrap_or_default();
        let alike = wanted.len() == rules.len()
            && wanted
                .iter()
                .zip(rules)
                .all(|(wanted, found)| names(wanted) == names(found));
        if !alike && self.doubted.insert(key.clone(), hashes) != Some(hashes) {
            return false;
        }
        self.seen.insert(key, hashes);
        true
    }
}

fn edited(differences: &[String]) -> Tampering {
    let mut what = differences
        .iter()
        .take(WORDS)
        .cloned()
        .collect::<Vec<_>>()
        .join("; ");
    if let Some(more) = differences
        .len()
        .checked_sub(WORDS)
        .filter(|more| *more > 0)
    {
        // Writing to a String can't fail.
        let _ = write!(what, "; and {more} more");
    }
    Tampering::Edited {
        what,
        by: String::new(),
    }
}

fn hash<T: std::hash::Hash + ?Sized>(what: &T) -> u64 {
    let mut hasher = DefaultHasher::new();
    what.hash(&mut hasher);
    hasher.finish()
}

/// What is printed but for what changes by itself: dates, counters, and what the kernel adds to sets
/// or says of their size.
fn essence(printed: &Printed) -> u64 {
    let mut hasher = DefaultHasher::new();
    for line in printed.iter().flat_map(|text| text.lines()) {
        match line.chars().next() {
            Some('#') => {}
            Some(':') => line.split('[').next().hash(&mut hasher),
            Some('c') => line
                .split(' ')
                .take(3)
                .for_each(|word| word.hash(&mut hasher)),
            Some('a') if line.contains(" timeout ") => {}
            Some(_) | None => line.hash(&mut hasher),
        }
    }
    hasher.finish()
}

/// The chains of a table: of each a line of its own, and its rules.
fn chains<'a>(printed: &'a str, table: &str) -> BTreeMap<&'a str, Vec<&'a str>> {
    let mut all = BTreeMap::<_, Vec<_>>::new();
    let mut here = false;
    for line in printed.lines() {
        if let Some(name) = line.strip_prefix('*') {
            here = name.trim() == table;
        } else if !here {
        } else if let Some(chain) = line.strip_prefix(':') {
            let own = chain.split('[').next().unwrap_or(chain).trim();
            all.entry(own.split(' ').next().unwrap_or(own))
                .or_default()
                .insert(0, own);
        } else if let Some((chain, rule)) = line
            .strip_prefix("-A ")
            .and_then(|rule| rule.split_once(' '))
        {
            all.entry(chain).or_default().push(rule);
        }
    }
    all
}

/// What is wrong with a hook: it has to be the first of all rules, or others would decide before.
fn misplaced(hook: &Hook, table: &str, listed: &BTreeMap<&str, Vec<&str>>) -> Option<String> {
    let Hook { from, to } = hook;
    let jump = format!("-j {to}");
    let rules = listed.get(from).map(Vec::as_slice).unwrap_or_default();
    let found = rules.iter().filter(|rule| rule.trim() == jump).count();
    let first = rules.get(1).is_some_and(|rule| rule.trim() == jump);
    match (found, first) {
        (1, true) => None,
        (0, _) => Some(format!("jump from {from} to {to} of {table} deleted")),
        (_, _) => Some(format!("jump from {from} to {to} of {table} moved")),
    }
}

/// The targets of a rule and the names of ours that it speaks of. Where a rule of ebtables has no
/// target, one is listed.
fn names(rule: &str) -> Vec<&str> {
    let mut target = false;
    let mut all = Vec::new();
    for word in rule.split_whitespace() {
        let word = word.trim_matches('"');
        let named = target && word != "CONTINUE";
        if named || word.starts_with(PREFIX) {
            all.push(word);
        }
        target = ["-j", "-g"].contains(&word);
    }
    all
}

fn of_sets(wanted: &Sets, listed: &Sets) -> Vec<String> {
    let mut all = Vec::new();
    for (name, set) in wanted {
        let Some(found) = listed.get(name) else {
            all.push(format!("set {name} deleted"));
            continue;
        };
        if found.members == set.members {
            continue;
        }
        let members = |of: &BTreeSet<String>| of.iter().map(|one| canonical(one)).collect();
        let (found, wanted): (BTreeSet<_>, BTreeSet<_>) =
            (members(&found.members), members(&set.members));
        if wanted.difference(&found).next().is_some() {
            all.push(format!("element deleted from set {name}"));
        }
        if found.difference(&wanted).next().is_some() {
            all.push(format!("element added to set {name}"));
        }
    }
    let added = listed.keys().filter(|name| !wanted.contains_key(*name));
    all.extend(added.map(|name| format!("set {name} added")));
    all
}

/// An address or prefix in one spelling.
fn canonical(member: &str) -> String {
    let (address, length) = member.split_once('/').unwrap_or((member, "128"));
    match address.parse::<Ipv6Addr>() {
        Ok(address) => format!("{address}/{length}"),
        Err(_) => member.to_owned(),
    }
}

#[cfg(test)]
mod tests;
