//! The only place that starts a process.
//!
//! A program gets its input on stdin, never through a shell or in its arguments, and
//! so long to finish; what it wrote on stderr is in the error.
//!
//! Its input is in memory, complete, before it starts: a pipe would end where we were killed, and
//! `nft` takes the beginning of a script for all of it.

use std::{
    ffi::OsStr,
    fs::File,
    io::{self, Seek as _, Write as _},
    process::Stdio,
    time::Duration,
};

use rustix::fs::{MemfdFlags, memfd_create};
use tokio::{io::AsyncReadExt as _, process::Child, task::JoinHandle, time::timeout};
use tracing::debug;

use crate::failpoint::reach;

/// As much of stderr as an error carries.
const MAX_STDERR: usize = 4_000;

/// Why a program did not do what it was started for.
#[derive(Debug, thiserror::Error)]
pub enum ExecError {
    /// It could not be started.
    #[error("can't start {command}: {source}")]
    Start {
        /// The command line.
        command: String,
        /// Why.
        source: io::Error,
    },
    /// It failed. What is shown are its words; the place in its input, which may be about a
    /// guest's addresses, is not.
    #[error("{command} {how}: {}", words(stderr))]
    Failed {
        /// The command line.
        command: String,
        /// Its exit status.
        how: String,
        /// What it wrote on stderr.
        stderr: String,
    },
    /// It ended well, and nothing shows that it did anything.
    #[error("{command} ended well, but the kernel tells of no transaction")]
    Untold {
        /// The command line.
        command: String,
    },
    /// It did not finish in time and was killed.
    #[error("{command} did not finish within {seconds} s and was killed")]
    TimedOut {
        /// The command line.
        command: String,
        /// How long it had.
        seconds: u64,
    },
}

/// How many errors of a program are shown.
const SHOWN: usize = 3;

/// As many characters of one of them.
const LINE: usize = 300;

/// What a program says is wrong: its lines with an error, or the first where it marks none.
fn words(stderr: &str) -> String {
    let marked = || stderr.lines().filter(|line| line.contains("Error: "));
    let mut shown: Vec<&str> = marked().take(SHOWN).collect();
    if shown.is_empty() {
        shown.extend(stderr.lines().next());
    }
    let cut = |line: &&str| line.chars().take(LINE).collect::<String>();
    let text = shown.iter().map(cut).collect::<Vec<_>>().join("; ");
    match marked().count().saturating_sub(SHOWN) {
        0 => text,
        more => format!("{text}; and {more} more"),
    }
}

/// Runs a program and returns what it wrote on stdout.
pub async fn run<S: AsRef<OsStr>>(
    program: &str,
    args: &[S],
    input: &str,
    limit: Duration,
) -> Result<String, ExecError> {
    run_with(&[], program, args, input, limit).await
}

/// The same, with these variables in its environment.
pub async fn run_with<S: AsRef<OsStr>>(
    environment: &[(&str, &str)],
    program: &str,
    args: &[S],
    input: &str,
    limit: Duration,
) -> Result<String, ExecError> {
    let (child, command) = start(environment, program, args, input)?;
    finish(child, command, limit).await
}

/// A program that runs on whether anybody waits for its end or not.
#[derive(Debug)]
pub struct Running {
    /// Its PID.
    pub pid: Option<u32>,
    end: JoinHandle<Result<String, ExecError>>,
}

impl Running {
    /// What it wrote on stdout. May be dropped and asked again until it has answered.
    pub async fn end(&mut self) -> Result<String, ExecError> {
        let ended = (&mut self.end).await;
        ended.unwrap_or_else(|stopped| {
            Err(ExecError::Start {
                command: "the program's task".to_owned(),
                source: io::Error::other(stopped),
            })
        })
    }
}

/// Starts a program that has so long to finish.
pub fn spawn<S: AsRef<OsStr>>(
    program: &str,
    args: &[S],
    input: &str,
    limit: Duration,
) -> Result<Running, ExecError> {
    let (child, command) = start(&[], program, args, input)?;
    let pid = child.id();
    let end = tokio::spawn(finish(child, command, limit));
    Ok(Running { pid, end })
}

