//! What changes something.

use std::io::Write;

use super::{Failure, command::Session, document, render};

impl<W: Write> Session<'_, W> {
    pub(super) async fn apply(&mut self, file: &str, dry_run: bool) -> Result<(), Failure> {
        let mut request = document::apply(file, &document::read(file)?)?;
        request.dry_run |= dry_run;
        let dry_run = request.dry_run;
        let answer = self.client().await?.apply(request).await?;
        self.show(&answer, "ApplyResponse", |answer, colour| {
            let counters = (answer.revision, answer.generation);
            let plan = dry_run.then_some(answer.plan.as_slice());
            render::outcome(counters, answer.summary, plan, answer.flows_cut)
                + &render::states(&answer.nics, colour)
        })
    }

    pub(super) async fn sync(&mut self, file: &str, dry_run: bool) -> Result<(), Failure> {
        let mut request = document::sync(file, &document::read(file)?)?;
        request.dry_run |= dry_run;
        let dry_run = request.dry_run;
        let answer = self.client().await?.sync(request).await?;
        self.show(&answer, "SyncResponse", |answer, colour| {
            let counters = (answer.revision, answer.generation);
            let plan = dry_run.then_some(answer.plan.as_slice());
            let states = render::states(&answer.nics_not_active, colour);
            let adopted = render::adopted(&answer.bridges_adopted, plan.is_none());
            render::outcome(counters, answer.summary, plan, answer.flows_cut) + &adopted + &states
        })
    }

    pub(super) async fn adopt(&mut self, bridge: String, sure: bool) -> Result<(), Failure> {
        let mut client = self.client().await?;
        let would = client.adopt(bridge.clone(), true).await?;
        let mut bridges = would.bridges_adopted.iter();
        let closes = bridges.any(|bridge| !bridge.closed_ports.is_empty());
        let done = !closes || sure;
        let answer = if done {
            client.adopt(bridge, false).await?
        } else {
            would
        };
        self.show(
            &answer,
            "AdoptBridgeResponse",
            |answer, _| match render::adopted(&answer.bridges_adopted, done) {
                none if none.is_empty() => "nothing changed: no such bridge is held\n".to_owned(),
                text => text,
            },
        )?;
        if done {
            return Ok(());
        }
        let text = "nothing was changed; --yes closes these ports";
        Err(Failure::NotWell(text.to_owned()))
    }
}
