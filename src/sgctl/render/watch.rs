//! What happens, a line each.

use super::{
    super::table::{Cell, Tone},
    short,
    time::{clock, date},
};
use crate::pb::{self, watch_drops_response::News as Drops, watch_events_response::News as Events};

/// Drops.
pub(in crate::sgctl) fn drop_news(message: &pb::WatchDropsResponse, colour: bool) -> String {
    match &message.news {
        Some(Drops::Packet(packet)) => {
            let pb::DroppedPacket {
                at_ms,
                nic_id,
                reason,
                row,
                ..
            } = &**packet;
            let nic = if nic_id.is_empty() { "-" } else { nic_id };
            let cells = [
                Cell::new(&clock(*at_ms), Tone::Plain),
                Cell::new(nic, Tone::Head),
                Cell::new(&format!("{reason} ({row})"), Tone::Bad),
                Cell::new(&way(packet), Tone::Plain),
                Cell::new(&what(packet), Tone::Plain),
            ];
            line(&cells, colour)
        }
        Some(Drops::Counts(counts)) => {
            let of = |nic: &str, drops: &[pb::DropCount]| -> Vec<String> {
                let one = |count: &pb::DropCount| {
                    let pb::DropCount {
                        reason,
                        packets,
                        bytes,
                    } = count;
                    format!("{nic} {reason} {packets} packets, {bytes} octets")
                };
                drops.iter().map(one).collect()
            };
            let seconds = std::time::Duration::from_millis(counts.within_ms).as_secs_f64();
            let mut all: Vec<_> = counts
                .nics
                .iter()
                .flat_map(|nic| of(&nic.nic_id, &nic.drops))
                .collect();
            all.extend(of("all", &counts.totals));
            let within = format!("within {seconds:.1} s:");
            let text = |one: String| line(&[(&within).into(), one.into()], colour);
            all.into_iter().map(text).collect()
        }
        Some(Drops::Missed(missed)) => left_out("samples", *missed),
        None => String::new(),
    }
}

/// Events.
pub(in crate::sgctl) fn event_news(message: &pb::WatchEventsResponse, colour: bool) -> String {
    let event = match &message.news {
        Some(Events::Event(event)) => event,
        Some(Events::Missed(missed)) => return left_out("events", *missed),
        None => return String::new(),
    };
    let tone = match event.kind() {
        pb::EventKind::Unspecified
        | pb::EventKind::Started
        | pb::EventKind::Removed
        | pb::EventKind::Applied => Tone::Plain,
        pb::EventKind::Bound | pb::EventKind::Repaired | pb::EventKind::Healthy => Tone::Good,
        pb::EventKind::Unbound | pb::EventKind::Drifted => Tone::Warn,
        pb::EventKind::Quarantined | pb::EventKind::Unhealthy => Tone::Bad,
    };
    let kind = short(event.kind().as_str_name(), "EVENT_KIND_");
    let cells = [
        Cell::new(&date(event.at_ms / 1000), Tone::Plain),
        Cell::new(&kind, tone),
        Cell::new(&event.nic_id, Tone::Head),
        Cell::new(&event.text, Tone::Plain),
    ];
    line(&cells, colour)
}

fn left_out(what: &str, missed: pb::Missed) -> String {
    match missed.count {
        Some(count) => format!("({count} {what} were left out)\n"),
        None => format!("({what} were left out)\n"),
    }
}

fn line(cells: &[Cell], colour: bool) -> String {
    let mut text = String::new();
    for cell in cells.iter().filter(|cell| !cell.is_empty()) {
        if !text.is_empty() {
            text.push_str("  ");
        }
        cell.write(&mut text, colour);
    }
    text + "\n"
}

/// The interfaces that it came by and was to leave by.
fn way(packet: &pb::DroppedPacket) -> String {
    let (input, output) = (&packet.input_interface, &packet.output_interface);
    match (input.is_empty(), output.is_empty()) {
        (true, true) => String::new(),
        (false, true) => format!("from {input}"),
        (true, false) => format!("to {output}"),
        (false, false) => format!("from {input} to {output}"),
    }
}