fn start<S: AsRef<OsStr>>(
    environment: &[(&str, &str)],
    program: &str,
    args: &[S],
    input: &str,
) -> Result<(Child, String), ExecError> {
    let command = command_line(program, args);
    let stdin = match in_memory(input) {
        Ok(stdin) => stdin,
        Err(source) => return Err(ExecError::Start { command, source }),
    };
    reach("nft-start");
    #[expect(clippy::disallowed_methods, reason = "this is the one place")]
    let child = tokio::process::Command::new(program)
        .args(args)
        .envs(environment.iter().copied())
        .stdin(Stdio::from(stdin))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn();
    match child {
        Ok(child) => {
            reach("nft-started");
            Ok((child, command))
        }
        Err(source) => Err(ExecError::Start { command, source }),
    }
}

/// A file of no file system, to be read from its beginning.
fn in_memory(input: &str) -> io::Result<File> {
    let mut file = File::from(memfd_create("input", MemfdFlags::CLOEXEC)?);
    file.write_all(input.as_bytes())?;
    file.rewind()?;
    Ok(file)
}

async fn finish(mut child: Child, command: String, limit: Duration) -> Result<String, ExecError> {
    let start = |source| ExecError::Start {
        command: command.clone(),
        source,
    };
    let (Some(mut stdout), Some(mut stderr)) = (child.stdout.take(), child.stderr.take()) else {
        return Err(start(io::Error::other("its pipes are missing")));
    };
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let all = async {
        let (got, said) = tokio::join!(stdout.read_to_end(&mut out), stderr.read_to_end(&mut err));
        got.and(said)?;
        child.wait().await
    };
    let ended = timeout(limit, all).await;
    reach("nft-ended");
    let status = match ended {
        Ok(status) => status.map_err(start)?,
        Err(_) => {
            return Err(ExecError::TimedOut {
                command,
                seconds: limit.as_secs(),
            });
        }
    };
    if status.success() {
        return Ok(String::from_utf8_lossy(&out).into_owned());
    }
    let text = String::from_utf8_lossy(&err);
    let stderr: String = text.trim().chars().take(MAX_STDERR).collect();
    debug!(command, stderr, "a program failed");
    Err(ExecError::Failed {
        command,
        how: status.to_string(),
        stderr,
    })
}

fn command_line<S: AsRef<OsStr>>(program: &str, args: &[S]) -> String {
    let words = args
        .iter()
        .map(|arg| arg.as_ref().to_string_lossy().into_owned());
    std::iter::once(program.to_owned())
        .chain(words)
        .collect::<Vec<_>>()
        .join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test]
    async fn input_comes_back_and_failure_has_stderr() {
        let none: [&str; 0] = [];
        assert_eq!(run("cat", &none, "hello", SECOND).await.unwrap(), "hello");
        let error = run("ls", &["/no/such/file"], "", SECOND)
            .await
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("/no/such/file") && error.contains("exit status"),
            "{error}"
        );
        let error = run("no-such-program", &none, "", SECOND)
            .await
            .unwrap_err()
            .to_string();
        assert!(error.contains("can't start no-such-program"), "{error}");
    }

    #[test]
    fn what_a_program_was_given_is_not_shown() {
        let line = "/dev/stdin:1:5-9: Error: Could not process rule: No buffer space available";
        let quoted = "add element ip6 sgagent owned { 2001:db8::1 }\n    ^^^^";
        assert_eq!(words(&format!("{line}\n{quoted}")), line);
        let many = format!("{line}\n{quoted}\n").repeat(5);
        assert_eq!(words(&many), format!("{line}; {line}; {line}; and 2 more"));
        assert_eq!(words(&format!("Killed\n{quoted}")), "Killed");
        assert_eq!(words(&"é".repeat(LINE + 1)), "é".repeat(LINE));
        assert_eq!(words(""), "");
    }

    /// A pipe has no size.
    #[tokio::test]
    async fn a_program_has_all_of_its_input_when_it_starts() {
        let args = ["-L", "-c", "%s", "/dev/stdin"];
        let large = "x".repeat(1 << 20);
        assert_eq!(
            run("stat", &args, &large, SECOND).await.unwrap(),
            "1048576\n"
        );
    }

    #[tokio::test]
    async fn a_program_that_hangs_is_killed() {
        let error = run("sleep", &["60"], "", SECOND).await.unwrap_err();
        assert!(matches!(error, ExecError::TimedOut { .. }), "{error}");
    }
}
