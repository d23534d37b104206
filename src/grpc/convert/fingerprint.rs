//! What makes two requests with the same generation the same.

use prost::Message;
use sha2::{Digest, Sha256};

use super::read;
use crate::{model::Delta, pb};

/// A digest of what a request asks for, without its generation and `dry_run`. The
/// objects are taken in order of their ids and encoded from the model's values, so that
/// neither the order of a list of objects, nor the cut of a stream, nor the case of a
/// MAC makes another content.
pub(super) fn fingerprint(delta: &Delta) -> String {
    let Delta {
        replace,
        nics,
        remove_nics,
        groups,
        remove_groups,
        members,
    } = delta;
    let mut digest = Sha256::new();
    digest.update([u8::from(*replace)]);
    section(&mut digest, by(nics, |nic| &nic.id).map(read::nic));
    section(
        &mut digest,
        by(remove_nics, |id| id).map(ToString::to_string),
    );
    section(&mut digest, by(groups, |group| &group.id).map(read::group));
    section(
        &mut digest,
        by(remove_groups, |id| id).map(ToString::to_string),
    );
    section(
        &mut digest,
        by(members, |change| &change.group).map(|change| pb::MembersDelta {
            group_id: change.group.to_string(),
            add: by(&change.add, |member| &member.address)
                .map(read::member)
                .collect(),
            remove: by(&change.remove, |address| address)
                .map(ToString::to_string)
                .collect(),
        }),
    );
    hex(&digest.finalize())
}

fn by<T, K: Ord>(list: &[T], key: impl Fn(&T) -> &K) -> impl ExactSizeIterator<Item = &T> {
    let mut sorted: Vec<&T> = list.iter().collect();
    sorted.sort_by(|a, b| key(a).cmp(key(b)));
    sorted.into_iter()
}

/// The number of elements and the length of each go first, so that no two lists of
/// sections read the same.
fn section(digest: &mut Sha256, list: impl ExactSizeIterator<Item = impl Message>) {
    digest.update((list.len() as u64).to_be_bytes());
    for element in list {
        digest.update(element.encode_length_delimited_to_vec());
    }
}

/// Octets in hexadecimal.
pub(in crate::grpc) fn hex(octets: &[u8]) -> String {
    const DIGITS: [char; 16] = [
        '0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'a', 'b', 'c', 'd', 'e', 'f',
    ];
    let digit = |nibble: u8| DIGITS[usize::from(nibble & 0xf)];
    octets
        .iter()
        .flat_map(|octet| [digit(octet >> 4), digit(*octet)])
        .collect()
}
