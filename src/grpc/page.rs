//! Lists in pages.
//!
//! A token names the list and the last object of the page before, not a position: what
//! comes or goes between two pages moves nothing else into or out of sight.

use std::str::FromStr;

use prost::Message;

use super::convert::{Faults, Path, hex};

/// A page ends before it grows larger, however many objects were asked for: clients
/// refuse messages of more than 4 MiB unless told otherwise.
const MAX_OCTETS: usize = 2 << 20;

/// Which page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Page<K> {
    size: usize,
    /// The key of the last object of the page before.
    pub(super) after: Option<K>,
}

impl<K: FromStr + ToString> Page<K> {
    /// The page that a request asks for, of the list of this name.
    pub(super) fn parse(
        faults: &mut Faults,
        list: &str,
        (size, max): (u32, u32),
        token: &str,
    ) -> Self {
        if size > max {
            let text = format!("{size} is not in 0-{max}");
            faults.invalid(&Path::top("page_size"), text);
        }
        let after = if token.is_empty() {
            None
        } else {
            open(list, token)
        };
        if after.is_none() && !token.is_empty() {
            faults.invalid(
                &Path::top("page_token"),
                "is not from a previous answer of this list",
            );
        }
        let size = if size == 0 { max } else { size };
        Self {
            size: usize::try_from(size).unwrap_or(usize::MAX),
            after,
        }
    }

    /// The objects of this page and the token of the next one. `objects` begin after
    /// [`Self::after`].
    pub(super) fn fill<T: Message>(
        &self,
        list: &str,
        objects: impl Iterator<Item = (K, T)>,
    ) -> (Vec<T>, String) {
        let (mut page, mut end, mut octets) = (Vec::new(), None, 0);
        for (key, object) in objects {
            octets += object.encoded_len();
            if page.len() == self.size || (octets > MAX_OCTETS && !page.is_empty()) {
                return (
                    page,
                    end.map(|key: K| seal(list, &key.to_string()))
                        .unwrap_or_default(),
                );
            }
            page.push(object);
            end = Some(key);
        }
        (page, String::new())
    }
}

/// Hexadecimal, so that nobody takes it for an id, and with the list's name, so that it
/// fits no other list.
fn seal(list: &str, key: &str) -> String {
    hex(format!("{list}\n{key}").as_bytes())
}

fn open<K: FromStr>(list: &str, token: &str) -> Option<K> {
    let pair = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
    let octets: Option<Vec<u8>> = token.as_bytes().chunks(2).map(pair).collect();
    let text = String::from_utf8(octets?).ok()?;
    let key = text.strip_prefix(list)?.strip_prefix('\n')?;
    (seal(list, key) == token).then(|| key.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pb;

    fn parse(list: &str, size: u32, token: &str) -> Result<Page<String>, Vec<String>> {
        let mut faults = Faults::default();
        let page = Page::parse(&mut faults, list, (size, 1000), token);
        let paths = |list: Vec<crate::model::Fault>| list.into_iter().map(|f| f.path).collect();
        faults.into_result().map(|()| page).map_err(paths)
    }

    #[test]
    fn only_a_token_of_the_same_list_is_taken() {
        let token = seal("nics", "nic-7");
        assert_eq!(
            parse("nics", 0, &token).unwrap().after.as_deref(),
            Some("nic-7")
        );
        for bad in [
            "x",
            "zz",
            "6e",
            &token.to_uppercase(),
            &format!("{token}0"),
            "+1+1",
            "é",
        ] {
            assert_eq!(parse("nics", 0, bad).unwrap_err(), ["page_token"], "{bad}");
        }
        assert_eq!(
            parse("groups", 1001, &token).unwrap_err(),
            ["page_size", "page_token"]
        );
    }

    #[test]
    fn a_page_ends_by_number_or_by_octets() {
        let member = |i: usize, text: &str| {
            let member = pb::Member {
                address: text.to_owned(),
                ..pb::Member::default()
            };
            (i.to_string(), member)
        };
        let page = parse("m", 2, "").unwrap();
        let (list, token) = page.fill("m", (0..3).map(|i| member(i, "x")));
        assert_eq!((list.len(), token), (2, seal("m", "1")));
        let (list, token) = page.fill("m", (0..2).map(|i| member(i, "x")));
        assert_eq!((list.len(), token.as_str()), (2, ""));
        let long = "x".repeat(MAX_OCTETS);
        let (list, token) = page.fill("m", (0..2).map(|i| member(i, &long)));
        assert_eq!((list.len(), token), (1, seal("m", "0")));
    }
}
