//! Whether the kernel holds of one NIC what it is to hold: each of its elements is asked for by
//! its key, and the rules of the groups that judge it are counted.
//!
//! One run of `nft` answers for all elements, in order, and ends at the first that is not there. A
//! set that is not there at all it may pass over in silence (1.0.6), so that what counts is what it
//! prints. Chains take a run of their own: a `list chain` has nft forget the other tables (1.0.6).

use std::collections::{BTreeMap, BTreeSet};

use super::{
    element::{Element, SetRef},
    fragment::{ChainRef, Fragment},
    skeleton::Placement,
};
use crate::ruleset::{Held, NicNumber, Object, Ruleset, name::TABLE};

/// How many of the things that are missing are told.
const TOLD: usize = 3;

/// What is asked of the kernel.
#[derive(Debug)]
pub(super) struct Question {
    elements: Vec<(SetRef, Element)>,
    /// How many rules each chain is to have.
    chains: BTreeMap<ChainRef, usize>,
}

impl Question {
    /// What the kernel is to hold of a NIC.
    pub(super) fn of(number: NicNumber, wanted: &Ruleset, placement: Placement) -> Self {
        let mut chains = BTreeMap::new();
        let mut add = |object: &Object| {
            let fragment = Fragment::of(object, wanted, placement);
            let count = |(chain, rules): (ChainRef, Vec<String>)| (chain, rules.len());
            chains.extend(fragment.chains.into_iter().map(count));
        };
        if let Some(nic) = wanted.nics.get(&number) {
            add(&Object::Policy(nic.policy));
            let policy = wanted.policies.get(&nic.policy);
            for group in policy.iter().flat_map(|policy| &policy.groups) {
                add(&Object::Group(*group));
            }
        }
        let nic = Fragment::of(&Object::Nic(number), wanted, placement);
        Self {
            elements: nic.elements.into_iter().collect(),
            chains,
        }
    }

    /// The question for elements as nft text, a line each.
    pub(super) fn text(&self) -> String {
        let element = |(SetRef { family, name }, element): &(SetRef, Element)| {
            let key = element.key_text();
            format!("get element {family} {TABLE} {name} {{ {key} }}\n")
        };
        self.elements.iter().map(element).collect()
    }

    /// The families of the tables in which its chains are.
    pub(super) fn families(&self) -> BTreeSet<&'static str> {
        self.chains.keys().map(|chain| chain.family).collect()
    }

    /// What it means that nft printed this, elements and then the tables with the chains.
    pub(super) fn answer(&self, printed: &str) -> Held {
        let Listing { elements, chains } = Listing::of(printed);
        let mut missing = Vec::new();
        let mut listed = elements.into_iter().peekable();
        for (set, element) in &self.elements {
            let own = |(family, name, _): &(String, String, _)| {
                *family == set.family && *name == set.name
            };
            match listed.next_if(own) {
                None => missing.push(format!("no {}", words(set, element))),
                Some((.., found)) if found != element.value.as_ref().map(ToString::to_string) => {
                    let found = found.unwrap_or_default();
                    missing.push(format!("{} is {found}", words(set, element)));
                }
                Some(_) => {}
            }
        }
        let mut rules = 0;
        for (ChainRef { family, name }, wanted) in &self.chains {
            let found = chains.get(&((*family).to_owned(), name.clone()));
            let found = found.copied().unwrap_or_default();
            rules += found;
            if found != *wanted {
                missing.push(format!(
                    "chain {name} of table {family} {TABLE} has {found} rules instead of {wanted}"
                ));
            }
        }
        missing.truncate(TOLD);
        self.held(rules, missing)
    }

    /// What it means that nft ended at this line of the question, from 0: all before is there.
    pub(super) fn ended(&self, line: usize) -> Held {
        let element = self.elements.get(line);
        let missing = element.map_or_else(
            || "table of ours".to_owned(),
            |(set, element)| words(set, element),
        );
        self.held(0, vec![format!("no {missing}")])
    }

    fn held(&self, rules: usize, missing: Vec<String>) -> Held {
        Held {
            elements: self.elements.len(),
            rules,
            missing,
        }
    }
}

fn words(SetRef { family, name }: &SetRef, element: &Element) -> String {
    let key = element.key_text().replace('"', "");
    format!("element {key} in {name} of table {family} {TABLE}")
}

/// What nft printed.
#[derive(Default)]
struct Listing {
    /// Family, set and value of each element, in order.
    elements: Vec<(String, String, Option<String>)>,
    /// The rules of each chain, by family and name.
    chains: BTreeMap<(String, String), usize>,
}

