//! One transaction: the edits between the fragments of each object before and after.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
};

use super::{
    element::{Element, SetRef},
    fragment::{ChainRef, Declaration, Fragment},
    skeleton::Placement,
};
use crate::{
    model::{Members, differences},
    ruleset::{GroupNumber, Object, Plan, Ruleset, name::TABLE},
};

/// Elements by set.
pub(super) type Elements = BTreeMap<SetRef, Vec<Element>>;

/// The edits of one transaction, in the order in which they are sent.
#[derive(Debug, Default)]
pub(super) struct Batch {
    declare_sets: BTreeMap<SetRef, Declaration>,
    declare_chains: BTreeSet<ChainRef>,
    fill: BTreeMap<ChainRef, Vec<String>>,
    remove: Elements,
    add: Elements,
    delete_chains: BTreeSet<ChainRef>,
    delete_sets: BTreeSet<SetRef>,
}

impl Batch {
    pub(super) fn of(plan: &Plan, placement: Placement) -> Self {
        let nothing = Ruleset::default();
        let from = plan.from.as_deref().unwrap_or(&nothing);
        let mut batch = Self::default();
        for (object, _) in &plan.changes {
            let few = if let Object::Members(group) = object {
                members(*group, from, &plan.to, placement)
            } else {
                None
            };
            let all = |ruleset| Fragment::of(object, ruleset, placement);
            let (before, after) = few.unwrap_or_else(|| (all(from), all(&plan.to)));
            batch.diff(&before, after);
        }
        batch
    }

    fn diff(&mut self, before: &Fragment, after: Fragment) {
        for set in before
            .sets
            .keys()
            .filter(|set| !after.sets.contains_key(set))
        {
            self.delete_sets.insert(set.clone());
        }
        for chain in before
            .chains
            .keys()
            .filter(|chain| !after.chains.contains_key(chain))
        {
            self.delete_chains.insert(chain.clone());
        }
        for (set, element) in before.elements.difference(&after.elements) {
            // What goes with its set needs no word of its own.
            if !self.delete_sets.contains(set) {
                self.remove
                    .entry(set.clone())
                    .or_default()
                    .push(element.clone());
            }
        }
        for (set, element) in after.elements.difference(&before.elements) {
            self.add
                .entry(set.clone())
                .or_default()
                .push(element.clone());
        }
        for (set, declaration) in after.sets {
            if !before.sets.contains_key(&set) {
                self.declare_sets.insert(set, declaration);
            }
        }
        for (chain, rules) in after.chains {
            if !before.chains.contains_key(&chain) {
                self.declare_chains.insert(chain.clone());
            }
            if before.chains.get(&chain) != Some(&rules) {
                self.fill.insert(chain, rules);
            }
        }
        for (chain, rules) in after.refilled {
            if before.refilled.get(&chain) != Some(&rules) {
                self.fill.insert(chain, rules);
            }
        }
    }

    /// Whether there is nothing to do.
    pub(super) fn is_empty(&self) -> bool {
        self.only_elements()
            .is_some_and(|(remove, add)| remove.is_empty() && add.is_empty())
    }

    /// The elements to remove and to add, where these are all there is.
    pub(super) fn only_elements(&self) -> Option<(&Elements, &Elements)> {
        let nothing_else = self.declare_sets.is_empty()
            && self.declare_chains.is_empty()
            && self.fill.is_empty()
            && self.delete_chains.is_empty()
            && self.delete_sets.is_empty();
        nothing_else.then_some((&self.remove, &self.add))
    }

    /// The transaction as nft text. What is referred to comes before what refers to it,
    /// and goes after it.
    pub(super) fn text(&self) -> String {
        let mut text = String::new();
        for (SetRef { family, name }, Declaration { kind, body }) in &self.declare_sets {
            line(
                &mut text,
                format_args!("add {kind} {family} {TABLE} {name} {{ {body} }}"),
            );
        }
        for ChainRef { family, name } in &self.declare_chains {
            line(&mut text, format_args!("add chain {family} {TABLE} {name}"));
        }
        for (ChainRef { family, name }, rules) in &self.fill {
            line(
                &mut text,
                format_args!("flush chain {family} {TABLE} {name}"),
            );
            for rule in rules {
                line(
                    &mut text,
                    format_args!("add rule {family} {TABLE} {name} {rule}"),
                );
            }
        }
        elements(&mut text, "delete", &self.remove, Element::key_text);
        elements(&mut text, "add", &self.add, ToString::to_string);
        for ChainRef { family, name } in &self.delete_chains {
            line(
                &mut text,
                format_args!("flush chain {family} {TABLE} {name}"),
            );
        }
        for ChainRef { family, name } in &self.delete_chains {
            line(
                &mut text,
                format_args!("delete chain {family} {TABLE} {name}"),
            );
        }
        for SetRef { family, name } in &self.delete_sets {
            line(
                &mut text,
                format_args!("delete set {family} {TABLE} {name}"),
            );
        }
        text
    }
}

/// Only those members of a group that differ; nothing where that is not the same as all of
/// them: for a new set, and for delegated prefixes, which are joined where they touch.
fn members(
    group: GroupNumber,
    from: &Ruleset,
    to: &Ruleset,
    placement: Placement,
) -> Option<(Fragment, Fragment)> {
    let (old, new) = (from.members.get(&group)?, to.members.get(&group)?);
    let (mut before, mut after) = (Members::new(), Members::new());
    for found in differences(old, new) {
        for (member, side) in [(found.old, &mut before), (found.new, &mut after)] {
            if let Some(member) = member {
                if !member.delegated_prefixes.is_empty() {
                    return None;
                }
                side.insert(*found.key, member.clone());
            }
        }
    }
    let fragment = |members: &Members| Fragment::of_members(group, members, placement);
    Some((fragment(&before), fragment(&after)))
}

fn line(text: &mut String, content: std::fmt::Arguments<'_>) {
    // Writing to a String can't fail.
    let _ = writeln!(text, "{content}");
}

fn elements(text: &mut String, verb: &str, sets: &Elements, word: fn(&Element) -> String) {
    for (SetRef { family, name }, elements) in sets {
        let words: Vec<_> = elements.iter().map(word).collect();
        let all = words.join(", ");
        line(
            text,
            format_args!("{verb} element {family} {TABLE} {name} {{ {all} }}"),
        );
    }
}
