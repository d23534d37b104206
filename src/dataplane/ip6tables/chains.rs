//! Chains of iptables' kind, and how one state of them becomes another in one transaction.
//!
//! Every chain of ours has a name that begins with [`PREFIX`]; of the built-in ones we have one rule
//! each, which jumps to a chain of ours ([`Hook`]). All else in a table is somebody else's.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
};

/// What every name of ours begins with.
pub(super) const PREFIX: &str = "sgagent";

/// As long as a chain's name may be (`XT_EXTENSION_MAXNAMELEN` with its NUL; ebtables takes 31).
#[cfg(test)]
const NAME_MAX: usize = 28;

/// Where a chain of ours is called from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Hook {
    /// A built-in chain.
    pub(super) from: &'static str,
    /// A chain of ours.
    pub(super) to: &'static str,
}

/// The chains of a table that are ours, each with its rules as options of `-A CHAIN`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Chains(BTreeMap<String, Vec<String>>);

impl Chains {
    /// A chain, be it without a rule.
    pub(super) fn chain(&mut self, name: impl Into<String>) -> &mut Vec<String> {
        self.0.entry(name.into()).or_default()
    }

    /// Puts a rule at the end of a chain.
    pub(super) fn rule(&mut self, chain: &str, rule: impl Into<String>) {
        self.chain(chain).push(rule.into());
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// Lets what a chain has said good of go back to others' rules: whoever has called a chain that
    /// leads there returns, too, as soon as `passed` matches. (`ACCEPT` would end the table for all.)
    pub(super) fn return_from(&mut self, good: &str, passed: &str) {
        let leading = self.leading_to(good);
        for rules in self.0.values_mut() {
            let calls = |rule: &String| {
                target(rule).is_some_and(|(verb, to)| verb == "-j" && leading.contains(to))
            };
            if rules.iter().any(calls) {
                let back = format!("{passed} -j RETURN");
                *rules = std::mem::take(rules)
                    .into_iter()
                    .flat_map(|rule| {
                        let back = calls(&rule).then(|| back.clone());
                        std::iter::once(rule).chain(back)
                    })
                    .collect();
            }
        }
    }

    /// A chain, and all those from which there is a way to it.
    fn leading_to(&self, end: &str) -> BTreeSet<String> {
        let mut callers: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for (name, rules) in &self.0 {
            for (_, to) in rules.iter().filter_map(|rule| target(rule)) {
                callers.entry(to).or_default().push(name);
            }
        }
        let mut found = BTreeSet::from([end.to_owned()]);
        let mut next = vec![end];
        while let Some(to) = next.pop() {
            for from in callers.get(to).into_iter().flatten() {
                if found.insert((*from).to_owned()) {
                    next.push(from);
                }
            }
        }
        found
    }

    /// Changes chains, by name.
    pub(super) fn edit(&mut self, edit: impl Fn(&str, &mut Vec<String>)) {
        for (name, rules) in &mut self.0 {
            edit(name, rules);
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&String, &Vec<String>)> {
        self.0.iter()
    }
}

/// How a rule goes on, and to which chain or target.
fn target(rule: &str) -> Option<(&str, &str)> {
    let mut words = rule.split(' ');
    let verb = words.find(|word| ["-j", "-g"].contains(word))?;
    Some((verb, words.next()?))
}

/// What is known of a table: its chains of ours, and which of our hooks it has.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Held {
    /// Nothing: what is in them is not known, and they are all filled anew.
    pub(super) rules: Option<Chains>,
    pub(super) names: BTreeSet<String>,
    pub(super) hooks: BTreeSet<&'static str>,
    /// Hooks that are to go: behind rules of others, or there twice.
    pub(super) strays: Vec<Hook>,
}

impl Held {
    /// A table as we have programmed it.
    pub(super) fn programmed(chains: &Chains, hooks: &[Hook]) -> Self {
        let hooked = hooks.iter().filter(|_| !chains.0.is_empty());
        Self {
            names: chains.0.keys().cloned().collect(),
            hooks: hooked.map(|hook| hook.from).collect(),
            rules: Some(chains.clone()),
            strays: Vec::new(),
        }
    }

