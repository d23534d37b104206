//! What a NIC may do, why, and since when, in words.

use super::{Cell, Table, Tone, pb, ports, protocol, remote, selector_text, state, time::moment};

/// A group of the NIC: its id, and itself where it is still there.
pub(in crate::sgctl) type Group = (String, Option<pb::Group>);

/// One NIC, with the rules of its groups.
pub(in crate::sgctl) fn nic(answer: &pb::GetNicResponse, groups: &[Group], colour: bool) -> String {
    let info = answer.nic.clone().unwrap_or_default();
    let nic = info.nic.unwrap_or_default();
    let status = info.status.unwrap_or_default();
    let mut table = Table::pairs();
    who(&mut table, &nic, &status);
    for address in &status.addresses {
        table.pair("may use", may_use(address));
    }
    table.pair("link-local", link_local(&status));
    table.pair("virtual MACs", virtual_macs(&nic));
    table.pair("guard", guard(&nic));
    for permission in nic.permissions() {
        let words = Cell::new(permitted(permission), Tone::Warn);
        table.pair("permission", words);
    }
    table.pair("ICMPv6", icmpv6(&nic));
    table.pair("egress", egress(&nic, groups));
    table.pair("ingress", ingress(&nic, groups));
    table.pair("IPv4", ipv4(&nic));
    for (id, group) in groups {
        for line in sentences(group.as_ref()) {
            table.pair(&format!("group {id}"), line);
        }
    }
    table.render(colour)
}

fn who(table: &mut Table, nic: &pb::Nic, status: &pb::NicStatus) {
    table.pair("NIC", &nic.id);
    table.pair("state", state(status.state()));
    table.pair("reason", &status.reason);
    table.pair("means", meaning(status.state()));
    let times = [
        ("since", status.since_ms, "the agent has not looked at it"),
        ("pushed", status.changed_at_ms, "before the agent started"),
    ];
    for (name, at, absent) in times {
        table.pair(name, at.map_or_else(|| absent.to_owned(), moment));
    }
    table.pair(
        "instance",
        format!("{} {}", nic.instance_id, nic.instance_name).trim(),
    );
    table.pair("MAC", &nic.mac);
    for selector in &nic.interfaces {
        table.pair("found by", selector_text(selector));
    }
    for bound in &status.interfaces {
        let pb::BoundInterface {
            name,
            index,
            bridge,
        } = bound;
        table.pair(
            "bound to",
            format!("{name} (index {index}, bridge {bridge})"),
        );
    }
}

fn meaning(state: pb::NicState) -> &'static str {
    match state {
        pb::NicState::Active => "what is below is in force",
        pb::NicState::Pending => {
            "it carries nothing; what is below is in force as soon as its interface is there"
        }
        pb::NicState::Quarantined => {
            "it carries nothing; what is below is in force as soon as the reason is mended"
        }
        pb::NicState::Unspecified => "",
    }
}

fn may_use(address: &pb::EffectiveAddress) -> String {
    let from = match address.kind() {
        pb::AddressKind::LinkLocal => "link-local",
        pb::AddressKind::Address => "given to it",
        pb::AddressKind::Slaac => "slaac: made of its MAC in its slaac_prefix",
        pb::AddressKind::DelegatedPrefix => "delegated: routed to it",
        pb::AddressKind::OnLinkPrefix => "on the link, all of it its own",
        pb::AddressKind::Unspecified => "?",
    };
    let shared = if address.shared {
        "; shared with other NICs"
    } else {
        ""
    };
    format!("{} ({from}{shared})", address.address)
}

fn link_local(status: &pb::NicStatus) -> &'static str {
    match status.link_local() {
        pb::LinkLocalMode::Eui64 => "eui64: the one that follows from its MAC",
        pb::LinkLocalMode::Explicit => "explicit: those that were given to it",
        pb::LinkLocalMode::AnyUnowned => {
            "any-unowned: any of fe80::/64 that nobody else on the bridge owns, 4 at a time, first come"
        }
        pb::LinkLocalMode::Unspecified => "",
    }
}

fn virtual_macs(nic: &pb::Nic) -> String {
    if nic.virtual_macs.is_empty() {
        return String::new();
    }
    let macs = nic.virtual_macs.join(" ");
    format!("{macs}, for its shared addresses only")
}

/// What no permission lifts.
fn guard(nic: &pb::Nic) -> &'static str {
    if nic.permissions.is_empty() {
        "it sends from its own MAC and addresses only, and is no router, DHCPv6 server or anybody \
         else's neighbour (G1-G16)"
    } else {
        "as of every NIC (G1-G16), but for what these permissions lift"
    }
}

/// What it means, and the rows of the policy that it lifts.
fn permitted(permission: pb::Permission) -> &'static str {
    match permission {
        pb::Permission::RouterAdvertisements => {
            "router-advertisements: may be a router: send advertisements, redirects and MLD \
             queries, and hear solicitations (lifts G4 for 134, 137, 130)"
        }
        pb::Permission::Dhcpv6Server => {
            "dhcpv6-server: may be a DHCPv6 server or relay (lifts G11, G12, and S3 for port 547)"
        }
        pb::Permission::AnySource => {
            "any-source: may send from any address and speak for any in neighbour discovery (lifts \
             the sources of G7, G13 and the targets of G8, G9)"
        }
        pb::Permission::Unspecified => "",
    }
}

/// Whether an action that was given or not is to deny.
fn denies(given: Option<i32>) -> bool {
    given == Some(pb::DefaultAction::Deny.into())
}

fn by_default(given: Option<i32>) -> &'static str {
    if given.is_some() { "" } else { " (default)" }
}

