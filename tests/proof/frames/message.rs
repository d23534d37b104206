//! Messages of every kind, right as far as a guest, a router or a server makes them right.

use std::net::Ipv6Addr;

use proptest::prelude::*;

use super::draft::{Draft, HOP_BY_HOP, ICMP, IPV6, SCTP, TCP, UDP};
use super::scene::Scene;
use crate::support::who::{
    ALL_NODES, ALL_ROUTERS, DHCP_SERVERS, MLD_ROUTERS, R, UNSPECIFIED, solicited,
};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Udp,
    Tcp,
    Sctp,
    Echo,
    EchoReply,
    Error,
    RouterSolicitation,
    Solicitation,
    Probe,
    Advertisement,
    RouterAdvertisement,
    Redirect,
    MldReport,
    MldQuery,
    DhcpClient,
    DhcpServer,
    Esp,
    Gre,
    Other,
    Arp,
    Ipv4,
    Rarp,
    EtherType,
}

pub(super) fn kind() -> impl Strategy<Value = Kind> {
    prop::sample::select(vec![
        Kind::Udp,
        Kind::Udp,
        Kind::Tcp,
        Kind::Tcp,
        Kind::Sctp,
        Kind::Echo,
        Kind::EchoReply,
        Kind::Error,
        Kind::RouterSolicitation,
        Kind::Solicitation,
        Kind::Solicitation,
        Kind::Probe,
        Kind::Probe,
        Kind::Advertisement,
        Kind::Advertisement,
        Kind::RouterAdvertisement,
        Kind::Redirect,
        Kind::MldReport,
        Kind::MldQuery,
        Kind::DhcpClient,
        Kind::DhcpServer,
        Kind::Esp,
        Kind::Gre,
        Kind::Other,
        Kind::Arp,
        Kind::Ipv4,
        Kind::Rarp,
        Kind::EtherType,
    ])
}

pub(super) fn draft(kind: Kind, scene: &mut Scene<'_>) -> Draft {
    let mut draft = plain(scene);
    match kind {
        Kind::Udp => {
            let ports = [scene.port(), scene.port()];
            udp(&mut draft, ports, b"0123456789abcdef");
        }
        Kind::Tcp => tcp(&mut draft, scene),
        Kind::Sctp => sctp(&mut draft, scene),
        Kind::Echo => icmp(&mut draft, 128, &echo()),
        Kind::EchoReply => icmp(&mut draft, 129, &echo()),
        Kind::Error => {
            let kind = scene.one_of(&[1, 2, 3, 4]);
            let quoted = quote(&draft);
            icmp(&mut draft, kind, &quoted);
        }
        Kind::RouterSolicitation => router_solicitation(&mut draft, scene),
        Kind::Solicitation => solicitation(&mut draft, scene),
        Kind::Probe => probe(&mut draft, scene),
        Kind::Advertisement => advertisement(&mut draft, scene),
        Kind::RouterAdvertisement => {
            from_router(&mut draft, scene);
            icmp(&mut draft, 134, &[64, 0, 7, 8, 0, 0, 0, 0, 0, 0, 0, 0]);
        }
        Kind::Redirect => {
            from_router(&mut draft, scene);
            let (target, about) = (scene.remote(), scene.remote());
            icmp(
                &mut draft,
                137,
                &[&[0; 4][..], &target.octets(), &about.octets()].concat(),
            );
        }
        Kind::MldReport => mld_report(&mut draft, scene),
        Kind::MldQuery => {
            from_router(&mut draft, scene);
            alert(&mut draft);
            icmp(
                &mut draft,
                130,
                &[&[3, 0xe8, 0, 0][..], &[0; 16], &[2, 0x7d, 0, 0]].concat(),
            );
        }
        Kind::DhcpClient => dhcp_client(&mut draft, scene),
        Kind::DhcpServer => dhcp_server(&mut draft, scene),
        Kind::Esp => upper(&mut draft, 50, &[7; 16]),
        Kind::Gre => upper(&mut draft, 47, &[0, 0, 0x86, 0xdd, 1, 2, 3, 4]),
        Kind::Other => {
            let number = scene.one_of(&[89, 112, 59, 4, 41, 1, 200]);
            upper(&mut draft, number, &[0; 8]);
        }
        Kind::Arp => other(&mut draft, 0x0806, &[0, 1, 8, 0, 6, 4, 0, 1]),
        Kind::Ipv4 => other(&mut draft, 0x0800, &[0x45, 0, 0, 20, 0, 0, 0, 0, 64, 17]),
        Kind::Rarp => other(&mut draft, 0x8035, &[0, 1, 8, 0, 6, 4, 0, 3]),
        Kind::EtherType => {
            let ether_type = scene.one_of(&[0x8864, 0x8847, 0x0026, 0x8863, 0x88f7, 0x86dc]);
            other(&mut draft, ether_type, &[0xaa; 46]);
        }
    }
    draft
}

