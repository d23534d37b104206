//! `sgctl wait`: until NICs are in force, or the interfaces of a libvirt domain.
//!
//! libvirt runs `/etc/libvirt/hooks/qemu` with the domain's XML when a guest's taps are made and
//! its processors do not run yet (`start begin`, <https://libvirt.org/hooks.html>). Ending with an error
//! refuses the start.

use std::{fmt, io::Write, time::Duration};

use tokio::time::{Instant, sleep};

use super::{Failure, command::Session, document};
use crate::pb;

/// How long between two looks.
const PAUSE: Duration = Duration::from_millis(300);

/// What is waited for.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Awaited {
    /// NICs, by id.
    Nics(Vec<String>),
    /// What libvirt gave a guest.
    Interfaces(Vec<Interface>),
}

/// An interface of a domain.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Interface {
    /// The host's side of it.
    tap: String,
    /// The guest's MAC, in lower case.
    mac: String,
    /// The bridge that libvirt makes it a port of.
    bridge: Option<String>,
}

impl<W: Write> Session<'_, W> {
    /// Nothing is printed: that it ends is the answer.
    pub(super) async fn wait(
        &mut self,
        seconds: u32,
        domain: Option<String>,
        nics: Vec<String>,
    ) -> Result<(), Failure> {
        let awaited = match domain {
            Some(file) => Awaited::Interfaces(interfaces(&document::read(&file)?)?),
            None => Awaited::Nics(nics),
        };
        let until = Instant::now() + Duration::from_secs(seconds.into());
        loop {
            let failure = match self.missing(&awaited).await {
                Ok(missing) if missing.is_empty() => return Ok(()),
                Ok(missing) => Failure::NotWell(missing.join("\n")),
                // It may be starting.
                Err(unreachable @ Failure::Unreachable { .. }) => unreachable,
                Err(other) => return Err(other),
            };
            if Instant::now() + PAUSE > until {
                return Err(failure);
            }
            sleep(PAUSE).await;
        }
    }

    async fn missing(&self, awaited: &Awaited) -> Result<Vec<String>, Failure> {
        let mut client = self.client().await?;
        let nics = client.nics().await?.nics;
        // After the NICs: a port that is bound meanwhile is not missing.
        let status = client.status().await?;
        Ok(missing(awaited, &status, &nics))
    }
}

impl fmt::Display for Interface {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}", self.tap, self.mac)?;
        match &self.bridge {
            Some(bridge) => write!(f, ", on {bridge})"),
            None => f.write_str(")"),
        }
    }
}

/// The interfaces of a domain's XML that have a name on the host. Others (a device handed over,
/// a user-mode network) are no ports of a bridge.
fn interfaces(xml: &str) -> Result<Vec<Interface>, Failure> {
    let wrong = |why: String| Failure::File(format!("the domain's XML: {why}"));
    let document = roxmltree::Document::parse(xml).map_err(|error| wrong(error.to_string()))?;
    let root = document.root_element();
    if !root.has_tag_name("domain") {
        let name = root.tag_name().name();
        return Err(wrong(format!("it describes no domain, but <{name}>")));
    }
    let devices = root.children().filter(|node| node.has_tag_name("devices"));
    let all = devices.flat_map(|devices| devices.children());
    let mut found = Vec::new();
    for interface in all.filter(|node| node.has_tag_name("interface")) {
        let attribute = |element: &str, name: &str| {
            let mut children = interface.children();
            let element = children.find(|node| node.has_tag_name(element));
            Some(element?.attribute(name)?.to_owned())
        };
        let Some(tap) = attribute("target", "dev") else {
            continue;
        };
        let mac = attribute("mac", "address")
            .ok_or_else(|| wrong(format!("interface {tap} has no <mac address=..>")))?;
        found.push(Interface {
            tap,
            mac: mac.to_ascii_lowercase(),
            bridge: attribute("source", "bridge"),
        });
    }
    Ok(found)
}

