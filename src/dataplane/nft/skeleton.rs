//! The fixed part of the ruleset: `guard.nft` and the stateful stage beside it, with
//! the few parameters filled in.
//!
//! What the stateful stage decides is the same everywhere (`groups.nft`, `revoked.nft`,
//! `host.nft`); where it sits, and how packets get there, is the placement's (`bridge.nft` and
//! `bridge_host.nft`, or `br_netfilter.nft`).

use serde::{Deserialize, Serialize};

use crate::{
    dataplane::nflog,
    model::IfPattern,
    ruleset::{Reason, Ruleset, Where, name::TABLE},
};

const GUARD: &str = include_str!("guard.nft");
const PORTS: &str = include_str!("ports.nft");
const GROUPS: &str = include_str!("groups.nft");
const REVOKED_SETS: &str = include_str!("revoked_sets.nft");
const REVOKED: &str = include_str!("revoked.nft");
const HOST: &str = include_str!("host.nft");
const BRIDGE: &str = include_str!("bridge.nft");
const BRIDGE_HOST: &str = include_str!("bridge_host.nft");
const BR_NETFILTER: &str = include_str!("br_netfilter.nft");

/// How many devices a netdev chain may have.
const MAX_DEVICES: usize = 255;

/// The netlink group that samples of drops go to.
pub(super) const SAMPLE_GROUP: u16 = nflog::GROUP;

/// As many octets of a dropped frame as are told, behind its Ethernet header: the addresses, some
/// extension headers and the beginning of the upper layer.
const SAMPLE_OCTETS: u32 = 128;

/// How many samples a second the whole host may take: who watches them must not be kept from work.
const SAMPLES_OF_ALL: u32 = 2_000;

/// Where the stateful stage runs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Placement {
    /// In table bridge, by the bridge's own connection tracking (`nf_conntrack_bridge`).
    Bridge,
    /// In table ip6, behind `br_netfilter`.
    #[default]
    BrNetfilter,
}

impl Placement {
    /// Its name in the configuration and in the API.
    pub fn name(self) -> &'static str {
        match self {
            Self::Bridge => "bridge",
            Self::BrNetfilter => "br_netfilter",
        }
    }

    /// The family of the table that the stateful stage is in.
    pub(super) fn family(self) -> &'static str {
        match self {
            Self::Bridge => "bridge",
            Self::BrNetfilter => "ip6",
        }
    }
}

/// How much of everything a NIC may send.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Parameters {
    /// Where the stateful stage runs.
    pub placement: Placement,
    /// Fragments a second (G15).
    pub fragments_per_second: u32,
    /// Fragments at once.
    pub fragment_burst: u32,
    /// MLD messages a second (G16).
    pub mld_per_second: u32,
    /// MLD messages at once.
    pub mld_burst: u32,
    /// Neighbour discovery messages a second (G16).
    pub nd_per_second: u32,
    /// Neighbour discovery messages at once.
    pub nd_burst: u32,
    /// New flows a second (S8).
    pub flows_per_second: u32,
    /// New flows at once.
    pub flow_burst: u32,
    /// Flows at any time; 0, any number. Each new flow of a NIC costs a walk over all
    /// that it has (`nf_conncount_add` in the kernel).
    pub max_flows: u32,
    /// Samples a second of what a NIC loses for one reason; 0, none.
    pub drop_samples_per_second: u32,
    /// Samples at once.
    pub drop_sample_burst: u32,
}

impl Default for Parameters {
    fn default() -> Self {
        Self {
            placement: Placement::default(),
            fragments_per_second: 1_000,
            fragment_burst: 1_000,
            mld_per_second: 20,
            mld_burst: 100,
            nd_per_second: 200,
            nd_burst: 400,
            flows_per_second: 2_000,
            flow_burst: 4_000,
            max_flows: 0,
            drop_samples_per_second: 5,
            drop_sample_burst: 10,
        }
    }
}

