//! Properties of what is compiled and of the way from one ruleset to the next, over random
//! desired states; the last one asks the real kernel.
#![expect(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test, which asks the real nft"
)]

use std::{
    collections::{BTreeMap, BTreeSet},
    process::Command,
    sync::Arc,
};

use proptest::prelude::*;
use sgagent::{
    dataplane::{
        Dataplane as _,
        nft::{Nft, Parameters},
    },
    model::{
        BridgeConfig, DefaultAction, Delta, Desired, Direction, GroupRule, Icmpv6Match,
        InterfaceSelector, Interfaces, Ipv4Mode, Label, Limits, Link, LinkKind, LinkLocal, Located,
        Mac, Member, MembersDelta, Nic, NicId, OwnedAddress, Permission, PortRange, Prefix,
        Protocol, Remote, SecurityGroup,
    },
    policy::{Numbering, compile},
    ruleset::{Plan, Ruleset},
};

const NICS: u8 = 5;
const GROUPS: u8 = 4;

fn host() -> Arc<Located> {
    let link = |index: u32, name: &str, mac, master, kind| {
        let name = name.parse().unwrap();
        let multicast_snooping = false;
        (
            index,
            Link {
                index,
                name,
                mac,
                master,
                kind,
                multicast_snooping,
            },
        )
    };
    let mut links = BTreeMap::from([link(1, "br0", [2, 0, 0, 0, 0, 1], None, LinkKind::Bridge)]);
    for i in 0..NICS {
        let mac = [0xfe, 0xb2, 0, 0, 0, i];
        links.extend([link(
            10 + u32::from(i),
            &format!("vnet{i}"),
            mac,
            Some(1),
            LinkKind::Other,
        )]);
    }
    let host = Interfaces {
        links,
        bridges: vec![BridgeConfig {
            uplinks: vec!["eth*".parse().unwrap()],
            ..BridgeConfig::new("br0".parse().unwrap())
        }],
        guest_patterns: vec!["vnet*".parse().unwrap()],
        ..Interfaces::default()
    };
    Arc::new(host.into())
}

fn prefix(text: &str) -> Prefix {
    text.parse().unwrap()
}

prop_compose! {
    fn nic(i: u8)(
        by_mac in any::<bool>(), slaac in any::<bool>(), shared in any::<bool>(),
        delegated in prop::option::of(prop::sample::select(vec![48u8, 56, 60, 64, 127])),
        on_link in prop::option::of(prop::sample::select(vec![64u8, 80, 97])),
        link_local in prop::option::of(0..3u8),
        groups in prop::sample::subsequence((0..GROUPS).collect::<Vec<_>>(), 0..3),
        permissions in prop::sample::subsequence(vec![
            Permission::RouterAdvertisements, Permission::Dhcpv6Server, Permission::AnySource], 0..3),
        deny in any::<[bool; 3]>(),
    ) -> Nic {
        let mac: Mac = format!("06:b2:00:00:00:{i:02x}").parse().unwrap();
        Nic {
            id: format!("n{i}").parse().unwrap(),
            instance_id: Label::default(),
            instance_name: Label::default(),
            mac,
            interfaces: vec![if by_mac {
                InterfaceSelector::MacOnBridge("br0".parse().unwrap())
            } else {
                InterfaceSelector::Name(format!("vnet{i}").parse().unwrap())
            }],
            addresses: if shared {
                vec![OwnedAddress { address: "2001:db8::99".parse().unwrap(), shared: true }]
            } else {
                vec![]
            },
            slaac_prefix: slaac.then(|| prefix("2001:db8:1::/64")),
            link_local: link_local.map(|mode| match mode {
                0 => LinkLocal::Eui64,
                1 => LinkLocal::Explicit(vec![format!("fe80::{i}").parse().unwrap()]),
                _ => LinkLocal::AnyUnowned,
            }),
            virtual_macs: if shared { vec!["00:00:5e:00:02:01".parse().unwrap()] } else { vec![] },
            delegated_prefixes: delegated.map(|l| prefix(&format!("2001:db8:d{i}::/{l}"))).into_iter().collect(),
            on_link_prefix: on_link.map(|l| prefix(&format!("2001:db8:a{i}::/{l}"))),
            groups: groups.iter().map(|g| format!("g{g}").parse().unwrap()).collect(),
            permissions: permissions.into_iter().collect(),
            icmpv6_default: deny[0].then_some(DefaultAction::Deny),
            egress_default: deny[1].then_some(DefaultAction::Deny),
            ipv4: deny[2].then_some(Ipv4Mode::Block),
        }
    }
}

