//! From a packet to its NIC without a walk over all NICs: trees of chains.

use std::collections::BTreeMap;

use super::chains::Chains;
use crate::{model::IfName, ruleset::name::NUMBER_MASK};

/// Bits of a number that one step of a tree looks at: 16 rules at most.
const STEP: u32 = 4;

/// A tree over the low 24 bits of a mark, 4 at a step, from the highest that any number has. `leaf`
/// are the rules of one number, which end in a verdict or are no more than a `RETURN`.
pub(super) fn by_number(
    chains: &mut Chains,
    root: &str,
    numbers: impl Iterator<Item = (u32, Vec<String>)>,
) {
    let all: BTreeMap<u32, Vec<String>> = numbers.collect();
    let highest = all.keys().next_back().copied().unwrap_or_default();
    let mut shift = 0;
    while highest >> (shift + STEP) > 0 {
        shift += STEP;
    }
    chains.chain(root);
    for (number, rules) in all {
        let mut chain = root.to_owned();
        let mut at = shift;
        while at > 0 {
            let part = number >> at;
            let next = format!("{root}_{at}_{part:x}");
            let mask = NUMBER_MASK & (u32::MAX << at);
            let jump = format!("-m mark --mark {:#x}/{mask:#x} -g {next}", number & mask);
            let node = chains.chain(chain);
            if node.last() != Some(&jump) {
                node.push(jump);
            }
            chain = next;
            at -= STEP;
        }
        let node = chains.chain(chain);
        for rule in rules {
            node.push(format!(
                "-m mark --mark {number:#x}/{NUMBER_MASK:#x} {rule}"
            ));
        }
    }
}

/// A tree over names of interfaces, a character at a step where they differ. `matches` is how a tool
/// says that an interface has a name, or a beginning of one: with `+` at its end.
pub(super) fn by_name<'a>(
    chains: &mut Chains,
    root: &str,
    (matches, jump): (&str, &str),
    names: impl Iterator<Item = (&'a IfName, Vec<String>)>,
) {
    let all: Vec<(&str, Vec<String>)> = names.map(|(name, rules)| (name.as_str(), rules)).collect();
    chains.chain(root);
    node(chains, root, (root, matches, jump), &all, (0, 0));
}

/// As many names as are looked at one after the other.
const TOGETHER: usize = 8;

/// As many chains as lead from one to the next: nft, which may be what ebtables is, takes 16 in all,
/// and what is dropped goes through two trees (`NFT_JUMP_STACK_SIZE`).
const DEEPEST: usize = 4;

