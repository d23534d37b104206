//! What the agent does with a change, without a kernel: compile it, in steps and afresh, make the
//! transactions of it, and look whether they lead to the same and to nothing else than was wanted.

use std::{
    collections::BTreeSet,
    sync::{Arc, LazyLock},
};

use serde_json::Value;
use sgagent::{
    agent::Change,
    dataplane::{
        Dataplane as _,
        nft::{self, Nft, Parameters, Placement, skeleton},
    },
    grpc::{self, convert},
    model::{Delta, Desired, Fault, Interfaces, Limits, Located},
    pb,
    policy::{Compiled, Numbering, compile},
    ruleset::{Plan, Ruleset},
};

use crate::{
    kernel::{Edit, Kernel},
    oracle,
};

/// As few as make them be met.
const LIMITS: Limits = Limits {
    nics: 8,
    groups: 6,
    rules_per_group: 6,
    prefixes_per_rule: 6,
    members_per_group: 12,
    groups_per_nic: 4,
    addresses_per_nic: 6,
};

/// The agent, and what its kernel would hold in each placement.
pub struct Agent {
    configured: Interfaces,
    numbering: Numbering,
    now: Compiled,
    kernels: [(Nft, Placement, Kernel); 2],
}

fn nft(placement: Placement) -> Nft {
    let parameters = Parameters {
        placement,
        ..Parameters::default()
    };
    Nft::new("nft".to_owned(), parameters)
}

/// Tables of ours with nothing in them.
fn bare() -> Arc<Ruleset> {
    Arc::new(Ruleset {
        enforced: true,
        ..Ruleset::default()
    })
}

/// What a skeleton declares is the same on every host.
fn skeleton_of(placement: Placement) -> Kernel {
    static BRIDGE: LazyLock<Kernel> = LazyLock::new(|| made(Placement::Bridge));
    static BR_NETFILTER: LazyLock<Kernel> = LazyLock::new(|| made(Placement::BrNetfilter));
    fn made(placement: Placement) -> Kernel {
        let parameters = Parameters {
            placement,
            ..Parameters::default()
        };
        Kernel::skeleton(&skeleton::text(&parameters, &bare()))
    }
    match placement {
        Placement::Bridge => BRIDGE.clone(),
        Placement::BrNetfilter => BR_NETFILTER.clone(),
    }
}

fn loaded(placement: Placement, ruleset: &Arc<Ruleset>) -> Kernel {
    let mut kernel = skeleton_of(placement);
    let plan = Plan::between(&bare(), ruleset);
    kernel.carry_out(&nft(placement).preview(&plan));
    kernel
}

impl Agent {
    /// On a host that manages bridges, with nothing wanted.
    pub fn new(host: Interfaces) -> Self {
        Self::restored(host, &Desired::default())
    }

    /// With what was acknowledged before.
    pub fn restored(host: Interfaces, desired: &Desired) -> Self {
        let configured = Interfaces {
            bridges: host.bridges.clone(),
            guest_patterns: host.guest_patterns.clone(),
            ..Interfaces::default()
        };
        let mut numbering = Numbering::default();
        let now = compile(desired, &Arc::new(host.into()), &mut numbering);
        let kernels = [Placement::Bridge, Placement::BrNetfilter]
            .map(|placement| (nft(placement), placement, loaded(placement, &now.ruleset)));
        let agent = Self {
            configured,
            numbering,
            now,
            kernels,
        };
        agent.judge();
        agent
    }

    /// The configuration.
    pub fn configured(&self) -> &Interfaces {
        &self.configured
    }

    /// What is wanted by now.
    pub fn desired(&self) -> &Desired {
        &self.now.desired
    }

    /// An Apply comes in.
    pub fn apply(&mut self, request: pb::ApplyRequest) {
        match convert::apply(request) {
            Ok(change) => {
                assert!(!change.delta.replace);
                again(&change);
                self.change(&change);
            }
            Err(faults) => refused(&faults),
        }
    }

    /// The messages of a Sync come in.
    pub fn sync(&mut self, messages: Vec<pb::SyncRequest>) {
        let request = match grpc::fuzzing::join(messages, LIMITS, 1 << 20) {
            Ok(request) => request,
            Err(fault) => return refused(&[fault]),
        };
        match convert::sync(request) {
            Ok(synced) => {
                let (change, entries) = synced.into_parts();
                assert!(change.delta.replace);
                if let Some(faults) = self.change(&change) {
                    refused(&convert::Synced::rename(&entries, faults));
                }
            }
            Err(faults) => refused(&faults),
        }
    }

    /// The interfaces are others by now.
    pub fn host(&mut self, host: Interfaces) {
        let host: Arc<Located> = Arc::new(host.into());
        let next = compile(&self.now.desired, &host, &mut self.numbering);
        self.advance(next);
    }

