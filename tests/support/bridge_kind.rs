//! What kind of bridges the tests have: `SGAGENT_TEST_BRIDGE`. What holds on one holds on all.

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
pub(crate) fn is_trunk(port: &str) -> bool {
    bridge_kind() == BridgeKind::Filtering && port.starts_with("uplink")
}

/// The command that makes a trunk of a port.
pub(crate) fn trunk_command(machine: &Machine) -> Option<String> {
    is_trunk(machine.port).then(|| format!("bridge vlan add dev {} vid {VLAN}", machine.port))
}

/// As it is on the trunk.
pub(crate) fn tagged(frame: &[u8]) -> Vec<u8> {
    let (macs, rest) = frame.split_at(frame.len().min(12));
    [macs, &TAG, rest].concat()
}

/// Takes the tag out; the length that is left.
pub(crate) fn untag(frame: &mut [u8]) -> usize {
    if frame.get(12..16) != Some(&TAG) {
        return frame.len();
    }
    frame.copy_within(16.., 12);
    frame.len() - TAG.len()
}
