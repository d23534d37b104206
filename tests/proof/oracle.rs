//! The naive oracle: packet-policy.md read a second time, as plain code, without a look at what
//! the product does. A row is a function; what is not in the specification is in the table.
//!
//! | where the specification is silent or can be read in two ways | the reading taken |
//! |---|---|
//! | S1 (a), which is of what is *delivered*, for what a guest sends | The list holds both ways, by message: else a permitted redirect, which conntrack calls invalid, could not get out. So does the rest of what S4 and permissions exempt: a broken one is its receiver's to ignore |
//! | S1 (a) and broken packets | (a) comes before (d): an NS or a DHCPv6 reply with a wrong checksum passes |
//! | "MLD queries and reports" delivered | 130, 131, 143; and a done (132), which takes a report back |
//! | S1 (d) and multicast router discovery (RFC 4286) | has no flows, and is for S5 to judge, broken or not, behind AH too: what connection tracking says of it differs by kernel |
//! | a packet that is broken and belongs to a flow | invalid, not established |
//! | exempt from S3, S4 by permission | RA, Redirect, query out, RS in; UDP from 547, to 546, 547 out, to 547 in. `ANY_SOURCE` exempts nothing from groups |
//! | what `icmpv6_default: DENY` leaves | ND, MLD, errors of a flow, established echoes; rules. An ICMPv6 message that no rule allows violates S2, in place of S3 or S4 |
//! | G3, how much of the upper layer must be in the first fragment | the header of TCP, UDP, SCTP (RFC 7112), one octet of all else, in a whole packet likewise |
//! | G3–G13, T4 for fragments, and T3–T5 from the host in placement `br_netfilter`: what the frame has behind the packet's length | counts like the rest for which headers there are, and for types, codes, ports and DHCPv6's message; not for what ND and MLD have to be of. Nobody who keeps to the length finds a header there: it is a broken packet, dropped or for its receiver to ignore |
//! | G3, T4: a fragment with more to come that ends off 8 octets | violates (RFC 8200 §4.5): Linux lets it go on by itself |
//! | G3, No Next Header (59) | an upper layer like any other; conntrack calls it invalid (S1) |
//! | G3, an upper-layer number that nobody has assigned | an upper layer like any other |
//! | G3, a second fragment header | violates, atomic or not |
//! | G3, order and options of extension headers | any order, any octets, also hop-by-hop options behind others; but nothing behind a routing or fragment header in which a second one could hide from nftables, which finds the first of a kind: no options or routing header behind a routing header, no hop-by-hop options or routing header behind a fragment header |
//! | G3, T4: destination options behind a fragment header | no other header before, the options before no further header, and of 64 octets at most in a fragment of 80 or more, of 1152 in one of 1168 or more: so the upper layer begins in the fragment, and not in the frame's padding |
//! | T4: an AH in a first fragment, more to come | as options: no other header before, of 48 octets at most in a fragment of 64 or more, any in one of 1044 or more |
//! | G3, fragments that are not the first | the headers before the fragment header are judged, what it calls next only where no first fragment may begin with it: hop-by-hop options, a routing or fragment header, AH |
//! | T4, a first fragment that does not reach the upper layer, or the type of an ICMPv6 message | violates: it could be neighbour discovery (RFC 7112) |
//! | ingress has no G3 otherwise | AH and other opaque headers are upper layers by their number, routing headers pass. Conntrack looks behind AH. A chain that breaks off is invalid (S1) |
//! | a first header longer than the packet, no extension header next | as Linux: an empty upper layer of the next header's number, or AH (violates G3 on egress) |
//! | payload length 0 | nothing is there, jumbogram or not |
//! | payload length beyond the frame, another version than 6, no whole IPv6 header | `malformed`, and no other row is judged |
//! | G4, an ICMPv6 message without a type | violates |
//! | G5 and the RA, Redirect of a permitted NIC | G5 holds for all of 133–137: receivers take none that is otherwise (RFC 4861 §6.1.2, §8.1) |
//! | G10 and the query of a permitted NIC | G10 holds for 130 as for reports (RFC 3810 §5.1.14) |
//! | G10, extension headers | MLD's header within the packet's length, behind nothing or one hop-by-hop header of 8 octets, the router alert |
//! | G6, G7, G9: a message shorter than its fixed part | violates the row |
//! | G6, G7: own MAC in the option | the real one, also where the frame's is virtual |
//! | G8: the solicited-node group | any, not that of the target only |
//! | G8: one Nonce option | one option of type 14 and 8 octets, as RFC 7527's senders make it |
//! | G9: the virtual MAC in the option | any declared one, whatever the frame's source, where the target is shared |
//! | a frame from a virtual MAC | bound are the shared addresses alone; targets (G8, G9) are the NIC's, whatever MAC the frame is from; `::` is allowed where the row allows it; no link-local address is its own |
//! | G2, RARP | with any MAC of the NIC, in either IPv4 mode |
//! | G10: `ANY_UNOWNED` | own link-local is one that it may claim |
//! | G12 "unfragmented" | no fragment header, an atomic one neither |
//! | G13 and rows 6–10 | 133, 135, 136, 130, 131, 132, 143 are judged by their own rows alone; 134, 137 of a permitted NIC, and every fragment that is not a first one, by G13 |
//! | `ANY_SOURCE` and G9 | lifts the target, not the source; in G7 and G13 any source at all, `::` and groups included |
//! | T1: the NIC's MACs | virtual ones included, for every address |
//! | S6, what the host sends in placement `br_netfilter` | T rows alone, as far as the frame has what they are about: no groups, and a broken header is for its receiver to ignore |
//! | T3, T5 from the host | the same lists of routers and servers |
//! | T3, T4: code and options | RA and Redirect: not looked at. NS, NA: the code is |
//! | T5 "an own address" | any bound one, delegated too, that goes with the frame's MAC; a link-local one of an `ANY_UNOWNED` NIC once it is claimed |
//! | `ANY_UNOWNED` and G9 | a target and a source that are both new take two of the four |
//! | `ANY_UNOWNED`: other NICs | those of the same bridge, with EUI-64 or explicit addresses or what they claimed |
//! | `ANY_UNOWNED`: the host's | those of all of its interfaces |
//! | a first fragment without all of a TCP, UDP or ICMPv6 header, or without any octet of another upper layer | is a packet by itself, and the others are nothing (RFC 7112; Linux since 5.11) |
//! | a fragment that comes twice | makes the datagram incomplete, as any overlap |
//! | G14 | the row is named that is violated by the packet as it is joined. G3 is a matter of the fragments: their first has all the headers |