/// Between the NIC and somebody, as yet without an upper layer.
fn plain(scene: &mut Scene<'_>) -> Draft {
    let own_mac = scene.own_mac();
    let shared = scene.shared().filter(|_| own_mac != scene.mac);
    let own = scene.own();
    let (own, remote) = (shared.unwrap_or(own), scene.remote());
    let (src, dst, eth_src) = if scene.egress() {
        (own, remote, own_mac)
    } else {
        (remote, own, R.mac)
    };
    let mut draft = Draft {
        eth_src,
        eth_dst: own_mac,
        tags: Vec::new(),
        ether_type: IPV6,
        version: 6,
        src,
        dst,
        hop: 64,
        headers: Vec::new(),
        upper: 59,
        body: Vec::new(),
        wrong_sum: false,
        no_sum: false,
        length_error: 0,
        udp_length_error: 0,
        padding: 0,
        cut: None,
        other: None,
    };
    let egress = scene.egress();
    go_to(&mut draft, dst, egress);
    draft
}

/// Another destination, with the MAC that goes with it: a group's, or the router's for what a
/// guest sends.
fn go_to(draft: &mut Draft, dst: Ipv6Addr, egress: bool) {
    draft.dst = dst;
    let [.., a, b, c, d] = dst.octets();
    if dst.is_multicast() {
        draft.eth_dst = [0x33, 0x33, a, b, c, d];
    } else if egress {
        draft.eth_dst = R.mac;
    }
}

fn upper(draft: &mut Draft, number: u8, body: &[u8]) {
    draft.upper = number;
    draft.body = body.to_vec();
}

fn other(draft: &mut Draft, ether_type: u16, octets: &[u8]) {
    draft.ether_type = ether_type;
    draft.other = Some(octets.to_vec());
}

fn icmp(draft: &mut Draft, kind: u8, rest: &[u8]) {
    upper(draft, ICMP, &[&[kind, 0, 0, 0], rest].concat());
}

fn echo() -> Vec<u8> {
    (0..20).collect()
}

/// What an error is about: a packet the other way.
fn quote(draft: &Draft) -> Vec<u8> {
    let header = [0, 0, 0, 0, 0x60, 0, 0, 0, 0, 8, 17, 64];
    let udp = [0, 80, 0, 80, 0, 8, 0, 0];
    [&header[..], &draft.dst.octets(), &draft.src.octets(), &udp].concat()
}

fn udp(draft: &mut Draft, [from, to]: [u16; 2], data: &[u8]) {
    let ports = [from.to_be_bytes(), to.to_be_bytes(), [0, 0], [0, 0]].concat();
    upper(draft, UDP, &[&ports, data].concat());
}

fn tcp(draft: &mut Draft, scene: &mut Scene<'_>) {
    let (from, to) = (scene.port(), scene.port());
    // SYN thrice; then ACK, SYN+ACK, RST, FIN+ACK, none, FIN, Xmas.
    let flags = scene.one_of(&[2, 2, 2, 0x10, 0x18, 0x12, 0x04, 0x11, 0, 1, 0x29, 0xc2]);
    let ports = [from.to_be_bytes(), to.to_be_bytes()].concat();
    let rest = [
        0, 0, 3, 0xe8, 0, 0, 0, 0, 0x50, flags, 0xff, 0xff, 0, 0, 0, 0,
    ];
    upper(draft, TCP, &[&ports[..], &rest, b"tcp!"].concat());
}

fn sctp(draft: &mut Draft, scene: &mut Scene<'_>) {
    let (from, to) = (scene.port(), scene.port());
    let ports = [from.to_be_bytes(), to.to_be_bytes()].concat();
    let init: &[u8] = &[
        1, 0, 0, 20, 0, 0, 0, 9, 0, 0, 0xff, 0xff, 0, 10, 0, 10, 0, 0, 0, 1,
    ];
    let data: &[u8] = &[0, 3, 0, 20, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4];
    let abort: &[u8] = &[6, 0, 0, 4];
    let (tag, chunk) = scene.one_of(&[
        (0, init),
        (0, init),
        (0, init),
        (1, init),
        (1, data),
        (1, abort),
    ]);
    upper(
        draft,
        SCTP,
        &[&ports[..], &[0, 0, 0, tag, 0, 0, 0, 0], chunk].concat(),
    );
}

fn option(kind: u8, mac: [u8; 6]) -> Vec<u8> {
    [&[kind, 1], &mac[..]].concat()
}

/// Discovery by the NIC, or of it by the router.
fn speaker(draft: &mut Draft, scene: &mut Scene<'_>) -> [u8; 6] {
    draft.hop = 255;
    if scene.egress() {
        scene.mac
    } else {
        draft.src = scene.router();
        R.mac
    }
}

