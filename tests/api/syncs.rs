//! Sync: replaces everything, or nothing.

use sgagent::{model::Limits, pb};
use tonic::Code;

use super::world::{MESSAGE_OCTETS, World, refusal};

const NIC: &str = "nics: [{id: n, mac: '06:00:00:00:00:02', interfaces: [{name: vnet1}]}]";

fn one(code: Code, path: &str) -> (Code, Vec<String>) {
    (code, vec![path.to_owned()])
}

#[tokio::test]
async fn what_a_sync_does_not_name_goes_away() {
    let mut world = World::owned().await;
    let pieces = [
        "generation: 8",
        NIC,
        "{groups: [{id: h}], members: [{group_id: h, members: [{address: '2001:db8::5'}]}]}",
        "{members: [{group_id: h, members: [{address: '2001:db8::6'}]}], complete: true}",
    ];
    let answer = world.sync(&pieces).await.unwrap();
    assert_eq!((answer.revision, answer.generation), (2, Some(8)));
    assert!(answer.nics_not_active.is_empty());
    let summary = answer.summary.unwrap();
    assert_eq!((summary.nics_added, summary.nics_removed), (1, 1));
    assert_eq!((summary.groups_added, summary.groups_removed), (1, 1));
    assert_eq!((summary.members_added, summary.members_removed), (2, 1));
    let nics = world
        .client
        .list_nics(pb::ListNicsRequest::default())
        .await
        .unwrap();
    let ids: Vec<_> = nics
        .into_inner()
        .nics
        .into_iter()
        .map(|info| info.nic.unwrap().id)
        .collect();
    assert_eq!(ids, ["n"]);
    assert_eq!(
        world.kernel.ruleset.borrow().as_ref().unwrap().nics.len(),
        1
    );

    // The same content, cut otherwise, is the same.
    let before = world.state().await;
    let other = [
        "{generation: 8, groups: [{id: h}]}",
        "members: [{group_id: h, members: [{address: '2001:db8::6'}, {address: '2001:db8::5'}]}]",
        &format!("{NIC}\ncomplete: true"),
    ];
    assert_eq!(
        world.sync(&other).await.unwrap().summary.unwrap(),
        pb::ChangeSummary::default()
    );
    assert_eq!(world.state().await, before);
}

#[tokio::test]
async fn a_sync_tells_who_is_not_active() {
    let mut world = World::start().await;
    let piece =
        "{nics: [{id: n, mac: '06:00:00:00:00:02', interfaces: [{name: none}]}], complete: true}";
    let answer = world.sync(&[piece]).await.unwrap();
    assert_eq!(answer.nics_not_active[0].id, "n");
    assert_eq!(answer.nics_not_active[0].state(), pb::NicState::Pending);
}

#[tokio::test]
async fn a_stream_that_is_not_whole_changes_nothing() {
    let mut world = World::owned().await;
    let before = world.state().await;
    let last = "{complete: true}";
    let invalid = |path| one(Code::InvalidArgument, path);
    for (pieces, wanted) in [
        (vec![], invalid("complete")),
        (vec!["{}"], invalid("complete")),
        (vec![NIC, "{}"], invalid("complete")),
        (vec![last, "{}"], invalid("complete")),
        (vec![last, last], invalid("complete")),
        (vec!["{}", "{generation: 9}", last], invalid("generation")),
        (
            vec!["{}", "{dry_run: true, complete: true}"],
            invalid("dry_run"),
        ),
        (vec![NIC, NIC, last], invalid("nics[1].id")),
        (
            vec!["{groups: [{id: h}]}", "{groups: [{id: h}], complete: true}"],
            invalid("groups[1].id"),
        ),
        (
            vec![NIC, "nics: [{}]", last],
            (
                Code::InvalidArgument,
                ["nics[1].id", "nics[1].mac", "nics[1].interfaces"]
                    .map(str::to_owned)
                    .to_vec(),
            ),
        ),
        (
            vec![
                "{groups: [{id: z}, {id: h}], members: [{group_id: z}, {group_id: h, members: [{address: '2001:db8::5'}]}]}",
                "{members: [{group_id: h, members: [{address: '2001:db8::5'}]}], complete: true}",
            ],
            invalid("members[2].members[0].address"),
        ),
        (
            vec!["{groups: [{id: z}], members: [{group_id: z}, {group_id: a}], complete: true}"],
            one(Code::NotFound, "members[1].group_id"),
        ),
    ] {
        assert_eq!(refusal(world.sync(&pieces).await), wanted, "{pieces:?}");
        assert_eq!(world.state().await, before, "{pieces:?}");
    }
}

#[tokio::test]
async fn a_stream_that_the_client_drops_changes_nothing() {
    let mut world = World::owned().await;
    let before = world.state().await;
    let (messages, stream) = tokio::sync::mpsc::channel(1);
    let mut other = world.client.clone();
    let call = tokio::spawn(async move {
        other
            .sync(tokio_stream::wrappers::ReceiverStream::new(stream))
            .await
    });
    messages.send(pb::SyncRequest::default()).await.unwrap();
    tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    call.abort();
    drop(messages);
    tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    assert_eq!(world.state().await, before);
}

#[tokio::test]
async fn a_sync_over_a_limit_is_refused_before_its_end() {
    let limits = Limits {
        nics: 1,
        members_per_group: 1,
        ..Limits::default()
    };
    let mut world = World::with_limits(limits).await;
    let before = world.state().await;
    let other = "nics: [{id: o, mac: '06:00:00:00:00:03', interfaces: [{name: vnet0}]}]";
    let answer = world.sync(&[NIC, other]).await;
    assert_eq!(refusal(answer), one(Code::ResourceExhausted, "nics"));
    let members =
        "members: [{group_id: h, members: [{address: '2001:db8::5'}, {address: '2001:db8::6'}]}]";
    let answer = world.sync(&[members]).await;
    assert_eq!(
        refusal(answer),
        one(Code::ResourceExhausted, "members[0].members")
    );
    let long = format!("nics: [{{id: {}}}]", "x".repeat(MESSAGE_OCTETS));
    assert_eq!(
        refusal(world.sync(&["{}", &long]).await).0,
        Code::ResourceExhausted
    );
    assert_eq!(world.state().await, before);
}
