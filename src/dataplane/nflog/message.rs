//! Messages of and to `nfnetlink_log` (`include/uapi/linux/netfilter/nfnetlink_log.h`).

use netlink_packet_core::{DecodeError, NLM_F_ACK, NLM_F_REQUEST, NlasIterator};

use super::WHOSE;
use crate::{
    dataplane::Sample,
    netlink::{self, ATTRIBUTE_TYPE},
    ruleset::{NicNumber, Reason, name::NUMBER_MASK},
};

/// `NFNL_SUBSYS_ULOG` of include/uapi/linux/netfilter/nfnetlink.h.
const SUBSYSTEM: u16 = 4;

const NFULNL_MSG_PACKET: u16 = 0;
const NFULNL_MSG_CONFIG: u16 = 1;

const NFULA_CFG_CMD: u16 = 1;
const NFULA_CFG_MODE: u16 = 2;
const NFULA_CFG_TIMEOUT: u16 = 4;
const NFULA_CFG_QTHRESH: u16 = 5;

const NFULNL_CFG_CMD_BIND: u8 = 1;
const NFULNL_COPY_PACKET: u8 = 2;

const NFULA_PACKET_HDR: u16 = 1;
const NFULA_MARK: u16 = 2;
const NFULA_IFINDEX_INDEV: u16 = 4;
const NFULA_IFINDEX_OUTDEV: u16 = 5;
const NFULA_IFINDEX_PHYSINDEV: u16 = 6;
const NFULA_IFINDEX_PHYSOUTDEV: u16 = 7;
const NFULA_PAYLOAD: u16 = 9;
const NFULA_PREFIX: u16 = 10;
const NFULA_HWHEADER: u16 = 16;
const NFULA_L2HDR: u16 = 21;

/// The longest a packet may wait in the kernel for others to share a message with, in
/// hundredths of a second; and how many may share one.
const TOGETHER_TIME: u32 = 10;
const TOGETHER: u32 = 32;

/// As much of a packet as is told, behind its Ethernet header, where no rule says less: the addresses,
/// some extension headers and the beginning of the upper layer.
const OCTETS: u32 = 128;

/// Requests to listen to a group, each to be answered before the next is sent.
pub(super) fn listen(group: u16) -> [Vec<u8>; 2] {
    let mut mode = OCTETS.to_be_bytes().to_vec();
    mode.extend([NFULNL_COPY_PACKET, 0]);
    let how = [
        attribute(NFULA_CFG_MODE, &mode),
        attribute(NFULA_CFG_TIMEOUT, &TOGETHER_TIME.to_be_bytes()),
        attribute(NFULA_CFG_QTHRESH, &TOGETHER.to_be_bytes()),
    ];
    [
        request(group, &attribute(NFULA_CFG_CMD, &[NFULNL_CFG_CMD_BIND])),
        request(group, &how.concat()),
    ]
}

fn request(group: u16, attributes: &[u8]) -> Vec<u8> {
    // `struct nfgenmsg` of AF_UNSPEC and NFNETLINK_V0
    let body = [&[0, 0], &group.to_be_bytes()[..], attributes].concat();
    let kind = (SUBSYSTEM << 8) | NFULNL_MSG_CONFIG;
    netlink::request(kind, NLM_F_REQUEST | NLM_F_ACK, &body)
}

fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let length = u16::try_from(4 + value.len()).unwrap_or(u16::MAX);
    let mut octets = length.to_ne_bytes().to_vec();
    octets.extend(kind.to_ne_bytes());
    octets.extend(value);
    octets.resize(octets.len().next_multiple_of(4), 0);
    octets
}

pub(super) fn is_packet(message_type: u16) -> bool {
    message_type == (SUBSYSTEM << 8) | NFULNL_MSG_PACKET
}

