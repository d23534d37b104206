//! grpc.health.v1: serving while what was acknowledged is in the kernel and on disk.

use std::sync::Arc;

use tokio::sync::watch;
use tonic_health::{ServingStatus, server::HealthReporter};

use crate::{agent::View, pb::security_group_agent_server::SERVICE_NAME};

/// The server as a whole, and the one service.
const SERVICES: [&str; 2] = ["", SERVICE_NAME];

/// Says how the agent is at this moment.
pub(super) async fn report(reporter: &HealthReporter, view: &View) {
    let status = match view.unhealthy {
        None => ServingStatus::Serving,
        Some(_) => ServingStatus::NotServing,
    };
    set(reporter, status).await;
}

/// Says how the agent is with each of its views; not serving when it is gone.
pub(super) async fn follow(reporter: HealthReporter, mut views: watch::Receiver<Arc<View>>) {
    while views.changed().await.is_ok() {
        let view = Arc::clone(&views.borrow_and_update());
        report(&reporter, &view).await;
    }
    set(&reporter, ServingStatus::NotServing).await;
}

/// Says for the last time that nothing is served, and lets go of those who watch, for a
/// server that stops waits for every open stream.
pub(super) async fn stop(mut reporter: HealthReporter) {
    set(&reporter, ServingStatus::NotServing).await;
    for service in SERVICES {
        reporter.clear_service_status(service).await;
    }
}

async fn set(reporter: &HealthReporter, status: ServingStatus) {
    for service in SERVICES {
        reporter.set_service_status(service, status).await;
    }
}
