//! What the kernel would hold, from the words of transactions. Whatever nft would refuse, or take for
//! something else than was meant, is an error here.

use std::collections::{BTreeMap, BTreeSet};

use crate::words::{self, Referred};

/// By family and name.
pub type Key = (&'static str, String);

/// A set or a map.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Set {
    /// The type of its keys.
    declared: String,
    /// The type of its values.
    value: Option<String>,
    /// Keys, with what the map says of each.
    pub elements: BTreeMap<String, String>,
    fixed: bool,
}

impl Set {
    pub fn is_map(&self) -> bool {
        self.value.is_some()
    }

    /// The parts of a key in the words of nft text.
    pub fn quoted(&self, parts: &[String]) -> String {
        let kinds = self.declared.split(" . ");
        let word = |(kind, part): (&str, &String)| match kind {
            "ifname" | "iifname" => format!("\"{part}\""),
            _ => part.clone(),
        };
        kinds.zip(parts).map(word).collect::<Vec<_>>().join(" . ")
    }
}

/// Sets and chains.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Kernel {
    pub sets: BTreeMap<Key, Set>,
    pub chains: BTreeMap<Key, Vec<String>>,
}

/// An element in a transaction: whether it is added, its set, its key and its value.
pub type Edit = (bool, Key, String, String);

/// The chains of the skeleton that depend on the prefix lengths in use, with what they hold first.
const REFILLED: [(&str, &str); 3] = [
    ("prefix_source", "goto claim_source"),
    ("prefix_target", "goto claim_target"),
    ("prefix_destination", "goto drop_rogue_dhcpv6"),
];

fn family(word: &str) -> Option<&'static str> {
    ["bridge", "ip6"].into_iter().find(|family| *family == word)
}

/// The types of keys and values in what is between the braces of a declaration.
fn types(body: &str) -> Option<(String, Option<String>)> {
    let first = body.trim().split(';').next()?;
    let list = first
        .strip_prefix("type ")
        .or(first.strip_prefix("typeof "))?;
    Some(match list.split_once(" : ") {
        Some((key, value)) => (key.to_owned(), Some(value.to_owned())),
        None => (list.to_owned(), None),
    })
}

impl Kernel {
    /// What a skeleton declares.
    pub fn skeleton(text: &str) -> Self {
        let mut kernel = Self::default();
        let mut table = None;
        for line in text.lines() {
            let words: Vec<_> = line.split_whitespace().collect();
            match words.as_slice() {
                ["table", family, "sgagent", "{"] => table = self::family(family),
                ["set" | "map", name, "{", ..] => {
                    let body = line
                        .split_once('{')
                        .and_then(|(_, rest)| rest.split_once('}'));
                    let (declared, value) = types(body.expect("a body").0).expect("a type");
                    let set = Set {
                        declared,
                        value,
                        elements: BTreeMap::new(),
                        fixed: true,
                    };
                    let key = (table.expect("a table"), (*name).to_owned());
                    assert!(kernel.sets.insert(key, set).is_none(), "{name} twice");
                }
                ["chain", name, "{", ..] => {
                    let key = (table.expect("a table"), (*name).to_owned());
                    kernel.chains.insert(key, Vec::new());
                }
                _ => {}
            }
        }
        for (name, rule) in REFILLED {
            let chain = kernel.chains.get_mut(&("bridge", name.to_owned()));
            chain.expect("a chain").push(rule.to_owned());
        }
        kernel
    }

    /// Carries a transaction out.
    pub fn carry_out(&mut self, lines: &[String]) -> Vec<Edit> {
        let mut edits = Vec::new();
        for line in lines {
            match self.line(line) {
                Ok(some) => edits.extend(some),
                Err(why) => panic!("{why}\nin {line}\nof {lines:#?}"),
            }
        }
        self.check();
        edits
    }

