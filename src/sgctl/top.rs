//! `sgctl top`: the NICs by what they send, receive and lose, as it changes.
//!
//! Rates are between two readings of the kernel's counters. Counters that went back (the rules were
//! loaded anew, an interface is another) count from nothing.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{IsTerminal as _, Write},
    time::Duration,
};

use ratatui::{
    DefaultTerminal,
    crossterm::event::{self, Event, KeyCode, KeyEvent, KeyModifiers},
};
use serde::Serialize;
use tokio::time::{Instant, sleep};

use super::{Failure, client::Client, command::Session};
use crate::pb;

mod screen;

use screen::Screen;

/// What the counters said.
struct Reading {
    at: Instant,
    traffic: BTreeMap<String, pb::NicTraffic>,
    drops: BTreeMap<String, BTreeMap<String, u64>>,
}

/// What a NIC does, a second. Its JSON is spelled like the API's.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Row {
    nic_id: String,
    #[serde(rename = "sentPacketsPerSecond")]
    sent_packets: f64,
    #[serde(rename = "sentBitsPerSecond")]
    sent_bits: f64,
    #[serde(rename = "receivedPacketsPerSecond")]
    received_packets: f64,
    #[serde(rename = "receivedBitsPerSecond")]
    received_bits: f64,
    #[serde(rename = "droppedPacketsPerSecond")]
    dropped_packets: f64,
    /// Why most of them were dropped; empty where none was.
    reason: String,
}

/// What the rows are in the order of.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Order {
    #[default]
    Dropped,
    Sent,
    Received,
    Name,
}

impl Order {
    fn key(self) -> char {
        match self {
            Self::Dropped => 'd',
            Self::Sent => 's',
            Self::Received => 'r',
            Self::Name => 'n',
        }
    }

    /// Most first; what is alike by name.
    fn sort(self, rows: &mut [Row]) {
        let most = |row: &Row| match self {
            Self::Dropped => (row.dropped_packets, row.sent_bits + row.received_bits),
            Self::Sent => (row.sent_bits, row.sent_packets),
            Self::Received => (row.received_bits, row.received_packets),
            Self::Name => (0.0, 0.0),
        };
        rows.sort_by(|a, b| {
            let (first, second) = (most(a), most(b));
            let first_more = second.0.total_cmp(&first.0);
            first_more
                .then(second.1.total_cmp(&first.1))
                .then_with(|| a.nic_id.cmp(&b.nic_id))
        });
    }
}

impl Reading {
    async fn take(client: &mut Client) -> Result<Self, Failure> {
        let traffic = client.traffic(String::new()).await?.nics;
        let drops = client.drops(String::new()).await?.nics;
        let by_reason = |drops: Vec<pb::DropCount>| {
            let one = |count: pb::DropCount| (count.reason, count.packets);
            drops.into_iter().map(one).collect()
        };
        Ok(Self {
            at: Instant::now(),
            traffic: traffic
                .into_iter()
                .map(|nic| (nic.nic_id.clone(), nic))
                .collect(),
            drops: drops
                .into_iter()
                .map(|nic| (nic.nic_id, by_reason(nic.drops)))
                .collect(),
        })
    }

    /// What happened since another reading, a second.
    fn since(&self, before: &Self) -> Vec<Row> {
        let seconds = (self.at - before.at).as_secs_f64().max(f64::EPSILON);
        let nics = self.traffic.keys().chain(self.drops.keys());
        let nics: BTreeSet<_> = nics.collect();
        let rows = nics.into_iter().map(|nic| {
            let (now, was) = (self.traffic.get(nic), before.traffic.get(nic));
            let rate = |counter: fn(&pb::NicTraffic) -> u64| {
                // One that was not there before has a past that is not known.
                let (Some(now), Some(was)) = (now.map(counter), was.map(counter)) else {
                    return 0.0;
                };
                grown(was, now) / seconds
            };
            let none = BTreeMap::new();
            let lost = self.drops.get(nic).unwrap_or(&none);
            let lost_before = before.drops.get(nic).unwrap_or(&none);
            let lost = lost.iter().map(|(reason, now)| {
                let was = lost_before.get(reason).copied().unwrap_or_default();
                (grown(was, *now) / seconds, reason)
            });
            let lost: Vec<_> = lost.filter(|(rate, _)| *rate > 0.0).collect();
            let most = lost.iter().max_by(|a, b| a.0.total_cmp(&b.0));
            Row {
                nic_id: nic.clone(),
                sent_packets: rate(|nic| nic.sent_packets),
                sent_bits: 8.0 * rate(|nic| nic.sent_bytes),
                received_packets: rate(|nic| nic.received_packets),
                received_bits: 8.0 * rate(|nic| nic.received_bytes),
                dropped_packets: lost.iter().map(|(rate, _)| rate).sum(),
                reason: most.map_or(String::new(), |(_, reason)| (*reason).clone()),
            }
        });
        rows.collect()
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "a rate for people; exact up to 2^53"
)]
fn grown(was: u64, now: u64) -> f64 {
    now.checked_sub(was).unwrap_or(now) as f64
}

/// Puts the terminal back however this ends.
struct Terminal(DefaultTerminal);

impl Terminal {
    fn open() -> Result<Self, Failure> {
        Ok(Self(ratatui::try_init()?))
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        ratatui::restore();
    }
}

