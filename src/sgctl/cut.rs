//! A full sync in messages that any agent takes.

use prost::Message;

use crate::pb;

/// Length of a message, roughly: an object may take it over.
const OCTETS: usize = 1 << 20;

/// The messages of a sync. The last says that it is.
pub(super) fn messages(request: pb::SyncRequest) -> Vec<pb::SyncRequest> {
    cut(request, OCTETS)
}

fn cut(request: pb::SyncRequest, octets: usize) -> Vec<pb::SyncRequest> {
    let pb::SyncRequest {
        generation,
        dry_run,
        nics,
        groups,
        members,
        complete: _,
    } = request;
    let first = pb::SyncRequest {
        generation,
        dry_run,
        ..pb::SyncRequest::default()
    };
    let mut cut = Cut {
        octets,
        length: 0,
        messages: vec![first],
    };
    for group in groups {
        cut.room(group.encoded_len()).groups.push(group);
    }
    for pb::GroupMembers { group_id, members } in members {
        // A group without members is still named.
        cut.entry(&group_id);
        for member in members {
            cut.member(&group_id, member);
        }
    }
    for nic in nics {
        cut.room(nic.encoded_len()).nics.push(nic);
    }
    let mut messages = cut.messages;
    if let Some(last) = messages.last_mut() {
        last.complete = true;
    }
    messages
}

struct Cut {
    octets: usize,
    length: usize,
    messages: Vec<pb::SyncRequest>,
}

impl Cut {
    /// The message into which so many more octets go.
    fn room(&mut self, octets: usize) -> &mut pb::SyncRequest {
        if self.length > 0 && self.length + octets > self.octets {
            self.messages.push(pb::SyncRequest::default());
            self.length = 0;
        }
        self.length += octets;
        let last = self.messages.len().saturating_sub(1);
        &mut self.messages[last]
    }

    fn entry(&mut self, group: &str) {
        let entry = pb::GroupMembers {
            group_id: group.to_owned(),
            members: Vec::new(),
        };
        self.room(entry.encoded_len()).members.push(entry);
    }

    fn member(&mut self, group: &str, member: pb::Member) {
        let message = self.room(member.encoded_len());
        match message.members.last_mut() {
            Some(entry) if entry.group_id == group => entry.members.push(member),
            _ => message.members.push(pb::GroupMembers {
                group_id: group.to_owned(),
                members: vec![member],
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_small_and_say_what_the_whole_said() {
        let member = |i: usize| pb::Member {
            address: format!("2001:db8::{i}"),
            ..pb::Member::default()
        };
        let entry = |group: &str, count: usize| pb::GroupMembers {
            group_id: group.to_owned(),
            members: (0..count).map(member).collect(),
        };
        let whole = pb::SyncRequest {
            generation: Some(1),
            groups: vec![
                pb::Group {
                    id: "g".to_owned(),
                    ..pb::Group::default()
                };
                5
            ],
            members: vec![entry("g", 30), entry("h", 0), entry("i", 3)],
            nics: vec![
                pb::Nic {
                    id: "n".repeat(20),
                    ..pb::Nic::default()
                };
                5
            ],
            ..pb::SyncRequest::default()
        };
        let messages = cut(whole.clone(), 100);
        assert!(messages.len() > 5);
        let mut joined = pb::SyncRequest::default();
        for (i, message) in messages.iter().enumerate() {
            assert!(message.encoded_len() < 300);
            assert_eq!(message.generation.is_some(), i == 0);
            assert_eq!(message.complete, i + 1 == messages.len());
            joined.groups.extend(message.groups.clone());
            joined.nics.extend(message.nics.clone());
            for entry in message.members.clone() {
                match joined.members.last_mut() {
                    Some(last) if last.group_id == entry.group_id => {
                        last.members.extend(entry.members);
                    }
                    _ => joined.members.push(entry),
                }
            }
        }
        assert_eq!(joined.groups, whole.groups);
        assert_eq!(joined.members, whole.members);
        assert_eq!(joined.nics, whole.nics);
        assert_eq!(cut(pb::SyncRequest::default(), 100).len(), 1);
    }
}
