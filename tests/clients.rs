//! Clients that are not ours against the API: the real grpcurl, which speaks only
//! reflection v1alpha, buf, and Python with stubs generated from the definition.
//!
//! `tests/clients/setup.sh` installs them; without them these tests fail.

#![expect(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "tests start real programs"
)]

use std::{
    path::{Path, PathBuf},
    process::Output,
    time::Duration,
};

use tokio::{process::Command, time::timeout};

#[expect(dead_code, reason = "shared with tests/api.rs, which uses all of it")]
#[path = "api/fake.rs"]
mod fake;
#[path = "api/pki.rs"]
mod pki;
#[expect(dead_code, reason = "shared with tests/api.rs, which uses all of it")]
#[path = "api/world.rs"]
mod world;

use fake::sample;
use pki::PUSHER;
use sgagent::{ruleset::Reason, sgctl::client::Credentials};
use world::{OWNER, World};

const SOON: Duration = Duration::from_secs(60);

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A program of the virtual environment.
fn tool(name: &str) -> PathBuf {
    let path = root().join("target/test-venv/bin").join(name);
    assert!(
        path.exists(),
        "{} is missing; run tests/clients/setup.sh",
        path.display()
    );
    path
}

async fn run(program: PathBuf, args: &[&str]) -> Output {
    let mut command = Command::new(program);
    command.args(args).kill_on_drop(true);
    timeout(SOON, command.output()).await.unwrap().unwrap()
}

fn text(octets: &[u8]) -> String {
    String::from_utf8_lossy(octets).into_owned()
}

/// Where to find the server, as grpcurl wants it said.
fn places(world: &mut World) -> [Vec<String>; 2] {
    let socket = world.socket.to_str().unwrap().to_owned();
    // This grpcurl takes the path for the authority, which is none (RFC 3986 §3.2).
    let unix = ["-plaintext", "-authority", "localhost", "-unix"];
    let unix = unix.map(str::to_owned).into_iter().chain([socket]);
    let [cacert, cert, key] = files(world);
    let tcp = ["-cacert", &cacert, "-cert", &cert, "-key", &key];
    let tcp = tcp.map(str::to_owned).into_iter();
    [unix.collect(), tcp.chain([world.tcp.to_string()]).collect()]
}

/// The authority, a certificate that may push, its key.
fn files(world: &mut World) -> [String; 3] {
    let (Credentials { cacert, cert, key }, _) = world.pki.client(PUSHER);
    [cacert, cert, key].map(|path| path.to_str().unwrap().to_owned())
}

/// What grpcurl says with these flags before the place and these words behind it.
async fn grpcurl(flags: &[&str], place: &[String], words: &[&str]) -> Output {
    let place = place.iter().map(String::as_str);
    let args: Vec<&str> = flags
        .iter()
        .copied()
        .chain(place)
        .chain(words.iter().copied())
        .collect();
    run(tool("grpcurl"), &args).await
}

async fn grpcurl_says(flags: &[&str], place: &[String], words: &[&str]) -> String {
    let output = grpcurl(flags, place, words).await;
    assert!(
        output.status.success(),
        "{words:?} at {place:?}: {}",
        text(&output.stderr)
    );
    text(&output.stdout)
}

#[tokio::test(flavor = "multi_thread")]
async fn grpcurl_lists_and_describes_over_both_listeners() {
    let mut world = World::start().await;
    for place in places(&mut world) {
        let services = grpcurl_says(&[], &place, &["list"]).await;
        for name in ["sgagent.v1.SecurityGroupAgent", "grpc.health.v1.Health"] {
            assert!(services.lines().any(|line| line == name), "{services}");
        }
        let methods = grpcurl_says(&[], &place, &["list", "sgagent.v1.SecurityGroupAgent"]).await;
        assert_eq!(methods.lines().count(), 16, "{methods}");
        let nic = grpcurl_says(&[], &place, &["describe", "sgagent.v1.Nic"]).await;
        assert!(
            nic.contains("repeated string delegated_prefixes = 11;"),
            "{nic}"
        );
    }
}

