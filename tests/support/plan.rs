//! What the host of a test looks like before the agent starts.

use std::fmt::Write as _;

use sgagent::pb;

use super::bridge_kind::bridge_kind;
use super::net::Net;
use super::want::NicExt as _;
use super::want::{ChangeExt as _, change, mac_text, nic, open, web};
use super::who::{A, B, C, HOST, Machine, R};

/// A bridge.
#[derive(Clone, Debug)]
pub(crate) struct Bridge {
    pub name: &'static str,
    pub managed: bool,
    pub uplinks: Vec<&'static str>,
}

/// Bridges, their ports, the configuration, and what is pushed first.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub bridges: Vec<Bridge>,
    /// Machines with the bridge whose port they are behind.
    pub ports: Vec<(Machine, &'static str)>,
    /// Whether managed bridges are enforced though the agent has not been told of their ports.
    pub adopted: bool,
    /// Appended to the first managed bridge's section.
    pub bridge_config: String,
    /// Lines of the section `limits`.
    pub limits: String,
    /// The program that is started as `nft`, where it is another.
    pub nft: Option<String>,
    pub change: pb::ApplyRequest,
    /// `ip` commands after the ports are there, before the agent starts.
    pub ip: String,
}

/// Where the stateful stage runs: what it sees there differs (S6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Placement {
    Bridge,
    BrNetfilter,
}

impl Placement {
    fn name(self) -> &'static str {
        match self {
            Self::Bridge => "bridge",
            Self::BrNetfilter => "br_netfilter",
        }
    }
}

/// The placement that these tests are run for.
pub(crate) fn placement() -> Placement {
    const VARIABLE: &str = "SGAGENT_TEST_PLACEMENT";
    let Ok(name) = std::env::var(VARIABLE) else {
        return Placement::BrNetfilter;
    };
    [Placement::Bridge, Placement::BrNetfilter]
        .into_iter()
        .find(|placement| placement.name() == name)
        .unwrap_or_else(|| panic!("{VARIABLE} is no placement: {name}"))
}

/// What programs the kernel (`SGAGENT_TEST_DATAPLANE`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dataplane {
    Nftables,
    Ip6tables,
}

/// The dataplane that these tests are run for.
pub(crate) fn dataplane() -> Dataplane {
    const VARIABLE: &str = "SGAGENT_TEST_DATAPLANE";
    match std::env::var(VARIABLE).as_deref() {
        Err(_) | Ok("nftables") => Dataplane::Nftables,
        Ok("ip6tables") => Dataplane::Ip6tables,
        Ok(name) => panic!("{VARIABLE} is no dataplane: {name}"),
    }
}

/// Which ip6tables it is (`SGAGENT_TEST_IP6TABLES`).
pub(crate) fn ip6tables() -> String {
    let which = std::env::var("SGAGENT_TEST_IP6TABLES");
    which.unwrap_or_else(|_| "ip6tables-legacy".to_owned())
}

/// Which ebtables it is (`SGAGENT_TEST_EBTABLES`).
pub(crate) fn ebtables() -> String {
    let which = std::env::var("SGAGENT_TEST_EBTABLES");
    which.unwrap_or_else(|_| "ebtables-nft".to_owned())
}

/// A dataplane's keys of the configuration, which come first.
pub(crate) fn keys(dataplane: Dataplane) -> String {
    let name = match dataplane {
        Dataplane::Nftables => "nftables",
        Dataplane::Ip6tables => "ip6tables",
    };
    let (ip6tables, ebtables) = (ip6tables(), ebtables());
    format!(
        "dataplane = {name:?}\nip6tables = {ip6tables:?}\nebtables = {ebtables:?}\n\
         # of all dataplanes\n"
    )
}

/// Instead of a bridge: an interface of the host of its own, which it routes over.
pub(crate) const NO_BRIDGE: &str = "";

/// br0 with the uplink and the three guests; nothing is pushed.
pub(crate) fn plan() -> Plan {
    let br0 = Bridge {
        name: "br0",
        managed: true,
        uplinks: vec!["uplink0"],
    };
    Plan {
        bridges: vec![br0],
        ports: [R, A, B, C].map(|machine| (machine, "br0")).to_vec(),
        adopted: true,
        bridge_config: String::new(),
        limits: "fragments_per_second = 1000\nfragment_burst = 1000\nmld_per_second = 20\n\
                 mld_burst = 100\nnd_per_second = 200\nnd_burst = 400\n"
            .to_owned(),
        nft: None,
        change: change(),
        ip: String::new(),
    }
}

