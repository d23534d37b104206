//! An agent with its server, and a client of it.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc};

use hyper_util::rt::TokioIo;
use sgagent::{
    access::{self, Access, Crowding, Role, Who},
    agent::{Agent, FlowTable, HostPolicy, Identity, Meter, Parts},
    grpc::{Listener, ServeOptions, Tls, serve},
    link::Setting,
    metrics::Exporter,
    model::{Interfaces, Limits},
    pb::{self, security_group_agent_client::SecurityGroupAgentClient},
    sgctl::document,
    store::Redb,
};
use tokio::{
    net::UnixStream,
    sync::{oneshot, watch},
    task::JoinHandle,
    time::Instant,
};
use tonic::{
    Code, Status,
    transport::{Channel, Endpoint},
};
use tonic_types::StatusExt;

use super::{
    fake::{FakeDataplane, FakeHost, FakeStore, Kernel, interfaces},
    pki::{INSPECTOR, PUSHER, Pki},
};

pub(crate) type Client = SecurityGroupAgentClient<Channel>;

/// The longest message that the server takes: more than what sgctl sends.
pub(crate) const MESSAGE_OCTETS: usize = 2 << 20;

/// A group that allows nothing, and a NIC in it that owns something of each kind.
pub(crate) const OWNER: &str = "
generation: 7
groups:
  - {id: g}
nics:
  - id: owner
    mac: 06:00:00:00:00:01
    interfaces: [{name: vnet0}]
    addresses: [{address: '2001:db8::1'}]
    slaac_prefix: 2001:db8:100::/64
    delegated_prefixes: ['2001:db8:0:10::/60']
    on_link_prefix: 2001:db8:200::/80
    group_ids: [g]
members:
  - {group_id: g, add: [{address: '2001:db8::1'}]}
";

pub(crate) struct World {
    pub(crate) client: Client,
    pub(crate) channel: Channel,
    pub(crate) kernel: Kernel,
    pub(crate) host: watch::Sender<Arc<Interfaces>>,
    /// The host's settings.
    pub(crate) settings: watch::Sender<BTreeMap<Setting, u64>>,
    /// Whether the disk is full.
    pub(crate) full: watch::Sender<bool>,
    pub(crate) socket: PathBuf,
    pub(crate) tcp: std::net::SocketAddr,
    /// What TCP needs.
    pub(crate) pki: Pki,
    pub(crate) served: JoinHandle<()>,
    pub(crate) exporter: Exporter,
    stop: Option<oneshot::Sender<()>>,
    _dir: tempfile::TempDir,
}

impl World {
    pub(crate) async fn start() -> Self {
        Self::with_limits(Limits::default()).await
    }

    /// With [`OWNER`] in force.
    pub(crate) async fn owned() -> Self {
        let mut world = Self::start().await;
        world.apply(OWNER).await.unwrap();
        world
    }

    pub(crate) async fn with_limits(limits: Limits) -> Self {
        Self::with(limits, Crowding::default()).await
    }

    pub(crate) async fn with(limits: Limits, crowding: Crowding) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("agent.sock");
        let (parts, held) = parts(limits, dir.path().join("store"));
        let (agent, handle) = Agent::start(parts).await.unwrap();
        let exporter = Exporter {
            handle: handle.clone(),
            flow_table,
        };
        tokio::spawn(agent.run());
        let pki = Pki::in_directory(dir.path());
        let tls = Tls::start(pki.files.clone()).unwrap();
        let tcp = Listener::tcp("[::1]:0".parse().unwrap(), tls)
            .await
            .unwrap();
        let address = tcp.address().unwrap();
        let listeners = vec![Listener::unix(&socket).await.unwrap(), tcp];
        let options = ServeOptions {
            crowding,
            ..options(limits)
        };
        let (stop, stopped) = oneshot::channel::<()>();
        let served = tokio::spawn(async move {
            let stopped = async { drop(stopped.await) };
            serve(handle, options, listeners, stopped).await.unwrap();
        });
        let channel = connect(socket.clone()).await;
        let client = Client::new(channel.clone());
        let stop = Some(stop);
        Self {
            client,
            channel,
            kernel: held.kernel,
            host: held.host,
            settings: held.settings,
            full: held.full,
            socket,
            tcp: address,
            pki,
            served,
            exporter,
            stop,
            _dir: dir,
        }
    }

    /// Tells the server to stop.
    pub(crate) fn stop(&mut self) {
        drop(self.stop.take());
    }

    /// An Apply in YAML.
    pub(crate) async fn apply(&mut self, yaml: &str) -> Result<pb::ApplyResponse, Status> {
        let request = document::apply("test", yaml).unwrap();
        self.client
            .apply(request)
            .await
            .map(tonic::Response::into_inner)
    }

    /// A Sync in YAML, in these messages as they are.
    pub(crate) async fn sync(&mut self, pieces: &[&str]) -> Result<pb::SyncResponse, Status> {
        let messages: Vec<_> = pieces
            .iter()
            .map(|yaml| document::sync("test", yaml).unwrap())
            .collect();
        let stream = tokio_stream::iter(messages);
        self.client
            .sync(stream)
            .await
            .map(tonic::Response::into_inner)
    }

    pub(crate) async fn status(&mut self) -> pb::GetStatusResponse {
        self.client
            .get_status(pb::GetStatusRequest {})
            .await
            .unwrap()
            .into_inner()
    }

    /// Everything that a client can see, but for the time.
    pub(crate) async fn state(&mut self) -> State {
        let status = self.status().await;
        let status = pb::GetStatusResponse {
            uptime_seconds: 0,
            ..status
        };
        let nics = self
            .client
            .list_nics(pb::ListNicsRequest::default())
            .await
            .unwrap();
        let groups = self
            .client
            .list_groups(pb::ListGroupsRequest::default())
            .await
            .unwrap();
        let groups = groups.into_inner().groups;
        let mut members = Vec::new();
        for info in &groups {
            let group_id = info.group.clone().unwrap().id;
            let request = pb::ListMembersRequest {
                group_id,
                ..Default::default()
            };
            members.push(
                self.client
                    .list_members(request)
                    .await
                    .unwrap()
                    .into_inner(),
            );
        }
        let mut nics = nics.into_inner().nics;
        for info in &mut nics {
            let status = info.status.as_mut().unwrap();
            (status.since_ms, status.changed_at_ms) = (None, None);
        }
        State {
            status,
            nics,
            groups,
            members,
        }
    }
}

