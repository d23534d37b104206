//! Drops: counted by reason, and by NIC, each by a rule's own counter; and a few of each NIC's shown
//! to who watches them, over `nfnetlink_log`.
//!
//! What is dropped goes to the chain of its reason, which counts it and puts the reason's number into
//! the highest 8 bits of its mark, and from there to the chain of its NIC. Whose it is, of what a NIC
//! sends, the mark says ([`super::mark`]), and of what is delivered to one the port that it was to
//! leave by. All others' marks are cleared: who sends as the host may choose one.

use std::collections::BTreeMap;

use super::{chains::Chains, dispatch, groups::drop_chain, mark};
use crate::{
    dataplane::nflog,
    ruleset::{NicNumber, Reason, Ruleset, name::NUMBER_MASK},
};

/// Reasons in table raw. Of each list the last is what is left when it is none of the others.
pub(super) const RAW: [Reason; 11] = [
    Reason::SpoofedSource,
    Reason::FragmentRate,
    Reason::NdRate,
    Reason::MldRate,
    Reason::ExtHeader,
    Reason::RogueRa,
    Reason::Icmpv6Type,
    Reason::NdMalformed,
    Reason::NdSpoof,
    Reason::RogueDhcpv6,
    Reason::Mld,
];

/// Reasons in table mangle.
pub(super) const MANGLE: [Reason; 9] = [
    Reason::GroupIngress,
    Reason::GroupEgress,
    Reason::FlowLimit,
    Reason::Invalid,
    Reason::RogueRa,
    Reason::NdMalformed,
    Reason::RogueDhcpv6,
    Reason::Revoked,
    Reason::StageSkipped,
];

/// Reasons on the bridge.
pub(super) const FRAMES: [Reason; 8] = [
    Reason::SpoofedSource,
    Reason::SpoofedMac,
    Reason::Ethertype,
    Reason::Unbound,
    Reason::NotForNic,
    Reason::RogueRa,
    Reason::RogueDhcpv6,
    Reason::StageSkipped,
];

/// The chain that a drop of a NIC ends in.
const NIC: &str = "sgagent_nic";

const DROPPED: &str = "sgagent_dropped";
const BY_NUMBER: &str = "sgagent_blame";
const BY_PORT: &str = "sgagent_o";
const BY_PORT_IN: &str = "sgagent_i";

/// The most that `limit` takes (`XT_LIMIT_SCALE`, `net/netfilter/xt_limit.c`).
const MOST: u32 = 10_000;

/// Samples of what one NIC loses, or nobody's: a second and at once; none where it is 0.
#[derive(Debug, Clone, Copy)]
pub(super) struct Samples(pub(super) u32, pub(super) u32);

impl Samples {
    fn limit(self) -> Option<String> {
        let Self(rate, burst) = self;
        let (rate, burst) = (rate.min(MOST), burst.clamp(1, MOST));
        (rate > 0).then(|| format!("--limit {rate}/sec --limit-burst {burst}"))
    }

    /// As a rule of ip6tables. Of what is not so new, none tells the kernel how much to show: who
    /// listens does.
    fn of_packets(self, whose: &str) -> Option<String> {
        let group = nflog::GROUP;
        let rule = |limit| format!("-m limit {limit} -j NFLOG --nflog-group {group}{whose}");
        self.limit().map(rule)
    }

    /// As a rule of ebtables.
    fn of_frames(self, whose: &str) -> Option<String> {
        let group = nflog::GROUP;
        let rule = |limit| format!("{limit} --nflog-group {group}{whose} -j CONTINUE");
        self.limit().map(rule)
    }
}

/// The option that says whose a sample is, which [`nflog`] reads.
fn whose(NicNumber(number): NicNumber) -> String {
    format!(" --nflog-prefix {}{number}", nflog::WHOSE)
}

fn code(reason: Reason) -> u32 {
    u32::from(reason.code()) << 24
}

