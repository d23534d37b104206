//! Changes that wait together share a transaction, and nobody notices but the clock.

use sgagent::pb;
use tonic::Code;

use super::{
    fake::{Mood, interfaces},
    world::{Client, World},
};

const CALLERS: usize = 16;

fn nic(i: usize, address: usize) -> pb::ApplyRequest {
    let interface = pb::InterfaceSelector {
        by: Some(pb::interface_selector::By::Name(format!("vnet{i}"))),
    };
    pb::ApplyRequest {
        nics: vec![pb::Nic {
            id: format!("n{i}"),
            mac: format!("06:00:00:00:01:{i:02x}"),
            interfaces: vec![interface],
            addresses: vec![pb::Address {
                address: format!("2001:db8::1:{address:x}"),
                shared: false,
            }],
            ..pb::Nic::default()
        }],
        ..pb::ApplyRequest::default()
    }
}

/// Sends requests at once while the kernel hangs, then lets it go on in a mood.
async fn crowd(
    world: &World,
    requests: Vec<pb::ApplyRequest>,
    mood: Mood,
) -> Vec<Result<pb::ApplyResponse, tonic::Status>> {
    let names: Vec<_> = (0..CALLERS).map(|i| format!("vnet{i}")).collect();
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    world.host.send_replace(interfaces(&names));
    world.kernel.mood.send_replace(Mood::Hang);
    let call = |mut client: Client, request| async move {
        client.apply(request).await.map(tonic::Response::into_inner)
    };
    let calls = requests
        .into_iter()
        .map(|request| call(world.client.clone(), request));
    let calls: Vec<_> = calls.map(tokio::spawn).collect();
    // Long enough for all of them to be waiting for the first.
    tokio::time::sleep(std::time::Duration::from_millis(300)).await;
    world.kernel.mood.send_replace(mood);
    let mut answers = Vec::new();
    for call in calls {
        answers.push(call.await.unwrap());
    }
    answers
}

#[tokio::test]
async fn changes_that_wait_share_a_transaction_and_count_one_by_one() {
    let world = World::start().await;
    let before = world.kernel.applied();
    let requests = (0..CALLERS).map(|i| nic(i, i)).collect();
    let answers = crowd(&world, requests, Mood::Obey).await;
    for (i, answer) in answers.iter().enumerate() {
        let answer = answer.as_ref().unwrap();
        let ids: Vec<_> = answer.nics.iter().map(|nic| nic.id.as_str()).collect();
        assert_eq!(ids, [format!("n{i}")]);
        assert_eq!(answer.summary.unwrap().nics_added, 1, "{answer:?}");
    }
    let revision = answers.iter().flatten().map(|answer| answer.revision).max();
    assert_eq!(revision, Some(CALLERS as u64));
    let transactions = world.kernel.applied() - before;
    // One for the interfaces, one for the first change, one or two for all that waited.
    assert!(
        (2..=4).contains(&transactions),
        "{transactions} transactions"
    );
}

#[tokio::test]
async fn one_that_is_wrong_is_refused_alone() {
    let world = World::start().await;
    // The second of the two wants what the first has.
    let mut requests: Vec<_> = (0..CALLERS).map(|i| nic(i, i)).collect();
    requests[7] = nic(7, 3);
    let answers = crowd(&world, requests, Mood::Obey).await;
    let refused: Vec<_> = answers
        .iter()
        .filter_map(|answer| answer.as_ref().err())
        .collect();
    assert_eq!(refused.len(), 1, "{refused:?}");
    assert_eq!(refused[0].code(), Code::FailedPrecondition);
    assert!(answers[3].is_err() != answers[7].is_err());
}

#[tokio::test]
async fn changes_of_one_object_are_made_in_order_of_arrival() {
    let world = World::start().await;
    let requests = (0..CALLERS).map(|i| nic(0, i)).collect();
    let answers = crowd(&world, requests, Mood::Obey).await;
    let mut revisions: Vec<_> = answers
        .iter()
        .map(|a| a.as_ref().unwrap().revision)
        .collect();
    revisions.sort_unstable();
    assert_eq!(revisions, (1..=CALLERS as u64).collect::<Vec<_>>());
}

#[tokio::test]
async fn what_the_kernel_refuses_together_is_tried_one_by_one() {
    let world = World::start().await;
    let requests = (0..CALLERS).map(|i| nic(i, i)).collect();
    let answers = crowd(&world, requests, Mood::RefuseCrowds).await;
    for answer in &answers {
        assert!(answer.is_ok(), "{answer:?}");
    }
    let held = world.kernel.ruleset.borrow().clone().unwrap();
    assert_eq!(held.nics.len(), CALLERS);
}
