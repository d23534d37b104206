//! What others do to our tables and settings is noticed, repaired and told.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use sgagent::link::{Host as _, Netlink, Setting};
use sgagent::pb;

use crate::support::net::{Net, slowness};
use crate::support::plan::{Dataplane, Placement, dataplane, ip6tables, placement, standard};
use crate::support::want::{ChangeExt as _, NicExt as _, change, group, nic, open};
use crate::support::who::{A, B, R, STRANGER, UNBOUND};

/// How soon it has to be noticed.
const SOON: Duration = Duration::from_secs(5);

/// Waits until one more drift is repaired, and returns what is told of it.
fn repaired(net: &Net, before: u64) -> pb::Drift {
    let started = Instant::now();
    loop {
        let status = net.agent_status();
        if status.drift_repairs > before {
            assert!(status.healthy);
            return status.drifts[0].clone();
        }
        let log = net.agent.log();
        assert!(
            started.elapsed() < SOON * slowness(),
            "{:?}\n{log}",
            status.drifts
        );
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// The host is as it should be: attacks are blocked, the rest passes.
fn judge(net: &mut Net) {
    net.passes(&A.to(STRANGER).udp(1, 2), R);
    net.passes(&R.to(A.ip).src(STRANGER).udp(1, 2), A);
    net.dropped(&A.to(STRANGER).src(B.ip).ping());
    net.dropped(&A.advertises());
    net.blocked(
        &R.to(crate::support::who::C.ip).src(STRANGER).udp(1, 2),
        crate::support::who::C,
    );
    net.dropped(&UNBOUND.to(STRANGER).ping());
}

/// The handle of a chain's last rule.
fn handle(net: &Net, family: &str, chain: &str) -> String {
    let listing = net
        .namespace
        .command(&format!("nft -a list chain {family} sgagent {chain}"));
    let rules = listing.lines().map(str::trim);
    let rules = rules.filter(|line| !line.starts_with("table ") && !line.starts_with("chain "));
    let mut handles = rules.filter_map(|line| line.rsplit_once("# handle "));
    handles.next_back().unwrap().1.to_owned()
}

/// What is done, and words of what is told. Where there is a handle, the test finds it.
fn tamperings() -> Vec<(String, &'static str)> {
    let bound = format!("vnet0 . 06:b2:00:00:04:79 . {}", A.ip);
    vec![
        (
            "flush table bridge sgagent".to_owned(),
            "rules deleted from",
        ),
        (
            "delete table bridge sgagent".to_owned(),
            "table bridge sgagent deleted",
        ),
        (
            "delete table netdev sgagent".to_owned(),
            "table netdev sgagent deleted",
        ),
        ("flush ruleset".to_owned(), "table bridge sgagent deleted"),
        (
            format!("delete element bridge sgagent bound {{ {bound} }}"),
            "element deleted from set bound of table bridge sgagent",
        ),
        (
            "delete element bridge sgagent port_in { vnet0 }".to_owned(),
            "element deleted from set port_in of table bridge sgagent",
        ),
        (
            "insert rule bridge sgagent guard accept".to_owned(),
            "rule added to chain guard of table bridge sgagent",
        ),
        (
            "replace rule bridge sgagent guest handle 0 accept".to_owned(),
            "rule added to chain guest of table bridge sgagent",
        ),
        (
            "delete rule bridge sgagent guard handle 0".to_owned(),
            "rule deleted from chain guard of table bridge sgagent",
        ),
        (
            "add chain bridge sgagent early { type filter hook forward priority -500; }".to_owned(),
            "chain early of table bridge sgagent added",
        ),
        (
            "delete table ip6 sgagent".to_owned(),
            "table ip6 sgagent deleted",
        ),
        match placement() {
            Placement::BrNetfilter => (
                "flush chain ip6 sgagent egress".to_owned(),
                "deleted from chain egress of table ip6 sgagent",
            ),
            Placement::Bridge => (
                "flush chain bridge sgagent egress".to_owned(),
                "deleted from chain egress of table bridge sgagent",
            ),
        },
    ]
}

/// The same without nft: commands.
fn tamperings_without_nft(net: &Net) -> Vec<(String, &'static str)> {
    let number = net.namespace.read("/sys/class/net/br0/ifindex");
    let all = [
        (
            "ip6tables-legacy -t raw -F",
            "jump from PREROUTING to sgagent_guard of table raw deleted",
        ),
        (
            "ip6tables-legacy -t mangle -F PREROUTING",
            "jump from PREROUTING to sgagent_sent of table mangle deleted",
        ),
        (
            "ip6tables-legacy -t raw -I PREROUTING -j ACCEPT",
            "jump from PREROUTING to sgagent_guard of table raw moved",
        ),
        (
            "ip6tables-legacy -t raw -I sgagent_guard -j ACCEPT",
            "chain sgagent_guard of table raw changed",
        ),
        (
            "ip6tables-legacy -t raw -R sgagent_guest 1 -j ACCEPT",
            "chain sgagent_guest of table raw changed",
        ),
        (
            "ip6tables-legacy -t raw -R sgagent_guard 2 -m mark --mark 7 -g sgagent_guest",
            "chain sgagent_guard of table raw changed",
        ),
        (
            "ip6tables-legacy -t mangle -D sgagent_sent 1",
            "chain sgagent_sent of table mangle changed",
        ),
        (
            "ip6tables-legacy -t mangle -N sgagent_early",
            "chain sgagent_early of table mangle added",
        ),
        (
            "ebtables-nft -t nat -F",
            "jump from PREROUTING to sgagent_in of ebtables' table nat deleted",
        ),
        (
            "ebtables-nft -t nat -I sgagent_in -j ACCEPT",
            "chain sgagent_in of ebtables' table nat changed",
        ),
        ("ebtables-nft -t filter -F FORWARD", "jump from FORWARD to "),
        ("nft flush ruleset", "chain sgagent_"),
        (
            "ipset create sgagent_mine hash:ip family inet6",
            "set sgagent_mine added",
        ),
        (
            "ipset add sgagent_owned_N fe80::1:2:3",
            "element added to set sgagent_owned_",
        ),
        (
            "ipset flush sgagent_owned_N",
            "element deleted from set sgagent_owned_",
        ),
    ];
    all.map(|(done, words)| (done.replace("_N", &format!("_{number}")), words))
        .into()
}

#[test]
fn whatever_is_done_to_the_tables_is_repaired_and_told() {
    let mut net = standard().port(UNBOUND, "br0").start();
    net.wait_until_closed(UNBOUND);
    judge(&mut net);
    assert_eq!(net.agent_status().drift_repairs, 0);
    let mut slowest = 0;
    let (tamperings, by) = if dataplane() == Dataplane::Ip6tables {
        (tamperings_without_nft(&net), "")
    } else {
        (tamperings(), "nft (pid ")
    };
    for (n, (done, words)) in (0..).zip(tamperings) {
        // The handles are those of the first load; after a repair they are others.
        let done = match done.split_once(" handle ") {
            Some((start, rest)) => {
                let chain = start.split(' ').nth(4).unwrap().to_owned();
                let rest = rest.split_once(' ').map_or("", |(_, rest)| rest);
                let handle = handle(&net, "bridge", &chain);
                format!("{start} handle {handle} {rest}")
            }
            None => done,
        };
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), format!("{done}\n")).unwrap();
        let with_nft = format!("nft -f {}", file.path().display());
        let command = if dataplane() == Dataplane::Ip6tables {
            &done
        } else {
            &with_nft
        };
        net.namespace.command(&named(command));
        let drift = repaired(&net, n);
        assert!(drift.what.contains(words), "{done}: {}", drift.what);
        assert!(drift.by.starts_with(by), "{}", drift.by);
        slowest = slowest.max(drift.lasted_ms.unwrap());
        judge(&mut net);
        assert_eq!(net.agent_status().drift_repairs, n + 1, "{done}");
    }
    println!("slowest repair {slowest} ms after the notice");
    assert!(net.agent.log().contains("repaired what somebody changed"));
}

