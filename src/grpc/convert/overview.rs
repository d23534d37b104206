//! What is in force as a whole, for those who read it.

use std::{
    collections::BTreeMap,
    ops::Bound::{Excluded, Unbounded},
    time::Duration,
};

use super::read;
use crate::{
    agent::{BridgeView, Drift, FlowTable, Identity, View},
    model::{Desired, GroupId, NicState},
    pb,
};

/// A group with how it is used.
pub fn group_info(desired: &Desired, id: &GroupId) -> Option<pb::GroupInfo> {
    let nics = desired
        .nics
        .values()
        .filter(|nic| nic.groups.contains(id))
        .count();
    info(desired, id, count(nics))
}

/// The groups behind `after`, by id, each with how it is used.
pub fn group_infos<'a>(
    desired: &'a Desired,
    after: Option<&'a GroupId>,
) -> impl Iterator<Item = (GroupId, pb::GroupInfo)> + 'a {
    let mut nics: BTreeMap<&GroupId, u32> = BTreeMap::new();
    for id in desired.nics.values().flat_map(|nic| &nic.groups) {
        *nics.entry(id).or_default() += 1;
    }
    let after = after.map_or(Unbounded, Excluded);
    desired
        .groups
        .range::<GroupId, _>((after, Unbounded))
        .filter_map(move |(id, _)| {
            let used = nics.get(id).copied().unwrap_or_default();
            Some((id.clone(), info(desired, id, used)?))
        })
}

/// What the agent is and does.
pub fn status(view: &View, uptime: Duration, flows: Option<FlowTable>) -> pb::GetStatusResponse {
    let Identity {
        dataplane,
        placement,
        placement_reason,
        kernel_version,
        nft_version,
        // Among the limitations.
        fragments_joined: _,
        no_samples: _,
    } = view.identity.clone();
    pb::GetStatusResponse {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        uptime_seconds: uptime.as_secs(),
        generation: view.generation,
        revision: view.revision,
        healthy: view.unhealthy.is_none(),
        unhealthy_reason: view.unhealthy.clone().unwrap_or_default(),
        dataplane,
        placement,
        placement_reason,
        kernel_version,
        nft_version,
        counts: Some(counts(view)),
        limitations: view.limitations.clone(),
        unprotected: view.unprotected(),
        warnings: view.warnings(),
        bridges: view.bridges().iter().map(bridge).collect(),
        flow_table: flows.map(|FlowTable { entries, maximum }| pb::FlowTable { entries, maximum }),
        drifts: view.drifts.iter().map(drift).collect(),
        drift_repairs: view.drift_repairs,
    }
}

fn drift(drift: &Drift) -> pb::Drift {
    let Drift {
        what,
        by,
        noticed_at_ms,
        lasted_ms,
    } = drift;
    pb::Drift {
        what: what.clone(),
        by: by.clone(),
        noticed_at_ms: *noticed_at_ms,
        lasted_ms: *lasted_ms,
    }
}

fn info(desired: &Desired, id: &GroupId, nic_count: u32) -> Option<pb::GroupInfo> {
    let group = desired.groups.get(id)?;
    let members = desired.members.get(id).map_or(0, |members| members.len());
    Some(pb::GroupInfo {
        group: Some(read::group(group)),
        member_count: count(members),
        nic_count,
    })
}

fn counts(view: &View) -> pb::Counts {
    let desired = view.desired();
    let (mut active, mut pending, mut quarantined) = (0, 0, 0);
    for id in desired.nics.keys() {
        match view.outcome(id).map(|outcome| &outcome.state) {
            Some(NicState::Active) => active += 1,
            Some(NicState::Pending(_)) | None => pending += 1,
            Some(NicState::Quarantined(_)) => quarantined += 1,
        }
    }
    pb::Counts {
        nics_active: active,
        nics_pending: pending,
        nics_quarantined: quarantined,
        groups: count(desired.groups.len()),
        rules: count(desired.groups.values().map(|group| group.rules.len()).sum()),
        members: count(desired.members.values().map(|members| members.len()).sum()),
    }
}

pub(in crate::grpc) fn bridge(bridge: &BridgeView) -> pb::BridgeStatus {
    let BridgeView {
        name,
        uplinks,
        bound_ports,
        closed_ports,
        zone,
        held,
    } = bridge;
    pb::BridgeStatus {
        name: name.to_string(),
        uplinks: uplinks.iter().map(ToString::to_string).collect(),
        bound_ports: *bound_ports,
        closed_ports: closed_ports.iter().map(ToString::to_string).collect(),
        conntrack_zone: (*zone).into(),
        held: *held,
    }
}

fn count(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}
