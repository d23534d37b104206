//! The guard on what NICs send, in table raw: rows G3 to G16 (packet-policy.md) of IPv6. G1 and G2,
//! and what is not IPv6, are the bridge's ([`super::frames`]).
//!
//! It is before connection tracking, and sees fragments where `ip6table_raw` was loaded with
//! `raw_before_defrag=1` (Linux 4.16); elsewhere what is joined of them.

use super::{
    bpf,
    chains::{Chains, Hook},
    dispatch,
    groups::{self, goto},
    mark,
    question::Question,
    sets::Sets,
};
use crate::{
    model::IfName,
    ruleset::{BridgeRules, NicNumber, Reason, Ruleset},
};

mod claims;
mod discovery;
mod nic;

pub(super) const HOOKS: [Hook; 1] = [Hook {
    from: "PREROUTING",
    to: GUARD,
}];

const GUARD: &str = "sgagent_guard";

/// Where all ends that may pass.
const GOOD: &str = "sgagent_guarded";

/// Headers of a kind, with any number in them. Programs before 1.6 (XenServer's 1.4.21) fill in 0 where
/// no range is given: a bare `-m ah` is an AH of SPI 0 to them.
const AH: &str = "-m ah --ahspi 0:4294967295";
const ROUTING: &str = "-m rt --rt-segsleft 0:4294967295";
const FRAGMENT: &str = "-m frag --fragid 0:4294967295";

/// Messages of a type. What is too short to be one is dropped.
fn icmpv6(kind: u8) -> String {
    format!("-p icmpv6 -m icmp6 --icmpv6-type {kind}")
}

/// How much of everything a NIC may send, and what of fragments is seen.
#[derive(Debug, Clone, Copy)]
pub(super) struct Parameters {
    /// Whether fragments are seen before they are joined.
    pub(super) fragments: bool,
    /// A second, and at once: fragments, MLD, neighbour discovery (G15, G16).
    pub(super) fragment_rate: (u32, u32),
    pub(super) mld_rate: (u32, u32),
    pub(super) nd_rate: (u32, u32),
}

/// The whole guard.
pub(super) fn guard(ruleset: &Ruleset, parameters: Parameters) -> (Chains, Sets) {
    let (mut chains, mut sets) = (Chains::default(), Sets::new());
    for (bridge, rules) in &ruleset.bridges {
        zone(&mut chains, bridge, rules);
    }
    chains.rule(
        GUARD,
        format!("-m mark --mark {} -g sgagent_guest", mark::ANY),
    );
    for bridge in ruleset.bridges.keys() {
        chains.rule(GUARD, format!("-i {bridge} -g sgagent_entering"));
    }
    entering(&mut chains, parameters);
    guest(&mut chains, parameters);
    fragment(&mut chains, parameters);
    upper_layers(&mut chains, ruleset);
    discovery::discovery(&mut chains);
    ownership(&mut chains);
    rates(&mut chains, ruleset, parameters);
    for (number, nic) in &ruleset.nics {
        nic::owned(&mut chains, *number, nic);
        claims::of_nic(&mut chains, &mut sets, *number, nic);
    }
    nic::trees(&mut chains, ruleset);
    chains.return_from(GOOD, &format!("-m mark --mark {}", mark::PASSED));
    claims::of_bridges(&mut sets, ruleset);
    (chains, sets)
}

/// S9: a zone for each bridge; what is sent to the host itself stays in the zone of the host's own
/// packets. Before reassembly, or fragments of two bridges would be joined.
fn zone(chains: &mut Chains, bridge: &IfName, rules: &BridgeRules) {
    let chain = format!("sgagent_zone_{}", rules.number.0);
    if let Some(mac) = rules.host_mac {
        chains.rule(&chain, format!("{} -j RETURN", bpf::is_to(mac)));
    }
    chains.rule(&chain, format!("-j CT --zone {}", rules.number.0));
    chains.rule(GUARD, format!("-i {bridge} -j {chain}"));
}

