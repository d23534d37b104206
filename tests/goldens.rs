//! What pushing a small scenario changes in the kernel, as nft text: a golden's diff in
//! review is the security review.
//!
//! `tests/goldens/NAME.yaml` is a `SyncRequest`; `NAME.nft` what it adds to an agent that
//! manages br0 (ports eth0, vnet0–vnet3, tap0) and nothing else, or to `NAME.before.yaml`
//! where that exists. `UPDATE_GOLDENS=1 cargo test --test goldens` writes them anew.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test"
)]

use std::{collections::BTreeMap, fmt::Write as _, fs, path::Path, sync::Arc};

use sgagent::{
    dataplane::{
        Dataplane as _,
        nft::{Nft, Parameters},
    },
    grpc::convert,
    model::{BridgeConfig, Desired, Interfaces, Limits, Link, LinkKind, Located, NicState},
    policy::{Numbering, compile},
    ruleset::Plan,
    sgctl::document,
};

fn host() -> Arc<Located> {
    let mut links = BTreeMap::new();
    let mut add = |name: &str, mac: [u8; 6], master: Option<u32>, kind: LinkKind| {
        let index = u32::try_from(links.len() + 1).unwrap();
        let name = name.parse().unwrap();
        links.insert(
            index,
            Link {
                index,
                name,
                mac,
                master,
                kind,
                multicast_snooping: false,
            },
        );
    };
    add("br0", [2, 0, 0, 0, 0, 0xb0], None, LinkKind::Bridge);
    add("eth0", [2, 0, 0, 0, 0, 0xe0], Some(1), LinkKind::Outward);
    for (name, last) in [
        ("vnet0", 0x79),
        ("vnet1", 0x7a),
        ("vnet2", 0x7b),
        ("vnet3", 0x7c),
    ] {
        add(name, [0xfe, 0xb2, 0, 0, 4, last], Some(1), LinkKind::Other);
    }
    add(
        "tap0",
        [0xfe, 0xff, 0xff, 0xff, 0xff, 0xff],
        Some(1),
        LinkKind::Other,
    );
    let host = Interfaces {
        links,
        bridges: vec![BridgeConfig {
            routers: vec!["fe80::1".parse().unwrap()],
            ..BridgeConfig::new("br0".parse().unwrap())
        }],
        guest_patterns: vec!["vnet*".parse().unwrap(), "tap*".parse().unwrap()],
        ..Interfaces::default()
    };
    Arc::new(host.into())
}

fn desired(file: &Path) -> Desired {
    let name = file.display().to_string();
    let text = fs::read_to_string(file).unwrap();
    let request = document::sync(&name, &text).unwrap_or_else(|e| panic!("{e}"));
    let delta = convert::sync(request).expect(&name).into_parts().0.delta;
    Desired::default()
        .change(&delta, &Limits::default(), &host())
        .expect(&name)
}

fn render(before: Option<&Path>, scenario: &Path) -> String {
    let mut numbering = Numbering::default();
    let from = before.map(desired).unwrap_or_default();
    let from = compile(&from, &host(), &mut numbering);
    let to = compile(&desired(scenario), &host(), &mut numbering);
    let mut text = String::new();
    for (id, outcome) in &to.outcomes {
        if let NicState::Pending(reason) | NicState::Quarantined(reason) = &outcome.state {
            writeln!(text, "# {id}: {reason}").unwrap();
        }
    }
    let plan = Plan::between(&from.ruleset, &to.ruleset);
    let nft = Nft::new("nft".into(), Parameters::default());
    for line in nft.preview(&plan) {
        writeln!(text, "{line}").unwrap();
    }
    text
}

#[test]
fn scenarios_render_as_reviewed() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens");
    let mut names: Vec<_> = fs::read_dir(&folder)
        .unwrap()
        .filter_map(|entry| {
            let name = entry.unwrap().file_name().into_string().unwrap();
            name.strip_suffix(".yaml").map(str::to_owned)
        })
        .filter(|name| !name.ends_with(".before"))
        .collect();
    names.sort();
    assert!(names.len() >= 15, "the scenarios are gone");
    let mut wrong = Vec::new();
    for name in names {
        let file = |end: &str| folder.join(format!("{name}{end}"));
        let before = Some(file(".before.yaml")).filter(|path| path.exists());
        let text = render(before.as_deref(), &file(".yaml"));
        if std::env::var_os("UPDATE_GOLDENS").is_some() {
            fs::write(file(".nft"), &text).unwrap();
        }
        let golden = fs::read_to_string(file(".nft")).unwrap_or_default();
        if golden != text {
            wrong.push(format!(
                "{name}:\n--- reviewed\n{golden}--- rendered\n{text}"
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
