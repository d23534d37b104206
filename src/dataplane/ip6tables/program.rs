//! All that is programmed for a ruleset, and the way from one to the next.

use super::{
    chains::{Chains, Held, Hook, edits},
    counters::{self, MANGLE, RAW, Samples},
    frames, groups, guard, revoked,
    sets::{self, Sets},
};
use crate::{
    dataplane::nft,
    ruleset::{Reason, Ruleset},
};

/// How much of everything, and what this host's tools can do.
#[derive(Debug, Clone, Copy)]
pub struct Parameters {
    pub(super) guard: guard::Parameters,
    pub(super) rates: groups::Rates,
    pub(super) samples: Samples,
}

impl Parameters {
    /// The same for a host whose table raw sees fragments before they are joined, or does not.
    #[must_use]
    pub fn seeing_fragments(mut self, seeing: bool) -> Self {
        self.guard.fragments = seeing;
        self
    }
}

impl From<&nft::Parameters> for Parameters {
    fn from(of: &nft::Parameters) -> Self {
        Self {
            guard: guard::Parameters {
                fragments: false,
                fragment_rate: (of.fragments_per_second, of.fragment_burst),
                mld_rate: (of.mld_per_second, of.mld_burst),
                nd_rate: (of.nd_per_second, of.nd_burst),
            },
            rates: groups::Rates {
                flows_per_second: of.flows_per_second,
                flow_burst: of.flow_burst,
                max_flows: of.max_flows,
            },
            samples: Samples(of.drop_samples_per_second, of.drop_sample_burst),
        }
    }
}

/// What is in each table, and the sets.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Program {
    raw: Chains,
    mangle: Chains,
    frames: Chains,
    forwarded: Chains,
    sets: Sets,
}

impl Program {
    /// What a ruleset is as rules and sets.
    pub fn of(ruleset: &Ruleset, parameters: Parameters) -> Self {
        if ruleset.is_empty() {
            return Self::default();
        }
        let (mut raw, mut sets) = guard::guard(ruleset, parameters.guard);
        // Where fragments are not seen, there is no rate of them.
        let seen = |reason: &Reason| parameters.guard.fragments || *reason != Reason::FragmentRate;
        let here: Vec<_> = RAW.into_iter().filter(seen).collect();
        counters::packets(&mut raw, ruleset, &here, (false, parameters.samples));
        let (mut mangle, more) = groups::stage(ruleset, parameters.rates);
        counters::packets(&mut mangle, ruleset, &MANGLE, (true, parameters.samples));
        sets.extend(revoked::stage(&mut mangle, ruleset));
        sets.extend(more);
        Self {
            raw,
            mangle,
            frames: frames::frames(ruleset, parameters.samples, parameters.guard.fragments),
            forwarded: frames::forwarded(ruleset),
            sets,
        }
    }

    /// Its chains by table: raw and mangle of ip6tables, nat and filter of ebtables.
    pub(super) fn tables(&self) -> [&Chains; 4] {
        [&self.raw, &self.mangle, &self.frames, &self.forwarded]
    }

    pub(super) fn sets(&self) -> &Sets {
        &self.sets
    }

    /// The inputs of `ipset restore`, `ip6tables-restore`, `ebtables-restore` and `ipset restore`
    /// again that make this of what is known to be there.
    pub(super) fn from(&self, known: &Known) -> [String; 4] {
        let raw = edits(("raw", "- [0:0]"), &guard::HOOKS, &known.raw, &self.raw);
        let mangle = edits(
            ("mangle", "- [0:0]"),
            &groups::HOOKS,
            &known.mangle,
            &self.mangle,
        );
        let frames = edits(
            ("nat", "ACCEPT"),
            &frames::HOOKS,
            &known.frames,
            &self.frames,
        );
        let forwarded = edits(
            ("filter", "ACCEPT"),
            &frames::FORWARD_HOOKS,
            &known.forwarded,
            &self.forwarded,
        );
        let rules = raw.into_iter().chain(mangle).collect();
        let frames: String = frames.into_iter().chain(forwarded).collect();
        [
            sets::edits(&known.sets, &self.sets),
            rules,
            frames,
            sets::ends(&known.sets, &self.sets),
        ]
    }

    /// The same, but that it lets pass what has no mark: for as long as there is nothing that marks.
    pub(super) fn unchecked(&self) -> Self {
        let mut unchecked = self.clone();
        unchecked.mangle.chain(groups::UNMARKED).clear();
        unchecked
    }

    /// Whether anything is to be enforced.
    pub(super) fn is_any(&self) -> bool {
        *self != Self::default()
    }

    /// The same for a host that has none of it.
    pub fn load(&self) -> [String; 4] {
        self.from(&Known::default())
    }
}

/// What is known to be there.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Known {
    raw: Held,
    mangle: Held,
    frames: Held,
    forwarded: Held,
    sets: Sets,
}

/// One of the tables of what is known.
#[derive(Debug, Clone, Copy)]
pub(super) struct Table<'a> {
    pub(super) name: &'static str,
    /// What it is called where others are, too.
    pub(super) words: &'static str,
    pub(super) held: &'a Held,
    pub(super) hooks: &'static [Hook],
}

impl Known {
    pub(super) fn programmed(program: &Program) -> Self {
        Self {
            raw: Held::programmed(&program.raw, &guard::HOOKS),
            mangle: Held::programmed(&program.mangle, &groups::HOOKS),
            frames: Held::programmed(&program.frames, &frames::HOOKS),
            forwarded: Held::programmed(&program.forwarded, &frames::FORWARD_HOOKS),
            sets: program.sets.clone(),
        }
    }

    /// Whether what guests send gets a mark.
    pub(super) fn marks(&self) -> bool {
        !self.frames.hooks.is_empty()
    }

    /// The input of `ip6tables-restore` that takes out what drops what has no mark; empty where nothing
    /// does.
    pub(super) fn uncheck(&self) -> String {
        if self.mangle.names.contains(groups::UNMARKED) {
            format!("*mangle\n:{} - [0:0]\nCOMMIT\n", groups::UNMARKED)
        } else {
            String::new()
        }
    }

    /// What the programs print: tables raw and mangle, the bridge's table nat, and the sets.
    pub(super) fn parse([raw, mangle, frames, forwarded, sets]: [&str; 5]) -> Self {
        Self {
            raw: Held::parse(raw, &guard::HOOKS),
            mangle: Held::parse(mangle, &groups::HOOKS),
            frames: Held::parse(frames, &frames::HOOKS),
            forwarded: Held::parse(forwarded, &frames::FORWARD_HOOKS),
            sets: sets::parse(sets),
        }
    }

    /// The tables, in the order of [`Self::parse`].
    pub(super) fn tables(&self) -> [Table<'_>; 4] {
        [
            ("raw", "table raw", &self.raw, &guard::HOOKS[..]),
            ("mangle", "table mangle", &self.mangle, &groups::HOOKS),
            ("nat", "ebtables' table nat", &self.frames, &frames::HOOKS),
            (
                "filter",
                "ebtables' table filter",
                &self.forwarded,
                &frames::FORWARD_HOOKS,
            ),
        ]
        .map(|(name, words, held, hooks)| Table {
            name,
            words,
            held,
            hooks,
        })
    }

    /// The sets.
    pub(super) fn sets(&self) -> &Sets {
        &self.sets
    }
}
