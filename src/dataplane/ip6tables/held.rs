//! Whether the kernel holds of one NIC what it is to hold: its chains, the rules of others that lead
//! to them, its groups' rules and sets, and what calls our chains, all by their number.

use std::collections::BTreeMap;

use super::{
    chains::{Chains, Hook, PREFIX},
    frames, groups, guard,
    program::Program,
    sets::{Kind, Sets},
};
use crate::ruleset::{Held, NicNumber, Ruleset, name::NUMBER_MASK};

/// How many of the things that are missing are told.
const TOLD: usize = 3;

/// The tables, in the order of [`Program::tables`], as `ip6tables-save` and `ebtables-save` know them.
const TABLES: [(&str, &[Hook]); 4] = [
    ("table raw", &guard::HOOKS),
    ("table mangle", &groups::HOOKS),
    ("table nat of the bridge", &frames::HOOKS),
    ("table filter of the bridge", &frames::FORWARD_HOOKS),
];

/// What is asked for.
struct Wanted<'a> {
    number: NicNumber,
    /// The chains of its policy and of its groups.
    judges: Vec<String>,
    ruleset: &'a Ruleset,
}

impl<'a> Wanted<'a> {
    fn of(number: NicNumber, ruleset: &'a Ruleset) -> Self {
        let mut judges = Vec::new();
        if let Some(nic) = ruleset.nics.get(&number) {
            let policy = nic.policy;
            let all = ruleset
                .policies
                .get(&policy)
                .into_iter()
                .flat_map(|policy| &policy.groups);
            let groups = all.map(|group| format!("group_{}", group.0));
            for judge in groups.chain([format!("policy_{}", policy.0)]) {
                judges.extend(["in", "out"].map(|way| format!("{PREFIX}_{judge}_{way}")));
            }
        }
        Self {
            number,
            judges,
            ruleset,
        }
    }

    fn judges(&self, chain: &str) -> bool {
        self.judges.iter().any(|judge| judge == chain)
    }

    /// Whether a chain is the NIC's, or has a rule that is about it alone.
    fn is_about(&self, chain: &str, rules: &[String]) -> bool {
        let NicNumber(number) = self.number;
        let own = format!("_{number}");
        let mark = format!("-m mark --mark {number:#x}/{NUMBER_MASK:#x} ");
        let nic = self.ruleset.nics.get(&self.number);
        let ports = nic.into_iter().flat_map(|nic| nic.interfaces.keys());
        let ports: Vec<_> = ports.map(|port| format!(" {port} ")).collect();
        let theirs =
            |rule: &String| rule.starts_with(&mark) || ports.iter().any(|port| rule.contains(port));
        let kinds = [
            "source", "target", "na", "claim", "probe", "nic", "sent", "got", "later", "servers",
            "clients", "routers",
        ];
        let is_own = |kind: &str| chain.strip_prefix(PREFIX) == Some(&format!("_{kind}{own}"));
        self.judges(chain) || kinds.iter().any(|kind| is_own(kind)) || rules.iter().any(theirs)
    }
}

/// How many rules each chain has in what was printed of a table, and what calls chains.
fn count(printed: &str) -> (BTreeMap<&str, usize>, Vec<&str>) {
    let (mut rules, mut calls) = (BTreeMap::new(), Vec::new());
    for line in printed.lines() {
        if let Some(declared) = line.strip_prefix(':') {
            let name = declared.split_whitespace().next().unwrap_or_default();
            rules.entry(name).or_default();
        } else if let Some(rule) = line.strip_prefix("-A ") {
            let name = rule.split_whitespace().next().unwrap_or_default();
            *rules.entry(name).or_default() += 1;
            calls.push(rule.trim());
        }
    }
    (rules, calls)
}

