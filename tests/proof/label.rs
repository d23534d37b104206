//! Datagrams are told apart by their flow label, which no row asks about, and fragments of
//! different ones never join.

const IPV6: [u8; 2] = [0x86, 0xdd];

/// The flow label of an IPv6 frame.
pub(crate) fn label(frame: &[u8]) -> Option<[u8; 3]> {
    let is_ip6 = frame.get(12..14) == Some(&IPV6);
    let [_, high, middle, low] = *frame.get(14..18)?.first_chunk()?;
    is_ip6.then_some([high & 0x0f, middle, low])
}

/// The frames with this number for a label, and in what they are fragments of.
pub(crate) fn labelled(frames: &[Vec<u8>], number: u32) -> Vec<Vec<u8>> {
    let mut frames = frames.to_vec();
    let [_, high, middle, low] = number.to_be_bytes();
    for frame in &mut frames {
        if label(frame).is_none() {
            continue;
        }
        frame[15] = (frame[15] & 0xf0) | (high & 0x0f);
        frame[16] = middle;
        frame[17] = low;
        if let Some(at) = fragment_id(frame) {
            for (octet, number) in frame[at..at + 4].iter_mut().zip(number.to_be_bytes()) {
                *octet ^= number;
            }
        }
    }
    frames
}

/// Where the identification of the first fragment header is.
pub(crate) fn fragment_id(frame: &[u8]) -> Option<usize> {
    let (mut kind, mut at) = (*frame.get(20)?, 54);
    loop {
        let (next, units) = (*frame.get(at)?, usize::from(*frame.get(at + 1)?));
        match kind {
            44 => return (frame.len() >= at + 8).then_some(at + 4),
            0 | 43 | 60 => (kind, at) = (next, at + 8 + 8 * units),
            _ => return None,
        }
    }
}