/// The skeleton as nft text.
pub fn text(parameters: &Parameters, ruleset: &Ruleset) -> String {
    let host_revoked = revoked("revoked_to_guest", "oifname", "host_revoked");
    match parameters.placement {
        Placement::Bridge => {
            let revoked = revoked("revoked", "meta ibrname", "drop_revoked")
                + &revoked("revoked_to_guest", "meta obrname", "drop_revoked");
            let groups = groups(parameters, "meta ibrname", "revoked_to_guest", &revoked);
            let revoked_only = |reason: &Reason| *reason == Reason::Revoked;
            let drops = drop_chains(parameters, revoked_only, BY_MARK);
            let host = [
                ("revoked_sets", REVOKED_SETS),
                ("host", HOST),
                ("revoked", &host_revoked),
                ("drop_chains", &drops),
            ];
            guard(parameters, ruleset, &(BRIDGE.to_owned() + &groups)) + &fill(BRIDGE_HOST, &host)
        }
        Placement::BrNetfilter => {
            let revoked = revoked("revoked", "iifname", "drop_revoked") + &host_revoked;
            let behind = [
                ("host", HOST),
                (
                    "groups",
                    &groups(parameters, "iifname", "revoked", &revoked),
                ),
                (
                    "drop_chains",
                    &drop_chains(parameters, of(&IN_GROUPS), BY_MARK),
                ),
            ];
            guard(parameters, ruleset, "") + &fill(BR_NETFILTER, &behind)
        }
    }
}

/// The chains that look whether a packet would revive a flow that was cut (S7), by the bridge
/// that it came by or goes to.
fn revoked(chain: &str, bridge: &str, drop: &str) -> String {
    let words = [("chain", chain), ("bridge", bridge), ("drop", drop)];
    fill(REVOKED, &words)
}

/// What the groups decide. The bridge that a packet came by is called otherwise in each table,
/// and what is delivered would revive a flow by one of the chains of `revoked`.
fn groups(parameters: &Parameters, bridge: &str, delivered: &str, revoked: &str) -> String {
    fill(
        GROUPS,
        &[
            ("bridge", bridge),
            ("revoked_delivered", delivered),
            ("revoked_sets", REVOKED_SETS),
            ("revoked", revoked),
            ("flow_count_set", flow_count_set(parameters.max_flows)),
            ("flow_count_rule", &flow_count_rule(parameters.max_flows)),
            ("flows_per_second", &parameters.flows_per_second.to_string()),
            ("flow_burst", &parameters.flow_burst.to_string()),
        ],
    )
}

/// The bridge table with what is in it of the stateful stage.
fn guard(parameters: &Parameters, ruleset: &Ruleset, stage: &str) -> String {
    let Parameters {
        placement,
        fragments_per_second,
        fragment_burst,
        mld_per_second,
        mld_burst,
        nd_per_second,
        nd_burst,
        flows_per_second: _,
        flow_burst: _,
        max_flows: _,
        drop_samples_per_second: _,
        drop_sample_burst: _,
    } = parameters;
    let (guests, bridges) = (&ruleset.guest_patterns, &ruleset.bridge_patterns);
    let (unknown_in, unknown_out, delivered, not_judged, drops) = match placement {
        // On a managed bridge, whatever its name.
        Placement::Bridge => (
            unknown("meta ibrname", bridges),
            unknown("meta obrname", bridges),
            "goto ingress",
            "",
            drop_chains(parameters, of(&IN_BOTH), BY_PORT),
        ),
        // It looks like a guest's, and nobody is bound to it.
        Placement::BrNetfilter => (
            unknown("iifname", guests),
            unknown("oifname", guests),
            "accept",
            "\t\tmeta mark & 0xff000000 == 0x51000000 goto drop_stage_skipped\t# no group has judged it\n",
            drop_chains(parameters, of(&IN_GUARD), BY_PORT),
        ),
    };
    fill(
        GUARD,
        &[
            ("unknown_in", &unknown_in),
            ("unknown_out", &unknown_out),
            ("delivered", delivered),
            ("not_judged", not_judged),
            ("fragments_per_second", &fragments_per_second.to_string()),
            ("fragment_burst", &fragment_burst.to_string()),
            ("mld_per_second", &mld_per_second.to_string()),
            ("mld_burst", &mld_burst.to_string()),
            ("nd_per_second", &nd_per_second.to_string()),
            ("nd_burst", &nd_burst.to_string()),
            ("stage", stage),
            ("drop_chains", &drops),
        ],
    )
}

