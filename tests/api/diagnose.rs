//! What is wrong with a NIC, and since when it is what it is.

use std::time::Duration;

use sgagent::pb::{self, CheckResult, NicState};
use tonic::Code;

use super::{
    fake::{Mood, interfaces},
    world::{World, refusal},
};

async fn diagnose(world: &mut World, nic: &str) -> pb::DiagnoseResponse {
    let nic_id = nic.to_owned();
    let request = pb::DiagnoseRequest { nic_id };
    let answer = world.client.diagnose(request).await;
    answer.unwrap().into_inner()
}

/// What is wrong first, and why.
async fn wrong(world: &mut World) -> (String, String) {
    let check = diagnose(world, "owner").await.first_wrong.unwrap();
    assert_eq!(check.result(), CheckResult::Wrong);
    (check.name, check.text)
}

async fn owner(world: &mut World) -> pb::NicStatus {
    let id = "owner".to_owned();
    let answer = world.client.get_nic(pb::GetNicRequest { id }).await;
    answer.unwrap().into_inner().nic.unwrap().status.unwrap()
}

async fn until(world: &mut World, state: NicState) {
    for _ in 0..500 {
        if owner(world).await.state() == state {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("never {state:?}");
}

#[tokio::test]
async fn a_path_that_is_well_has_no_wrong_check() {
    let mut world = World::owned().await;
    let answer = diagnose(&mut world, "owner").await;
    assert_eq!(answer.first_wrong, None, "{answer:?}");
    let names: Vec<_> = answer.checks.iter().map(|c| c.name.as_str()).collect();
    let wanted = "interface bridge uplink state agent rules tracking router flow-table drops";
    assert_eq!(names.join(" "), wanted);
    for check in &answer.checks {
        // The rules were loaded a moment ago.
        let unknown = check.name == "router";
        let result = if unknown {
            CheckResult::Unknown
        } else {
            CheckResult::Ok
        };
        assert_eq!(check.result(), result, "{check:?}");
    }
    assert!((900..60_000).contains(&answer.recent_ms), "{answer:?}");
}

#[tokio::test]
async fn what_is_dropped_lately_is_told_with_its_time_and_cause() {
    let mut world = World::owned().await;
    diagnose(&mut world, "owner").await;
    world.kernel.dropped.send_replace(10);
    let answer = diagnose(&mut world, "owner").await;
    let check = answer.first_wrong.unwrap();
    assert_eq!(check.name, "drops");
    assert!(
        check.text.starts_with("7 packets were dropped"),
        "{check:?}"
    );
    assert!(check.text.ends_with("as spoofed-mac (G1)"), "{check:?}");
    assert!(check.hint.contains("changed its MAC"), "{check:?}");
    let drops = &answer.recent_drops;
    assert_eq!((drops[0].packets, drops[0].bytes), (7, 420));
}

#[tokio::test]
async fn what_breaks_on_the_way_is_named() {
    let mut world = World::owned().await;
    // Nobody tells the agent.
    let rules = world.kernel.ruleset.send_replace(None);
    let (name, text) = wrong(&mut world).await;
    assert_eq!(name, "rules");
    assert!(text.contains("no element of the NIC"), "{text}");
    world.kernel.ruleset.send_replace(rules);

    world.host.send_replace(interfaces(&["vnet1"]));
    until(&mut world, NicState::Pending).await;
    let text = "interface vnet0 does not exist".to_owned();
    assert_eq!(wrong(&mut world).await, ("interface".to_owned(), text));
    world.host.send_replace(interfaces(&["vnet0"]));
    until(&mut world, NicState::Active).await;
    // The kernel that is made up counts from three again; that is all.
    assert_eq!(wrong(&mut world).await.0, "drops");

    world.kernel.mood.send_replace(Mood::Refuse);
    let refused = world.apply("groups: [{id: h}]").await.unwrap_err();
    assert_eq!(refused.code(), Code::Unavailable);
    assert_eq!(wrong(&mut world).await.0, "agent");
}

#[tokio::test]
async fn a_nic_that_is_not_there_is_refused() {
    let mut world = World::owned().await;
    for (id, code) in [("none", Code::NotFound), ("", Code::InvalidArgument)] {
        let nic_id = id.to_owned();
        let answer = world.client.diagnose(pb::DiagnoseRequest { nic_id }).await;
        assert_eq!(refusal(answer), (code, vec!["nic_id".to_owned()]));
    }
}

#[tokio::test]
async fn a_nic_says_since_when_it_is_what_it_is() {
    let mut world = World::owned().await;
    let first = owner(&mut world).await;
    assert!(first.since_ms.unwrap() >= first.changed_at_ms.unwrap());
    tokio::time::sleep(Duration::from_millis(5)).await;
    world.apply("groups: [{id: h}]").await.unwrap();
    assert_eq!(owner(&mut world).await, first, "another's change");
    world.host.send_replace(interfaces(&["vnet1"]));
    until(&mut world, NicState::Pending).await;
    let second = owner(&mut world).await;
    assert!(second.since_ms > first.since_ms);
    assert_eq!(second.changed_at_ms, first.changed_at_ms);
    // What only would be has no time yet.
    let dry =
        "{dry_run: true, nics: [{id: new, mac: '06:00:00:00:00:09', interfaces: [{name: x}]}]}";
    let answer = world.apply(dry).await.unwrap();
    let status = &answer.nics[0];
    assert_eq!((status.since_ms, status.changed_at_ms), (None, None));
}
