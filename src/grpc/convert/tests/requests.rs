//! Requests as a whole.

use super::{
    super::{Synced, apply, sync},
    address, faults, name, texts, with_nic, with_rule,
};
use crate::{agent::Change, model::Fault, pb};

#[test]
fn every_fault_is_named_in_the_order_of_the_fields() {
    let request = pb::ApplyRequest {
        nics: vec![pb::Nic {
            id: String::new(),
            instance_name: "\n".to_owned(),
            mac: "x".to_owned(),
            interfaces: vec![name("a b")],
            addresses: vec![address("::1"), address("2001:db8::1")],
            slaac_prefix: "x".to_owned(),
            ipv4: Some(7),
            ..pb::Nic::default()
        }],
        remove_nics: texts(&[""]),
        ..pb::ApplyRequest::default()
    };
    let wanted = [
        "nics[0].id",
        "nics[0].instance_name",
        "nics[0].mac",
        "nics[0].interfaces[0].name",
        "nics[0].addresses[0].address",
        "nics[0].slaac_prefix",
        "nics[0].ipv4",
        "remove_nics[0]",
    ];
    assert_eq!(faults(request), wanted);
}

#[test]
fn an_object_is_named_once_only() {
    let mut twice = with_nic(|_| {});
    twice.nics.push(pb::Nic {
        mac: "x".to_owned(),
        ..twice.nics[0].clone()
    });
    twice.remove_nics = texts(&["a", "b", "b"]);
    let wanted = [
        "nics[1].mac",
        "nics[1].id",
        "remove_nics[2]",
        "remove_nics[0]",
    ];
    assert_eq!(faults(twice), wanted);

    let mut groups = with_rule(|_| {});
    groups.groups.push(groups.groups[0].clone());
    groups.remove_groups = texts(&["g", "h"]);
    let member = |text: &str| pb::Member {
        address: text.into(),
        ..pb::Member::default()
    };
    groups.members = ["h", "i", "i"]
        .map(|group| pb::MembersDelta {
            group_id: group.to_owned(),
            add: vec![member("2001:db8::1"), member("2001:db8::1")],
            remove: texts(&["2001:db8::2", "2001:db8::2", "2001:db8::1"]),
        })
        .to_vec();
    let mut wanted = texts(&["groups[1].id", "remove_groups[0]", "members[0].group_id"]);
    for i in 0..3 {
        wanted.push(format!("members[{i}].add[1].address"));
        wanted.push(format!("members[{i}].remove[1]"));
        wanted.push(format!("members[{i}].remove[2]"));
    }
    wanted.push("members[2].group_id".to_owned());
    assert_eq!(faults(groups), wanted);
}

#[test]
fn entries_of_one_group_are_joined_and_a_fault_finds_its_entry() {
    let entry = |group: &str, list: &[&str]| pb::GroupMembers {
        group_id: group.to_owned(),
        members: list
            .iter()
            .map(|text| pb::Member {
                address: (*text).to_owned(),
                ..pb::Member::default()
            })
            .collect(),
    };
    let request = |members| pb::SyncRequest {
        members,
        ..pb::SyncRequest::default()
    };
    let synced = sync(request(vec![
        entry("z", &["2001:db8::1"]),
        entry("a", &[]),
        entry("z", &["2001:db8::2"]),
    ]));
    let (change, entries) = synced.unwrap().into_parts();
    let counts = change
        .delta
        .members
        .iter()
        .map(|m| (m.group.as_str(), m.add.len()));
    assert_eq!(counts.collect::<Vec<_>>(), [("a", 0), ("z", 2)]);
    let fault = |path: &str| vec![Fault::new(crate::model::FaultKind::Limit, path, "")];
    assert_eq!(
        Synced::rename(&entries, fault("members[1].add"))[0].path,
        "members[0].members"
    );
    assert_eq!(
        Synced::rename(&entries, fault("nics[1].mac"))[0].path,
        "nics[1].mac"
    );

    let twice = vec![entry("z", &["2001:db8::1"]), entry("z", &["2001:db8::1"])];
    let list = sync(request(twice)).unwrap_err();
    assert_eq!(list[0].path, "members[1].members[0].address");
}

fn fingerprint(change: Change) -> String {
    change.generation.unwrap().fingerprint
}

#[test]
fn a_fingerprint_is_of_the_content() {
    let request = || pb::ApplyRequest {
        generation: Some(1),
        ..with_nic(|_| {})
    };
    let one = fingerprint(apply(request()).unwrap());
    assert_eq!(one.len(), 64);
    let again = pb::ApplyRequest {
        generation: Some(2),
        dry_run: true,
        ..request()
    };
    assert_eq!(one, fingerprint(apply(again).unwrap()));
    let shouted = with_nic(|nic| nic.mac = nic.mac.to_uppercase());
    let shouted = pb::ApplyRequest {
        generation: Some(1),
        ..shouted
    };
    assert_eq!(one, fingerprint(apply(shouted).unwrap()));
    let mut other = request();
    other.nics[0].ipv4 = Some(1);
    assert_ne!(one, fingerprint(apply(other).unwrap()));

    let sync = |nics: Vec<pb::Nic>| {
        let request = pb::SyncRequest {
            generation: Some(1),
            nics,
            ..pb::SyncRequest::default()
        };
        fingerprint(sync(request).unwrap().into_parts().0)
    };
    let (a, mut b) = (request().nics.remove(0), request().nics.remove(0));
    b.id = "b".to_owned();
    assert_ne!(one, sync(vec![a.clone()]));
    assert_eq!(sync(vec![a.clone(), b.clone()]), sync(vec![b, a]));
}

#[test]
fn every_part_of_a_request_is_in_its_fingerprint() {
    type Edit = fn(&mut pb::ApplyRequest);
    let table: &[Edit] = &[
        |_| {},
        |r| r.nics[0].id = "b".to_owned(),
        |r| r.remove_nics = texts(&["c"]),
        |r| r.remove_groups = texts(&["c"]),
        |r| r.groups = with_rule(|_| {}).groups,
        |r| r.groups = with_rule(|rule| rule.protocol = 2).groups,
        |r| r.members[0].group_id = "i".to_owned(),
        |r| r.members[0].remove = texts(&["2001:db8::2"]),
        |r| r.members[0].add[0].address = "2001:db8::2".to_owned(),
        |r| r.members[0].add[0].delegated_prefixes = texts(&["2001:db8:1::/48"]),
    ];
    let all = table.iter().map(|edit| {
        let mut request = pb::ApplyRequest {
            generation: Some(1),
            ..with_nic(|_| {})
        };
        let member = pb::Member {
            address: "2001:db8::1".to_owned(),
            ..pb::Member::default()
        };
        let group_id = "h".to_owned();
        request.members = vec![pb::MembersDelta {
            group_id,
            add: vec![member],
            remove: vec![],
        }];
        edit(&mut request);
        fingerprint(apply(request).unwrap())
    });
    let distinct: std::collections::BTreeSet<_> = all.collect();
    assert_eq!(distinct.len(), table.len());
}
