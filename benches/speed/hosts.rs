//! Hosts to send packets through: a bridge, two guests behind it, and the rules of one variant.

use std::net::{SocketAddrV6, UdpSocket};
use std::path::PathBuf;
use std::time::Duration;

use super::daemon::Daemon;
use super::namespace::Namespace;
use super::sender::{Effort, send};
use super::{cloudstack, world};

/// The rules of a host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Rules {
    /// None.
    Nothing,
    /// Connection tracking, and one rule that asks for the state.
    Conntrack,
    /// The daemon's, with so many NICs.
    Ours(usize),
    /// A chain for each of so many NICs.
    CloudStack(usize),
    /// Those of a file.
    Trial(PathBuf),
}

/// What the packets of a slice are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Traffic {
    /// Of one flow, which has been answered.
    Established,
    /// Each the first of a flow.
    FlowPerPacket,
}

/// A host with its guests. The flow is from NIC 0 to NIC 1.
pub(crate) struct Host {
    /// What its rules are called.
    pub name: String,
    namespace: Namespace,
    sender: UdpSocket,
    starter: UdpSocket,
    receiver: UdpSocket,
    next_port: u16,
    before: usize,
    sent: usize,
    _guests: [Namespace; 2],
    _daemon: Option<Daemon>,
}

const FLOW_PORT: u16 = 9_000;
const SENDER_PORT: u16 = 40_000;
/// The flows of a slice differ by their destination port.
const FIRST_PORT: u16 = FLOW_PORT + 1;
const AFTER_LAST_PORT: u16 = SENDER_PORT;

impl Host {
    /// Makes it.
    pub(crate) fn new(rules: &Rules) -> Self {
        let namespace = Namespace::new();
        // Only what a bridge's own setting says.
        for key in ["ip6tables", "iptables", "arptables"] {
            namespace.sysctl(&format!("net/bridge/bridge-nf-call-{key}"), "0");
        }
        for key in ["all", "default"] {
            namespace.sysctl(&format!("net/ipv6/conf/{key}/disable_ipv6"), "1");
        }
        let nics = match rules {
            Rules::Ours(nics) | Rules::CloudStack(nics) => *nics,
            Rules::Nothing | Rules::Conntrack | Rules::Trial(_) => 2,
        };
        namespace.ip_batch(&world::ports(2, nics));
        let guests = [0, 1].map(|i| guest(&namespace, i));
        let daemon = load(&namespace, rules);
        let connect = |i: usize, port: u16, to: Option<u16>| {
            let other = SocketAddrV6::new(world::slaac(1 - i), to.unwrap_or(1), 0, 0);
            let own = SocketAddrV6::new(world::slaac(i), port, 0, 0);
            guests[i].run(move || {
                let socket = UdpSocket::bind(own).unwrap();
                if to.is_some() {
                    socket.connect(other).unwrap();
                }
                socket
                    .set_read_timeout(Some(Duration::from_secs(2)))
                    .unwrap();
                socket
            })
        };
        let sender = connect(0, SENDER_PORT, Some(FLOW_PORT));
        let starter = connect(0, SENDER_PORT + 1, None);
        let receiver = connect(1, FLOW_PORT, Some(SENDER_PORT));
        Self {
            name: rules.name(),
            namespace,
            sender,
            starter,
            receiver,
            next_port: FIRST_PORT,
            before: 0,
            sent: 0,
            _guests: guests,
            _daemon: daemon,
        }
    }

    /// Forgets every flow, and makes the one that is to be established.
    pub(crate) fn begin(&mut self, traffic: Traffic) {
        let (known, text) = self.namespace.try_command("conntrack -F");
        assert!(known, "conntrack -F: {text}");
        match traffic {
            Traffic::Established => {
                self.sender.send(b"question").unwrap();
                self.receiver.send(b"answer").unwrap();
                let mut answer = [0; 16];
                let got = self.sender.recv(&mut answer);
                assert_eq!(got.ok(), Some(6), "{}: no answer came", self.name);
            }
            Traffic::FlowPerPacket => self.next_port = FIRST_PORT,
        }
        self.before = self.delivered();
        self.sent = 0;
    }