fn node(
    chains: &mut Chains,
    chain: &str,
    how: (&str, &str, &str),
    names: &[(&str, Vec<String>)],
    (depth, level): (usize, usize),
) {
    let (root, matches, jump) = how;
    if names.len() <= TOGETHER || level == DEEPEST {
        for (name, rules) in names {
            for rule in rules {
                chains.rule(chain, format!("{matches} {name} {rule}"));
            }
        }
        return;
    }
    let mut by_beginning: BTreeMap<&str, Vec<(&str, Vec<String>)>> = BTreeMap::new();
    for (name, rules) in names {
        // A name that ends here is alone with this beginning.
        let end = name
            .char_indices()
            .nth(depth + 1)
            .map_or(name.len(), |(at, _)| at);
        let beginning = name.get(..end).unwrap_or(name);
        by_beginning
            .entry(beginning)
            .or_default()
            .push((name, rules.clone()));
    }
    // Where they all go on alike, or there is but one, no chain is needed.
    let alike = by_beginning.len() == 1;
    for (beginning, below) in by_beginning {
        if alike || below.len() == 1 {
            node(chains, chain, how, &below, (depth + 1, level));
            continue;
        }
        let next = format!("{root}_{beginning}");
        chains.rule(chain, format!("{matches} {beginning}+ {jump} {next}"));
        chains.chain(next.as_str());
        node(chains, &next, how, &below, (depth + 1, level + 1));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn walked(chains: &Chains, root: &str, number: u32) -> (Vec<String>, usize) {
        let all: BTreeMap<_, _> = chains.iter().collect();
        let (mut chain, mut looked) = (root.to_owned(), 0);
        loop {
            let mut next = None;
            let mut found = Vec::new();
            for rule in all[&chain] {
                looked += 1;
                let words: Vec<_> = rule.split_whitespace().collect();
                let (value, mask) = words[3].split_once('/').unwrap();
                let hex = |text: &str| u32::from_str_radix(&text[2..], 16).unwrap();
                if number & hex(mask) == hex(value) {
                    if words[4] == "-g" && words[5].starts_with(root) {
                        next = Some(words[5].to_owned());
                        break;
                    }
                    found.push(words[4..].join(" "));
                }
            }
            match next {
                Some(next) => chain = next,
                None => return (found, looked),
            }
        }
    }

    #[test]
    fn every_number_leads_to_its_own_rules_in_few_steps() {
        let numbers = [1, 2, 15, 16, 17, 255, 256, 4_095, 4_096, 5_000];
        let mut chains = Chains::default();
        let leaves = numbers.map(|number| (number, vec![format!("-g nic_{number}")]));
        by_number(&mut chains, "sgagent_nic", leaves.into_iter());
        for number in numbers {
            let (found, looked) = walked(&chains, "sgagent_nic", number);
            assert_eq!(found, [format!("-g nic_{number}")]);
            assert!(looked <= 64, "{looked}");
        }
        assert_eq!(walked(&chains, "sgagent_nic", 3).0, [""; 0]);
        assert_eq!(walked(&chains, "sgagent_nic", 0x10001).0, [""; 0]);
    }

    fn named(chains: &Chains, root: &str, name: &str) -> (Vec<String>, usize) {
        let all: BTreeMap<_, _> = chains.iter().collect();
        let mut looked = 0;
        let mut found = Vec::new();
        let mut chain = root.to_owned();
        'chains: loop {
            for rule in all[&chain] {
                looked += 1;
                let words: Vec<_> = rule.split_whitespace().collect();
                let matches = match words[1].strip_suffix('+') {
                    Some(beginning) => name.starts_with(beginning),
                    None => words[1] == name,
                };
                if matches && words[2] == "-j" && words[3].starts_with(root) {
                    chain = words[3].to_owned();
                    continue 'chains;
                }
                if matches {
                    found.push(words[2..].join(" "));
                }
            }
            return (found, looked);
        }
    }

    #[test]
    fn every_name_leads_to_its_own_rules_in_few_steps() {
        let names: Vec<IfName> = (1..=1_000)
            .flat_map(|i| {
                [
                    format!("vif{i}.0"),
                    format!("tap{i}.0"),
                    format!("vif{i}.1"),
                ]
            })
            .chain(["vif".to_owned(), "v".to_owned()])
            .map(|name| name.parse().unwrap())
            .collect();
        let mut chains = Chains::default();
        let leaves = names.iter().map(|name| (name, vec![format!("-g {name}")]));
        by_name(&mut chains, "sgagent_in", ("-i", "-j"), leaves);
        for name in &names {
            let (found, looked) = named(&chains, "sgagent_in", name.as_str());
            assert_eq!(found, [format!("-g {name}")], "{name}");
            assert!(looked <= 60, "{name} takes {looked}");
        }
        assert_eq!(named(&chains, "sgagent_in", "vif1001.0").0, [""; 0]);
        assert!(
            chains.iter().count() < 1_000,
            "a chain for each beginning would be more"
        );
    }

    #[test]
    fn no_tree_is_deeper_than_nft_bears() {
        let names: Vec<IfName> = (0..14)
            .flat_map(|i| ('b'..='j').map(move |end| format!("{}{end}", "a".repeat(i))))
            .map(|name| name.parse().unwrap())
            .collect();
        let mut chains = Chains::default();
        let leaves = names.iter().map(|name| (name, vec![format!("-g {name}")]));
        by_name(&mut chains, "sgagent_in", ("-i", "-j"), leaves);
        assert_eq!(chains.iter().count(), 1 + DEEPEST);
        for name in &names {
            assert_eq!(
                named(&chains, "sgagent_in", name.as_str()).0,
                [format!("-g {name}")]
            );
        }
    }
}
