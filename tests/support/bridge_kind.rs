//! What kind of bridges the tests have: `SGAGENT_TEST_BRIDGE`. What holds on one holds on all.

use std::borrow::Cow;

use super::plan::{Placement, placement};
use super::who::Machine;

/// A kind of bridge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BridgeKind {
    /// One that looks at MACs only.
    Plain,
    /// One that looks at MLD; every port is said to have a router behind it, so all gets all.
    Snooping,
    /// One that filters VLANs. Its uplinks are trunks: guests are on one of their VLANs.
    Filtering,
}

/// The VLAN of the guests on a trunk.
const VLAN: u8 = 10;

/// An 802.1Q tag.
const TAG: [u8; 4] = [0x81, 0, 0, VLAN];

impl BridgeKind {
    /// Options of `ip link add type bridge`.
    pub(crate) fn options(self) -> String {
        match self {
            Self::Plain => "mcast_snooping 0".to_owned(),
            Self::Snooping => "mcast_snooping 1".to_owned(),
            Self::Filtering => {
                format!("mcast_snooping 0 vlan_filtering 1 vlan_default_pvid {VLAN}")
            }
        }
    }

    /// What `ip -batch` has to do with a port that is on its bridge.
    pub(crate) fn port_options(self, port: &str) -> String {
        match self {
            Self::Snooping => format!("link set {port} type bridge_slave mcast_router 2\n"),
            Self::Plain | Self::Filtering => String::new(),
        }
    }
}

/// The kind that these tests are run with.
pub(crate) fn bridge_kind() -> BridgeKind {
    const VARIABLE: &str = "SGAGENT_TEST_BRIDGE";
    match std::env::var(VARIABLE).as_deref() {
        Err(_) | Ok("plain") => BridgeKind::Plain,
        Ok("snooping") => BridgeKind::Snooping,
        Ok("filtering") => BridgeKind::Filtering,
        Ok(other) => panic!("{VARIABLE} is no kind of bridge: {other}"),
    }
}

/// Whether frames behind this port have the tag.
fn is_trunk(port: &str) -> bool {
    bridge_kind() == BridgeKind::Filtering && port.starts_with("uplink")
}

/// The command that makes a trunk of a port.
pub(crate) fn trunk_command(machine: &Machine) -> Option<String> {
    is_trunk(machine.port).then(|| format!("bridge vlan add dev {} vid {VLAN}", machine.port))
}

/// What is behind a port, as far as tags go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wire {
    /// Frames as they are.
    Plain,
    /// Frames with the tag.
    Trunk,
    /// Fragments may have kept the tag: that of a joined packet is taken off its first frame only,
    /// and the others go out with theirs (`br_handle_vlan`, `br_nf_push_frag_xmit`).
    TaggedFragments,
}

impl Wire {
    pub(crate) fn behind(port: &str) -> Self {
        match (bridge_kind(), placement()) {
            (BridgeKind::Filtering, _) if is_trunk(port) => Self::Trunk,
            (BridgeKind::Filtering, Placement::BrNetfilter) => Self::TaggedFragments,
            _ => Self::Plain,
        }
    }

    /// As it is sent: what bridges say to each other has no tag.
    pub(crate) fn sent(self, frame: &[u8]) -> Cow<'_, [u8]> {
        if self != Self::Trunk || frame.starts_with(&[1, 0x80, 0xc2, 0, 0]) {
            return Cow::Borrowed(frame);
        }
        let (macs, rest) = frame.split_at(frame.len().min(12));
        Cow::Owned([macs, &TAG, rest].concat())
    }

    /// Takes the tag out of what was received; the length that is left.
    pub(crate) fn received(self, frame: &mut [u8]) -> usize {
        let is_fragment = frame.get(16..18) == Some(&[0x86, 0xdd]) && frame.get(24) == Some(&44);
        let may_have_it = match self {
            Self::Plain => false,
            Self::Trunk => true,
            Self::TaggedFragments => is_fragment,
        };
        if !may_have_it || frame.get(12..16) != Some(&TAG) {
            return frame.len();
        }
        frame.copy_within(16.., 12);
        frame.len() - TAG.len()
    }
}
