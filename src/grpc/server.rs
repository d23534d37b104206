//! The server: the API, health and reflection on every listener, and the limits.

use std::{future::Future, sync::Arc, time::Duration};

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
    connection::{Door, tls_connections, unix_connections},
    gate::{Crowd, GateLayer},
    health,
    listen::Listener,
    service::Service,
};
use crate::{
    access::{Access, Crowding},
    agent::{FlowTable, Handle},
    model::Limits,
    pb::{self, security_group_agent_server::SecurityGroupAgentServer},
};

/// A peer that vanished without a word is noticed after this long.
const KEEPALIVE: Duration = Duration::from_secs(30);

/// The headers of a request.
const HEADER_OCTETS: u32 = 16 << 10;

/// How long calls that are under way may take to end when the server stops.
const GRACE: Duration = Duration::from_secs(5);

/// How the API is served.
#[derive(Debug, Clone)]
pub struct ServeOptions {
    /// The longest message that is taken, in octets. A whole sync may be as long as 64
    /// of them.
    pub max_message_octets: usize,
    /// Who may do what.
    pub access: Arc<Access>,
    /// How many clients there may be, and what they may do at once.
    pub crowding: Crowding,
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
    let crowding = options.crowding;
    let door = || Door {
        access: Arc::clone(&options.access),
        crowd: Crowd::new(crowding.connections, crowding.connections_per_client),
    };
    let doors = Doors {
        unix: door(),
        tcp: door(),
        crowding,
    };
    let (working, until) = tokio::sync::watch::channel(());
    let service = SecurityGroupAgentServer::new(Service::new(handle, options, until))
        .max_decoding_message_size(max);
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
        // A server that stops waits for every open stream.
        drop(working);
    }
    .boxed()
    .shared();
    let servers = listeners
        .into_iter()
        .map(|listener| listen(&routes, listener, &doors, stop.clone()));
    let late = stop.clone().then(|()| tokio::time::sleep(GRACE));
    tokio::select! {
        result = future::try_join_all(servers) => result.map(|_| ())?,
        () = late => tracing::warn!("calls that were under way at the stop were cut off"),
    }
    Ok(())
}

/// Where clients come in.
struct Doors {
    unix: Door,
    tcp: Door,
    crowding: Crowding,
}

async fn listen(
    routes: &Routes,
    listener: Listener,
    doors: &Doors,
    stop: impl Future<Output = ()>,
) -> Result<(), tonic::transport::Error> {
    let Crowding {
        requests_per_connection,
        request,
        ..
    } = doors.crowding;
    let server = Server::builder()
        .http2_keepalive_interval(Some(KEEPALIVE))
        .http2_keepalive_timeout(Some(KEEPALIVE))
        .http2_max_header_list_size(HEADER_OCTETS)
        .max_concurrent_streams(requests_per_connection)
        .timeout(request)
        .layer(MapResponseLayer::new(over_limit))
        .layer(GateLayer)
        .add_routes(routes.clone());
    match listener {
        Listener::Unix(listener) => {
            let connections = unix_connections(listener, doors.unix.clone());
            server.serve_with_incoming_shutdown(connections, stop).await
        }
        Listener::Tcp(listener, tls) => {
            let connections = tls_connections(listener, tls, doors.tcp.clone());
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
