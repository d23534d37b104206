//! What is usually behind a drop.

use crate::ruleset::Reason;

pub(super) const OTHER_MAC: &str = "the guest changed its MAC, bridges for others (nested machines, \
     containers), or uses a virtual router's MAC that is not among virtual_macs";
pub(super) const OTHERS_LLADDR: &str = "the guest speaks for another MAC than the NIC's: it changed \
     its MAC, bridges for others, or answers for a shared address whose virtual MAC is not declared";
pub(super) const VLAN: &str =
    "the guest sends on a VLAN interface of its own; a NIC carries one untagged network";
pub(super) const ROUTER: &str = "the guest runs a router: permission ROUTER_ADVERTISEMENTS";
pub(super) const DHCPV6_SERVER: &str =
    "the guest runs a DHCPv6 server or relay: permission DHCPV6_SERVER";
pub(super) const FLOODED: &str = "the bridge floods what it knows no port for; or who sent it has a \
     stale neighbour entry";
pub(super) const EGRESS: &str = "a group with an egress rule, or egress_default DENY, ends the \
     default of sending anything; icmpv6_default DENY ends it for ICMPv6";

/// What is usually behind drops for this reason, where a packet itself is not there to look at.
pub(in crate::policy) fn usual_cause(reason: Reason) -> Option<&'static str> {
    Some(match reason {
        Reason::SpoofedMac => OTHER_MAC,
        Reason::Ethertype => VLAN,
        Reason::RogueRa | Reason::Icmpv6Type => ROUTER,
        Reason::NdSpoof => OTHERS_LLADDR,
        Reason::RogueDhcpv6 => DHCPV6_SERVER,
        Reason::SpoofedSource => {
            "the guest uses an address that is not the NIC's: a privacy (RFC 8981) or \
             stable-privacy (RFC 7217) address, one configured by hand, or somebody else's"
        }
        Reason::FragmentRate | Reason::MldRate | Reason::NdRate | Reason::FlowLimit => {
            "the guest sends more of these than the configuration's [limits] let it"
        }
        Reason::NotForNic => FLOODED,
        Reason::GroupIngress => {
            "no rule of its groups allows it: sgctl explain says of a packet why"
        }
        Reason::GroupEgress => EGRESS,
        Reason::Invalid => {
            "a connection that is not known here: it timed out, or began on another host"
        }
        Reason::StageSkipped => "somebody turned bridge netfilter off (nf_call_ip6tables)",
        Reason::Revoked => "a rule that had allowed these flows was taken away",
        Reason::LinkLocalMac
        | Reason::ExtHeader
        | Reason::NdMalformed
        | Reason::Mld
        | Reason::Unbound => return None,
    })
}