impl Listing {
    fn of(printed: &str) -> Self {
        let mut listing = Self::default();
        let (mut family, mut chain) = (String::new(), None);
        let mut set = String::new();
        for line in printed.lines() {
            let words: Vec<&str> = line.split_whitespace().collect();
            match words.as_slice() {
                ["table", of, ..] => (*of).clone_into(&mut family),
                ["set" | "map", name, "{", ..] => (*name).clone_into(&mut set),
                ["chain", name, "{", ..] => {
                    let key = (family.clone(), (*name).to_owned());
                    listing.chains.insert(key.clone(), 0);
                    chain = Some(key);
                }
                ["elements", "=", "{", .., "}"] => {
                    let element = line.trim().trim_end_matches(" }");
                    let value = element
                        .rsplit_once(" : ")
                        .map(|(_, value)| value.to_owned());
                    listing.elements.push((family.clone(), set.clone(), value));
                }
                ["}"] => chain = None,
                [.., "#", "handle", _] => {
                    if let Some(rules) = chain.as_ref().and_then(|c| listing.chains.get_mut(c)) {
                        *rules += 1;
                    }
                }
                _ => {}
            }
        }
        listing
    }
}

/// At which line of its input nft ended because something is not there: from 0.
pub(super) fn ended_at(stderr: &str) -> Option<usize> {
    let line = stderr.lines().find(|line| line.contains("Error: "))?;
    if !line.contains("No such file or directory") {
        return None;
    }
    let number: usize = line.split(':').nth(1)?.parse().ok()?;
    number.checked_sub(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dataplane::nft::element::{Part, Value};

    fn question() -> Question {
        let element = |name: &str, value: Option<Value>| {
            let set = SetRef {
                family: "bridge",
                name: name.to_owned(),
            };
            let key = vec![Part::IfName("vnet0".parse().unwrap())];
            (set, Element { key, value })
        };
        let chain = ChainRef {
            family: "ip6",
            name: "policy_1_egress".to_owned(),
        };
        Question {
            elements: vec![
                element("passes_ipv4", None),
                element("port_in", Some(Value::Goto("guest".to_owned()))),
            ],
            chains: BTreeMap::from([(chain, 2)]),
        }
    }

    const PRINTED: &str = "table bridge sgagent {\n\tset passes_ipv4 { # handle 3\n\t\ttype ifname\n\
        \t\telements = { \"vnet0\" }\n\t}\n}\n\
        table bridge sgagent {\n\tmap port_in { # handle 4\n\t\ttype ifname : verdict\n\
        \t\telements = { \"vnet0\" : goto guest }\n\t}\n}\n\
        table ip6 sgagent {\n\tchain policy_1_egress { # handle 9\n\t\taccept # handle 10\n\
        \t\tjump group_1_egress # handle 11\n\t}\n}\n";

    #[test]
    fn the_question_asks_for_each_thing_on_a_line_of_its_own() {
        let text = "get element bridge sgagent passes_ipv4 { \"vnet0\" }\n\
                    get element bridge sgagent port_in { \"vnet0\" }\n";
        assert_eq!(question().text(), text);
        assert_eq!(question().families(), BTreeSet::from(["ip6"]));
    }

    #[test]
    fn what_is_there_is_found() {
        let held = question().answer(PRINTED);
        assert_eq!(held, question().held(2, Vec::new()));
    }

    #[test]
    fn what_is_not_there_is_told() {
        let missing = |printed: &str| question().answer(printed).missing;
        // A set that is gone with its elements, passed over in silence.
        assert_eq!(
            missing(&PRINTED.replace("port_in", "another")),
            ["no element vnet0 in port_in of table bridge sgagent"]
        );
        assert_eq!(
            missing(&PRINTED.replace("goto guest", "accept")),
            ["element vnet0 in port_in of table bridge sgagent is accept"]
        );
        assert_eq!(
            missing(&PRINTED.replace("\t\taccept # handle 10\n", "")),
            ["chain policy_1_egress of table ip6 sgagent has 1 rules instead of 2"]
        );
        assert_eq!(missing("").len(), 3);
    }

    #[test]
    fn where_nft_ended_is_what_is_missing() {
        let stderr = "/dev/stdin:2:1-80: Error: Could not process rule: No such file or directory";
        assert_eq!(ended_at(stderr), Some(1));
        assert_eq!(ended_at("/dev/stdin:2:1-80: Error: syntax error"), None);
        let at = |line| question().ended(line).missing;
        assert_eq!(
            at(1),
            ["no element vnet0 in port_in of table bridge sgagent"]
        );
    }
}
