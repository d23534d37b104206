//! Every name in the kernel that is ours. Enough to purge: nothing else is touched.

use super::{BridgeNumber, GroupNumber, PolicyNumber};
use crate::model::Direction;

/// The name of each of our tables.
pub const TABLE: &str = "sgagent";

/// The families in which we have a table.
pub const FAMILIES: &[&str] = &["bridge", "ip6", "netdev"];

/// The tag of a mark on a frame that its sender's groups have not judged yet.
pub const SENT: u32 = 0x5e00_0000;

/// The tag of a mark on a frame that its receiver's groups have not judged yet.
pub const DELIVERED: u32 = 0x5100_0000;

/// The bits of a mark that are a NIC's number; the others are a tag, or the code of a
/// drop's reason.
pub const NUMBER_MASK: u32 = 0x00ff_ffff;

/// The sets of link-local addresses that NICs were the first to use, by NIC.
pub const CLAIMS: &[&str] = &["claim_1", "claim_2", "claim_3", "claim_4"];

/// The set of who sent a router advertisement from outside.
pub const HEARD_ROUTERS: &str = "heard_router";

fn short(direction: Direction) -> &'static str {
    match direction {
        Direction::Ingress => "ingress",
        Direction::Egress => "egress",
    }
}

/// The chain of a group's rules in one direction.
pub fn group_chain(direction: Direction, group: GroupNumber) -> String {
    format!("group_{}_{}", group.0, short(direction))
}

/// The chain that says in which conntrack zone the packets of a bridge are.
pub fn zone_chain(bridge: BridgeNumber) -> String {
    format!("zone_{}", bridge.0)
}

/// The chain of a policy in one direction.
pub fn policy_chain(direction: Direction, policy: PolicyNumber) -> String {
    format!("policy_{}_{}", policy.0, short(direction))
}

/// The set of a group's members.
pub fn members(group: GroupNumber) -> String {
    format!("members_{}", group.0)
}

/// The set of the delegated prefixes of a group's members that opted in.
pub fn member_prefixes(group: GroupNumber) -> String {
    format!("member_prefixes_{}", group.0)
}

/// The set of prefixes of one rule of a group, by the rule's position.
pub fn rule_prefixes(group: GroupNumber, rule: usize) -> String {
    format!("prefixes_{}_{rule}", group.0)
}

/// The map of sources that are prefixes of one length.
pub fn bound_prefix(length: u8) -> String {
    format!("bound_{length}")
}

/// The set of ND targets that are prefixes of one length.
pub fn target_prefix(length: u8) -> String {
    format!("on_link_target_{length}")
}