fn what(packet: &pb::DroppedPacket) -> String {
    let pb::DroppedPacket {
        source_mac,
        destination_mac,
        ether_type,
        source,
        destination,
        protocol,
        source_port,
        destination_port,
        icmpv6_type,
        icmpv6_code,
        fragment,
        ..
    } = packet;
    if source.is_empty() {
        let macs = format!("{source_mac} > {destination_mac} ");
        let macs = if source_mac.is_empty() { "" } else { &macs };
        return format!("{macs}EtherType {ether_type:#06x}");
    }
    let mac = if source_mac.is_empty() {
        String::new()
    } else {
        format!("{source_mac} ")
    };
    let named = match protocol {
        Some(6) => "tcp".to_owned(),
        Some(17) => "udp".to_owned(),
        Some(58) => "icmpv6".to_owned(),
        Some(132) => "sctp".to_owned(),
        Some(number) => format!("protocol {number}"),
        None => "protocol unknown".to_owned(),
    };
    let more = match (source_port, destination_port, icmpv6_type, icmpv6_code) {
        (Some(from), Some(to), ..) => format!(" port {from} > {to}"),
        (_, _, Some(kind), code) => {
            format!(" type {kind} code {}", code.unwrap_or_default())
        }
        _ => String::new(),
    };
    let fragment = if *fragment { ", a fragment" } else { "" };
    format!("{mac}{source} > {destination} {named}{more}{fragment}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dropped(packet: pb::DroppedPacket) -> String {
        let news = Some(Drops::Packet(Box::new(packet)));
        drop_news(&pb::WatchDropsResponse { news }, false)
    }

    #[test]
    fn a_packet_is_a_line() {
        let packet = pb::DroppedPacket {
            at_ms: 1_700_000_000_123,
            nic_id: "web-1".to_owned(),
            reason: "spoofed-source".to_owned(),
            row: "G13".to_owned(),
            input_interface: "vnet3".to_owned(),
            source_mac: "02:00:00:00:00:01".to_owned(),
            destination_mac: "02:00:00:00:00:02".to_owned(),
            ether_type: 0x86dd,
            source: "2001:db8::bad".to_owned(),
            destination: "2001:db8::1".to_owned(),
            protocol: Some(17),
            source_port: Some(1),
            destination_port: Some(2),
            ..pb::DroppedPacket::default()
        };
        let text = "22:13:20.123  web-1  spoofed-source (G13)  from vnet3  02:00:00:00:00:01 \
                    2001:db8::bad > 2001:db8::1 udp port 1 > 2\n";
        assert_eq!(dropped(packet), text);
        let other = pb::DroppedPacket {
            reason: "unbound".to_owned(),
            row: "closed default".to_owned(),
            output_interface: "vnet\u{1b}4".to_owned(),
            ether_type: 0x0806,
            ..pb::DroppedPacket::default()
        };
        let text =
            "00:00:00.000  -  unbound (closed default)  to vnet\u{fffd}4  EtherType 0x0806\n";
        assert_eq!(dropped(other), text);
    }

    #[test]
    fn what_was_left_out_is_said() {
        let text = |count| {
            let news = Some(Drops::Missed(pb::Missed { count }));
            drop_news(&pb::WatchDropsResponse { news }, false)
        };
        assert_eq!(text(Some(7)), "(7 samples were left out)\n");
        assert_eq!(text(None), "(samples were left out)\n");
    }

    #[test]
    fn an_event_is_a_line() {
        let event = pb::Event {
            number: 1,
            at_ms: 1_700_000_000_123,
            kind: pb::EventKind::Bound.into(),
            nic_id: "web-1".to_owned(),
            text: "vnet3 on br0".to_owned(),
        };
        let news = Some(Events::Event(event));
        let text = event_news(&pb::WatchEventsResponse { news }, false);
        assert_eq!(text, "2023-11-14T22:13:20Z  bound  web-1  vnet3 on br0\n");
    }
}
