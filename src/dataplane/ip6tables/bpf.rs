//! The few questions that need a program of classic BPF (`-m bpf`): those about the Ethernet header,
//! and those that compare two fields. The packet begins with its IPv6 header; what is before it is
//! at `SKF_LL_OFF` (include/uapi/linux/filter.h).

use super::question::halves;
use crate::model::Mac;

const LINK_LAYER: u32 = 0xffe0_0000;

// Instructions (include/uapi/linux/bpf_common.h).
const LOAD_WORD: u16 = 0x20;
const LOAD_HALF: u16 = 0x28;
const LOAD_OCTET: u16 = 0x30;
const TO_INDEX: u16 = 0x07;
const AND: u16 = 0x54;
const IS: u16 = 0x15;
const IS_INDEX: u16 = 0x1d;
const OVER: u16 = 0x25;
const RETURN: u16 = 0x06;

/// An instruction: what, how far to go where it holds and where not, with what.
type Instruction = (u16, u8, u8, u32);

const YES: Instruction = (RETURN, 0, 0, 1);
const NO: Instruction = (RETURN, 0, 0, 0);

/// As a match. A load from beyond the packet ends with no.
fn matches(program: &[Instruction]) -> String {
    let code: Vec<_> = program
        .iter()
        .map(|(what, yes, no, with)| format!("{what} {yes} {no} {with}"))
        .collect();
    format!("-m bpf --bytecode \"{},{}\"", program.len(), code.join(","))
}

/// The frame is to this MAC.
pub(super) fn is_to(mac: Mac) -> String {
    let (first, second) = halves(mac);
    matches(&[
        (LOAD_WORD, 0, 0, LINK_LAYER),
        (IS, 0, 3, first),
        (LOAD_HALF, 0, 0, LINK_LAYER + 4),
        (IS, 0, 1, u32::from(second)),
        YES,
        NO,
    ])
}

/// The common case: an upper layer that no extension header is before and that has ports, or one of
/// the numbers below the next extension header's; and no port of DHCPv6's (G11, G12).
pub(super) fn is_plain() -> String {
    matches(&[
        (LOAD_OCTET, 0, 0, 6),
        (IS, 10, 0, 0),
        (OVER, 9, 0, 42),
        (LOAD_HALF, 0, 0, 40),
        (IS, 7, 0, 547),
        (LOAD_HALF, 0, 0, 42),
        (IS, 5, 0, 546),
        (IS, 4, 0, 547),
        // TCP's and UDP's headers are there (G3).
        (LOAD_OCTET, 0, 0, 6),
        (IS, 0, 1, 6),
        (LOAD_HALF, 0, 0, 58),
        YES,
        NO,
    ])
}

/// The source is the target of the NS or NA.
pub(super) fn source_is_target() -> String {
    let mut program = Vec::new();
    for i in 0..4 {
        let left = 4 * (4 - i) - 3;
        program.extend([
            (LOAD_WORD, 0, 0, 8 + 4 * u32::from(i)),
            (TO_INDEX, 0, 0, 0),
            (LOAD_WORD, 0, 0, 48 + 4 * u32::from(i)),
            (IS_INDEX, 0, left, 0),
        ]);
    }
    program.extend([YES, NO]);
    matches(&program)
}

/// A fragment that is not the last has a length that only the last may have: the fragment header is
/// the first one.
pub(super) fn ends_off_8_octets() -> String {
    matches(&[
        (LOAD_OCTET, 0, 0, 6),
        (IS, 0, 5, 44),
        (LOAD_HALF, 0, 0, 42),
        (AND, 0, 0, 1),
        (IS, 2, 0, 0),
        (LOAD_HALF, 0, 0, 4),
        (0x45, 1, 0, 7),
        NO,
        YES,
    ])
}

/// A neighbour solicitation is to the group of its target.
pub(super) fn group_is_targets() -> String {
    matches(&[
        (LOAD_WORD, 0, 0, 36),
        (AND, 0, 0, 0x00ff_ffff),
        (TO_INDEX, 0, 0, 0),
        (LOAD_WORD, 0, 0, 60),
        (AND, 0, 0, 0x00ff_ffff),
        (IS_INDEX, 0, 1, 0),
        YES,
        NO,
    ])
}
