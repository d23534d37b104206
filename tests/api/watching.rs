//! The streams of what is dropped and of what happens, and the client's views of them.

use std::{
    io::{self, Write},
    time::Duration,
};

use clap::Parser;
use sgagent::{
    dataplane::Sampled,
    pb::{self, watch_drops_response::News as Drops, watch_events_response::News as Events},
    ruleset::Reason,
    sgctl::{
        Failure,
        command::{Cli, run},
    },
};
use tokio::time::timeout;
use tonic::{Code, Streaming};

use super::{
    fake::{Mood, sample},
    world::{World, refusal},
};

const SOON: Duration = Duration::from_secs(20);

/// How long a command may print.
const LONG: Duration = Duration::from_secs(4);

async fn drops(
    world: &mut World,
    nic: &str,
    reasons: &[&str],
) -> Streaming<pb::WatchDropsResponse> {
    let request = pb::WatchDropsRequest {
        nic_id: nic.to_owned(),
        reasons: reasons.iter().map(|&reason| reason.to_owned()).collect(),
    };
    let answer = world.client.watch_drops(request).await;
    answer.unwrap().into_inner()
}

async fn next<T>(news: &mut Streaming<T>) -> T {
    let next = timeout(SOON, news.message()).await;
    next.unwrap().unwrap().unwrap()
}

#[tokio::test]
async fn samples_and_counts_of_what_is_dropped_are_told() {
    let mut world = World::owned().await;
    let mut news = drops(&mut world, "owner", &["mld", "spoofed-mac"]).await;
    world.kernel.samples.send(sample(Reason::NdRate)).unwrap();
    world.kernel.samples.send(sample(Reason::Mld)).unwrap();
    world.kernel.dropped.send_replace(10);
    let Some(Drops::Packet(packet)) = next(&mut news).await.news else {
        panic!("no packet");
    };
    assert_eq!(
        (packet.nic_id.as_str(), packet.reason.as_str()),
        ("owner", "mld")
    );
    assert_eq!((packet.source.as_str(), packet.protocol), ("::", Some(17)));
    // There is no interface of this index any more.
    assert_eq!(packet.output_interface, "");
    let Some(Drops::Counts(counts)) = next(&mut news).await.news else {
        panic!("no counts");
    };
    assert!(counts.within_ms > 0 && counts.totals.is_empty());
    assert_eq!(counts.nics.len(), 1);
    // Of the three that had been dropped before nobody is told.
    let spoofed = &counts.nics[0].drops[0];
    assert_eq!(
        (spoofed.reason.as_str(), spoofed.packets),
        ("spoofed-mac", 7)
    );
}

#[tokio::test]
async fn client_that_does_not_read_is_told_how_much_it_missed_and_holds_up_nobody() {
    const ALL: u64 = 20_000;
    let mut long = sample(Reason::Mld);
    if let Sampled::Packet(sample) = &mut long {
        sample.payload.resize(1_280, 0);
    }
    let mut world = World::owned().await;
    let mut slow = drops(&mut world, "", &[]).await;
    let mut quick = drops(&mut world, "", &[]).await;
    let mut read = 0;
    while read < ALL {
        for _ in 0..500 {
            world.kernel.samples.send(long.clone()).unwrap();
        }
        let before = read;
        while read < before + 500 {
            match next(&mut quick).await.news.unwrap() {
                Drops::Packet(_) => read += 1,
                Drops::Counts(_) => {}
                Drops::Missed(missed) => panic!("{missed:?}"),
            }
        }
    }
    let (mut told, mut missed) = (0, 0);
    while told + missed < ALL {
        match next(&mut slow).await.news.unwrap() {
            Drops::Packet(_) => told += 1,
            // There are messages of counts among those that are missed.
            Drops::Counts(_) => missed += 1,
            Drops::Missed(some) => missed += some.count.unwrap(),
        }
    }
    assert!(missed > ALL / 2, "{told} told, {missed} missed");
    let agent = world.status().await;
    assert!(agent.healthy);
}

#[tokio::test]
async fn samples_that_are_not_to_be_had_are_an_error() {
    let mut world = World::owned().await;
    world.kernel.mood.send_replace(Mood::Refuse);
    let request = pb::WatchDropsRequest::default;
    let refused = world.client.watch_drops(request()).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unavailable);
    assert!(refused.message().contains("made to refuse"), "{refused}");
    world.kernel.mood.send_replace(Mood::Obey);
    let mut news = world
        .client
        .watch_drops(request())
        .await
        .unwrap()
        .into_inner();
    world.kernel.samples.send(sample(Reason::Mld)).unwrap();
    next(&mut news).await;
}

#[tokio::test]
async fn drops_are_shown_while_a_change_hangs() {
    let mut world = World::owned().await;
    world.kernel.mood.send_replace(Mood::Hang);
    let mut client = world.client.clone();
    let request = pb::ApplyRequest {
        remove_nics: vec!["owner".to_owned()],
        ..pb::ApplyRequest::default()
    };
    let hanging = tokio::spawn(async move { client.apply(request).await });
    tokio::time::sleep(Duration::from_millis(200)).await;
    let mut news = drops(&mut world, "", &[]).await;
    world.kernel.samples.send(sample(Reason::Mld)).unwrap();
    let told = next(&mut news).await.news;
    assert!(matches!(told, Some(Drops::Packet(_))), "{told:?}");
    assert!(!hanging.is_finished());
    world.kernel.mood.send_replace(Mood::Obey);
    hanging.await.unwrap().unwrap();
}