fn protocol() -> impl Strategy<Value = Protocol> {
    let ports = prop::sample::select(vec![(0, 65535), (80, 80), (1, 65535), (53, 60)])
        .prop_map(|(a, b)| PortRange::new(a, b).unwrap());
    prop_oneof![
        Just(Protocol::Any),
        ports.clone().prop_map(Protocol::Tcp),
        ports.clone().prop_map(Protocol::Udp),
        ports.prop_map(Protocol::Sctp),
        Just(Protocol::Icmpv6(Icmpv6Match::Any)),
        any::<u8>().prop_map(|t| Protocol::Icmpv6(Icmpv6Match::Type(t))),
        any::<(u8, u8)>().prop_map(|(t, c)| Protocol::Icmpv6(Icmpv6Match::TypeAndCode(t, c))),
        any::<u8>().prop_map(Protocol::Number),
    ]
}

fn remote() -> impl Strategy<Value = Remote> {
    let prefixes = [
        "::/0",
        "2001:db8::/32",
        "2001:db8:1::/48",
        "2001:db9::/32",
        "2600::/12",
    ];
    let some = prop::sample::subsequence(prefixes.to_vec(), 1..4);
    prop_oneof![
        Just(Remote::Anyone),
        some.prop_map(|list| Remote::Prefixes(list.iter().map(|p| prefix(p)).collect())),
        (0..GROUPS).prop_map(|g| Remote::Group(format!("g{g}").parse().unwrap())),
    ]
}

prop_compose! {
    fn group(i: u8)(rules in prop::collection::vec((any::<bool>(), protocol(), remote()), 0..4)) -> SecurityGroup {
        let rule = |(egress, protocol, remote)| GroupRule {
            direction: if egress { Direction::Egress } else { Direction::Ingress },
            protocol,
            remote,
            description: Label::default(),
        };
        SecurityGroup {
            id: format!("g{i}").parse().unwrap(),
            name: Label::default(),
            rules: rules.into_iter().map(rule).collect(),
        }
    }
}

prop_compose! {
    fn members(i: u8)(list in prop::collection::btree_map(0..20u16, any::<bool>(), 0..6)) -> MembersDelta {
        let member = |(n, opted): (u16, bool)| Member {
            address: format!("2001:db8:beef::{n}").parse().unwrap(),
            delegated_prefixes: if opted { vec![prefix(&format!("2001:db8:{n}:10::/60"))] } else { vec![] },
        };
        MembersDelta {
            group: format!("g{i}").parse().unwrap(),
            add: list.into_iter().map(member).collect(),
            remove: Vec::new(),
        }
    }
}

fn delta() -> impl Strategy<Value = Delta> {
    let nics = (0..NICS)
        .map(|i| prop::option::of(nic(i)))
        .collect::<Vec<_>>();
    let groups = (0..GROUPS).map(group).collect::<Vec<_>>();
    let all = (0..GROUPS).map(members).collect::<Vec<_>>();
    (nics, groups, all).prop_map(|(nics, groups, members)| Delta {
        replace: true,
        nics: nics.into_iter().flatten().collect(),
        groups,
        members,
        ..Delta::default()
    })
}

fn desired(delta: &Delta) -> Desired {
    Desired::default()
        .change(delta, &Limits::default(), &host())
        .unwrap()
}

fn nft() -> Nft {
    Nft::new("nft".into(), Parameters::default())
}

/// What the kernel would hold, from the words of a transaction: sets with their elements,
/// chains with their rules.
#[derive(Debug, Default, PartialEq, Eq)]
struct Model {
    sets: BTreeMap<String, BTreeSet<String>>,
    chains: BTreeMap<String, Vec<String>>,
}