    /// What `ip6tables-save` or `ebtables-save` prints of a table.
    pub(super) fn parse(printed: &str, hooks: &[Hook]) -> Self {
        let mut held = Self::default();
        let mut begun = BTreeSet::new();
        for line in printed.lines() {
            let mut words = line.split_whitespace();
            match words.next() {
                Some(declared) if declared.starts_with(':') => {
                    let name = declared.trim_start_matches(':');
                    if name.starts_with(PREFIX) {
                        held.names.insert(name.to_owned());
                    }
                }
                Some("-A") => {
                    let rest: Vec<_> = words.collect();
                    let first = rest.first().is_some_and(|chain| begun.insert(*chain));
                    match hooks.iter().find(|h| rest == [h.from, "-j", h.to]) {
                        Some(hook) if first => held.hooks.extend([hook.from]),
                        Some(hook) => held.strays.push(*hook),
                        None => {}
                    }
                }
                _ => {}
            }
        }
        // What is deleted is the first of its like.
        for stray in held.strays.clone() {
            if held.hooks.remove(stray.from) {
                held.strays.push(stray);
            }
        }
        held
    }
}

/// The input of `ip6tables-restore --noflush` (`ebtables-restore --noflush`, where that is of nft)
/// that makes of a table what it is to be; nothing where it is that already. Without chains the
/// hooks go, too.
///
/// A chain that is declared is emptied (`iptables/iptables-restore.c`), so that only chains that
/// differ are named. All of it comes into force at once.
pub(super) fn edits(
    (table, declared): (&str, &str),
    hooks: &[Hook],
    held: &Held,
    to: &Chains,
) -> Option<String> {
    let same = |(name, rules): &(&String, &Vec<String>)| {
        let before = held.rules.as_ref().and_then(|held| held.0.get(*name));
        before == Some(*rules)
    };
    let fill: Vec<_> = to.0.iter().filter(|chain| !same(chain)).collect();
    let gone: Vec<_> = held
        .names
        .iter()
        .filter(|name| !to.0.contains_key(*name))
        .collect();
    let wanted = !to.0.is_empty();
    let unhooked = hooks
        .iter()
        .filter(|hook| held.hooks.contains(hook.from) != wanted);
    let unhooked: Vec<_> = unhooked.collect();
    if fill.is_empty() && gone.is_empty() && unhooked.is_empty() && held.strays.is_empty() {
        return None;
    }
    let mut text = format!("*{table}\n");
    // Writing to a String can't fail.
    for name in fill
        .iter()
        .map(|(name, _)| *name)
        .chain(gone.iter().copied())
    {
        let _ = writeln!(text, ":{name} {declared}");
    }
    for (name, rules) in &fill {
        for rule in *rules {
            let _ = writeln!(text, "-A {name} {rule}");
        }
    }
    for Hook { from, to } in &held.strays {
        let _ = writeln!(text, "-D {from} -j {to}");
    }
    for Hook { from, to } in unhooked {
        let edit = if wanted { "-I" } else { "-D" };
        let _ = writeln!(text, "{edit} {from} -j {to}");
    }
    for name in gone {
        let _ = writeln!(text, "-X {name}");
    }
    text.push_str("COMMIT\n");
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOOKS: [Hook; 1] = [Hook {
        from: "PREROUTING",
        to: "sgagent",
    }];

    fn chains(all: &[(&str, &[&str])]) -> Chains {
        let mut chains = Chains::default();
        for (name, rules) in all {
            assert!(name.len() <= NAME_MAX, "{name}");
            chains
                .chain(*name)
                .extend(rules.iter().map(|rule| (*rule).to_owned()));
        }
        chains
    }

    #[test]
    fn what_is_good_goes_back_through_all_that_have_called() {
        let mut all = chains(&[
            ("sgagent", &["-p tcp -g sgagent_a", "-j sgagent_look"]),
            ("sgagent_a", &["-j sgagent_look", "-j sgagent_b", "-j DROP"]),
            ("sgagent_b", &["-m mark --mark 1 -g sgagent_good"]),
            ("sgagent_look", &["-j SET --add-set x src"]),
            ("sgagent_good", &["-j MARK --set-mark 2", "-j RETURN"]),
        ]);
        all.return_from("sgagent_good", "-m mark --mark 2");
        let expected = chains(&[
            ("sgagent", &["-p tcp -g sgagent_a", "-j sgagent_look"]),
            (
                "sgagent_a",
                &[
                    "-j sgagent_look",
                    "-j sgagent_b",
                    "-m mark --mark 2 -j RETURN",
                    "-j DROP",
                ],
            ),
            ("sgagent_b", &["-m mark --mark 1 -g sgagent_good"]),
            ("sgagent_look", &["-j SET --add-set x src"]),
            ("sgagent_good", &["-j MARK --set-mark 2", "-j RETURN"]),
        ]);
        assert_eq!(all, expected);
    }

    #[test]
    fn what_differs_is_filled_anew_and_what_is_gone_goes_last() {
        let before = chains(&[
            ("sgagent", &["-j sgagent_a", "-j sgagent_b"]),
            ("sgagent_a", &["-j DROP"]),
            ("sgagent_b", &["-j DROP"]),
        ]);
        let after = chains(&[("sgagent", &["-j sgagent_a"]), ("sgagent_a", &["-j DROP"])]);
        let held = Held::programmed(&before, &HOOKS);
        assert_eq!(edits(("raw", "- [0:0]"), &HOOKS, &held, &before), None);
        assert_eq!(
            edits(("raw", "- [0:0]"), &HOOKS, &held, &after).unwrap(),
            "*raw\n:sgagent - [0:0]\n:sgagent_b - [0:0]\n-A sgagent -j sgagent_a\n\
             -X sgagent_b\nCOMMIT\n"
        );
        assert_eq!(
            edits(("raw", "- [0:0]"), &HOOKS, &held, &Chains::default()).unwrap(),
            "*raw\n:sgagent - [0:0]\n:sgagent_a - [0:0]\n:sgagent_b - [0:0]\n\
             -D PREROUTING -j sgagent\n-X sgagent\n-X sgagent_a\n-X sgagent_b\nCOMMIT\n"
        );
    }

    #[test]
    fn of_a_table_that_is_not_known_all_is_filled_anew() {
        let printed = "*raw\n:PREROUTING ACCEPT [0:0]\n:sgagent - [0:0]\n:sgagent_old - [0:0]\n\
                       :other - [0:0]\n-A PREROUTING -j other\n-A PREROUTING -j sgagent\nCOMMIT\n";
        let held = Held::parse(printed, &HOOKS);
        let to = chains(&[("sgagent", &["-j DROP"])]);
        assert_eq!(
            edits(("raw", "- [0:0]"), &HOOKS, &held, &to).unwrap(),
            "*raw\n:sgagent - [0:0]\n:sgagent_old - [0:0]\n-A sgagent -j DROP\n\
             -D PREROUTING -j sgagent\n-I PREROUTING -j sgagent\n-X sgagent_old\nCOMMIT\n"
        );
        let empty = Held::parse("", &HOOKS);
        assert_eq!(
            edits(("raw", "- [0:0]"), &HOOKS, &empty, &to).unwrap(),
            "*raw\n:sgagent - [0:0]\n-A sgagent -j DROP\n-I PREROUTING -j sgagent\nCOMMIT\n"
        );
    }
}