    /// Sends a few packets more.
    pub(crate) fn slice(&mut self, traffic: Traffic, count: u16) -> Effort {
        self.sent += usize::from(count);
        match traffic {
            Traffic::Established => send(&self.sender, None, count),
            Traffic::FlowPerPacket => {
                let first = SocketAddrV6::new(world::slaac(1), self.next_port, 0, 0);
                self.next_port += count;
                assert!(
                    self.next_port <= AFTER_LAST_PORT,
                    "a port would not be dropped"
                );
                send(&self.starter, Some(first), count)
            }
        }
    }

    /// All that was sent since the beginning must have arrived.
    pub(crate) fn end(&self) {
        let lost = self.sent.saturating_sub(self.delivered() - self.before);
        let Self { name, sent, .. } = self;
        assert!(lost * 1_000 <= *sent, "{name}: {lost} of {sent} lost");
    }

    /// Packets that the host has given to the receiving guest.
    fn delivered(&self) -> usize {
        let path = "/sys/class/net/vnet1/statistics/tx_packets";
        self.namespace.read(path).parse().unwrap()
    }
}

impl Rules {
    /// What they are called in the table.
    pub(crate) fn name(&self) -> String {
        match self {
            Self::Nothing => "no filter".to_owned(),
            Self::Conntrack => "connection tracking alone".to_owned(),
            Self::Ours(nics) => format!("sgagent, {nics} NICs"),
            Self::CloudStack(nics) => format!("CloudStack-style chains, {nics} NICs"),
            Self::Trial(file) => format!("{}", file.file_name().unwrap().display()),
        }
    }
}

/// Guest number `i`, its NIC's other end on the host's br0.
fn guest(host: &Namespace, i: usize) -> Namespace {
    let guest = Namespace::new();
    let thread = guest.run(nix::unistd::gettid);
    let (own, other) = (
        world::mac_text(world::mac(i)),
        world::mac_text(world::mac(1 - i)),
    );
    let mut tap = world::mac(i);
    tap[0] = 0xfe;
    let tap = world::mac_text(tap);
    host.ip_batch(&format!(
        "link add vnet{i} address {tap} type veth peer name eth0 address {own} netns {thread}\n\
         link set vnet{i} master br0 up\n"
    ));
    guest.ip_batch(&format!(
        "link set lo up\n\
         link set eth0 up\n\
         addr add {}/64 dev eth0 nodad\n\
         neigh replace {} lladdr {other} dev eth0\n",
        world::slaac(i),
        world::slaac(1 - i)
    ));
    // Flows to ports where nobody listens end here, or each would be answered by an error.
    nft(
        &guest,
        &format!(
            "table netdev sink {{\n\
             chain arriving {{\n\
             type filter hook ingress device \"eth0\" priority 0;\n\
             udp dport >= {FIRST_PORT} udp dport < {AFTER_LAST_PORT} drop\n\
             }}\n}}\n"
        ),
    );
    guest
}

fn load(namespace: &Namespace, rules: &Rules) -> Option<Daemon> {
    let tracked = |namespace: &Namespace| {
        namespace.command("ip link set br0 type bridge nf_call_ip6tables 1");
    };
    match rules {
        Rules::Nothing => {}
        Rules::Conntrack => {
            tracked(namespace);
            let chain =
                "type filter hook forward priority 0\nct state established,related,new accept";
            nft(
                namespace,
                &format!("table ip6 base {{\nchain forward {{\n{chain}\ndrop\n}}\n}}\n"),
            );
        }
        Rules::Ours(nics) => {
            let daemon = Daemon::start(namespace, &world::config(*nics), "nft");
            let answer = daemon.sync(world::sync(*nics));
            assert!(
                answer.nics_not_active.is_empty(),
                "{:?}",
                answer.nics_not_active.first()
            );
            return Some(daemon);
        }
        Rules::CloudStack(nics) => {
            tracked(namespace);
            load_file(namespace, "ip6tables-restore", &cloudstack::rules(*nics));
        }
        Rules::Trial(file) => {
            tracked(namespace);
            nft(namespace, &std::fs::read_to_string(file).unwrap());
        }
    }
    None
}

/// Loads nft text.
pub(crate) fn nft(namespace: &Namespace, text: &str) {
    load_file(namespace, "nft -f", text);
}

fn load_file(namespace: &Namespace, program: &str, text: &str) {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), text).unwrap();
    namespace.command(&format!("{program} {}", file.path().display()));
}
