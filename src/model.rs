//! The vocabulary: values that cannot be wrong.
//!
//! Everything here is a plain value. Text is parsed once, by the constructors of
//! these types; what could be built is valid, and the rest of the program never
//! looks at a string again.
//!
//! A [`Nic`] owns addresses and prefixes and is in groups; a [`SecurityGroup`]
//! allows traffic; [`Desired`] is all that the management server wants of this
//! host; [`Interfaces`] is what the host has.

mod desired;
mod difference;
mod group;
mod id;
mod ifname;
mod interfaces;
mod located;
mod mac;
mod nearby;
mod nic;
mod outcome;
mod prefix;
mod validate;
mod xen;

pub use desired::{Delta, Desired, Generation, Members, MembersDelta, Summary, Tally};
pub use difference::{Difference, differences};
pub use group::{
    Direction, GroupRule, Icmpv6Match, Member, PortRange, Protocol, Remote, SecurityGroup,
};
pub use id::{GroupId, Label, NicId};
pub use ifname::{IfName, IfPattern};
pub use interfaces::{BridgeConfig, Interfaces, Link, LinkKind, LinkSettings, LinkState, Traffic};
pub use located::Located;
pub use mac::Mac;
pub use nearby::Nearby;
pub use nic::{
    DefaultAction, InterfaceSelector, Ipv4Mode, LinkLocal, Nic, OwnedAddress, Permission,
};
pub use outcome::{Bound, NicState, Outcome};
pub use prefix::{Prefix, global_unicast, is_link_local};
pub use validate::{Conflict, Fault, FaultKind, Limits, Placed, Scope, conflicts};
pub use xen::{Domain, Reading, VmUuid, XenFacts, XenGuest, XenNic, XenStore};

/// Why a text or a number is no value of a model type.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ValueError(pub(crate) String);

impl ValueError {
    pub(crate) fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }
}