impl Model {
    fn carry_out(&mut self, plan: &Plan) {
        for line in nft().preview(plan) {
            let words: Vec<_> = line.split(' ').collect();
            let name = words[2..5].join(" ");
            let inside = || {
                let list = line
                    .split_once("{ ")
                    .unwrap()
                    .1
                    .trim_end_matches(" }")
                    .to_owned();
                list.split(", ").map(str::to_owned).collect::<Vec<_>>()
            };
            match (words[0], words[1]) {
                ("add", "set" | "map") => {
                    assert!(self.sets.insert(name, BTreeSet::new()).is_none());
                }
                ("add", "chain") => assert!(self.chains.insert(name, Vec::new()).is_none()),
                ("flush", "chain") => self.chains.entry(name).or_default().clear(),
                ("add", "rule") => {
                    let rule = words[5..].join(" ");
                    self.chains.get_mut(&name).unwrap().push(rule);
                }
                ("add", "element") => {
                    let set = self.sets.entry(name).or_default();
                    for element in inside() {
                        assert!(set.insert(element.clone()), "{element} is there already");
                    }
                }
                ("delete", "element") => {
                    let set = self.sets.get_mut(&name).unwrap();
                    for key in inside() {
                        let found = set.iter().find(|e| {
                            **e == key || e.strip_prefix(&key).is_some_and(|r| r.starts_with(" : "))
                        });
                        let found = found.unwrap_or_else(|| unreachable!("no {key}")).clone();
                        set.remove(&found);
                    }
                }
                ("delete", "chain") => assert!(self.chains.remove(&name).is_some()),
                ("delete", "set") => assert!(self.sets.remove(&name).is_some()),
                other => unreachable!("{other:?}"),
            }
        }
        self.sets
            .retain(|name, set| !set.is_empty() || name.contains('_'));
    }
}

/// An agent that manages br0 and knows no NIC.
fn nothing(numbering: &mut Numbering) -> Arc<Ruleset> {
    compile(&Desired::default(), &host(), numbering).ruleset
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_same_again_is_no_change(delta in delta()) {
        let mut numbering = Numbering::default();
        let once = compile(&desired(&delta), &host(), &mut numbering);
        let again = compile(&desired(&delta), &host(), &mut numbering);
        prop_assert_eq!(&once, &again);
        let plan = Plan::between(&once.ruleset, &again.ruleset);
        prop_assert!(plan.is_empty());
        prop_assert!(nft().preview(&plan).is_empty());
    }

    #[test]
    fn the_order_of_a_request_does_not_matter(delta in delta(), seed in any::<u64>()) {
        let mut other = delta.clone();
        let turn = usize::try_from(seed % 5).unwrap();
        let (nics, groups) = (other.nics.len().max(1), other.groups.len().max(1));
        other.nics.rotate_left(turn.min(nics - 1));
        other.groups.rotate_left(turn.min(groups - 1));
        other.members.reverse();
        let compiled = |delta| compile(&desired(delta), &host(), &mut Numbering::default());
        prop_assert_eq!(compiled(&delta), compiled(&other));
    }

    /// Which of two lots of NICs each is of, if any; and some take what another has.
    #[test]
    fn a_step_leads_where_a_fresh_start_leads(
        first in delta(), second in delta(),
        choice in prop::collection::vec(0..4u8, usize::from(NICS)),
        thefts in prop::collection::vec((0..NICS, 0..NICS, any::<bool>()), 0..3),
        steps in 1..4usize,
    ) {
        let lots = [desired(&first), desired(&second)];
        let mut numbering = Numbering::default();
        let mut now = compile(&lots[0], &host(), &mut numbering);
        for step in 0..steps {
            let mut next = lots[0].clone();
            for (i, choice) in choice.iter().cycle().skip(step).take(usize::from(NICS)).enumerate() {
                let id: NicId = format!("n{i}").parse().unwrap();
                match (choice, lots[1].nics.get(&id)) {
                    (0, _) => drop(next.nics.remove(&id)),
                    (1, Some(other)) => drop(next.nics.insert(id, Arc::clone(other))),
                    _ => {}
                }
            }
            for (thief, victim, mac) in thefts.iter().skip(step) {
                let (thief, victim) = (next.nics.values().nth((*thief).into()), next.nics.values().nth((*victim).into()));
                if let (Some(thief), Some(victim)) = (thief, victim) {
                    let mut stolen = Nic::clone(thief);
                    stolen.addresses.clone_from(&victim.addresses);
                    if *mac {
                        stolen.interfaces.clone_from(&victim.interfaces);
                    }
                    next.nics.insert(stolen.id.clone(), Arc::new(stolen));
                }
            }
            if step == 1 {
                next.members = lots[1].members.clone();
            }
            let mut afresh = numbering.clone();
            let expected = compile(&next, &host(), &mut afresh);
            now = now.next(&next, &mut numbering);
            prop_assert_eq!(&now, &expected);
            prop_assert_eq!(&numbering, &afresh);
        }
    }

    #[test]
    fn edits_lead_where_a_fresh_load_leads(steps in prop::collection::vec(delta(), 2..4)) {
        let mut numbering = Numbering::default();
        let base = nothing(&mut numbering);
        let mut in_steps = Model::default();
        let mut now = Arc::clone(&base);
        for delta in &steps {
            let next = compile(&desired(delta), &host(), &mut numbering).ruleset;
            in_steps.carry_out(&Plan::between(&now, &next));
            now = next;
        }
        let mut at_once = Model::default();
        at_once.carry_out(&Plan::between(&base, &now));
        // Chains of the skeleton are refilled only where a step changed them.
        for model in [&mut in_steps, &mut at_once] {
            model.chains.retain(|name, _| !name.contains("prefix_"));
            model.sets.retain(|_, set| !set.is_empty());
        }
        prop_assert_eq!(in_steps, at_once);
    }

    #[test]
    fn only_own_addresses_are_bound(delta in delta()) {
        let compiled = compile(&desired(&delta), &host(), &mut Numbering::default());
        for rules in compiled.ruleset.nics.values() {
            let nic = delta.nics.iter().find(|nic| nic.id == rules.id).unwrap();
            let mut own: BTreeSet<_> = nic.addresses.iter().map(|a| a.address).collect();
            own.extend(nic.slaac_prefix.map(|p| nic.mac.eui64(&p)));
            match &nic.link_local {
                Some(LinkLocal::Explicit(list)) => own.extend(list),
                Some(LinkLocal::AnyUnowned) => {}
                None if nic.on_link_prefix.is_some() => {}
                Some(LinkLocal::Eui64) | None => own.extend([nic.mac.link_local()]),
            }
            prop_assert_eq!(&rules.on_link, &own);
            prop_assert_eq!(rules.delegated.iter().collect::<Vec<_>>(),
                nic.delegated_prefixes.iter().collect::<Vec<_>>());
        }
    }
}

