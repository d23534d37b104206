//! The operator's client against the real server, and its exit codes.

use clap::Parser;
use sgagent::sgctl::{
    Failure,
    command::{Cli, run},
};

use super::{
    fake::{Mood, interfaces},
    pki::PUSHER,
    world::{MESSAGE_OCTETS, OWNER, World},
};

async fn sgctl(world: &World, args: &[&str]) -> Result<String, Failure> {
    let socket = world.socket.to_str().unwrap();
    let line = ["sgctl", "--socket", socket]
        .into_iter()
        .chain(args.iter().copied());
    let mut out = Vec::new();
    run(Cli::try_parse_from(line).unwrap(), &mut out).await?;
    Ok(String::from_utf8(out).unwrap())
}

fn file(text: &str) -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(&file, text).unwrap();
    file
}

#[tokio::test]
async fn an_operator_sees_what_a_management_server_pushed() {
    let world = World::start().await;
    let owner = file(OWNER);
    let path = owner.path().to_str().unwrap();
    let plan = sgctl(&world, &["plan", path]).await.unwrap();
    assert!(
        plan.starts_with("would change: 1 NIC added, 1 group added, 1 member added\n"),
        "{plan}"
    );
    let done = sgctl(&world, &["apply", path]).await.unwrap();
    let first = "1 NIC added, 1 group added, 1 member added (revision 1, generation 7)\n";
    assert!(done.starts_with(first), "{done}");
    assert!(done.contains("owner  ACTIVE  vnet0"), "{done}");

    let nics = sgctl(&world, &["nics"]).await.unwrap();
    assert!(nics.starts_with("NIC    STATE"), "{nics}");
    let nic = sgctl(&world, &["nic", "owner"]).await.unwrap();
    assert!(
        nic.contains("2001:db8:100:0:400:ff:fe00:1 (slaac: made of its MAC"),
        "{nic}"
    );
    assert!(nic.contains("group g     allows nothing"), "{nic}");
    let groups = sgctl(&world, &["groups"]).await.unwrap();
    assert!(groups.lines().count() == 2, "{groups}");
    let group = sgctl(&world, &["group", "g"]).await.unwrap();
    assert!(group.contains("allows nothing"), "{group}");
    let members = sgctl(&world, &["members", "g"]).await.unwrap();
    assert!(members.contains("2001:db8::1"), "{members}");
    let drops = sgctl(&world, &["drops", "owner"]).await.unwrap();
    assert!(drops.contains("owner  spoofed-mac  3"), "{drops}");
    let ruleset = sgctl(&world, &["ruleset"]).await.unwrap();
    assert_eq!(ruleset.lines().count(), 40_000);
    let status = sgctl(&world, &["--color", "always", "status"])
        .await
        .unwrap();
    assert!(status.contains("\x1b[32mhealthy\x1b[0m"), "{status}");
    assert!(status.contains("3 of 1000"), "{status}");
    for (states, found) in [
        (&["active"][..], true),
        (&["pending"], false),
        (&["quarantined", "active"], true),
    ] {
        let options = states.iter().flat_map(|state| ["--state", state]);
        let words: Vec<_> = std::iter::once("nics").chain(options).collect();
        let nics = sgctl(&world, &words).await.unwrap();
        assert_eq!(nics.contains("ACTIVE"), found, "{words:?}: {nics}");
    }
    let json = sgctl(&world, &["--json", "nics"]).await.unwrap();
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["nics"][0]["status"]["state"], "NIC_STATE_ACTIVE");
}

#[tokio::test]
async fn a_large_sync_is_cut_into_messages() {
    let mut world = World::owned().await;
    let count = 60_000;
    let members: Vec<_> = (1..=count)
        .map(|i| format!("{{\"address\": \"2001:db8:1234:5678:9abc:def0:1:{i:x}\"}}"))
        .collect();
    let text = format!(
        "{{\"groups\": [{{\"id\": \"h\"}}], \"members\": [{{\"group_id\": \"h\", \"members\": [{}]}}]}}",
        members.join(", ")
    );
    assert!(text.len() > MESSAGE_OCTETS);
    let sync = file(&text);
    sgctl(&world, &["sync", sync.path().to_str().unwrap()])
        .await
        .unwrap();
    assert_eq!(world.status().await.counts.unwrap().members, count);
    let listed = sgctl(&world, &["members", "h"]).await.unwrap();
    assert_eq!(listed.lines().count(), usize::try_from(count).unwrap() + 1);
}

#[tokio::test]
async fn a_sync_replaces_and_its_plan_only_says_so() {
    let world = World::owned().await;
    let small = file("groups: [{id: h}]");
    let done = sgctl(&world, &["plan", "--sync", small.path().to_str().unwrap()])
        .await
        .unwrap();
    assert!(done.contains("1 NIC removed"), "{done}");
    let done = sgctl(&world, &["sync", small.path().to_str().unwrap()])
        .await
        .unwrap();
    assert!(done.contains("(revision 2, generation 7)"), "{done}");
}

