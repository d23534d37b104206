//! What differs between two maps, in one walk over both.

use std::{cmp::Ordering, collections::BTreeMap, iter::Peekable};

/// One key whose value is not the same in both maps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Difference<'a, K, V> {
    /// The key.
    pub key: &'a K,
    /// The older value; none where the key is new.
    pub old: Option<&'a V>,
    /// The newer value; none where the key is gone.
    pub new: Option<&'a V>,
}

/// The keys that two maps don't agree on, in order.
///
/// A walk, not a search for each key: thousands of ids that begin alike make searches
/// slow. Values in an `Arc` that both maps share are not looked into.
pub fn differences<'a, K: Ord, V: PartialEq>(
    old: &'a BTreeMap<K, V>,
    new: &'a BTreeMap<K, V>,
) -> impl Iterator<Item = Difference<'a, K, V>> {
    let mut old = old.iter().peekable();
    let mut new = new.iter().peekable();
    std::iter::from_fn(move || step(&mut old, &mut new))
}

fn step<'a, K: Ord, V: PartialEq>(
    old: &mut Peekable<impl Iterator<Item = (&'a K, &'a V)>>,
    new: &mut Peekable<impl Iterator<Item = (&'a K, &'a V)>>,
) -> Option<Difference<'a, K, V>> {
    loop {
        let order = match (old.peek(), new.peek()) {
            (None, None) => return None,
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some((old, _)), Some((new, _))) => old.cmp(new),
        };
        let was = (order != Ordering::Greater).then(|| old.next()).flatten();
        let is = (order != Ordering::Less).then(|| new.next()).flatten();
        let values = (was.map(|(_, value)| value), is.map(|(_, value)| value));
        if values.0 != values.1
            && let Some((key, _)) = is.or(was)
        {
            return Some(Difference {
                key,
                old: values.0,
                new: values.1,
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_differs_comes_out_in_order() {
        let old = BTreeMap::from([(1, 'a'), (2, 'b'), (4, 'd'), (9, 'i')]);
        let new = BTreeMap::from([(0, 'z'), (2, 'b'), (4, 'D')]);
        let found: Vec<_> = differences(&old, &new)
            .map(|found| (*found.key, found.old.copied(), found.new.copied()))
            .collect();
        let expected = [
            (0, None, Some('z')),
            (1, Some('a'), None),
            (4, Some('d'), Some('D')),
            (9, Some('i'), None),
        ];
        assert_eq!(found, expected);
        assert_eq!(differences(&new, &new).count(), 0);
    }
}
