//! Who gets in, what they may do there, and what one of them can't take from the others.

use std::time::Duration;

use sgagent::{
    access::Crowding,
    model::Limits,
    pb,
    sgctl::{
        Failure,
        client::{Client, Credentials, Target},
    },
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpStream, UnixStream},
    time::{Instant, sleep, timeout},
};
use tonic::Code;

use super::{
    fake::Mood,
    pki::{INSPECTOR, PUSHER, Pki},
    world::World,
};

const SOON: Duration = Duration::from_secs(20);

async fn connect(world: &World, credentials: &Credentials) -> Result<Client, Failure> {
    let address = format!("[::1]:{}", world.tcp.port());
    Client::connect(&Target::Address(address, credentials.clone())).await
}

/// A client of this name, and its certificate's number.
async fn named(world: &mut World, name: &str) -> (Client, u64) {
    let (credentials, number) = world.pki.client(name);
    (connect(world, &credentials).await.unwrap(), number)
}

fn code(result: Result<impl Sized, Failure>) -> Option<Code> {
    match result {
        Ok(_) => None,
        Err(Failure::Refused(status)) => Some(status.code()),
        Err(other) => panic!("{other}"),
    }
}

#[tokio::test]
async fn unix_socket_and_tcp_serve_the_same() {
    let mut world = World::owned().await;
    let (mut tcp, _) = named(&mut world, PUSHER).await;
    let over_unix = world.client.list_nics(pb::ListNicsRequest::default()).await;
    let over_unix = over_unix.unwrap().into_inner();
    assert_eq!(tcp.nics().await.unwrap().nics, over_unix.nics);
    assert_eq!(over_unix.nics.len(), 1);
}

#[tokio::test]
async fn who_inspects_changes_nothing() {
    let mut world = World::owned().await;
    let before = world.state().await;
    let (mut inspector, _) = named(&mut world, INSPECTOR).await;
    assert_eq!(inspector.nics().await.unwrap().nics.len(), 1);
    assert!(!inspector.ruleset().await.unwrap().text.is_empty());
    let change = pb::ApplyRequest {
        remove_nics: vec!["owner".to_owned()],
        ..pb::ApplyRequest::default()
    };
    let refused = inspector.apply(change.clone()).await.unwrap_err();
    let text = refused.to_string();
    assert!(
        text.contains("needs the role push") && text.contains(INSPECTOR),
        "{text}"
    );
    assert_eq!(
        code(inspector.apply(change.clone()).await),
        Some(Code::PermissionDenied)
    );
    let nothing = pb::SyncRequest {
        complete: true,
        ..pb::SyncRequest::default()
    };
    assert_eq!(
        code(inspector.sync(nothing).await),
        Some(Code::PermissionDenied)
    );
    assert_eq!(world.state().await, before);
    let (mut pusher, _) = named(&mut world, PUSHER).await;
    assert_eq!(code(pusher.apply(change).await), None);
}

#[tokio::test]
async fn who_is_not_named_may_not_even_read() {
    let mut world = World::owned().await;
    let (mut stranger, _) = named(&mut world, "other.example").await;
    let refused = stranger.nics().await.unwrap_err();
    assert!(refused.to_string().contains("other.example"), "{refused}");
    assert_eq!(code(stranger.nics().await), Some(Code::PermissionDenied));
}

#[tokio::test]
async fn only_certificates_of_the_authority_count() {
    let mut world = World::owned().await;
    // One of the right name, by an authority of its own.
    let directory = tempfile::tempdir().unwrap();
    let (forged, _) = Pki::in_directory(directory.path()).client(PUSHER);
    let forged = Credentials {
        cacert: world.pki.files.client_ca.clone(),
        ..forged
    };
    // One that the authority has signed for a server.
    let agents = Credentials {
        cacert: world.pki.files.client_ca.clone(),
        cert: world.pki.files.certificate.clone(),
        key: world.pki.files.key.clone(),
    };
    for credentials in [forged, agents] {
        let why = not_let_in(&world, &credentials).await;
        assert!(why.contains("received fatal alert"), "{why}");
    }
    let (good, _) = world.pki.client(PUSHER);
    let (other, _) = Pki::in_directory(directory.path()).client(PUSHER);
    let deceived = Credentials {
        cacert: other.cacert,
        ..good
    };
    let failure = connect(&world, &deceived).await.unwrap_err();
    let text = failure.to_string();
    assert!(text.contains("invalid peer certificate"), "{text}");
}

