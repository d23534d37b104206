//! The real agent in the test's namespace, and its client.

use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

use hyper_util::rt::TokioIo;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use sgagent::pb;
use sgagent::pb::security_group_agent_client::SecurityGroupAgentClient;
use tokio::net::UnixStream;
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;
use tonic::transport::{Channel, Endpoint};
use tonic::{Response, Status, Streaming};

use super::namespace::Namespace;

pub(crate) type Client = SecurityGroupAgentClient<Channel>;

/// The agent's process with its configuration, its state and its log in one directory.
pub(crate) struct Agent {
    directory: tempfile::TempDir,
    runtime: Runtime,
    child: Option<Child>,
}

/// The messages of a stream that goes on until this is dropped.
pub(crate) struct Followed<T> {
    all: Receiver<Result<T, Status>>,
    reading: JoinHandle<()>,
}

impl<T> Followed<T> {
    /// The next, if it comes in time.
    pub(crate) fn within(&self, time: Duration) -> Option<Result<T, Status>> {
        self.all.recv_timeout(time).ok()
    }
}

impl<T> Drop for Followed<T> {
    fn drop(&mut self) {
        self.reading.abort();
    }
}

impl Agent {
    /// Writes the configuration: `{dir}` in it becomes the directory of this agent.
    pub(crate) fn new(config: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let text = config.replace("{dir}", directory.path().to_str().unwrap());
        std::fs::write(directory.path().join("sgagent.toml"), text).unwrap();
        // Its own thread, so that a connection that is done with is closed at once.
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        Self {
            directory,
            runtime,
            child: None,
        }
    }

    /// Starts the program and waits until it answers.
    pub(crate) fn start(&mut self, namespace: &Namespace) {
        // Its first transaction replaces the tables, and with them what they have counted.
        super::coverage::record(namespace, Instant::now());
        self.spawn(namespace, &[], &[]);
        if let Err(status) = self.wait_until_ready() {
            let (code, signal) = (status.code(), status.signal());
            panic!(
                "the agent ended, code {code:?}, signal {signal:?}:\n{}",
                self.log()
            );
        }
    }

    /// Starts the program by a command line that it is appended to, with more variables in its
    /// environment.
    pub(crate) fn spawn(
        &mut self,
        namespace: &Namespace,
        by: &[&str],
        environment: &[(&str, String)],
    ) {
        let by: Vec<_> = by.iter().map(|&word| word.to_owned()).collect();
        let environment: Vec<_> = environment
            .iter()
            .map(|(name, value)| ((*name).to_owned(), value.clone()))
            .collect();
        let config = self.path("sgagent.toml");
        let log = self.path("stderr");
        let child = namespace.run(move || {
            let log = std::fs::File::options()
                .create(true)
                .append(true)
                .open(log)
                .unwrap();
            // The signal comes when the namespace's thread ends, at the latest with the test
            // program: no agent is left behind.
            Command::new("setpriv")
                .args(["--pdeathsig", "KILL"])
                .args(by)
                .args([env!("CARGO_BIN_EXE_sgagent"), "run", "--config"])
                .arg(config)
                .envs(environment)
                .stdin(Stdio::null())
                .stdout(Stdio::from(log.try_clone().unwrap()))
                .stderr(Stdio::from(log))
                .spawn()
                .expect("setpriv of util-linux starts the agent")
        });
        self.child = Some(child);
    }

    /// One call. Errors of the agent are the caller's to judge.
    pub(crate) fn call<T>(
        &self,
        rpc: impl AsyncFnOnce(Client) -> Result<Response<T>, Status>,
    ) -> Result<T, Status> {
        self.ask(async |channel| {
            rpc(Client::new(channel).max_decoding_message_size(64 << 20)).await
        })
    }

    /// One call of any service.
    pub(crate) fn ask<T>(
        &self,
        rpc: impl AsyncFnOnce(Channel) -> Result<Response<T>, Status>,
    ) -> Result<T, Status> {
        let socket = self.path("sgagent.sock");
        self.runtime
            .block_on(async {
                let limit = Duration::from_secs(20) * super::net::slowness();
                let call = async { rpc(connect(socket).await?).await };
                let answer = tokio::time::timeout(limit, call).await;
                answer.map_err(|_| Status::deadline_exceeded("the test's own limit"))?
            })
            .map(Response::into_inner)
    }

    /// The messages of a stream, read in the background until nobody wants them.
    pub(crate) fn follow<T: Send + 'static>(
        &self,
        rpc: impl AsyncFnOnce(Client) -> Result<Response<Streaming<T>>, Status>,
    ) -> Followed<T> {
        let mut messages = self.call(rpc).unwrap();
        let (told, all) = std::sync::mpsc::channel();
        let reading = self.runtime.spawn(async move {
            while let Some(message) = messages.message().await.transpose() {
                if told.send(message).is_err() {
                    return;
                }
            }
        });
        Followed { all, reading }
    }

    /// Its process; `setpriv` has become the agent.
    pub(crate) fn pid(&self) -> u32 {
        self.child.as_ref().unwrap().id()
    }

    /// SIGKILL: the agent gets no chance to do anything.
    pub(crate) fn kill(&mut self) {
        self.end(Signal::SIGKILL);
    }

    /// SIGTERM: the agent ends in its own way.
    pub(crate) fn stop(&mut self) {
        self.end(Signal::SIGTERM);
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.path("stderr")).unwrap_or_default()
    }

    /// A file of its directory.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        Path::join(self.directory.path(), name)
    }

    /// Waits until it answers; its end, if that is what comes.
    pub(crate) fn wait_until_ready(&mut self) -> Result<(), ExitStatus> {
        let deadline = Instant::now() + Duration::from_secs(20) * super::net::slowness();
        loop {
            // On an emulated machine a call costs as much as what is waited for.
            let answer = if self.path("sgagent.sock").exists() {
                self.call(async |mut client| client.get_status(pb::GetStatusRequest {}).await)
            } else {
                Err(Status::unavailable("there is no socket"))
            };
            let Err(error) = answer else { return Ok(()) };
            let late = Instant::now() > deadline;
            if let Some(status) = self.ended() {
                return Err(status);
            }
            assert!(!late, "the agent is not ready: {error}\n{}", self.log());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// How it ended, if it has.
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        let child = self.child.as_mut();
        child.and_then(|child| child.try_wait().unwrap())
    }

    fn end(&mut self, signal: Signal) {
        let Some(mut child) = self.child.take() else {
            return;
        };
        let pid = Pid::from_raw(i32::try_from(child.id()).unwrap());
        let _ = kill(pid, signal);
        let deadline = Instant::now() + Duration::from_secs(5) * super::net::slowness();
        while matches!(child.try_wait(), Ok(None)) {
            if Instant::now() > deadline {
                let _ = child.kill();
                let _ = child.wait();
                assert!(
                    std::thread::panicking(),
                    "the agent does not end on {signal}"
                );
                return;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.end(Signal::SIGTERM);
        if std::thread::panicking() {
            eprintln!("---- log of the agent\n{}", self.log());
        }
    }
}

/// A unix socket's path is not part of a network namespace, so this works from any thread.
async fn connect(socket: PathBuf) -> Result<Channel, Status> {
    let connector = tower::service_fn(move |_| {
        let socket = socket.clone();
        async move { UnixStream::connect(socket).await.map(TokioIo::new) }
    });
    Endpoint::from_static("http://agent")
        .connect_with_connector(connector)
        .await
        .map_err(|error| Status::unavailable(error.to_string()))
}
