//! Packets explained: by fields, by octets, out of a capture file.

use clap::Parser as _;
use sgagent::pb::{self, PacketVerdict};
use sgagent::sgctl::command::{Cli, run};
use tonic::Code;

use super::world::{World, refusal};

const GUEST: &str = "
groups:
  - id: web
    rules:
      - {direction: DIRECTION_INGRESS, protocol: PROTOCOL_TCP, ports: {first: 22, last: 22}, remote: {anyone: true}}
      - {direction: DIRECTION_INGRESS, protocol: PROTOCOL_TCP, ports: {first: 80, last: 88}, remote: {prefixes: ['2001:db8:c::/48']}}
nics:
  - id: guest
    mac: 06:00:00:00:00:01
    interfaces: [{name: vnet0}]
    slaac_prefix: 2001:db8:100::/64
    delegated_prefixes: ['2001:db8:0:10::/60']
    group_ids: [web]
  - {id: away, mac: 06:00:00:00:00:09, interfaces: [{name: vnet9}]}
";

/// What `sgctl explain guest` prints.
async fn explain(world: &World, args: &str) -> String {
    let socket = world.socket.to_str().unwrap();
    let line = ["sgctl", "--socket", socket, "explain"];
    let mut out = Vec::new();
    let cli = Cli::try_parse_from(line.into_iter().chain(args.split_whitespace())).unwrap();
    run(cli, &mut out).await.unwrap();
    String::from_utf8(out).unwrap()
}

async fn world() -> World {
    let mut world = World::start().await;
    world.apply(GUEST).await.unwrap();
    world
}

fn has(text: &str, words: &[&str]) {
    for word in words {
        assert!(text.contains(word), "{word:?} is not in\n{text}");
    }
}

#[tokio::test]
async fn the_rule_that_allows_is_named() {
    let world = world().await;
    let from = "guest in -p tcp --port 82 -s 2001:db8:c::7";
    let text = explain(&world, from).await;
    has(
        &text,
        &[
            "ACCEPT in 2001:db8:c::7 >",
            "S5: rule 1 of group web",
            "tcp 80-88 from 2001:db8:c::/48",
        ],
    );
    let text = explain(&world, "guest in -p tcp --port 82 -s 2001:db8:d::7 --trace").await;
    has(
        &text,
        &[
            "DROP in",
            "S3 group-ingress: nothing allows tcp port 82",
            "guard      T1",
            "groups     S1",
        ],
    );
    let text = explain(
        &world,
        "guest in -p tcp --port 82 -s 2001:db8:d::7 --flow established",
    )
    .await;
    has(&text, &["ACCEPT in", "S1: "]);
}

#[tokio::test]
async fn the_usual_cause_is_hinted_at() {
    let world = world().await;
    let to = "guest out -d 2001:db8:ffff::1";
    let cases = [
        (
            "-s 2001:db8:100::abcd",
            "G13 spoofed-source",
            "2001:db8:100::abcd is not the EUI-64 address of this MAC: the guest uses privacy",
        ),
        (
            "-s 2001:db8:100::400:ff:fe00:2",
            "G13 spoofed-source",
            "EUI-64 address of another MAC, 06:00:00:00:00:02",
        ),
        ("-s fe80::77", "G13 spoofed-source", "ANY_UNOWNED"),
        (
            "-s 2001:db8:9::1",
            "G13 spoofed-source",
            "should it be among its addresses",
        ),
        (
            "--source-mac 06:00:00:00:00:02",
            "G1 spoofed-mac",
            "changed its MAC",
        ),
        (
            "-p udp --source-port 547 --port 546",
            "G11 rogue-dhcpv6",
            "DHCPV6_SERVER",
        ),
        ("--type 134", "G4 rogue-ra", "ROUTER_ADVERTISEMENTS"),
        (
            "--type 136 --target 2001:db8:0:10::1",
            "G8 G9 nd-spoof",
            "delegated prefix is routed",
        ),
    ];
    for (args, row, hint) in cases {
        let text = explain(&world, &format!("{to} {args}")).await;
        has(&text, &["DROP out", row, hint]);
    }
    for args in ["", "-s 2001:db8:0:1f::9", "-p 50", "--type 135"] {
        has(
            &explain(&world, &format!("{to} {args}")).await,
            &["ACCEPT out"],
        );
    }
}

#[tokio::test]
async fn a_nic_that_is_not_bound_carries_nothing() {
    let world = world().await;
    let text = explain(&world, "away out -d 2001:db8::1").await;
    has(&text, &["DROP out", "closed unbound", "PENDING"]);
}

/// An echo request of the guest in a frame.
const PING: &str = "020000000001 060000000001 86dd 60000000 0008 3a40 \
    20010db8010000000400 00fffe000001 20010db8ffff00000000000000000001 80000000 00010001";

