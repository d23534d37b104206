//! What goes on until the operator, or the agent, ends it: a line, or a JSON object in a line, each.

use std::io::Write;

use super::{Failure, command::Session, json, render};
use crate::pb;

/// With how many of the past events `--follow` begins.
const BEFORE: u32 = 10;

impl<W: Write> Session<'_, W> {
    /// What is dropped from now on.
    pub(super) async fn follow_drops(&mut self, nic: Option<String>) -> Result<(), Failure> {
        let mut client = self.client().await?;
        let mut news = client.watch_drops(nic.unwrap_or_default()).await?;
        while let Some(one) = news.next().await? {
            self.line(&one, "WatchDropsResponse", render::drop_news)?;
        }
        Ok(())
    }

    /// What happened; with `follow`, what happens from now on.
    pub(super) async fn events(
        &mut self,
        nic: Option<String>,
        follow: bool,
    ) -> Result<(), Failure> {
        let request = pb::WatchEventsRequest {
            nic_id: nic.unwrap_or_default(),
            past: if follow { BEFORE } else { 0 },
            past_only: !follow,
        };
        let mut client = self.client().await?;
        let mut news = client.watch_events(request).await?;
        while let Some(one) = news.next().await? {
            self.line(&one, "WatchEventsResponse", render::event_news)?;
        }
        Ok(())
    }

    /// Whoever reads sees each at once.
    fn line<M: prost::Message>(
        &mut self,
        message: &M,
        name: &str,
        words: impl FnOnce(&M, bool) -> String,
    ) -> Result<(), Failure> {
        if self.show.json {
            writeln!(self.out, "{}", json::line(message, name)?)?;
        } else {
            self.out
                .write_all(words(message, self.show.colour).as_bytes())?;
        }
        Ok(self.out.flush()?)
    }
}