/// What is dropped in a table of ip6tables; `ports`: also what is delivered.
pub(super) fn packets(
    chains: &mut Chains,
    ruleset: &Ruleset,
    reasons: &[Reason],
    (ports, samples): (bool, Samples),
) {
    for reason in reasons {
        let mut rule = |rule: String| chains.rule(&drop_chain(*reason), rule);
        rule(format!(
            "-m mark ! --mark {} -j MARK --set-xmark 0x0/0xffffffff",
            mark::ANY
        ));
        rule(format!(
            "-j MARK --set-xmark {:#x}/0xff000000",
            code(*reason)
        ));
        rule(format!("-g {DROPPED}"));
    }
    if ports {
        chains.rule(
            DROPPED,
            format!("-m physdev --physdev-is-bridged -j {BY_PORT}"),
        );
        let leaf = |number: u32| vec![format!("-g {NIC}_{number}")];
        let how = ("-m physdev --physdev-is-bridged --physdev-out", "-g");
        dispatch::by_name(chains, BY_PORT, how, leaves(ruleset, leaf).into_iter());
    }
    chains.rule(
        DROPPED,
        format!("-m mark ! --mark 0x0/{NUMBER_MASK:#x} -j {BY_NUMBER}"),
    );
    let nobodys = samples.of_packets("");
    chains.chain(DROPPED).extend(nobodys);
    chains.rule(DROPPED, "-j DROP");
    for (number, nic) in &ruleset.nics {
        // The bridge has seen to all others of this one (T5).
        let occurs =
            |reason: &&Reason| **reason != Reason::RogueDhcpv6 || !ports || nic.any_link_local;
        let reasons = reasons.iter().filter(occurs).copied().collect();
        *chains.chain(format!("{NIC}_{}", number.0)) = of_nic(*number, reasons, samples);
    }
    let leaf = |number: &NicNumber| (number.0, vec![format!("-g {NIC}_{}", number.0)]);
    dispatch::by_number(chains, BY_NUMBER, ruleset.nics.keys().map(leaf));
}

fn of_nic(number: NicNumber, mut reasons: Vec<Reason>, samples: Samples) -> Vec<String> {
    // The last one's has nothing to tell apart.
    reasons.pop();
    let counted =
        |reason: &Reason| format!("-m mark --mark {:#x}/0xff000000 -j DROP", code(*reason));
    let rules = reasons.iter().map(counted);
    let sample = samples.of_packets(&whose(number));
    sample
        .into_iter()
        .chain(rules)
        .chain(["-j DROP".to_owned()])
        .collect()
}

/// What is dropped on the bridge. There rules of each NIC send it to its reason's chain, and are its
/// counters.
pub(super) fn frames(chains: &mut Chains, ruleset: &Ruleset, samples: Samples) {
    for reason in FRAMES {
        let chain = drop_chain(reason);
        let code = code(reason);
        chains.rule(
            &chain,
            format!("-j mark --mark-set {code:#x} --mark-target CONTINUE"),
        );
        if reason == Reason::Unbound {
            chains.chain(chain.as_str()).extend(samples.of_frames(""));
        } else if samples.limit().is_some() {
            for tree in [BY_PORT_IN, BY_PORT] {
                chains.rule(&chain, format!("-j {tree}"));
            }
        }
        chains.rule(&chain, "-j DROP");
    }
    if samples.limit().is_none() {
        return;
    }
    for (option, tree) in [("-i", BY_PORT_IN), ("-o", BY_PORT)] {
        let leaf = |number| {
            samples
                .of_frames(&whose(NicNumber(number)))
                .into_iter()
                .collect()
        };
        dispatch::by_name(
            chains,
            tree,
            (option, "-j"),
            leaves(ruleset, leaf).into_iter(),
        );
    }
}

fn leaves(
    ruleset: &Ruleset,
    leaf: impl Fn(u32) -> Vec<String>,
) -> BTreeMap<&crate::model::IfName, Vec<String>> {
    let all = ruleset.nics.iter();
    let leaf = &leaf;
    all.flat_map(|(number, nic)| {
        nic.interfaces
            .keys()
            .map(move |port| (port, leaf(number.0)))
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reason_of_a_nic_has_a_counter_and_the_last_takes_the_rest() {
        let rules = of_nic(NicNumber(7), MANGLE.to_vec(), Samples(5, 10));
        assert_eq!(rules.len(), 1 + MANGLE.len());
        assert_eq!(
            rules[0],
            "-m limit --limit 5/sec --limit-burst 10 -j NFLOG --nflog-group 21351 --nflog-prefix sgagent_7"
        );
        assert_eq!(rules[1], "-m mark --mark 0x11000000/0xff000000 -j DROP");
        assert_eq!(rules.last().unwrap(), "-j DROP");
        assert_eq!(
            of_nic(NicNumber(7), MANGLE.to_vec(), Samples(0, 10)).len(),
            MANGLE.len()
        );
    }

    #[test]
    fn a_limit_is_one_that_the_kernel_takes() {
        let limit = Samples(20_000, 0).limit();
        assert_eq!(limit.as_deref(), Some("--limit 10000/sec --limit-burst 1"));
    }
}
