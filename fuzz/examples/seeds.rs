//! Writes the seeds that are made of files of this repository: `seeds.py` runs it.
//!
//!     cargo run --example seeds -- CORPUS GOLDENS SKELETON
//!
//! SKELETON is a file that it writes, a ruleset for `seeds.py` to load.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use prost::Message as _;
use sgagent::{dataplane::nft, grpc::convert, pb, ruleset::Ruleset, sgctl::document};

fn main() -> io::Result<()> {
    let mut arguments = std::env::args_os().skip(1).map(PathBuf::from);
    let (Some(corpus), Some(goldens), Some(skeleton)) =
        (arguments.next(), arguments.next(), arguments.next())
    else {
        return Err(io::Error::other("usage: seeds CORPUS GOLDENS SKELETON"));
    };
    let empty = nft::skeleton::text(&nft::Parameters::default(), &bare());
    fs::write(skeleton, empty)?;
    let mut names = Vec::new();
    for entry in fs::read_dir(goldens)? {
        let path = entry?.path();
        if path.extension().is_some_and(|end| end == "yaml") {
            names.push(path);
        }
    }
    names.sort();
    for path in &names {
        golden(&corpus, path)?;
    }
    Ok(())
}

fn bare() -> Ruleset {
    let pattern = |name: &str| name.parse().expect("a pattern");
    Ruleset {
        enforced: true,
        guest_patterns: vec![pattern("vnet*")],
        bridge_patterns: vec![pattern("br0")],
        ..Ruleset::default()
    }
}

fn write(corpus: &Path, target: &str, name: &str, octets: &[u8]) -> io::Result<()> {
    let folder = corpus.join(target);
    fs::create_dir_all(&folder)?;
    fs::write(folder.join(name), octets)
}

/// A piece of an input, as `source.rs` takes it.
fn piece(first: u8, octets: &[u8]) -> Vec<u8> {
    let length = u16::try_from(1 + octets.len()).unwrap_or(u16::MAX);
    [&length.to_le_bytes()[..], &[first], octets].concat()
}

fn golden(corpus: &Path, path: &Path) -> io::Result<()> {
    let name = path
        .file_stem()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned();
    let text = fs::read_to_string(path)?;
    let wrong = |what: String| io::Error::other(format!("{name}: {what}"));
    let mut request = document::sync(&name, &text).map_err(|e| wrong(e.to_string()))?;
    request.complete = true;
    write(corpus, "documents", &name, text.as_bytes())?;
    let synced = piece(1, &request.encode_to_vec());
    let apply = pb::ApplyRequest {
        nics: request.nics.clone(),
        groups: request.groups.clone(),
        members: members(&request),
        ..pb::ApplyRequest::default()
    };
    let applied = piece(0, &apply.encode_to_vec());
    write(corpus, "raw_requests", &name, &[synced, applied].concat())?;
    let rows = rows(request).map_err(|faults| wrong(format!("{faults:?}")))?;
    write(corpus, "store", &name, &rows)
}

fn members(request: &pb::SyncRequest) -> Vec<pb::MembersDelta> {
    let delta = |members: &pb::GroupMembers| pb::MembersDelta {
        group_id: members.group_id.clone(),
        add: members.members.clone(),
        remove: Vec::new(),
    };
    request.members.iter().map(delta).collect()
}

/// The rows that a store would have of it.
fn rows(request: pb::SyncRequest) -> Result<Vec<u8>, Vec<sgagent::model::Fault>> {
    let delta = convert::sync(request)?.into_parts().0.delta;
    let row = |kind: u8, row: serde_json::Result<Vec<u8>>| {
        let row = row.unwrap_or_default();
        let length = u16::try_from(row.len()).unwrap_or(u16::MAX);
        [&[kind][..], &length.to_le_bytes(), &row].concat()
    };
    let mut octets = vec![0];
    for nic in &delta.nics {
        octets.extend(row(0, serde_json::to_vec(nic)));
    }
    for group in &delta.groups {
        octets.extend(row(1, serde_json::to_vec(group)));
    }
    for member in delta.members.iter().flat_map(|members| &members.add) {
        octets.extend(row(2, serde_json::to_vec(member)));
    }
    Ok(octets)
}
