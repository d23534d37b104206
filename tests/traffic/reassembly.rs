//! G14: what a guest must not send, it must not send in pieces.

use crate::support::frag::Cut;
use crate::support::packet::{DEST_OPTIONS, Frames, ICMP, Packet, UDP};
use crate::support::plan::standard;
use crate::support::who::{A, ALL_NODES, B, R, STRANGER};

fn large_ping() -> Packet {
    A.to(ALL_NODES).echo(128, 4, 2000)
}

/// Whatever way it is cut, nothing of it comes out.
fn dropped_in_pieces(bad: &Packet) {
    let mut net = standard().start();
    net.passes(&large_ping().cut(1, &[1440]), R);
    let cuts: [&[usize]; 6] = [&[8], &[16], &[24], &[32], &[8, 8], &[16, 8, 8]];
    for (id, lengths) in (10..).zip(cuts) {
        net.dropped(&bad.cut(id, lengths));
        let mut backwards = bad.cut(id + 100, lengths);
        backwards.frames.reverse();
        net.dropped(&backwards);
        let behind = bad.clone().padded(DEST_OPTIONS);
        net.dropped(&behind.cut(id + 200, lengths));
        net.dropped(&behind.cut_as(&Cut {
            before: 1,
            id: id + 300,
            lengths,
        }));
    }
    net.passes(&large_ping().cut(2, &[1440]), R);
}

#[test]
fn g14_router_advertisement_in_fragments_is_dropped() {
    dropped_in_pieces(&A.advertises());
}

#[test]
fn g14_redirect_in_fragments_is_dropped() {
    dropped_in_pieces(&A.to(B.ll).redirect(A.ll, STRANGER));
}

#[test]
fn g14_mld_query_in_fragments_is_dropped() {
    dropped_in_pieces(&A.queries());
}

#[test]
fn g14_dhcpv6_server_message_in_fragments_is_dropped() {
    dropped_in_pieces(&A.to(B.ll).udp_with(547, 546, &[7; 80]));
    dropped_in_pieces(&A.to(B.ll).udp_with(5000, 546, &[7; 80]));
}

#[test]
fn g14_neighbour_advertisement_in_fragments_is_dropped() {
    dropped_in_pieces(&A.claims(R.ll));
    dropped_in_pieces(&A.claims(A.ll));
}

/// The first fragment is a ping, a second one with offset 0 makes it an RA.
#[test]
fn g14_overlapping_fragments_make_no_router_advertisement() {
    let mut net = standard().start();
    net.passes(&large_ping().cut(1, &[1440]), R);
    let rogue = A.advertises();
    let ping = A.to(ALL_NODES).hop(255).echo(128, 4, rogue.body.len() - 8);
    for id in 20..22 {
        let cut = Cut {
            before: 0,
            id,
            lengths: &[],
        };
        let (first, last) = rogue.body.split_at(16);
        let mut frames = vec![
            ping.piece(&cut, (ICMP, 0, true), &ping.body[..16]),
            rogue.piece(&cut, (ICMP, 0, true), first),
            rogue.piece(&cut, (ICMP, 16, false), last),
        ];
        if id % 2 == 1 {
            frames.rotate_left(1);
        }
        net.dropped(&Frames {
            port: A.port,
            frames,
        });
    }
    net.passes(&large_ping().cut(2, &[1440]), R);
}

/// The later fragment says UDP, the first one ICMPv6: the first decides (RFC 8200 §4.5).
#[test]
fn g14_fragments_that_disagree_on_the_protocol_make_no_router_advertisement() {
    let mut net = standard().start();
    net.passes(&large_ping().cut(1, &[1440]), R);
    let rogue = A.advertises();
    let cut = Cut {
        before: 0,
        id: 30,
        lengths: &[],
    };
    let (first, last) = rogue.body.split_at(16);
    for kind in [UDP, 59, 6, DEST_OPTIONS] {
        let frames = vec![
            rogue.piece(&cut, (kind, 16, false), last),
            rogue.piece(&cut, (ICMP, 0, true), first),
        ];
        net.dropped(&Frames {
            port: A.port,
            frames,
        });
    }
    // The other way round: the first claims to be UDP and is an RA to whoever trusts the last.
    let frames = vec![
        rogue.piece(&cut, (UDP, 0, true), first),
        rogue.piece(&cut, (ICMP, 16, false), last),
    ];
    let arrived = net.arrivals(&Frames {
        port: A.port,
        frames,
    });
    assert!(
        arrived[R.port]
            .iter()
            .all(|frame| frame.get(20) != Some(&ICMP))
    );
}

#[test]
fn g14_legitimate_fragments_pass_whatever_their_sizes() {
    let mut net = standard().start();
    let ping = A.to(STRANGER).echo(128, 6, 3000);
    net.passes(&ping.cut(1, &[1440, 1440]), R);
    net.passes(&ping.cut(2, &[1232, 1232]), R);
    let mut backwards = ping.cut(3, &[1440, 1440]);
    backwards.frames.reverse();
    net.passes(&backwards, R);
    net.passes(
        &A.to(STRANGER)
            .udp_with(4000, 53, &[1; 3000])
            .cut(4, &[1440, 1440]),
        R,
    );
    net.passes(
        &A.to(B.ip)
            .udp_with(4000, 53, &[1; 3000])
            .cut(5, &[1440, 1440]),
        B,
    );
    net.passes(&A.to(STRANGER).echo(128, 6, 1300).atomic(), R);
    net.passes_in_a_small_fragment(&A.to(STRANGER).ping().atomic(), R);
    net.passes(
        &R.to(A.ip)
            .src(STRANGER)
            .echo(128, 6, 3000)
            .cut(6, &[1440, 1440]),
        A,
    );
}

/// The rest of a packet comes from who has sent its begin.
#[test]
fn g13_later_fragment_in_the_name_of_another_is_not_joined() {
    let mut net = standard().start();
    let whole = A.to(STRANGER).echo(128, 5, 2000).cut(77, &[1440]);
    net.passes(&whole, R);
    let (mut first, mut last) = (whole.clone(), A.to(STRANGER));
    last = last.eth_src(B.mac);
    let mut forged = last.echo(128, 5, 2000).cut(77, &[1440]);
    forged.port = B.port;
    forged.frames.remove(0);
    first.frames.truncate(1);
    for frames in [[&first, &forged], [&forged, &first]] {
        for part in frames {
            assert!(net.arrivals(part).values().all(Vec::is_empty), "joined");
        }
    }
}
