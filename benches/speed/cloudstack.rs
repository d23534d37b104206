//! What sgagent is compared with: a chain of ip6tables rules for each NIC, found one after the
//! other by physdev matches, as `CloudStack`'s `security_group.py` lays them out on KVM hosts.
//!
//! The layout is that script's, in our own words: established first; one jump for each NIC and
//! direction; a default chain for each NIC with neighbour discovery, an address match and the
//! DHCPv6 rules; the group's rules in chains of their own.

use std::fmt::Write as _;

use super::world;

/// The text for `ip6tables-restore`. The measured NICs, numbers 0 and 1, are in the
/// middle of the chains: what a NIC finds on average.
pub(crate) fn rules(nics: usize) -> String {
    let mut chains = "*filter\n:BF-br0 -\n:BF-br0-IN -\n:BF-br0-OUT -\n".to_owned();
    let mut rules = "-A FORWARD -i br0 -m physdev --physdev-is-bridged -j BF-br0\n\
                     -A FORWARD -o br0 -m physdev --physdev-is-bridged -j BF-br0\n\
                     -A FORWARD -i br0 -j DROP\n\
                     -A FORWARD -o br0 -j DROP\n\
                     -A BF-br0 -m state --state RELATED,ESTABLISHED -j ACCEPT\n\
                     -A BF-br0 -m physdev --physdev-is-in --physdev-is-bridged -j BF-br0-IN\n\
                     -A BF-br0 -m physdev --physdev-is-out --physdev-is-bridged -j BF-br0-OUT\n\
                     -A BF-br0 -m physdev --physdev-is-bridged --physdev-out uplink0 -j ACCEPT\n"
        .to_owned();
    let middle = nics.midpoint(2);
    for i in (2..middle).chain(0..2).chain(middle..nics) {
        let _ = writeln!(chains, ":i-{i}-def -\n:i-{i} -\n:i-{i}-eg -");
        nic(&mut rules, i);
    }
    format!("{chains}{rules}COMMIT\n")
}

fn nic(rules: &mut String, i: usize) {
    let (def, port) = (format!("-A i-{i}-def"), format!("vnet{i}"));
    let sent = format!("{def} -m physdev --physdev-is-bridged --physdev-in {port}");
    let received = format!("{def} -m physdev --physdev-is-bridged --physdev-out {port}");
    let address = world::slaac(i);
    let link_local = format!("fe80::4b2:ff:fe00:{i:x}");
    let icmp = |kind: &str| format!("-p icmpv6 --icmpv6-type {kind}");
    let mut add = |line: String| {
        let _ = writeln!(rules, "{line}");
    };
    for (chain, way) in [("OUT", "out"), ("IN", "in")] {
        add(format!(
            "-A BF-br0-{chain} -m physdev --physdev-is-bridged --physdev-{way} {port} -j i-{i}-def"
        ));
    }
    for (kind, rest) in [
        (
            "router-solicitation",
            "-d ff02::2 -m hl --hl-eq 255 -j RETURN",
        ),
        ("router-advertisement", "-j DROP"),
        ("neighbor-solicitation", "-m hl --hl-eq 255 -j RETURN"),
        ("neighbor-advertisement", "-m hl --hl-eq 255 -j RETURN"),
        ("143", "-d ff02::16 -j RETURN"),
    ] {
        add(format!("{sent} {} {rest}", icmp(kind)));
    }
    for (kind, rest) in [
        (
            "router-advertisement",
            "-s fe80::/64 -m hl --hl-eq 255 -j ACCEPT",
        ),
        ("neighbor-solicitation", "-m hl --hl-eq 255 -j ACCEPT"),
        ("neighbor-advertisement", "-m hl --hl-eq 255 -j ACCEPT"),
        ("packet-too-big", "-j ACCEPT"),
        ("destination-unreachable", "-j ACCEPT"),
        ("time-exceeded", "-j ACCEPT"),
        ("parameter-problem", "-j ACCEPT"),
    ] {
        add(format!("{received} {} {rest}", icmp(kind)));
    }
    add(format!(
        "{sent} -s {link_local} -d ff02::1:2 -p udp --sport 546 --dport 547 -j RETURN"
    ));
    add(format!(
        "{received} -s fe80::/64 -d {link_local} -p udp --sport 547 --dport 546 -j ACCEPT"
    ));
    add(format!("{sent} -p udp --sport 547 ! --dport 546 -j DROP"));
    // The original has both addresses in an ipset.
    add(format!("{sent} -s {link_local} -j i-{i}-eg"));
    add(format!("{sent} ! -s {address} -j DROP"));
    add(format!("{sent} -j i-{i}-eg"));
    add(format!("{received} -j i-{i}"));
    add(format!("-A i-{i}-eg -j RETURN"));
    group(&mut add, i);
}

/// As many rules as the groups have, the one for the measured flows at the same place.
fn group(add: &mut impl FnMut(String), i: usize) {
    for k in 0..10 {
        let port = 1_000 + 20 * k;
        let (first, last) = world::FLOW_PORTS;
        add(if k == world::OPEN_RULE {
            format!("-A i-{i} -p udp --dport {first}:{last} -m state --state NEW -j ACCEPT")
        } else {
            format!(
                "-A i-{i} -s 2001:db8:{k:x}::/48 -p tcp --dport {port} -m state --state NEW -j ACCEPT"
            )
        });
    }
    add(format!("-A i-{i} -j DROP"));
}
