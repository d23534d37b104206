//! The interfaces are known and followed.

use std::{process::Command, sync::Arc, time::Duration};

use sgagent::{
    link::{Host as _, Netlink},
    model::{Interfaces, Link, LinkKind},
};
use tokio::{sync::watch::Receiver, time::timeout};

use crate::{in_namespace, ip, ip_batch, name, start};

fn find(interfaces: &Interfaces, text: &str) -> Option<Link> {
    interfaces.by_name(&name(text)).cloned()
}

/// Waits until the snapshot is as expected.
async fn until(
    interfaces: &mut Receiver<Arc<Interfaces>>,
    what: &str,
    expected: impl Fn(&Interfaces) -> bool,
) -> Arc<Interfaces> {
    let waited = timeout(
        Duration::from_secs(10),
        interfaces.wait_for(|now| expected(now)),
    )
    .await
    .map(|now| now.unwrap().clone());
    assert!(
        waited.is_ok(),
        "not seen: {what}; {:#?}",
        interfaces.borrow().links
    );
    waited.unwrap()
}

async fn until_present(interfaces: &mut Receiver<Arc<Interfaces>>, text: &str) -> Link {
    let now = until(interfaces, text, |now| find(now, text).is_some()).await;
    find(&now, text).unwrap()
}

async fn until_absent(interfaces: &mut Receiver<Arc<Interfaces>>, text: &str) {
    until(interfaces, &format!("no {text}"), |now| {
        find(now, text).is_none()
    })
    .await;
}

async fn until_master(interfaces: &mut Receiver<Arc<Interfaces>>, port: &str, bridge: &str) {
    let what = format!("{port} in {bridge}");
    until(interfaces, &what, |now| {
        let port = find(now, port).unwrap();
        now.bridge_of(&port)
            .is_some_and(|found| found.name.as_str() == bridge)
    })
    .await;
}

