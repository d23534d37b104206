//! `ICMPv6` that NICs send: types (G4), neighbour discovery (G5 to G9) and MLD (G10).

use super::{
    super::{
        chains::Chains,
        groups::goto,
        question::{OPTION, OPTION_OF_RS, Question},
    },
    icmpv6,
};
use crate::ruleset::Reason;

/// All of it.
pub(super) fn discovery(chains: &mut Chains) {
    types(chains);
    advertises(chains);
    solicitations(chains);
    probes_and_advertisements(chains);
    listeners(chains);
}

/// A message of so many octets, with no option.
fn of(octets: u16) -> String {
    Question::default().length(octets).holds()
}

/// One of so many octets, with an option of a type.
fn with(octets: u16, at: usize, kind: u8) -> String {
    let question = Question::default().length(octets).option(at, kind);
    question.holds()
}

/// G4.
fn types(chains: &mut Chains) {
    let rules = chains.chain("sgagent_icmpv6");
    for kind in [1, 2, 3, 4, 128, 129] {
        rules.push(format!("{} -g sgagent_bound", icmpv6(kind)));
    }
    for (kind, chain) in [
        (133, "rs"),
        (135, "ns"),
        (136, "na"),
        (131, "mld"),
        (132, "mld"),
        (143, "mld"),
    ] {
        rules.push(format!("{} -g sgagent_{chain}", icmpv6(kind)));
    }
    rules.push("-j sgagent_advertises".to_owned());
    for kind in [134, 137] {
        rules.push(format!("{} {}", icmpv6(kind), goto(Reason::RogueRa)));
    }
    rules.push(goto(Reason::Icmpv6Type));
    // G5, G16.
    let malformed = Question::well_formed_nd().fails();
    for what in ["rs", "ns", "na", "advertise_nd"] {
        let rules = chains.chain(format!("sgagent_{what}"));
        rules.push("-j sgagent_nd_rate".to_owned());
        rules.push(format!("{malformed} {}", goto(Reason::NdMalformed)));
    }
}

/// What a router may send beyond others.
fn advertises(chains: &mut Chains) {
    let rules = chains.chain("sgagent_advertise");
    rules.push(format!("{} -g sgagent_mld", icmpv6(130)));
    for kind in [134, 137] {
        rules.push(format!("{} -g sgagent_advertise_nd", icmpv6(kind)));
    }
    chains.rule("sgagent_advertise_nd", "-g sgagent_bound_exempt");
}

/// G6 and G7.
fn solicitations(chains: &mut Chains) {
    let spoof = goto(Reason::NdSpoof);
    chains.chain("sgagent_rs").extend([
        format!("! -d ff02::2 {spoof}"),
        format!("-s ::/128 {} -g sgagent_unjudged", of(8)),
        format!("{} -g sgagent_own_exempt", of(8)),
        format!("{} -j sgagent_rs_lladdr", with(16, OPTION_OF_RS, 1)),
        spoof.clone(),
    ]);
    chains.chain("sgagent_ns").extend([
        "-s ::/128 -g sgagent_dad".to_owned(),
        format!("{} -g sgagent_bound_exempt", of(24)),
        format!("{} -j sgagent_ns_lladdr", with(32, OPTION, 1)),
        spoof,
    ]);
}

/// G8, with a nonce (RFC 7527) or without, and G9.
fn probes_and_advertisements(chains: &mut Chains) {
    let spoof = goto(Reason::NdSpoof);
    chains.chain("sgagent_dad").extend([
        format!("! -d ff02::1:ff00:0/104 {spoof}"),
        format!("{} -j sgagent_target", of(24)),
        format!("{} -j sgagent_target", with(32, OPTION, 14)),
        spoof.clone(),
    ]);
    chains.chain("sgagent_na").extend([
        format!("{} -j sgagent_target", of(24)),
        format!("{} -j sgagent_na_lladdr", with(32, OPTION, 2)),
        spoof,
    ]);
}

/// G10, G16: behind nothing but a router alert, and not in the frame's padding.
fn listeners(chains: &mut Chains) {
    let wrong = goto(Reason::Mld);
    let direct = Question::default().raw("4>>8&0xff=58").length_from(8);
    let alert = Question::default()
        .raw("4>>8&0xff=0")
        .raw("40>>16=0x3a00")
        .length_from(16);
    chains.chain("sgagent_mld").extend([
        "-j sgagent_mld_rate".to_owned(),
        format!("-m hl ! --hl-eq 1 {wrong}"),
        format!("{} -g sgagent_mld_source", direct.holds()),
        format!("{} -g sgagent_mld_source", alert.holds()),
        wrong.clone(),
    ]);
    chains.chain("sgagent_mld_source").extend([
        "-s ::/128 -g sgagent_unjudged".to_owned(),
        "-s fe80::/10 -g sgagent_own_exempt".to_owned(),
        wrong,
    ]);
}
