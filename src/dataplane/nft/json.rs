//! A transaction of elements only, as JSON: the way of every change of a NIC or a
//! member, on which no word of the management server gets near nft's scanner.

use std::borrow::Cow;

use nftables::{
    expr::{Expression, NamedExpression, Prefix},
    schema::{Element as NfElement, NfCmd, NfListObject, NfObject, Nftables},
    stmt::JumpTarget,
    types::NfFamily,
};

use super::{
    batch::Elements,
    element::{Element, Part, SetRef, Value},
};
use crate::ruleset::name::TABLE;

/// The document that `nft -j -f -` takes.
pub(super) fn document(remove: &Elements, add: &Elements) -> Result<String, serde_json::Error> {
    let mut objects = Vec::new();
    for (set, elements) in remove {
        let keys = elements.iter().map(|element| key(&element.key)).collect();
        objects.push(NfObject::CmdObject(NfCmd::Delete(object(set, keys))));
    }
    for (set, elements) in add {
        let whole = elements.iter().map(element).collect();
        objects.push(NfObject::CmdObject(NfCmd::Add(object(set, whole))));
    }
    serde_json::to_string(&Nftables {
        objects: Cow::Owned(objects),
    })
}

fn object(set: &SetRef, elements: Vec<Expression<'static>>) -> NfListObject<'static> {
    NfListObject::Element(NfElement {
        family: family(set.family),
        table: Cow::Borrowed(TABLE),
        name: Cow::Owned(set.name.clone()),
        elem: Cow::Owned(elements),
    })
}

fn family(name: &str) -> NfFamily {
    if name == "bridge" {
        NfFamily::Bridge
    } else {
        NfFamily::IP6
    }
}

fn element(element: &Element) -> Expression<'static> {
    let key = key(&element.key);
    match &element.value {
        None => key,
        Some(value) => Expression::List(vec![key, self::value(value)]),
    }
}

fn key(parts: &[Part]) -> Expression<'static> {
    match parts {
        [one] => part(one),
        many => Expression::Named(NamedExpression::Concat(many.iter().map(part).collect())),
    }
}

fn part(part: &Part) -> Expression<'static> {
    match part {
        Part::Mark(mark) => Expression::Number(*mark),
        Part::Prefix(prefix) => Expression::Named(NamedExpression::Prefix(Prefix {
            addr: Box::new(Expression::String(prefix.network().to_string().into())),
            len: u32::from(prefix.length()),
        })),
        Part::IfName(_)
        | Part::Mac(_)
        | Part::Address(_)
        | Part::RawAddress(_)
        | Part::RawMac(_) => Expression::String(part.word().into()),
    }
}

fn value(value: &Value) -> Expression<'static> {
    use nftables::expr::Verdict;
    match value {
        Value::Mark(mark) => Expression::Number(*mark),
        Value::Accept => Expression::Verdict(Verdict::Accept),
        Value::Goto(chain) => Expression::Verdict(Verdict::Goto(JumpTarget {
            target: Cow::Owned(chain.clone()),
        })),
    }
}
