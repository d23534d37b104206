//! Apply: what it answers, generations, dry runs, and a kernel that does not do its part.

use std::{sync::Arc, time::Duration};

use sgagent::pb;
use tonic::Code;

use super::{
    fake::{Mood, interfaces},
    world::{OWNER, World, refusal},
};

#[tokio::test]
async fn an_apply_answers_what_is_in_force() {
    let mut world = World::start().await;
    let answer = world.apply(OWNER).await.unwrap();
    assert_eq!((answer.revision, answer.generation), (1, Some(7)));
    let summary = answer.summary.unwrap();
    assert_eq!(
        (
            summary.nics_added,
            summary.groups_added,
            summary.members_added
        ),
        (1, 1, 1)
    );
    let nic = &answer.nics[0];
    assert_eq!(nic.state(), pb::NicState::Active, "{}", nic.reason);
    assert_eq!(
        (nic.interfaces[0].name.as_str(), nic.interfaces[0].index),
        ("vnet0", 3)
    );
    assert_eq!(nic.interfaces[0].bridge, "br0");
    assert_eq!(nic.link_local(), pb::LinkLocalMode::AnyUnowned);
    let addresses: Vec<_> = nic
        .addresses
        .iter()
        .map(|one| (one.address.as_str(), one.kind()))
        .collect();
    assert_eq!(
        addresses,
        [
            ("2001:db8::1", pb::AddressKind::Address),
            ("2001:db8:100:0:400:ff:fe00:1", pb::AddressKind::Slaac),
            ("2001:db8:0:10::/60", pb::AddressKind::DelegatedPrefix),
            ("2001:db8:200::/80", pb::AddressKind::OnLinkPrefix),
        ]
    );
}

#[tokio::test]
async fn a_nic_without_its_interface_is_pending_until_it_comes() {
    let mut world = World::start().await;
    let yaml = "nics: [{id: n, mac: '06:00:00:00:00:02', interfaces: [{name: vnet9}]}]";
    let answer = world.apply(yaml).await.unwrap();
    assert_eq!(answer.nics[0].state(), pb::NicState::Pending);
    assert!(!answer.nics[0].reason.is_empty());
    let address = &answer.nics[0].addresses[0];
    assert_eq!(address.address, "fe80::400:ff:fe00:2");
    assert_eq!(address.kind(), pb::AddressKind::LinkLocal);
    world.host.send_replace(interfaces(&["vnet9"]));
    becomes_active(&mut world).await;
}

