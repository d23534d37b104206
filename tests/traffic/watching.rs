//! What is dropped and what happens, told as it happens.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use sgagent::pb;
use sgagent::pb::watch_drops_response::News as Drops;
use sgagent::pb::watch_events_response::News as Events;
use tonic::Code;

use super::counters::drops;
use crate::support::agent::Followed;
use crate::support::net::{Net, slowness};
use crate::support::packet::Wire as _;
use crate::support::plan::{Dataplane, dataplane, ip6tables, standard};
use crate::support::want::{ChangeExt as _, NicExt as _, change, nic};
use crate::support::who::{A, B, C, Machine, R, STRANGER, UNBOUND};

const SOON: Duration = Duration::from_secs(5);

fn watch(
    net: &Net,
    machine: Option<Machine>,
    reasons: &[&str],
) -> Followed<pb::WatchDropsResponse> {
    let request = pb::WatchDropsRequest {
        nic_id: machine.map_or("", |machine| machine.port).to_owned(),
        reasons: reasons.iter().map(|&reason| reason.to_owned()).collect(),
    };
    net.agent
        .follow(async |mut client| client.watch_drops(request).await)
}

/// What comes within a time.
fn next<T>(news: &Followed<T>) -> T {
    let next = news.within(SOON * slowness());
    next.expect("nothing was told in time").unwrap()
}

/// The next packet that is shown.
fn packet(news: &Followed<pb::WatchDropsResponse>) -> pb::DroppedPacket {
    loop {
        if let Some(Drops::Packet(packet)) = next(news).news {
            return *packet;
        }
    }
}

fn events(net: &Net, past: u32) -> Followed<pb::WatchEventsResponse> {
    let request = pb::WatchEventsRequest {
        past,
        ..pb::WatchEventsRequest::default()
    };
    net.agent
        .follow(async |mut client| client.watch_events(request).await)
}

fn event(
    news: &Followed<pb::WatchEventsResponse>,
    kind: pb::EventKind,
    machine: &str,
) -> pb::Event {
    loop {
        if let Some(Events::Event(event)) = next(news).news
            && event.kind() == kind
            && event.nic_id == machine
        {
            return event;
        }
    }
}

#[test]
fn dropped_packet_is_shown_with_whose_it_is_and_why() {
    let mut net = standard().start();
    let news = watch(&net, None, &[]);
    let spoofed = A.to(STRANGER).src(B.ip).udp(4000, 53);
    net.dropped(&spoofed);
    let told = packet(&news);
    assert_eq!(
        (told.nic_id.as_str(), told.reason.as_str()),
        (A.port, "spoofed-source")
    );
    assert_eq!(
        (told.row.as_str(), told.input_interface.as_str()),
        ("G13", A.port)
    );
    assert_eq!(
        (told.source, told.destination),
        (B.ip.to_string(), STRANGER.to_string())
    );
    let ports = (told.source_port, told.destination_port);
    assert_eq!((told.protocol, ports), (Some(17), (Some(4000), Some(53))));
    let frame = spoofed.frames().remove(0);
    assert_eq!(
        [told.link_header, told.payload].concat(),
        frame[..frame.len().min(14 + 128)]
    );
    let macs = [&frame[6..12], &frame[..6]].map(|mac| {
        let octets: Vec<_> = mac.iter().map(|octet| format!("{octet:02x}")).collect();
        octets.join(":")
    });
    assert_eq!([told.source_mac, told.destination_mac], macs);
}

/// The next packet that is shown for this reason. (What is flooded to a port of nobody, such as the
/// sentinels of a verdict, is shown, too.)
fn packet_for(news: &Followed<pb::WatchDropsResponse>, reason: &str) -> pb::DroppedPacket {
    loop {
        let packet = packet(news);
        if packet.reason == reason {
            return packet;
        }
    }
}

