//! What a transaction did to our tables, as the kernel tells it.
//!
//! Numbers are those of `include/uapi/linux/netfilter/nf_tables.h`.

use std::{collections::BTreeMap, fmt};

use netlink_packet_core::{DecodeError, NetlinkBuffer, NlasIterator};

use crate::ruleset::name;

/// `NFNL_SUBSYS_NFTABLES`, the upper octet of a message's type.
const SUBSYSTEM: u16 = 10;

/// `NFT_MSG_NEWGEN`, the last message of a transaction.
const NEWGEN: u16 = 15;

/// The name of a table in a table's message, and of its table in any other; of a
/// chain; of the chain of a rule, of a set, of the set of an element, of an object.
const TABLE_NAME: u16 = 1;
const CHAIN_NAME: u16 = 3;
const OTHER_NAME: u16 = 2;

const GEN_PROC_PID: u16 = 2;
const GEN_PROC_NAME: u16 = 3;

/// As many different edits as one transaction is remembered by.
const MAX_EDITS: usize = 1024;

/// As many as are told.
const MAX_TOLD: usize = 3;

/// Who asked for a transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Process {
    /// In the initial PID namespace.
    pub(super) pid: u32,
    pub(super) name: String,
}

impl fmt::Display for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (pid {})", self.name, self.pid)
    }
}

/// One transaction, as far as it concerns our tables.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Transaction {
    /// The address of the socket that asked; 0 is the kernel itself.
    pub(super) port: u32,
    pub(super) process: Option<Process>,
    edits: BTreeMap<Edit, usize>,
}

/// What sort of thing was edited: the more it takes along, the earlier it is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Table,
    Chain,
    Set,
    Object,
    Flowtable,
    Rule,
    Element,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Edit {
    kind: Kind,
    deleted: bool,
    family: &'static str,
    /// The thing's name, or that of the chain or set which it is in.
    name: String,
}

/// What a message means for the transaction that it belongs to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Told {
    /// It is part of it.
    Part,
    /// It ends it.
    End,
}

impl Transaction {
    /// Whether it left our tables alone.
    pub(super) fn is_empty(&self) -> bool {
        self.edits.is_empty()
    }

    /// Takes in a message.
    pub(super) fn take(&mut self, message: &NetlinkBuffer<&[u8]>) -> Result<Told, DecodeError> {
        let kind = message.message_type();
        let body = message.payload();
        let Some((header, attributes)) = body.split_first_chunk::<4>() else {
            return Err(DecodeError::buffer_too_small(body.len(), 4));
        };
        if kind >> 8 != SUBSYSTEM {
            return Ok(Told::Part);
        }
        if kind & 0xff == NEWGEN {
            self.port = message.port_number();
            self.process = process(attributes)?;
            return Ok(Told::End);
        }
        if let (Some((kind, deleted)), Some(family)) = (meaning(kind & 0xff), family(header[0]))
            && let Some(name) = place(kind, attributes)?
        {
            let edit = Edit {
                kind,
                deleted,
                family,
                name,
            };
            self.count(edit);
        }
        Ok(Told::Part)
    }

    fn count(&mut self, edit: Edit) {
        if self.edits.len() < MAX_EDITS || self.edits.contains_key(&edit) {
            *self.edits.entry(edit).or_default() += 1;
        }
    }

    /// What was in a table goes with it, and a set without a name with its rule; what was
    /// done in many places is told as one.
    fn told(&self) -> Vec<Line<'_>> {
        let mut lines: BTreeMap<(Kind, bool, &str), Line<'_>> = BTreeMap::new();
        for (edit, times) in &self.edits {
            let table_gone = self.edits.keys().any(|table| {
                table.kind == Kind::Table && table.deleted && table.family == edit.family
            });
            let inside = edit.kind != Kind::Table && edit.deleted && table_gone;
            if inside || edit.name.starts_with("__") {
                continue;
            }
            let line = lines.entry((edit.kind, edit.deleted, edit.family));
            let line = line.or_insert(Line {
                edit,
                times: 0,
                places: 0,
            });
            line.times += times;
            line.places += 1;
        }
        lines.into_values().collect()
    }
}

/// Edits of a sort in one table.
struct Line<'a> {
    /// The first of them.
    edit: &'a Edit,
    times: usize,
    places: usize,
}

impl fmt::Display for Transaction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let told = self.told();
        if told.is_empty() {
            return write!(f, "sets without a name edited");
        }
        for (i, line) in told.iter().take(MAX_TOLD).enumerate() {
            let separator = if i == 0 { "" } else { "; " };
            write!(f, "{separator}{line}")?;
        }
        match told
            .iter()
            .skip(MAX_TOLD)
            .map(|line| line.times)
            .sum::<usize>()
        {
            0 => Ok(()),
            more => write!(f, "; and {more} more edits"),
        }
    }
}