#[test]
fn settings_that_somebody_changes_are_put_back_and_told() {
    let snooping = "link set br0 type bridge mcast_snooping 1\n";
    let mut net = standard().ip(snooping).start();
    let sysctl = "net/netfilter/nf_conntrack_frag6_timeout";
    let good = net.namespace.read(&format!("/proc/sys/{sysctl}"));
    std::thread::sleep(Duration::from_secs(3));
    assert_eq!(net.agent_status().drift_repairs, 0, "{}", net.agent.log());
    let mut count = 0;
    // In placement bridge it is not sgagent's.
    if placement() == Placement::BrNetfilter {
        let off = "ip link set br0 type bridge nf_call_ip6tables 0";
        net.namespace.command(off);
        let drift = repaired(&net, count);
        assert_eq!(drift.what, "nf_call_ip6tables of br0 changed from 1 to 0");
        net.passes(&A.to(STRANGER).udp(1, 2), R);
        count += 1;
    }
    net.namespace
        .command("ip link set br0 type bridge no_linklocal_learn 0");
    let drift = repaired(&net, count);
    assert_eq!(drift.what, "no_linklocal_learn of br0 changed from 1 to 0");
    count += 1;
    let limited = net.namespace.run(|| {
        // An older iproute2 has no word for it.
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        runtime.unwrap().block_on(async {
            let host = Netlink::start(Vec::new(), Vec::new(), None).await.unwrap();
            let setting = Setting::MulticastMaxGroups("vnet0".parse().unwrap());
            let there = host.get(&setting).await.unwrap().is_some();
            if there {
                host.set(&setting, 0).await.unwrap();
            }
            there
        })
    });
    if limited {
        let drift = repaired(&net, count);
        let what = drift.what;
        assert!(
            what.starts_with("mcast_max_groups of vnet0 changed from "),
            "{what}"
        );
        assert!(what.ends_with(" to 0"), "{what}");
        count += 1;
    } else {
        let limitations = net.agent_status().limitations;
        let told = |line: &String| line.contains("no limit for multicast groups");
        assert!(limitations.iter().any(told), "{limitations:?}");
    }
    net.namespace.sysctl(sysctl, "60");
    let drift = repaired(&net, count);
    let words = format!("net.netfilter.nf_conntrack_frag6_timeout changed from {good} to 60");
    assert_eq!(drift.what, words);
    assert_eq!(net.namespace.read(&format!("/proc/sys/{sysctl}")), good);
}