/// The kernel's listing of a table without handles, which tell the order of creation.
fn listing(family: &str) -> BTreeSet<String> {
    let output = Command::new("nft")
        .args(["-s", "list", "table", family, "sgagent"])
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let text = String::from_utf8(output.stdout).unwrap();
    // The table's own brace would tell which chain is the last.
    let text = text.trim_end().trim_end_matches('}').trim_end();
    // A block for each set and chain; the order of the elements in a hash set is random.
    text.split("\n\n")
        .map(|block| {
            let mut words: Vec<_> = block.split([',', '\n']).map(str::trim).collect();
            if block.contains("elements = {") {
                for word in &mut words {
                    *word = word
                        .trim_start_matches("elements = {")
                        .trim_end_matches('}')
                        .trim();
                }
                words.sort_unstable();
            }
            words.join("\n")
        })
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_kernel_holds_the_same_after_edits_as_after_a_fresh_load(steps in prop::collection::vec(delta(), 2..4)) {
        let work = move || {
            nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let (mut numbering, mut nft) = (Numbering::default(), nft());
                let mut now = nothing(&mut numbering);
                nft.apply(&Plan::replace(&now)).await.unwrap();
                for delta in &steps {
                    let next = compile(&desired(delta), &host(), &mut numbering).ruleset;
                    nft.apply(&Plan::between(&now, &next)).await.unwrap();
                    now = next;
                }
                let edited = [listing("bridge"), listing("ip6")];
                nft.apply(&Plan::replace(&now)).await.unwrap();
                assert_eq!(edited, [listing("bridge"), listing("ip6")]);
            });
        };
        std::thread::spawn(work).join().unwrap();
    }
}
