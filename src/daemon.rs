//! What the daemon's commands do: puts the parts together.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use anyhow::{Context as _, Result, bail};
use libsystemd::daemon::{self as systemd, NotifyState};
use tokio::{
    signal::unix::{SignalKind, signal},
    task::JoinSet,
};
use tracing::{info, warn};

use crate::{
    agent::{FlowTable, Handle, restore_settings},
    config::{Config, Xenstore},
    failpoint::reach,
    grpc::{Listener, ServeOptions, Tls, serve},
    link::{self, LinkError, Netlink},
    metrics::{self, Exporter},
    store::Store as _,
    telemetry,
};

mod choose;
mod compile;
mod start;

pub use compile::compile;
use start::{STORE, Started, open_store};

/// Serves until SIGTERM or SIGINT. The rules stay in the kernel.
pub async fn run(config: Config) -> Result<()> {
    let started = tokio::time::Instant::now();
    telemetry::start(&config.log, config.log_format)?;
    let Started {
        agent,
        handle,
        claim: _claim,
    } = Started::with(&config).await?;
    let (ended, agent_ended) = tokio::sync::oneshot::channel::<()>();
    let mut agent = tokio::spawn(async move {
        agent.run().await;
        drop(ended);
    });
    reach("start-listening");
    let listeners = listeners(&config).await?;
    let scrapes = listen_for_scrapes(&config, &handle).await?;
    let asked = stop_signal()?;
    let alone = Arc::new(AtomicBool::new(false));
    let left_alone = Arc::clone(&alone);
    let stop = async move {
        tokio::select! {
            () = asked => {}
            _ = agent_ended => left_alone.store(true, Ordering::Relaxed),
        }
    };
    info!(socket = %config.unix_socket.display(), "ready");
    // Under systemd, Type=notify; elsewhere nobody listens.
    let _ = systemd::notify(false, &[NotifyState::Ready]);
    serve(handle, serve_options(&config, started), listeners, stop).await?;
    drop(scrapes);
    // A client that stays connected must not hold up the end; what is under way in the
    // agent gets its time, and what is cut off was not acknowledged.
    if tokio::time::timeout(LAST_CALLS, &mut agent).await.is_err() {
        warn!("clients stayed connected to the end");
    }
    info!("stopped; the rules stay in the kernel");
    if alone.load(Ordering::Relaxed) {
        bail!("the agent's task ended on its own; see the log");
    }
    Ok(())
}

fn serve_options(config: &Config, started: tokio::time::Instant) -> ServeOptions {
    ServeOptions {
        max_message_octets: config.limits.message_octets,
        started,
        limits: config.model_limits(),
        flow_table,
        access: Arc::new(config.access(rustix::process::geteuid().as_raw())),
        crowding: config.crowding(),
    }
}

/// Puts what was acknowledged in force and ends, before there is a network or a guest.
pub async fn restore(config: Config) -> Result<()> {
    telemetry::start(&config.log, config.log_format)?;
    let started = Started::with(&config).await?;
    match &started.handle.view().unhealthy {
        Some(why) => bail!("what was acknowledged is not in force: {why}"),
        None => Ok(()),
    }
}

/// Removes all that is ours from the kernel and restores the host's settings.
pub async fn purge(config: Config) -> Result<()> {
    telemetry::start(&config.log, config.log_format)?;
    // Opening the store first refuses while the daemon runs: it would put all back.
    let store = if config.state_dir.join(STORE).exists() {
        Some(open_store(&config).await?)
    } else {
        None
    };
    // Whatever the dataplane and its placement were: all that is ours goes.
    choose::purge(&config).await?;
    info!("removed our tables");
    let Some((mut store, _claim)) = store else {
        return Ok(());
    };
    let saved = store.load().await?;
    let host = follow(&config).await?;
    let failed = restore_settings(&host, &saved.settings).await;
    let mut rest = saved.clone();
    rest.settings.retain(|name, _| failed.contains_key(name));
    store.commit(&saved, &rest).await?;
    if !failed.is_empty() {
        let why: Vec<_> = failed.into_values().collect();
        bail!("settings not restored: {}", why.join("; "));
    }
    Ok(())
}

/// The host, as the configuration says what of it concerns us.
async fn follow(config: &Config) -> Result<Netlink, LinkError> {
    let xenstore = match &config.xenstore {
        Xenstore::Auto => link::xenstore_of_this_host(),
        Xenstore::None => None,
        Xenstore::Socket(path) => Some(path.clone()),
    };
    let (bridges, guests) = (config.bridges.clone(), config.guest_interfaces.clone());
    Netlink::start(bridges, guests, xenstore).await
}

/// How long the agent may go on after the listeners are closed.
const LAST_CALLS: std::time::Duration = std::time::Duration::from_secs(2);

async fn listeners(config: &Config) -> Result<Vec<Listener>> {
    let mut listeners = vec![unix_listener(config).await?];
    if !config.tcp_listen.is_empty() {
        let tls = Tls::start(config.tls.clone()).context("tls")?;
        for address in &config.tcp_listen {
            listeners.push(Listener::tcp(*address, Arc::clone(&tls)).await?);
        }
    }
    Ok(listeners)
}

/// Who scrapes is answered until what this gives back is dropped.
async fn listen_for_scrapes(config: &Config, handle: &Handle) -> Result<JoinSet<()>> {
    let mut scrapes = JoinSet::new();
    for address in &config.metrics_listen {
        let listener = tokio::net::TcpListener::bind(address).await;
        let listener = listener.with_context(|| format!("metrics_listen {address}"))?;
        info!(address = %listener.local_addr()?, "metrics");
        let exporter = Exporter {
            handle: handle.clone(),
            flow_table,
        };
        scrapes.spawn(metrics::serve(listener, exporter));
    }
    Ok(scrapes)
}

async fn unix_listener(config: &Config) -> Result<Listener> {
    if let Some(directory) = config.unix_socket.parent() {
        std::fs::create_dir_all(directory)
            .with_context(|| format!("unix_socket: directory {}", directory.display()))?;
    }
    Ok(Listener::unix(&config.unix_socket).await?)
}

fn stop_signal() -> Result<impl Future<Output = ()>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}

/// How full the table of flows is; nothing where the kernel tracks none (yet).
fn flow_table() -> Option<FlowTable> {
    let read = |name: &str| {
        let text = std::fs::read_to_string(format!("/proc/sys/net/netfilter/{name}"));
        text.ok()?.trim().parse().ok()
    };
    Some(FlowTable {
        entries: read("nf_conntrack_count")?,
        maximum: read("nf_conntrack_max")?,
    })
}