    fn line(&mut self, line: &str) -> Result<Vec<Edit>, String> {
        if line.bytes().any(|c| !(c.is_ascii_graphic() || c == b' ')) {
            return Err("characters that are not ours".to_owned());
        }
        let words: Vec<_> = line.splitn(6, ' ').collect();
        let [verb, what, family, "sgagent", name, rest @ ..] = words.as_slice() else {
            return Err("not about our tables".to_owned());
        };
        let family = self::family(family).ok_or("no family of ours")?;
        if !words::is_name(name) {
            return Err("no name of ours".to_owned());
        }
        let key = (family, (*name).to_owned());
        let rest = rest.first().copied().unwrap_or_default();
        let inside = || {
            let list = rest.strip_prefix("{ ").and_then(|r| r.strip_suffix(" }"));
            list.ok_or("no braces")
        };
        match (*verb, *what) {
            ("add", "set" | "map") => {
                let known = [
                    "type ipv6_addr;",
                    "type ipv6_addr; flags interval;",
                    "typeof iifname . @th,64,128;",
                    "type ifname . ether_addr . ipv6_addr : mark;",
                ];
                let body = inside()?;
                let (declared, value) = types(body).ok_or("no type")?;
                let set = Set {
                    declared,
                    value,
                    elements: BTreeMap::new(),
                    fixed: false,
                };
                if !known.contains(&body) || self.sets.insert(key, set).is_some() {
                    return Err("no declaration of ours, or a second one".to_owned());
                }
            }
            ("add", "chain") if rest.is_empty() => {
                if self.chains.insert(key, Vec::new()).is_some() {
                    return Err("it is there already".to_owned());
                }
            }
            ("add", "rule") => {
                words::rule(rest, &mut |_| {})?;
                let chain = self.chains.get_mut(&key).ok_or("there is no such chain")?;
                chain.push(rest.to_owned());
            }
            ("flush", "chain") if rest.is_empty() => {
                self.chains
                    .get_mut(&key)
                    .ok_or("there is no such chain")?
                    .clear();
            }
            ("delete", "chain") if rest.is_empty() => {
                let gone = self.chains.remove(&key).ok_or("there is no such chain")?;
                if !gone.is_empty() {
                    return Err("it is not empty".to_owned());
                }
            }
            ("delete", "set") if rest.is_empty() => {
                let gone = self.sets.remove(&key).ok_or("there is no such set")?;
                if gone.fixed {
                    return Err("it is the skeleton's".to_owned());
                }
            }
            ("add", "element") => return self.elements(&key, true, inside()?),
            ("delete", "element") => return self.elements(&key, false, inside()?),
            _ => return Err("no edit of ours".to_owned()),
        }
        Ok(Vec::new())
    }

    fn elements(&mut self, key: &Key, add: bool, list: &str) -> Result<Vec<Edit>, String> {
        let set = self.sets.get_mut(key).ok_or("there is no such set")?;
        let mut edits = Vec::new();
        for element in list.split(", ") {
            let (one, value) = match element.split_once(" : ") {
                Some((one, value)) if set.value.is_some() && add => (one, value),
                None if set.value.is_none() || !add => (element, ""),
                _ => return Err(format!("no element of this set: {element}")),
            };
            if !words::is_key(&set.declared, one) {
                return Err(format!("no key of {}: {one}", set.declared));
            }
            let fits = match set.value.as_deref() {
                _ if !add => true,
                None => value.is_empty(),
                Some("mark") => words::is_octets(value, 4),
                Some("verdict") => {
                    let chain = value.strip_prefix("goto ");
                    value == "accept" || chain.is_some_and(words::is_name)
                }
                Some(_) => false,
            };
            if !fits {
                return Err(format!("no value of this map: {value}"));
            }
            let known = if add {
                set.elements.insert(one.to_owned(), value.to_owned())
            } else {
                set.elements.remove(one)
            };
            if known.is_some() == add {
                return Err(format!("{one} is there already, or is not there"));
            }
            edits.push((add, key.clone(), one.to_owned(), value.to_owned()));
        }
        Ok(edits)
    }

    /// Whatever is referred to is there.
    fn check(&self) {
        for ((family, name), rules) in &self.chains {
            for rule in rules {
                let mut missing = Vec::new();
                let done = words::rule(rule, &mut |referred| {
                    let (there, what) = match referred {
                        Referred::Chain(to) => {
                            (self.chains.contains_key(&(family, to.to_owned())), to)
                        }
                        Referred::Set(set) => {
                            (self.sets.contains_key(&(family, set.to_owned())), set)
                        }
                    };
                    if !there {
                        missing.push(what);
                    }
                });
                assert_eq!((done, missing), (Ok(()), vec![]), "{family} {name}: {rule}");
            }
        }
        for ((family, name), set) in &self.sets {
            for (key, value) in &set.elements {
                if let Some(chain) = value.strip_prefix("goto ") {
                    let there = self.chains.contains_key(&(family, chain.to_owned()));
                    assert!(there, "{family} {name}: {key} goes to {chain}");
                }
            }
        }
    }

    /// The elements of a set, keys and values; nothing where there is no such set.
    pub fn elements_of(&self, family: &'static str, name: &str) -> BTreeSet<String> {
        let set = self.sets.get(&(family, name.to_owned()));
        let each = |(key, value): (&String, &String)| match value.as_str() {
            "" => key.clone(),
            value => format!("{key} : {value}"),
        };
        set.map(|set| set.elements.iter().map(each).collect())
            .unwrap_or_default()
    }
}
