//! Ways to be wrong, or merely odd.

use proptest::prelude::*;

use super::draft::{Cut, Draft, FRAGMENT, HOP_BY_HOP, ICMP};
use super::scene::Scene;

/// Hop-by-hop or destination options: one `PadN`.
const PADDED: [u8; 7] = [0, 1, 4, 0, 0, 0, 0];

#[derive(Debug, Clone)]
pub(super) enum Mutation {
    /// An extension header: its number, and its octets behind the next-header field.
    Header(u8, Vec<u8>, usize),
    /// The pieces' lengths in units of eight octets, how many headers stay before, an id, and
    /// whether the last piece is lost.
    Cut(Vec<usize>, usize, u32, bool),
    Truncate(usize),
    Extend(usize),
    /// The length in the IPv6 header.
    Length(i16),
    /// The length in the UDP header.
    UdpLength(i16),
    Padding(usize),
    WrongSum,
    NoSum,
    Hop(u8),
    Code(u8),
    IcmpType(u8),
    /// Another octet of the upper layer: from the end, and what is mixed into it.
    Octet(usize, u8),
    Tag([u8; 4]),
    EthernetSource,
    EthernetDestination,
    Source,
    Destination,
    Upper(u8),
    Version(u8),
    /// Another destination or source port.
    Port(bool),
    /// Another option in place of what follows the target.
    Options(Vec<u8>),
}

pub(super) fn mutation() -> impl Strategy<Value = Mutation> {
    prop_oneof![
        4 => (header(), 0..3_usize).prop_map(|((number, rest), at)| Mutation::Header(number, rest, at)),
        3 => cut(),
        1 => (1..28_usize).prop_map(Mutation::Truncate),
        1 => (1..64_usize).prop_map(Mutation::Extend),
        1 => prop::sample::select(vec![1, -1, 8, -8, -4, -24, 100, -1000]).prop_map(Mutation::Length),
        1 => prop::sample::select(vec![1, -1, 8, -16, -17, 100, -1000]).prop_map(Mutation::UdpLength),
        1 => (1..20_usize).prop_map(Mutation::Padding),
        1 => Just(Mutation::WrongSum),
        1 => Just(Mutation::NoSum),
        2 => prop::sample::select(vec![255, 254, 64, 1, 0, 2]).prop_map(Mutation::Hop),
        1 => prop::sample::select(vec![0, 1, 255]).prop_map(Mutation::Code),
        2 => icmp_type().prop_map(Mutation::IcmpType),
        1 => (0..28_usize, 1..=255_u8).prop_map(|(at, with)| Mutation::Octet(at, with)),
        1 => tag().prop_map(Mutation::Tag),
        2 => Just(Mutation::EthernetSource),
        2 => Just(Mutation::EthernetDestination),
        3 => Just(Mutation::Source),
        2 => Just(Mutation::Destination),
        1 => prop::sample::select(vec![6, 17, 50, 58, 59, 132, 200]).prop_map(Mutation::Upper),
        1 => prop::sample::select(vec![4, 5, 7, 0]).prop_map(Mutation::Version),
        2 => any::<bool>().prop_map(Mutation::Port),
        2 => options().prop_map(Mutation::Options),
    ]
}

