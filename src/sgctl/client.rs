//! The way to the agent.

use std::{io, path::PathBuf, time::Duration};

use futures::stream;
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tonic::{
    Code, Status, Streaming,
    transport::{Channel, Endpoint},
};
use tower::service_fn;

pub use super::tls::Credentials;
use super::{Failure, cut, tls::Tls};
use crate::pb::{self, security_group_agent_client::SecurityGroupAgentClient};

/// How long to wait for a connection; for an answer there is no limit, for a change is
/// in the kernel and on disk when it comes.
const CONNECT: Duration = Duration::from_secs(5);

/// The answer to a dry run of a full sync can be long.
const MAX_ANSWER: usize = 512 << 20;

/// Where the agent is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// On a unix socket.
    Socket(PathBuf),
    /// On a TCP port, as HOST:PORT, with mutual TLS.
    Address(String, Credentials),
}

impl std::fmt::Display for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Socket(path) => path.display().fmt(f),
            Self::Address(address, _) => address.fmt(f),
        }
    }
}

/// A connection to the agent.
#[derive(Debug)]
pub struct Client {
    api: SecurityGroupAgentClient<Channel>,
    to: String,
}

macro_rules! call {
    ($self:ident.$method:ident($request:expr)) => {
        match $self.api.$method($request).await {
            Ok(answer) => Ok(answer.into_inner()),
            Err(status) => Err($self.failed(status)),
        }
    };
}

impl Client {
    /// Connects.
    pub async fn connect(target: &Target) -> Result<Self, Failure> {
        let to = target.to_string();
        let unreachable = |why: String| Failure::Unreachable {
            to: to.clone(),
            why,
        };
        // The name is never resolved on a unix socket; HTTP/2 wants one.
        let host = match target {
            Target::Socket(_) => "http://localhost".to_owned(),
            Target::Address(address, _) => format!("https://{address}"),
        };
        let endpoint = Endpoint::from_shared(host)
            .map_err(|error| unreachable(deepest(&error)))?
            .connect_timeout(CONNECT);
        let channel = match target {
            Target::Socket(path) => {
                let path = path.clone();
                let connect = service_fn(move |_| {
                    let path = path.clone();
                    async move { Ok::<_, io::Error>(TokioIo::new(UnixStream::connect(path).await?)) }
                });
                endpoint.connect_with_connector(connect).await
            }
            Target::Address(address, credentials) => {
                let tls = Tls::new(address, credentials).map_err(&unreachable)?;
                let connect = service_fn(move |_| {
                    let tls = tls.clone();
                    async move { Ok::<_, io::Error>(TokioIo::new(tls.connect().await?)) }
                });
                endpoint.connect_with_connector(connect).await
            }
        };
        let channel = channel.map_err(|error| unreachable(deepest(&error)))?;
        let api = SecurityGroupAgentClient::new(channel).max_decoding_message_size(MAX_ANSWER);
        Ok(Self { api, to })
    }

    fn failed(&self, status: Status) -> Failure {
        Failure::of(status, &self.to)
    }

    /// Makes a change.
    pub async fn apply(&mut self, request: pb::ApplyRequest) -> Result<pb::ApplyResponse, Failure> {
        call!(self.apply(request))
    }

    /// Replaces everything.
    pub async fn sync(&mut self, request: pb::SyncRequest) -> Result<pb::SyncResponse, Failure> {
        call!(self.sync(stream::iter(cut::messages(request))))
    }

    /// One NIC.
    pub async fn nic(&mut self, id: String) -> Result<pb::GetNicResponse, Failure> {
        call!(self.get_nic(pb::GetNicRequest { id }))
    }

    /// All NICs, their pages joined.
    pub async fn nics(&mut self) -> Result<pb::ListNicsResponse, Failure> {
        self.nics_in(&[]).await
    }

    /// The NICs in these states, in any where none is given; their pages joined.
    pub async fn nics_in(
        &mut self,
        states: &[pb::NicState],
    ) -> Result<pb::ListNicsResponse, Failure> {
        let states: Vec<i32> = states.iter().map(|state| (*state).into()).collect();
        let (mut all, mut page_token) = (pb::ListNicsResponse::default(), String::new());
        loop {
            let request = pb::ListNicsRequest {
                page_token,
                states: states.clone(),
                ..pb::ListNicsRequest::default()
            };
            let page = call!(self.list_nics(request))?;
            all.nics.extend(page.nics);
            page_token = page.next_page_token;
            if page_token.is_empty() {
                return Ok(all);
            }
        }
    }

    /// One group.
    pub async fn group(&mut self, id: String) -> Result<pb::GetGroupResponse, Failure> {
        call!(self.get_group(pb::GetGroupRequest { id }))
    }

