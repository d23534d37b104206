//! What an agent that was killed leaves running.
//!
//! An `nft` that outlives its agent may get to its work after the next agent has restored what was
//! acknowledged, and acknowledged more. So every program that we start inherits a lock, and an
//! agent that starts kills whoever still holds it and waits for its end: what that was started for
//! is in force by then, and replaced, or never will be.

use std::{
    fs::{self, File},
    io,
    path::Path,
    time::Duration,
};

use rustix::{
    io::{FdFlags, fcntl_setfd},
    process::{Pid, Signal, kill_process},
};
use tokio::time::{Instant, sleep};
use tracing::warn;

/// How long one may take to end that is killed.
const LIMIT: Duration = Duration::from_secs(10);

const PAUSE: Duration = Duration::from_millis(5);

/// The lock, held as long as this agent or a program that it started lives.
#[derive(Debug)]
pub struct Claim(#[expect(dead_code, reason = "it is held")] File);

/// Takes the lock from whatever a dead agent left. That it is dead is for the caller to know.
pub async fn claim(path: &Path) -> io::Result<Claim> {
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(path)?;
    let deadline = Instant::now() + LIMIT;
    loop {
        match file.try_lock() {
            Ok(()) => break,
            Err(fs::TryLockError::Error(error)) => return Err(error),
            Err(fs::TryLockError::WouldBlock) => {}
        }
        if Instant::now() > deadline {
            let text = "what an agent that was killed has started does not end";
            return Err(io::Error::new(io::ErrorKind::TimedOut, text));
        }
        for pid in holders(path)? {
            warn!(
                pid = %pid.as_raw_nonzero(),
                "killed what an agent that was killed has started"
            );
            // It may have ended by itself.
            let _ = kill_process(pid, Signal::KILL);
        }
        sleep(PAUSE).await;
    }
    // What we start inherits it from now on.
    fcntl_setfd(&file, FdFlags::empty())?;
    Ok(Claim(file))
}

/// The other processes that have the file open by the description that is locked.
fn holders(path: &Path) -> io::Result<Vec<Pid>> {
    let path = fs::canonicalize(path)?;
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc")?.flatten() {
        let name = entry.file_name();
        let pid = name.to_str().and_then(|name| name.parse().ok());
        let Some(pid) = pid.and_then(Pid::from_raw) else {
            continue;
        };
        // One that has ended meanwhile, or is somebody else's, holds nothing of ours.
        let Ok(open) = fs::read_dir(entry.path().join("fd")) else {
            continue;
        };
        let holds = |fd: fs::DirEntry| {
            let info = entry.path().join("fdinfo").join(fd.file_name());
            fs::read_link(fd.path()).is_ok_and(|target| target == path)
                && fs::read_to_string(info).is_ok_and(|text| text.contains("FLOCK"))
        };
        if open.flatten().any(holds) {
            found.push(pid);
        }
    }
    Ok(found)
}
