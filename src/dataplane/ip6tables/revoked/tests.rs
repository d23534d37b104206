use super::*;

fn flow(protocol: u8, upper: Upper) -> Flow {
    Flow {
        zone: 3,
        protocol,
        source: "2001:db8::1".parse().unwrap(),
        destination: "2001:db8::2".parse().unwrap(),
        upper,
    }
}

fn tcp(source: u16, destination: u16) -> Flow {
    flow(
        TCP,
        Upper::Ports {
            source,
            destination,
        },
    )
}

fn of(flows: &[Flow]) -> BTreeSet<Element> {
    flows.iter().flat_map(|flow| elements(3, flow)).collect()
}

/// As `ipset save` prints it.
fn printed(all: &BTreeSet<Element>) -> [String; 2] {
    let text = edits(&BTreeSet::new(), all).replace(",50:", ",esp:");
    names(3).map(|name| {
        let mine = |line: &&str| line.contains(&name);
        let head = format!("create {name} hash:ip,port,ip family inet6\n");
        let lines = text.lines().filter(mine).map(|line| format!("{line}\n"));
        head + &lines.collect::<String>()
    })
}

/// What stays of flows when those to some ports are allowed.
fn kept(flows: &[Flow], allowed: &[u16]) -> BTreeSet<Element> {
    let all = of(flows);
    let [from, to] = printed(&all);
    let names = protocols("# names\nesp\t50\tIPSEC-ESP # c\n");
    let gone = pardoned(3, parse([&from, &to], &names), |flow| match flow.upper {
        Upper::Ports { destination, .. } => allowed.contains(&destination),
        Upper::Icmpv6 { .. } | Upper::Other => allowed.contains(&0),
    });
    assert!(gone.is_subset(&all));
    all.difference(&gone).cloned().collect()
}

#[test]
fn the_elements_are_the_flow_seen_from_its_other_end() {
    assert_eq!(
        edits(&BTreeSet::new(), &of(&[tcp(40000, 443)])),
        "add sgagent_revoked_3_from 2001:db8::2,tcp:443,2001:db8::1 timeout 432000\n\
         add sgagent_revoked_3_to 2001:db8::2,tcp:40000,2001:db8::1 timeout 432000\n"
    );
    assert_eq!(
        edits(&of(&[flow(50, Upper::Other)]), &BTreeSet::new()),
        "del sgagent_revoked_3_from 2001:db8::2,50:0,2001:db8::1\n\
         del sgagent_revoked_3_to 2001:db8::2,50:0,2001:db8::1\n"
    );
    assert!(of(&[flow(ICMPV6, Upper::Icmpv6 { kind: 128, code: 0 })]).is_empty());
}

#[test]
fn what_is_allowed_again_goes_and_nothing_else() {
    let flows = [
        tcp(40000, 443),
        tcp(40001, 443),
        tcp(40001, 22),
        flow(50, Upper::Other),
    ];
    assert_eq!(kept(&flows, &[]), of(&flows));
    assert!(kept(&flows, &[0, 22, 443]).is_empty());
    assert_eq!(kept(&flows, &[22, 443]), of(&[flow(50, Upper::Other)]));
    let left = kept(&flows, &[0, 443]);
    assert!(of(&[tcp(40001, 22)]).is_subset(&left));
    assert!(left.iter().all(|element| !element.member.contains(":443,")));
}

#[test]
fn the_port_of_dhcpv6_servers_is_judged_for_itself() {
    let udp = |source, destination| {
        flow(
            UDP,
            Upper::Ports {
                source,
                destination,
            },
        )
    };
    let flows = [udp(547, 1000), udp(4000, 1000)];
    let [from, to] = printed(&of(&flows));
    let all = parse([&from, &to], &BTreeMap::new());
    let gone = pardoned(3, all, |flow| {
        flow.upper
            == Upper::Ports {
                source: 4000,
                destination: 1000,
            }
    });
    let freed: Vec<_> = gone.iter().map(|element| element.member.as_str()).collect();
    assert_eq!(freed, ["2001:db8::2,udp:4000,2001:db8::1"]);
}

#[test]
fn what_can_not_be_read_stays() {
    let text = "create s hash:ip,port,ip\nadd s 2001:db8::2,nosuch:0,2001:db8::1 timeout 9\n\
                add s 2001:db8::2 timeout 9\n";
    assert!(parse([text, text], &BTreeMap::new()).is_empty());
}