/// A request for each method that reads, and words of its answer.
const READS: [(&str, &str, &str); 12] = [
    ("Diagnose", r#"{"nic_id": "owner"}"#, "\"flow-table\""),
    (
        "Explain",
        r#"{"nic_id": "owner", "direction": "DIRECTION_EGRESS",
            "packet": {"protocol": "PROTOCOL_UDP", "destination": "2001:db8::9", "destination_port": 53}}"#,
        "PACKET_VERDICT_ACCEPT",
    ),
    ("GetGroup", r#"{"id": "g"}"#, "\"memberCount\": 1"),
    ("GetNic", r#"{"id": "owner"}"#, "\"sinceMs\""),
    ("GetRuleset", "{}", "a line of the ruleset"),
    ("GetStatus", "{}", "\"healthy\": true"),
    ("ListDrops", r#"{"nic_id": "owner"}"#, "spoofed-mac"),
    ("ListGroups", "{}", "\"id\": \"g\""),
    ("ListMembers", r#"{"group_id": "g"}"#, "2001:db8::1"),
    (
        "ListNics",
        r#"{"states": ["NIC_STATE_ACTIVE"]}"#,
        "\"id\": \"owner\"",
    ),
    ("ListTraffic", "{}", "\"sentPackets\""),
    (
        "WatchEvents",
        r#"{"nic_id": "owner", "past_only": true}"#,
        "EVENT_KIND_BOUND",
    ),
];

/// What changes something, and what never ends.
const NO_READS: [&str; 4] = ["AdoptBridge", "Apply", "Sync", "WatchDrops"];

/// What the API offers beyond changes, by reflection: one that is new needs a line above.
#[tokio::test(flavor = "multi_thread")]
async fn every_method_that_reads_works_with_grpcurl_over_both_listeners() {
    let mut world = World::owned().await;
    let service = "sgagent.v1.SecurityGroupAgent";
    for place in places(&mut world) {
        let methods = grpcurl_says(&[], &place, &["list", service]).await;
        let reading = methods.lines().filter_map(|line| line.rsplit_once('.'));
        let reading: Vec<_> = reading
            .map(|(_, method)| method)
            .filter(|method| !NO_READS.contains(method))
            .collect();
        assert_eq!(reading, READS.map(|(method, ..)| method));
        for (method, request, words) in READS {
            let call = format!("{service}/{method}");
            let answer = grpcurl_says(&["-d", request], &place, &[&call]).await;
            assert!(answer.contains(words), "{method}: {answer}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn grpcurl_follows_what_is_dropped_until_it_has_enough() {
    let mut world = World::owned().await;
    let samples = world.kernel.samples.clone();
    tokio::spawn(async move {
        loop {
            let _ = samples.send(sample(Reason::Mld));
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    });
    for place in places(&mut world) {
        let call = "sgagent.v1.SecurityGroupAgent/WatchDrops";
        let output = grpcurl(&["-max-time", "3"], &place, &[call]).await;
        let (said, error) = (text(&output.stdout), text(&output.stderr));
        assert!(error.contains("DeadlineExceeded"), "{error}");
        assert!(said.contains("\"reason\": \"mld\""), "{said}{error}");
    }
}

/// As grpcurl, but for the notation of JSON's blanks.
#[tokio::test(flavor = "multi_thread")]
async fn every_method_that_reads_works_with_buf_curl() {
    let world = World::owned().await;
    let socket = world.socket.to_str().unwrap();
    let home = tempfile::tempdir().unwrap();
    for (method, request, words) in READS {
        let url = format!("http://localhost/sgagent.v1.SecurityGroupAgent/{method}");
        let flags = ["curl", "--protocol", "grpc", "--http2-prior-knowledge"];
        let mut command = Command::new(tool("buf"));
        command.args(flags).args(["--unix-socket", socket]);
        command.args(["-d", request, &url]).env("HOME", home.path());
        let output = timeout(SOON, command.kill_on_drop(true).output());
        let output = output.await.unwrap().unwrap();
        let said = text(&output.stdout);
        assert!(
            output.status.success(),
            "{method}: {}",
            text(&output.stderr)
        );
        let plain = |text: &str| text.replace(' ', "");
        assert!(plain(&said).contains(&plain(words)), "{method}: {said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn grpcurl_calls_over_both_listeners() {
    let mut world = World::start().await;
    let apply = json_of(OWNER);
    for place in places(&mut world) {
        let service = "sgagent.v1.SecurityGroupAgent";
        let call = |method: &str| format!("{service}/{method}");
        let answer = grpcurl_says(&["-d", &apply], &place, &[&call("Apply")]).await;
        let answer: serde_json::Value = serde_json::from_str(&answer).unwrap();
        assert_eq!(answer["summary"]["nicsAdded"], 1);
        assert_eq!(answer["nics"][0]["state"], "NIC_STATE_ACTIVE");
        let list = grpcurl_says(&[], &place, &[&call("ListNics")]).await;
        assert!(list.contains("\"id\": \"owner\""), "{list}");
        let health = grpcurl_says(&[], &place, &["grpc.health.v1.Health/Check"]).await;
        assert!(health.contains("SERVING"), "{health}");
        let sync = "{\"groups\": [{\"id\": \"h\"}]} {\"dry_run\": false, \"complete\": true}";
        let answer = grpcurl_says(&["-d", sync], &place, &[&call("Sync")]).await;
        assert!(answer.contains("\"revision\""), "{answer}");

        let bad = "{\"nics\": [{\"mac\": \"x\"}]}";
        let refused = grpcurl(&["-d", bad], &place, &[&call("Apply")]).await;
        let said = text(&refused.stderr);
        assert!(!refused.status.success());
        for part in [
            "InvalidArgument",
            "nics[0].id: must not be empty",
            "nics[0].mac: ",
        ] {
            assert!(said.contains(part), "{said}");
        }
        // The next place starts from nothing too.
        let nothing = "{\"complete\": true}";
        grpcurl_says(&["-d", nothing], &place, &[&call("Sync")]).await;
    }
}

/// The request in JSON, without its generation, so that it can be sent twice.
fn json_of(yaml: &str) -> String {
    let mut value: serde_json::Value = serde_norway::from_str(yaml).unwrap();
    value.as_object_mut().unwrap().remove("generation");
    value.to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_python_client_generated_from_the_definition_works_over_both_listeners() {
    let stubs = tempfile::tempdir().unwrap();
    let out = stubs.path().to_str().unwrap();
    let proto = root().join("proto");
    let generated = run(
        tool("python3"),
        &[
            "-m",
            "grpc_tools.protoc",
            &format!("-I{}", proto.display()),
            &format!("--python_out={out}"),
            &format!("--grpc_python_out={out}"),
            "sgagent/v1/sgagent.proto",
        ],
    )
    .await;
    assert!(generated.status.success(), "{}", text(&generated.stderr));
    let mut world = World::start().await;
    let unix = format!("unix:{}", world.socket.display());
    let tcp = files(&mut world);
    let [cacert, cert, key] = &tcp;
    for place in [vec![&unix], vec![&world.tcp.to_string(), cacert, cert, key]] {
        let mut command = Command::new(tool("python3"));
        command
            .arg(root().join("tests/clients/client.py"))
            .args(&place);
        command
            .env("PYTHONPATH", out)
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .kill_on_drop(true);
        let output = timeout(SOON, command.output()).await.unwrap().unwrap();
        let said = text(&output.stdout);
        assert!(
            output.status.success(),
            "{place:?}: {said}{}",
            text(&output.stderr)
        );
        assert_eq!(said, "applies\nlists\nsyncs\nreads refusals\nreflects\n");
    }
}
