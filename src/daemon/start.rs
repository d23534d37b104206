//! How an agent begins: what was acknowledged comes into force. Where that fails and the kernel
//! has no rules of ours yet, as after a boot, the guests' ports are closed all the same.

use std::sync::Arc;

use anyhow::{Context as _, Result};
use tracing::error;

use super::{
    choose::{Chosen, choose},
    follow,
};
use crate::{
    agent::{Agent, Handle, Identity, Meter, Parts},
    config::Config,
    dataplane::{
        Dataplane as _,
        any::Any,
        nft,
        orphans::{self, Claim},
    },
    link::{Host as _, Netlink},
    model::{Desired, Interfaces, Located},
    policy::{self, Numbering},
    ruleset::Plan,
    store::Redb,
};

/// An agent that has done its first work, and those who may ask it.
#[derive(Debug)]
pub(super) struct Started {
    pub(super) agent: Agent<Any, Netlink, Redb>,
    pub(super) handle: Handle,
    /// Nobody else programs this host as long as it is held.
    pub(super) claim: Claim,
}

impl Started {
    pub(super) async fn with(config: &Config) -> Result<Self> {
        let Chosen {
            dataplane,
            spare,
            others,
            placement,
            identity,
        } = choose(config).await?;
        let host = follow(config)
            .await
            .context("the host's interfaces can't be watched")?;
        let mut interfaces = Arc::clone(&host.interfaces().borrow());
        let done = Self::of(config, placement, dataplane, host, identity).await;
        let failed = match &done {
            Ok(started) => {
                let view = started.handle.view();
                interfaces = Arc::clone(view.interfaces());
                view.unhealthy.is_some()
            }
            Err(_) => true,
        };
        if failed {
            close(spare, &interfaces).await;
        } else {
            others.end().await;
        }
        done
    }

    async fn of(
        config: &Config,
        placement: nft::Placement,
        dataplane: Any,
        host: Netlink,
        identity: Identity,
    ) -> Result<Self> {
        let (store, claim) = open_store(config).await?;
        let parts = Parts {
            dataplane,
            host,
            store,
            limits: config.model_limits(),
            host_policy: config.host_policy(placement),
            identity,
            meter: Meter::new()?,
        };
        let (agent, handle) = Agent::start(parts).await?;
        Ok(Self {
            agent,
            handle,
            claim,
        })
    }
}

/// Closes the managed bridges' ports to guests where the kernel has no rules of ours. Those that it
/// has are the last that were known to be right.
async fn close(mut dataplane: Any, interfaces: &Arc<Interfaces>) {
    match dataplane.is_programmed().await {
        Ok(true) => return,
        Ok(false) => {}
        Err(error) => return error!(%error, "guests' ports may be open"),
    }
    let host = Arc::new(Located::from(Arc::clone(interfaces)));
    let compiled = policy::compile(&Desired::default(), &host, &mut Numbering::default());
    if compiled.ruleset.is_empty() {
        return;
    }
    match dataplane.apply(&Plan::replace(&compiled.ruleset)).await {
        Ok(()) => error!("what was acknowledged is not in force; guests' ports are closed"),
        Err(error) => error!(%error, "guests' ports are open"),
    }
}

pub(super) const STORE: &str = "state.redb";

/// Opens the store, which nobody but a running agent holds; and what an agent that was killed has
/// started goes on no more.
pub(super) async fn open_store(config: &Config) -> Result<(Redb, Claim)> {
    std::fs::create_dir_all(&config.state_dir)
        .with_context(|| format!("state_dir {}", config.state_dir.display()))?;
    let store = Redb::open(config.state_dir.join(STORE))
        .context("the state can't be opened (is another sgagent running?)")?;
    let path = config.state_dir.join("nft.lock");
    let claim = orphans::claim(&path).await;
    let claim = claim.with_context(|| format!("lock {}", path.display()))?;
    Ok((store, claim))
}
