//! The handlers.

use std::ops::Bound::{Excluded, Unbounded};

use futures::stream;
use tonic::{Code, Request, Response, Status, Streaming};

use super::{
    ServeOptions,
    convert::{self, Faults, Path, Synced, WantedDrops},
    join::Join,
    page::Page,
    pieces::pieces,
    status::{not_applied, not_explained, not_found, not_read, refused},
    watch::{self, Messages, Working},
};
use crate::{
    agent::{ApplyError, Handle, View},
    model::{Fault, GroupId, NicId, NicState},
    pb::{self, security_group_agent_server::SecurityGroupAgent},
};

const MAX_PAGE: u32 = 1_000;
const MAX_MEMBERS_PAGE: u32 = 10_000;
const RULESET_PIECE: usize = 256 << 10;

/// A whole sync may be as long as this many messages of full length.
const SYNC_MESSAGES: usize = 64;

/// The handlers, with their way to the agent.
#[derive(Debug)]
pub(super) struct Service {
    handle: Handle,
    options: ServeOptions,
    working: Working,
}

impl Service {
    pub(super) fn new(handle: Handle, options: ServeOptions, working: Working) -> Self {
        Self {
            handle,
            options,
            working,
        }
    }
}

type Answer<T> = Result<Response<T>, Status>;

#[tonic::async_trait]
impl SecurityGroupAgent for Service {
    async fn apply(&self, request: Request<pb::ApplyRequest>) -> Answer<pb::ApplyResponse> {
        let request = request.into_inner();
        let change = convert(move || convert::apply(request)).await;
        let change = change.inspect_err(|status| self.count(status))?;
        let ids: Vec<NicId> = change.delta.nics.iter().map(|nic| nic.id.clone()).collect();
        let applied = self
            .handle
            .apply(change)
            .await
            .map_err(|error| not_applied(&error))?;
        let view = &applied.view;
        let named = ids.iter().filter_map(|id| view.desired().nics.get(id));
        Ok(Response::new(pb::ApplyResponse {
            revision: view.revision,
            generation: view.generation,
            nics: named.map(|nic| convert::nic_status(nic, view)).collect(),
            summary: Some(convert::summary(&applied.summary)),
            plan: applied.plan,
            flows_cut: applied.flows_cut,
        }))
    }

    async fn sync(&self, request: Request<Streaming<pb::SyncRequest>>) -> Answer<pb::SyncResponse> {
        let read = self.read(request.into_inner()).await;
        let (change, entries) = read.inspect_err(|status| self.count(status))?.into_parts();
        let applied = self.handle.apply(change).await.map_err(|error| {
            not_applied(&match error {
                ApplyError::Faults(faults) => ApplyError::Faults(Synced::rename(&entries, faults)),
                other @ (ApplyError::Generation { .. } | ApplyError::Unavailable(_)) => other,
            })
        })?;
        let view = &applied.view;
        Ok(Response::new(pb::SyncResponse {
            revision: view.revision,
            generation: view.generation,
            nics_not_active: not_active(view),
            summary: Some(convert::summary(&applied.summary)),
            plan: applied.plan,
            flows_cut: applied.flows_cut,
            bridges_adopted: applied.adopted.iter().map(convert::bridge).collect(),
        }))
    }

    async fn adopt_bridge(
        &self,
        request: Request<pb::AdoptBridgeRequest>,
    ) -> Answer<pb::AdoptBridgeResponse> {
        let change = parsed(|f| convert::adopt(f, request.into_inner()))?;
        let applied = self.handle.apply(change).await;
        let applied = applied.map_err(|error| not_applied(&error))?;
        Ok(Response::new(pb::AdoptBridgeResponse {
            bridges_adopted: applied.adopted.iter().map(convert::bridge).collect(),
            flows_cut: applied.flows_cut,
        }))
    }