#[test]
fn every_place_where_packets_are_dropped_shows_them() {
    let mut net = standard().port(UNBOUND, "br0").start();
    let news = watch(&net, None, &[]);
    // At the device, in the guard, by a group, at a port of nobody.
    let reserved = [1, 0x80, 0xc2, 0, 0, 0];
    net.dropped(&A.to(STRANGER).eth_dst(reserved).udp(1, 2));
    // What tc drops beside ip6tables, it shows nobody.
    if dataplane() == Dataplane::Nftables {
        assert_eq!(packet_for(&news, "link-local-mac").nic_id, A.port);
    }
    net.dropped(&A.to(STRANGER).tagged(0x8100, 7).ping());
    assert_eq!(packet_for(&news, "ethertype").nic_id, A.port);
    net.blocked(&R.to(C.ip).src(STRANGER).udp(1, 9), C);
    let told = packet_for(&news, "group-ingress");
    assert_eq!(
        (told.nic_id.as_str(), told.output_interface.as_str()),
        (C.port, C.port)
    );
    let whereto = (told.destination, told.destination_port);
    assert_eq!(whereto, (C.ip.to_string(), Some(9)));
    net.dropped(&UNBOUND.to(STRANGER).ping());
    let told = loop {
        let told = packet_for(&news, "unbound");
        if told.input_interface == UNBOUND.port && !told.source.is_empty() {
            break told;
        }
    };
    assert_eq!((told.nic_id.as_str(), told.icmpv6_type), ("", Some(128)));
}

#[test]
fn flooding_guest_hides_nobody_and_the_counts_are_exact() {
    const FLOOD: u64 = 2_000;
    // Fewer than wait for a processor at most (net.core.netdev_max_backlog). Where other tests
    // flood beside this one, some are lost before any rule all the same.
    const AT_ONCE: u64 = 500;
    let mut net = standard().start();
    let news = watch(&net, None, &["spoofed-source"]);
    let flood = A.to(STRANGER).src(B.ip).udp(1, 2).frames().remove(0);
    for number in 1..=FLOOD {
        net.tap(A).send(&flood);
        if number % AT_ONCE == 0 {
            net.sentinel(A.port);
        }
    }
    net.dropped(&B.to(STRANGER).src(A.ip).udp(1, 2));
    let wanted = BTreeMap::from([A, B].map(|machine| {
        let (of_nic, _) = drops(&net, machine);
        (machine.port.to_owned(), of_nic["spoofed-source"])
    }));
    assert!(wanted[A.port] > FLOOD / 2, "{wanted:?}");
    assert_eq!(wanted[B.port], 1);
    let (mut samples, mut counted) = (BTreeMap::<String, u64>::new(), BTreeMap::new());
    let deadline = Instant::now() + SOON * slowness();
    while counted != wanted || !samples.contains_key(B.port) {
        let missing = || format!("of {wanted:?} there are {counted:?}; shown: {samples:?}");
        let left = deadline.saturating_duration_since(Instant::now());
        let told = news.within(left).unwrap_or_else(|| panic!("{}", missing()));
        match told.unwrap().news.unwrap() {
            Drops::Packet(packet) => *samples.entry(packet.nic_id).or_default() += 1,
            Drops::Counts(counts) => {
                for pb::NicDrops { nic_id, drops } in counts.nics {
                    assert_eq!(
                        (drops.len(), drops[0].reason.as_str()),
                        (1, "spoofed-source")
                    );
                    *counted.entry(nic_id).or_default() += drops[0].packets;
                }
            }
            Drops::Missed(missed) => panic!("{missed:?} were left out"),
        }
    }
    assert_eq!(samples[B.port], 1);
    // Ten at once and five a second.
    let most = 10 + 5 * (1 + (SOON * slowness()).as_secs());
    assert!((10..=most).contains(&samples[A.port]), "{samples:?}");
}

#[test]
fn who_asks_for_one_nic_is_told_of_no_other() {
    let mut net = standard().start();
    let news = watch(&net, Some(B), &[]);
    net.dropped(&A.to(STRANGER).src(B.ip).udp(1, 2));
    net.dropped(&B.to(STRANGER).src(A.ip).udp(1, 2));
    assert_eq!(packet(&news).nic_id, B.port);
    let request = pb::WatchDropsRequest {
        nic_id: "nobody".to_owned(),
        reasons: Vec::new(),
    };
    let refused = net
        .agent
        .call(async |mut client| client.watch_drops(request).await);
    assert_eq!(refused.unwrap_err().code(), Code::NotFound);
}

