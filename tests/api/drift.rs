//! What others change is repaired and told.

use std::{sync::Arc, time::Duration};

use sgagent::{dataplane::Tampering, link::Setting, pb};
use tokio::time::{Instant, sleep};

use super::{
    fake::{Mood, interfaces},
    world::World,
};

fn edit(n: usize) -> Tampering {
    Tampering::Edited {
        what: format!("edit {n}"),
        by: String::new(),
    }
}

/// Waits until the status is as wanted.
async fn until(world: &mut World, wanted: impl Fn(&pb::GetStatusResponse) -> bool) -> Duration {
    let started = Instant::now();
    loop {
        let status = world.status().await;
        if wanted(&status) {
            return started.elapsed();
        }
        assert!(started.elapsed() < Duration::from_secs(300), "{status:?}");
        sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn flushed_rules_are_put_back_at_once_and_that_is_told() {
    let mut world = World::owned().await;
    assert_eq!(world.status().await.drift_repairs, 0);
    world.kernel.flush();
    let took = until(&mut world, |status| status.drift_repairs == 1).await;
    assert!(took < Duration::from_secs(1), "{took:?}");
    assert!(world.kernel.ruleset.borrow().is_some());
    let status = world.status().await;
    assert!(status.healthy);
    let drift = &status.drifts[0];
    assert_eq!(drift.what, "table bridge sgagent deleted");
    assert_eq!(drift.by, "nft (pid 4711)");
    assert!(drift.lasted_ms.is_some() && drift.noticed_at_ms > 0);
}

#[tokio::test(start_paused = true)]
async fn drift_lasts_until_the_repair_succeeds() {
    let mut world = World::owned().await;
    world.kernel.mood.send_replace(Mood::Refuse);
    world.kernel.flush();
    until(&mut world, |status| !status.healthy).await;
    sleep(Duration::from_secs(20)).await;
    let status = world.status().await;
    assert_eq!(status.drift_repairs, 0);
    assert_eq!(status.drifts[0].lasted_ms, None);
    world.kernel.mood.send_replace(Mood::Obey);
    until(&mut world, |status| status.healthy).await;
    let status = world.status().await;
    assert_eq!(status.drift_repairs, 1);
    assert!(status.drifts[0].lasted_ms.unwrap() >= 20_000);
    assert!(world.kernel.ruleset.borrow().is_some());
}

#[tokio::test(start_paused = true)]
async fn who_changes_the_rules_again_and_again_is_answered_once_a_second() {
    let mut world = World::owned().await;
    let before = world.kernel.applied();
    for n in 0..200 {
        world.kernel.tamper(edit(n));
        sleep(Duration::from_millis(50)).await;
    }
    let repairs = world.kernel.applied() - before;
    assert!((9..=12).contains(&repairs), "{repairs}");
    let status = world.status().await;
    assert!(
        status
            .warnings
            .iter()
            .any(|line| line.contains("again and again")),
        "{:?}",
        status.warnings
    );
    until(&mut world, |status| {
        status.drifts.iter().all(|d| d.lasted_ms.is_some())
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn lost_events_cost_a_repair_a_minute_and_are_no_drift() {
    let mut world = World::owned().await;
    let before = world.kernel.applied();
    for _ in 0..150 {
        world.kernel.tamper(Tampering::Lost);
        sleep(Duration::from_secs(1)).await;
    }
    let repairs = world.kernel.applied() - before;
    assert_eq!(repairs, 3, "at 0, 60 and 120 s");
    let status = world.status().await;
    assert!(status.drifts.is_empty() && status.drift_repairs == 0);
}

/// A change that comes before the repair is not programmed on top of what somebody left.
#[tokio::test(start_paused = true)]
async fn a_change_after_tampering_replaces_the_rules() {
    let mut world = World::owned().await;
    world.kernel.flush();
    until(&mut world, |status| status.drift_repairs == 1).await;
    world.kernel.flush();
    until(&mut world, |status| status.drifts.len() == 2).await;
    world.apply("groups: [{id: other}]").await.unwrap();
    let status = world.status().await;
    assert_eq!(status.drift_repairs, 2);
    assert!(world.kernel.ruleset.borrow().is_some());
}

#[tokio::test(start_paused = true)]
async fn a_setting_that_somebody_changes_is_put_back_and_told() {
    let mut world = World::owned().await;
    let setting = Setting::NfCallIp6tables("br0".parse().unwrap());
    assert_eq!(world.settings.borrow()[&setting], 1);
    sleep(Duration::from_secs(10)).await;
    assert!(
        world.status().await.drifts.is_empty(),
        "the first time is no drift"
    );
    for (setting, now, wanted, text) in [
        (
            setting,
            0,
            1,
            "nf_call_ip6tables of br0 changed from 1 to 0",
        ),
        (
            Setting::Frag6Timeout,
            60,
            2,
            "net.netfilter.nf_conntrack_frag6_timeout changed from 2 to 60",
        ),
    ] {
        let repairs = world.status().await.drift_repairs;
        world.settings.send_modify(|all| {
            all.insert(setting.clone(), now);
        });
        let took = until(&mut world, |status| status.drift_repairs == repairs + 1).await;
        assert!(took < Duration::from_secs(5), "{took:?}");
        assert_eq!(world.settings.borrow()[&setting], wanted);
        assert_eq!(world.status().await.drifts[0].what, text);
    }
}

/// Placement `br_netfilter`: ip6tables is shown what has a tag only where it is asked to.
#[tokio::test(start_paused = true)]
async fn tagged_frames_pass_ip6tables_once_a_bridge_filters_vlans() {
    let mut world = World::owned().await;
    let set = |world: &World| {
        let all = world.settings.borrow();
        all.get(&Setting::FilterVlanTagged).copied().unwrap_or(0)
    };
    assert_eq!(set(&world), 0);
    let mut now = (*interfaces(&["vnet0", "vnet1"])).clone();
    now.settings.entry(1).or_default().vlan_filtering = true;
    world.host.send_replace(Arc::new(now));
    sleep(Duration::from_secs(5)).await;
    assert_eq!(set(&world), 1);
    let warnings = world.status().await.warnings;
    let says = |text: &String| text.contains("bridge br0 filters VLANs");
    assert!(warnings.iter().any(says), "{warnings:?}");
}
