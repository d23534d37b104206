//! The daemon's commands on a host of its own: what they touch, and what they leave alone.
#![expect(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    clippy::unwrap_used,
    reason = "tests start real programs, in real time"
)]

mod daemon {
    pub(crate) mod host;
    mod log;
    mod restore;
}

use std::{
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use daemon::host::{Host, SGAGENT, nic};

/// `nobody` is a user of every host; a user namespace may have no other than its root.
#[test]
fn the_unix_socket_knows_whose_process_calls() {
    let mut host = Host::new();
    // The socket is where everybody can reach it: nothing but the agent says no.
    let nobody = [
        "setpriv",
        "--reuid=65534",
        "--regid=65534",
        "--clear-groups",
    ];
    let open = |host: &Host| {
        let (directory, socket) = (host.files.path().display(), host.socket());
        host.sh(&format!(
            "chmod 755 {directory}; chmod 666 {}",
            socket.display()
        ));
    };
    let possible = Command::new("setpriv")
        .args([&nobody[1..], &["true"]].concat())
        .status();
    if !possible.unwrap().success() {
        let map = std::fs::read_to_string("/proc/self/uid_map").unwrap();
        assert!(
            map.lines().count() == 1 && map.trim_end().ends_with(" 1"),
            "{map}"
        );
        return;
    }
    host.start(&[]);
    open(&host);
    let (done, said) = host.sgctl_by(&nobody, &["nics"]);
    assert!(!done && said.contains("PERMISSION_DENIED"), "{said}");
    assert!(said.contains("user nobody"), "{said}");
    host.stop();

    host.more = vec!["--client=user=nobody,role=inspect".to_owned()];
    host.start(&[]);
    open(&host);
    let (done, said) = host.sgctl_by(&nobody, &["nics"]);
    assert!(done, "{said}");
    let file = host.files.path().join("change.yaml");
    std::fs::write(&file, "groups: [{id: g}]").unwrap();
    let change = ["apply", file.to_str().unwrap()];
    let (done, said) = host.sgctl_by(&nobody, &change);
    assert!(!done && said.contains("needs the role push"), "{said}");
    assert!(host.sgctl(&change).0, "root may");
    host.stop();
}

#[test]
fn metrics_are_told_to_whoever_asks() {
    let mut host = Host::new();
    host.more = vec!["--metrics-listen=[::1]:9874".to_owned()];
    host.start(&["br0"]);
    assert!(host.sgctl(&["apply", &nic(host.files.path())]).0);
    let scrape = "from urllib.request import urlopen
print(urlopen(\"http://[::1]:9874/metrics\").read().decode())";
    let text = host.sh(&format!("python3 -c '{scrape}'"));
    for line in [
        "sgagent_healthy 1",
        "sgagent_nics{state=\"active\"} 1",
        "sgagent_drops_readable 1",
        "sgagent_changes_total{result=\"applied\"} 1",
        "sgagent_bridge_ports{bridge=\"br0\",state=\"uplink\"} 1",
    ] {
        assert!(text.lines().any(|l| l == line), "{line}:\n{text}");
    }
    assert!(text.contains("dataplane=\"nftables\""), "{text}");
    host.stop();
}

#[test]
fn purge_removes_exactly_what_is_ours() {
    let mut host = Host::new();
    let (settings, tables) = (host.settings(), host.tables());
    host.start(&["br0"]);
    assert!(host.sgctl(&["apply", &nic(host.files.path())]).0);
    assert_ne!(host.settings(), settings);
    let ours = "table bridge sgagent\ntable bridge theirs\ntable inet theirs\n\
                table ip6 sgagent\ntable netdev sgagent\n";
    assert_eq!(host.tables(), ours);

    let refused = host.command("purge", &["br0"]).output().unwrap();
    assert!(!refused.status.success(), "the daemon would put all back");
    assert_eq!(host.tables(), ours);

    host.stop();
    assert_eq!(host.tables(), ours, "stopping leaves the rules");
    assert!(host.command("purge", &["br0"]).status().unwrap().success());
    assert_eq!(host.tables(), tables);
    assert_eq!(host.settings(), settings);
}

/// An nft that has none of what placement `bridge` needs, whatever the kernel has.
fn nft_without(files: &Path, word: &str) -> String {
    use std::os::unix::fs::PermissionsExt as _;
    let file = files.join("nft");
    let script = format!(
        "#!/bin/sh\nif [ \"$1\" = --check ]; then\n\
         if grep -q '{word}'; then echo '/dev/stdin:4:1-9: Error: Could not process rule: \
         Protocol error' >&2; exit 1; fi; exit 0; fi\nexec nft \"$@\"\n"
    );
    std::fs::write(&file, script).unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o755)).unwrap();
    file.display().to_string()
}

#[test]
fn a_placement_that_the_kernel_refuses_is_no_start() {
    let host = Host::new();
    for (placement, word) in [("bridge", "ibrname"), ("br_netfilter", "table ip6")] {
        let nft = nft_without(host.files.path(), word);
        let mut command = Command::new("ip");
        let options = host.options(&["br0"]);
        let options = options.iter().filter(|o| !o.starts_with("--placement"));
        command
            .args(["netns", "exec", &host.name, SGAGENT, "run"])
            .args(options)
            .args([format!("--placement={placement}"), format!("--nft={nft}")]);
        let output = command.output().unwrap();
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success());
        let wanted = format!("placement {placement} is not to be had here");
        assert!(error.contains(&wanted), "{error}");
        assert!(error.contains("rule: Protocol error"), "{error}");
        assert!(!host.tables().contains("sgagent"));
    }
}