/// Waits until the NIC `n` is in force.
async fn becomes_active(world: &mut World) {
    for _ in 0..100 {
        let request = pb::GetNicRequest { id: "n".to_owned() };
        let answer = world.client.get_nic(request).await.unwrap().into_inner();
        if answer.nic.unwrap().status.unwrap().state() == pb::NicState::Active {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("the NIC did not become active");
}

/// An interface comes while the agent is at work and a dry run or a bad request waits:
/// whichever it takes first, it forgets neither.
#[tokio::test]
async fn an_interface_that_comes_beside_a_request_that_changes_nothing_is_bound() {
    for _ in 0..16 {
        let mut world = World::start().await;
        let yaml = "nics: [{id: n, mac: '06:00:00:00:00:02', interfaces: [{name: vnet9}]}]";
        world.apply(yaml).await.unwrap();
        world.kernel.mood.send_replace(Mood::Hang);
        let requests = [
            pb::ApplyRequest {
                groups: vec![pb::Group {
                    id: "g".to_owned(),
                    ..Default::default()
                }],
                nics: vec![pb::Nic {
                    id: "other".to_owned(),
                    mac: "06:00:00:00:00:03".to_owned(),
                    interfaces: vec![named("vnet0")],
                    ..Default::default()
                }],
                ..Default::default()
            },
            pb::ApplyRequest {
                dry_run: true,
                ..Default::default()
            },
            pb::ApplyRequest {
                remove_nics: vec!["nobody".to_owned()],
                ..Default::default()
            },
        ];
        let mut calls = Vec::new();
        for request in requests {
            let mut client = world.client.clone();
            calls.push(tokio::spawn(async move { client.apply(request).await }));
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        world.host.send_replace(interfaces(&["vnet0", "vnet9"]));
        world.kernel.mood.send_replace(Mood::Obey);
        for call in calls {
            let _ = call.await.unwrap();
        }
        becomes_active(&mut world).await;
    }
}

fn named(name: &str) -> pb::InterfaceSelector {
    let by = pb::interface_selector::By::Name(name.to_owned());
    pb::InterfaceSelector { by: Some(by) }
}

#[tokio::test]
async fn a_generation_is_greater_or_the_same_once_more() {
    let mut world = World::owned().await;
    let before = world.state().await;
    // The same again, be it in another order or case.
    let again = world.apply(OWNER).await.unwrap();
    assert_eq!((again.revision, again.generation), (1, Some(7)));
    assert_eq!(again.summary.unwrap(), pb::ChangeSummary::default());
    world
        .apply(&OWNER.replace("slaac_prefix", "slaacPrefix"))
        .await
        .unwrap();
    assert_eq!(world.state().await, before);
    // The same number with something else, and a smaller one.
    for stale in ["{generation: 7}", "{generation: 6}", "{generation: 0}"] {
        let status = world.apply(stale).await.unwrap_err();
        assert!(status.message().contains('7'), "{}", status.message());
        let paths = refusal(Err::<(), _>(status));
        assert_eq!(
            paths,
            (Code::FailedPrecondition, vec!["generation".to_owned()])
        );
        assert_eq!(world.state().await, before);
    }
    // Gaps are allowed; none at all leaves the one in force.
    let gap = world
        .apply("{generation: 1000, groups: [{id: h}]}")
        .await
        .unwrap();
    assert_eq!((gap.revision, gap.generation), (2, Some(1000)));
    let none = world.apply("{remove_groups: [h]}").await.unwrap();
    assert_eq!((none.revision, none.generation), (3, Some(1000)));
    let sync = world.sync(&["{generation: 999, complete: true}"]).await;
    assert_eq!(refusal(sync).0, Code::FailedPrecondition);
}

#[tokio::test]
async fn a_dry_run_says_what_would_be_and_changes_nothing() {
    let mut world = World::owned().await;
    let before = world.state().await;
    let applied = world.kernel.applied();
    let yaml = "
dry_run: true
generation: 8
nics: [{id: n, mac: '06:00:00:00:00:02', interfaces: [{name: vnet1}]}]
remove_nics: [owner]
";
    let answer = world.apply(yaml).await.unwrap();
    let summary = answer.summary.unwrap();
    assert_eq!((summary.nics_added, summary.nics_removed), (1, 1));
    assert!(!answer.plan.is_empty());
    assert_eq!(answer.nics[0].state(), pb::NicState::Active);
    let sync = world
        .sync(&["{dry_run: true, complete: true}"])
        .await
        .unwrap();
    assert_eq!(sync.summary.unwrap().nics_removed, 1);
    assert_eq!(world.state().await, before);
    assert_eq!(world.kernel.applied(), applied);
    // What a dry run refuses it refuses as the change itself would be.
    let bad = world.apply("{dry_run: true, remove_nics: [none]}").await;
    assert_eq!(
        refusal(bad),
        (Code::NotFound, vec!["remove_nics[0]".to_owned()])
    );
}

#[tokio::test]
async fn an_object_that_is_as_it_was_counts_nowhere() {
    let mut world = World::owned().await;
    let again = OWNER.replace("generation: 7", "generation: 8");
    let answer = world.apply(&again).await.unwrap();
    assert_eq!(answer.summary.unwrap(), pb::ChangeSummary::default());
    assert_eq!(answer.generation, Some(8));
}

#[tokio::test]
async fn what_the_kernel_refuses_is_unavailable_and_not_in_force() {
    let mut world = World::owned().await;
    let held = world.kernel.ruleset.borrow().clone();
    world.kernel.mood.send_replace(Mood::Refuse);
    let status = world
        .apply("{generation: 8, groups: [{id: h}], remove_nics: [owner]}")
        .await;
    let status = status.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
    assert!(
        status.message().contains("made to refuse"),
        "{}",
        status.message()
    );
    let now = world.status().await;
    assert_eq!(
        (now.generation, now.revision, now.healthy),
        (Some(7), 1, false)
    );
    assert!(!now.unhealthy_reason.is_empty());
    world.kernel.mood.send_replace(Mood::Obey);
    for _ in 0..200 {
        if world.status().await.healthy {
            assert_eq!(*world.kernel.ruleset.borrow(), held);
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("the agent did not become healthy again");
}

#[tokio::test]
async fn a_kernel_that_forgot_is_programmed_anew() {
    let mut world = World::owned().await;
    world.kernel.ruleset.send_replace(None);
    let yaml = "nics: [{id: n, mac: '06:00:00:00:00:02', interfaces: [{name: vnet1}]}]";
    if world.apply(yaml).await.is_err() {
        world.apply(yaml).await.unwrap();
    }
    let held = world.kernel.ruleset.borrow().clone().unwrap();
    assert_eq!(held.nics.len(), 2);
}

#[tokio::test]
async fn what_the_disk_refuses_is_taken_back_from_the_kernel() {
    let mut world = World::owned().await;
    let held = world.kernel.ruleset.borrow().clone();
    world.full.send_replace(true);
    let change = "{generation: 8, groups: [{id: h}], remove_nics: [owner]}";
    let status = world.apply(change).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
    let said = status.message();
    assert!(
        said.contains("the-store") && said.contains("the disk is full"),
        "{said}"
    );
    assert_eq!(*world.kernel.ruleset.borrow(), held);
    let now = world.status().await;
    assert_eq!((now.generation, now.revision), (Some(7), 1));
    assert!(!now.healthy && now.unhealthy_reason.contains("the disk is full"));

    world.full.send_replace(false);
    while !world.status().await.healthy {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    world.apply(change).await.unwrap();
    assert_eq!(world.status().await.generation, Some(8));
}

#[tokio::test]
async fn reads_do_not_wait_for_a_kernel_that_hangs() {
    let mut world = World::owned().await;
    world.kernel.mood.send_replace(Mood::Hang);
    let mut other = world.client.clone();
    let request = pb::ApplyRequest {
        remove_nics: vec!["owner".to_owned()],
        ..Default::default()
    };
    let change = tokio::spawn(async move { other.apply(request).await });
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(world.status().await.counts.unwrap().nics_active, 1);
    assert!(!change.is_finished());
    world.kernel.mood.send_replace(Mood::Obey);
    change.await.unwrap().unwrap();
    assert_eq!(world.status().await.counts.unwrap().nics_active, 0);
}

#[tokio::test]
async fn a_change_counts_though_nobody_waits_for_its_answer() {
    let mut world = World::owned().await;
    world.kernel.mood.send_replace(Mood::Hang);
    let mut other = world.client.clone();
    let request = pb::ApplyRequest {
        remove_nics: vec!["owner".to_owned()],
        ..Default::default()
    };
    let change = tokio::spawn(async move { other.apply(request).await });
    tokio::time::sleep(Duration::from_millis(50)).await;
    change.abort();
    world.kernel.mood.send_replace(Mood::Obey);
    world.apply("{groups: [{id: h}]}").await.unwrap();
    assert_eq!(world.status().await.counts.unwrap().nics_active, 0);
    let held = world.kernel.ruleset.borrow().clone();
    assert_eq!(held.map(|held| Arc::clone(&held).nics.len()), Some(0));
}

// ---- S7: what is cut, seen from the fake kernel, which cuts one flow for each suspect

const SERVER: &str = "
groups:
  - {id: s, rules: [{direction: DIRECTION_INGRESS, protocol: PROTOCOL_TCP, remote: {anyone: true}}]}
nics:
  - {id: n, mac: '06:00:00:00:00:02', interfaces: [{name: vnet1}], group_ids: [s]}";

const NO_RULES: &str = "groups: [{id: s}]";

/// How many suspects each request since the last look had.
fn suspects(world: &mut World) -> Vec<usize> {
    let cuts = world.kernel.cuts.borrow_and_update();
    cuts.iter().map(|cut| cut.suspects.len()).collect()
}

#[tokio::test]
async fn only_what_takes_something_away_looks_at_the_flows() {
    let mut world = World::start().await;
    assert_eq!(world.apply(SERVER).await.unwrap().flows_cut, 0);
    world.apply(OWNER).await.unwrap();
    world
        .apply("members: [{group_id: g, add: [{address: '2001:db8::9'}]}]")
        .await
        .unwrap();
    assert!(suspects(&mut world).iter().all(|n| *n == 0), "only added");
}

#[tokio::test]
async fn an_answer_says_how_many_flows_were_cut() {
    let mut world = World::start().await;
    world.apply(SERVER).await.unwrap();
    assert_eq!(world.apply(NO_RULES).await.unwrap().flows_cut, 1);
    assert_eq!(world.apply(SERVER).await.unwrap().flows_cut, 0);
    assert_eq!(world.apply("remove_nics: [n]").await.unwrap().flows_cut, 1);
}

#[tokio::test]
async fn flows_that_cannot_be_cut_make_the_agent_unhealthy_until_they_are() {
    let mut world = World::start().await;
    world.apply(SERVER).await.unwrap();
    world.kernel.flows_stay.send_replace(true);
    assert_eq!(world.apply(NO_RULES).await.unwrap().flows_cut, 0);
    let unhealthy = |status: pb::GetStatusResponse| format!("{status:?}").contains("may live on");
    assert!(unhealthy(world.status().await));
    // A change that has nothing to do with it does not make it forgotten.
    world.apply("groups: [{id: h}]").await.unwrap();
    assert!(unhealthy(world.status().await));
    world.kernel.flows_stay.send_replace(false);
    let started = tokio::time::Instant::now();
    while unhealthy(world.status().await) {
        assert!(
            started.elapsed() < Duration::from_secs(20),
            "not tried again"
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(*suspects(&mut world).last().unwrap(), 1);
}
