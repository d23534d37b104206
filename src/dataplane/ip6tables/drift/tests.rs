use super::*;

fn rules(all: &[&str]) -> Vec<String> {
    all.iter().map(|rule| (*rule).to_owned()).collect()
}

const WANTED: [&str; 2] = [
    "-p icmpv6 -m set --match-set sgagent_a src -g sgagent_b",
    "-j MARK --set-xmark 0x0/0xffffffff",
];

#[test]
fn a_chain_is_what_was_programmed_and_then_what_was_listed() {
    let mut drift = Drift::default();
    let wanted = rules(&WANTED);
    let mut is = |found: &[&str]| drift.is_as_it_was((0, "sgagent"), &wanted, found);
    let good = [
        "sgagent -",
        "-p ipv6-icmp -m set --match-set sgagent_a src -g sgagent_b",
        "-j MARK --set-xmark 0x0/0xffffffff",
    ];
    let [own, first, second] = good;
    assert!(!is(&[own, first]));
    assert!(!is(&[own, "-j ACCEPT", second]));
    assert!(is(&good));
    assert!(!is(&[
        own,
        "-p tcp -m set --match-set sgagent_a src -g sgagent_b",
        second
    ]));
    assert!(is(&good));
    assert!(!is(&["sgagent DROP", first, second]));
}

/// Whatever a tool makes of a rule does not make the agent repair for ever.
#[test]
fn what_is_written_otherwise_each_time_is_no_drift() {
    let mut drift = Drift::default();
    let wanted = rules(&["-j MARK --set-mark 1"]);
    let found = ["sgagent -", "-j mark --set 1"];
    assert!(!drift.is_as_it_was((0, "sgagent"), &wanted, &found));
    assert!(drift.is_as_it_was((0, "sgagent"), &wanted, &found));
    assert!(!drift.is_as_it_was((0, "sgagent"), &wanted, &found[..1]));
}

#[test]
fn only_the_table_that_is_asked_for_is_looked_at() {
    let printed = "# of today\n*raw\n:PREROUTING ACCEPT [7:9]\n:sgagent - [0:0]\n\
                   -A PREROUTING -j sgagent\n-A sgagent -j DROP\nCOMMIT\n*nat\n:sgagent - [0:0]\n\
                   -A sgagent -j ACCEPT\nCOMMIT\n";
    let all = chains(printed, "raw");
    assert_eq!(all["sgagent"], ["sgagent -", "-j DROP"]);
    assert_eq!(all["PREROUTING"], ["PREROUTING ACCEPT", "-j sgagent"]);
}

#[test]
fn a_hook_is_the_first_rule() {
    let hook = Hook {
        from: "PREROUTING",
        to: "sgagent",
    };
    let of = |rules: &str| {
        let text = format!("*raw\n:PREROUTING ACCEPT [0:0]\n{rules}");
        misplaced(&hook, "table raw", &chains(&text, "raw"))
    };
    let (ours, other) = ("-A PREROUTING -j sgagent\n", "-A PREROUTING -j other\n");
    assert_eq!(of(&format!("{ours}{other}")), None);
    let moved = "jump from PREROUTING to sgagent of table raw moved";
    assert_eq!(of(&format!("{other}{ours}")).unwrap(), moved);
    assert_eq!(of(&format!("{ours}{other}{ours}")).unwrap(), moved);
    assert_eq!(
        of(other).unwrap(),
        "jump from PREROUTING to sgagent of table raw deleted"
    );
}

#[test]
fn elements_are_compared_in_one_spelling() {
    let wanted = "create sgagent_a hash:net family inet6\nadd sgagent_a 2001:db8::1/128\n\
                  add sgagent_a ::102:304/128\n";
    let found = "create sgagent_a hash:net family inet6 initval 0x1\nadd sgagent_a ::1.2.3.4\n\
                 add sgagent_a 2001:db8::1\nadd sgagent_a 2001:db8::2 timeout 9\n";
    let of = |found: &str| of_sets(&sets::parse(wanted), &sets::parse(found));
    assert_eq!(of(found), [""; 0]);
    let less = found.replace("add sgagent_a 2001:db8::1\n", "");
    assert_eq!(of(&less), ["element deleted from set sgagent_a"]);
    let more = format!("{found}add sgagent_a 2001:db8::3\ncreate sgagent_b hash:ip\n");
    assert_eq!(
        of(&more),
        ["element added to set sgagent_a", "set sgagent_b added"]
    );
    assert_eq!(of(""), ["set sgagent_a deleted"]);
}

#[test]
fn what_changes_by_itself_is_no_change() {
    let of = |raw: &str, sets: &str| {
        essence(&[
            raw.to_owned(),
            String::new(),
            String::new(),
            String::new(),
            sets.to_owned(),
        ])
    };
    let before = of(
        "# Mon\n:PREROUTING ACCEPT [1:2]\n-A a -j DROP",
        "create s hash:ip family inet6 hashsize 64\n",
    );
    let sets = "create s hash:ip family inet6 hashsize 128\nadd s ::2 timeout 9\n";
    assert_eq!(
        before,
        of("# Tue\n:PREROUTING ACCEPT [3:4]\n-A a -j DROP", sets)
    );
    assert_ne!(
        before,
        of("# Tue\n:PREROUTING DROP [3:4]\n-A a -j DROP", sets)
    );
    assert_ne!(
        before,
        of(
            "# Mon\n:PREROUTING ACCEPT [1:2]\n-A a -j DROP",
            &format!("{sets}add s ::3\n")
        )
    );
}
