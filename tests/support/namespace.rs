//! A network namespace with a thread that lives in it.
//!
//! Nothing is written to `/run/netns`: the namespace belongs to its thread and to the processes
//! started from it, so it is gone when they are, also after a SIGKILL of the test program.

use std::process::{Command, Stdio};
use std::sync::mpsc::{Sender, channel};
use std::thread::JoinHandle;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};

type Job = Box<dyn FnOnce() + Send>;

/// A host's network, and the only way to do something in it.
pub(crate) struct Namespace {
    jobs: Option<Sender<Job>>,
    thread: Option<JoinHandle<()>>,
}

impl Namespace {
    pub(crate) fn new() -> Self {
        let (jobs, inbox) = channel::<Job>();
        let (ready, entered) = channel();
        let thread = std::thread::spawn(move || {
            ready.send(enter()).unwrap();
            for job in inbox {
                job();
            }
        });
        entered
            .recv()
            .unwrap()
            .expect("a network namespace needs root, or unshare --user");
        Self {
            jobs: Some(jobs),
            thread: Some(thread),
        }
    }

    /// Runs `job` inside: what it opens, reads under /sys and /proc/sys/net, or starts, is there.
    pub(crate) fn run<T: Send + 'static>(&self, job: impl FnOnce() -> T + Send + 'static) -> T {
        let (answer, result) = channel();
        let job: Job = Box::new(move || {
            let _ = answer.send(job());
        });
        self.jobs
            .as_ref()
            .unwrap()
            .send(job)
            .expect("the namespace's thread is gone");
        result.recv().expect("the job in the namespace panicked")
    }

    /// Runs a program to its end and returns its output; failing fails the test.
    pub(crate) fn command(&self, line: &str) -> String {
        let (status, text) = self.try_command(line);
        assert!(status, "{line}: {text}");
        text
    }

    /// Runs a program to its end: whether it succeeded, and what it wrote.
    pub(crate) fn try_command(&self, line: &str) -> (bool, String) {
        let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        self.run(move || {
            let output = Command::new(&words[0])
                .args(&words[1..])
                .stdin(Stdio::null())
                .output()
                .unwrap_or_else(|error| panic!("{}: {error}", words[0]));
            let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
            text.push_str(&String::from_utf8_lossy(&output.stderr));
            (output.status.success(), text)
        })
    }

    /// Gives `ip` a batch of commands, one a line: one process instead of thirty.
    pub(crate) fn ip_batch(&self, lines: &str) {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), lines).unwrap();
        self.command(&format!("ip -batch {}", file.path().display()));
    }

    /// Writes a sysctl, named by its path under /proc/sys.
    pub(crate) fn sysctl(&self, path: &str, value: &str) {
        let (path, value) = (format!("/proc/sys/{path}"), value.to_owned());
        self.run(move || {
            std::fs::write(&path, value).unwrap_or_else(|error| panic!("{path}: {error}"));
        });
    }

    /// Whether a file of /sys or /proc is there.
    pub(crate) fn has(&self, path: &str) -> bool {
        let path = path.to_owned();
        self.run(move || std::path::Path::new(&path).exists())
    }

    /// Reads a file of /sys or /proc as a process of this host sees it.
    pub(crate) fn read(&self, path: &str) -> String {
        let path = path.to_owned();
        self.run(move || {
            std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"))
        })
        .trim()
        .to_owned()
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        drop(self.jobs.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// /sys shows the network devices of the namespace it was mounted in, so it is mounted anew.
fn enter() -> nix::Result<()> {
    unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS)?;
    let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    mount(None::<&str>, "/", None::<&str>, private, None::<&str>)?;
    mount(
        Some("sysfs"),
        "/sys",
        Some("sysfs"),
        MsFlags::empty(),
        None::<&str>,
    )
}