/// What was printed of each table and of the sets holds what is wanted of a NIC.
pub(super) fn held(
    (number, ruleset): (NicNumber, &Ruleset),
    program: &Program,
    printed: &[String; 4],
    sets: &Sets,
) -> Held {
    let wanted = Wanted::of(number, ruleset);
    let mut held = Held::default();
    for (((table, hooks), chains), printed) in TABLES.iter().zip(program.tables()).zip(printed) {
        table_holds(&mut held, &wanted, (table, hooks), chains, printed);
    }
    sets_hold(&mut held, &wanted, program.sets(), sets);
    held.missing.truncate(TOLD);
    held
}

fn table_holds(
    held: &mut Held,
    wanted: &Wanted<'_>,
    (table, hooks): (&str, &[Hook]),
    chains: &Chains,
    printed: &str,
) {
    let (found, calls) = count(printed);
    for Hook { from, to } in hooks {
        let call = format!("{from} -j {to}");
        held.elements += 1;
        if !calls.contains(&call.as_str()) {
            held.missing
                .push(format!("no rule in {from} of {table} that calls {to}"));
        }
    }
    for (name, rules) in chains
        .iter()
        .filter(|(name, rules)| wanted.is_about(name, rules))
    {
        let there = found.get(name.as_str()).copied();
        match there {
            None => held.missing.push(format!("no chain {name} in {table}")),
            Some(there) if there != rules.len() => {
                let rules = rules.len();
                held.missing.push(format!(
                    "chain {name} of {table} has {there} rules instead of {rules}"
                ));
            }
            Some(_) => {}
        }
        if wanted.judges(name) {
            held.rules += there.unwrap_or_default();
        } else {
            held.elements += 1;
        }
    }
}

fn sets_hold(held: &mut Held, wanted: &Wanted<'_>, all: &Sets, found: &Sets) {
    let of_nic = format!("_{}", wanted.number.0);
    let is_its = |name: &str| {
        ["claims", "probes"]
            .iter()
            .any(|kind| name == format!("{PREFIX}_{kind}{of_nic}"))
    };
    for (name, set) in all {
        let fixed = matches!(set.kind, Kind::Addresses | Kind::Prefixes);
        if !fixed && !is_its(name) {
            continue;
        }
        held.elements += 1;
        match found.get(name) {
            None => held.missing.push(format!("no set {name}")),
            Some(found) if fixed && found.members.len() != set.members.len() => {
                let (there, wanted) = (found.members.len(), set.members.len());
                held.missing.push(format!(
                    "set {name} has {there} elements instead of {wanted}"
                ));
            }
            Some(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_of_a_table_is_told() {
        let mut chains = Chains::default();
        chains.rule("sgagent_guard", "-g sgagent_source");
        chains.rule(
            "sgagent_source",
            "-m mark --mark 0x7/0xffffff -g sgagent_source_7",
        );
        chains.rule("sgagent_source_7", "-s fe80::1/128 -g sgagent_guarded");
        chains.rule("sgagent_source_70", "-s fe80::2/128 -g sgagent_guarded");
        let ruleset = Ruleset::default();
        let wanted = Wanted::of(NicNumber(7), &ruleset);
        let told = |printed: &str| {
            let mut held = Held::default();
            table_holds(&mut held, &wanted, TABLES[0], &chains, printed);
            held
        };
        let whole = "*raw\n:sgagent_source - [0:0]\n:sgagent_source_7 - [0:0]\n\
            -A PREROUTING -j sgagent_guard\n\
            -A sgagent_source -m mark --mark 0x7/0xffffff -g sgagent_source_7\n\
            -A sgagent_source_7 -s fe80::1/128 -g sgagent_guarded\nCOMMIT\n";
        let all = told(whole);
        assert_eq!((all.elements, all.missing), (3, Vec::<String>::new()));
        let none = whole.replace(
            "-A sgagent_source_7 -s fe80::1/128 -g sgagent_guarded\n",
            "",
        );
        let words = "chain sgagent_source_7 of table raw has 0 rules instead of 1";
        assert_eq!(told(&none).missing, [words]);
        let words = "no rule in PREROUTING of table raw that calls sgagent_guard";
        assert_eq!(told(&whole.replace("PREROUTING", "INPUT")).missing, [words]);
        assert_eq!(told("").missing.len(), 3);
    }
}
