//! What the guard knows of each NIC, and the way there from the chains that all share.

use super::{
    super::{
        bpf,
        chains::Chains,
        dispatch, mark,
        question::{OPTION, OPTION_OF_RS, Question},
    },
    icmpv6,
};
use crate::{
    model::{Permission, Prefix},
    ruleset::{NicNumber, NicRules, Ruleset},
};

/// What one NIC owns, in chains of its own.
pub(super) fn owned(chains: &mut Chains, NicNumber(number): NicNumber, nic: &NicRules) {
    let own =
        |mac: &str, whose: &str| format!("-m mark --mark {mac} -s {whose} -g sgagent_guarded");
    let source = format!("sgagent_source_{number}");
    chains.chain(source.as_str());
    for address in &nic.on_link {
        chains.rule(&source, own(mark::OWN_MAC, &format!("{address}/128")));
    }
    for prefix in nic.delegated.iter().chain(&nic.on_link_prefix) {
        chains.rule(&source, own(mark::OWN_MAC, &prefix.to_string()));
    }
    if !nic.virtual_macs.is_empty() {
        for address in &nic.shared {
            chains.rule(&source, own(mark::VIRTUAL_MAC, &format!("{address}/128")));
        }
    }
    targets(chains, number, nic);
}

/// Probes (from `::`) and advertisements that are about the NIC's own addresses.
fn targets(chains: &mut Chains, number: u32, nic: &NicRules) {
    let target = format!("sgagent_target_{number}");
    chains.chain(target.as_str());
    let mut good = |question: String| {
        // A probe is from nobody; an advertisement is not.
        chains.rule(
            &target,
            format!("{} {question} -s ::/128 -g sgagent_unjudged", icmpv6(135)),
        );
        chains.rule(
            &target,
            format!("{} {question} -g sgagent_own_exempt", icmpv6(136)),
        );
    };
    if nic.permissions.contains(&Permission::AnySource) {
        good(String::new());
    }
    for address in &nic.on_link {
        good(Question::default().target(*address).holds());
    }
    if let Some(prefix) = &nic.on_link_prefix {
        good(Question::default().target_in(prefix).holds());
    }
    if nic.any_link_local {
        // First come, first served by its source, which claims it; a probe by the group that it is
        // sent to, which has the target's last 24 bits.
        let of_source = bpf::source_is_target();
        chains.rule(
            &target,
            format!(
                "{} -s fe80::/64 {of_source} -g sgagent_own_exempt",
                icmpv6(136)
            ),
        );
        let any = Question::default().target_in(&Prefix::LINK_LOCAL_64);
        let to_group = format!(
            "{} -s ::/128 {} {}",
            icmpv6(135),
            any.holds(),
            bpf::group_is_targets()
        );
        chains.rule(&target, format!("{to_group} -g sgagent_probe_{number}"));
    }
    let shared = format!("sgagent_na_{number}");
    for mac in &nic.virtual_macs {
        for address in &nic.shared {
            let question = Question::default()
                .target(*address)
                .option_names(OPTION, *mac);
            chains.rule(&shared, format!("{} -g sgagent_target", question.holds()));
        }
    }
    let real = Question::default().option_names(OPTION, nic.mac);
    chains.rule(&shared, format!("{} -g sgagent_target", real.holds()));
}

/// From the shared chains to those of each NIC.
pub(super) fn trees(chains: &mut Chains, ruleset: &Ruleset) {
    let all = || ruleset.nics.iter();
    let to = |what: &str| {
        let what = what.to_owned();
        all().map(move |(number, _)| (number.0, vec![format!("-g sgagent_{what}_{}", number.0)]))
    };
    dispatch::by_number(chains, "sgagent_source", to("source"));
    dispatch::by_number(chains, "sgagent_target", to("target"));
    dispatch::by_number(chains, "sgagent_na_lladdr", to("na"));
    let named = |at, then: &'static str| {
        all().map(move |(number, nic)| {
            let question = Question::default().option_names(at, nic.mac);
            (number.0, vec![format!("{} -g {then}", question.holds())])
        })
    };
    dispatch::by_number(
        chains,
        "sgagent_rs_lladdr",
        named(OPTION_OF_RS, "sgagent_own_exempt"),
    );
    dispatch::by_number(
        chains,
        "sgagent_ns_lladdr",
        named(OPTION, "sgagent_bound_exempt"),
    );
    let with = |wanted: fn(&NicRules) -> bool, rule: fn(u32) -> String| {
        let some = all().filter(move |(_, nic)| wanted(nic));
        some.map(move |(number, _)| (number.0, vec![rule(number.0)]))
    };
    let any = |_| format!("-m mark --mark {} -g sgagent_guarded", mark::OWN_MAC);
    let may = |nic: &NicRules| nic.permissions.contains(&Permission::AnySource);
    dispatch::by_number(chains, "sgagent_any_source", with(may, any));
    let may = |nic: &NicRules| nic.permissions.contains(&Permission::RouterAdvertisements);
    dispatch::by_number(
        chains,
        "sgagent_advertises",
        with(may, |_| "-g sgagent_advertise".to_owned()),
    );
    let may = |nic: &NicRules| nic.permissions.contains(&Permission::Dhcpv6Server);
    dispatch::by_number(
        chains,
        "sgagent_serves",
        with(may, |_| "-g sgagent_bound_exempt".to_owned()),
    );
    let claims = with(
        |nic| nic.any_link_local,
        |number| format!("-g sgagent_claim_{number}"),
    );
    dispatch::by_number(chains, "sgagent_claim", claims);
}
