//! Where in a message a fault is, and the faults of a message.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    fmt,
};

use crate::model::{Fault, FaultKind, ValueError};

/// A request that is garbage throughout does not make the agent hold more than this
/// many texts about it.
const MAX_FAULTS: usize = 10_000;

/// A field that is too long is quoted in its fault, up to this many octets.
const MAX_TEXT: usize = 400;

/// The path of a field. Costs nothing until a fault is to be named.
#[derive(Debug, Clone, Copy)]
pub(in crate::grpc) struct Path<'a> {
    parent: Option<&'a Path<'a>>,
    field: &'static str,
    index: Option<usize>,
}

impl Path<'_> {
    /// A field of the request itself.
    pub(in crate::grpc) const fn top(field: &'static str) -> Path<'static> {
        Path {
            parent: None,
            field,
            index: None,
        }
    }

    /// A field of the message that this path leads to.
    pub(in crate::grpc) const fn field(&self, field: &'static str) -> Path<'_> {
        Path {
            parent: Some(self),
            field,
            index: None,
        }
    }

    /// An element of the list that this path leads to.
    pub(in crate::grpc) const fn index(&self, index: usize) -> Path<'_> {
        Path {
            parent: self.parent,
            field: self.field,
            index: Some(index),
        }
    }
}

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(parent) = self.parent {
            write!(f, "{parent}.")?;
        }
        f.write_str(self.field)?;
        match self.index {
            Some(index) => write!(f, "[{index}]"),
            None => Ok(()),
        }
    }
}

/// The faults of a message, in the order in which they were met.
#[derive(Debug, Default)]
pub(in crate::grpc) struct Faults {
    list: Vec<Fault>,
    count: usize,
}

impl Faults {
    /// How many faults were met.
    pub(in crate::grpc) fn count(&self) -> usize {
        self.count
    }

    /// Notes that a field is wrong.
    pub(in crate::grpc) fn invalid(&mut self, at: &Path<'_>, text: impl fmt::Display) {
        self.push(FaultKind::Invalid, at, text);
    }

    /// Notes a fault.
    pub(in crate::grpc) fn push(
        &mut self,
        kind: FaultKind,
        at: &Path<'_>,
        text: impl fmt::Display,
    ) {
        self.count += 1;
        if self.list.len() < MAX_FAULTS {
            self.list
                .push(Fault::new(kind, at.to_string(), abridged(text.to_string())));
        }
    }

    /// The value, or a note of why there is none.
    pub(in crate::grpc) fn check<T>(
        &mut self,
        at: &Path<'_>,
        value: Result<T, ValueError>,
    ) -> Option<T> {
        value.map_err(|error| self.invalid(at, error)).ok()
    }

    /// Converts a field that may be absent.
    pub(in crate::grpc) fn given<S, T>(
        &mut self,
        at: &Path<'_>,
        field: Option<S>,
        one: impl FnOnce(&mut Self, &Path<'_>, S) -> Option<T>,
    ) -> Option<T> {
        field.and_then(|value| one(self, at, value))
    }

    /// Converts each element of a list; an element with a fault leaves `None`, so that
    /// positions stay those of the message.
    pub(in crate::grpc) fn each<S, T>(
        &mut self,
        at: &Path<'_>,
        list: Vec<S>,
        mut one: impl FnMut(&mut Self, &Path<'_>, S) -> Option<T>,
    ) -> Vec<Option<T>> {
        list.into_iter()
            .enumerate()
            .map(|(i, element)| one(self, &at.index(i), element))
            .collect()
    }

    /// Notes each element of a list that is in it already.
    pub(in crate::grpc) fn unique<K: Ord + fmt::Display>(
        &mut self,
        at: &Path<'_>,
        list: &[Option<K>],
    ) {
        for (i, first, key) in repeats(list) {
            let text = format!("{key} is already in {}", at.index(first));
            self.invalid(&at.index(i), text);
        }
    }

    /// Notes each element of a list whose `field` another has already.
    pub(in crate::grpc) fn unique_by<K: Ord + fmt::Display>(
        &mut self,
        at: &Path<'_>,
        field: &'static str,
        list: &[Option<K>],
    ) {
        for (i, first, key) in repeats(list) {
            let text = format!("{key} is already in {}", at.index(first));
            self.invalid(&at.index(i).field(field), text);
        }
    }

    /// The faults, where there are any.
    pub(in crate::grpc) fn into_result(self) -> Result<(), Vec<Fault>> {
        if self.list.is_empty() {
            Ok(())
        } else {
            Err(self.list)
        }
    }
}

/// The position of each element that is there already, with the position of its first.
fn repeats<K: Ord>(list: &[Option<K>]) -> Vec<(usize, usize, &K)> {
    let mut seen: BTreeMap<&K, usize> = BTreeMap::new();
    let mut found = Vec::new();
    for (i, key) in list.iter().enumerate() {
        let Some(key) = key else { continue };
        match seen.entry(key) {
            Entry::Occupied(first) => found.push((i, *first.get(), key)),
            Entry::Vacant(place) => {
                place.insert(i);
            }
        }
    }
    found
}

fn abridged(mut text: String) -> String {
    if text.len() > MAX_TEXT {
        let end = (0..=MAX_TEXT).rev().find(|end| text.is_char_boundary(*end));
        text.truncate(end.unwrap_or(0));
        text.push('…');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_reads_as_in_the_api() {
        let nics = Path::top("nics");
        let nic = nics.index(3);
        let addresses = nic.field("addresses");
        let address = addresses.index(0);
        assert_eq!(
            address.field("address").to_string(),
            "nics[3].addresses[0].address"
        );
    }

    #[test]
    fn garbage_is_abridged() {
        let mut faults = Faults::default();
        for _ in 0..MAX_FAULTS + 5 {
            faults.invalid(&Path::top("id"), "é".repeat(1000));
        }
        assert_eq!(faults.count(), MAX_FAULTS + 5);
        let list = faults.into_result().unwrap_err();
        assert_eq!(list.len(), MAX_FAULTS);
        assert!(list[0].text.len() <= MAX_TEXT + '…'.len_utf8());
    }
}
