use super::super::{
    BridgeNumber, Comparison,
    flow::tests::{A, flow, ruleset},
};
use super::*;
use crate::model::Permission;

const ONE: NicNumber = NicNumber(1);

fn with(ruleset: &Ruleset, edit: impl FnOnce(&mut NicRules)) -> Arc<Ruleset> {
    let mut ruleset = ruleset.clone();
    edit(Arc::make_mut(ruleset.nics.get_mut(&ONE).unwrap()));
    Arc::new(ruleset)
}

fn cut(from: &Arc<Ruleset>, to: &Arc<Ruleset>, gone: bool) -> Cut {
    let before = Before {
        ruleset: Arc::clone(from),
        nic: Arc::clone(&from.nics[&ONE]),
    };
    let suspect = Suspect {
        number: ONE,
        before: Some(before),
        gone,
    };
    Cut {
        to: Arc::clone(to),
        suspects: vec![suspect],
        widened: false,
    }
}

fn is_cut(cut: &Cut, flow: &Flow) -> bool {
    Selector::new(cut, false).cuts(flow)
}

fn narrows(from: &Ruleset, to: &Ruleset) -> bool {
    Comparison::new(from, to).narrows(&from.nics[&ONE], &to.nics[&ONE])
}

#[test]
fn a_flow_that_another_rule_allows_goes_on() {
    let from = Arc::new(ruleset(
        &[],
        &["in tcp:443 anyone", "in tcp 2001:db8:1::/48"],
    ));
    let to = Arc::new(ruleset(&[], &["in tcp 2001:db8:1::/48"]));
    assert!(narrows(&from, &to) && !narrows(&to, &from));
    let cut = cut(&from, &to, false);
    assert!(is_cut(&cut, &flow("tcp 2001:db8:2::1 9 2001:db8::a 443")));
    assert!(!is_cut(&cut, &flow("tcp 2001:db8:1::1 9 2001:db8::a 443")));
    assert!(
        !is_cut(&cut, &flow("tcp 2001:db8::a 9 2001:db8:2::1 443")),
        "its own"
    );
    assert!(
        !is_cut(&cut, &flow("tcp 2001:db8:2::1 9 2001:db8::b 443")),
        "another's"
    );
    let elsewhere = Flow {
        zone: 4,
        ..flow("tcp 2001:db8:2::1 9 2001:db8::a 443")
    };
    assert!(!is_cut(&cut, &elsewhere));
}

#[test]
fn all_flows_of_a_nic_that_is_gone_are_cut() {
    let from = Arc::new(ruleset(&[], &["in any anyone"]));
    let mut to = (*from).clone();
    to.nics.clear();
    let cut = cut(&from, &Arc::new(to), true);
    for text in [
        "tcp 2001:db8:2::1 9 2001:db8::a 443",
        "tcp 2001:db8::a 9 2001:db8:2::1 443",
        "icmpv6 2001:db8::a 128 2001:db8:2::1 0",
    ] {
        assert!(is_cut(&cut, &flow(text)), "{text}");
    }
}

#[test]
fn flows_with_the_host_are_judged_by_the_sender_only() {
    let from = Arc::new(ruleset(&[], &["in any anyone"]));
    let to = Arc::new(ruleset(&["rules-only"], &[]));
    let host = |text| Flow {
        zone: 0,
        ..flow(text)
    };
    let cut = cut(&from, &to, false);
    assert!(is_cut(&cut, &host("tcp 2001:db8::a 9 2001:db8:2::1 443")));
    let inward = host("tcp 2001:db8:2::1 9 2001:db8::a 443");
    assert!(!is_cut(&cut, &inward));
    assert!(
        Selector::new(&cut, true).cuts(&inward),
        "in placement bridge"
    );
}

#[test]
fn flows_of_an_address_that_is_taken_away_are_cut() {
    let from = ruleset(&[], &["in any anyone"]);
    let to = Arc::new(from.clone());
    let more = |nic: &mut NicRules| {
        nic.on_link.insert("2001:db8::b".parse().unwrap());
        nic.delegated.insert("2001:db8:c::/48".parse().unwrap());
    };
    let from = with(&from, more);
    assert!(narrows(&from, &to) && !narrows(&to, &from));
    let cut = cut(&from, &to, false);
    for (other, gone) in [(A, false), ("2001:db8::b", true), ("2001:db8:c:1::1", true)] {
        let of = |text: &str| flow(&text.replace('X', other));
        assert_eq!(
            is_cut(&cut, &of("tcp 2001:db8:2::1 9 X 443")),
            gone,
            "{other}"
        );
        assert_eq!(
            is_cut(&cut, &of("tcp X 9 2001:db8:2::1 443")),
            gone,
            "{other}"
        );
    }
}