/// What is not as it is waited for, a sentence each.
fn missing(awaited: &Awaited, status: &pb::GetStatusResponse, nics: &[pb::NicInfo]) -> Vec<String> {
    match awaited {
        Awaited::Nics(ids) => ids.iter().filter_map(|id| nic(id, nics)).collect(),
        Awaited::Interfaces(all) => all
            .iter()
            .filter_map(|one| interface(one, status, nics))
            .collect(),
    }
}

fn nic(id: &str, nics: &[pb::NicInfo]) -> Option<String> {
    let status = nics.iter().filter_map(|info| info.status.as_ref());
    match status.clone().find(|status| status.id == id) {
        Some(status) => not_active(status),
        None => Some(format!("nobody has described a NIC {id}")),
    }
}

fn not_active(status: &pb::NicStatus) -> Option<String> {
    let state = status.state();
    if state == pb::NicState::Active {
        return None;
    }
    let name = state.as_str_name().trim_start_matches("NIC_STATE_");
    Some(format!("NIC {} is {name}: {}", status.id, status.reason))
}

/// An interface is as it should be when a NIC in force is bound to it, or when its bridge is none
/// of the agent's.
fn interface(
    interface: &Interface,
    status: &pb::GetStatusResponse,
    nics: &[pb::NicInfo],
) -> Option<String> {
    let Interface { tap, mac, bridge } = interface;
    let bound = |status: &pb::NicStatus| status.interfaces.iter().any(|port| port.name == *tap);
    let found = nics
        .iter()
        .find(|info| info.status.as_ref().is_some_and(bound));
    if let Some(pb::NicInfo {
        nic: Some(nic),
        status: Some(status),
    }) = found
    {
        let another = || {
            format!(
                "{interface}: it is bound to NIC {}, whose MAC is {}",
                nic.id, nic.mac
            )
        };
        let own = nic.mac.eq_ignore_ascii_case(mac);
        return not_active(status).or_else(|| (!own).then(another));
    }
    let managed = |bridge: &pb::BridgeStatus| {
        bridge.closed_ports.contains(tap)
            || interface
                .bridge
                .as_ref()
                .is_some_and(|name| *name == bridge.name)
    };
    // Nobody asks for a bridge where the network is Open vSwitch's or a macvtap.
    if !status.bridges.iter().any(managed) && (bridge.is_some() || !is_known(mac, nics)) {
        return None;
    }
    let Some(info) = nics.iter().find(|info| has_mac(info, mac)) else {
        return Some(format!(
            "{interface}: nobody has described a NIC with this MAC"
        ));
    };
    let status = info.status.as_ref()?;
    let why = not_active(status).unwrap_or_else(|| {
        let ports = status.interfaces.iter().map(|port| port.name.as_str());
        let ports: Vec<_> = ports.collect();
        format!("NIC {} is bound to {}", status.id, ports.join(", "))
    });
    Some(format!("{interface}: {why}"))
}

fn is_known(mac: &str, nics: &[pb::NicInfo]) -> bool {
    nics.iter().any(|info| has_mac(info, mac))
}

fn has_mac(info: &pb::NicInfo, mac: &str) -> bool {
    let nic = info.nic.as_ref();
    nic.is_some_and(|nic| nic.mac.eq_ignore_ascii_case(mac))
}

#[cfg(test)]
mod tests {
    use super::*;

    const DOMAIN: &str = "<domain type='kvm'><name>www</name><devices>
        <disk type='file'><target dev='vda'/></disk>
        <interface type='bridge'><mac address='06:B2:00:00:04:79'/><source bridge='br0'/><target dev='vnet3'/></interface>
        <interface type='network'><mac address='06:b2:00:00:04:7a'/><source network='lan' bridge='br9'/><target dev='vnet4'/></interface>
        <interface type='hostdev'><mac address='06:b2:00:00:04:7b'/></interface>
        </devices></domain>";

    fn all() -> Awaited {
        Awaited::Interfaces(interfaces(DOMAIN).unwrap())
    }

    fn status(closed: &[&str]) -> pb::GetStatusResponse {
        let bridge = pb::BridgeStatus {
            name: "br0".to_owned(),
            closed_ports: closed.iter().map(|&port| port.to_owned()).collect(),
            ..Default::default()
        };
        pb::GetStatusResponse {
            bridges: vec![bridge],
            ..Default::default()
        }
    }

