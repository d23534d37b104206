//! How much memory a program's children take: nothing outside tells, so the daemon is given a
//! program instead of `nft` that starts it and writes down the greatest resident size.

use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

const PROGRAM: &str = "#!/usr/bin/env python3
import resource, subprocess, sys
status = subprocess.run([\"nft\", *sys.argv[1:]]).returncode
with open(\"LOG\", \"a\") as log:
    print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss, file=log)
sys.exit(status)
";

/// The program and what it has written.
#[derive(Debug)]
pub(crate) struct Reporter {
    directory: tempfile::TempDir,
}

impl Reporter {
    /// Writes the program.
    pub(crate) fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let reporter = Self { directory };
        let log = reporter.directory.path().join("log");
        let text = PROGRAM.replace("LOG", log.to_str().unwrap());
        std::fs::write(reporter.path(), text).unwrap();
        let mode = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(reporter.path(), mode).unwrap();
        reporter
    }

    /// Where it is.
    pub(crate) fn program(&self) -> String {
        self.path().to_str().unwrap().to_owned()
    }

    /// The greatest size of any so far, in KiB.
    pub(crate) fn greatest(&self) -> u32 {
        let log = std::fs::read_to_string(self.directory.path().join("log")).unwrap();
        log.lines().map(|line| line.parse().unwrap()).max().unwrap()
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join("nft")
    }
}
