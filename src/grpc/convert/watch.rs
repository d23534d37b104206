//! What happens, in messages of the API.

use std::time::Duration;

use super::read;
use crate::{
    agent::{
        DropCount, DropNews, DroppedPacket, Drops, Event, EventKind, EventNews, Glance, Reason,
        Upper,
    },
    model::{IfName, Mac, NicId},
    pb::{self, watch_drops_response::News as DropsNews, watch_events_response::News},
};

/// Which drops are wanted.
#[derive(Debug)]
pub(in crate::grpc) struct WantedDrops {
    pub(in crate::grpc) nic: Option<NicId>,
    /// None: any.
    pub(in crate::grpc) reasons: Vec<Reason>,
}

impl WantedDrops {
    fn reason(&self, reason: &str) -> bool {
        self.reasons.is_empty() || self.reasons.iter().any(|one| one.name() == reason)
    }

    /// The news, as far as it is wanted; or why there will be no more.
    pub(in crate::grpc) fn told(
        &self,
        news: DropNews,
    ) -> Result<Option<pb::WatchDropsResponse>, String> {
        let news = match news {
            DropNews::Packet(packet) => self.packet(&packet).map(Box::new).map(DropsNews::Packet),
            DropNews::Counts(drops, within) => self.counts(&drops, within).map(DropsNews::Counts),
            DropNews::Missed(count) => Some(DropsNews::Missed(pb::Missed { count })),
            DropNews::Ended(why) => return Err(why.to_string()),
        };
        Ok(news.map(|news| pb::WatchDropsResponse { news: Some(news) }))
    }

    fn packet(&self, packet: &DroppedPacket) -> Option<pb::DroppedPacket> {
        let of_nic = self.nic.is_none() || packet.nic == self.nic;
        (of_nic && self.reason(packet.reason.name())).then(|| dropped(packet))
    }

    fn counts(&self, drops: &Drops, within: Duration) -> Option<pb::DropCounts> {
        let only = |counts: &[DropCount]| {
            let wanted = counts.iter().filter(|count| self.reason(&count.reason));
            read::drop_counts(&wanted.cloned().collect::<Vec<_>>())
        };
        let nics = drops.nics.iter();
        let nics = nics.filter(|one| self.nic.as_ref().is_none_or(|nic| *nic == one.nic));
        let nics = nics.map(|one| pb::NicDrops {
            nic_id: one.nic.to_string(),
            drops: only(&one.drops),
        });
        let nics: Vec<_> = nics.filter(|one| !one.drops.is_empty()).collect();
        let totals = match self.nic {
            Some(_) => Vec::new(),
            None => only(&drops.totals),
        };
        let within_ms = u64::try_from(within.as_millis()).unwrap_or(u64::MAX);
        let counts = pb::DropCounts {
            within_ms,
            nics,
            totals,
        };
        (!counts.nics.is_empty() || !counts.totals.is_empty()).then_some(counts)
    }
}

fn dropped(packet: &DroppedPacket) -> pb::DroppedPacket {
    let DroppedPacket {
        at_ms,
        nic,
        reason,
        input,
        output,
        ether_type,
        glance,
        link_header,
        payload,
    } = packet;
    let name = |name: &Option<IfName>| name.as_ref().map_or(String::new(), ToString::to_string);
    let mac = |at: usize| {
        let octets = link_header.get(at..).and_then(<[u8]>::first_chunk::<6>);
        octets.map_or(String::new(), |octets| Mac::text(*octets))
    };
    let told = pb::DroppedPacket {
        at_ms: *at_ms,
        nic_id: nic.as_ref().map_or(String::new(), ToString::to_string),
        reason: reason.name().to_owned(),
        row: reason.row().to_owned(),
        input_interface: name(input),
        output_interface: name(output),
        source_mac: mac(6),
        destination_mac: mac(0),
        ether_type: (*ether_type).into(),
        link_header: link_header.clone(),
        payload: payload.clone(),
        ..pb::DroppedPacket::default()
    };
    match glance {
        Some(glance) => seen(glance, told),
        None => told,
    }
}

/// What is told, with what the packet is.
fn seen(glance: &Glance, mut told: pb::DroppedPacket) -> pb::DroppedPacket {
    let Glance {
        source,
        destination,
        protocol,
        upper,
        fragment,
    } = glance;
    told.source = source.to_string();
    told.destination = destination.to_string();
    told.protocol = protocol.map(u32::from);
    told.fragment = *fragment;
    match *upper {
        Upper::Ports {
            source,
            destination,
        } => {
            told.source_port = Some(source.into());
            told.destination_port = Some(destination.into());
        }
        Upper::Icmpv6 { kind, code } => {
            told.icmpv6_type = Some(kind.into());
            told.icmpv6_code = Some(code.into());
        }
        Upper::Other => {}
    }
    told
}

/// An event.
pub(in crate::grpc) fn event(event: &Event) -> pb::WatchEventsResponse {
    let Event {
        number,
        at_ms,
        kind,
        nic,
        text,
    } = event;
    let event = pb::Event {
        number: *number,
        at_ms: *at_ms,
        kind: event_kind(*kind).into(),
        nic_id: nic.as_ref().map_or(String::new(), ToString::to_string),
        text: text.clone(),
    };
    pb::WatchEventsResponse {
        news: Some(News::Event(event)),
    }
}

/// What comes, as far as it is about this NIC, or about anything.
pub(in crate::grpc) fn event_news(
    news: &EventNews,
    nic: Option<&NicId>,
) -> Option<pb::WatchEventsResponse> {
    match news {
        EventNews::Event(one) => is_about(one, nic).then(|| event(one)),
        EventNews::Missed(count) => {
            let count = Some(*count);
            let news = Some(News::Missed(pb::Missed { count }));
            Some(pb::WatchEventsResponse { news })
        }
    }
}

/// Whether an event is about this NIC, or any is wanted.
pub(in crate::grpc) fn is_about(event: &Event, nic: Option<&NicId>) -> bool {
    nic.is_none_or(|nic| event.nic.as_ref() == Some(nic))
}

fn event_kind(kind: EventKind) -> pb::EventKind {
    match kind {
        EventKind::Started => pb::EventKind::Started,
        EventKind::Bound => pb::EventKind::Bound,
        EventKind::Unbound => pb::EventKind::Unbound,
        EventKind::Quarantined => pb::EventKind::Quarantined,
        EventKind::Removed => pb::EventKind::Removed,
        EventKind::Applied => pb::EventKind::Applied,
        EventKind::Drifted => pb::EventKind::Drifted,
        EventKind::Repaired => pb::EventKind::Repaired,
        EventKind::Unhealthy => pb::EventKind::Unhealthy,
        EventKind::Healthy => pb::EventKind::Healthy,
    }
}