/// The packet that a message shows; nothing where its mark is no reason of ours.
pub(super) fn sample(body: &[u8]) -> Result<Option<Sample>, DecodeError> {
    let attributes = body.get(4..).unwrap_or_default();
    let (mut mark, mut whose) = (0, None);
    let (mut input, mut output, mut port_in, mut port_out) = (None, None, None, None);
    let (mut hardware_header, mut link_header) = (Vec::new(), Vec::new());
    let (mut ether_type, mut payload) = (0, Vec::new());
    for attribute in NlasIterator::new(attributes) {
        let attribute = attribute?;
        let value = attribute.value();
        match attribute.kind() & ATTRIBUTE_TYPE {
            NFULA_PACKET_HDR => {
                ether_type = value
                    .first_chunk()
                    .map_or(0, |two| u16::from_be_bytes(*two));
            }
            NFULA_MARK => mark = word(value).unwrap_or_default(),
            NFULA_IFINDEX_INDEV => input = word(value),
            NFULA_IFINDEX_OUTDEV => output = word(value),
            NFULA_IFINDEX_PHYSINDEV => port_in = word(value),
            NFULA_IFINDEX_PHYSOUTDEV => port_out = word(value),
            NFULA_PAYLOAD => payload = value.to_vec(),
            NFULA_PREFIX => whose = number(value),
            NFULA_HWHEADER => hardware_header = value.to_vec(),
            NFULA_L2HDR => link_header = value.to_vec(),
            _ => {}
        }
    }
    let code = u8::try_from(mark >> 24).unwrap_or_default();
    let Some(reason) = Reason::of_code(code) else {
        return Ok(None);
    };
    let number = whose.unwrap_or(mark & NUMBER_MASK);
    if link_header.is_empty() {
        link_header = hardware_header;
    }
    Ok(Some(Sample {
        nic: (number != 0).then_some(NicNumber(number)),
        reason,
        input: port_in.or(input),
        output: port_out.or(output),
        link_header,
        ether_type,
        payload,
    }))
}

/// The number of the NIC that a prefix names, with its NUL.
fn number(prefix: &[u8]) -> Option<u32> {
    let text = std::str::from_utf8(prefix).ok()?;
    let number = text.trim_end_matches('\0').strip_prefix(WHOSE)?;
    number.parse().ok().filter(|number| *number <= NUMBER_MASK)
}

fn word(value: &[u8]) -> Option<u32> {
    value.first_chunk().map(|four| u32::from_be_bytes(*four))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn shown(attributes: &[Vec<u8>]) -> Option<Sample> {
        let body = [vec![7, 0, 0, 0], attributes.concat()].concat();
        sample(&body).unwrap()
    }

    #[test]
    fn a_mark_is_a_reason_and_a_nic() {
        let mark = |mark: u32| attribute(NFULA_MARK, &mark.to_be_bytes());
        let sample = shown(&[mark(0x0b00_0007)]).unwrap();
        assert_eq!(sample.reason, Reason::SpoofedSource);
        assert_eq!(sample.nic, Some(NicNumber(7)));
        assert_eq!(shown(&[mark(0x1000_0000)]).unwrap().nic, None);
        assert_eq!(shown(&[mark(0xff00_0007)]), None);
        assert_eq!(shown(&[]), None);
    }

    #[test]
    fn a_prefix_names_the_nic_where_the_mark_does_not() {
        let mark = attribute(NFULA_MARK, &0x0b00_0000_u32.to_be_bytes());
        let of = |prefix: &[u8]| {
            shown(&[mark.clone(), attribute(NFULA_PREFIX, prefix)])
                .unwrap()
                .nic
        };
        assert_eq!(of(b"sgagent_17\0"), Some(NicNumber(17)));
        assert_eq!(of(b"sgagent_16777216\0"), None);
        assert_eq!(of(b"another's\0"), None);
        assert_eq!(of(b"\0"), None);
    }

    #[test]
    fn a_port_is_told_rather_than_its_bridge() {
        let index = |kind, index: u32| attribute(kind, &index.to_be_bytes());
        let mark = index(NFULA_MARK, 0x0b00_0001);
        let bridge = index(NFULA_IFINDEX_INDEV, 3);
        let port = index(NFULA_IFINDEX_PHYSINDEV, 9);
        let sample = shown(&[mark.clone(), bridge.clone(), port]).unwrap();
        assert_eq!((sample.input, sample.output), (Some(9), None));
        assert_eq!(shown(&[mark, bridge]).unwrap().input, Some(3));
    }

    proptest! {
        #[test]
        fn no_octets_make_it_panic(octets in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = sample(&octets);
        }
    }
}
