//! Why a packet is dropped, as packet-policy names it.

/// Where a reason occurs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Where {
    /// At the guests' devices.
    Device,
    /// In the guard.
    Guard,
    /// In the stateful stage.
    Groups,
    /// In both.
    Both,
    /// In the guard, where the stateful stage can be passed by.
    Skipped,
}

macro_rules! reasons {
    ($($(#[$doc:meta])* $variant:ident = $code:literal, $name:literal, $place:ident, $row:literal;)*) => {
        /// Why a packet is dropped.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Reason {
            $($(#[$doc])* $variant,)*
        }

        impl Reason {
            /// Every reason.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// Its name in packet-policy, in the API and in logs.
            pub fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            /// The rows of packet-policy that it comes from.
            pub fn row(self) -> &'static str {
                match self { $(Self::$variant => $row,)* }
            }

            /// Its number in the kernel's counters.
            pub fn code(self) -> u8 {
                match self { $(Self::$variant => $code,)* }
            }

            /// Where it occurs.
            pub fn place(self) -> Where {
                match self { $(Self::$variant => Where::$place,)* }
            }
        }
    };
}

reasons! {
    /// To an address that bridges keep for themselves.
    LinkLocalMac = 1, "link-local-mac", Device, "G0";
    /// From a MAC that is not the NIC's.
    SpoofedMac = 2, "spoofed-mac", Guard, "G1";
    /// An `EtherType` that guests have no use for, or a VLAN tag.
    Ethertype = 3, "ethertype", Guard, "G2 T2";
    /// An extension header chain that hides its upper layer.
    ExtHeader = 4, "ext-header", Guard, "G3";
    /// A router advertisement or redirect from who is no router.
    RogueRa = 5, "rogue-ra", Both, "G4 G14 T3";
    /// An `ICMPv6` type that guests do not send.
    Icmpv6Type = 6, "icmpv6-type", Both, "G4 G14";
    /// Neighbour discovery with a wrong hop limit, code, extension or fragment header.
    NdMalformed = 7, "nd-malformed", Guard, "G5 T4";
    /// Neighbour discovery about somebody else.
    NdSpoof = 8, "nd-spoof", Guard, "G6 G7 G8 G9";
    /// A malformed MLD message.
    Mld = 9, "mld", Guard, "G10";
    /// `DHCPv6` from who is no server, or in a client's name.
    RogueDhcpv6 = 10, "rogue-dhcpv6", Both, "G11 G12 G14 T5";
    /// From an address that the NIC does not own.
    SpoofedSource = 11, "spoofed-source", Guard, "G13";
    /// More fragments than a NIC may send.
    FragmentRate = 12, "fragment-rate", Guard, "G15";
    /// More MLD than a NIC may send.
    MldRate = 13, "mld-rate", Guard, "G16";
    /// More neighbour discovery than a NIC may send.
    NdRate = 14, "nd-rate", Guard, "G16";
    /// A flooded frame for somebody else.
    NotForNic = 15, "not-for-nic", Guard, "T1";
    /// From or to a port that no NIC is bound to.
    Unbound = 16, "unbound", Guard, "closed default";
    /// No group of the receiver allows it.
    GroupIngress = 17, "group-ingress", Groups, "S3";
    /// Neither a group of the sender nor its default allows it.
    GroupEgress = 18, "group-egress", Groups, "S4";
    /// Connection tracking makes no sense of it.
    Invalid = 19, "invalid", Groups, "S1";
    /// The stateful stage did not see it: bridge netfilter is off.
    StageSkipped = 20, "stage-skipped", Skipped, "S1";
    /// More new flows, or more flows, than a NIC may have.
    FlowLimit = 21, "flow-limit", Groups, "S8";
    /// It would begin anew, from the other end, a flow that was cut.
    Revoked = 22, "revoked", Groups, "S7";
}

impl Reason {
    /// The reason of a number in the kernel's counters.
    pub fn of_code(code: u8) -> Option<Self> {
        Self::ALL
            .iter()
            .copied()
            .find(|reason| reason.code() == code)
    }

    /// Its name as nft takes it.
    pub fn symbol(self) -> String {
        self.name().replace('-', "_")
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn codes_and_names_are_distinct() {
        let codes: BTreeSet<_> = Reason::ALL.iter().map(|r| r.code()).collect();
        let names: BTreeSet<_> = Reason::ALL.iter().map(|r| r.name()).collect();
        assert_eq!(codes.len(), Reason::ALL.len());
        assert_eq!(names.len(), Reason::ALL.len());
        assert!(
            Reason::ALL
                .iter()
                .all(|r| Reason::of_code(r.code()) == Some(*r))
        );
    }
}
