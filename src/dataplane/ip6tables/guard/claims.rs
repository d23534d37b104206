//! Link-local addresses that are first come, first served (RFC 6620): who sends from one has it, and
//! who probes for one has the group that the probe is sent to. No match of these tools reads a target
//! into a set, so that the two know nothing of each other.

use std::net::Ipv6Addr;

use super::super::{
    chains::Chains,
    mark,
    sets::{Kind, Set, Sets},
};
use crate::ruleset::{NicNumber, NicRules, Ruleset};

/// What is known of each bridge: who owns what, and who has claimed what.
pub(super) fn of_bridges(sets: &mut Sets, ruleset: &Ruleset) {
    sets.insert("sgagent_routers".to_owned(), Set::learned(Kind::Heard));
    for rules in ruleset.bridges.values() {
        let owned = &rules.owned_link_locals;
        let groups = owned.iter().map(|own| solicited(*own).to_string());
        for (what, members) in [
            ("owned", owned.iter().map(ToString::to_string).collect()),
            ("groups", groups.collect()),
        ] {
            let kind = Kind::Addresses;
            let set = Set { kind, members };
            sets.insert(format!("sgagent_{what}_{}", rules.number.0), set);
        }
        for what in ["claimed", "probed"] {
            let learned = Set::learned(Kind::Claimed);
            sets.insert(format!("sgagent_{what}_{}", rules.number.0), learned);
        }
    }
}

/// What one NIC may claim.
pub(super) fn of_nic(
    chains: &mut Chains,
    sets: &mut Sets,
    NicNumber(number): NicNumber,
    nic: &NicRules,
) {
    if !nic.any_link_local {
        return;
    }
    let chain = format!("sgagent_claim_{number}");
    chains.chain(chain.as_str()).extend([
        "! -s fe80::/64 -j RETURN".to_owned(),
        format!("-m mark --mark {} -j RETURN", mark::VIRTUAL_MAC),
        "-m set --match-set sgagent_routers src -j RETURN".to_owned(),
    ]);
    let sources = Claim {
        own: format!("sgagent_claims_{number}"),
        owned: "owned",
        others: "claimed",
        end: "src",
        then: "sgagent_guarded",
    };
    let probes = Claim {
        own: format!("sgagent_probes_{number}"),
        owned: "groups",
        others: "probed",
        end: "dst",
        then: "sgagent_unjudged",
    };
    for (chain, claim) in [
        (chain, sources),
        (format!("sgagent_probe_{number}"), probes),
    ] {
        claim.rules(chains, &chain, nic);
        sets.insert(claim.own, Set::learned(Kind::Claims));
    }
}

/// What is claimed, and by which address of a packet.
struct Claim {
    /// The set of what the NIC has claimed.
    own: String,
    /// The sets of each bridge, of what somebody owns, and of what anyone has claimed.
    owned: &'static str,
    others: &'static str,
    end: &'static str,
    /// Where the packet goes on that may.
    then: &'static str,
}

impl Claim {
    fn rules(&self, chains: &mut Chains, chain: &str, nic: &NicRules) {
        let Self {
            own,
            owned,
            others,
            end,
            then,
        } = self;
        let bridges = || nic.interfaces.values().map(|(_, bridge)| bridge.0);
        let of_others = |what: &'static str| {
            bridges().map(move |bridge| {
                format!("-m set --match-set sgagent_{what}_{bridge} {end} -j RETURN")
            })
        };
        let again = format!("{chain}_again");
        let rules = chains.chain(chain);
        rules.extend(of_others(owned));
        rules.push(format!("-m set --match-set {own} {end} -g {again}"));
        rules.extend(of_others(others));
        rules.push(format!("-j SET --add-set {own} {end}"));
        // It has four already.
        rules.push(format!("-m set ! --match-set {own} {end} -j RETURN"));
        rules.push(format!("-g {again}"));
        let rules = chains.chain(again);
        rules.push(format!("-j SET --add-set {own} {end} --exist"));
        rules.extend(
            bridges()
                .map(|bridge| format!("-j SET --add-set sgagent_{others}_{bridge} {end} --exist")),
        );
        rules.push(format!("-g {then}"));
    }
}

/// The group that who has an address listens to (RFC 4291 §2.7.1).
fn solicited(address: Ipv6Addr) -> Ipv6Addr {
    let [.., a, b, c] = address.octets();
    Ipv6Addr::new(
        0xff02,
        0,
        0,
        0,
        0,
        1,
        0xff00 | u16::from(a),
        u16::from_be_bytes([b, c]),
    )
}