/// The fixture of most tests: A and B in `open`, C in `web`.
pub(crate) fn standard() -> Plan {
    let nics = [
        nic(A).groups(&["open"]),
        nic(B).groups(&["open"]),
        nic(C).groups(&["web"]),
    ];
    plan().nics(nics).group(open()).group(web())
}

impl Plan {
    pub(crate) fn start(self) -> Net {
        Net::new(self)
    }

    pub(crate) fn nics(mut self, nics: impl IntoIterator<Item = pb::Nic>) -> Self {
        for nic in nics {
            self = self.nic(nic);
        }
        self
    }

    /// Adds a NIC, or replaces that of the same id.
    pub(crate) fn nic(mut self, nic: pb::Nic) -> Self {
        self.change.nics.retain(|old| old.id != nic.id);
        self.change.nics.push(nic);
        self
    }

    /// Adds a group, or replaces that of the same id.
    pub(crate) fn group(mut self, group: pb::Group) -> Self {
        self.change.groups.retain(|old| old.id != group.id);
        self.change.groups.push(group);
        self
    }

    /// As on a host where the agent is installed while guests run.
    pub(crate) fn held(mut self) -> Self {
        self.adopted = false;
        self
    }

    pub(crate) fn member(mut self, group: &str, address: &str, delegated: &[&str]) -> Self {
        self.change = self.change.member(group, address, delegated);
        self
    }

    pub(crate) fn port(mut self, machine: Machine, bridge: &'static str) -> Self {
        self.ports.push((machine, bridge));
        self
    }

    pub(crate) fn bridge(mut self, bridge: Bridge) -> Self {
        self.bridges.push(bridge);
        self
    }

    /// The bridge's routers, by link-local address.
    pub(crate) fn routers(mut self, routers: &[&str]) -> Self {
        let _ = writeln!(self.bridge_config, "routers = {routers:?}");
        self
    }

    pub(crate) fn dhcpv6_servers(mut self, servers: &[&str]) -> Self {
        let _ = writeln!(self.bridge_config, "dhcpv6_servers = {servers:?}");
        self
    }

    pub(crate) fn limits(mut self, limits: &str) -> Self {
        limits.clone_into(&mut self.limits);
        self
    }

    pub(crate) fn ip(mut self, lines: &str) -> Self {
        let _ = writeln!(self.ip, "{lines}");
        self
    }

    /// The agent's configuration.
    pub(crate) fn config(&self) -> String {
        let placement = placement().name();
        let nft = match &self.nft {
            Some(program) => format!("nft = {program:?}\n"),
            None => super::coverage::program(),
        };
        let mut text = keys(dataplane()) + &nft;
        let _ = write!(
            text,
            "unix_socket = \"{{dir}}/sgagent.sock\"\nstate_dir = \"{{dir}}/state\"\n\
             placement = \"{placement}\"\nguest_interfaces = [\"vnet*\", \"vif*\", \"tap*\"]\n",
        );
        let mut extra = self.bridge_config.as_str();
        for Bridge { name, uplinks, .. } in self.bridges.iter().filter(|bridge| bridge.managed) {
            let _ = writeln!(
                text,
                "[[bridges]]\nname = \"{name}\"\nuplinks = {uplinks:?}\nadopted = {}\n{extra}",
                self.adopted
            );
            extra = "";
        }
        let _ = writeln!(text, "[limits]\n{}", self.limits);
        text
    }

    /// The `ip` commands that make all of it; the taps are there already.
    pub(crate) fn ip_commands(&self) -> String {
        let mut text = "link set lo up\n".to_owned();
        for (i, Bridge { name, .. }) in self.bridges.iter().enumerate() {
            let mut mac = HOST.mac;
            mac[5] += u8::try_from(i).unwrap();
            let (mac, options) = (mac_text(mac), bridge_kind().options());
            let _ = writeln!(
                text,
                "link add {name} address {mac} type bridge stp_state 0 {options}"
            );
        }
        for (machine, bridge) in &self.ports {
            text.push_str(&port_commands(machine, bridge));
        }
        for Bridge { name, .. } in &self.bridges {
            let _ = writeln!(text, "link set {name} up");
        }
        text.push_str(&self.ip);
        text
    }
}

/// A tap as libvirt leaves it: the guest's MAC with the first octet fe, on the bridge and up.
pub(crate) fn port_commands(machine: &Machine, bridge: &str) -> String {
    let mut mac = machine.mac;
    mac[0] = 0xfe;
    let (mac, port) = (mac_text(mac), machine.port);
    if bridge == NO_BRIDGE {
        return format!("link set {port} up\n");
    }
    let options = bridge_kind().port_options(port);
    format!("link set {port} address {mac}\nlink set {port} master {bridge} up\n{options}")
}
