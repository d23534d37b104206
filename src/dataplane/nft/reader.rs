//! Reads what the kernel holds of ours, with `nft list`.

use std::sync::Arc;

use super::{
    LIMIT, held, listing,
    skeleton::{Placement, SAMPLE_GROUP},
};
use crate::{
    dataplane::{self, DataplaneError, Dropped, exec, exec::ExecError, nflog},
    ruleset::{Held, Learned, NicNumber, Ruleset, name},
};

/// Starts the `nft` program to list, never to change anything.
#[derive(Debug)]
pub struct Reader {
    program: String,
    placement: Placement,
    /// Whose interfaces are whose.
    programmed: Arc<Ruleset>,
}

impl Reader {
    pub(super) fn new(program: String, placement: Placement, programmed: Arc<Ruleset>) -> Self {
        Self {
            program,
            placement,
            programmed,
        }
    }

    pub(super) async fn run(&self, args: &[&str]) -> Result<String, ExecError> {
        exec::run(&self.program, args, "", LIMIT).await
    }

    async fn read(&self, args: &[&str]) -> Result<String, DataplaneError> {
        let text = self.run(args).await;
        text.map_err(|error| DataplaneError::Unreadable(error.to_string()))
    }

    /// The families in which there is a table of ours.
    pub(super) async fn our_families(&self) -> Result<Vec<&'static str>, DataplaneError> {
        let tables = self.read(&["list", "tables"]).await?;
        let ours = |family: &&&str| {
            let line = format!("table {family} {}", name::TABLE);
            tables.lines().any(|l| l == line)
        };
        Ok(name::FAMILIES.iter().filter(ours).copied().collect())
    }
}

impl dataplane::Reader for Reader {
    type Samples = nflog::Listener;

    async fn samples(&self) -> Result<nflog::Listener, DataplaneError> {
        let listener = nflog::Listener::start(SAMPLE_GROUP).await;
        listener.map_err(|error| {
            let why = format!("samples of drops (nfnetlink_log group {SAMPLE_GROUP}): {error}");
            DataplaneError::Unreadable(why)
        })
    }

    async fn drops(&self) -> Result<Vec<Dropped>, DataplaneError> {
        let mut all = Vec::new();
        for family in self.our_families().await? {
            let table = name::TABLE;
            let counters = ["-j", "list", "counters", "table", family, table];
            all.extend(listing::counters(&self.read(&counters).await?)?);
            let set = |set| ["-j", "list", "set", family, table, set];
            if family == "netdev" {
                let text = self.read(&set("port_drops")).await?;
                all.extend(listing::port_drops(&text, &self.programmed)?);
            } else {
                let text = self.read(&set("nic_drops")).await?;
                all.extend(listing::nic_drops(&text)?);
            }
        }
        Ok(all)
    }

    async fn learned(&self) -> Result<Learned, DataplaneError> {
        let mut learned = Learned::default();
        let set = |name| ["-j", "list", "set", "bridge", name::TABLE, name];
        if !self.our_families().await?.contains(&"bridge") {
            return Ok(learned);
        }
        for name in name::CLAIMS {
            for (mark, address) in listing::by_address::<u32>(&self.read(&set(name)).await?)? {
                let number = NicNumber(mark & name::NUMBER_MASK);
                learned.claims.entry(number).or_default().insert(address);
            }
        }
        let heard = self.read(&set(name::HEARD_ROUTERS)).await?;
        let heard = listing::by_address::<String>(&heard)?;
        learned.heard_routers = heard.into_iter().map(|(_, address)| address).collect();
        Ok(learned)
    }

    async fn held(&self, wanted: &Ruleset, nic: NicNumber) -> Result<Held, DataplaneError> {
        let question = held::Question::of(nic, wanted, self.placement);
        let input = question.text();
        let asked = exec::run(&self.program, &["-f", "-"], &input, LIMIT).await;
        let mut printed = match asked {
            Ok(printed) => printed,
            Err(ExecError::Failed { stderr, .. }) if held::ended_at(&stderr).is_some() => {
                let line = held::ended_at(&stderr).unwrap_or_default();
                return Ok(question.ended(line));
            }
            Err(error) => return Err(DataplaneError::Unreadable(error.to_string())),
        };
        let ours = self.our_families().await?;
        for family in question.families() {
            if ours.contains(&family) {
                let list = ["-a", "-t", "list", "table", family, name::TABLE];
                printed.push_str(&self.read(&list).await?);
            }
        }
        Ok(question.answer(&printed))
    }

    async fn text(&self) -> Result<String, DataplaneError> {
        let mut text = String::new();
        for family in self.our_families().await? {
            text.push_str(&self.read(&["list", "table", family, name::TABLE]).await?);
        }
        Ok(text)
    }
}
