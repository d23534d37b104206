//! Listeners, health, reflection and the stop.

use std::time::Duration;

use sgagent::pb::{self, security_group_agent_server::SERVICE_NAME};
use tokio::time::timeout;
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};
use tonic_reflection::pb::{v1, v1alpha};

use super::{fake::Mood, world::World};

const SOON: Duration = Duration::from_secs(20);

async fn health(world: &World, service: &str) -> i32 {
    let request = HealthCheckRequest {
        service: service.to_owned(),
    };
    let answer = HealthClient::new(world.channel.clone())
        .check(request)
        .await;
    answer.unwrap().into_inner().status
}

#[tokio::test]
async fn health_follows_the_agent() {
    let mut world = World::owned().await;
    let serving = ServingStatus::Serving as i32;
    for service in ["", SERVICE_NAME] {
        assert_eq!(health(&world, service).await, serving);
    }
    let request = HealthCheckRequest {
        service: SERVICE_NAME.to_owned(),
    };
    let mut client = HealthClient::new(world.channel.clone());
    let mut watch = client.watch(request).await.unwrap().into_inner();
    assert_eq!(watch.message().await.unwrap().unwrap().status, serving);

    world.kernel.mood.send_replace(Mood::Refuse);
    world.apply("{remove_nics: [owner]}").await.unwrap_err();
    let next = timeout(SOON, watch.message())
        .await
        .unwrap()
        .unwrap()
        .unwrap();
    assert_eq!(next.status, ServingStatus::NotServing as i32);
    assert_eq!(health(&world, "").await, ServingStatus::NotServing as i32);

    world.kernel.mood.send_replace(Mood::Obey);
    let next = timeout(SOON, watch.message())
        .await
        .unwrap()
        .unwrap()
        .unwrap();
    assert_eq!(next.status, serving);
    assert_eq!(health(&world, "").await, serving);
}

#[tokio::test]
async fn reflection_v1_lists_every_service() {
    use v1::{
        ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
        server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
    };
    let world = World::start().await;
    let message_request = Some(MessageRequest::ListServices(String::new()));
    let request = ServerReflectionRequest {
        host: String::new(),
        message_request,
    };
    let mut client = ServerReflectionClient::new(world.channel.clone());
    let stream = client
        .server_reflection_info(tokio_stream::once(request))
        .await;
    let answer = stream
        .unwrap()
        .into_inner()
        .message()
        .await
        .unwrap()
        .unwrap();
    let Some(MessageResponse::ListServicesResponse(list)) = answer.message_response else {
        panic!("{answer:?}")
    };
    let names: Vec<_> = list
        .service
        .into_iter()
        .map(|service| service.name)
        .collect();
    for name in [
        "grpc.health.v1.Health",
        "grpc.reflection.v1.ServerReflection",
        SERVICE_NAME,
    ] {
        assert!(
            names.iter().any(|listed| listed == name),
            "{name} in {names:?}"
        );
    }
}

#[tokio::test]
async fn reflection_v1alpha_knows_the_messages() {
    use v1alpha::{
        ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
        server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
    };
    let world = World::start().await;
    let symbol = "sgagent.v1.Nic".to_owned();
    let message_request = Some(MessageRequest::FileContainingSymbol(symbol));
    let request = ServerReflectionRequest {
        host: String::new(),
        message_request,
    };
    let mut client = ServerReflectionClient::new(world.channel.clone());
    let stream = client
        .server_reflection_info(tokio_stream::once(request))
        .await;
    let answer = stream
        .unwrap()
        .into_inner()
        .message()
        .await
        .unwrap()
        .unwrap();
    let known = matches!(
        answer.message_response,
        Some(MessageResponse::FileDescriptorResponse(_))
    );
    assert!(known, "{answer:?}");
}

#[tokio::test]
async fn a_stop_waits_for_the_change_under_way_and_for_no_watcher() {
    let mut world = World::owned().await;
    let mut client = HealthClient::new(world.channel.clone());
    let request = HealthCheckRequest {
        service: String::new(),
    };
    let mut watch = client.watch(request).await.unwrap().into_inner();
    watch.message().await.unwrap();
    world.kernel.mood.send_replace(Mood::Hang);
    let mut other = world.client.clone();
    let request = pb::ApplyRequest {
        remove_nics: vec!["owner".to_owned()],
        ..Default::default()
    };
    let change = tokio::spawn(async move { other.apply(request).await });
    tokio::time::sleep(Duration::from_millis(50)).await;
    world.stop();
    let next = timeout(SOON, watch.message())
        .await
        .unwrap()
        .unwrap()
        .unwrap();
    assert_eq!(next.status, ServingStatus::NotServing as i32);
    assert!(
        timeout(SOON, watch.message())
            .await
            .unwrap()
            .unwrap()
            .is_none()
    );
    assert!(!world.served.is_finished());
    world.kernel.mood.send_replace(Mood::Obey);
    change.await.unwrap().unwrap();
    timeout(Duration::from_secs(3), world.served)
        .await
        .unwrap()
        .unwrap();
}

#[tokio::test]
async fn a_stop_does_not_wait_for_ever() {
    let mut world = World::owned().await;
    world.kernel.mood.send_replace(Mood::Hang);
    let mut other = world.client.clone();
    let request = pb::ApplyRequest {
        remove_nics: vec!["owner".to_owned()],
        ..Default::default()
    };
    let _change = tokio::spawn(async move { other.apply(request).await });
    tokio::time::sleep(Duration::from_millis(50)).await;
    world.stop();
    timeout(SOON, world.served).await.unwrap().unwrap();
}
