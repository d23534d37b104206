//! What becomes of packets, for people.

use std::fmt::Write as _;

use crate::pb;

/// A block of lines for each packet.
pub(in crate::sgctl) fn explained(answer: &pb::ExplainResponse, colour: bool) -> String {
    let mut text = String::new();
    for (i, packet) in answer.packets.iter().enumerate() {
        if i > 0 {
            text.push('\n');
        }
        one(&mut text, packet, colour);
    }
    text
}

fn one(text: &mut String, packet: &pb::PacketExplanation, colour: bool) {
    let (word, paint) = match packet.verdict() {
        pb::PacketVerdict::Accept => ("ACCEPT", "\x1b[32m"),
        pb::PacketVerdict::Drop => ("DROP", "\x1b[31m"),
        pb::PacketVerdict::Incomplete => ("INCOMPLETE", "\x1b[33m"),
        pb::PacketVerdict::Unspecified => ("?", ""),
    };
    let (paint, plain) = if colour { (paint, "\x1b[0m") } else { ("", "") };
    let way = match packet.direction() {
        pb::Direction::Ingress => "in",
        pb::Direction::Egress => "out",
        pb::Direction::Unspecified => "?",
    };
    let _ = writeln!(text, "{paint}{word}{plain} {way} {}", packet.summary);
    for step in &packet.steps {
        let _ = writeln!(text, "  {:10} {:5} {}", step.stage, step.row, step.text);
    }
    let reason = if packet.reason.is_empty() {
        String::new()
    } else {
        format!(" {}", packet.reason)
    };
    let _ = writeln!(text, "  {}{reason}: {}", packet.row, packet.text);
    if !packet.hint.is_empty() {
        let _ = writeln!(text, "  hint: {}", packet.hint);
    }
}
