//! The server: the API, health and reflection on every listener, and the limits.

use std::{future::Future, time::Duration};

use futures::{FutureExt, future};
use tokio::time::Instant;
use tonic::{
    Code,
    body::Body,
    codegen::http::{HeaderValue, Response},
    service::Routes,
    transport::Server,
};
use tower::util::MapResponseLayer;

use super::{
    health,
    listen::{Listener, tcp_connections, unix_connections},
    service::Service,
};
use crate::{
    agent::{FlowTable, Handle},
    model::Limits,
    pb::{self, security_group_agent_server::SecurityGroupAgentServer},
};

/// A peer that vanished without a word is noticed after this long.
const KEEPALIVE: Duration = Duration::from_secs(30);

/// How long calls that are under way may take to end when the server stops.
const GRACE: Duration = Duration::from_secs(5);

/// How the API is served.
#[derive(Debug, Clone)]
pub struct ServeOptions {
    /// The longest message that is taken, in octets. A whole sync may be as long as 64
    /// of them.
    pub max_message_octets: usize,
    /// When the agent started.
    pub started: Instant,
    /// How much of everything may be pushed; the agent's own limits.
    pub limits: Limits,
    /// Reads how full the host's table of flows is, where that can be read.
    pub flow_table: fn() -> Option<FlowTable>,
}

impl ServeOptions {
    /// What is taken where nothing is configured: 16 MiB.
    pub const MAX_MESSAGE_OCTETS: usize = 16 << 20;
}

/// Why the API is not served.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The reflection service does not understand the API's own description.
    #[error("reflection: {0}")]
    Reflection(#[from] tonic_reflection::server::Error),
    /// The transport failed.
    #[error("serving the API: {0}")]
    Transport(#[from] tonic::transport::Error),
}

/// Serves the API on all of these listeners until `shutdown`; then no call is taken any
/// more and those under way may end.
pub async fn serve(
    handle: Handle,
    options: ServeOptions,
    listeners: Vec<Listener>,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> Result<(), ServeError> {
    let (reporter, health_service) = tonic_health::server::health_reporter();
    health::report(&reporter, &handle.view()).await;
    let follow = health::follow(reporter.clone(), handle.views());
    let max = options.max_message_octets;
    let service =
        SecurityGroupAgentServer::new(Service::new(handle, options)).max_decoding_message_size(max);
    let routes = Routes::new(service)
        .add_service(health_service)
        .add_service(reflection().build_v1()?)
        .add_service(reflection().build_v1alpha()?)
        .prepare();

    let stop = async move {
        tokio::select! {
            () = shutdown => {}
            // Never ends this: the agent may be gone, its last state is still told.
            () = follow.then(|()| future::pending()) => {}
        }
        health::stop(reporter).await;
    }
    .boxed()
    .shared();
    let servers = listeners
        .into_iter()
        .map(|listener| listen(&routes, listener, stop.clone()));
    let late = stop.clone().then(|()| tokio::time::sleep(GRACE));
    tokio::select! {
        result = future::try_join_all(servers) => result.map(|_| ())?,
        () = late => tracing::warn!("calls that were under way at the stop were cut off"),
    }
    Ok(())
}

async fn listen(
    routes: &Routes,
    listener: Listener,
    stop: impl Future<Output = ()>,
) -> Result<(), tonic::transport::Error> {
    let server = Server::builder()
        .http2_keepalive_interval(Some(KEEPALIVE))
        .layer(MapResponseLayer::new(over_limit))
        .add_routes(routes.clone());
    match listener {
        Listener::Unix(listener) => {
            let connections = unix_connections(listener);
            server.serve_with_incoming_shutdown(connections, stop).await
        }
        Listener::Tcp(listener) => {
            let connections = tcp_connections(listener);
            server.serve_with_incoming_shutdown(connections, stop).await
        }
    }
}

fn reflection() -> tonic_reflection::server::Builder<'static> {
    tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(pb::DESCRIPTORS)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
}

/// tonic answers `OUT_OF_RANGE` to a message over the limit (tonic/src/codec/decode.rs),
/// where gRPC's other implementations and this API say `RESOURCE_EXHAUSTED`. No handler
/// answers `OUT_OF_RANGE` otherwise.
fn over_limit(mut response: Response<Body>) -> Response<Body> {
    let status = response.headers_mut().get_mut("grpc-status");
    if let Some(value) =
        status.filter(|value| Code::from_bytes(value.as_bytes()) == Code::OutOfRange)
    {
        *value = HeaderValue::from(i32::from(Code::ResourceExhausted));
    }
    response
}