#[test]
fn a_kernel_that_shows_no_samples_of_drops_is_none_the_worse() {
    let mut host = Host::new();
    let nft = nft_without(host.files.path(), "log group");
    let agent = Command::new("ip")
        .args(["netns", "exec", &host.name, SGAGENT, "run"])
        .args(host.options(&["br0"]))
        .arg(format!("--nft={nft}"))
        .stderr(Stdio::null())
        .spawn();
    host.agent = Some(agent.unwrap());
    host.wait_until_it_answers();
    assert!(host.sgctl(&["apply", &nic(host.files.path())]).0);
    let rules = host.sh("nft list ruleset");
    assert!(rules.contains("chain charge") && !rules.contains("log group"));
    let (_, status) = host.sgctl(&["status"]);
    assert!(status.contains("can't be watched one by one"), "{status}");
    let (done, said) = host.sgctl(&["drops", "--follow"]);
    assert!(!done && said.contains("Protocol error"), "{said}");
    assert!(host.sgctl(&["drops"]).0);
    host.stop();
}

#[test]
fn the_placement_follows_what_the_kernel_says() {
    let mut host = Host::new();
    let nft = nft_without(host.files.path(), "ct state");
    let options = host.options(&["br0"]);
    let options = options.iter().filter(|o| !o.starts_with("--placement"));
    let agent = Command::new("ip")
        .args(["netns", "exec", &host.name, SGAGENT, "run"])
        .args(options)
        .args(["--placement=auto".to_owned(), format!("--nft={nft}")])
        .stderr(Stdio::null())
        .spawn();
    host.agent = Some(agent.unwrap());
    host.wait_until_it_answers();
    let (_, status) = host.sgctl(&["status"]);
    let words = status.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(words.contains("placement br_netfilter"), "{status}");
    assert!(words.contains("because placement bridge is not to be had: connection tracking"));
    assert!(host.tables().contains("table ip6 sgagent"));
    host.stop();
}

