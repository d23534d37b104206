//! What was asked of a packet, step by step, and how it ended.

use crate::{
    model::GroupId,
    ruleset::{Learned, Reason},
};

/// Where a step is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// At the device, before the bridge.
    Device,
    /// In the guard.
    Guard,
    /// Where fragments are joined.
    Reassembly,
    /// In the stateful stage.
    Groups,
}

impl Stage {
    /// Its name, for people and for programs.
    pub fn name(self) -> &'static str {
        match self {
            Self::Device => "device",
            Self::Guard => "guard",
            Self::Reassembly => "reassembly",
            Self::Groups => "groups",
        }
    }
}

/// One question that was asked of the packet, with its answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// Where.
    pub stage: Stage,
    /// Of which frame, from 0.
    pub frame: usize,
    /// By which row of packet-policy.
    pub row: &'static str,
    /// In words.
    pub text: String,
}

/// A rule of a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuleRef {
    /// Whose.
    pub group: GroupId,
    /// Which, from 0, as the management server sent them.
    pub index: usize,
}

/// What becomes of the packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It goes on.
    Accept,
    /// It ends here.
    Drop,
    /// Nothing forbids these fragments, but the packet they are of is not complete.
    Incomplete,
}

/// What becomes of a packet, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explanation {
    /// What becomes of it.
    pub verdict: Verdict,
    /// The row of packet-policy that decided.
    pub row: &'static str,
    /// The counter of the kernel that a drop shows in; nothing where the host's own stack
    /// drops it.
    pub reason: Option<Reason>,
    /// The rule that allowed it.
    pub rule: Option<RuleRef>,
    /// Why, in words.
    pub text: String,
    /// The usual cause, and what to do about it.
    pub hint: Option<String>,
    /// Every step up to the one that decided.
    pub steps: Vec<Step>,
    /// What the kernel learns from it.
    pub learned: Learned,
}

/// What ends a packet.
#[derive(Debug)]
pub(super) struct Denial {
    pub(super) reason: Option<Reason>,
    pub(super) row: &'static str,
    pub(super) text: String,
    pub(super) hint: Option<String>,
}

impl Denial {
    pub(super) fn new(reason: Reason, row: &'static str, text: impl Into<String>) -> Self {
        Self {
            reason: Some(reason),
            row,
            text: text.into(),
            hint: None,
        }
    }

    /// Dropped by the host itself, which counts nothing of ours.
    pub(super) fn by_host(row: &'static str, text: impl Into<String>) -> Self {
        Self {
            reason: None,
            row,
            text: text.into(),
            hint: None,
        }
    }

    pub(super) fn hint(mut self, hint: impl Into<Option<String>>) -> Self {
        self.hint = hint.into();
        self
    }
}

/// The steps so far.
#[derive(Debug, Default)]
pub(super) struct Trace {
    pub(super) steps: Vec<Step>,
    pub(super) frame: usize,
}

impl Trace {
    pub(super) fn step(&mut self, stage: Stage, row: &'static str, text: impl Into<String>) {
        self.steps.push(Step {
            stage,
            frame: self.frame,
            row,
            text: text.into(),
        });
    }
}
