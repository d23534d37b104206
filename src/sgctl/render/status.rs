//! What the agent is and does, for people.

use super::{Cell, Table, Tone, pb, some_of};

/// What the agent is and does.
pub(in super::super) fn status(status: &pb::GetStatusResponse, colour: bool) -> String {
    let mut table = Table::pairs();
    let health = if status.healthy {
        Cell::new("healthy", Tone::Good)
    } else {
        Cell::new(
            &format!("not healthy: {}", status.unhealthy_reason),
            Tone::Bad,
        )
    };
    table.pair(
        "agent",
        format!("{}, up {} s", status.version, status.uptime_seconds),
    );
    table.pair("health", health);
    let generation = status
        .generation
        .map_or_else(|| "none".to_owned(), |n| n.to_string());
    table.pair("generation", generation);
    table.pair("revision", status.revision.to_string());
    table.pair("dataplane", &status.dataplane);
    table.pair("placement", &status.placement);
    table.pair("because", &status.placement_reason);
    table.pair("kernel", &status.kernel_version);
    table.pair("nft", &status.nft_version);
    count(&mut table, status.counts.unwrap_or_default());
    if let Some(pb::FlowTable { entries, maximum }) = status.flow_table {
        // As full as this, it is time to look who fills it.
        let tone = if entries >= maximum - maximum / 5 {
            Tone::Warn
        } else {
            Tone::Plain
        };
        let text = format!("{entries} of {maximum}");
        table.pair("flows", Cell::new(&text, tone));
    }
    table.pair("drift", drift_count(status));
    for (name, list, tone) in [
        ("warning", &status.warnings, Tone::Warn),
        ("unprotected", &status.unprotected, Tone::Bad),
        ("limitation", &status.limitations, Tone::Plain),
    ] {
        for line in list {
            table.pair(name, Cell::new(line, tone));
        }
    }
    let mut text = table.render(colour);
    if !status.bridges.is_empty() {
        text.push('\n');
        text.push_str(&bridges(&status.bridges, colour));
    }
    if !status.drifts.is_empty() {
        text.push('\n');
        text.push_str(&drifts(&status.drifts, colour));
    }
    text
}

fn drift_count(status: &pb::GetStatusResponse) -> Cell {
    let open = |drift: &&pb::Drift| drift.lasted_ms.is_none();
    let (repaired, open) = (
        status.drift_repairs,
        status.drifts.iter().filter(open).count(),
    );
    match (repaired, open) {
        (0, 0) => Cell::new("none", Tone::Plain),
        (_, 0) => Cell::new(&format!("{repaired} repaired"), Tone::Warn),
        _ => Cell::new(
            &format!("{repaired} repaired, {open} not repaired yet"),
            Tone::Bad,
        ),
    }
}

fn drifts(list: &[pb::Drift], colour: bool) -> String {
    let mut table = Table::new(&["DRIFT", "BY", "NOTICED", "LASTED"]);
    for drift in list {
        let by = if drift.by.is_empty() {
            "(not known)"
        } else {
            &drift.by
        };
        let lasted = drift.lasted_ms.map_or_else(
            || Cell::new("not repaired yet", Tone::Bad),
            |ms| format!("{ms} ms").into(),
        );
        let (seconds, ms) = (drift.noticed_at_ms / 1000, drift.noticed_at_ms % 1000);
        table.row([
            drift.what.as_str().into(),
            by.into(),
            format!("@{seconds}.{ms:03}").into(),
            lasted,
        ]);
    }
    table.render(colour)
}

fn count(table: &mut Table, counts: pb::Counts) {
    let pb::Counts {
        nics_active,
        nics_pending,
        nics_quarantined,
        groups,
        rules,
        members,
    } = counts;
    let tone = if nics_quarantined > 0 {
        Tone::Bad
    } else {
        Tone::Plain
    };
    let nics =
        format!("{nics_active} active, {nics_pending} pending, {nics_quarantined} quarantined");
    table.pair("NICs", Cell::new(&nics, tone));
    table.pair(
        "groups",
        format!("{groups} with {rules} rules and {members} members"),
    );
}

fn bridges(list: &[pb::BridgeStatus], colour: bool) -> String {
    let mut table = Table::new(&["BRIDGE", "UPLINKS", "BOUND", "CLOSED PORTS", "ZONE"]);
    for bridge in list {
        table.row([
            bridge.name.as_str().into(),
            bridge.uplinks.join(" ").into(),
            bridge.bound_ports.to_string().into(),
            Cell::new(&some_of(&bridge.closed_ports), Tone::Warn),
            if bridge.held {
                Cell::new("not enforced yet", Tone::Bad)
            } else {
                bridge.conntrack_zone.to_string().into()
            },
        ]);
    }
    table.render(colour)
}