#[test]
fn what_the_agent_does_itself_is_no_drift() {
    let mut net = standard().start();
    for n in 0..40 {
        let machine = [A, B][n % 2];
        let name = format!("g{n}");
        net.apply(
            change()
                .group(group(&name, &open().rules))
                .nic(nic(machine).groups(&["open", &name])),
        );
    }
    for n in 0..10 {
        net.plug(UNBOUND, "br0");
        if n % 2 == 0 {
            net.apply(change().nic(nic(UNBOUND).groups(&["open"])));
        } else {
            net.wait_until_closed(UNBOUND);
            net.namespace.command("ip link set vnet3 nomaster");
            net.namespace.command("ip link set vnet3 master br0");
        }
        net.unplug(UNBOUND);
        if n % 2 == 0 {
            net.apply(change().remove_nic(UNBOUND));
        }
    }
    net.namespace.command("nft list ruleset");
    net.namespace.try_command("nft reset counters");
    net.dropped(&A.to(STRANGER).src(B.ip).ping());
    std::thread::sleep(Duration::from_millis(2500));
    let status = net.agent_status();
    assert_eq!(status.drift_repairs, 0, "{}", net.agent.log());
    assert!(status.drifts.is_empty());
}

/// Opens a guest's port for everything, on whichever dataplane.
fn tamper(net: &Net) {
    let command = match dataplane() {
        Dataplane::Nftables => "nft insert rule bridge sgagent guard accept",
        Dataplane::Ip6tables => "ip6tables-legacy -t raw -I sgagent_guard -j ACCEPT",
    };
    net.namespace.command(&named(command));
}

/// A command for the kind of ip6tables that is tested.
fn named(command: &str) -> String {
    match command.strip_prefix("ip6tables-legacy") {
        Some(rest) => ip6tables() + rest,
        None => command.to_owned(),
    }
}

#[test]
fn what_is_done_while_the_agent_is_held_is_repaired() {
    let mut net = standard().port(UNBOUND, "br0").start();
    net.wait_until_closed(UNBOUND);
    let pid = Pid::from_raw(net.agent.pid().try_into().unwrap());
    kill(pid, Signal::SIGSTOP).unwrap();
    tamper(&net);
    kill(pid, Signal::SIGCONT).unwrap();
    repaired(&net, 0);
    judge(&mut net);
}

