//! How an agent begins: what was acknowledged comes into force. Where that fails and the kernel
//! has no rules of ours yet, as after a boot, the guests' ports are closed all the same.

use std::sync::Arc;

use anyhow::{Context as _, Result};
use tracing::error;

use super::follow;
use crate::{
    agent::{Agent, Handle, Identity, Meter, Parts},
    config::{Config, Placement},
    dataplane::{
        Dataplane as _,
        nft::{self, Nft},
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
    pub(super) agent: Agent<Nft, Netlink, Redb>,
    pub(super) handle: Handle,
    /// Nobody else programs this host as long as it is held.
    pub(super) claim: Claim,
}

impl Started {
    pub(super) async fn with(config: &Config) -> Result<Self> {
        let (placement, placement_reason, able) = place(config).await?;
        let mut parameters = config.parameters(placement);
        let nft::Ability { no_samples } = able;
        if no_samples.is_some() {
            parameters.drop_samples_per_second = 0;
        }
        let mut dataplane = Nft::new(config.nft.clone(), parameters);
        dataplane
            .watch()
            .context("changes of the ruleset can't be watched")?;
        let mut identity = identify(&dataplane, placement, placement_reason).await?;
        identity.no_samples = no_samples.map(|why| why.to_string());
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
            close(config, placement, &interfaces).await;
        }
        done
    }

    async fn of(
        config: &Config,
        placement: nft::Placement,
        dataplane: Nft,
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
async fn close(config: &Config, placement: nft::Placement, interfaces: &Arc<Interfaces>) {
    let mut parameters = config.parameters(placement);
    // Nobody is there to watch, and a kernel may not have what that takes.
    parameters.drop_samples_per_second = 0;
    let mut dataplane = Nft::new(config.nft.clone(), parameters);
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

/// Where the stateful stage runs on this host, and why there: what the kernel says when
/// it is asked counts, not what it is called.
async fn place(config: &Config) -> Result<(nft::Placement, String, nft::Ability)> {
    use nft::Placement::{BrNetfilter, Bridge};
    let forced = |placement| async move {
        let able = nft::can(&config.nft, placement)
            .await
            .with_context(|| format!("placement {} is not to be had here", placement.name()))?;
        Ok((placement, "the configuration says so".to_owned(), able))
    };
    match config.placement {
        Placement::Bridge => forced(Bridge).await,
        Placement::BrNetfilter => forced(BrNetfilter).await,
        Placement::Auto => {
            let why = match nft::can(&config.nft, Bridge).await {
                Ok(able) => {
                    let reason =
                        "the bridge tracks connections itself, and its name can be matched";
                    return Ok((Bridge, reason.to_owned(), able));
                }
                Err(why) => why,
            };
            let able = nft::can(&config.nft, BrNetfilter).await.with_context(|| {
                format!("neither placement is to be had here; bridge: {why}; br_netfilter")
            })?;
            Ok((
                BrNetfilter,
                format!("placement bridge is not to be had: {why}"),
                able,
            ))
        }
    }
}

/// Finds out what this host is.
async fn identify(
    dataplane: &Nft,
    placement: nft::Placement,
    placement_reason: String,
) -> Result<Identity> {
    let kernel = tokio::fs::read_to_string("/proc/sys/kernel/osrelease").await?;
    Ok(Identity {
        dataplane: "nftables".to_owned(),
        placement: placement.name().to_owned(),
        placement_reason,
        kernel_version: kernel.trim().to_owned(),
        nft_version: dataplane.version().await.context("nft")?,
        no_samples: None,
    })
}