fn router_solicitation(draft: &mut Draft, scene: &mut Scene<'_>) {
    let mac = speaker(draft, scene);
    let egress = scene.egress();
    go_to(draft, ALL_ROUTERS, egress);
    if egress {
        draft.src = scene.own_link_local();
    }
    let mut options = option(1, mac);
    if scene.number() % 4 == 1 {
        draft.src = UNSPECIFIED;
        options.clear();
    }
    icmp(draft, 133, &[&[0; 4], &options[..]].concat());
}

fn solicitation(draft: &mut Draft, scene: &mut Scene<'_>) {
    let mac = speaker(draft, scene);
    let egress = scene.egress();
    let target = if egress { scene.remote() } else { scene.own() };
    if scene.number().is_multiple_of(4) {
        go_to(draft, target, egress);
    } else {
        go_to(draft, solicited(target), egress);
    }
    let rest = [&[0; 4], &target.octets()[..], &option(1, mac)].concat();
    icmp(draft, 135, &rest);
}

fn probe(draft: &mut Draft, scene: &mut Scene<'_>) {
    draft.hop = 255;
    draft.src = UNSPECIFIED;
    let egress = scene.egress();
    let shared = scene.shared().filter(|_| draft.eth_src != scene.mac);
    let own = scene.own_on_link();
    let target = shared.unwrap_or(own);
    go_to(draft, solicited(target), egress);
    let nonce: &[u8] = &[14, 1, 1, 2, 3, 4, 5, 6];
    let options = scene.one_of(&[&[][..], nonce]);
    icmp(
        draft,
        135,
        &[&[0; 4], &target.octets()[..], options].concat(),
    );
}

fn advertisement(draft: &mut Draft, scene: &mut Scene<'_>) {
    let mut mac = speaker(draft, scene);
    let egress = scene.egress();
    let mut target = draft.src;
    if egress && draft.eth_src == scene.mac {
        target = scene.own_on_link();
    }
    // A shared address' advertisement may name the virtual MAC.
    let macs = scene.virtual_macs.clone();
    if !macs.is_empty() && scene.number().is_multiple_of(2) {
        mac = scene.one_of(&macs);
        target = scene.shared().unwrap_or(target);
    }
    if scene.number().is_multiple_of(2) {
        go_to(draft, ALL_NODES, egress);
    }
    let rest = [&[0x20, 0, 0, 0], &target.octets()[..], &option(2, mac)].concat();
    icmp(draft, 136, &rest);
}

fn from_router(draft: &mut Draft, scene: &mut Scene<'_>) {
    draft.hop = 255;
    let egress = scene.egress();
    draft.src = if egress {
        scene.own_link_local()
    } else {
        scene.router()
    };
    if scene.number().is_multiple_of(2) {
        go_to(draft, ALL_NODES, egress);
    }
}

/// A router alert, as MLD carries it (RFC 2711).
fn alert(draft: &mut Draft) {
    draft.hop = 1;
    draft.headers.push((HOP_BY_HOP, vec![0, 5, 2, 0, 0, 1, 0]));
}

fn mld_report(draft: &mut Draft, scene: &mut Scene<'_>) {
    let egress = scene.egress();
    draft.src = if egress {
        scene.own_link_local()
    } else {
        scene.router()
    };
    if scene.number() % 4 == 1 {
        draft.src = UNSPECIFIED;
    }
    alert(draft);
    go_to(draft, MLD_ROUTERS, egress);
    let group: [u8; 16] = ALL_NODES.octets();
    match scene.one_of(&[143, 131, 132]) {
        143 => icmp(
            draft,
            143,
            &[&[0, 0, 0, 1, 4, 0, 0, 0], &group[..]].concat(),
        ),
        kind => icmp(draft, kind, &[&[0; 4], &group[..]].concat()),
    }
}

fn dhcp_client(draft: &mut Draft, scene: &mut Scene<'_>) {
    let egress = scene.egress();
    if egress {
        draft.src = scene.own_link_local();
    }
    let dst = scene.one_of(&[DHCP_SERVERS, DHCP_SERVERS, R.ll]);
    let server = scene.server();
    go_to(
        draft,
        if scene.number().is_multiple_of(3) {
            server
        } else {
            dst
        },
        egress,
    );
    let message = scene.one_of(&[1, 3, 4, 5, 6, 8, 9, 11, 36, 2, 7, 10, 12, 13]);
    udp(
        draft,
        [546, 547],
        &[message, 1, 2, 3, 0, 1, 0, 4, 0, 3, 0, 1],
    );
}

fn dhcp_server(draft: &mut Draft, scene: &mut Scene<'_>) {
    if scene.egress() {
        draft.src = scene.own_link_local();
    } else {
        draft.src = scene.server();
        draft.dst = scene.own_link_local();
    }
    let from = scene.one_of(&[547, 547, 12_345]);
    let to = scene.one_of(&[546, 546, 547]);
    udp(draft, [from, to], &[7, 1, 2, 3, 0, 1, 0, 4, 0, 3, 0, 1]);
}
