//! The real daemon in a namespace, and its client.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use hyper_util::rt::TokioIo;
use sgagent::pb;
use sgagent::pb::security_group_agent_client::SecurityGroupAgentClient;
use tokio::net::UnixStream;
use tokio::runtime::Runtime;
use tonic::transport::{Channel, Endpoint};

use super::namespace::Namespace;

/// A connection to the daemon.
pub(crate) type Client = SecurityGroupAgentClient<Channel>;

/// The daemon's process, with its configuration, state and log in a directory of its own.
pub(crate) struct Daemon {
    directory: tempfile::TempDir,
    runtime: Runtime,
    child: Child,
    client: Client,
}

impl Daemon {
    /// Starts it and waits until it answers. `{dir}` in the configuration is its directory,
    /// `nft` the program that it is to use.
    pub(crate) fn start(namespace: &Namespace, config: &str, nft: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().to_str().unwrap();
        let config = config.replace("{dir}", path).replace("{nft}", nft);
        let file = directory.path().join("sgagent.toml");
        std::fs::write(&file, config).unwrap();
        let log = std::fs::File::create(directory.path().join("log")).unwrap();
        let child = namespace.run(move || {
            // The signal comes when the namespace's thread ends.
            Command::new("setpriv")
                .args(["--pdeathsig", "KILL", env!("CARGO_BIN_EXE_sgagent")])
                .args(["run", "--log", "warn", "--config"])
                .arg(file)
                .stdin(Stdio::null())
                .stdout(Stdio::from(log.try_clone().unwrap()))
                .stderr(Stdio::from(log))
                .spawn()
                .expect("setpriv of util-linux starts the daemon")
        });
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let socket = directory.path().join("sgagent.sock");
        let client = runtime.block_on(ready(&socket));
        let Some(client) = client else {
            let log = std::fs::read_to_string(directory.path().join("log"));
            panic!("the daemon does not answer:\n{}", log.unwrap_or_default());
        };
        Self {
            directory,
            runtime,
            child,
            client,
        }
    }

    /// Runs calls; the first fault ends the benchmark.
    pub(crate) fn call<T>(&self, calls: impl AsyncFnOnce(Client) -> T) -> T {
        self.runtime.block_on(calls(self.client.clone()))
    }

    /// Replaces everything.
    pub(crate) fn sync(&self, everything: pb::SyncRequest) -> pb::SyncResponse {
        self.call(async |mut client| {
            let pieces = tokio_stream::iter(pieces(everything));
            client.sync(pieces).await.unwrap().into_inner()
        })
    }

    /// Changes something.
    pub(crate) fn apply(&self, change: pb::ApplyRequest) -> pb::ApplyResponse {
        self.call(async |mut client| client.apply(change).await.unwrap().into_inner())
    }

    /// Another connection, as another caller has it.
    pub(crate) async fn connect(socket: PathBuf) -> Result<Client, tonic::transport::Error> {
        let connector = tower::service_fn(move |_| {
            let socket = socket.clone();
            async move { UnixStream::connect(socket).await.map(TokioIo::new) }
        });
        let channel = Endpoint::from_static("http://agent")
            .connect_with_connector(connector)
            .await?;
        Ok(Client::new(channel).max_decoding_message_size(64 << 20))
    }

    /// Where it listens.
    pub(crate) fn socket(&self) -> PathBuf {
        self.directory.path().join("sgagent.sock")
    }

    /// The number of kibibytes behind a key of its `/proc/PID/status`.
    pub(crate) fn memory(&self, key: &str) -> u32 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix(key))
            .unwrap();
        let number = line.trim_matches([':', '\t', ' ']).trim_end_matches(" kB");
        number.parse().unwrap()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A message must not be longer than the daemon takes it.
fn pieces(everything: pb::SyncRequest) -> Vec<pb::SyncRequest> {
    let last = pb::SyncRequest {
        complete: true,
        ..pb::SyncRequest::default()
    };
    let pb::SyncRequest {
        generation: _,
        dry_run: _,
        nics,
        groups,
        members,
        complete: _,
    } = everything;
    let some = |nics: &[pb::Nic]| pb::SyncRequest {
        nics: nics.to_vec(),
        ..pb::SyncRequest::default()
    };
    let mut pieces: Vec<_> = nics.chunks(1_000).map(some).collect();
    pieces.push(pb::SyncRequest {
        groups,
        members,
        ..pb::SyncRequest::default()
    });
    pieces.push(last);
    pieces
}

async fn ready(socket: &Path) -> Option<Client> {
    let deadline = Instant::now() + Duration::from_secs(30);
    while Instant::now() < deadline {
        if let Ok(mut client) = Daemon::connect(socket.to_owned()).await
            && client.get_status(pb::GetStatusRequest {}).await.is_ok()
        {
            return Some(client);
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    None
}