/// What `ip` says, to compare a snapshot with: index and name of each.
fn truth() -> Vec<(u32, String)> {
    let output = Command::new("ip").args(["-o", "link"]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let mut links: Vec<(u32, String)> = text
        .lines()
        .map(|line| {
            let mut parts = line.splitn(3, ": ");
            let index = parts.next().unwrap().parse().unwrap();
            let name = parts.next().unwrap().split('@').next().unwrap();
            (index, name.to_owned())
        })
        .collect();
    // Older kernels (6.1) dump in the order of a hash.
    links.sort();
    links
}

fn names(interfaces: &Interfaces) -> Vec<(u32, String)> {
    interfaces
        .links
        .values()
        .map(|link| (link.index, link.name.to_string()))
        .collect()
}

/// How many events the kernel dropped on the multicast sockets here.
fn drops() -> u64 {
    let table = std::fs::read_to_string("/proc/thread-self/net/netlink").unwrap();
    table
        .lines()
        .skip(1)
        .map(|line| line.split_whitespace().collect::<Vec<_>>())
        .filter(|columns| columns[3] == "00000101")
        .map(|columns| columns[8].parse::<u64>().unwrap())
        .sum()
}

fn subscriptions() -> usize {
    let table = std::fs::read_to_string("/proc/thread-self/net/netlink").unwrap();
    table
        .lines()
        .filter(|line| line.contains(" 00000101 "))
        .count()
}

#[test]
fn what_is_there_at_the_start_is_known() {
    in_namespace(async || {
        ip("link add br0 type bridge mcast_snooping 0");
        ip("link add br1 type bridge");
        ip("tuntap add tap0 mode tap");
        ip("link set tap0 address fe:54:00:12:34:56 master br0");
        ip("link set br1 up");
        ip("addr add fe80::17/64 dev br1 nodad");
        ip("addr add 2001:db8::1/64 dev br1 nodad");
        let (_host, interfaces) = start().await;
        let now = interfaces.borrow();
        let (br0, br1) = (find(&now, "br0").unwrap(), find(&now, "br1").unwrap());
        assert_eq!(
            (br0.kind, br0.multicast_snooping),
            (LinkKind::Bridge, false)
        );
        assert_eq!((br1.kind, br1.multicast_snooping), (LinkKind::Bridge, true));
        let tap = find(&now, "tap0").unwrap();
        assert_eq!(tap.mac, [0xfe, 0x54, 0, 0x12, 0x34, 0x56]);
        assert_eq!((tap.kind, tap.master), (LinkKind::Other, Some(br0.index)));
        assert_eq!(find(&now, "lo").unwrap().kind, LinkKind::Other);
        assert!(now.link_locals[&br1.index].contains(&"fe80::17".parse().unwrap()));
        assert!(!now.link_locals[&br1.index].contains(&"2001:db8::1".parse().unwrap()));
        assert_eq!(names(&now), truth());
    });
}

#[test]
fn an_interface_appears_and_vanishes() {
    in_namespace(async || {
        let (_host, mut interfaces) = start().await;
        ip("tuntap add tap0 mode tap");
        until_present(&mut interfaces, "tap0").await;
        ip("link del tap0");
        until_absent(&mut interfaces, "tap0").await;
        assert_eq!(names(&interfaces.borrow()), truth());
    });
}

#[test]
fn a_renamed_interface_keeps_its_index() {
    in_namespace(async || {
        ip("tuntap add tap0 mode tap");
        let (_host, mut interfaces) = start().await;
        let before = until_present(&mut interfaces, "tap0").await;
        ip("link set tap0 name vnet0");
        let after = until_present(&mut interfaces, "vnet0").await;
        assert_eq!(before.index, after.index);
        assert!(find(&interfaces.borrow(), "tap0").is_none());
    });
}

#[test]
fn an_interface_made_anew_has_another_index() {
    in_namespace(async || {
        ip("tuntap add tap0 mode tap");
        let (_host, mut interfaces) = start().await;
        let before = until_present(&mut interfaces, "tap0").await;
        ip("link del tap0");
        ip("tuntap add tap0 mode tap");
        until(&mut interfaces, "another index", |now| {
            find(now, "tap0").is_some_and(|after| after.index != before.index)
        })
        .await;
        assert_eq!(names(&interfaces.borrow()), truth());
    });
}

#[test]
fn a_port_moves_leaves_and_survives_its_bridge() {
    in_namespace(async || {
        ip("link add br0 type bridge");
        ip("link add br1 type bridge");
        ip("tuntap add tap0 mode tap");
        let (_host, mut interfaces) = start().await;
        ip("link set tap0 master br0");
        until_master(&mut interfaces, "tap0", "br0").await;
        ip("link set tap0 master br1");
        until_master(&mut interfaces, "tap0", "br1").await;
        ip("link set tap0 nomaster");
        until(&mut interfaces, "tap0 alone", |now| {
            find(now, "tap0").unwrap().master.is_none()
        })
        .await;
        ip("link set tap0 master br0");
        until_master(&mut interfaces, "tap0", "br0").await;
        ip("link del br0");
        until_absent(&mut interfaces, "br0").await;
        assert_eq!(find(&interfaces.borrow(), "tap0").unwrap().master, None);
        assert_eq!(names(&interfaces.borrow()), truth());
    });
}

#[test]
fn the_options_of_a_bridge_are_followed() {
    in_namespace(async || {
        ip("link add br0 up type bridge");
        let (_host, mut interfaces) = start().await;
        ip("link set br0 type bridge mcast_snooping 0");
        until(&mut interfaces, "no snooping", |now| {
            !find(now, "br0").unwrap().multicast_snooping
        })
        .await;
        // Without a link event of its own; going up is one.
        ip("link set br0 down");
        ip("link set br0 type bridge mcast_snooping 1");
        ip("link set br0 up");
        until(&mut interfaces, "snooping", |now| {
            find(now, "br0").unwrap().multicast_snooping
        })
        .await;
    });
}

#[test]
fn link_local_addresses_are_followed_and_end_with_the_interface() {
    in_namespace(async || {
        ip("link add br0 up type bridge");
        let (_host, mut interfaces) = start().await;
        let index = find(&interfaces.borrow(), "br0").unwrap().index;
        let address = "fe80::17".parse().unwrap();
        ip("addr add fe80::17/64 dev br0");
        let has = |now: &Interfaces| {
            now.link_locals
                .get(&index)
                .is_some_and(|found| found.contains(&address))
        };
        until(&mut interfaces, "the address", has).await;
        ip("addr del fe80::17/64 dev br0");
        until(&mut interfaces, "no address", |now| !has(now)).await;
        ip("addr add fe80::17/128 peer fe80::18/128 dev br0");
        until(&mut interfaces, "our end", has).await;
        let peer = "fe80::18".parse().unwrap();
        assert!(!interfaces.borrow().link_locals[&index].contains(&peer));
        ip("link del br0");
        until_absent(&mut interfaces, "br0").await;
        until(&mut interfaces, "no addresses", |now| {
            !now.link_locals.contains_key(&index)
        })
        .await;
    });
}

#[test]
fn an_odd_name_is_left_out_until_it_is_a_name() {
    in_namespace(async || {
        ip("tuntap add tap*0 mode tap");
        ip("tuntap add tap1 mode tap");
        let (_host, mut interfaces) = start().await;
        assert_eq!(names(&interfaces.borrow()).len(), truth().len() - 1);
        ip("link set tap*0 name tap0");
        until_present(&mut interfaces, "tap0").await;
        ip("link set tap1 name tap;1");
        until_absent(&mut interfaces, "tap1").await;
        ip("link del tap;1");
        ip("tuntap add tap2 mode tap");
        until_present(&mut interfaces, "tap2").await;
        assert_eq!(names(&interfaces.borrow()), truth());
    });
}

#[test]
fn a_burst_is_one_snapshot_and_an_irrelevant_change_is_none() {
    in_namespace(async || {
        let (_host, mut interfaces) = start().await;
        let lines: Vec<_> = (0..300)
            .map(|n| format!("tuntap add tap{n} mode tap"))
            .collect();
        ip_batch(&lines);
        interfaces.changed().await.unwrap();
        assert_eq!(names(&interfaces.borrow_and_update()), truth());
        ip("link set tap0 mtu 1400");
        ip("link set tap0 up");
        tokio::time::sleep(Duration::from_millis(200)).await;
        assert!(!interfaces.has_changed().unwrap());
    });
}

#[test]
fn five_hundred_flaps_end_in_the_truth() {
    in_namespace(async || {
        ip("link add br0 up type bridge");
        let (_host, mut interfaces) = start().await;
        let flapping = std::thread::spawn(|| {
            for chunk in 0..50 {
                let lines: Vec<_> = (0..10)
                    .flat_map(|n| {
                        let tap = (chunk + n) % 7;
                        [
                            format!("tuntap add tap{tap} mode tap"),
                            format!("link set tap{tap} up master br0"),
                            format!("link del tap{tap}"),
                        ]
                    })
                    .collect();
                ip_batch(&lines);
            }
            ip("tuntap add tap3 mode tap");
            ip("link set tap3 up master br0");
        });
        while !flapping.is_finished() {
            let _ = timeout(Duration::from_millis(10), interfaces.changed()).await;
        }
        flapping.join().unwrap();
        let index = truth().iter().find(|(_, name)| name == "tap3").unwrap().0;
        until(&mut interfaces, "the last tap3", |now| {
            find(now, "tap3").is_some_and(|tap| tap.index == index && tap.master.is_some())
        })
        .await;
        assert_eq!(names(&interfaces.borrow()), truth());
    });
}

#[test]
fn lost_events_are_made_up_for() {
    in_namespace(async || {
        ip("link add br0 up type bridge");
        ip("link add br1 up type bridge");
        let host = Netlink::start_with_buffer(Vec::new(), Vec::new(), None, 8192)
            .await
            .unwrap();
        let mut interfaces = host.interfaces();
        for round in 0..5 {
            let mut lines = Vec::new();
            for n in 0..100 {
                lines.push(format!("tuntap add tap{round}-{n} mode tap"));
                lines.push(format!("link set tap{round}-{n} master br{}", n % 2));
                if n % 3 == 0 {
                    lines.push(format!("link del tap{round}-{n}"));
                }
            }
            let dropped = drops();
            ip_batch(&lines);
            assert!(drops() > dropped, "nothing got lost, so nothing is tested");
            let truth = truth();
            until(&mut interfaces, "the truth", |now| names(now) == truth).await;
            until_master(&mut interfaces, &format!("tap{round}-50"), "br0").await;
            // The events after the loss arrive again.
            ip(&format!("link set tap{round}-50 master br1"));
            until_master(&mut interfaces, &format!("tap{round}-50"), "br1").await;
        }
    });
}

#[test]
fn the_subscription_ends_with_its_last_receiver() {
    in_namespace(async || {
        let (host, interfaces) = start().await;
        assert_eq!(subscriptions(), 1);
        drop(host);
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert_eq!(subscriptions(), 1, "a receiver is enough");
        drop(interfaces);
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert_eq!(subscriptions(), 0);
    });
}