#[tokio::test]
async fn what_is_asked_for_wrongly_is_refused_by_field() {
    let mut world = World::owned().await;
    let request = pb::WatchDropsRequest {
        nic_id: String::new(),
        reasons: vec!["mld".to_owned(), "bad-luck".to_owned()],
    };
    let (code, fields) = refusal(world.client.watch_drops(request).await);
    assert_eq!(code, Code::InvalidArgument);
    assert!(fields[0].starts_with("reasons[1]"), "{fields:?}");
    let request = pb::WatchEventsRequest {
        nic_id: "no id\n".to_owned(),
        ..pb::WatchEventsRequest::default()
    };
    let (code, fields) = refusal(world.client.watch_events(request).await);
    assert_eq!(code, Code::InvalidArgument);
    assert!(fields[0].starts_with("nic_id"), "{fields:?}");
    let request = pb::ListTrafficRequest {
        nic_id: "nobody".to_owned(),
    };
    let refused = world.client.list_traffic(request).await.unwrap_err();
    assert_eq!(refused.code(), Code::NotFound);
}

#[tokio::test]
async fn an_event_tells_why_the_agent_is_not_healthy_and_when_it_is_again() {
    let mut world = World::owned().await;
    let request = pb::WatchEventsRequest::default();
    let mut news = world
        .client
        .watch_events(request)
        .await
        .unwrap()
        .into_inner();
    world.kernel.mood.send_replace(Mood::Refuse);
    world.kernel.flush();
    let mut kinds = Vec::new();
    while kinds.last() != Some(&pb::EventKind::Healthy) {
        if let Some(Events::Event(event)) = next(&mut news).await.news {
            if event.kind() == pb::EventKind::Unhealthy {
                assert!(event.text.contains("made to refuse"), "{event:?}");
                world.kernel.mood.send_replace(Mood::Obey);
            }
            kinds.push(event.kind());
        }
    }
    assert_eq!(kinds[0], pb::EventKind::Drifted);
    assert!(kinds.contains(&pb::EventKind::Unhealthy), "{kinds:?}");
    assert!(kinds.contains(&pb::EventKind::Repaired), "{kinds:?}");
}

/// Standard output that is closed after some lines.
struct Lines {
    text: Vec<u8>,
    most: usize,
}

impl Write for Lines {
    fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
        if self.text.split(|octet| *octet == b'\n').count() > self.most {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        self.text.extend(octets);
        Ok(octets.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What a command prints up to so many lines; it ends well then.
async fn sgctl(world: &World, args: &[&str], most: usize) -> Vec<String> {
    let line = ["sgctl", "--socket", world.socket.to_str().unwrap()];
    let line = line.into_iter().chain(args.iter().copied());
    let mut out = Lines {
        text: Vec::new(),
        most,
    };
    let done = run(Cli::try_parse_from(line).unwrap(), &mut out);
    // One that follows may have nothing more to print.
    if let Ok(Err(failure)) = timeout(LONG, done).await {
        assert!(matches!(failure, Failure::Output(_)), "{failure}");
        assert_eq!(failure.exit_code(), 0);
    }
    let text = String::from_utf8(out.text).unwrap();
    text.lines().map(str::to_owned).collect()
}

#[tokio::test]
async fn an_operator_follows_drops() {
    let world = World::owned().await;
    let samples = world.kernel.samples.clone();
    // From when somebody watches.
    tokio::spawn(async move {
        loop {
            let _ = samples.send(sample(Reason::SpoofedSource));
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    });
    let lines = sgctl(&world, &["drops", "--follow"], 2).await;
    assert!(
        lines[1].contains("  owner  spoofed-source (G13)  :: > "),
        "{lines:?}"
    );
    let lines = sgctl(&world, &["--json", "drops", "-f", "owner"], 2).await;
    let json: serde_json::Value = serde_json::from_str(&lines[1]).unwrap();
    assert_eq!(json["packet"]["nicId"], "owner");
}

#[tokio::test]
async fn an_operator_sees_what_happened() {
    let world = World::owned().await;
    let lines = sgctl(&world, &["events"], 100).await;
    assert!(
        lines[0].contains("Z  started  0 NICs to restore"),
        "{lines:?}"
    );
    let bound = |line: &String| line.contains("  bound  owner  vnet0 on br0");
    assert!(lines.iter().any(bound), "{lines:?}");
    let lines = sgctl(&world, &["events", "owner", "--json"], 100).await;
    let json: serde_json::Value = serde_json::from_str(&lines[0]).unwrap();
    assert_eq!(json["event"]["kind"], "EVENT_KIND_BOUND");
    // The past first, and then it waits.
    let lines = sgctl(&world, &["events", "--follow", "owner"], 1).await;
    assert!(bound(&lines[0]), "{lines:?}");
}

#[tokio::test]
async fn an_operator_sees_who_is_busy() {
    let world = World::owned().await;
    let lines = sgctl(&world, &["top", "--once", "--interval", "1"], 100).await;
    assert!(
        lines[0].starts_with("NIC") && lines[0].ends_with("MOST FOR"),
        "{lines:?}"
    );
    assert!(lines[1].starts_with("owner"), "{lines:?}");
    let line = sgctl(&world, &["top", "--once", "--interval", "1", "--json"], 100).await;
    let json: serde_json::Value = serde_json::from_str(&line.join("\n")).unwrap();
    assert_eq!(json[0]["nicId"], "owner");
    assert!(json[0]["sentBitsPerSecond"].is_number(), "{json}");
    let line = [
        "sgctl",
        "--json",
        "--socket",
        world.socket.to_str().unwrap(),
        "top",
    ];
    let refused = run(Cli::try_parse_from(line).unwrap(), &mut Vec::new()).await;
    assert!(refused.unwrap_err().to_string().contains("--once"));
}