/// The store is on a file system of its own, which fills up and is emptied again.
#[test]
fn a_full_disk_is_told_and_got_over() {
    let mut host = Host::new();
    let state = host.files.path().join("state").display().to_string();
    let agent = host.options(&["br0"]).join(" ");
    let script = format!(
        "mkdir -p {state}; mount -t tmpfs -o size=6m none {state}; exec {SGAGENT} run {agent}"
    );
    let child = Command::new("ip")
        .args(["netns", "exec", &host.name, "sh", "-ec", &script])
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    // Its mounts are its own.
    let inside = format!("/proc/{}/root{state}/rest", child.id());
    host.agent = Some(child);
    host.wait_until_it_answers();
    let _ = Command::new("dd")
        .args(["if=/dev/zero", &format!("of={inside}"), "bs=64k"])
        .stderr(Stdio::null())
        .status();
    let many: Vec<_> = (0..2000)
        .map(|i| {
            let mac = format!("06:b2:00:01:{:02x}:{:02x}", i >> 8, i & 255);
            format!(
                "{{id: n{i}, mac: '{mac}', interfaces: [{{name: vnet{}}}]}}",
                i + 100
            )
        })
        .collect();
    let file = host.files.path().join("many.yaml");
    std::fs::write(&file, format!("nics: [{}]", many.join(",\n"))).unwrap();
    let file = file.display().to_string();

    let (ok, said) = host.sgctl(&["apply", &file]);
    assert!(
        !ok && said.contains("UNAVAILABLE") && said.contains("state.redb"),
        "{said}"
    );
    assert!(!host.sgctl(&["status", "--check"]).0);
    std::fs::remove_file(&inside).unwrap();
    let until = Instant::now() + Duration::from_secs(20);
    while !host.sgctl(&["status", "--check"]).0 {
        assert!(Instant::now() < until, "{}", host.sgctl(&["status"]).1);
        std::thread::sleep(Duration::from_millis(50));
    }
    let (ok, said) = host.sgctl(&["apply", &file]);
    assert!(ok, "{said}");
    host.stop();
}

/// Small hosts have no names of protocols, and nft looks names up there.
#[test]
fn no_names_of_protocols_are_needed() {
    let mut host = Host::new();
    let groups = host.files.path().join("groups.yaml");
    let text = "groups: [{id: g, rules: [
        {direction: DIRECTION_INGRESS, protocol: PROTOCOL_TCP, remote: {anyone: true}},
        {direction: DIRECTION_INGRESS, protocol: PROTOCOL_UDP, ports: {first: 1, last: 2}, remote: {anyone: true}},
        {direction: DIRECTION_INGRESS, protocol: PROTOCOL_SCTP, remote: {anyone: true}},
        {direction: DIRECTION_EGRESS, protocol: PROTOCOL_ICMPV6, remote: {anyone: true}}]}]
nics: [{id: n, mac: '06:b2:00:00:04:79', interfaces: [{name: vnet0}], group_ids: [g], icmpv6_default: DEFAULT_ACTION_DENY}]";
    std::fs::write(&groups, text).unwrap();
    let agent = host.options(&["br0"]).join(" ");
    let script = format!("mount --bind /dev/null /etc/protocols; exec {SGAGENT} run {agent}");
    let child = Command::new("ip")
        .args(["netns", "exec", &host.name, "sh", "-ec", &script])
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    host.agent = Some(child);
    host.wait_until_it_answers();
    let (done, said) = host.sgctl(&["apply", &groups.display().to_string()]);
    assert!(done && said.contains("ACTIVE"), "{said}");
    assert!(host.sgctl(&["status", "--check"]).0);
    host.stop();
}

/// A bridge that is made while the agent runs is closed from its first frame.
#[test]
fn guests_ports_are_closed_before_their_bridge_is_there() {
    let mut host = Host::new();
    host.sh("ip link del br0");
    host.start(&["br0"]);
    let rules = host.sh("nft list chain bridge sgagent guard");
    assert!(rules.contains("goto drop_unbound"), "{rules}");
    host.sh("ip link add br0 type bridge; ip link set br0 up; ip link del br0");
    assert!(host.tables().contains("table bridge sgagent"));
}

/// Hosts that save and restore their whole ruleset would lose all of it otherwise. (Not so
/// with delegated prefixes: nft 1.0.6 lists masks in concatenations without the parentheses
/// that it wants; the README says it.)
#[test]
fn what_nft_lists_can_be_loaded_again() {
    let mut host = Host::new();
    host.start(&["br0"]);
    assert!(host.sgctl(&["apply", &nic(host.files.path())]).0);
    let saved = host.files.path().join("saved.nft").display().to_string();
    host.sh(&format!(
        "nft list ruleset > {saved}; nft flush ruleset; nft -f {saved}"
    ));
    assert!(host.tables().contains("table bridge sgagent"));
}