    async fn get_nic(&self, request: Request<pb::GetNicRequest>) -> Answer<pb::GetNicResponse> {
        let pb::GetNicRequest { id } = request.into_inner();
        let id = parsed(|f| convert::nic_id(f, &Path::top("id"), id))?;
        let view = self.handle.view();
        let nic = view.desired().nics.get(&id);
        let nic = nic.ok_or_else(|| not_found("id", "NIC", id.as_str()))?;
        let nic = Some(convert::nic_info(nic, &view));
        Ok(Response::new(pb::GetNicResponse { nic }))
    }

    async fn list_nics(
        &self,
        request: Request<pb::ListNicsRequest>,
    ) -> Answer<pb::ListNicsResponse> {
        const LIST: &str = "nics";
        let pb::ListNicsRequest {
            page_size,
            page_token,
            states,
        } = request.into_inner();
        let (page, states) = parsed(|f| {
            let page = Page::<NicId>::parse(f, LIST, (page_size, MAX_PAGE), &page_token);
            Some((
                page,
                f.each(&Path::top("states"), states, convert::nic_state),
            ))
        })?;
        let view = self.handle.view();
        let after = page.after.as_ref().map_or(Unbounded, Excluded);
        let nics = view.desired().nics.range::<NicId, _>((after, Unbounded));
        let infos = nics.map(|(id, nic)| (id.clone(), convert::nic_info(nic, &view)));
        let wanted = infos.filter(|(_, info)| {
            let state = info.status.as_ref().map(pb::NicStatus::state);
            states.is_empty() || states.contains(&state)
        });
        let (nics, next_page_token) = page.fill(LIST, wanted);
        Ok(Response::new(pb::ListNicsResponse {
            nics,
            next_page_token,
        }))
    }

    async fn get_group(
        &self,
        request: Request<pb::GetGroupRequest>,
    ) -> Answer<pb::GetGroupResponse> {
        let pb::GetGroupRequest { id } = request.into_inner();
        let id = parsed(|f| convert::group_id(f, &Path::top("id"), id))?;
        let view = self.handle.view();
        let group = convert::group_info(view.desired(), &id);
        let group = group.ok_or_else(|| not_found("id", "group", id.as_str()))?;
        Ok(Response::new(pb::GetGroupResponse { group: Some(group) }))
    }

    async fn list_groups(
        &self,
        request: Request<pb::ListGroupsRequest>,
    ) -> Answer<pb::ListGroupsResponse> {
        const LIST: &str = "groups";
        let pb::ListGroupsRequest {
            page_size,
            page_token,
        } = request.into_inner();
        let page = parsed(|f| {
            Some(Page::<GroupId>::parse(
                f,
                LIST,
                (page_size, MAX_PAGE),
                &page_token,
            ))
        })?;
        let view = self.handle.view();
        let (groups, next_page_token) = page.fill(
            LIST,
            convert::group_infos(view.desired(), page.after.as_ref()),
        );
        Ok(Response::new(pb::ListGroupsResponse {
            groups,
            next_page_token,
        }))
    }

    async fn list_members(
        &self,
        request: Request<pb::ListMembersRequest>,
    ) -> Answer<pb::ListMembersResponse> {
        let pb::ListMembersRequest {
            group_id,
            page_size,
            page_token,
        } = request.into_inner();
        let list = format!("members of {group_id}");
        let (group, page) = parsed(|f| {
            let group = convert::group_id(f, &Path::top("group_id"), group_id);
            let page = Page::parse(f, &list, (page_size, MAX_MEMBERS_PAGE), &page_token);
            Some((group?, page))
        })?;
        let view = self.handle.view();
        let members = view.desired().members.get(&group);
        let members = members.ok_or_else(|| not_found("group_id", "group", group.as_str()))?;
        let after = page.after.map_or(Unbounded, Excluded);
        let range = members.range((after, Unbounded));
        let (members, next_page_token) = page.fill(
            &list,
            range.map(|(address, member)| (*address, convert::member(member))),
        );
        Ok(Response::new(pb::ListMembersResponse {
            members,
            next_page_token,
        }))
    }

