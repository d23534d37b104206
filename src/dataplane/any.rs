//! The dataplane of this host, whichever it is.

use super::{
    Dataplane, DataplaneError, Dropped, Reader, Tampering,
    ip6tables::{self, Ip6tables},
    nflog,
    nft::{self, Nft},
};
use crate::ruleset::{Cut, Held, Learned, NicNumber, Plan, Ruleset};

/// One of the dataplanes.
#[derive(Debug)]
pub enum Any {
    /// nftables.
    Nft(Box<Nft>),
    /// ip6tables, ipset and ebtables.
    Ip6tables(Box<Ip6tables>),
}

/// What reads one of the dataplanes.
#[derive(Debug)]
pub enum AnyReader {
    /// nftables.
    Nft(nft::Reader),
    /// ip6tables, ipset and ebtables.
    Ip6tables(Box<ip6tables::Reader>),
}

macro_rules! each {
    ($self:ident, $one:ident => $what:expr) => {
        match $self {
            Self::Nft($one) => $what,
            Self::Ip6tables($one) => $what,
        }
    };
}

impl Dataplane for Any {
    type Reader = AnyReader;

    fn reader(&self) -> AnyReader {
        match self {
            Self::Nft(nft) => AnyReader::Nft(nft.reader()),
            Self::Ip6tables(ip6tables) => AnyReader::Ip6tables(Box::new(ip6tables.reader())),
        }
    }

    async fn is_programmed(&self) -> Result<bool, DataplaneError> {
        each!(self, one => one.is_programmed().await)
    }

    async fn apply(&mut self, plan: &Plan) -> Result<(), DataplaneError> {
        each!(self, one => one.apply(plan).await)
    }

    async fn cut(&mut self, cut: &Cut) -> Result<u64, DataplaneError> {
        each!(self, one => one.cut(cut).await)
    }

    fn preview(&self, plan: &Plan) -> Vec<String> {
        each!(self, one => one.preview(plan))
    }

    async fn tampered(&mut self) -> Tampering {
        each!(self, one => one.tampered().await)
    }

    async fn purge(&mut self) -> Result<(), DataplaneError> {
        each!(self, one => one.purge().await)
    }
}

impl Reader for AnyReader {
    type Samples = nflog::Listener;

    async fn samples(&self) -> Result<nflog::Listener, DataplaneError> {
        each!(self, one => one.samples().await)
    }

    async fn drops(&self) -> Result<Vec<Dropped>, DataplaneError> {
        each!(self, one => one.drops().await)
    }

    async fn learned(&self) -> Result<Learned, DataplaneError> {
        each!(self, one => one.learned().await)
    }

    async fn held(&self, wanted: &Ruleset, nic: NicNumber) -> Result<Held, DataplaneError> {
        each!(self, one => one.held(wanted, nic).await)
    }

    async fn text(&self) -> Result<String, DataplaneError> {
        each!(self, one => one.text().await)
    }
}

impl From<Nft> for Any {
    fn from(nft: Nft) -> Self {
        Self::Nft(Box::new(nft))
    }
}

impl From<Ip6tables> for Any {
    fn from(ip6tables: Ip6tables) -> Self {
        Self::Ip6tables(Box::new(ip6tables))
    }
}