#[tokio::test]
async fn nothing_is_said_without_tls() {
    let world = World::owned().await;
    let mut plain = TcpStream::connect(world.tcp).await.unwrap();
    plain
        .write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
        .await
        .unwrap();
    let mut said = Vec::new();
    let _ = timeout(SOON, plain.read_to_end(&mut said)).await.unwrap();
    // An alert at most: content type 21 (RFC 8446 §5.1).
    assert!(said.is_empty() || said[0] == 21, "{said:?}");
}

/// Asks until the answer is as wanted; files are looked at every 2 s.
async fn until(mut done: impl AsyncFnMut() -> bool) {
    let late = Instant::now() + SOON;
    while !done().await {
        assert!(Instant::now() < late);
        sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_certificate_ends_its_open_connections_and_no_others() {
    let mut world = World::owned().await;
    let (mut lost, number) = named(&mut world, PUSHER).await;
    let (mut kept, _) = named(&mut world, PUSHER).await;
    let (again, revoked_too) = world.pki.client(PUSHER);
    lost.nics().await.unwrap();
    world.pki.revoke(&[number, revoked_too]);
    until(async || code(lost.nics().await) == Some(Code::Unauthenticated)).await;
    let text = lost.nics().await.unwrap_err().to_string();
    assert!(
        text.contains("revoked") || text.contains("Revoked"),
        "{text}"
    );
    kept.nics().await.unwrap();
    let why = not_let_in(&world, &again).await;
    assert!(why.contains("revoked"), "{why}");
}

/// What sgctl says, in lower case, of not coming in with these.
async fn not_let_in(world: &World, credentials: &Credentials) -> String {
    let failure = connect(world, credentials).await.unwrap_err();
    assert!(matches!(failure, Failure::Unreachable { .. }), "{failure}");
    failure.to_string().to_lowercase()
}

#[tokio::test]
async fn a_certificate_that_runs_out_ends_its_open_connections_and_opens_no_more() {
    let mut world = World::owned().await;
    let (mut lasting, _) = named(&mut world, PUSHER).await;
    let (short, _) = world.pki.client_for(PUSHER, Duration::from_secs(3));
    let mut client = connect(&world, &short).await.unwrap();
    client.nics().await.unwrap();
    sleep(Duration::from_secs(4)).await;
    let why = not_let_in(&world, &short).await;
    assert!(why.contains("expired"), "{why}");
    // The last look at it counts for a minute.
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(61)).await;
    tokio::time::resume();
    assert_eq!(code(client.nics().await), Some(Code::Unauthenticated));
    lasting.nics().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_beyond_those_of_a_connection_wait_and_hold_up_no_other() {
    let crowding = Crowding {
        requests_per_connection: 2,
        ..Crowding::default()
    };
    let world = World::with(Limits::default(), crowding).await;
    world.kernel.mood.send_replace(Mood::Hang);
    let hanging: Vec<_> = ["a", "b"]
        .into_iter()
        .map(|id| {
            let mut client = world.client.clone();
            let group = pb::Group {
                id: id.to_owned(),
                ..pb::Group::default()
            };
            let request = pb::ApplyRequest {
                groups: vec![group],
                ..pb::ApplyRequest::default()
            };
            tokio::spawn(async move { client.apply(request).await })
        })
        .collect();
    sleep(Duration::from_millis(500)).await;
    let mut same = world.client.clone();
    let third = tokio::spawn(async move { same.get_status(pb::GetStatusRequest {}).await });
    let other = Client::connect(&Target::Socket(world.socket.clone())).await;
    other.unwrap().status().await.unwrap();
    sleep(Duration::from_millis(500)).await;
    assert!(!third.is_finished());
    world.kernel.mood.send_replace(Mood::Obey);
    for call in hanging {
        call.await.unwrap().unwrap();
    }
    third.await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn changed_files_are_taken_and_broken_ones_are_not() {
    let mut world = World::owned().await;
    let (credentials, _) = world.pki.client(PUSHER);
    let mut open = connect(&world, &credentials).await.unwrap();
    // Broken: what was there before goes on.
    std::fs::write(&world.pki.files.certificate, "-----BEGIN nothing").unwrap();
    sleep(Duration::from_secs(3)).await;
    connect(&world, &credentials).await.unwrap();
    open.nics().await.unwrap();
    // Another authority for agents and clients: only who it has signed gets in.
    let directory = tempfile::tempdir().unwrap();
    let mut other = Pki::in_directory(directory.path());
    let (new, _) = other.client(PUSHER);
    let (from, to) = (&other.files, &world.pki.files);
    for (from, to) in [
        (&from.key, &to.key),
        (&from.client_ca, &to.client_ca),
        (&from.client_crls[0], &to.client_crls[0]),
        (&from.certificate, &to.certificate),
    ] {
        std::fs::copy(from, to).unwrap();
    }
    until(async || match connect(&world, &new).await {
        Ok(mut client) => client.nics().await.is_ok(),
        Err(_) => false,
    })
    .await;
    assert_eq!(code(open.nics().await), Some(Code::Unauthenticated));
}

#[tokio::test(flavor = "multi_thread")]
async fn handshakes_that_never_end_hold_up_nobody() {
    let mut world = World::owned().await;
    let mut silent = Vec::new();
    for _ in 0..100 {
        silent.push(TcpStream::connect(world.tcp).await.unwrap());
    }
    let (mut client, _) = timeout(SOON, named(&mut world, PUSHER)).await.unwrap();
    timeout(SOON, client.nics()).await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn one_client_leaves_places_to_the_others() {
    let crowding = Crowding {
        connections: 8,
        connections_per_client: 4,
        ..Crowding::default()
    };
    let mut world = World::with(Limits::default(), crowding).await;
    let (greedy, _) = world.pki.client(INSPECTOR);
    let mut held = Vec::new();
    for _ in 0..4 {
        let mut client = connect(&world, &greedy).await.unwrap();
        client.nics().await.unwrap();
        held.push(client);
    }
    let why = not_let_in(&world, &greedy).await;
    assert!(why.contains("too many"), "{why}");
    let (mut other, _) = named(&mut world, PUSHER).await;
    other.nics().await.unwrap();
    // A place that is given back is free.
    held.pop();
    until(async || match connect(&world, &greedy).await {
        Ok(mut client) => client.nics().await.is_ok(),
        Err(_) => false,
    })
    .await;
}

/// HTTP/2's preface, an empty SETTINGS frame, and the headers of a call of Sync, whose request
/// never comes (RFC 9113 §3.4, §6.2; the headers are literals without indexing, RFC 7541 §6.2.2).
fn call_without_a_request() -> Vec<u8> {
    let mut headers = Vec::new();
    for (name, value) in [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", "/sgagent.v1.SecurityGroupAgent/Sync"),
        (":authority", "localhost"),
        ("content-type", "application/grpc"),
        ("te", "trailers"),
    ] {
        headers.push(0);
        for text in [name, value] {
            headers.push(u8::try_from(text.len()).unwrap());
            headers.extend(text.as_bytes());
        }
    }
    let frame = |kind: u8, flags: u8, stream: u8, payload: &[u8]| {
        let length = u8::try_from(payload.len()).unwrap();
        let head = [0, 0, length, kind, flags, 0, 0, 0, stream];
        [&head[..], payload].concat()
    };
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    [preface, frame(4, 0, 0, &[]), frame(1, 4, 1, &headers)].concat()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_is_not_sent_is_given_up() {
    let crowding = Crowding {
        request: Duration::from_millis(300),
        ..Crowding::default()
    };
    let mut world = World::with(Limits::default(), crowding).await;
    let mut slow = UnixStream::connect(&world.socket).await.unwrap();
    slow.write_all(&call_without_a_request()).await.unwrap();
    let began = Instant::now();
    timeout(SOON, answered(&mut slow)).await.unwrap();
    assert!(began.elapsed() >= Duration::from_millis(300));
    world.apply("{groups: [{id: g}]}").await.unwrap();
}

/// Until the server has ended the call: its answer's last frame, or `RST_STREAM`.
async fn answered(stream: &mut UnixStream) {
    const HEADERS: u8 = 1;
    const RST_STREAM: u8 = 3;
    loop {
        let mut head = [0; 9];
        stream.read_exact(&mut head).await.unwrap();
        let [a, b, c, kind, flags, .., number] = head;
        let mut payload = vec![0; u32::from_be_bytes([0, a, b, c]) as usize];
        stream.read_exact(&mut payload).await.unwrap();
        let ends = (kind == HEADERS && flags & 1 == 1) || kind == RST_STREAM;
        if number == 1 && ends {
            return;
        }
    }
}
