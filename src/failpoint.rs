//! Places where the agent can be made to die, for the tests of faults (tests/faults.rs).
//!
//! Only with the cargo feature `failpoints`, which no release has; without it [`reach`] is
//! empty. `SGAGENT_FAILPOINT=NAME[:NTH]` makes the process kill itself by SIGKILL when it gets
//! to that place for the NTH time (the first if nothing is said): nothing is flushed, closed or
//! answered. `SGAGENT_FAILPOINT_TRACE` names a file that gets the name of each place reached, a
//! line each.

/// Every place, in the order of a change and of a start.
pub const ALL: &[&str] = &[
    // A change: decided, in the kernel, on disk, its flows cut, answered.
    "compile",
    "plan",
    "nft-start",
    "nft-started",
    "nft-told",
    "nft-ended",
    "ports",
    "in-force",
    "commit",
    "commit-written",
    "committed",
    "cut",
    "cut-marked",
    "cut-done",
    "answer",
    "answered",
    // The disk refused, and the kernel is taken back.
    "take-back",
    "taken-back",
    // A start: read, in the kernel, about to listen.
    "start",
    "start-loaded",
    "start-applied",
    "start-listening",
];

/// The agent got to a place; it may be the end of it.
#[cfg(not(feature = "failpoints"))]
#[inline]
pub fn reach(_name: &'static str) {}

#[cfg(feature = "failpoints")]
pub use armed::reach;

#[cfg(feature = "failpoints")]
mod armed {
    use std::{
        io::Write as _,
        sync::{
            OnceLock,
            atomic::{AtomicU64, Ordering},
        },
    };

    use rustix::process::{Signal, getpid, kill_process};

    /// Where to die, and the how-manieth time.
    struct Armed {
        name: String,
        nth: u64,
    }

    static ARMED: OnceLock<Option<Armed>> = OnceLock::new();
    static TIMES: AtomicU64 = AtomicU64::new(0);

    fn armed() -> Option<Armed> {
        let text = std::env::var("SGAGENT_FAILPOINT").ok()?;
        let (name, nth) = text.split_once(':').unwrap_or((&text, "1"));
        Some(Armed {
            name: name.to_owned(),
            nth: nth.parse().unwrap_or(1),
        })
    }

    /// The agent got to a place; it may be the end of it.
    pub fn reach(name: &'static str) {
        if let Ok(path) = std::env::var("SGAGENT_FAILPOINT_TRACE")
            && let Ok(mut file) = std::fs::File::options()
                .create(true)
                .append(true)
                .open(path)
        {
            let _ = file.write_all(format!("{name}\n").as_bytes());
        }
        let Some(armed) = ARMED.get_or_init(armed) else {
            return;
        };
        if armed.name == name && TIMES.fetch_add(1, Ordering::SeqCst) + 1 == armed.nth {
            // Nothing is to be done if it fails: whoever waits for the death says so.
            let _ = kill_process(getpid(), Signal::KILL);
        }
    }
}
