//! `sgagent compile`: the ruleset of a desired state, for a host that has what its NICs name.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    sync::Arc,
};

use anyhow::{Result, anyhow};

use crate::{
    config::{Config, Kind, Placement},
    dataplane::{
        ip6tables,
        nft::{self, Nft},
    },
    grpc,
    model::{
        BridgeConfig, Desired, Domain, Fault, IfName, InterfaceSelector, Interfaces, Link,
        LinkKind, Located, Mac, Nic, NicState, XenFacts, XenGuest, XenNic, XenStore,
    },
    policy::{self, Numbering},
    sgctl,
};

/// Prints the ruleset of a desired-state file, a `SyncRequest` in YAML or JSON.
#[expect(clippy::print_stdout, reason = "command output")]
pub fn compile(file: &Path, config: &Config) -> Result<()> {
    let name = file.display().to_string();
    let text = sgctl::document::read(&name).map_err(|failure| anyhow!("{failure}"))?;
    let request = sgctl::document::sync(&name, &text).map_err(|failure| anyhow!("{failure}"))?;
    let faults = |faults: Vec<Fault>| {
        let lines: Vec<_> = faults.iter().map(ToString::to_string).collect();
        anyhow!("{name}:\n  {}", lines.join("\n  "))
    };
    let delta = grpc::convert::sync(request)
        .map_err(faults)?
        .into_parts()
        .0
        .delta;
    let host = Arc::new(Located::from(imagine(&delta.nics, config)?));
    let desired = Desired::default()
        .change(&delta, &config.model_limits(), &host)
        .map_err(faults)?;
    let compiled = policy::compile(&desired, &host, &mut Numbering::default());
    for (id, outcome) in &compiled.outcomes {
        if let NicState::Quarantined(reason) | NicState::Pending(reason) = &outcome.state {
            println!("# NIC {id} is left out: {reason}");
        }
    }
    if config.dataplane == Kind::Ip6tables {
        let parameters = config.parameters(nft::Placement::BrNetfilter);
        let parameters = ip6tables::Parameters::from(&parameters).seeing_fragments(true);
        let texts = ip6tables::Program::of(&compiled.ruleset, parameters).load();
        for (program, text) in ip6tables::INPUTS.iter().zip(texts) {
            print!("# {program}\n{text}");
        }
        return Ok(());
    }
    let placement = match config.placement {
        Placement::Bridge => nft::Placement::Bridge,
        // The kernel is not asked here.
        Placement::Auto | Placement::BrNetfilter => nft::Placement::BrNetfilter,
    };
    let dataplane = Nft::new(config.nft.clone(), config.parameters(placement));
    print!("{}", dataplane.render(&compiled.ruleset));
    Ok(())
}

/// Interfaces as the NICs name them: those of no bridge on the first one that the configuration
/// manages, or on br0.
fn imagine(nics: &[Nic], config: &Config) -> Result<Interfaces> {
    let first = config
        .bridges
        .first()
        .and_then(|bridge| bridge.name.exact())
        .unwrap_or("br0");
    let first: IfName = first.parse()?;
    let mut names = Names::new(nics);
    let mut host = Imagined::default();
    for nic in nics {
        for selector in &nic.interfaces {
            let (bridge, name) = match selector {
                InterfaceSelector::Name(name) => (&first, name.clone()),
                InterfaceSelector::MacOnBridge(bridge) => (bridge, names.tap()?),
                InterfaceSelector::Xen { guest, device } => {
                    let xen = XenNic {
                        domain: names.domain(*guest)?,
                        device: *device,
                    };
                    host.describe(xen, *guest, nic.mac);
                    let XenNic { domain, device } = xen;
                    (&first, format!("vif{domain}.{device}").parse()?)
                }
            };
            host.plug(name, nic.mac, bridge);
        }
    }
    let mut managed = config.bridges.clone();
    for name in host.bridges.keys().chain(std::iter::once(&first)) {
        if !managed.iter().any(|bridge| bridge.name.matches(name)) {
            let name = name.as_str().parse()?;
            managed.push(BridgeConfig {
                adopted: true,
                ..BridgeConfig::new(name)
            });
        }
    }
    Ok(Interfaces {
        links: host.links,
        bridges: managed,
        xen: host.xen.into(),
        guest_patterns: config.guest_interfaces.clone(),
        ..Interfaces::default()
    })
}

/// What interfaces are called that no NIC names.
struct Names {
    /// What others are called.
    taken: BTreeSet<IfName>,
    domains: BTreeMap<XenGuest, Domain>,
    /// Where to look for a number that is free.
    next_tap: u32,
    next_domain: u32,
}

