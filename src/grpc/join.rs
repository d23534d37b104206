//! The messages of a sync, joined.

use std::collections::BTreeMap;

use prost::Message;

use crate::{
    model::{Fault, FaultKind, Limits},
    pb,
};

/// What has come of a sync so far.
#[derive(Debug)]
pub(super) struct Join {
    limits: Limits,
    max_octets: usize,
    octets: usize,
    begun: bool,
    members: BTreeMap<String, usize>,
    joined: pb::SyncRequest,
}

impl Join {
    /// Nothing yet. The stream may carry up to the limits' number of objects, and
    /// `max_octets` in all.
    pub(super) fn new(limits: Limits, max_octets: usize) -> Self {
        Self {
            limits,
            max_octets,
            octets: 0,
            begun: false,
            members: BTreeMap::new(),
            joined: pb::SyncRequest::default(),
        }
    }

    /// Takes the next message; refuses what cannot become a sync, so that the rest of
    /// the stream need not be waited for.
    pub(super) fn add(&mut self, message: pb::SyncRequest) -> Result<(), Fault> {
        self.octets = self.octets.saturating_add(message.encoded_len());
        let pb::SyncRequest {
            generation,
            dry_run,
            nics,
            groups,
            members,
            complete,
        } = message;
        if self.joined.complete {
            return Err(invalid(
                "complete",
                "is true in a message that was not the last",
            ));
        }
        if self.begun && generation.is_some() {
            return Err(invalid(
                "generation",
                "is given in a message that is not the first",
            ));
        }
        if self.begun && dry_run {
            return Err(invalid(
                "dry_run",
                "is true in a message that is not the first",
            ));
        }
        if !self.begun {
            (self.joined.generation, self.joined.dry_run) = (generation, dry_run);
        }
        self.begun = true;
        self.joined.complete = complete;
        for entry in &members {
            let count = self.members.entry(entry.group_id.clone()).or_default();
            *count += entry.members.len();
        }
        self.joined.nics.extend(nics);
        self.joined.groups.extend(groups);
        self.joined.members.extend(members);
        self.within_limits()
    }

    /// The whole sync, where the stream said that it is whole.
    pub(super) fn finish(self) -> Result<pb::SyncRequest, Fault> {
        if self.joined.complete {
            Ok(self.joined)
        } else {
            Err(invalid(
                "complete",
                "the stream ended before a message in which it is true",
            ))
        }
    }

    fn within_limits(&self) -> Result<(), Fault> {
        let limits = &self.limits;
        check("nics", self.joined.nics.len(), limits.nics, "NICs")?;
        check("groups", self.joined.groups.len(), limits.groups, "groups")?;
        check("members", self.members.len(), limits.groups, "groups")?;
        if let Some((group, count)) = self.members.iter().max_by_key(|(_, count)| **count) {
            let entry = self
                .joined
                .members
                .iter()
                .position(|entry| entry.group_id == *group);
            let path = format!("members[{}].members", entry.unwrap_or_default());
            check(&path, *count, limits.members_per_group, "members")?;
        }
        check(
            "complete",
            self.octets,
            self.max_octets,
            "octets without it",
        )
    }
}

fn invalid(path: &str, text: &str) -> Fault {
    Fault::new(FaultKind::Invalid, path, text)
}

fn check(path: &str, count: usize, limit: usize, what: &str) -> Result<(), Fault> {
    if count <= limit {
        return Ok(());
    }
    let text = format!("{count} {what}, the configured limit is {limit}");
    Err(Fault::new(FaultKind::Limit, path, text))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn join(messages: Vec<pb::SyncRequest>, limits: Limits) -> Result<pb::SyncRequest, Fault> {
        let mut join = Join::new(limits, 1_000);
        for message in messages {
            join.add(message)?;
        }
        join.finish()
    }

    fn refused(messages: Vec<pb::SyncRequest>) -> String {
        join(messages, Limits::default()).unwrap_err().path
    }

    fn piece() -> pb::SyncRequest {
        pb::SyncRequest::default()
    }

    fn last() -> pb::SyncRequest {
        pb::SyncRequest {
            complete: true,
            ..piece()
        }
    }

    #[test]
    fn a_stream_is_whole_only_where_its_last_message_says_so() {
        assert!(join(vec![piece(), last()], Limits::default()).is_ok());
        assert_eq!(refused(vec![]), "complete");
        assert_eq!(refused(vec![piece()]), "complete");
        assert_eq!(refused(vec![last(), piece()]), "complete");
        assert_eq!(refused(vec![last(), last()]), "complete");
    }

    #[test]
    fn generation_and_dry_run_are_in_the_first_message() {
        let generation = || pb::SyncRequest {
            generation: Some(0),
            ..piece()
        };
        let dry_run = || pb::SyncRequest {
            dry_run: true,
            ..piece()
        };
        let joined = join(vec![generation(), last()], Limits::default()).unwrap();
        assert_eq!(joined.generation, Some(0));
        assert!(
            join(vec![dry_run(), last()], Limits::default())
                .unwrap()
                .dry_run
        );
        assert_eq!(refused(vec![piece(), generation(), last()]), "generation");
        assert_eq!(refused(vec![piece(), dry_run(), last()]), "dry_run");
    }

    #[test]
    fn too_much_is_refused_before_the_stream_ends() {
        let limits = Limits {
            nics: 1,
            groups: 1,
            members_per_group: 1,
            ..Limits::default()
        };
        let nics = || pb::SyncRequest {
            nics: vec![pb::Nic::default()],
            ..piece()
        };
        let groups = || pb::SyncRequest {
            groups: vec![pb::Group::default()],
            ..piece()
        };
        let members = || pb::SyncRequest {
            members: vec![pb::GroupMembers {
                group_id: "g".to_owned(),
                members: vec![pb::Member::default()],
            }],
            ..piece()
        };
        let long = || pb::SyncRequest {
            nics: vec![pb::Nic {
                id: "x".repeat(2_000),
                ..pb::Nic::default()
            }],
            ..piece()
        };
        for (messages, path) in [
            (vec![nics(), nics()], "nics"),
            (vec![groups(), groups()], "groups"),
            (vec![members(), members()], "members[0].members"),
            (vec![long()], "complete"),
        ] {
            let fault = join(messages, limits).unwrap_err();
            assert_eq!((fault.kind, fault.path.as_str()), (FaultKind::Limit, path));
        }
    }
}