#[test]
fn settings_of_the_unmanaged_are_never_touched() {
    let mut host = Host::new();
    let of_br9 = "ip -d link show br9 | sed 's/[0-9]*\\.[0-9][0-9]//g; s/  */ /g'
                  nft list table inet theirs; nft list table bridge theirs
                  sysctl -a 2>/dev/null | grep bridge-nf";
    let before = host.sh(of_br9);
    host.start(&["br0"]);
    assert!(host.sgctl(&["apply", &nic(host.files.path())]).0);
    assert_eq!(host.sh(of_br9), before);
}

#[test]
fn nothing_is_programmed_until_a_bridge_is_managed() {
    let mut host = Host::new();
    let (settings, tables) = (host.settings(), host.tables());
    host.start(&[]);
    let (ok, said) = host.sgctl(&["apply", &nic(host.files.path())]);
    assert!(ok, "{said}");
    assert!(host.sgctl(&["nics"]).1.contains("PENDING"));
    assert_eq!(
        (host.settings(), host.tables()),
        (settings.clone(), tables.clone())
    );
    host.stop();
    // What was acknowledged comes into force with the bridge, and goes with it.
    host.start(&["br0"]);
    assert!(host.sgctl(&["nics"]).1.contains("ACTIVE"));
    host.stop();
    host.start(&[]);
    assert_eq!((host.settings(), host.tables()), (settings, tables));
}

#[test]
fn a_bridge_with_guests_waits_for_an_operator_to_say_so() {
    let mut host = Host::new();
    let (settings, tables) = (host.settings(), host.tables());
    // As the package's configuration has it.
    host.start(&["br0,adopted=false"]);
    assert_eq!((host.settings(), host.tables()), (settings, tables.clone()));
    let (ok, said) = host.sgctl(&["status"]);
    assert!(ok && said.contains("not enforced yet"), "{said}");
    let (ok, said) = host.sgctl(&["adopt", "br0"]);
    assert!(!ok, "{said}");
    let would = "bridge br0 would be enforced; closed: vnet0\n";
    assert!(said.starts_with(would) && said.contains("--yes"), "{said}");
    assert_eq!(host.tables(), tables);
    let is = "bridge br0 is enforced; closed: vnet0\n".to_owned();
    assert_eq!(host.sgctl(&["adopt", "br0", "--yes"]), (true, is));
    assert!(host.tables().contains("table bridge sgagent"));
    let (ok, said) = host.sgctl(&["adopt", "br0"]);
    assert!(ok && said.starts_with("nothing changed"), "{said}");
    let (ok, said) = host.sgctl(&["adopt", "br7", "--yes"]);
    assert!(
        !ok && said.contains("bridge: the configuration does not name bridge br7"),
        "{said}"
    );
}

#[test]
fn a_second_daemon_on_the_same_state_is_refused() {
    let mut host = Host::new();
    host.start(&["br0"]);
    let second = host.command("run", &["br0"]).output().unwrap();
    assert!(!second.status.success());
    let error = String::from_utf8(second.stderr).unwrap();
    assert!(error.contains("is another sgagent running?"), "{error}");
}

#[test]
fn compile_prints_what_nft_takes_and_touches_nothing() {
    let host = Host::new();
    let tables = host.tables();
    let scenarios = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens");
    for name in [
        "members_with_and_without_prefixes",
        "on_link_prefix",
        "every_protocol",
    ] {
        let file = scenarios.join(format!("{name}.yaml")).display().to_string();
        let rules = host.files.path().join("rules.nft").display().to_string();
        host.sh(&format!(
            "{SGAGENT} compile {file} > {rules}; nft -c -f {rules}"
        ));
    }
    assert_eq!(host.tables(), tables);
    let wrong = host.files.path().join("wrong.yaml");
    std::fs::write(
        &wrong,
        "nics: [{id: n, mac: 'x', interfaces: [{name: vnet0}]}]\ncomplete: true",
    )
    .unwrap();
    let refused = Command::new(SGAGENT)
        .arg("compile")
        .arg(&wrong)
        .output()
        .unwrap();
    let error = String::from_utf8(refused.stderr).unwrap();
    assert!(
        !refused.status.success() && error.contains("nics[0].mac: "),
        "{error}"
    );
}
