//! Which dataplane this host gets, and why: what kernel and programs say when they are asked counts,
//! not what they are called.

use anyhow::{Context as _, Result, bail};
use tracing::{info, warn};

use crate::{
    agent::Identity,
    config::{Config, Kind, Placement},
    dataplane::{
        Dataplane as _,
        any::Any,
        ip6tables::{self, Ip6tables, Tools},
        nft::{self, Nft, Placement::BrNetfilter, Placement::Bridge},
    },
};

/// A dataplane, and what is said of it.
pub(super) struct Chosen {
    pub(super) dataplane: Any,
    /// One more of the same, which shows nobody what it drops.
    pub(super) spare: Any,
    /// What the host may have of the others.
    pub(super) others: Others,
    pub(super) placement: nft::Placement,
    pub(super) identity: Identity,
}

/// What a host may have of a dataplane that was taken before: it ends when the one that is taken now
/// is in force, so that there is no moment without.
pub(super) struct Others(Any);

impl Others {
    pub(super) async fn end(mut self) {
        // Who has not even the program has nothing of it.
        if !self.0.is_programmed().await.unwrap_or(false) {
            return;
        }
        let ended = match &mut self.0 {
            Any::Nft(nft) => nft.purge().await,
            Any::Ip6tables(ip6tables) => ip6tables.hand_over().await,
        };
        match ended {
            Ok(()) => info!("removed what was there of the other dataplane"),
            Err(error) => warn!(%error, "what is there of the other dataplane stays in force"),
        }
    }
}

/// Removes all that is ours of either. The programs of one may be missing, if the other's are there.
pub(super) async fn purge(config: &Config) -> Result<()> {
    let parameters = config.parameters(BrNetfilter);
    let tools = Tools::named(&config.ip6tables, &config.ebtables, &config.ipset);
    let nft = Nft::new(config.nft.clone(), parameters);
    let mut missing = Vec::new();
    for mut dataplane in [
        Any::from(nft),
        Any::from(Ip6tables::new(tools, (&parameters).into())),
    ] {
        match dataplane.is_programmed().await {
            Ok(true) => dataplane.purge().await?,
            Ok(false) => {}
            Err(error) => missing.push(error.to_string()),
        }
    }
    if missing.len() > 1 {
        bail!("{}", missing.join("; "));
    }
    Ok(())
}

/// What the host can do that can do it.
enum Able {
    Nft(nft::Placement, nft::Ability),
    Ip6tables(Tools),
}

/// Takes the dataplane that the configuration names, or the first that this host can do.
pub(super) async fn choose(config: &Config) -> Result<Chosen> {
    let (able, why) = able(config).await?;
    match able {
        Able::Nft(placement, nft::Ability { no_samples }) => {
            let mut parameters = config.parameters(placement);
            if no_samples.is_some() {
                parameters.drop_samples_per_second = 0;
            }
            let mut dataplane = Nft::new(config.nft.clone(), parameters);
            dataplane
                .watch()
                .context("changes of the ruleset can't be watched")?;
            let version = dataplane.version().await.context("nft")?;
            let mut identity = identify("nftables", placement, why, version).await?;
            identity.no_samples = no_samples.map(|why| why.to_string());
            parameters.drop_samples_per_second = 0;
            let tools = Tools::named(&config.ip6tables, &config.ebtables, &config.ipset);
            Ok(Chosen {
                dataplane: Any::from(dataplane),
                spare: Any::from(Nft::new(config.nft.clone(), parameters)),
                others: Others(Any::from(Ip6tables::new(tools, (&parameters).into()))),
                placement,
                identity,
            })
        }
        Able::Ip6tables(tools) => {
            let version = tools.versions().await?;
            let mut identity = identify("ip6tables", BrNetfilter, why, version).await?;
            let seen = ip6tables::sees_fragments(&tools).await;
            identity.fragments_joined = !seen;
            let mut all = config.parameters(BrNetfilter);
            let parameters =
                |all: nft::Parameters| ip6tables::Parameters::from(&all).seeing_fragments(seen);
            let dataplane = Ip6tables::new(tools.clone(), parameters(all));
            all.drop_samples_per_second = 0;
            Ok(Chosen {
                dataplane: Any::from(dataplane),
                spare: Any::from(Ip6tables::new(tools, parameters(all))),
                others: Others(Any::from(Nft::new(config.nft.clone(), all))),
                placement: BrNetfilter,
                identity,
            })
        }
    }
}

/// What is to be had, and why that.
async fn able(config: &Config) -> Result<(Able, String)> {
    let of_nft = |placement| async move {
        let able = nft::can(&config.nft, placement).await?;
        Ok::<_, nft::ProbeError>(Able::Nft(placement, able))
    };
    let forced = |placement: nft::Placement| async move {
        let able = of_nft(placement).await;
        let able =
            able.with_context(|| format!("placement {} is not to be had here", placement.name()))?;
        Ok((able, "the configuration says so".to_owned()))
    };
    match (config.dataplane, config.placement) {
        (Kind::Ip6tables, _) => {
            let able = of_ip6tables(config)
                .await
                .context("ip6tables is not to be had here")?;
            return Ok((able, "the configuration says so".to_owned()));
        }
        (Kind::Auto | Kind::Nftables, Placement::Bridge) => return forced(Bridge).await,
        (Kind::Auto | Kind::Nftables, Placement::BrNetfilter) => return forced(BrNetfilter).await,
        (Kind::Auto | Kind::Nftables, Placement::Auto) => {}
    }
    let no_bridge = match of_nft(Bridge).await {
        Ok(able) => {
            let why = "the bridge tracks connections itself, and its name can be matched";
            return Ok((able, why.to_owned()));
        }
        Err(why) => why,
    };
    let no_nft = match of_nft(BrNetfilter).await {
        Ok(able) => {
            let why = format!("placement bridge is not to be had: {no_bridge}");
            return Ok((able, why));
        }
        Err(why) => why,
    };
    if config.dataplane == Kind::Nftables {
        return Err(no_nft).with_context(|| {
            format!("neither placement is to be had here; bridge: {no_bridge}; br_netfilter")
        });
    }
    let able = of_ip6tables(config).await.with_context(|| {
        format!(
            "no dataplane is to be had here; nftables in placement bridge: {no_bridge}; \
             br_netfilter: {no_nft}; ip6tables"
        )
    })?;
    Ok((able, format!("nftables is not to be had: {no_nft}")))
}

async fn of_ip6tables(config: &Config) -> Result<Able, ip6tables::ProbeError> {
    let mut tools = Tools::named(&config.ip6tables, &config.ebtables, &config.ipset);
    tools.can().await?;
    Ok(Able::Ip6tables(tools))
}

/// Finds out what this host is.
async fn identify(
    dataplane: &str,
    placement: nft::Placement,
    placement_reason: String,
    nft_version: String,
) -> Result<Identity> {
    let kernel = tokio::fs::read_to_string("/proc/sys/kernel/osrelease").await?;
    Ok(Identity {
        dataplane: dataplane.to_owned(),
        placement: placement.name().to_owned(),
        placement_reason,
        kernel_version: kernel.trim().to_owned(),
        nft_version,
        fragments_joined: false,
        no_samples: None,
    })
}