#[derive(Debug, PartialEq)]
pub(crate) struct State {
    status: pb::GetStatusResponse,
    nics: Vec<pb::NicInfo>,
    groups: Vec<pb::GroupInfo>,
    members: Vec<pb::ListMembersResponse>,
}

/// The code of a refusal and the paths that its details name.
pub(crate) fn refusal<T: std::fmt::Debug>(answer: Result<T, Status>) -> (Code, Vec<String>) {
    let status = answer.unwrap_err();
    let details = status.get_details_bad_request();
    let mut paths = Vec::new();
    for violation in details
        .into_iter()
        .flat_map(|details| details.field_violations)
    {
        // Whoever has no eye for the details reads the same in the message.
        let line = format!("{}: {}", violation.field, violation.description);
        assert!(status.message().contains(&line), "{}", status.message());
        paths.push(violation.field);
    }
    (status.code(), paths)
}

pub(crate) async fn connect(socket: PathBuf) -> Channel {
    let connect = tower::service_fn(move |_| {
        let socket = socket.clone();
        async move { UnixStream::connect(socket).await.map(TokioIo::new) }
    });
    let endpoint = Endpoint::from_static("http://localhost");
    endpoint.connect_with_connector(connect).await.unwrap()
}

/// What a test holds of an agent's surroundings.
struct Held {
    kernel: Kernel,
    host: watch::Sender<Arc<Interfaces>>,
    settings: watch::Sender<BTreeMap<Setting, u64>>,
    full: watch::Sender<bool>,
}

fn parts(limits: Limits, store: PathBuf) -> (Parts<FakeDataplane, FakeHost, FakeStore>, Held) {
    let (dataplane, kernel) = FakeDataplane::new();
    let (full, seen) = watch::channel(false);
    let (settings, _) = watch::channel(BTreeMap::new());
    let (host, watched) = watch::channel(interfaces(&["vnet0", "vnet1"]));
    let parts = Parts {
        dataplane,
        host: FakeHost {
            interfaces: watched,
            settings: settings.clone(),
        },
        store: FakeStore {
            disk: Redb::open(store).unwrap(),
            full: seen,
        },
        limits,
        host_policy: policy(),
        identity: Identity {
            placement: "br_netfilter".to_owned(),
            ..Identity::default()
        },
        meter: Meter::new().unwrap(),
    };
    let held = Held {
        kernel,
        host,
        settings,
        full,
    };
    (parts, held)
}

#[expect(clippy::unnecessary_wraps, reason = "a host may have none")]
fn flow_table() -> Option<FlowTable> {
    let (entries, maximum) = (3, 1_000);
    Some(FlowTable { entries, maximum })
}

fn options(limits: Limits) -> ServeOptions {
    ServeOptions {
        max_message_octets: MESSAGE_OCTETS,
        started: Instant::now(),
        limits,
        flow_table,
        access: Arc::new(Access::new(clients(), nix::unistd::geteuid().as_raw())),
        crowding: Crowding::default(),
    }
}

/// The configured clients.
fn clients() -> Vec<access::Client> {
    let san = |name: &str, role| access::Client {
        who: Who::San(name.to_owned()),
        role,
    };
    vec![san(PUSHER, Role::Push), san(INSPECTOR, Role::Inspect)]
}

fn policy() -> HostPolicy {
    HostPolicy {
        nf_call_ip6tables: true,
        fragment_timeout: 2,
        fragment_memory: 64 << 20,
        multicast_groups: 64,
        fragments_per_second: 10,
        fragment_burst: 10,
    }
}