    async fn get_status(
        &self,
        _request: Request<pb::GetStatusRequest>,
    ) -> Answer<pb::GetStatusResponse> {
        let uptime = self.options.started.elapsed();
        let flows = (self.options.flow_table)();
        let status = convert::status(&self.handle.view(), uptime, flows);
        Ok(Response::new(status))
    }

    type GetRulesetStream = Messages<pb::GetRulesetResponse>;

    async fn get_ruleset(
        &self,
        _request: Request<pb::GetRulesetRequest>,
    ) -> Answer<Self::GetRulesetStream> {
        let text = self
            .handle
            .ruleset_text()
            .await
            .map_err(|error| not_read(&error))?;
        let pieces = pieces(&text, RULESET_PIECE).into_iter();
        let answers = pieces.map(|text| Ok(pb::GetRulesetResponse { text }));
        Ok(Response::new(Box::pin(stream::iter(answers))))
    }

    async fn list_drops(
        &self,
        request: Request<pb::ListDropsRequest>,
    ) -> Answer<pb::ListDropsResponse> {
        let pb::ListDropsRequest { nic_id } = request.into_inner();
        let only = self.known(parsed(|f| Some(one_nic(f, nic_id)))?)?;
        let drops = self
            .handle
            .drops()
            .await
            .map_err(|error| not_read(&error))?;
        let wanted = drops
            .nics
            .iter()
            .filter(|one| only.as_ref().is_none_or(|id| *id == one.nic));
        Ok(Response::new(pb::ListDropsResponse {
            nics: wanted.map(convert::nic_drops).collect(),
            totals: convert::drop_counts(&drops.totals),
        }))
    }

    async fn list_traffic(
        &self,
        request: Request<pb::ListTrafficRequest>,
    ) -> Answer<pb::ListTrafficResponse> {
        let pb::ListTrafficRequest { nic_id } = request.into_inner();
        let only = self.known(parsed(|f| Some(one_nic(f, nic_id)))?)?;
        let all = self.handle.traffic().await;
        let all = all.map_err(|error| not_read(&error))?;
        let wanted = all
            .iter()
            .filter(|(nic, _)| only.as_ref().is_none_or(|id| id == *nic));
        let nics = wanted.map(|(nic, traffic)| convert::nic_traffic(nic, traffic));
        Ok(Response::new(pb::ListTrafficResponse {
            nics: nics.collect(),
        }))
    }

    type WatchDropsStream = Messages<pb::WatchDropsResponse>;

    async fn watch_drops(
        &self,
        request: Request<pb::WatchDropsRequest>,
    ) -> Answer<Self::WatchDropsStream> {
        let pb::WatchDropsRequest { nic_id, reasons } = request.into_inner();
        let (nic, reasons) = parsed(|f| {
            let nic = one_nic(f, nic_id);
            let reason =
                |f: &mut Faults, at: &Path<'_>, name: String| convert::reason(f, at, &name);
            Some((nic, f.each(&Path::top("reasons"), reasons, reason)))
        })?;
        let nic = self.known(nic)?;
        let reasons = reasons.into_iter().flatten().collect();
        let wanted = WantedDrops { nic, reasons };
        let watcher = self.handle.watch_drops().await;
        let watcher = watcher.map_err(|error| not_read(&error))?;
        let messages = watch::drops(watcher, self.working.clone(), wanted);
        Ok(Response::new(messages))
    }

    type WatchEventsStream = Messages<pb::WatchEventsResponse>;

