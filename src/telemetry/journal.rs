//! Events as entries of systemd's journal: the line that a person reads, and each of its fields
//! for a program (`journalctl SGAGENT_NIC=vm-7`).

use std::fmt::{Debug, Write as _};

use libsystemd::logging::{Priority, journal_send};
use tracing::{
    Event, Level, Subscriber,
    field::{Field, Visit},
};
use tracing_subscriber::{Layer, layer::Context};

/// What the fields' names begin with in the journal: there they are everybody's.
const PREFIX: &str = "SGAGENT_";

/// Sends events to the journal.
#[derive(Debug)]
pub(super) struct Journal;

impl<S: Subscriber> Layer<S> for Journal {
    fn on_event(&self, event: &Event<'_>, _context: Context<'_, S>) {
        let mut entry = Entry::default();
        event.record(&mut entry);
        let fields = entry.fields.iter().map(|(name, value)| (name, value));
        if let Err(error) = journal_send(priority(*event.metadata().level()), &entry.line, fields) {
            // Where stderr leads, the journal is told the line once more; it may be back.
            let mut stderr = std::io::stderr().lock();
            let _ =
                std::io::Write::write_fmt(&mut stderr, format_args!("{} ({error})\n", entry.line));
        }
    }
}

/// As `syslog(3)` and `journalctl -p` have them.
fn priority(level: Level) -> Priority {
    match level {
        Level::ERROR => Priority::Error,
        Level::WARN => Priority::Warning,
        Level::INFO => Priority::Info,
        _ => Priority::Debug,
    }
}

/// An event as it is sent.
#[derive(Debug, Default, PartialEq, Eq)]
struct Entry {
    line: String,
    fields: Vec<(String, String)>,
}

impl Entry {
    fn add(&mut self, field: &Field, shown: &dyn Debug, value: String) {
        let name = field.name();
        // Writing to a String can't fail.
        if name == "message" {
            self.line = format!("{value}{}", self.line);
        } else {
            let _ = write!(self.line, " {name}={shown:?}");
            self.fields
                .push((format!("{PREFIX}{}", name.to_ascii_uppercase()), value));
        }
    }
}

impl Visit for Entry {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.add(field, value, format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.add(field, &value, value.to_owned());
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Sender, channel};

    use tracing_subscriber::layer::SubscriberExt as _;

    use super::*;

    /// Keeps entries instead of sending them.
    struct Kept(Sender<Entry>);

    impl<S: Subscriber> Layer<S> for Kept {
        fn on_event(&self, event: &Event<'_>, _context: Context<'_, S>) {
            let mut entry = Entry::default();
            event.record(&mut entry);
            self.0.send(entry).unwrap();
        }
    }

    #[test]
    fn an_entry_is_a_line_for_people_and_fields_for_programs() {
        let (sender, kept) = channel();
        let log = tracing_subscriber::registry().with(Kept(sender));
        tracing::subscriber::with_default(log, || {
            let (nic, by) = ("vm-7", "nft (pid 3)");
            tracing::info!(nics = 2_u64, %nic, by, generation = None::<u64>, "bound");
        });
        let fields = [
            ("SGAGENT_NICS", "2"),
            ("SGAGENT_NIC", "vm-7"),
            ("SGAGENT_BY", "nft (pid 3)"),
        ];
        let expected = Entry {
            line: "bound nics=2 nic=vm-7 by=\"nft (pid 3)\"".to_owned(),
            fields: fields.map(|(k, v)| (k.to_owned(), v.to_owned())).to_vec(),
        };
        assert_eq!(kept.try_iter().collect::<Vec<_>>(), [expected]);
    }
}
