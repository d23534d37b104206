//! The import rule: which module may use which. Dependencies point one way, so that what
//! decides never touches what acts.
#![expect(clippy::unwrap_used, reason = "a test")]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

/// Module, what of ours it may use, and crates that it must not.
const RULES: &[(&str, &[&str], &[&str])] = &[
    ("access", &[], IO),
    ("model", &[], IO),
    ("failpoint", &[], &["tokio", "tonic", "redb"]),
    ("ruleset", &["model"], IO),
    ("policy", &["model", "ruleset"], IO),
    (
        "netlink",
        &[],
        &["tonic", "prost", "nftables", "rtnetlink", "redb"],
    ),
    (
        "dataplane",
        &["failpoint", "model", "netlink", "ruleset"],
        &["tonic", "prost", "rtnetlink", "redb"],
    ),
    (
        "link",
        &["model", "netlink"],
        &["tonic", "prost", "nftables", "redb"],
    ),
    (
        "store",
        &["failpoint", "model"],
        &["tonic", "prost", "nftables", "rtnetlink"],
    ),
    (
        "agent",
        &[
            "failpoint",
            "model",
            "policy",
            "ruleset",
            "dataplane",
            "link",
            "store",
        ],
        &[
            "tonic",
            "prost",
            "nftables",
            "rtnetlink",
            "netlink_packet_route",
            "redb",
        ],
    ),
    (
        "grpc",
        &["access", "model", "agent", "pb"],
        &["nftables", "rtnetlink", "redb"],
    ),
    (
        "metrics",
        &["agent", "model"],
        &["tonic", "prost", "nftables", "rtnetlink", "redb"],
    ),
    ("sgctl", &["pb"], &["nftables", "rtnetlink", "redb"]),
    (
        "config",
        &["access", "model", "agent", "dataplane"],
        &["tonic", "nftables", "rtnetlink"],
    ),
    (
        "telemetry",
        &["config"],
        &["tonic", "nftables", "rtnetlink"],
    ),
    (
        "cli",
        &["access", "config", "model"],
        &["tonic", "nftables", "rtnetlink"],
    ),
];

/// What pure modules keep their hands off.
const IO: &[&str] = &[
    "tokio",
    "tonic",
    "prost",
    "nftables",
    "rtnetlink",
    "redb",
    "tracing",
    "std::fs",
    "std::process",
    "std::env",
    "std::time",
    "std::os",
    "std::net::Tcp",
    "std::net::Udp",
];

fn sources(under: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(under).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|end| end == "rs") {
            found.push(path);
        }
    }
}

/// The source of each module, its tests left out.
fn modules() -> BTreeMap<String, Vec<(PathBuf, String)>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    sources(&root, &mut files);
    let mut modules: BTreeMap<String, Vec<_>> = BTreeMap::new();
    for file in files {
        let inside = file.strip_prefix(&root).unwrap();
        let first = inside
            .components()
            .next()
            .unwrap()
            .as_os_str()
            .to_str()
            .unwrap();
        let text = fs::read_to_string(&file).unwrap();
        let code = text.split("#[cfg(test)]").next().unwrap().to_owned();
        let is_test = inside.ends_with("tests.rs") || inside.iter().any(|part| part == "tests");
        if !is_test {
            let module = first.trim_end_matches(".rs").to_owned();
            modules
                .entry(module)
                .or_default()
                .push((inside.to_owned(), code));
        }
    }
    modules
}

/// The modules of ours that a source names after `crate::`, in use lists too.
fn used(code: &str) -> BTreeSet<String> {
    let plain: String = code
        .lines()
        .filter(|line| !line.trim_start().starts_with("//"))
        .flat_map(|line| [line, "\n"])
        .collect();
    let word = |text: &str| {
        text.chars()
            .take_while(|c| c.is_alphanumeric() || *c == '_')
            .collect::<String>()
    };
    let mut found = BTreeSet::new();
    for rest in plain.split("crate::").skip(1) {
        let Some(list) = rest.strip_prefix('{') else {
            found.insert(word(rest));
            continue;
        };
        let (mut depth, mut start) = (0, true);
        for (at, c) in list.char_indices() {
            match c {
                '{' => depth += 1,
                '}' if depth == 0 => break,
                '}' => depth -= 1,
                ',' => start = depth == 0,
                c if c.is_alphanumeric() && start => {
                    found.insert(word(&list[at..]));
                    start = false;
                }
                _ => {}
            }
        }
    }
    found
}

#[test]
fn modules_use_only_what_they_may() {
    let modules = modules();
    let mut wrong = Vec::new();
    for (module, may, never) in RULES {
        for (file, code) in &modules[*module] {
            for other in used(code) {
                if modules.contains_key(&other) && other != *module && !may.contains(&&*other) {
                    wrong.push(format!("{}: uses {other}", file.display()));
                }
            }
            for line in code
                .lines()
                .filter(|line| !line.trim_start().starts_with("//"))
            {
                for name in *never {
                    if line.contains(&format!("{name}::")) {
                        wrong.push(format!("{}: {line}", file.display()));
                    }
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_module_has_a_rule_or_puts_the_parts_together() {
    let ruled: BTreeSet<_> = RULES
        .iter()
        .map(|(module, ..)| (*module).to_owned())
        .collect();
    let together = ["bin", "daemon", "lib", "main"].map(str::to_owned);
    let all: BTreeSet<_> = modules().into_keys().collect();
    let expected: BTreeSet<_> = ruled.into_iter().chain(together).collect();
    assert_eq!(all, expected);
}

#[test]
fn use_lists_are_understood() {
    let code =
        "use crate::{agent::{A, B}, model::C,\n pb};\nfn f(x: crate::store::S) {}\n// crate::no";
    let expected = ["agent", "model", "pb", "store"].map(str::to_owned);
    assert_eq!(used(code), expected.into_iter().collect());
}

#[test]
fn no_source_is_longer_than_500_lines() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    for under in ["src", "tests"] {
        sources(&root.join(under), &mut files);
    }
    for file in files {
        let lines = fs::read_to_string(&file).unwrap().lines().count();
        assert!(lines <= 500, "{} has {lines} lines", file.display());
    }
}
