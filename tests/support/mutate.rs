//! Takes one rule out of the ruleset, to see which test notices.
//!
//! `SGAGENT_TEST_MUTATE="bridge sgagent guest_ra 2"` leaves the third rule of that chain out
//! of every load. A suite that stays green has a hole. The agent would repair what is taken
//! out of the kernel, so its `nft` is a script that takes it out of the text.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

const VARIABLE: &str = "SGAGENT_TEST_MUTATE";

/// The `nft` of a mutated agent.
pub(crate) fn mutant(directory: &Path) -> Option<PathBuf> {
    let spec = std::env::var(VARIABLE).ok()?;
    let words: Vec<&str> = spec.split_whitespace().collect();
    let [family, table, chain, index] = words[..] else {
        panic!("{VARIABLE} is FAMILY TABLE CHAIN INDEX, not {spec:?}");
    };
    let index: usize = index.parse().expect("the index is a number");
    let script = format!(
        "#!/bin/sh\n\
         [ \"$*\" = '-f -' ] || exec nft \"$@\"\n\
         d=$(mktemp -d) && awk -v table='table {family} {table} ' -v chain=' *chain {chain} ' -v n={index} '{AWK}' >$d/text\n\
         exec nft -f $d/text\n"
    );
    let path = directory.join("nft");
    std::fs::write(&path, script).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    Some(path)
}

/// Counts the statements of the chain: one ends where no brace is open.
const AWK: &str = r#"
    { line = $0; sub(/#.*/, "", line); gsub(/\t/, " ", line) }
    line ~ /^table / { ours = index(line, table) == 1 }
    ours && !inside && line ~ ("^" chain) { inside = 1; depth = 0; rule = -1; print; next }
    inside {
        bare = line; gsub(/ /, "", bare)
        if (depth == 0 && bare == "}") { inside = 0; print; next }
        if (depth == 0 && (bare == "" || line ~ /^ *type /)) { print; next }
        if (depth == 0) rule++
        depth += gsub(/\{/, "{", line) - gsub(/\}/, "}", line)
        if (rule == n) next
    }
    { print }"#;
