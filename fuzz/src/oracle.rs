//! What may be open, said once more from what is wanted and from the host: who is bound to what, and
//! each element of the sets that say what a NIC may do. What is not said here must not be there.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv6Addr,
};

use sgagent::{
    dataplane::nft::Placement,
    model::{
        InterfaceSelector, Link, LinkKind, LinkLocal, Located, Mac, Nic, NicState, OwnedAddress,
        Permission, Prefix,
    },
    policy::Compiled,
    ruleset::NicNumber,
};

use crate::kernel::Kernel;

mod stage;

pub use stage::flows;

/// A NIC that is in force, its number, and the interfaces that it is bound to with their bridges.
struct Active<'a> {
    nic: &'a Nic,
    number: u32,
    interfaces: Vec<(&'a Link, &'a Link)>,
}

/// Elements by set.
#[derive(Default)]
struct Expected(BTreeMap<(&'static str, String), BTreeSet<String>>);

impl Expected {
    fn add(&mut self, family: &'static str, set: &str, element: String) {
        self.0
            .entry((family, set.to_owned()))
            .or_default()
            .insert(element);
    }
}

/// The sets that say what NICs may do. (Those of groups are looked at by their rules.)
const GUARD: [&str; 15] = [
    "port_in",
    "port_out",
    "nic_mark",
    "bridge_of",
    "own_mac",
    "nic_mac",
    "bound",
    "on_link_target",
    "own_lladdr",
    "shared_lladdr",
    "passes_ipv4",
    "may_advertise",
    "may_serve_dhcpv6",
    "any_source",
    "any_link_local",
];
const STAGE: [&str; 4] = [
    "egress_policy",
    "ingress_policy",
    "nic_may_advertise",
    "nic_may_serve_dhcpv6",
];

/// Holds what the kernel would have against what may be there.
pub fn judge(compiled: &Compiled, placement: Placement, kernel: &Kernel) {
    let stage = match placement {
        Placement::Bridge => "bridge",
        Placement::BrNetfilter => "ip6",
    };
    let active = active(compiled);
    let mut expected = Expected::default();
    ports_of(compiled, &active, &mut expected);
    for one in &active {
        owned(compiled, one, stage, &mut expected);
        stage::policies(compiled, one, stage, kernel, &mut expected);
    }
    let by_length = |set: &str| set.starts_with("bound_") || set.starts_with("on_link_target_");
    let lengths = kernel
        .sets
        .keys()
        .filter(|(_, set)| by_length(set))
        .cloned();
    let fixed = GUARD.map(|set| ("bridge", set)).into_iter();
    let fixed = fixed.chain(STAGE.map(|set| (stage, set)));
    let fixed = fixed.map(|(family, set)| (family, set.to_owned()));
    for (family, set) in fixed.chain(lengths) {
        let there = kernel.elements_of(family, &set);
        let may = expected
            .0
            .remove(&(family, set.clone()))
            .unwrap_or_default();
        assert_eq!(there, may, "{family} {set}");
    }
    assert!(expected.0.is_empty());
    stage::groups(compiled, stage, kernel);
}

/// Who is in force, where it is certain that the host lets it.
fn active(compiled: &Compiled) -> Vec<Active<'_>> {
    let Compiled {
        desired,
        host,
        ruleset,
        outcomes,
    } = compiled;
    assert!(desired.nics.keys().eq(outcomes.keys()));
    let mut numbers: BTreeMap<_, _> = BTreeMap::new();
    for (NicNumber(number), rules) in &ruleset.nics {
        assert!((1..1 << 24).contains(number));
        assert!(
            numbers.insert(&rules.id, *number).is_none(),
            "{} twice",
            rules.id
        );
    }
    let mut taken = BTreeSet::new();
    let mut all = Vec::new();
    for (id, outcome) in outcomes {
        let nic = &desired.nics[id];
        let number = numbers.remove(id);
        match &outcome.state {
            NicState::Active => assert!(!outcome.bound.is_empty(), "{id} is nowhere"),
            NicState::Pending(why) | NicState::Quarantined(why) => {
                assert!(outcome.bound.is_empty() && number.is_none() && !why.contains('\n'));
                continue;
            }
        }
        let mut interfaces = Vec::new();
        for bound in &outcome.bound {
            let link = &host.links[&bound.index];
            let bridge = host
                .links
                .get(&link.master.expect("a port"))
                .expect("a bridge");
            assert_eq!((&link.name, &bridge.name), (&bound.name, &bound.bridge));
            assert!(
                managed(host, link).is_some_and(|uplink| !uplink),
                "{id}: {link:?}"
            );
            assert!(meant(nic, link, bridge), "{id} did not mean {link:?}");
            assert!(taken.insert(&link.name), "{} is two NICs'", link.name);
            interfaces.push((link, bridge));
        }
        let number = number.expect("its rules");
        all.push(Active {
            nic,
            number,
            interfaces,
        });
    }
    assert!(numbers.is_empty(), "rules for nobody: {numbers:?}");
    apart(&all);
    all
}

/// Whether a port is an uplink; nothing where its bridge is not managed, or it has none.
fn managed(host: &Located, link: &Link) -> Option<bool> {
    let bridge = host.links.get(&link.master?)?;
    let config = host
        .bridges
        .iter()
        .find(|config| config.name.matches(&bridge.name))?;
    let listed = config
        .uplinks
        .iter()
        .any(|pattern| pattern.matches(&link.name));
    let uplink = listed || config.uplinks.is_empty() && link.kind == LinkKind::Outward;
    (bridge.kind == LinkKind::Bridge).then_some(uplink)
}

fn meant(nic: &Nic, link: &Link, bridge: &Link) -> bool {
    nic.interfaces.iter().any(|selector| match selector {
        InterfaceSelector::Name(name) => *name == link.name,
        InterfaceSelector::MacOnBridge(name) => {
            *name == bridge.name && link.mac == nic.mac.tap().octets()
        }
        // These hosts are none of Xen's.
        InterfaceSelector::Xen { .. } => false,
    })
}

/// What is one NIC's is no other's on the same bridge, but for shared addresses.
fn apart(all: &[Active<'_>]) {
    for (i, one) in all.iter().enumerate() {
        for other in &all[..i] {
            let meet = one.interfaces.iter().any(|(_, bridge)| {
                other
                    .interfaces
                    .iter()
                    .any(|(_, there)| there.index == bridge.index)
            });
            if !meet {
                continue;
            }
            assert_ne!(one.nic.mac, other.nic.mac);
            for (mine, shared) in ranges(one.nic) {
                for (theirs, both) in ranges(other.nic) {
                    let apart = !mine.overlaps(&theirs) || shared && both;
                    assert!(
                        apart,
                        "{mine} of {} and {theirs} of {}",
                        one.nic.id, other.nic.id
                    );
                }
            }
        }
    }
}

fn link_locals(nic: &Nic) -> Vec<Ipv6Addr> {
    match &nic.link_local {
        Some(LinkLocal::Explicit(list)) => list.clone(),
        Some(LinkLocal::AnyUnowned) => Vec::new(),
        None if nic.on_link_prefix.is_some() => Vec::new(),
        Some(LinkLocal::Eui64) | None => vec![nic.mac.link_local()],
    }
}

fn any_link_local(nic: &Nic) -> bool {
    match &nic.link_local {
        Some(mode) => *mode == LinkLocal::AnyUnowned,
        None => nic.on_link_prefix.is_some(),
    }
}

fn addresses(nic: &Nic) -> BTreeSet<Ipv6Addr> {
    let mut all: BTreeSet<_> = nic.addresses.iter().map(|owned| owned.address).collect();
    all.extend(nic.slaac_prefix.map(|prefix| nic.mac.eui64(&prefix)));
    all.extend(link_locals(nic));
    all
}

/// All that it owns, and whether that is shared.
fn ranges(nic: &Nic) -> Vec<(Prefix, bool)> {
    let shared: BTreeSet<_> = shared(nic).collect();
    let one = |address| (Prefix::host(address), shared.contains(&address));
    let prefixes = nic.delegated_prefixes.iter().chain(&nic.on_link_prefix);
    let mut all: Vec<_> = addresses(nic).into_iter().map(one).collect();
    all.extend(prefixes.map(|prefix| (*prefix, false)));
    all
}

fn shared(nic: &Nic) -> impl Iterator<Item = Ipv6Addr> {
    let shared = |owned: &OwnedAddress| owned.shared.then_some(owned.address);
    nic.addresses.iter().filter_map(shared)
}

/// What every port of the host is.
fn ports_of(compiled: &Compiled, active: &[Active<'_>], expected: &mut Expected) {
    let Compiled { host, ruleset, .. } = compiled;
    assert_eq!(ruleset.enforced, !host.bridges.is_empty());
    let bound: BTreeSet<_> = active
        .iter()
        .flat_map(|one| one.interfaces.iter().map(|(link, _)| link.index))
        .collect();
    for link in host.links.values().filter(|_| ruleset.enforced) {
        let master = link.master.and_then(|index| host.links.get(&index));
        let in_bridge = master.is_some_and(|bridge| bridge.kind == LinkKind::Bridge);
        let guest = host
            .guest_patterns
            .iter()
            .any(|pattern| pattern.matches(&link.name));
        let (inward, outward) = match managed(host, link) {
            Some(true) => ("goto uplink", "accept"),
            Some(false) if bound.contains(&link.index) => ("goto guest", "goto to_guest"),
            // A name that looks like a guest's is closed by the skeleton itself.
            Some(false) if !guest => ("goto drop_unbound", "goto drop_unbound"),
            None if guest && in_bridge => ("accept", "accept"),
            Some(false) | None => continue,
        };
        expected.add("bridge", "port_in", format!("\"{}\" : {inward}", link.name));
        expected.add(
            "bridge",
            "port_out",
            format!("\"{}\" : {outward}", link.name),
        );
    }
}

/// What a NIC may do, and from which addresses.
fn owned(compiled: &Compiled, one: &Active<'_>, stage: &'static str, expected: &mut Expected) {
    let Active {
        nic,
        number,
        interfaces,
    } = one;
    let (sent, delivered) = (0x5e00_0000 | number, 0x5100_0000 | number);
    let mac = nic.mac;
    let digits = |mac: Mac| mac.to_string().replace(':', "");
    let may = |permission| nic.permissions.contains(&permission);
    for (link, bridge) in interfaces {
        let port = format!("\"{}\"", link.name);
        let zone = u32::from(compiled.ruleset.bridges[&bridge.name].number.0);
        let mut add = |set: &str, element: String| expected.add("bridge", set, element);
        add("nic_mark", format!("{port} : {delivered:#010x}"));
        add("bridge_of", format!("{port} : {zone:#010x}"));
        add("nic_mac", format!("{port} . {mac}"));
        add("own_mac", format!("{port} . {mac}"));
        add("own_lladdr", format!("{port} . 0x{}", digits(mac)));
        for (set, is) in [
            ("passes_ipv4", nic.passes_ipv4()),
            ("may_advertise", may(Permission::RouterAdvertisements)),
            ("may_serve_dhcpv6", may(Permission::Dhcpv6Server)),
            ("any_source", may(Permission::AnySource)),
            ("any_link_local", any_link_local(nic)),
        ] {
            if is {
                add(set, port.clone());
            }
        }
        for address in addresses(nic) {
            add(
                "bound",
                format!("{port} . {mac} . {address} : {sent:#010x}"),
            );
            add(
                "on_link_target",
                format!("{port} . 0x{:032x}", u128::from(address)),
            );
        }
        for other in &nic.virtual_macs {
            add("own_mac", format!("{port} . {other}"));
            for address in shared(nic) {
                let raw = u128::from(address);
                add(
                    "bound",
                    format!("{port} . {other} . {address} : {sent:#010x}"),
                );
                add(
                    "shared_lladdr",
                    format!("{port} . 0x{raw:032x} . 0x{}", digits(*other)),
                );
            }
        }
        for prefix in nic.delegated_prefixes.iter().chain(&nic.on_link_prefix) {
            let (first, set) = (prefix.network(), format!("bound_{}", prefix.length()));
            add(&set, format!("{port} . {mac} . {first} : {sent:#010x}"));
        }
        if let Some(prefix) = nic.on_link_prefix {
            let set = format!("on_link_target_{}", prefix.length());
            add(
                &set,
                format!("{port} . 0x{:032x}", u128::from(prefix.network())),
            );
        }
    }
    for (set, permission) in [
        ("nic_may_advertise", Permission::RouterAdvertisements),
        ("nic_may_serve_dhcpv6", Permission::Dhcpv6Server),
    ] {
        if may(permission) {
            expected.add(stage, set, format!("{sent:#010x}"));
            expected.add(stage, set, format!("{delivered:#010x}"));
        }
    }
}

/// The table of the guests' ports names all ports of managed bridges that are no uplinks.
pub fn ports(compiled: &Compiled, text: &str) {
    let host = &compiled.host;
    let quoted = text.lines().filter(|line| line.contains("devices = {"));
    let named: BTreeSet<_> = quoted
        .flat_map(|line| line.split('"').skip(1).step_by(2))
        .collect();
    let guests = host
        .links
        .values()
        .filter(|link| managed(host, link) == Some(false));
    assert_eq!(named, guests.map(|link| link.name.as_str()).collect());
}
