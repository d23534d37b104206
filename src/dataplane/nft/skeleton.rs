//! The fixed part of the ruleset: `guard.nft` and the stateful stage beside it, with
//! the few parameters filled in.

use serde::{Deserialize, Serialize};

use crate::{
    model::IfPattern,
    ruleset::{Reason, Ruleset, Where, name::TABLE},
};

const GUARD: &str = include_str!("guard.nft");
const PORTS: &str = include_str!("ports.nft");
const BR_NETFILTER: &str = include_str!("br_netfilter.nft");

/// The chain that counts a drop against its NIC.
const CHARGE: &str = "\
\tchain charge {
\t\tmeta mark & 0x00ffffff != 0 update @nic_drops { meta mark }
\t\tdrop
\t}
";

/// How much of everything a NIC may send.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Parameters {
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
}

impl Default for Parameters {
    fn default() -> Self {
        Self {
            fragments_per_second: 1_000,
            fragment_burst: 1_000,
            mld_per_second: 20,
            mld_burst: 100,
            nd_per_second: 200,
            nd_burst: 400,
        }
    }
}

/// The skeleton as nft text.
pub fn text(parameters: &Parameters, guest_patterns: &[IfPattern]) -> String {
    let Parameters {
        fragments_per_second,
        fragment_burst,
        mld_per_second,
        mld_burst,
        nd_per_second,
        nd_burst,
    } = parameters;
    let patterns: Vec<_> = guest_patterns
        .iter()
        .map(|pattern| format!("\"{pattern}\""))
        .collect();
    let guard = GUARD
        .replace("{{guest_patterns}}", &patterns.join(", "))
        .replace(
            "{{fragments_per_second}}",
            &fragments_per_second.to_string(),
        )
        .replace("{{fragment_burst}}", &fragment_burst.to_string())
        .replace("{{mld_per_second}}", &mld_per_second.to_string())
        .replace("{{mld_burst}}", &mld_burst.to_string())
        .replace("{{nd_per_second}}", &nd_per_second.to_string())
        .replace("{{nd_burst}}", &nd_burst.to_string())
        .replace("{{drop_chains}}", &drop_chains(Where::Guard));
    guard + &BR_NETFILTER.replace("{{drop_chains}}", &drop_chains(Where::Groups))
}

/// The table of the guests' ports, as nft text that replaces it (G0).
pub fn ports(ruleset: &Ruleset) -> String {
    let gone = format!("add table netdev {TABLE}\ndelete table netdev {TABLE}\n");
    if ruleset.guest_ports.is_empty() {
        return gone;
    }
    let names = ruleset.guest_ports.iter();
    let devices: Vec<_> = names.map(|port| format!("\"{port}\"")).collect();
    gone + &PORTS.replace("{{devices}}", &devices.join(", "))
}

/// A chain for each reason. In the bridge table the NIC is the one of the interface that
/// the frame came by or goes to; in table ip6 it is in the frame's mark.
fn drop_chains(place: Where) -> String {
    let nic = match place {
        Where::Guard => {
            "\t\tmeta mark set 0
\t\tmeta mark set iifname map @nic_mark
\t\tmeta mark set oifname map @nic_mark
"
        }
        Where::Device | Where::Groups | Where::Both => "",
    };
    let chain = |reason: Reason| {
        let (symbol, row) = (reason.symbol(), reason.row());
        let code = u32::from(reason.code()) << 24;
        format!(
            "\tcounter {symbol} {{ comment \"{row}\"; }}
\tchain drop_{symbol} {{
\t\tcounter name {symbol}
{nic}\t\tmeta mark set meta mark & 0x00ffffff | {code:#010x}
\t\tgoto charge
\t}}
"
        )
    };
    let chains: Vec<_> = reasons(place).map(chain).collect();
    let head = "\n\t# ======== drops: counted by reason, and by NIC\n";
    [head, &chains.concat(), CHARGE].concat()
}

fn reasons(place: Where) -> impl Iterator<Item = Reason> {
    let here = move |reason: &Reason| reason.place() == place || reason.place() == Where::Both;
    Reason::ALL.iter().copied().filter(here)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rendered() -> String {
        text(
            &Parameters::default(),
            &["vnet*".parse().unwrap(), "tap*".parse().unwrap()],
        )
    }

    #[test]
    fn nothing_is_left_to_fill_in() {
        let text = rendered();
        assert!(
            !text.contains("{{guest") && !text.contains("{{drop"),
            "{text}"
        );
        assert!(!text.lines().any(|line| line.contains("{{")), "{text}");
        assert!(text.contains("iifname { \"vnet*\", \"tap*\" } goto drop_unbound"));
    }

    #[test]
    fn every_drop_chain_that_is_jumped_to_exists_and_every_other_is_used() {
        let text = rendered();
        let (guard, groups) = text.split_once("\ntable ip6").unwrap();
        for reason in Reason::ALL {
            let symbol = reason.symbol();
            for (part, place) in [(guard, Where::Guard), (groups, Where::Groups)] {
                let here = reason.place() == place || reason.place() == Where::Both;
                let used = part.contains(&format!("goto drop_{symbol}\n"))
                    || part.contains(&format!("goto drop_{symbol}\t"))
                    || part.contains(&format!("goto drop_{symbol},"));
                // Policies, which are no part of the skeleton, drop by these two too.
                assert_eq!(used, here, "{symbol} in {place:?}");
            }
        }
    }
}
