//! G0: frames to 01:80:c2:00:00:00–0f, judged by what the bridge learned and by its root port.

use crate::support::host::HOST_SIDE;
use crate::support::net::Net;
use crate::support::packet::Frames;
use crate::support::plan::{Bridge, Plan, standard};
use crate::support::want::mac_text;
use crate::support::who::{A, B, C, Mac, Machine, R, STRANGER, UNBOUND};

/// The neighbour and the attacker on a bridge that the agent leaves alone.
const A9: Machine = A.at("vnet8");
const B9: Machine = B.at("vnet9");

/// With a second bridge, where the attack has to work: else the test proves nothing.
fn two_bridges() -> Plan {
    let unmanaged = Bridge {
        name: "br9",
        managed: false,
        uplinks: vec![],
    };
    standard().bridge(unmanaged).port(A9, "br9").port(B9, "br9")
}

fn group(last: u8) -> Mac {
    [0x01, 0x80, 0xc2, 0, 0, last]
}

/// An LLDP-like frame from `machine`'s port with the neighbour's source MAC.
fn theft(machine: Machine, last: u8) -> Frames {
    let mut frame = group(last).to_vec();
    frame.extend(B.mac);
    frame.extend([0x88, 0xcc]);
    frame.extend([0; 46]);
    Frames {
        port: machine.port,
        frames: vec![frame],
    }
}

/// Behind which port of a bridge B's MAC is.
fn port_of_b(net: &Net, bridge: &str) -> String {
    let table = net
        .namespace
        .command(&format!("bridge fdb show br {bridge}"));
    let mac = mac_text(B.mac);
    let entry = table.lines().find(|line| line.starts_with(&mac));
    let entry = entry.unwrap_or_else(|| panic!("{mac} is not in\n{table}"));
    entry.split_whitespace().nth(2).unwrap().to_owned()
}

fn entry_stays(last: u8) {
    let mut net = two_bridges().start();
    net.passes(&B.to(STRANGER).ping(), R);
    net.passes(&B9.to(A.ip).ping(), A9);
    assert_eq!(port_of_b(&net, "br0"), B.port);
    assert_eq!(port_of_b(&net, "br9"), B9.port);
    net.arrivals(&theft(A9, last));
    assert_eq!(
        port_of_b(&net, "br9"),
        A9.port,
        "the attack works where nobody stops it"
    );
    net.arrivals(&theft(A, last));
    assert_eq!(port_of_b(&net, "br0"), B.port);
}

#[test]
fn g0_pause_and_lacp_frame_does_not_move_the_neighbours_entry() {
    entry_stays(0x02);
}

#[test]
fn g0_8021x_frame_does_not_move_the_neighbours_entry() {
    entry_stays(0x03);
}

#[test]
fn g0_lldp_frame_does_not_move_the_neighbours_entry() {
    entry_stays(0x0e);
}

#[test]
fn g0_no_reserved_address_moves_the_neighbours_entry() {
    let mut net = standard().start();
    for last in 0..=0x0f {
        net.passes(&B.to(STRANGER).ping(), R);
        net.dropped(&theft(A, last));
        assert_eq!(port_of_b(&net, "br0"), B.port, "{last:02x}");
    }
}

/// With STP off the bridge forwards 01:80:c2:00:00:00 like any group.
#[test]
fn g0_ipv6_to_a_reserved_address_is_dropped() {
    let mut net = standard().start();
    let ping = A.to(STRANGER).ping();
    net.only(&ping, &ping.clone().eth_dst(group(0)), R);
    net.dropped(&ping.eth_dst(group(0x0e)));
}

/// Such a frame is handed to the host on the port, not on the bridge, and taps have link-local
/// addresses of their own unless somebody turned that off.
#[test]
fn g0_packet_to_a_reserved_address_does_not_reach_the_host() {
    let mut net = two_bridges().start();
    for port in [A, A9] {
        net.host_side_address(port, HOST_SIDE);
    }
    let socket = net.host_socket(7000);
    let reaches = |net: &mut Net, from: Machine, last: u8| {
        let attack = from.to(HOST_SIDE).src(B.ll).udp(4000, 7000);
        net.arrivals(&attack.eth_dst(group(last)));
        !socket.sources().is_empty()
    };
    for last in [0x03, 0x0e] {
        assert!(
            reaches(&mut net, A9, last),
            "{last:02x}: works where nobody stops it"
        );
    }
    for last in 0..=0x0f {
        assert!(!reaches(&mut net, A, last), "{last:02x}");
    }
}

#[test]
fn g0_plain_udp_and_tcp_to_a_reserved_address_are_dropped() {
    let mut net = standard().start();
    for plain in [A.to(STRANGER).udp(4000, 53), A.to(STRANGER).syn(4000, 80)] {
        net.only(&plain, &plain.clone().eth_dst(group(0)), R);
    }
}

#[test]
fn g0_holds_on_ports_that_come_and_go() {
    let mut net = standard().start();
    net.unplug(C);
    net.plug(UNBOUND, "br0");
    net.wait_until_closed(UNBOUND);
    for machine in [A, UNBOUND] {
        net.passes(&B.to(STRANGER).ping(), R);
        net.dropped(&theft(machine, 0x0e));
        assert_eq!(port_of_b(&net, "br0"), B.port, "{}", machine.port);
        net.host_side_address(machine, HOST_SIDE);
        let socket = net.host_socket(7000);
        net.arrivals(&machine.to(HOST_SIDE).udp(4000, 7000).eth_dst(group(0x0e)));
        assert!(socket.sources().is_empty(), "{}", machine.port);
    }
}

/// A configuration BPDU (802.1D 9.3.1) of a root with priority 0.
fn superior_bpdu(machine: Machine) -> Frames {
    let root = [0, 0, machine.mac[0], 0xb2, 0, 0, 0, machine.mac[5]];
    let mut bpdu = vec![0x42, 0x42, 3, 0, 0, 0, 0, 0];
    bpdu.extend(root);
    bpdu.extend([0; 4]);
    bpdu.extend(root);
    bpdu.extend([0x80, 1, 0, 0, 20, 0, 2, 0, 15, 0]);
    let mut frame = group(0).to_vec();
    frame.extend(machine.mac);
    frame.extend(u16::try_from(bpdu.len()).unwrap().to_be_bytes());
    frame.extend(bpdu);
    frame.resize(60, 0);
    Frames {
        port: machine.port,
        frames: vec![frame],
    }
}

#[test]
fn g0_superior_bpdu_from_a_guest_does_not_change_the_root() {
    let net = standard().start();
    net.namespace
        .command("ip link set br0 type bridge stp_state 1 forward_delay 200");
    let root = |net: &Net| {
        let file = |name| {
            net.namespace
                .read(&format!("/sys/class/net/br0/bridge/{name}"))
        };
        (file("root_id"), file("root_port"))
    };
    let own = root(&net);
    assert_eq!(own.1, "0", "the bridge itself is the root");
    for frame in superior_bpdu(A).frames {
        net.tap(A).send(&frame);
    }
    assert_eq!(root(&net), own);
    for frame in superior_bpdu(R).frames {
        net.tap(R).send(&frame);
    }
    assert_ne!(root(&net).1, "0", "a BPDU that enters by the uplink counts");
    net.drain();
}
