//! What is wrong with a NIC, for people.

use super::super::table::{Cell, Table, Tone};
use crate::pb;

/// The first thing that is wrong, then every check.
pub(in crate::sgctl) fn diagnosed(answer: &pb::DiagnoseResponse, colour: bool) -> String {
    let mut head = Table::pairs();
    match &answer.first_wrong {
        Some(check) => {
            head.pair("wrong", Cell::new(&check.text, Tone::Bad));
            head.pair("hint", &check.hint);
        }
        None => head.pair("wrong", Cell::new("nothing that could be seen", Tone::Good)),
    }
    let mut table = Table::new(&["CHECK", "RESULT", "WHY"]);
    for check in &answer.checks {
        let (word, tone) = match check.result() {
            pb::CheckResult::Ok => ("ok", Tone::Good),
            pb::CheckResult::Wrong => ("WRONG", Tone::Bad),
            pb::CheckResult::Unknown => ("unknown", Tone::Warn),
            pb::CheckResult::Unspecified => ("?", Tone::Plain),
        };
        table.row([
            check.name.as_str().into(),
            Cell::new(word, tone),
            check.text.as_str().into(),
        ]);
        let first = answer.first_wrong.as_ref() == Some(check);
        if !check.hint.is_empty() && !first {
            let hint = format!("hint: {}", check.hint);
            table.row(["".into(), "".into(), hint.into()]);
        }
    }
    let mut text = head.render(colour) + "\n" + &table.render(colour);
    if !answer.recent_drops.is_empty() {
        let lately = format!("DROPPED IN {} ms", answer.recent_ms);
        let mut drops = Table::new(&[&lately, "PACKETS", "OCTETS"]);
        for count in &answer.recent_drops {
            drops.row([
                count.reason.as_str().into(),
                count.packets.to_string().into(),
                count.bytes.to_string().into(),
            ]);
        }
        text.push('\n');
        text.push_str(&drops.render(colour));
    }
    text
}
