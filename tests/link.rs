//! What `link` says of the host, against the real kernel.
#![expect(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "tests start real programs"
)]

#[path = "link/follow.rs"]
mod follow;
#[path = "link/settings.rs"]
mod settings;

use std::{
    io::Write as _,
    process::{Command, Stdio},
    sync::Arc,
};

use nix::sched::{CloneFlags, unshare};
use sgagent::{
    link::{Host as _, Netlink},
    model::{IfName, Interfaces},
};
use tokio::sync::watch::Receiver;

/// Runs a test in a network namespace of its own. No name is given to it, so it ends with the
/// thread, also after a panic.
fn in_namespace(test: impl AsyncFnOnce() + Send + 'static) {
    let thread = std::thread::spawn(move || {
        let entered = unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS);
        assert!(
            entered.is_ok(),
            "a network namespace needs root, or unshare --user: {entered:?}"
        );
        run("mount --make-rprivate /");
        ip("link set lo up");
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        runtime.unwrap().block_on(test());
    });
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

fn run(line: &str) {
    let mut words = line.split_whitespace();
    let output = Command::new(words.next().unwrap())
        .args(words)
        .output()
        .unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{line}: {stderr}");
}

/// Blocks the runtime, and with it the task that follows the events.
fn ip(line: &str) {
    run(&format!("ip {line}"));
}

fn ip_batch(lines: &[String]) {
    let mut child = Command::new("ip")
        .args(["-batch", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(lines.join("\n").as_bytes())
        .unwrap();
    assert!(child.wait().unwrap().success());
}

async fn start() -> (Netlink, Receiver<Arc<Interfaces>>) {
    let guests = vec!["guest*".parse().unwrap()];
    let host = Netlink::start(Vec::new(), guests, None).await.unwrap();
    let interfaces = host.interfaces();
    (host, interfaces)
}

fn name(text: &str) -> IfName {
    text.parse().unwrap()
}
