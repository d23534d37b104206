//! A full disk: nothing is half done, and what was acknowledged is there when there is room again.

use tonic::Code;

use super::fixture::{host, start};
use super::kills::push_all;
use super::served::{
    empty_disk, fill_disk, large_change, own_disk, restart, serving, wait_for_health,
};
use super::traffic::Traffic;
use super::wanted::Wanted;

/// How often it fills up.
const ROUNDS: usize = 3;

#[test]
fn a_full_disk() {
    let mut net = start(host());
    own_disk(&mut net, 6);
    push_all(&mut net);
    let mut wanted = Wanted::first();
    let mut traffic = Traffic::start(&net);
    for round in 0..ROUNDS {
        traffic.doing(&format!("round {round}: the disk is full"));
        wanted.begin_flow(&mut traffic);
        fill_disk(&net);
        let large = large_change();
        let error = net.agent.call(async |mut client| client.apply(large).await);
        let error = error.unwrap_err();
        assert_eq!(error.code(), Code::Unavailable, "{error}");
        assert!(error.message().contains("state.redb"), "{error}");
        assert!(error.message().contains("No space left"), "{error}");
        wanted.is_in_force(&mut traffic, 3 * u16::try_from(round).unwrap());
        // A small change may find room; whatever is answered is so.
        let next = wanted.next();
        if next.push(Some(wanted), &net).is_ok() {
            wanted = next;
        }
        assert_eq!(Wanted::told_by(&net), wanted);
        wanted.is_in_force(&mut traffic, 3 * u16::try_from(round).unwrap() + 1);
        traffic.doing(&format!("round {round}: start on a full disk"));
        if restart(&mut net, &[]) {
            assert_eq!(Wanted::told_by(&net), wanted);
        } else {
            assert!(
                net.agent.log().contains("state.redb"),
                "{}",
                net.agent.log()
            );
        }
        wanted.is_in_force(&mut traffic, 3 * u16::try_from(round).unwrap() + 2);
        empty_disk(&net);
        if net.agent.ended().is_some() {
            net.agent.start(&net.namespace);
        }
        traffic.doing(&format!("round {round}: there is room again"));
        wait_for_health(&net, true, "");
        let next = wanted.next();
        next.push(Some(wanted), &net).unwrap();
        wanted = next;
    }
    assert_eq!(Wanted::told_by(&net), wanted);
    traffic.finish("a_full_disk", 2 * ROUNDS);
}

/// It is told as long as it lasts.
#[test]
fn a_full_disk_is_no_good_health() {
    let mut net = start(host());
    own_disk(&mut net, 6);
    push_all(&mut net);
    let traffic = Traffic::start(&net);
    fill_disk(&net);
    let large = large_change();
    let refused = net.agent.call(async |mut client| client.apply(large).await);
    assert!(refused.is_err());
    let status = net.agent_status();
    // It tries again by itself, writing nothing but what is there: that may succeed.
    if !status.healthy {
        assert!(status.unhealthy_reason.contains("state.redb"), "{status:?}");
    }
    let log = net.agent.log();
    assert!(
        log.contains("a change could not be written to disk and is taken back"),
        "{log}"
    );
    empty_disk(&net);
    wait_for_health(&net, true, "");
    assert!(serving(&net));
    traffic.finish("a_full_disk_is_no_good_health", 1);
}