#[test]
fn a_shared_address_of_a_nic_that_is_gone_stays_with_who_has_it_still() {
    let mut both = ruleset(&[], &["in tcp:443 anyone"]);
    Arc::make_mut(both.nics.get_mut(&ONE).unwrap())
        .shared
        .insert(A.parse().unwrap());
    let heir = Arc::clone(&both.nics[&ONE]);
    both.nics.insert(NicNumber(2), heir);
    let both = Arc::new(both);
    let mut one = (*both).clone();
    one.nics.remove(&ONE);
    let mut none = one.clone();
    none.nics.clear();
    let web = flow("tcp 2001:db8:2::1 9 2001:db8::a 443");
    assert!(!is_cut(&cut(&both, &Arc::new(one), true), &web));
    assert!(is_cut(&cut(&both, &Arc::new(none), true), &web));
}

#[test]
fn where_the_owner_is_not_sure_a_turned_verdict_cuts() {
    let any = |nic: &mut NicRules| {
        nic.any_link_local = true;
        nic.permissions.insert(Permission::AnySource);
    };
    let from = with(&ruleset(&[], &["in tcp:443 anyone"]), any);
    let to = with(&ruleset(&[], &[]), any);
    let cut = cut(&from, &to, false);
    assert!(is_cut(&cut, &flow("tcp 2001:db8:2::1 9 fe80::5 443")));
    assert!(
        !is_cut(&cut, &flow("tcp 2001:db8:2::1 9 fe80::5 22")),
        "never its own"
    );
    assert!(is_cut(
        &cut,
        &flow("tcp 2001:db8:2::1 9 2001:db8:99::5 443")
    ));
}

#[test]
fn nothing_is_known_of_before_at_the_start() {
    let to = Arc::new(ruleset(&[], &["in tcp:443 anyone"]));
    let suspect = Suspect {
        number: ONE,
        before: None,
        gone: false,
    };
    let cut = Cut {
        to,
        suspects: vec![suspect],
        widened: false,
    };
    assert!(is_cut(&cut, &flow("tcp 2001:db8:2::1 9 2001:db8::a 22")));
    assert!(!is_cut(&cut, &flow("tcp 2001:db8:2::1 9 2001:db8::a 443")));
}

#[test]
fn a_nic_that_moves_to_another_bridge_leaves_its_flows() {
    let from = Arc::new(ruleset(&[], &["in any anyone"]));
    let to = with(&from, |nic| {
        for (_, zone) in nic.interfaces.values_mut() {
            *zone = BridgeNumber(4);
        }
    });
    assert!(narrows(&from, &to));
    let cut = cut(&from, &to, false);
    assert!(is_cut(&cut, &flow("tcp 2001:db8:2::1 9 2001:db8::a 443")));
}

#[test]
fn what_only_adds_narrows_nothing() {
    let base: (&[&str], &[&str]) = (
        &["rules-only"],
        &["in tcp:80-90 2001:db8::/48", "in tcp members"],
    );
    let from = ruleset(base.0, base.1);
    let wider: [(&[&str], &[&str]); 4] = [
        (&[], base.1),
        (
            &["rules-only"],
            &[
                "in tcp members",
                "in tcp:80-90 2001:db8::/48",
                "out any anyone",
            ],
        ),
        (&["rules-only"], &["in tcp 2001:db8::/32", "in tcp members"]),
        (&["rules-only", "router"], &["in any anyone"]),
    ];
    for (words, rules) in wider {
        assert!(
            !narrows(&from, &ruleset(words, rules)),
            "{words:?} {rules:?}"
        );
    }
    let narrower: [(&[&str], &[&str]); 4] = [
        (&["rules-only", "deny-icmpv6"], base.1),
        (base.0, &["in tcp:80-90 2001:db8::/48"]),
        (base.0, &["in tcp:81-90 2001:db8::/48", "in tcp members"]),
        (base.0, &["in tcp:80-90 2001:db8::/49", "in tcp members"]),
    ];
    for (words, rules) in narrower {
        assert!(
            narrows(&from, &ruleset(words, rules)),
            "{words:?} {rules:?}"
        );
    }
    let mut fewer = from.clone();
    for members in fewer.members.values_mut() {
        Arc::make_mut(members).pop_first();
    }
    assert!(narrows(&from, &fewer) && !narrows(&fewer, &from));
}

#[test]
fn a_pardon_needs_both_ends() {
    let to = Arc::new(ruleset(&["rules-only"], &["in tcp:443 anyone"]));
    let pardon = Pardon::new(&to, false);
    assert!(pardon.allows(&flow("tcp 2001:db8:2::1 9 2001:db8::a 443")));
    assert!(!pardon.allows(&flow("tcp 2001:db8:2::1 9 2001:db8::a 22")));
    assert!(!pardon.allows(&flow("tcp 2001:db8::a 9 2001:db8:2::1 443")));
    assert!(
        !pardon.allows(&flow("tcp 2001:db8:1::1 9 2001:db8:2::1 443")),
        "nobody's"
    );
}
