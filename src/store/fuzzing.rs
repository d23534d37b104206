//! A way in for `fuzz/`: the rows of a store.

use super::Saved;

/// What is made of rows: the head, then NICs, groups and members by group and address.
/// Nothing where one is refused.
pub fn load(
    head: &[u8],
    nics: &[&[u8]],
    groups: &[&[u8]],
    members: &[((&str, u128), &[u8])],
) -> Option<Saved> {
    let mut saved = Saved::begun(head).ok()?;
    for row in nics {
        saved.add_nic(row).ok()?;
    }
    for row in groups {
        saved.add_group(row).ok()?;
    }
    for (key, row) in members {
        saved.add_member(*key, row).ok()?;
    }
    Some(saved)
}