fn fill(template: &str, values: &[(&str, &str)]) -> String {
    let mut text = template.to_owned();
    for (name, value) in values {
        text = text.replace(&format!("{{{{{name}}}}}"), value);
    }
    text
}

/// The rules that close what has one of these names, a line each.
fn unknown(name: &str, patterns: &[IfPattern]) -> String {
    let line = |pattern| format!("\t\t{name} \"{pattern}\" goto drop_unbound\n");
    patterns.iter().map(line).collect()
}

/// No timeout: an element without flows is collected, one with flows must stay.
fn flow_count_set(most: u32) -> &'static str {
    if most == 0 {
        ""
    } else {
        "\tset flow_count { type mark; size 65536; flags dynamic; }\n"
    }
}

fn flow_count_rule(most: u32) -> String {
    if most == 0 {
        return String::new();
    }
    format!(
        "\t\tct status ! confirmed add @flow_count {{ meta mark ct count over {most} }} \
         goto drop_flow_limit\n"
    )
}

/// The table of the guests' ports, as nft text that replaces it (G0).
pub fn ports(parameters: &Parameters, ruleset: &Ruleset) -> String {
    let gone = format!("add table netdev {TABLE}\ndelete table netdev {TABLE}\n");
    if ruleset.guest_ports.is_empty() {
        return gone;
    }
    let code = code(Reason::LinkLocalMac);
    let mark = format!("\t\tmeta mark set {code:#010x}\n");
    let sample = sample(parameters, "iifname");
    let template = fill(PORTS, &[("sample", &(mark + &sample))]);
    let Some((head, chain)) = template.split_once("\tchain guest_ports_") else {
        return gone;
    };
    let chain = format!(
        "\tchain guest_ports_{}",
        chain.trim_end().trim_end_matches('}')
    );
    let ports: Vec<_> = ruleset.guest_ports.iter().collect();
    let mut text = gone + head;
    for (number, ports) in ports.chunks(MAX_DEVICES).enumerate() {
        let devices: Vec<_> = ports.iter().map(|port| format!("\"{port}\"")).collect();
        let chain = chain.replace("{{number}}", &number.to_string());
        text.push_str(&chain.replace("{{devices}}", &devices.join(", ")));
    }
    text + "}\n"
}

/// How a drop finds its NIC in the bridge table: by the port that the frame came by or goes to.
const BY_PORT: (&str, &str) = (
    "\t\tjump blame\n",
    "\
\tchain blame {
\t\tmeta mark set 0
\t\tmeta mark set iifname map @nic_mark
\t\tmeta mark set oifname map @nic_mark
\t}
",
);

/// How it does in table ip6: the NIC is in the packet's mark.
const BY_MARK: (&str, &str) = ("", "");

/// Which of the reasons' places a table has.
const IN_GUARD: [Where; 3] = [Where::Guard, Where::Both, Where::Skipped];
const IN_GROUPS: [Where; 2] = [Where::Groups, Where::Both];
const IN_BOTH: [Where; 3] = [Where::Guard, Where::Both, Where::Groups];

fn of(places: &[Where]) -> impl Fn(&Reason) -> bool {
    move |reason| places.contains(&reason.place())
}

/// A chain for each of some reasons, and those that they share.
fn drop_chains(
    parameters: &Parameters,
    which: impl Fn(&Reason) -> bool,
    (find, shared): (&str, &str),
) -> String {
    let chain = |reason: &Reason| {
        let (symbol, row) = (reason.symbol(), reason.row());
        let code = code(*reason);
        format!(
            "\tcounter {symbol} {{ comment \"{row}\"; }}
\tchain drop_{symbol} {{
\t\tcounter name {symbol}
{find}\t\tmeta mark set meta mark & 0x00ffffff | {code:#010x}
\t\tgoto charge
\t}}
"
        )
    };
    let here = Reason::ALL.iter().filter(|reason| which(reason));
    let chains: Vec<_> = here.map(chain).collect();
    let head = "\n\t# ======== drops: counted by reason, and by NIC\n";
    [head, shared, &chains.concat(), &charge(parameters)].concat()
}

/// A reason, in the bits of a mark that are not the NIC's.
fn code(reason: Reason) -> u32 {
    u32::from(reason.code()) << 24
}

/// The chain that counts a drop against its NIC.
fn charge(parameters: &Parameters) -> String {
    let sample = sample(parameters, "meta mark");
    format!(
        "\
\tchain charge {{
\t\tmeta mark & 0x00ffffff != 0 update @nic_drops {{ meta mark }}
{sample}\t\tdrop
\t}}
"
    )
}