    fn info(state: pb::NicState, port: &str) -> pb::NicInfo {
        let port = (!port.is_empty()).then(|| pb::BoundInterface {
            name: port.to_owned(),
            ..Default::default()
        });
        pb::NicInfo {
            nic: Some(pb::Nic {
                id: "nic-1".to_owned(),
                mac: "06:b2:00:00:04:79".to_owned(),
                ..Default::default()
            }),
            status: Some(pb::NicStatus {
                id: "nic-1".to_owned(),
                state: state.into(),
                reason: "because".to_owned(),
                interfaces: port.into_iter().collect(),
                ..Default::default()
            }),
        }
    }

    #[test]
    fn interfaces_with_a_name_on_the_host_are_found() {
        let found = interfaces(DOMAIN).unwrap();
        let texts: Vec<_> = found.iter().map(ToString::to_string).collect();
        assert_eq!(
            texts,
            [
                "vnet3 (06:b2:00:00:04:79, on br0)",
                "vnet4 (06:b2:00:00:04:7a, on br9)"
            ]
        );
        for (xml, why) in [
            ("", "the domain's XML"),
            ("<network/>", "<network>"),
            (
                "<domain><devices><interface><target dev='t0'/></interface></devices></domain>",
                "interface t0 has no <mac",
            ),
        ] {
            let error = interfaces(xml).unwrap_err().to_string();
            assert!(error.contains(why), "{error}");
        }
    }

    #[test]
    fn a_bound_interface_is_ready_and_another_bridge_is_no_matter_of_ours() {
        let nics = [info(pb::NicState::Active, "vnet3")];
        assert_eq!(missing(&all(), &status(&[]), &nics), [""; 0]);
    }

    #[test]
    fn what_keeps_a_guest_is_said() {
        let said = |status: &pb::GetStatusResponse, nics: &[pb::NicInfo]| {
            missing(&all(), status, nics).join("; ")
        };
        let closed = status(&["vnet3"]);
        let text = said(&closed, &[]);
        assert!(
            text.contains("vnet3") && text.contains("nobody has described"),
            "{text}"
        );
        let pending = info(pb::NicState::Pending, "");
        assert!(said(&closed, &[pending]).contains("NIC nic-1 is PENDING: because"));
        let elsewhere = info(pb::NicState::Active, "vnet7");
        assert!(said(&closed, &[elsewhere]).contains("NIC nic-1 is bound to vnet7"));
        let mut another = info(pb::NicState::Active, "vnet3");
        another.nic.as_mut().unwrap().mac = "06:b2:00:00:04:70".to_owned();
        let text = said(&closed, &[another]);
        assert!(
            text.contains("NIC nic-1, whose MAC is 06:b2:00:00:04:70"),
            "{text}"
        );
        let quarantined = info(pb::NicState::Quarantined, "vnet3");
        assert!(said(&closed, &[quarantined]).contains("QUARANTINED: because"));
    }

    #[test]
    fn a_port_is_waited_for_whose_bridge_the_xml_does_not_name() {
        let xml = DOMAIN.replace("<source bridge='br0'/>", "");
        let all = Awaited::Interfaces(interfaces(&xml).unwrap());
        assert_eq!(missing(&all, &status(&["vnet3"]), &[]).len(), 1);
        // Its port may not have been seen yet.
        let pending = [info(pb::NicState::Pending, "")];
        assert_eq!(missing(&all, &status(&[]), &pending).len(), 1);
        assert_eq!(missing(&all, &status(&[]), &[]), [""; 0]);
    }

    #[test]
    fn nics_are_waited_for_by_id() {
        let wanted = |ids: &[&str]| Awaited::Nics(ids.iter().map(|&id| id.to_owned()).collect());
        let nics = [info(pb::NicState::Active, "vnet3")];
        assert_eq!(missing(&wanted(&["nic-1"]), &status(&[]), &nics), [""; 0]);
        let text = missing(&wanted(&["nic-1", "nic-2"]), &status(&[]), &nics);
        assert_eq!(text, ["nobody has described a NIC nic-2"]);
    }
}