impl<W: Write> Session<'_, W> {
    /// Shows the NICs until the operator has enough of it; with `once`, one time, as text.
    pub(super) async fn top(&mut self, every: Duration, once: bool) -> Result<(), Failure> {
        if once {
            return self.top_once(every).await;
        }
        if self.show.json || !std::io::stdout().is_terminal() {
            let text = "top shows a screen that changes, on a terminal: see --once";
            return Err(Failure::File(text.to_owned()));
        }
        let mut client = self.client().await?;
        let mut before = Reading::take(&mut client).await?;
        let mut screen = Screen::new(self.target.to_string(), self.show.colour);
        let mut terminal = Terminal::open()?;
        loop {
            if screen.attend(&mut terminal.0, every)? {
                return Ok(());
            }
            let now = Reading::take(&mut client).await?;
            screen.show(now.since(&before));
            before = now;
        }
    }

    async fn top_once(&mut self, every: Duration) -> Result<(), Failure> {
        let mut client = self.client().await?;
        let before = Reading::take(&mut client).await?;
        sleep(every).await;
        let mut rows = Reading::take(&mut client).await?.since(&before);
        Order::default().sort(&mut rows);
        if self.show.json {
            let text = serde_json::to_string_pretty(&rows);
            let text = text.map_err(|error| Failure::File(error.to_string()))?;
            writeln!(self.out, "{text}")?;
        } else {
            let text = screen::table(&rows, self.show.colour);
            self.out.write_all(text.as_bytes())?;
        }
        Ok(self.out.flush()?)
    }
}

impl Screen {
    /// Draws, and does what keys say, for this long; whether the operator has enough. Nothing else
    /// of this program has to go on meanwhile.
    fn attend(&mut self, terminal: &mut DefaultTerminal, time: Duration) -> Result<bool, Failure> {
        let until = Instant::now() + time;
        loop {
            terminal.draw(|frame| self.draw(frame))?;
            if !event::poll(until.saturating_duration_since(Instant::now()))? {
                return Ok(false);
            }
            if let Event::Key(key) = event::read()?
                && key.is_press()
                && self.press(key)
            {
                return Ok(true);
            }
        }
    }

    /// Does what a key says; whether that is to end.
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "most keys mean nothing here"
    )]
    fn press(&mut self, key: KeyEvent) -> bool {
        let control = key.modifiers.contains(KeyModifiers::CONTROL);
        match key.code {
            KeyCode::Char('c') if control => return true,
            KeyCode::Char('q') | KeyCode::Esc => return true,
            KeyCode::Char('d') => self.order(Order::Dropped),
            KeyCode::Char('s') => self.order(Order::Sent),
            KeyCode::Char('r') => self.order(Order::Received),
            KeyCode::Char('n') => self.order(Order::Name),
            KeyCode::Up => self.scroll(-1),
            KeyCode::Down => self.scroll(1),
            KeyCode::PageUp => self.scroll(-20),
            KeyCode::PageDown => self.scroll(20),
            KeyCode::Home => self.scroll(isize::MIN),
            _ => {}
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reading(at: Instant, bytes: u64, drops: &[(&str, &str, u64)]) -> Reading {
        let traffic = pb::NicTraffic {
            nic_id: "a".to_owned(),
            sent_packets: bytes / 100,
            sent_bytes: bytes,
            received_packets: 2 * bytes / 100,
            received_bytes: 2 * bytes,
        };
        let mut by_nic: BTreeMap<String, BTreeMap<String, u64>> = BTreeMap::new();
        for (nic, reason, packets) in drops {
            let by_reason = by_nic.entry((*nic).to_owned()).or_default();
            by_reason.insert((*reason).to_owned(), *packets);
        }
        Reading {
            at,
            traffic: BTreeMap::from([("a".to_owned(), traffic)]),
            drops: by_nic,
        }
    }

    #[test]
    fn rates_are_between_two_readings() {
        let began = Instant::now();
        let drops = [("a", "mld", 5), ("a", "nd-rate", 50), ("b", "mld", 7)];
        let before = reading(began, 1_000, &drops);
        let drops = [("a", "mld", 9), ("a", "nd-rate", 52), ("b", "mld", 7)];
        let after = reading(began + Duration::from_secs(2), 5_000, &drops);
        let rows = after.since(&before);
        let a = Row {
            nic_id: "a".to_owned(),
            sent_packets: 20.0,
            sent_bits: 16_000.0,
            received_packets: 40.0,
            received_bits: 32_000.0,
            dropped_packets: 3.0,
            reason: "mld".to_owned(),
        };
        assert_eq!(rows[0], a);
        let b = Row {
            nic_id: "b".to_owned(),
            ..Row::default()
        };
        assert_eq!(rows[1], b);
        // The rules were loaded anew.
        let drops = [("a", "mld", 4)];
        let anew = reading(began + Duration::from_secs(4), 5_000, &drops);
        let lost = anew.since(&after)[0].dropped_packets;
        assert!((lost - 2.0).abs() < 1e-9, "{lost}");
    }

    #[test]
    fn rows_are_in_the_order_that_is_asked_for() {
        let row = |nic: &str, sent: f64, received: f64, dropped: f64| Row {
            nic_id: nic.to_owned(),
            sent_bits: sent,
            received_bits: received,
            dropped_packets: dropped,
            ..Row::default()
        };
        let mut rows = [
            row("c", 1.0, 5.0, 0.0),
            row("a", 2.0, 1.0, 0.0),
            row("b", 0.0, 0.0, 9.0),
        ];
        let mut names = |order: Order| {
            order.sort(&mut rows);
            rows.iter()
                .map(|row| row.nic_id.as_str())
                .collect::<String>()
        };
        assert_eq!(names(Order::Dropped), "bca");
        assert_eq!(names(Order::Sent), "acb");
        assert_eq!(names(Order::Received), "cab");
        assert_eq!(names(Order::Name), "abc");
    }
}