impl fmt::Display for Line<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Edit {
            kind,
            deleted,
            family,
            name,
        } = self.edit;
        let table = format!("table {family} {}", name::TABLE);
        let verb = if *deleted { "deleted" } else { "added" };
        let (what, place) = match kind {
            Kind::Table => return write!(f, "{table} {verb}"),
            Kind::Chain => ("chain", None),
            Kind::Set => ("set", None),
            Kind::Object => ("object", None),
            Kind::Flowtable => ("flowtable", None),
            Kind::Rule => ("rule", Some("chain")),
            Kind::Element => ("element", Some("set")),
        };
        let way = if *deleted { "from" } else { "to" };
        match (place, self.places, self.times) {
            (None, 1, _) => write!(f, "{what} {name} of {table} {verb}"),
            (None, places, _) => write!(f, "{places} {what}s of {table} {verb}"),
            (Some(place), 1, 1) => write!(f, "{what} {verb} {way} {place} {name} of {table}"),
            (Some(place), 1, times) => {
                write!(f, "{times} {what}s {verb} {way} {place} {name} of {table}")
            }
            (Some(place), places, times) => {
                write!(
                    f,
                    "{times} {what}s {verb} {way} {places} {place}s of {table}"
                )
            }
        }
    }
}

/// What sort of thing a message type is about, and whether that went away.
fn meaning(kind: u16) -> Option<(Kind, bool)> {
    Some(match kind {
        0 => (Kind::Table, false),
        2 => (Kind::Table, true),
        3 => (Kind::Chain, false),
        5 => (Kind::Chain, true),
        6 => (Kind::Rule, false),
        8 => (Kind::Rule, true),
        9 => (Kind::Set, false),
        11 => (Kind::Set, true),
        12 => (Kind::Element, false),
        14 => (Kind::Element, true),
        18 => (Kind::Object, false),
        20 => (Kind::Object, true),
        22 => (Kind::Flowtable, false),
        24 => (Kind::Flowtable, true),
        _ => return None,
    })
}

/// The families of our tables, `NFPROTO_…` of include/uapi/linux/netfilter.h.
fn family(number: u8) -> Option<&'static str> {
    let family = match number {
        5 => "netdev",
        7 => "bridge",
        10 => "ip6",
        _ => return None,
    };
    name::FAMILIES.contains(&family).then_some(family)
}

/// The name of what was edited, or of what it is in; nothing where the table is not ours.
fn place(kind: Kind, attributes: &[u8]) -> Result<Option<String>, DecodeError> {
    let wanted = match kind {
        Kind::Table => TABLE_NAME,
        Kind::Chain => CHAIN_NAME,
        Kind::Set | Kind::Object | Kind::Flowtable | Kind::Rule | Kind::Element => OTHER_NAME,
    };
    let (mut ours, mut found) = (false, String::new());
    for attribute in NlasIterator::new(attributes) {
        let attribute = attribute?;
        if attribute.kind() == TABLE_NAME {
            ours = text(attribute.value()) == name::TABLE;
            if !ours {
                return Ok(None);
            }
        }
        if attribute.kind() == wanted {
            found = text(attribute.value());
        }
        if ours && !found.is_empty() {
            break;
        }
    }
    Ok(ours.then_some(found))
}

fn process(attributes: &[u8]) -> Result<Option<Process>, DecodeError> {
    let (mut pid, mut name) = (None, None);
    for attribute in NlasIterator::new(attributes) {
        let attribute = attribute?;
        match attribute.kind() {
            GEN_PROC_PID => pid = attribute.value().first_chunk().copied(),
            GEN_PROC_NAME => name = Some(text(attribute.value())),
            _ => {}
        }
    }
    let known = pid.map(u32::from_be_bytes).zip(name);
    Ok(known.map(|(pid, name)| Process { pid, name }))
}