/// What enters by an uplink: T4, and who advertises itself as a router.
fn entering(chains: &mut Chains, parameters: Parameters) {
    let mut rule = |rule: String| chains.rule("sgagent_entering", rule);
    if parameters.fragments {
        rule(format!(
            "{} {}",
            bpf::ends_off_8_octets(),
            goto(Reason::ExtHeader)
        ));
        let direct = Question::default().raw("4>>8&0xff=44");
        rule(format!(
            "{FRAGMENT} --fragfirst {} -j sgagent_first_fragment",
            direct.holds()
        ));
        for kind in 133..=137 {
            rule(format!(
                "{} {FRAGMENT} {}",
                groups::icmpv6(kind),
                goto(Reason::NdMalformed)
            ));
        }
    }
    // Behind the fragments: `-p` drops what ends before its type, uncounted.
    rule(format!(
        "{} -m hl --hl-eq 255 -j SET --add-set sgagent_routers src --exist",
        groups::icmpv6(134)
    ));
}

/// From the IPv6 header to the upper layer (G3).
fn guest(chains: &mut Chains, parameters: Parameters) {
    let mut rule = |rule: String| chains.rule("sgagent_guest", rule);
    rule(format!("{} -g sgagent_bound", bpf::is_plain()));
    if parameters.fragments {
        rule(format!("{FRAGMENT} -j sgagent_fragment"));
    }
    // The walk of `-p` goes through AH.
    rule(format!("{AH} {}", goto(Reason::ExtHeader)));
    // Type 2, alone, is the only routing header behind which no other can hide (RFC 5095).
    let alone = Question::default()
        .raw("4>>8&0xff=43")
        .raw("40>>24=1:42,45:50,52:59,61:134,136:138,141:252");
    rule(format!(
        "{ROUTING} --rt-type 2 {} -j sgagent_upper",
        alone.holds()
    ));
    let used_up = alone.raw("40&0xff=0");
    rule(format!("{ROUTING} {} -j sgagent_upper", used_up.holds()));
    rule(format!("{ROUTING} {}", goto(Reason::ExtHeader)));
    rule("-j sgagent_upper".to_owned());
    rule(goto(Reason::ExtHeader));
}

/// Fragments, before they are joined (G3, G5, G15).
fn fragment(chains: &mut Chains, parameters: Parameters) {
    if !parameters.fragments {
        return;
    }
    let mut rule = |rule: String| chains.rule("sgagent_fragment", rule);
    rule("-j sgagent_fragment_rate".to_owned());
    let direct = Question::default().raw("4>>8&0xff=44");
    // Behind other headers it is where nobody else here looks for it.
    rule(format!("{} {}", direct.fails(), goto(Reason::ExtHeader)));
    rule(format!(
        "{} {}",
        bpf::ends_off_8_octets(),
        goto(Reason::ExtHeader)
    ));
    let hides = Question::default().raw("40>>24=51");
    rule(format!(
        "{FRAGMENT} --fragfirst {} {}",
        hides.holds(),
        goto(Reason::ExtHeader)
    ));
    rule(format!("{FRAGMENT} --fragfirst -g sgagent_first_fragment"));
    // The first one decides; this one has to be from an address of the NIC's.
    rule("-g sgagent_bound".to_owned());
    first_fragment(chains);
}

/// What a first fragment shows must be in it, and not in the frame's padding: options are followed
/// where it holds them and 8 octets behind them. AH has an octet behind it, or the fragment is not
/// joined with others but goes on by itself (`ipv6frag_thdr_truncated`); 48 octets of AH are more than
/// any algorithm's.
fn first_fragment(chains: &mut Chains) {
    let mut rule = |tests: &[&str], then: &str| {
        let all = tests
            .iter()
            .fold(Question::default(), |all, test| all.raw(test));
        chains.rule("sgagent_first_fragment", format!("{} {then}", all.holds()));
    };
    let drop = goto(Reason::ExtHeader);
    rule(&["40>>24=0,43,44"], &drop);
    rule(&["40>>24=51", "40&1=0"], "-j RETURN");
    rule(
        &["40>>24=51", "48>>16&0xff=0:10", "4>>16=64:65535"],
        "-j RETURN",
    );
    rule(&["40>>24=51", "4>>16=1044:65535"], "-j RETURN");
    rule(&["40>>24=51"], &drop);
    rule(&["40>>24=60", "48>>24=0,43,44,51,60"], &drop);
    rule(
        &["40>>24=60", "48>>16&0xff=0:7", "4>>16=80:65535"],
        "-j RETURN",
    );
    rule(
        &["40>>24=60", "48>>16&0xff=0:143", "4>>16=1168:65535"],
        "-j RETURN",
    );
    rule(&["40>>24=60"], &drop);
}