fn icmpv6(nic: &pb::Nic) -> String {
    if denies(nic.icmpv6_default) {
        return "deny: echo requests only where a rule allows them (S2)".to_owned();
    }
    let default = by_default(nic.icmpv6_default);
    format!("allow{default}: echo requests from and to anyone (S2)")
}

/// The groups that have a rule of this direction.
fn with_rules(groups: &[Group], direction: pb::Direction) -> Vec<&str> {
    let has = |(_, group): &&Group| {
        let rules = group.iter().flat_map(|group| &group.rules);
        rules.into_iter().any(|rule| rule.direction() == direction)
    };
    groups
        .iter()
        .filter(has)
        .map(|(id, _)| id.as_str())
        .collect()
}

fn egress(nic: &pb::Nic, groups: &[Group]) -> String {
    let by = with_rules(groups, pb::Direction::Egress);
    let default = by_default(nic.egress_default);
    match (denies(nic.egress_default), by.as_slice()) {
        (true, []) => "deny: it may begin nothing; no group has an egress rule (S4)".to_owned(),
        (true, _) => format!("deny: only what rules of {} allow (S4)", by.join(", ")),
        (false, []) => {
            format!("allow{default}: anything; no group has an egress rule (S4)")
        }
        (false, _) => format!(
            "allow{default}, which egress rules of {} have ended: only what rules allow (S4)",
            by.join(", ")
        ),
    }
}

fn ingress(nic: &pb::Nic, groups: &[Group]) -> String {
    let by = with_rules(groups, pb::Direction::Ingress);
    if nic.group_ids.is_empty() {
        return "nothing but what IPv6 needs: it is in no group (S3)".to_owned();
    }
    if by.is_empty() {
        return "nothing but what IPv6 needs: no group has an ingress rule (S3)".to_owned();
    }
    format!("only what rules of {} allow (S3)", by.join(", "))
}

fn ipv4(nic: &pb::Nic) -> String {
    if nic.ipv4 == Some(pb::Ipv4Mode::Block.into()) {
        return "block: dropped in both directions (G2, T2)".to_owned();
    }
    let default = by_default(nic.ipv4);
    format!("pass{default}: left to whoever handles IPv4 on this host (G2, T2)")
}

/// What a group allows, a line each rule.
fn sentences(group: Option<&pb::Group>) -> Vec<String> {
    let Some(group) = group else {
        return vec!["is gone since the NIC was read".to_owned()];
    };
    if group.rules.is_empty() {
        return vec!["allows nothing".to_owned()];
    }
    group.rules.iter().map(sentence).collect()
}

fn sentence(rule: &pb::Rule) -> String {
    let (way, side) = match rule.direction() {
        pb::Direction::Ingress => ("in", "from"),
        pb::Direction::Egress => ("out", "to"),
        pb::Direction::Unspecified => ("?", "?"),
    };
    let what = match rule.protocol() {
        pb::Protocol::Any => "any protocol".to_owned(),
        pb::Protocol::Number => format!("protocol {}", protocol(rule)),
        pb::Protocol::Tcp
        | pb::Protocol::Udp
        | pb::Protocol::Sctp
        | pb::Protocol::Icmpv6
        | pb::Protocol::Unspecified => protocol(rule),
    };
    let port = match (rule.ports, ports(rule)) {
        (Some(range), one) if range.first == range.last => format!(" port {one}"),
        (Some(_), range) => format!(" ports {range}"),
        (None, _) => String::new(),
    };
    let of = match rule.remote.as_ref() {
        Some(other) if !other.group_id.is_empty() => format!("members of {}", remote(rule)),
        Some(_) | None => remote(rule),
    };
    let note = if rule.description.is_empty() {
        String::new()
    } else {
        format!(" ({})", rule.description)
    };
    format!("allows {way}: {what}{port} {side} {of}{note}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(direction: pb::Direction) -> pb::Rule {
        let remote = pb::Remote {
            anyone: true,
            ..pb::Remote::default()
        };
        let mut rule = pb::Rule {
            remote: Some(remote),
            ports: Some(pb::PortRange {
                first: 443,
                last: 443,
            }),
            ..pb::Rule::default()
        };
        rule.set_direction(direction);
        rule.set_protocol(pb::Protocol::Tcp);
        rule
    }

    fn group(rules: Vec<pb::Rule>) -> [Group; 1] {
        let group = pb::Group {
            id: "web".to_owned(),
            rules,
            ..pb::Group::default()
        };
        [("web".to_owned(), Some(group))]
    }

    #[test]
    fn an_egress_rule_ends_the_default_and_is_named() {
        let nic = pb::Nic::default();
        let open = group(vec![rule(pb::Direction::Ingress)]);
        assert!(egress(&nic, &open).starts_with("allow (default): anything"));
        let closed = group(vec![rule(pb::Direction::Egress)]);
        let text = egress(&nic, &closed);
        assert!(
            text.contains("which egress rules of web have ended"),
            "{text}"
        );
        let denied = pb::Nic {
            egress_default: Some(pb::DefaultAction::Deny.into()),
            ..nic
        };
        assert!(egress(&denied, &open).starts_with("deny: it may begin nothing"));
        assert!(egress(&denied, &closed).starts_with("deny: only what rules of web"));
    }

    #[test]
    fn rules_are_sentences() {
        let mut one = rule(pb::Direction::Ingress);
        assert_eq!(sentence(&one), "allows in: tcp port 443 from anyone");
        one.set_protocol(pb::Protocol::Any);
        one.ports = None;
        one.set_direction(pb::Direction::Egress);
        one.description = "backup".to_owned();
        one.remote = Some(pb::Remote {
            group_id: "db".to_owned(),
            ..pb::Remote::default()
        });
        let words = "allows out: any protocol to members of group db (backup)";
        assert_eq!(sentence(&one), words);
    }
}