/// A process calls itself what it likes, and names in the kernel have any octets: what is told
/// goes into a line of the log.
fn text(value: &[u8]) -> String {
    let end = value.iter().position(|octet| *octet == 0);
    let text = String::from_utf8_lossy(&value[..end.unwrap_or(value.len())]);
    text.replace(char::is_control, "\u{fffd}")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn message(kind: u16, family: u8, attributes: &[(u16, &[u8])]) -> Vec<u8> {
        let mut body = vec![family, 0, 0, 0];
        for (kind, value) in attributes {
            let length = u16::try_from(4 + value.len()).unwrap();
            body.extend(length.to_ne_bytes());
            body.extend(kind.to_ne_bytes());
            body.extend(*value);
            body.resize(body.len().next_multiple_of(4), 0);
        }
        let mut octets = u32::try_from(16 + body.len())
            .unwrap()
            .to_ne_bytes()
            .to_vec();
        octets.extend((SUBSYSTEM << 8 | kind).to_ne_bytes());
        octets.extend([0; 6]);
        octets.extend(4711_u32.to_ne_bytes());
        octets.extend(body);
        octets
    }

    fn told(messages: &[Vec<u8>]) -> Transaction {
        let mut transaction = Transaction::default();
        for octets in messages {
            let buffer = NetlinkBuffer::new_checked(&octets[..]).unwrap();
            transaction.take(&buffer).unwrap();
        }
        transaction
    }

    const TABLE: (u16, &[u8]) = (1, b"sgagent\0");

    #[test]
    fn edits_are_told_in_words() {
        let rule = message(8, 7, &[TABLE, (2, b"guard\0")]);
        let element = message(12, 7, &[TABLE, (2, b"bound\0")]);
        let end = message(NEWGEN, 0, &[(2, &[0, 0, 0, 9]), (3, b"nft\0")]);
        let all = told(&[rule, element.clone(), element, end]);
        assert_eq!(
            all.to_string(),
            "rule deleted from chain guard of table bridge sgagent; \
             2 elements added to set bound of table bridge sgagent"
        );
        assert_eq!(all.port, 4711);
        assert_eq!(all.process.unwrap().to_string(), "nft (pid 9)");
    }

    /// They would end a line of the log.
    #[test]
    fn names_bring_no_control_characters_along() {
        let chain = message(5, 7, &[TABLE, (3, b"a\nb\0")]);
        let end = message(NEWGEN, 0, &[(2, &[0, 0, 0, 9]), (3, b"\x1b[2J\0")]);
        let all = told(&[chain, end]);
        let what = "chain a\u{fffd}b of table bridge sgagent deleted";
        assert_eq!(all.to_string(), what);
        assert_eq!(all.process.unwrap().to_string(), "\u{fffd}[2J (pid 9)");
    }

    #[test]
    fn a_deleted_table_takes_its_content_along() {
        let rule = message(8, 5, &[TABLE, (2, b"guest_ports\0")]);
        let chain = message(5, 5, &[TABLE, (3, b"guest_ports\0")]);
        let table = message(2, 5, &[TABLE]);
        let all = told(&[rule, chain, table]);
        assert_eq!(all.to_string(), "table netdev sgagent deleted");
    }

    /// Those go and come with their rule, which is told; by themselves there is no name to tell.
    #[test]
    fn sets_without_a_name_are_told_only_where_nothing_else_is() {
        let element = message(12, 7, &[TABLE, (2, b"__set3\0")]);
        let rule = message(6, 7, &[TABLE, (2, b"guard\0")]);
        assert_eq!(
            told(&[element.clone(), rule]).to_string(),
            "rule added to chain guard of table bridge sgagent"
        );
        let alone = told(&[element]);
        assert!(!alone.is_empty());
        assert_eq!(alone.to_string(), "sets without a name edited");
    }

    #[test]
    fn other_tables_and_families_are_not_ours() {
        let other = message(2, 7, &[(1, b"sgagent2\0")]);
        let family = message(2, 2, &[TABLE]);
        let kind = message(1, 7, &[TABLE]);
        assert!(told(&[other, family, kind]).is_empty());
    }

    #[test]
    fn many_edits_are_summed_up() {
        let chains: Vec<_> = (0..2000)
            .map(|n| message(5, 7, &[TABLE, (3, format!("c{n}\0").as_bytes())]))
            .collect();
        let all = told(&chains);
        assert_eq!(all.edits.len(), MAX_EDITS);
        assert_eq!(
            all.to_string(),
            "1024 chains of table bridge sgagent deleted"
        );
    }

    proptest! {
        #[test]
        fn no_octets_make_it_panic(
            kind in 0_u16..30,
            family in 0_u8..12,
            body in proptest::collection::vec(any::<u8>(), 0..80),
        ) {
            let mut octets = message(kind, family, &[TABLE]);
            octets.extend(body);
            let length = u32::try_from(octets.len()).unwrap();
            octets[..4].copy_from_slice(&length.to_ne_bytes());
            if let Ok(buffer) = NetlinkBuffer::new_checked(&octets[..]) {
                let _ = Transaction::default().take(&buffer);
            }
        }
    }
}
