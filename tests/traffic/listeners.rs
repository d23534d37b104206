//! G10: multicast listener reports.

use crate::support::packet::{DEST_OPTIONS, HOP_BY_HOP, Packet};
use crate::support::plan::standard;
use crate::support::who::{A, B, R, UNSPECIFIED, ip, solicited};

/// The three kinds that a guest sends.
fn reports() -> [Packet; 3] {
    let group = solicited(A.ip);
    [A.joins(&[group]), A.mld1(131, group), A.mld1(132, group)]
}

fn only(bad: impl Fn(Packet) -> Packet) {
    let mut net = standard().start();
    for good in reports() {
        net.only(&good, &bad(good.clone()), R);
    }
}

#[test]
fn g10_reports_from_nowhere_pass() {
    let mut net = standard().start();
    for report in reports() {
        net.passes(&report.src(UNSPECIFIED), R);
    }
}

#[test]
fn g10_report_from_a_distance_is_dropped() {
    only(|good| good.hop(2));
    only(|good| good.hop(255));
}

#[test]
fn g10_report_from_anothers_link_local_is_dropped() {
    only(|good| good.src(B.ll));
    only(|good| good.src(R.ll));
    only(|good| good.src(ip("fe80::2")));
}

#[test]
fn g10_report_from_a_global_address_is_dropped() {
    only(|good| good.src(A.ip));
    only(|good| good.src(B.ip));
}

#[test]
fn g10_report_without_a_router_alert_passes_and_behind_options_it_does_not() {
    let mut net = standard().start();
    let mut bare = A.joins(&[ip("ff02::77")]);
    bare.headers.clear();
    net.passes(&bare, R);
    net.passes(&bare.clone().src(UNSPECIFIED), R);
    net.dropped(&bare.clone().padded(DEST_OPTIONS));
    net.dropped(&A.joins(&[ip("ff02::77")]).padded(DEST_OPTIONS));
}

#[test]
fn g10_report_with_a_fragment_header_is_dropped() {
    only(Packet::atomic);
}

#[test]
fn g10_report_in_two_fragments_is_dropped() {
    let mut net = standard().start();
    let groups: Vec<_> = (1..60).map(|n| ip(&format!("ff05::{n:x}"))).collect();
    let report = A.joins(&groups);
    assert_eq!(report.headers[0].0, HOP_BY_HOP);
    let cut = crate::support::frag::Cut {
        before: 1,
        id: 1,
        lengths: &[800],
    };
    net.only(&report, &report.cut_as(&cut), R);
}