fn upper_layers(chains: &mut Chains, ruleset: &Ruleset) {
    let mut rule = |rule: &str| chains.rule("sgagent_upper", rule);
    rule("-p icmpv6 -g sgagent_icmpv6");
    rule("-p udp -g sgagent_udp");
    // A header that is not all there is dropped by the match itself.
    rule("-p tcp -m tcp --sport 0:65535 -g sgagent_bound");
    rule("-p sctp -m sctp --sport 0:65535 -g sgagent_bound");
    for hides in [135, 139, 140, 253, 254, 255] {
        rule(&format!("-p {hides} {}", goto(Reason::ExtHeader)));
    }
    rule("-g sgagent_bound");

    let mut rule = |rule: &str| chains.rule("sgagent_udp", rule);
    let rogue = goto(Reason::RogueDhcpv6);
    rule("-p udp -m udp --sport 547 -g sgagent_dhcpv6_server");
    rule("-p udp -m udp --dport 546 -g sgagent_dhcpv6_server");
    rule("-p udp -m udp --dport 547 -g sgagent_dhcpv6_client");
    rule("-g sgagent_bound");
    let mut rule = |rule: &str| chains.rule("sgagent_dhcpv6_server", rule);
    rule("-j sgagent_serves");
    rule(&rogue);
    let mut rule = |rule: &str| chains.rule("sgagent_dhcpv6_client", rule);
    rule("-j sgagent_serves");
    rule(&format!("-p udp -m udp ! --sport 546 {rogue}"));
    let message = Question::default()
        .raw("4>>8&0xff=17")
        .raw("48>>24=1,3:6,8,9,11,36");
    rule(&format!("{} {rogue}", message.fails()));
    // S4: to all servers, to one on the link or to one that is known.
    rule("-d ff02::1:2 -g sgagent_bound_exempt");
    rule("-d fe80::/10 -g sgagent_bound_exempt");
    for (bridge, rules) in &ruleset.bridges {
        for server in &rules.dhcpv6_servers {
            rule(&format!(
                "-i {bridge} -d {server}/128 -g sgagent_bound_exempt"
            ));
        }
    }
    rule("-g sgagent_bound");
}

/// Whether the source is the NIC's own (G6, G9, G10), or any where that is permitted (G7, G13).
fn ownership(chains: &mut Chains) {
    let mut rule = |chain: &str, rule: String| chains.rule(chain, rule);
    let set = |bit: u32| format!("-j MARK --set-xmark {bit:#x}/{bit:#x}");
    rule("sgagent_bound_exempt", set(mark::EXEMPT));
    rule("sgagent_bound_exempt", "-g sgagent_bound".to_owned());
    rule("sgagent_own_exempt", set(mark::EXEMPT));
    rule("sgagent_own_exempt", "-g sgagent_own".to_owned());
    rule("sgagent_unjudged", set(mark::EXEMPT));
    rule("sgagent_unjudged", "-g sgagent_guarded".to_owned());
    rule("sgagent_bound", "-j sgagent_any_source".to_owned());
    rule("sgagent_bound", "-g sgagent_own".to_owned());
    rule("sgagent_own", "-j sgagent_source".to_owned());
    rule("sgagent_own", "-j sgagent_claim".to_owned());
    rule("sgagent_own", goto(Reason::SpoofedSource));
    rule(GOOD, set(mark::GUARDED));
    // Others' rules in table raw are asked, too.
    rule(GOOD, "-j RETURN".to_owned());
}

fn rates(chains: &mut Chains, ruleset: &Ruleset, parameters: Parameters) {
    let fragments = parameters.fragments.then_some((
        "fragment",
        parameters.fragment_rate,
        Reason::FragmentRate,
    ));
    let others = [
        ("mld", parameters.mld_rate, Reason::MldRate),
        ("nd", parameters.nd_rate, Reason::NdRate),
    ];
    for (what, (rate, burst), reason) in others.into_iter().chain(fragments) {
        let root = format!("sgagent_{what}_rate");
        let leaf = |number: &NicNumber| {
            let limit = format!("-m limit --limit {rate}/sec --limit-burst {burst} -j RETURN");
            (number.0, vec![limit, goto(reason)])
        };
        dispatch::by_number(chains, &root, ruleset.nics.keys().map(leaf));
    }
}
