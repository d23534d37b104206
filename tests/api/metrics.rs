//! What a Prometheus is told, and how it may ask.

use std::time::Duration;

use sgagent::metrics;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};
use tonic::Code;

use super::{
    fake::Mood,
    world::{OWNER, World},
};

impl World {
    /// Each of these series has its value.
    async fn tells(&self, expected: &[(&str, f64)]) {
        for (series, value) in expected {
            assert_eq!(self.metric(series).await, Some(*value), "{series}");
        }
    }

    /// The value of a series, by its name with its labels.
    async fn metric(&self, series: &str) -> Option<f64> {
        let text = self.exporter.text().await.unwrap();
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        line.map(|value| value.parse().unwrap())
    }
}

#[tokio::test]
async fn changes_are_counted_by_what_became_of_them() {
    let mut world = World::owned().await;
    world.apply(OWNER).await.unwrap();
    assert_eq!(
        world.apply("generation: 3").await.unwrap_err().code(),
        Code::FailedPrecondition
    );
    world
        .apply("groups: [{id: x, rules: [{}]}]")
        .await
        .unwrap_err();
    world
        .apply("{dry_run: true, remove_nics: [owner]}")
        .await
        .unwrap();
    let expected = [
        ("sgagent_changes_total{result=\"applied\"}", 1.0),
        ("sgagent_changes_total{result=\"unchanged\"}", 1.0),
        ("sgagent_changes_total{result=\"stale\"}", 1.0),
        ("sgagent_changes_total{result=\"invalid\"}", 1.0),
        ("sgagent_changes_total{result=\"unavailable\"}", 0.0),
        ("sgagent_change_duration_seconds_count", 1.0),
        (
            "sgagent_change_phase_duration_seconds_count{phase=\"wait\"}",
            3.0,
        ),
        (
            "sgagent_change_phase_duration_seconds_count{phase=\"kernel\"}",
            1.0,
        ),
        (
            "sgagent_change_phase_duration_seconds_count{phase=\"disk\"}",
            1.0,
        ),
        (
            "sgagent_change_phase_duration_seconds_count{phase=\"flows\"}",
            1.0,
        ),
    ];
    world.tells(&expected).await;
}

#[tokio::test]
async fn failures_are_counted_by_kind() {
    let mut world = World::owned().await;
    let failures = async |world: &World, kind: &str| {
        let series = format!("sgagent_failures_total{{kind=\"{kind}\"}}");
        world.metric(&series).await.unwrap()
    };
    for kind in ["kernel", "disk", "flows"] {
        assert!(failures(&world, kind).await < 1.0);
    }
    world.full.send_replace(true);
    world.apply("remove_nics: [owner]").await.unwrap_err();
    assert!(failures(&world, "disk").await >= 1.0);
    assert!(failures(&world, "kernel").await < 1.0);
    assert_eq!(world.metric("sgagent_healthy").await, Some(0.0));
    world.full.send_replace(false);
    world.kernel.mood.send_replace(Mood::Refuse);
    world.apply("remove_nics: [owner]").await.unwrap_err();
    assert!(failures(&world, "kernel").await >= 1.0);
    let series = "sgagent_changes_total{result=\"unavailable\"}";
    assert_eq!(world.metric(series).await, Some(2.0));
}

#[tokio::test]
async fn state_is_told_as_it_is() {
    let mut world = World::owned().await;
    world
        .apply("nics: [{id: other, mac: '06:00:00:00:00:09', interfaces: [{name: vnet9}], group_ids: [g]}]")
        .await
        .unwrap();
    let expected = [
        ("sgagent_healthy", 1.0),
        ("sgagent_generation", 7.0),
        ("sgagent_groups", 1.0),
        ("sgagent_nics{state=\"active\"}", 1.0),
        ("sgagent_nics{state=\"pending\"}", 1.0),
        ("sgagent_nics{state=\"quarantined\"}", 0.0),
        ("sgagent_bridge_ports{bridge=\"br0\",state=\"bound\"}", 1.0),
        ("sgagent_drift_repairs_total", 0.0),
        ("sgagent_drops_readable", 1.0),
        ("sgagent_dropped_packets_total{reason=\"spoofed-mac\"}", 3.0),
        (
            "sgagent_nic_dropped_bytes_total{nic=\"owner\",reason=\"spoofed-mac\"}",
            180.0,
        ),
    ];
    world.tells(&expected).await;
    let text = world.exporter.text().await.unwrap();
    assert!(text.contains("placement=\"br_netfilter\""), "{text}");
    assert!(text.contains("process_start_time_seconds "), "{text}");
}

