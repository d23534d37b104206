//! Which rules a test needed, for `make mutants`.
//!
//! `SGAGENT_TEST_NFT` names a program to be used instead of nft (tests/mutants/nft), and
//! `SGAGENT_TEST_COVERAGE` a directory: each test leaves there how long its host lived and what
//! the kernel holds at its end, counters included, in a file of the test's name.

use std::io::Write as _;
use std::time::Instant;

use super::namespace::Namespace;

/// The line of the agent's configuration that names the program.
pub(crate) fn program() -> String {
    std::env::var("SGAGENT_TEST_NFT")
        .map(|program| format!("nft = {program:?}\n"))
        .unwrap_or_default()
}

pub(crate) fn record(namespace: &Namespace, started: Instant) {
    let Ok(directory) = std::env::var("SGAGENT_TEST_COVERAGE") else {
        return;
    };
    // A second panic would end the whole suite, and hide the first.
    if std::thread::panicking() {
        return;
    }
    let thread = std::thread::current();
    let test = thread.name().unwrap_or("unnamed").to_owned();
    let (_, listing) = namespace.try_command("nft list ruleset");
    let seconds = started.elapsed().as_secs_f64();
    let path = std::path::Path::new(&directory).join(test);
    let mut file = std::fs::File::options()
        .create(true)
        .append(true)
        .open(path)
        .unwrap();
    writeln!(file, "# {seconds:.3}\n{listing}").unwrap();
}
