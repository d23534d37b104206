//! Reads what the kernel holds of ours.

use super::{
    LIMIT, Parameters, Program, Tools, chains::PREFIX, drift::Printed, ebtables::Ebtables, held,
    listing, program::Known, sets,
};
use crate::{
    dataplane::{self, DataplaneError, Dropped, exec, nflog},
    ruleset::{Held, Learned, NicNumber, Ruleset},
};

/// Starts the programs to list, never to change anything.
#[derive(Debug, Clone)]
pub struct Reader {
    tools: Tools,
    parameters: Parameters,
    frames: Ebtables,
}

impl Reader {
    pub(super) fn new(tools: Tools, parameters: Parameters, frames: Ebtables) -> Self {
        Self {
            tools,
            parameters,
            frames,
        }
    }

    async fn frames(&self, table: &str, counters: bool) -> Result<String, DataplaneError> {
        let text = self.frames.save(table, counters).await;
        text.map_err(|error| DataplaneError::Unreadable(error.to_string()))
    }

    async fn read(&self, program: &str, args: &[&str]) -> Result<String, DataplaneError> {
        let text = exec::run(program, args, "", LIMIT).await;
        text.map_err(|error| DataplaneError::Unreadable(error.to_string()))
    }

    /// The names of the sets that are ours.
    pub(super) async fn sets(&self) -> Result<Vec<String>, DataplaneError> {
        let names = self.read(&self.tools.ipset, &["list", "-n"]).await?;
        let ours = names.lines().filter(|name| name.starts_with(PREFIX));
        Ok(ours.map(str::to_owned).collect())
    }

    /// What is printed of the tables, in the order of [`Program::tables`].
    async fn tables(&self) -> Result<[String; 4], DataplaneError> {
        let Tools { save, .. } = &self.tools;
        Ok([
            self.read(save, &["-t", "raw"]).await?,
            self.read(save, &["-t", "mangle"]).await?,
            self.frames("nat", false).await?,
            self.frames("filter", false).await?,
        ])
    }

    pub(super) async fn known(&self) -> Result<Known, DataplaneError> {
        let printed = self.printed().await?;
        Ok(Known::parse(printed.each_ref().map(String::as_str)))
    }

    /// Tables and sets as they are listed.
    pub(super) async fn printed(&self) -> Result<Printed, DataplaneError> {
        let [raw, mangle, frames, forwarded] = self.tables().await?;
        let sets = self.read(&self.tools.ipset, &["save"]).await?;
        Ok([raw, mangle, frames, forwarded, sets])
    }
}

impl dataplane::Reader for Reader {
    type Samples = nflog::Listener;

    async fn samples(&self) -> Result<nflog::Listener, DataplaneError> {
        let listener = nflog::Listener::start(nflog::GROUP).await;
        listener.map_err(|error| {
            let group = nflog::GROUP;
            let why = format!("samples of drops (nfnetlink_log group {group}): {error}");
            DataplaneError::Unreadable(why)
        })
    }

    async fn drops(&self) -> Result<Vec<Dropped>, DataplaneError> {
        let Tools { save, .. } = &self.tools;
        let mut all = listing::raw(&self.read(save, &["-c", "-t", "raw"]).await?);
        all.extend(listing::mangle(
            &self.read(save, &["-c", "-t", "mangle"]).await?,
        ));
        all.extend(listing::frames(&self.frames("nat", true).await?));
        Ok(all)
    }

    async fn learned(&self) -> Result<Learned, DataplaneError> {
        Ok(listing::learned(
            &self.read(&self.tools.ipset, &["save"]).await?,
        ))
    }

    async fn held(&self, wanted: &Ruleset, nic: NicNumber) -> Result<Held, DataplaneError> {
        let sets = sets::parse(&self.read(&self.tools.ipset, &["save"]).await?);
        let program = Program::of(wanted, self.parameters);
        Ok(held::held(
            (nic, wanted),
            &program,
            &self.tables().await?,
            &sets,
        ))
    }

    async fn text(&self) -> Result<String, DataplaneError> {
        let tables = self.tables().await?.concat();
        Ok(tables + &self.read(&self.tools.ipset, &["save"]).await?)
    }
}