/// Whoever asks for changes without a pause keeps no drift from being noticed.
#[test]
fn what_is_done_between_changes_one_after_the_other_is_repaired() {
    let mut net = standard().port(UNBOUND, "br0").start();
    net.wait_until_closed(UNBOUND);
    tamper(&net);
    let started = Instant::now();
    let mut changes = 0;
    while net.agent_status().drift_repairs == 0 {
        assert!(started.elapsed() < 3 * SOON * slowness());
        let name = format!("g{}", changes % 2);
        net.apply(
            change()
                .nic(nic(A).groups(&["open", &name]))
                .group(group(&name, &open().rules)),
        );
        changes += 1;
    }
    println!("repaired after {changes} changes, {:?}", started.elapsed());
    net.apply(change().nic(nic(A).groups(&["open"])));
    judge(&mut net);
}

/// How many messages the agent's socket for changes of rules has lost so far.
fn lost(net: &Net) -> u64 {
    let sockets = net.namespace.read("/proc/thread-self/net/netlink");
    let lines = sockets
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>());
    // Protocol 12 is netfilter's, group 7 that of rules: bit 6.
    let mut ours = lines.filter(|words| words[1] == "12" && words[3] == "00000040");
    ours.next().expect("the agent listens")[8].parse().unwrap()
}

/// The agent is held while others change so much that the kernel can't tell it all.
#[test]
fn what_is_lost_in_an_overrun_is_repaired_all_the_same() {
    let mut net = standard().port(UNBOUND, "br0").start();
    net.wait_until_closed(UNBOUND);
    let pid = Pid::from_raw(net.agent.pid().try_into().unwrap());
    let elements: Vec<_> = (0..60_000).map(|n| n.to_string()).collect();
    let script = tempfile::NamedTempFile::new().unwrap();
    let text = format!(
        "add table inet theirs\nadd set inet theirs s {{ type mark; }}\n\
         flush set inet theirs s\nadd element inet theirs s {{ {} }}\n",
        elements.join(", ")
    );
    std::fs::write(script.path(), text).unwrap();
    kill(pid, Signal::SIGSTOP).unwrap();
    let mut rounds = 0;
    while lost(&net) == 0 {
        rounds += 1;
        assert!(rounds < 200, "nothing is lost");
        net.namespace
            .command(&format!("nft -f {}", script.path().display()));
    }
    net.namespace
        .command("nft delete element bridge sgagent port_in { vnet0 }");
    kill(pid, Signal::SIGCONT).unwrap();
    let told = "events lost: what others did to the rules is not known; they were replaced";
    let deadline = Instant::now() + SOON * slowness();
    while !net.agent.log().contains(told) {
        assert!(Instant::now() < deadline, "{}", net.agent.log());
        std::thread::sleep(Duration::from_millis(5));
    }
    judge(&mut net);
    println!("lost after {rounds} rounds");
}

/// Ticks (10 ms) of a process on a processor.
fn ticks(pid: u32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let after = stat.rsplit_once(") ").unwrap().1;
    let field = |n: usize| after.split(' ').nth(n).unwrap().parse::<u64>().unwrap();
    field(11) + field(12)
}

/// Prints what it costs; performance is nothing for an assertion.
#[test]
fn others_who_rewrite_their_own_table_all_the_time_are_no_drift() {
    let net = standard().start();
    let pid = net.agent.pid();
    let (before, started) = (ticks(pid), Instant::now());
    let mut chains = String::new();
    for n in 0..20 {
        let _ = write!(chains, "chain c{n} {{ tcp dport {n} counter accept; }}; ");
    }
    let line = "add table inet theirs; delete table inet theirs; ";
    let line = format!("{line}table inet theirs {{ {chains} }}\n");
    let script = tempfile::NamedTempFile::new().unwrap();
    // One nft for all of them: starting it takes longer than 10 ms here.
    let text = format!(
        "for n in $(seq 400); do echo '{line}'; sleep 0.01; done | nft -i >/dev/null\n\
         nft list chain inet theirs c19 >/dev/null\n"
    );
    std::fs::write(script.path(), text).unwrap();
    net.namespace
        .command(&format!("sh -e {}", script.path().display()));
    let (spent, took) = (ticks(pid) - before, started.elapsed());
    println!("400 rewrites in {took:?} cost {spent} ticks of 10 ms");
    let status = net.agent_status();
    assert!(
        status.drifts.is_empty() && status.healthy,
        "{:?}",
        status.drifts
    );
}