    /// One group; nothing where it is not there.
    pub async fn group_if_there(&mut self, id: String) -> Result<Option<pb::Group>, Failure> {
        match self.api.get_group(pb::GetGroupRequest { id }).await {
            Ok(answer) => Ok(answer.into_inner().group.and_then(|info| info.group)),
            Err(status) if status.code() == Code::NotFound => Ok(None),
            Err(status) => Err(self.failed(status)),
        }
    }

    /// All groups, their pages joined.
    pub async fn groups(&mut self) -> Result<pb::ListGroupsResponse, Failure> {
        let (mut all, mut page_token) = (pb::ListGroupsResponse::default(), String::new());
        loop {
            let request = pb::ListGroupsRequest {
                page_token,
                ..pb::ListGroupsRequest::default()
            };
            let page = call!(self.list_groups(request))?;
            all.groups.extend(page.groups);
            page_token = page.next_page_token;
            if page_token.is_empty() {
                return Ok(all);
            }
        }
    }

    /// All members of a group, their pages joined.
    pub async fn members(&mut self, group: &str) -> Result<pb::ListMembersResponse, Failure> {
        let (mut all, mut page_token) = (pb::ListMembersResponse::default(), String::new());
        loop {
            let group_id = group.to_owned();
            let request = pb::ListMembersRequest {
                group_id,
                page_size: 0,
                page_token,
            };
            let page = call!(self.list_members(request))?;
            all.members.extend(page.members);
            page_token = page.next_page_token;
            if page_token.is_empty() {
                return Ok(all);
            }
        }
    }

    /// What the agent is and does.
    pub async fn status(&mut self) -> Result<pb::GetStatusResponse, Failure> {
        call!(self.get_status(pb::GetStatusRequest {}))
    }

    /// What is programmed in the kernel, its pieces joined.
    pub async fn ruleset(&mut self) -> Result<pb::GetRulesetResponse, Failure> {
        let mut pieces = call!(self.get_ruleset(pb::GetRulesetRequest {}))?;
        let mut whole = pb::GetRulesetResponse::default();
        loop {
            match pieces.message().await {
                Ok(Some(piece)) => whole.text.push_str(&piece.text),
                Ok(None) => return Ok(whole),
                Err(status) => return Err(self.failed(status)),
            }
        }
    }

    /// What was dropped, of one NIC or of all.
    pub async fn drops(&mut self, nic_id: String) -> Result<pb::ListDropsResponse, Failure> {
        call!(self.list_drops(pb::ListDropsRequest { nic_id }))
    }

    /// What was sent and received, of one NIC or of all.
    pub async fn traffic(&mut self, nic_id: String) -> Result<pb::ListTrafficResponse, Failure> {
        call!(self.list_traffic(pb::ListTrafficRequest { nic_id }))
    }

    /// What is dropped from now on.
    pub async fn watch_drops(
        &mut self,
        nic_id: String,
    ) -> Result<Stream<pb::WatchDropsResponse>, Failure> {
        let reasons = Vec::new();
        let messages = call!(self.watch_drops(pb::WatchDropsRequest { nic_id, reasons }))?;
        Ok(Stream::new(messages, &self.to))
    }

    /// What happened, and what happens.
    pub async fn watch_events(
        &mut self,
        request: pb::WatchEventsRequest,
    ) -> Result<Stream<pb::WatchEventsResponse>, Failure> {
        let messages = call!(self.watch_events(request))?;
        Ok(Stream::new(messages, &self.to))
    }

    /// Has a bridge enforced that is held back, or says what that would do.
    pub async fn adopt(
        &mut self,
        bridge: String,
        dry_run: bool,
    ) -> Result<pb::AdoptBridgeResponse, Failure> {
        call!(self.adopt_bridge(pb::AdoptBridgeRequest { bridge, dry_run }))
    }

    /// What is wrong with a NIC.
    pub async fn diagnose(&mut self, nic_id: String) -> Result<pb::DiagnoseResponse, Failure> {
        call!(self.diagnose(pb::DiagnoseRequest { nic_id }))
    }

    /// What becomes of packets, and why.
    pub async fn explain(
        &mut self,
        request: pb::ExplainRequest,
    ) -> Result<pb::ExplainResponse, Failure> {
        call!(self.explain(request))
    }
}

/// Messages as they come.
#[derive(Debug)]
pub struct Stream<T> {
    messages: Streaming<T>,
    from: String,
}

impl<T> Stream<T> {
    fn new(messages: Streaming<T>, from: &str) -> Self {
        let from = from.to_owned();
        Self { messages, from }
    }

    /// The next one; nothing at the end.
    pub async fn next(&mut self) -> Result<Option<T>, Failure> {
        let next = self.messages.message().await;
        next.map_err(|status| Failure::of(status, &self.from))
    }
}

/// tonic's own errors say "transport error"; what a person needs is at the bottom.
fn deepest(mut error: &dyn std::error::Error) -> String {
    while let Some(cause) = error.source() {
        error = cause;
    }
    error.to_string()
}