/// A pcap file of these frames (draft-ietf-opsawg-pcap), or of pieces of them.
fn pcap(frames: &[&[u8]], link: u32, snapped: u32) -> tempfile::NamedTempFile {
    let mut octets = 0xa1b2_c3d4_u32.to_le_bytes().to_vec();
    octets.extend([2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    octets.extend(65_535_u32.to_le_bytes());
    octets.extend(link.to_le_bytes());
    for frame in frames {
        let length = u32::try_from(frame.len()).unwrap();
        octets.extend([0; 8]);
        octets.extend(length.to_le_bytes());
        octets.extend((length + snapped).to_le_bytes());
        octets.extend_from_slice(frame);
    }
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(&file, octets).unwrap();
    file
}

fn octets(hex: &str) -> Vec<u8> {
    let digits: Vec<_> = hex.bytes().filter(u8::is_ascii_hexdigit).collect();
    let pair = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    digits.chunks(2).map(pair).collect()
}

#[tokio::test]
async fn captures_are_explained_packet_by_packet() {
    let world = world().await;
    let sent = octets(PING);
    let mut tagged = sent.clone();
    tagged.splice(12..12, [0x81, 0, 0, 5]);
    // The same in two fragments: eight octets, of which the second has none left.
    let mut first = sent.clone();
    first[18..20].copy_from_slice(&[0, 16]);
    first[20] = 44;
    first.splice(54..54, [58, 0, 0, 1, 0, 0, 0, 9]);
    let mut second = first.clone();
    second[56..58].copy_from_slice(&[0, 8]);
    let file = pcap(&[&sent, &tagged, &first, &second], 1, 0);
    let text = explain(&world, &format!("guest --pcap {}", file.path().display())).await;
    assert_eq!(text.matches("ACCEPT out").count(), 2, "{text}");
    has(&text, &["DROP out", "G2 ethertype: a VLAN tag"]);
    let hex: Vec<_> = first.iter().map(|octet| format!("{octet:02x}")).collect();
    let hex = hex.concat();
    has(
        &explain(&world, &format!("guest --frame {hex}")).await,
        &["INCOMPLETE out"],
    );

    for (file, why) in [
        (pcap(&[&sent], 113, 0), "link type"),
        (pcap(&[&sent], 1, 20), "tcpdump -s 0"),
        (tempfile::NamedTempFile::new().unwrap(), "no capture file"),
    ] {
        let path = file.path().to_str().unwrap();
        let socket = world.socket.to_str().unwrap();
        let line = [
            "sgctl", "--socket", socket, "explain", "guest", "--pcap", path,
        ];
        let failure = run(Cli::try_parse_from(line).unwrap(), &mut Vec::new()).await;
        has(&failure.unwrap_err().to_string(), &[path, why]);
    }
}

/// A question about a UDP datagram to the guest.
fn question() -> pb::ExplainRequest {
    pb::ExplainRequest {
        nic_id: "guest".to_owned(),
        direction: Some(pb::Direction::Ingress.into()),
        packet: Some(pb::PacketFields {
            protocol: pb::Protocol::Udp.into(),
            source: "2001:db8::1".to_owned(),
            destination_port: Some(53),
            ..pb::PacketFields::default()
        }),
        ..pb::ExplainRequest::default()
    }
}

type Change<T> = fn(&mut T);

#[tokio::test]
async fn a_wrong_question_names_its_fields() {
    let mut world = world().await;
    let invalid = Code::InvalidArgument;
    let cases: [(Change<pb::ExplainRequest>, Code, &str); 7] = [
        (|r| r.nic_id = "nobody".to_owned(), Code::NotFound, "nic_id"),
        (|r| r.interface = "vnet7".to_owned(), invalid, "interface"),
        (|r| r.direction = None, invalid, "direction"),
        (|r| r.frames = vec![vec![1]], invalid, "frames"),
        (|r| r.packet = None, invalid, "frames"),
        (|r| r.flow_state = Some(0), invalid, "flow_state"),
        (|r| r.origin = Some(9), invalid, "origin"),
    ];
    for (change, code, path) in cases {
        let mut request = question();
        change(&mut request);
        let answer = world.client.explain(request).await;
        assert_eq!(refusal(answer), (code, vec![path.to_owned()]));
    }
    let answer = world.client.explain(question()).await.unwrap().into_inner();
    assert_eq!(answer.packets[0].verdict(), PacketVerdict::Drop);
    assert_eq!(answer.packets[0].reason, "group-ingress");
}

#[tokio::test]
async fn a_wrong_packet_names_its_fields() {
    let mut world = world().await;
    let wrong: [(Change<pb::PacketFields>, &str); 8] = [
        (|p| p.source.clear(), "source"),
        (|p| p.source = "2001::g".to_owned(), "source"),
        (|p| p.source_mac = "06:0".to_owned(), "source_mac"),
        (|p| p.protocol = 0, "protocol"),
        (|p| p.destination_port = Some(70_000), "destination_port"),
        (|p| p.destination_port = None, "destination_port"),
        (|p| p.icmpv6_type = Some(128), "icmpv6_type"),
        (|p| p.target = "2001:db8::1".to_owned(), "target"),
    ];
    for (change, path) in wrong {
        let mut request = question();
        change(request.packet.as_mut().unwrap());
        let answer = world.client.explain(request).await;
        let path = format!("packet.{path}");
        assert_eq!(refusal(answer), (Code::InvalidArgument, vec![path]));
    }
}