/// Who listens to groups of `nfnetlink_log`.
fn listeners(net: &Net) -> String {
    net.namespace
        .read("/proc/thread-self/net/netfilter/nfnetlink_log")
}

/// One process can listen to a group of `nfnetlink_log`.
#[test]
fn watching_again_works_and_many_may_watch() {
    let mut net = standard().start();
    for _ in 0..2 {
        let both = [watch(&net, None, &[]), watch(&net, None, &[])];
        net.dropped(&A.to(STRANGER).src(B.ip).udp(1, 2));
        for news in &both {
            assert_eq!(packet(news).nic_id, A.port);
        }
        assert!(!listeners(&net).is_empty());
        // The kernel builds no messages where nobody listens.
        drop(both);
        let deadline = Instant::now() + SOON * slowness();
        while !listeners(&net).is_empty() {
            assert!(Instant::now() < deadline, "{}", listeners(&net));
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

#[test]
fn what_happens_is_told() {
    let mut net = standard().port(UNBOUND, "br0").start();
    let news = events(&net, 0);
    net.apply(change().nic(nic(UNBOUND).groups(&["open"])));
    let told = event(&news, pb::EventKind::Bound, UNBOUND.port);
    assert_eq!(told.text, format!("{} on br0", UNBOUND.port));
    event(&news, pb::EventKind::Applied, "");
    net.unplug(UNBOUND);
    event(&news, pb::EventKind::Unbound, UNBOUND.port);
    let (flush, who) = match dataplane() {
        Dataplane::Nftables => ("nft flush chain bridge sgagent guard".to_owned(), "nft"),
        // Nobody tells who did it.
        Dataplane::Ip6tables => (format!("{} -t raw -F sgagent_guard", ip6tables()), ""),
    };
    net.namespace.command(&flush);
    let drifted = event(&news, pb::EventKind::Drifted, "");
    assert!(
        drifted.text.contains("guard") && drifted.text.contains(who),
        "{drifted:?}"
    );
    event(&news, pb::EventKind::Repaired, "");
    net.apply(change().remove_nic(UNBOUND));
    event(&news, pb::EventKind::Removed, UNBOUND.port);
    // Who comes late sees the past.
    let past = events(&net, 1_000);
    let started = event(&past, pb::EventKind::Started, "");
    assert_eq!(started.number, 1);
    event(&past, pb::EventKind::Bound, A.port);
    event(&past, pb::EventKind::Removed, UNBOUND.port);
}

#[test]
fn agent_that_stops_lets_go_of_those_who_watch() {
    let mut net = standard().start();
    let (drops, events) = (watch(&net, None, &[]), events(&net, 0));
    let began = Instant::now();
    net.agent.stop();
    // Calls that don't end are cut off after 5 s.
    assert!(began.elapsed() < Duration::from_secs(3) * slowness());
    let limit = SOON * slowness();
    let last = std::iter::from_fn(|| drops.within(limit)).last().unwrap();
    assert_eq!(last.unwrap_err().code(), Code::Unavailable);
    let last = std::iter::from_fn(|| events.within(limit)).last().unwrap();
    assert_eq!(last.unwrap_err().code(), Code::Unavailable);
}

#[test]
fn traffic_is_counted_from_the_instances_side() {
    let mut net = standard().start();
    let traffic = |net: &Net| {
        let request = pb::ListTrafficRequest {
            nic_id: A.port.to_owned(),
        };
        let answer = net
            .agent
            .call(async |mut client| client.list_traffic(request).await);
        let mut nics = answer.unwrap().nics;
        assert_eq!(nics.len(), 1);
        nics.remove(0)
    };
    let before = traffic(&net);
    let sent = A.to(STRANGER).udp(1, 2);
    for _ in 0..100 {
        net.tap(A).send(&sent.frames()[0]);
    }
    net.passes(&sent, R);
    let after = traffic(&net);
    let packets = after.sent_packets - before.sent_packets;
    // And the sentinels of `passes`, of either side.
    assert!((101..110).contains(&packets), "{before:?} {after:?}");
    assert!(after.received_packets - before.received_packets < 10);
    let least = 101 * sent.frames()[0].len() as u64;
    assert!(after.sent_bytes - before.sent_bytes >= least);
}