mod delivery;
mod frame;
mod groups;
mod guard;
mod owned;
#[cfg(test)]
mod tests;
mod tracking;

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv6Addr;

use frame::Look;
use sgagent::model::{Desired, Direction, IfName, Located, NicId};

/// One question: one datagram, sent by or to be delivered to a NIC.
#[derive(Debug)]
pub(crate) struct Question<'a> {
    pub desired: &'a Desired,
    /// Interfaces, and what the configuration says of bridges.
    pub host: &'a Located,
    /// The NIC's port.
    pub interface: &'a IfName,
    pub nic: &'a NicId,
    /// Egress: the NIC sent it. Ingress: it entered by an uplink, or came from the host.
    pub direction: Direction,
    /// With ingress: it came from the host, in placement `br_netfilter`, which shows the groups
    /// nothing of the kind (S6).
    pub unseen: bool,
    /// One Ethernet frame, or all the fragments of one datagram in the order sent.
    pub frames: &'a [Vec<u8>],
    pub flow: FlowState,
    pub first_come: &'a FirstCome,
}

/// What connection tracking knew of the datagram's flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FlowState {
    /// Nothing: whether the datagram begins one is for the oracle to say.
    None,
    Established,
    Related,
}

/// What `ANY_UNOWNED` depends on.
#[derive(Debug, Clone, Default)]
pub(crate) struct FirstCome {
    /// The link-local addresses that NICs have.
    pub claims: BTreeMap<NicId, BTreeSet<Ipv6Addr>>,
    /// Who sent an RA that was let through.
    pub heard_routers: BTreeSet<Ipv6Addr>,
}

/// The rows that the datagram violates; none: it passes.
pub(crate) fn violated(question: &Question<'_>) -> BTreeSet<&'static str> {
    let (mut rows, mut packets) = (BTreeSet::new(), Vec::new());
    for octets in question.frames {
        let Some(frame) = frame::ethernet(octets) else {
            rows.insert("malformed");
            continue;
        };
        rows.extend(match question.direction {
            Direction::Egress => guard::of_frame(question, &frame),
            Direction::Ingress => delivery::of_frame(question, &frame),
        });
        if frame.kind != 0x86dd {
            continue;
        }
        match Look::at(&frame).zip(Look::padded(&frame)) {
            Some((packet, padded)) => {
                rows.extend(guarded(question, &packet, &padded));
                packets.push(packet);
            }
            // For whoever it is for to ignore: nothing looks at it.
            None if question.unseen => {}
            None => {
                rows.insert("malformed");
            }
        }
    }
    let Some(whole) = frame::join(&packets) else {
        return rows;
    };
    if whole.piece.is_some() {
        let mut again = guarded(question, &whole, &whole);
        again.retain(|row| *row != "G3");
        rows.extend(again);
    }
    if !question.unseen {
        rows.extend(groups::of_packet(question, &whole));
    }
    rows
}

/// The rows of the guards that a packet violates, which is looked at with its frame's padding
/// before connection tracking has taken that off.
fn guarded(question: &Question<'_>, packet: &Look, padded: &Look) -> Vec<&'static str> {
    let mut rows = match question.direction {
        Direction::Egress => guard::of_packet(question, padded),
        Direction::Ingress if question.unseen => delivery::of_packet(question, padded),
        Direction::Ingress => delivery::of_packet(question, packet),
    };
    let hides = question.direction == Direction::Ingress && delivery::t4_hides(padded);
    if delivery::t4_fragment(padded) || hides {
        rows.push("T4");
    }
    rows
}

/// Whether the frames are all of the datagram: an incomplete one never arrives.
pub(crate) fn complete(frames: &[Vec<u8>]) -> bool {
    let parse = |octets: &Vec<u8>| Look::at(&frame::ethernet(octets)?);
    let packets: Vec<_> = frames.iter().filter_map(parse).collect();
    match frames {
        [only] => packets.is_empty() || is_other(only) || frame::join(&packets).is_some(),
        _ => packets.len() == frames.len() && frame::join(&packets).is_some(),
    }
}

/// Whether a frame is not of IPv6: then it is whole in itself.
fn is_other(octets: &[u8]) -> bool {
    frame::ethernet(octets).is_none_or(|frame| frame.kind != 0x86dd)
}