/// As libvirt's hook does, with the interface that the NIC is bound to and with another MAC's.
#[tokio::test]
async fn who_waits_is_told_what_is_missing() {
    let world = World::owned().await;
    assert_eq!(sgctl(&world, &["wait", "owner"]).await.unwrap(), "");
    let failed = sgctl(&world, &["wait", "--timeout", "0", "owner", "nobody"]).await;
    let failed = failed.unwrap_err();
    assert_eq!(failed.exit_code(), 4);
    assert_eq!(failed.to_string(), "nobody has described a NIC nobody");
    let domain = |mac: &str| {
        file(&format!(
            "<domain><devices><interface><mac address='{mac}'/><source bridge='br0'/>\
             <target dev='vnet0'/></interface></devices></domain>"
        ))
    };
    let (own, other) = (domain("06:00:00:00:00:01"), domain("06:00:00:00:00:09"));
    let of = |file: &tempfile::NamedTempFile| file.path().to_str().unwrap().to_owned();
    let done = sgctl(&world, &["wait", "--domain", &of(&own)]).await;
    assert_eq!(done.unwrap(), "");
    let refused = sgctl(&world, &["wait", "--timeout", "0", "--domain", &of(&other)]).await;
    let text = refused.unwrap_err().to_string();
    assert!(
        text.contains("NIC owner, whose MAC is 06:00:00:00:00:01"),
        "{text}"
    );
    let wrong = file("<network/>");
    let wrong = sgctl(&world, &["wait", "--domain", &of(&wrong)]).await;
    assert_eq!(wrong.unwrap_err().exit_code(), 2);
}

#[tokio::test]
async fn exit_codes_tell_who_is_at_fault() {
    let world = World::owned().await;
    let bad = file("nics: [{id: '', mac: x, interfaces: [{name: vnet1}]}]");
    let refused = sgctl(&world, &["apply", bad.path().to_str().unwrap()])
        .await
        .unwrap_err();
    assert_eq!(refused.exit_code(), 1);
    let text = refused.to_string();
    assert!(
        text.starts_with("the agent refused: INVALID_ARGUMENT\n  nics[0].id: "),
        "{text}"
    );
    assert!(text.contains("\n  nics[0].mac: "), "{text}");

    let unknown = file("nisc: []");
    let path = unknown.path().to_str().unwrap();
    let wrong = sgctl(&world, &["apply", path]).await.unwrap_err();
    assert_eq!(wrong.exit_code(), 2);
    assert!(wrong.to_string().starts_with(path), "{wrong}");
    assert_eq!(
        sgctl(&world, &["apply", "/none"])
            .await
            .unwrap_err()
            .exit_code(),
        2
    );
    assert!(Cli::try_parse_from(["sgctl", "none"]).is_err());

    let mut out = Vec::new();
    let cli = Cli::try_parse_from(["sgctl", "--socket", "/none", "nics"]).unwrap();
    let nobody = run(cli, &mut out).await.unwrap_err();
    assert_eq!(nobody.exit_code(), 3);
    assert!(
        nobody
            .to_string()
            .starts_with("cannot reach the agent at /none: "),
        "{nobody}"
    );

    sgctl(&world, &["status", "--check"]).await.unwrap();
    world.kernel.mood.send_replace(Mood::Refuse);
    let remove = file("remove_nics: [owner]");
    let refused = sgctl(&world, &["apply", remove.path().to_str().unwrap()])
        .await
        .unwrap_err();
    assert_eq!(refused.exit_code(), 1);
    assert!(refused.to_string().contains("UNAVAILABLE"), "{refused}");
    assert_eq!(
        sgctl(&world, &["status", "--check"])
            .await
            .unwrap_err()
            .exit_code(),
        4
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_program_exits_with_the_documented_codes() {
    let world = World::owned().await;
    let socket = world.socket.to_str().unwrap();
    let bad = file("remove_nics: [none]");
    let bad = bad.path().to_str().unwrap();
    for (args, code) in [
        (vec!["--socket", socket, "nics"], 0),
        (vec!["--socket", socket, "status", "--check"], 0),
        (vec!["--help"], 0),
        (vec!["--socket", socket, "apply", bad], 1),
        (vec!["--socket", socket, "nic", "none"], 1),
        (vec!["--socket", socket, "diagnose", "owner"], 0),
        (vec!["--socket", socket, "diagnose", "none"], 1),
        (vec!["nosuchcommand"], 2),
        (vec!["--socket", socket, "apply", "/none"], 2),
        (vec!["--socket", "/none", "nics"], 3),
    ] {
        let mut program = tokio::process::Command::new(env!("CARGO_BIN_EXE_sgctl"));
        let output = program.args(&args).output().await.unwrap();
        assert_eq!(output.status.code(), Some(code), "{args:?}: {output:?}");
        assert_eq!(output.stderr.is_empty(), code == 0, "{args:?}: {output:?}");
    }
    // Its interface goes.
    world.host.send_replace(interfaces(&["vnet1"]));
    let mut program = tokio::process::Command::new(env!("CARGO_BIN_EXE_sgctl"));
    let args = ["--socket", socket, "diagnose", "owner"];
    let output = program.args(args).output().await.unwrap();
    assert_eq!(output.status.code(), Some(4), "{output:?}");
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(said.contains("interface vnet0 does not exist"), "{said}");
}

#[tokio::test]
async fn an_address_is_reached_with_a_certificate() {
    let mut world = World::owned().await;
    let (credentials, _) = world.pki.client(PUSHER);
    let path = |file: &std::path::Path| file.to_str().unwrap().to_owned();
    let (cacert, cert) = (path(&credentials.cacert), path(&credentials.cert));
    let key = path(&credentials.key);
    let files = ["--cacert", &cacert, "--cert", &cert, "--key", &key];
    let nobody = sgctl(
        &world,
        &[&["--address", "[::1]:1", "nics"], &files[..]].concat(),
    )
    .await
    .unwrap_err();
    assert_eq!(nobody.exit_code(), 3);
    let address = world.tcp.to_string();
    sgctl(
        &world,
        &[&["--address", &address, "nics"], &files[..]].concat(),
    )
    .await
    .unwrap();
    let unnamed = sgctl(&world, &["--address", &address, "nics"]).await;
    assert_eq!(unnamed.unwrap_err().exit_code(), 2);
}