#[tokio::test]
async fn counters_that_cannot_be_read_are_left_out_and_the_rest_is_told() {
    let world = World::owned().await;
    world.kernel.mood.send_replace(Mood::Refuse);
    assert_eq!(world.metric("sgagent_drops_readable").await, Some(0.0));
    let text = world.exporter.text().await.unwrap();
    assert!(!text.contains("dropped_packets"), "{text}");
    assert_eq!(
        world.metric("sgagent_nics{state=\"active\"}").await,
        Some(1.0)
    );
}

/// A change does not wait for a scrape: what reads the kernel hangs, and changes go on.
#[tokio::test]
async fn a_scrape_holds_up_no_change() {
    let mut world = World::owned().await;
    world.kernel.slow_reads.send_replace(true);
    let exporter = world.exporter.clone();
    let scrape = tokio::spawn(async move { exporter.text().await.unwrap() });
    tokio::task::yield_now().await;
    world.apply("remove_nics: [owner]").await.unwrap();
    assert!(!scrape.is_finished());
    world.kernel.slow_reads.send_replace(false);
    assert!(scrape.await.unwrap().contains("sgagent_drops_readable 1"));
}

/// A listener for scrapes.
struct Scraped {
    address: std::net::SocketAddr,
    served: JoinHandle<()>,
}

impl Scraped {
    async fn of(world: &World) -> Self {
        let listener = TcpListener::bind("[::1]:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let served = tokio::spawn(metrics::serve(listener, world.exporter.clone()));
        Self { address, served }
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    /// What is answered to a request line.
    async fn ask(&self, line: &str) -> String {
        let mut stream = self.connect().await;
        let request = format!("{line} HTTP/1.1\r\nHost: x\r\n\r\n");
        // Who is sent away may be so before it has written.
        let _ = stream.write_all(request.as_bytes()).await;
        let mut answer = String::new();
        let _ = stream.read_to_string(&mut answer).await;
        answer
    }
}

impl Drop for Scraped {
    fn drop(&mut self) {
        self.served.abort();
    }
}

#[tokio::test]
async fn there_is_one_page_and_it_can_only_be_read() {
    let world = World::owned().await;
    let scraped = Scraped::of(&world).await;
    let page = scraped.ask("GET /metrics").await;
    assert!(page.starts_with("HTTP/1.1 200"), "{page}");
    assert!(
        page.contains("content-type: text/plain; version=0.0.4"),
        "{page}"
    );
    assert!(page.contains("\nsgagent_healthy 1\n"), "{page}");
    let head = scraped.ask("HEAD /metrics").await;
    assert!(
        head.starts_with("HTTP/1.1 200") && !head.contains("healthy"),
        "{head}"
    );
    for (line, status) in [
        ("GET /", "404"),
        ("GET /metrics/x", "404"),
        ("POST /metrics", "405"),
        ("DELETE /metrics", "405"),
        ("nonsense", "400"),
    ] {
        let answer = scraped.ask(line).await;
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status}")),
            "{line}: {answer}"
        );
    }
}

#[tokio::test]
async fn who_sends_nothing_takes_a_place_for_seconds_only() {
    let world = World::owned().await;
    let scraped = Scraped::of(&world).await;
    let mut idle = Vec::new();
    for _ in 0..4 {
        idle.push(scraped.connect().await);
    }
    // Each is accepted in its turn.
    assert_eq!(
        scraped.ask("GET /metrics").await,
        "",
        "there is no place for a fifth"
    );
    let patience = tokio::time::timeout(Duration::from_secs(20), async {
        while !scraped
            .ask("GET /metrics")
            .await
            .starts_with("HTTP/1.1 200")
        {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    });
    patience.await.unwrap();
}
