//! Every place where the agent can be made to die is got to, and named once.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use sgagent::failpoint;

use super::fixture::{host, start};
use super::served::{empty_disk, fill_disk, large_change, own_disk, restart, wait_for_health};
use super::wanted::Wanted;

#[test]
fn every_place_is_reached() {
    let mut net = start(host());
    own_disk(&mut net, 6);
    super::kills::push_all(&mut net);
    let trace = net.agent.path("trace");
    let environment = [("SGAGENT_FAILPOINT_TRACE", trace.display().to_string())];
    assert!(restart(&mut net, &environment));
    let mut wanted = Wanted::first();
    for _ in 0..5 {
        let next = wanted.next();
        next.push(Some(wanted), &net).unwrap();
        wanted = next;
    }
    fill_disk(&net);
    let large = large_change();
    let refused = net.agent.call(async |mut client| client.apply(large).await);
    assert!(refused.is_err());
    empty_disk(&net);
    wait_for_health(&net, true, "");
    let text = std::fs::read_to_string(trace).unwrap();
    let reached: BTreeSet<_> = text.lines().collect();
    assert_eq!(reached, failpoint::ALL.iter().copied().collect());
}

#[test]
fn the_list_of_places_is_that_of_the_source() {
    let mut found = BTreeSet::new();
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    for file in sources(&root) {
        let text = std::fs::read_to_string(&file).unwrap();
        for rest in text.split("reach(\"").skip(1) {
            found.insert(rest.split('"').next().unwrap().to_owned());
        }
    }
    let all: BTreeSet<_> = failpoint::ALL.iter().map(|&name| name.to_owned()).collect();
    assert_eq!(found, all);
}

/// All files of the source under a directory.
pub(super) fn sources(under: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(under).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|end| end == "rs") {
            found.push(path);
        }
    }
    found
}