impl Names {
    fn new(nics: &[Nic]) -> Self {
        let mut names = Self {
            taken: BTreeSet::new(),
            domains: BTreeMap::new(),
            next_tap: 0,
            next_domain: 1,
        };
        for selector in nics.iter().flat_map(|nic| &nic.interfaces) {
            match selector {
                InterfaceSelector::Name(name) => {
                    names.taken.insert(name.clone());
                    if let Some(XenNic { domain, .. }) = XenNic::of(name) {
                        names.domains.insert(XenGuest::Domain(domain), domain);
                    }
                }
                InterfaceSelector::Xen { guest, .. } => {
                    if let XenGuest::Domain(domain) = guest {
                        names.domains.insert(*guest, *domain);
                    }
                }
                InterfaceSelector::MacOnBridge(_) => {}
            }
        }
        names
    }

    /// A tap's name that is nobody else's.
    fn tap(&mut self) -> Result<IfName> {
        loop {
            let name = format!("vnet{}", self.next_tap).parse()?;
            self.next_tap += 1;
            if !self.taken.contains(&name) {
                return Ok(name);
            }
        }
    }

    /// The domain that a guest of Xen is: what it is named by, or one that is nobody else's.
    fn domain(&mut self, guest: XenGuest) -> Result<Domain> {
        if let Some(known) = self.domains.get(&guest) {
            return Ok(*known);
        }
        loop {
            let domain = Domain::try_from(self.next_domain)?;
            self.next_domain += 1;
            if !self.domains.contains_key(&XenGuest::Domain(domain)) {
                self.domains.insert(guest, domain);
                return Ok(domain);
            }
        }
    }
}

#[derive(Default)]
struct Imagined {
    links: BTreeMap<u32, Link>,
    bridges: BTreeMap<IfName, u32>,
    xen: XenStore,
}

impl Imagined {
    /// A guest's interface, as libvirt makes them.
    fn plug(&mut self, name: IfName, mac: Mac, bridge: &IfName) {
        let known = self.bridges.get(bridge).copied();
        let master = known.unwrap_or_else(|| {
            let index = self.link(bridge.clone(), [0; 6], None, LinkKind::Bridge);
            self.bridges.insert(bridge.clone(), index);
            index
        });
        self.link(name, mac.tap().octets(), Some(master), LinkKind::Other);
    }

    fn link(&mut self, name: IfName, mac: [u8; 6], master: Option<u32>, kind: LinkKind) -> u32 {
        let index = u32::try_from(self.links.len() + 1).unwrap_or(u32::MAX);
        let link = Link {
            index,
            name,
            mac,
            master,
            kind,
            multicast_snooping: false,
        };
        self.links.insert(index, link);
        index
    }

    /// What Xen's store says of a guest's NIC.
    fn describe(&mut self, nic: XenNic, guest: XenGuest, mac: Mac) {
        let vm = match guest {
            XenGuest::Vm(vm) => Some(vm),
            XenGuest::Domain(_) => None,
        };
        self.xen.nics.insert(nic, XenFacts { mac, vm });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The NICs' interfaces, in order.
    fn imagined(interfaces: &[&str]) -> Vec<String> {
        let nics = interfaces.iter().enumerate().map(|(i, interfaces)| {
            format!("{{id: n{i}, mac: '06:00:00:00:00:0{i}', interfaces: [{interfaces}]}}")
        });
        let text = format!("nics: [{}]", nics.collect::<Vec<_>>().join(", "));
        let request = sgctl::document::sync("test", &text).unwrap();
        let delta = grpc::convert::sync(request).unwrap().into_parts().0.delta;
        let host = imagine(&delta.nics, &Config::default()).unwrap();
        let bridge = |link: &Link| link.kind == LinkKind::Bridge;
        let ports = host.links.values().filter(|link| !bridge(link));
        ports.map(|link| link.name.to_string()).collect()
    }

    #[test]
    fn no_two_interfaces_are_called_the_same() {
        let taps = imagined(&["{bridge: br0}", "{name: vnet0}", "{bridge: br1}"]);
        assert_eq!(taps, ["vnet1", "vnet0", "vnet2"]);
        let vm = |number: u8, device: u8| {
            format!(
                "{{xen: {{vmUuid: 0a1b2c3d-0000-4fff-8000-0000000000{number:02x}, device: {device}}}}}"
            )
        };
        let vifs = imagined(&[
            &vm(1, 0),
            "{xen: {domain: 1, device: 0}}",
            &vm(2, 0),
            &vm(1, 1),
            "{name: vif2.0}",
        ]);
        assert_eq!(vifs, ["vif3.0", "vif1.0", "vif4.0", "vif3.1", "vif2.0"]);
    }
}