    fn change(&mut self, change: &Change) -> Option<Vec<Fault>> {
        let Delta { replace, .. } = &change.delta;
        let before = &self.now.desired;
        let next = match before.change(&change.delta, &LIMITS, &self.now.host) {
            Ok(next) => next,
            Err(faults) => {
                refused(&faults);
                return Some(faults);
            }
        };
        if *replace {
            let afresh = Desired::default().change(&change.delta, &LIMITS, &self.now.host);
            assert_eq!(
                afresh.as_ref(),
                Ok(&next),
                "a sync does not depend on what was"
            );
        }
        // It is no change any more.
        assert_eq!(next.summary(&next), sgagent::model::Summary::default());
        let mut afresh = self.numbering.clone();
        let whole = compile(&next, &self.now.host, &mut afresh);
        let step = self.now.next(&next, &mut self.numbering);
        assert_eq!(step, whole, "a step and a fresh start differ");
        assert_eq!(
            self.numbering, afresh,
            "numbers of a step and of a fresh start differ"
        );
        self.advance(step);
        None
    }

    fn advance(&mut self, next: Compiled) {
        for (nft, placement, kernel) in &mut self.kernels {
            let plan = Plan::between(&self.now.ruleset, &next.ruleset);
            let edits = kernel.carry_out(&nft.preview(&plan));
            if let Some(document) = nft::fuzzing::json(&plan, *placement) {
                assert_eq!(in_json(&document, kernel), edits.into_iter().collect());
            }
            let again = Plan::between(&next.ruleset, &next.ruleset);
            assert!(again.is_empty() && nft.preview(&again).is_empty());
        }
        self.now = next;
        self.judge();
    }

    fn judge(&self) {
        for (_, placement, kernel) in &self.kernels {
            oracle::judge(&self.now, *placement, kernel);
        }
        oracle::ports(
            &self.now,
            &skeleton::ports(&Parameters::default(), &self.now.ruleset),
        );
    }

    /// What came about in steps is what a fresh load brings about.
    pub fn finish(self) {
        oracle::flows(&self.now.ruleset);
        for (_, placement, kernel) in &self.kernels {
            let fresh = loaded(*placement, &self.now.ruleset);
            assert_eq!(*kernel, fresh, "edits and a fresh load differ");
        }
    }
}

/// What was understood, told again, is the same.
fn again(change: &Change) {
    let Change {
        generation,
        dry_run,
        delta,
        adopt,
    } = change;
    assert_eq!(*adopt, None);
    let members = delta.members.iter().map(|members| pb::MembersDelta {
        group_id: members.group.to_string(),
        add: members.add.iter().map(convert::member).collect(),
        remove: members.remove.iter().map(ToString::to_string).collect(),
    });
    let request = pb::ApplyRequest {
        generation: generation.as_ref().map(|generation| generation.number),
        dry_run: *dry_run,
        nics: delta.nics.iter().map(convert::nic).collect(),
        remove_nics: delta.remove_nics.iter().map(ToString::to_string).collect(),
        groups: delta.groups.iter().map(convert::group).collect(),
        remove_groups: delta
            .remove_groups
            .iter()
            .map(ToString::to_string)
            .collect(),
        members: members.collect(),
    };
    assert_eq!(convert::apply(request).as_ref(), Ok(change));
}

/// A refusal names fields, and fits a header.
pub fn refused(faults: &[Fault]) {
    assert!(!faults.is_empty());
    for fault in faults {
        let plain = |c: char| c.is_ascii_alphanumeric() || "_[].".contains(c);
        assert!(
            !fault.path.is_empty() && fault.path.chars().all(plain),
            "{fault}"
        );
        assert!(!fault.text.is_empty());
    }
    let status = grpc::fuzzing::refused(faults);
    assert_ne!(status.code() as i32, 0);
    assert!(!status.message().is_empty());
}

/// The edits in a transaction of elements as JSON, in the words of the text.
fn in_json(document: &str, kernel: &Kernel) -> BTreeSet<Edit> {
    let document: Value = serde_json::from_str(document).expect("JSON");
    let mut edits = BTreeSet::new();
    for command in document["nftables"].as_array().expect("a list") {
        let (verb, what) = command
            .as_object()
            .and_then(|c| c.iter().next())
            .expect("a command");
        let element = &what["element"];
        assert_eq!(element["table"], "sgagent");
        let family = ["bridge", "ip6"]
            .into_iter()
            .find(|f| element["family"] == **f);
        let name = element["name"].as_str().expect("a name").to_owned();
        let key = (family.expect("a family"), name);
        let is_map = kernel.sets[&key].is_map();
        for one in element["elem"].as_array().expect("a list") {
            let (one, value) = match one.as_array() {
                Some(pair) if verb == "add" && is_map => (&pair[0], value(&pair[1])),
                _ => (one, String::new()),
            };
            let parts = match one.get("concat") {
                Some(parts) => parts.as_array().expect("a list").iter().map(part).collect(),
                None => vec![part(one)],
            };
            let words = kernel.sets[&key].quoted(&parts);
            edits.insert((verb == "add", key.clone(), words, value));
        }
    }
    edits
}

fn part(part: &Value) -> String {
    match part {
        Value::Number(number) => format!("{:#010x}", number.as_u64().expect("a mark")),
        Value::String(word) => word.clone(),
        other => {
            let prefix = &other["prefix"];
            let (address, length) = (&prefix["addr"], &prefix["len"]);
            format!("{}/{}", address.as_str().expect("an address"), length)
        }
    }
}

fn value(value: &Value) -> String {
    if value.get("accept").is_some() {
        return "accept".to_owned();
    }
    match value.get("goto") {
        Some(to) => format!("goto {}", to["target"].as_str().expect("a chain")),
        None => part(value),
    }
}
