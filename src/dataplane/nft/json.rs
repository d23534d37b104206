//! A transaction of elements only, as JSON (libnftables-json(5)): the way of every change of a NIC or
//! a member, on which no word of the management server gets near nft's scanner.

use serde_json::{Value as Json, json};

use super::{
    batch::Elements,
    element::{Element, Part, SetRef, Value},
};
use crate::ruleset::name::TABLE;

/// The document that `nft -j -f -` takes.
pub(super) fn document(remove: &Elements, add: &Elements) -> String {
    let deletions = remove.iter().map(|(set, elements)| {
        let keys = elements.iter().map(|element| key(&element.key));
        command("delete", set, keys)
    });
    let additions = add
        .iter()
        .map(|(set, elements)| command("add", set, elements.iter().map(element)));
    let commands: Vec<_> = deletions.chain(additions).collect();
    json!({ "nftables": commands }).to_string()
}

fn command(
    verb: &str,
    SetRef { family, name }: &SetRef,
    elements: impl Iterator<Item = Json>,
) -> Json {
    json!({ verb: { "element": {
        "family": family,
        "table": TABLE,
        "name": name,
        "elem": elements.collect::<Vec<_>>(),
    } } })
}

fn element(element: &Element) -> Json {
    let key = key(&element.key);
    match &element.value {
        None => key,
        Some(value) => json!([key, self::value(value)]),
    }
}

fn key(parts: &[Part]) -> Json {
    match parts {
        [one] => part(one),
        many => json!({ "concat": many.iter().map(part).collect::<Vec<_>>() }),
    }
}

fn part(part: &Part) -> Json {
    match part {
        Part::Mark(mark) => json!(mark),
        Part::Prefix(prefix) => json!({ "prefix": {
            "addr": prefix.network().to_string(),
            "len": prefix.length(),
        } }),
        Part::IfName(_)
        | Part::Mac(_)
        | Part::Address(_)
        | Part::RawAddress(_)
        | Part::RawMac(_) => json!(part.word()),
    }
}

fn value(value: &Value) -> Json {
    match value {
        Value::Mark(mark) => json!(mark),
        // As a word it is taken for a symbol, and refused.
        Value::Accept => json!({ "accept": null }),
        Value::Goto(chain) => json!({ "goto": { "target": chain } }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verdicts_are_objects() {
        let set = SetRef {
            family: "bridge",
            name: "port_in".to_owned(),
        };
        let element = |name: &str, value| Element {
            key: vec![Part::IfName(name.parse().unwrap())],
            value: Some(value),
        };
        let goto = Value::Goto("guest".to_owned());
        let elements = vec![element("eth0", Value::Accept), element("vnet0", goto)];
        let text = document(&Elements::new(), &Elements::from([(set, elements)]));
        let words = r#"[["eth0",{"accept":null}],["vnet0",{"goto":{"target":"guest"}}]]"#;
        assert!(text.contains(words), "{text}");
    }
}