/// The rule that shows a few of the drops to who watches them: of each NIC and reason, so that
/// none hides another. Where nobody watches, the kernel looks no further than that
/// (`nfulnl_log_packet`, `net/netfilter/nfnetlink_log.c`).
fn sample(parameters: &Parameters, key: &str) -> String {
    let (rate, burst) = (
        parameters.drop_samples_per_second,
        parameters.drop_sample_burst,
    );
    if rate == 0 {
        return String::new();
    }
    format!(
        "\t\tupdate @drop_sampled {{ {key} limit rate {rate}/second burst {burst} packets }} \
         limit rate {SAMPLES_OF_ALL}/second burst {SAMPLES_OF_ALL} packets \
         log group {SAMPLE_GROUP} snaplen {SAMPLE_OCTETS}\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rendered(placement: Placement, max_flows: u32) -> String {
        let parameters = Parameters {
            placement,
            max_flows,
            ..Parameters::default()
        };
        let ruleset = Ruleset {
            guest_patterns: vec!["vnet*".parse().unwrap(), "tap*".parse().unwrap()],
            bridge_patterns: vec!["br0".parse().unwrap(), "br-*".parse().unwrap()],
            ..Ruleset::default()
        };
        text(&parameters, &ruleset)
    }

    #[test]
    fn nothing_is_left_to_fill_in() {
        for placement in [Placement::Bridge, Placement::BrNetfilter] {
            for max_flows in [0, 7] {
                let text = rendered(placement, max_flows);
                assert!(!text.contains("{{") && !text.contains("}}"), "{text}");
                assert_eq!(text.contains("ct count over 7"), max_flows == 7);
            }
        }
    }

    #[test]
    fn unknown_ports_are_told_by_bridge_where_its_name_can_be_matched() {
        let text = rendered(Placement::BrNetfilter, 0);
        assert!(text.contains("\tiifname \"vnet*\" goto drop_unbound\n"));
        assert!(text.contains("\toifname \"tap*\" goto drop_unbound\n"));
        assert!(!text.contains("ibrname"));
        let text = rendered(Placement::Bridge, 0);
        assert!(text.contains("\tmeta ibrname \"br0\" goto drop_unbound\n"));
        assert!(text.contains("\tmeta obrname \"br-*\" goto drop_unbound\n"));
        assert!(!text.contains("vnet*"));
    }

    #[test]
    fn every_drop_chain_that_is_jumped_to_exists_and_every_other_is_used() {
        let used = |part: &str, symbol: &str| {
            ["\n", "\t", ","]
                .iter()
                .any(|end| part.contains(&format!("goto drop_{symbol}{end}")))
        };
        let text = rendered(Placement::BrNetfilter, 0);
        let (guard, groups) = text.split_once("\ntable ip6").unwrap();
        let both = rendered(Placement::Bridge, 0);
        let (both, host) = both.split_once("\ntable ip6").unwrap();
        assert!(used(host, "revoked") && host.contains("chain drop_revoked {"));
        for reason in Reason::ALL {
            let symbol = reason.symbol();
            for (part, places) in [
                (guard, &IN_GUARD[..]),
                (groups, &IN_GROUPS),
                (both, &IN_BOTH),
            ] {
                let here = places.contains(&reason.place());
                let there = part.contains(&format!("chain drop_{symbol} {{"));
                assert_eq!((used(part, &symbol), there), (here, here), "{symbol}");
            }
        }
    }
}