fn header() -> impl Strategy<Value = (u8, Vec<u8>)> {
    let padded = PADDED.to_vec();
    let routing =
        (prop::sample::select(vec![0, 2, 3, 4, 253]), 0..2_u8).prop_map(|(kind, left)| {
            let address = [0x20, 1, 0xd, 0xb8, 0xff, 0xfe, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
            (43, [&[2, kind, left, 0, 0, 0, 0][..], &address].concat())
        });
    // AH with a whole check value, mobility, HIP, shim6, and those for experiments.
    let opaque = prop::sample::select(vec![51_u8, 135, 139, 140, 253, 254]).prop_map(|number| {
        let units = if number == 51 { 4 } else { 2 };
        (number, [&[units, 0, 0][..], &[0; 20]].concat())
    });
    let long = prop::sample::select(vec![0_u8, 60, 43])
        .prop_map(|number| (number, vec![40, 1, 4, 0, 0, 0, 0]));
    prop_oneof![
        2 => Just((HOP_BY_HOP, padded.clone())),
        3 => Just((60, padded)),
        1 => Just((60, [&[3, 1, 28][..], &[0; 28]].concat())),
        3 => routing,
        3 => opaque,
        1 => long,
        1 => Just((FRAGMENT, vec![0, 0, 0, 0, 0, 0, 7])),
        1 => Just((FRAGMENT, vec![0, 0, 1, 0, 0, 0, 7])),
        1 => Just((FRAGMENT, vec![0, 0, 16, 0, 0, 0, 7])),
    ]
}

fn cut() -> impl Strategy<Value = Mutation> {
    let units = prop_oneof![
        2 => prop::collection::vec(1..4_usize, 1..4),
        // Nothing is cut off: an atomic fragment.
        1 => Just(vec![]),
    ];
    let lossy = prop_oneof![9 => Just(false), 1 => Just(true)];
    (units, 0..2_usize, any::<u32>(), lossy)
        .prop_map(|(units, before, id, lossy)| Mutation::Cut(units, before, id, lossy))
}

fn icmp_type() -> impl Strategy<Value = u8> {
    let known = vec![
        128, 129, 1, 2, 3, 4, 130, 131, 132, 133, 134, 135, 136, 137, 138, 139, 140, 141, 143, 144,
        151, 152, 153, 155,
    ];
    prop_oneof![4 => prop::sample::select(known), 1 => any::<u8>()]
}

fn tag() -> impl Strategy<Value = [u8; 4]> {
    prop::sample::select(vec![
        [0x81, 0, 0, 5],
        [0x81, 0, 0xe0, 0],
        [0x88, 0xa8, 0, 5],
        [0x91, 0, 0, 1],
    ])
}

/// Options of Neighbor Discovery; the last octets of a MAC are for [`Mutation::Octet`].
fn options() -> impl Strategy<Value = Vec<u8>> {
    let mac = [6, 0xb2, 0, 0, 4, 0x79];
    let of = move |kind: u8| [&[kind, 1][..], &mac].concat();
    let nonce = [14, 1, 1, 2, 3, 4, 5, 6];
    prop::sample::select(vec![
        vec![],
        of(1),
        of(2),
        nonce.to_vec(),
        [of(1), of(1)].concat(),
        [of(1), nonce.to_vec()].concat(),
        [nonce, nonce].concat(),
        [&[1, 2][..], &mac, &[0; 8]].concat(),
        [&[1, 0][..], &mac].concat(),
        [&[14, 2][..], &[9; 14]].concat(),
        vec![2, 1, 0, 0, 0x5e, 0, 2, 1],
        vec![1, 1, 0, 0, 0x5e, 0, 2, 1],
        vec![1, 1, 6],
    ])
}

impl Mutation {
    pub(super) fn change(&self, draft: &mut Draft, scene: &mut Scene<'_>) {
        match self {
            Self::Header(number, rest, at) => {
                let at = (*at).min(draft.headers.len());
                draft.headers.insert(at, (*number, rest.clone()));
            }
            Self::Cut(units, before, id, lossy) => {
                draft.cut = Some(Cut {
                    before: *before,
                    id: *id,
                    units: units.clone(),
                    lossy: *lossy,
                });
            }
            Self::Truncate(by) => draft.body.truncate(draft.body.len().saturating_sub(*by)),
            Self::Extend(by) => draft.body.extend(std::iter::repeat_n(0, *by)),
            Self::Length(error) => draft.length_error = *error,
            Self::UdpLength(error) => draft.udp_length_error = *error,
            Self::Padding(octets) => draft.padding = *octets,
            Self::WrongSum => draft.wrong_sum = true,
            Self::NoSum => draft.no_sum = true,
            Self::Hop(hop) => draft.hop = *hop,
            Self::Code(code) => set(&mut draft.body, 1, *code),
            Self::IcmpType(kind) if draft.upper == ICMP => set(&mut draft.body, 0, *kind),
            Self::IcmpType(_) => {}
            Self::Octet(from_end, with) => {
                if let Some(octet) = draft.body.iter_mut().rev().nth(*from_end) {
                    *octet ^= with;
                }
            }
            Self::Tag(tag) => draft.tags.insert(0, *tag),
            Self::EthernetSource => draft.eth_src = scene.any_mac(),
            Self::EthernetDestination => {
                let other = scene.any_mac();
                draft.eth_dst = scene.one_of(&[other, [0xff; 6], [0x33, 0x33, 0, 0, 0, 1]]);
            }
            Self::Source => draft.src = scene.any(),
            Self::Destination => draft.dst = scene.any(),
            Self::Upper(number) => draft.upper = *number,
            Self::Version(version) => draft.version = *version,
            Self::Port(destination) => {
                let [high, low] = scene.port().to_be_bytes();
                let at = if *destination { 2 } else { 0 };
                if draft.upper != ICMP {
                    set(&mut draft.body, at, high);
                    set(&mut draft.body, at + 1, low);
                }
            }
            Self::Options(options) => {
                let fixed = match draft.body.first() {
                    Some(133) => 8,
                    Some(135 | 136) => 24,
                    _ => return,
                };
                if draft.upper == ICMP {
                    draft.body.truncate(fixed);
                    draft.body.extend_from_slice(options);
                }
            }
        }
    }
}

fn set(body: &mut [u8], at: usize, value: u8) {
    if let Some(octet) = body.get_mut(at) {
        *octet = value;
    }
}