    async fn watch_events(
        &self,
        request: Request<pb::WatchEventsRequest>,
    ) -> Answer<Self::WatchEventsStream> {
        let pb::WatchEventsRequest {
            nic_id,
            past,
            past_only,
        } = request.into_inner();
        let nic = parsed(|f| Some(one_nic(f, nic_id)))?;
        let (mut all, coming) = self.handle.watch_events();
        all.retain(|event| convert::is_about(event, nic.as_ref()));
        let most = match past {
            0 if past_only => all.len(),
            most => usize::try_from(most).map_or(all.len(), |most| most.min(all.len())),
        };
        let past = all.len() - most;
        let coming = (!past_only).then_some(coming);
        let messages = watch::events(all.split_off(past), coming, self.working.clone(), nic);
        Ok(Response::new(messages))
    }

    async fn explain(&self, request: Request<pb::ExplainRequest>) -> Answer<pb::ExplainResponse> {
        let request = request.into_inner();
        let (query, trace) = parsed(|f| convert::explain(f, request))?;
        let all = self.handle.explain(query).await;
        let all = all.map_err(|refusal| not_explained(&refusal))?;
        Ok(Response::new(convert::explained(all, trace)))
    }

    async fn diagnose(
        &self,
        request: Request<pb::DiagnoseRequest>,
    ) -> Answer<pb::DiagnoseResponse> {
        let pb::DiagnoseRequest { nic_id } = request.into_inner();
        let id = parsed(|f| convert::nic_id(f, &Path::top("nic_id"), nic_id))?;
        let flows = (self.options.flow_table)();
        let found = self.handle.diagnose(&id, flows).await;
        let found = found.ok_or_else(|| not_found("nic_id", "NIC", id.as_str()))?;
        Ok(Response::new(convert::diagnosed(found)))
    }
}

/// Converts a request that may be long where it holds up no other call.
async fn convert<T: Send + 'static>(
    convert: impl FnOnce() -> Result<T, Vec<Fault>> + Send + 'static,
) -> Result<T, Status> {
    tokio::task::spawn_blocking(convert)
        .await
        .map_err(|error| Status::internal(format!("the request was not understood: {error}")))?
        .map_err(|faults| refused(&faults))
}

/// The NIC of a request that may be about one.
fn one_nic(faults: &mut Faults, id: String) -> Option<NicId> {
    if id.is_empty() {
        return None;
    }
    convert::nic_id(faults, &Path::top("nic_id"), id)
}

impl Service {
    /// A NIC that a request names has to be there.
    fn known(&self, nic: Option<NicId>) -> Result<Option<NicId>, Status> {
        match nic {
            Some(id) if !self.handle.view().desired().nics.contains_key(&id) => {
                Err(not_found("nic_id", "NIC", id.as_str()))
            }
            known => Ok(known),
        }
    }

    /// Counts a change that is wrong; a stream that broke off is none.
    fn count(&self, status: &Status) {
        if status.code() == Code::InvalidArgument {
            self.handle.refused();
        }
    }

    /// The change that the pieces of a stream make.
    async fn read(&self, mut stream: Streaming<pb::SyncRequest>) -> Result<Synced, Status> {
        let max_octets = self
            .options
            .max_message_octets
            .saturating_mul(SYNC_MESSAGES);
        let mut join = Join::new(self.options.limits, max_octets);
        while let Some(message) = stream.message().await? {
            join.add(message).map_err(|fault| refused(&[fault]))?;
        }
        let request = join.finish().map_err(|fault| refused(&[fault]))?;
        convert(move || convert::sync(request)).await
    }
}

/// The values of a short request, or the refusal that names its faults.
fn parsed<T>(parse: impl FnOnce(&mut Faults) -> Option<T>) -> Result<T, Status> {
    let mut faults = Faults::default();
    let value = parse(&mut faults);
    faults.into_result().map_err(|faults| refused(&faults))?;
    value.ok_or_else(|| Status::internal("a value without a fault is missing"))
}

fn not_active(view: &View) -> Vec<pb::NicStatus> {
    let active = |id: &NicId| {
        view.outcome(id)
            .is_some_and(|outcome| outcome.state == NicState::Active)
    };
    let nics = view.desired().nics.values().filter(|nic| !active(&nic.id));
    nics.map(|nic| convert::nic_status(nic, view)).collect()
}
