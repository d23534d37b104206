//! What Incus asks of its filtering on bridges
//! (`test/suites/container_devices_nic_bridged_filtering.sh` in lxc/incus), put to this API: the
//! parts for IPv6, and what IPv6 needs, in our own words.
//!
//! A is the filtered instance, B the other one; both are in a group that is open, as Incus has
//! none. `address`, `routes` and `routes.external` there are an address and two delegated prefixes
//! here. Where the script looks at rules, frames are sent. Its groups of assertions, in order:
//!
//! | there | the test here, without its `incus_`, or the reason |
//! |---|---|
//! | connectivity without a filter; a foreign address works | `without_filtering_a_foreign_address_and_mac_work` |
//! | MAC filter in the rules; a fake MAC gets neither to the host nor to the other; the own does again | `mac_filter_holds_to_the_host_and_to_the_other_guest`, `mac_filter_looks_into_neighbour_discovery` |
//! | ARP's sender MAC and address | IPv4: mode PASS checks the Ethernet source only, as G2 says |
//! | filters gone after a stop; nothing is remembered | `stopped_guest_leaves_no_filter_and_has_it_again_when_it_starts` |
//! | IPv4 filter, its routes, DHCPv4 | IPv4 |
//! | previous lease, leases of others, ranges, next free address | the agent hands out no addresses |
//! | `br_netfilter` is loaded | the agent sees to it: `placement::status_says_which_placement_it_is_and_what_that_cannot_do` |
//! | IPv6 filter in the rules, the MAC's with it: source, NA's target and MAC | `fake_address_reaches_neither_the_host_nor_the_other_guest`, `mac_filter_looks_into_neighbour_discovery` |
//! | RA filter in the rules | `router_advertisements_of_a_guest_are_dropped` |
//! | DHCPv6 still works | `dhcpv6_still_works_with_a_server_on_the_link_and_on_the_host` |
//! | own address works, after DAD | `own_address_passes_the_ipv6_filter` |
//! | fake address gets neither to the host nor to the other | `fake_address_reaches_neither_the_host_nor_the_other_guest` |
//! | `ipv6.routes` and `ipv6.routes.external` pass | `routes_pass_to_the_host_and_to_the_other_guest`; there they are spoken for on the link too, here that is `routes_asked_for_on_the_link_are_an_on_link_prefix` (G9) |
//! | SLAAC address by MAC | `slaac_address_follows_from_the_mac` |
//! | another has it: the next free one | `slaac_address_that_another_has_is_refused`: the management server chooses another |
//! | addresses "none", with and without a bridge's: nothing passes | `addresses_none_let_nothing_of_its_choice_pass`: the link-local address is left, until the NIC goes |
//! | bridge without addresses and DHCP | `bridge_without_addresses_is_filtered_all_the_same` |
//! | static address cannot be unset under the filter | `static_address_that_is_unset_closes` |
//! | filters gone after a delete; no interface left over | `deleted_guest_leaves_no_filter_and_no_interface` |
//! | bridge that Incus did not make: MAC filter, own and fraudulent address, "none", gone after a stop | `another_bridge_is_filtered_by_mac_and_by_address` |
//! | an address without the filter, the filter without an address: refused | neither can be said: the guard has no switch, and no address means none |

use crate::support::frames::{BROADCAST, arp, ipv4};
use crate::support::nd::{OVERRIDE, SOLICITED, source_option, target_option};
use crate::support::net::Net;
use crate::support::plan::{Bridge, plan};
use crate::support::want::{
    ChangeExt as _, DefaultAction, Ipv4Mode, NicExt as _, bare_nic, change, mac_text, nic, open,
};
use crate::support::who::{
    A, A_DELEGATED, ALL_NODES, B, DHCP_SERVERS, HOST, Mac, Machine, R, WORLD, ip,
};
use sgagent::pb;
use sgagent::pb::NicState;
use std::net::Ipv6Addr;
use tonic::Code;

use super::judges_neutron::unmanaged;
use crate::support::exchange::Talk;

const FAKE_MAC: Mac = [6, 0x11, 0x22, 0x33, 0x44, 0x56];

/// An instance that has changed its MAC.
fn with_fake_mac(machine: Machine) -> Machine {
    Machine {
        mac: FAKE_MAC,
        ..machine
    }
}

/// An instance that uses another address.
fn at(machine: Machine, address: &str) -> Machine {
    let ip = ip(address);
    Machine { ip, ..machine }
}

fn bridge() -> Net {
    let nics = [nic(A).groups(&["open"]), nic(B).groups(&["open"])];
    let net = plan().nics(nics).group(open()).start();
    net.host_address("br0", HOST.ip);
    net
}

/// Its own MAC, in the frame and in neighbour discovery, and no other, towards everybody.
fn mac_is_filtered(net: &mut Net, guest: Machine, other: Machine, router: Machine) {
    let liar = with_fake_mac(guest);
    net.connects(guest, other, Talk::Ping(1001));
    net.refuses(liar, other, Talk::Ping(1002));
    net.dropped(&Talk::Ping(1003).request(liar, other));
    let neighbour = |mac: Mac| {
        let (all, one) = (guest.to(ALL_NODES), guest.to(other.ll).src(guest.ip));
        [
            all.na(guest.ip, OVERRIDE, &target_option(mac)),
            one.na(guest.ip, SOLICITED, &target_option(mac)),
            guest.asks_for(other.ip).ns(other.ip, &source_option(mac)),
        ]
    };
    for (good, forged) in neighbour(guest.mac).iter().zip(&neighbour(FAKE_MAC)) {
        net.only(good, forged, other);
    }
    net.only(&guest.claims(guest.ip), &liar.claims(guest.ip), router);
}

/// It is not this address's holder, whatever it says.
fn address_is_filtered(net: &mut Net, liar: Machine, other: Machine) {
    net.dropped(&Talk::Ping(1101).request(liar, other));
    net.dropped(&Talk::Udp(4000, 7).request(liar, other));
    net.unanswered(other, liar, Talk::Ping(1102));
    net.dropped(&liar.claims(liar.ip));
    net.dropped(&liar.probes(liar.ip));
    let answer = liar.to(other.ll).na(liar.ip, SOLICITED, &[]);
    net.dropped(&answer);
}

// ---- MAC

#[test]
fn incus_without_filtering_a_foreign_address_and_mac_work() {
    let (mut net, first, second) = unmanaged();
    net.connects(first, second, Talk::Ping(1));
    let liar = at(first, "2001:db8:100:1::254");
    net.connects(liar, second, Talk::Ping(2));
    net.connects(with_fake_mac(first), second, Talk::Ping(3));
    net.passes(&liar.claims(liar.ip), second);
}

#[test]
fn incus_mac_filter_holds_to_the_host_and_to_the_other_guest() {
    let mut net = bridge();
    let liar = with_fake_mac(A);
    net.host_answers(A, 1);
    net.connects(A, B, Talk::Ping(2));
    net.host_hears_nothing(liar, 3);
    net.refuses(liar, B, Talk::Ping(4));
    net.refuses(liar, WORLD, Talk::Ping(5));
    net.dropped(&arp(liar, BROADCAST));
    net.dropped(&ipv4(liar, R.mac));
    net.host_answers(A, 6);
    net.connects(A, B, Talk::Ping(7));
    net.passes(&arp(A, BROADCAST), B);
}

#[test]
fn incus_mac_filter_looks_into_neighbour_discovery() {
    let mut net = bridge();
    net.host_answers(A, 1);
    let known = |net: &Net| {
        let list = format!("ip neigh show {} dev br0", A.ip);
        net.namespace.command(&list)
    };
    assert!(known(&net).contains(&mac_text(A.mac)), "{}", known(&net));
    mac_is_filtered(&mut net, A, B, R);
    let forged = A.to(HOST.ip).na(A.ip, OVERRIDE, &target_option(FAKE_MAC));
    net.dropped(&forged);
    assert!(known(&net).contains(&mac_text(A.mac)), "{}", known(&net));
}

// ---- stopping and deleting

/// Whether the kernel's rules name a guest: its port, its MAC, its address. Left out is what
/// packets have put there and what expires by itself: rates, counts, claims.
fn named(net: &Net, machine: Machine) -> [bool; 3] {
    let listing = net.namespace.command("nft list ruleset");
    let stays = |block: &&str| !block.contains("flags dynamic");
    let rules: String = listing.split("\n\t}").filter(stays).collect();
    let quoted = format!("\"{}\"", machine.port);
    let words = [quoted, mac_text(machine.mac), machine.ip.to_string()];
    words.map(|word| rules.contains(&word))
}

#[test]
fn incus_stopped_guest_leaves_no_filter_and_has_it_again_when_it_starts() {
    let mut net = bridge();
    net.connects(A, B, Talk::Ping(1));
    assert_eq!(named(&net, A), [true; 3]);
    net.unplug(A);
    net.wait_for(A, NicState::Pending);
    assert_eq!(named(&net, A), [false; 3]);
    net.plug(A, "br0");
    net.wait_for(A, NicState::Active);
    assert_eq!(named(&net, A), [true; 3]);
    net.host_answers(A, 2);
    mac_is_filtered(&mut net, A, B, R);
    address_is_filtered(&mut net, at(A, "2001:db8:100:1::254"), B);
}

#[test]
fn incus_deleted_guest_leaves_no_filter_and_no_interface() {
    let mut net = bridge();
    let interfaces = |net: &Net| {
        let listing = net.namespace.command("ip -o link");
        let names = listing.lines().filter_map(|line| line.split(": ").nth(1));
        names.map(str::to_owned).collect::<Vec<_>>()
    };
    let mut before = interfaces(&net);
    net.connects(A, B, Talk::Ping(1));
    net.apply(change().remove_nic(A));
    // Its interface is there a little longer, and carries nothing.
    net.falls_silent(A);
    net.refuses(A, B, Talk::Ping(1));
    net.dropped(&A.claims(A.ip));
    net.host_hears_nothing(A, 2);
    net.unplug(A);
    let request = pb::GetNicRequest {
        id: A.port.to_owned(),
    };
    let answer = net
        .agent
        .call(async |mut client| client.get_nic(request).await);
    assert_eq!(answer.unwrap_err().code(), Code::NotFound);
    assert_eq!(named(&net, A), [false; 3]);
    assert_eq!(named(&net, B), [true; 3]);
    before.retain(|name| name != A.port);
    assert_eq!(interfaces(&net), before);
}

// ---- addresses

#[test]
fn incus_own_address_passes_the_ipv6_filter() {
    let mut net = bridge();
    net.passes(&A.probes(A.ip), R);
    net.passes(&A.probes(A.ip), B);
    net.passes(&A.claims(A.ip), B);
    net.host_answers(A, 1);
    net.connects(A, B, Talk::Ping(2));
    net.connects(B, A, Talk::Tcp(4000, 7));
    net.connects(WORLD, A, Talk::Tcp(4000, 7));
}

#[test]
fn incus_fake_address_reaches_neither_the_host_nor_the_other_guest() {
    let mut net = bridge();
    let liar = at(A, "2001:db8:100:1::254");
    net.host_hears_nothing(liar, 1);
    net.refuses(liar, B, Talk::Ping(2));
    net.refuses(liar, WORLD, Talk::Ping(3));
    address_is_filtered(&mut net, liar, B);
    address_is_filtered(&mut net, Machine { ip: B.ip, ..A }, R);
    net.host_answers(A, 4);
    net.connects(A, B, Talk::Ping(5));
}

#[test]
fn incus_router_advertisements_of_a_guest_are_dropped() {
    let mut net = bridge();
    net.dropped(&A.advertises());
    net.dropped(&A.to(B.ll).ra());
    net.dropped(&A.to(HOST.ll).ra());
    let host = net.namespace.command("ip -6 addr show dev br0");
    assert!(!host.contains("2001:db8:bad"), "{host}");
    net.passes(&R.advertises(), A);
}

/// As strict as a NIC can be: no group, nothing by default.
#[test]
fn incus_dhcpv6_still_works_with_a_server_on_the_link_and_on_the_host() {
    let strict = |nic: pb::Nic| nic.icmpv6(DefaultAction::Deny).egress(DefaultAction::Deny);
    let mut net = plan().nic(strict(bare_nic(A))).start();
    for (asked, told) in [(1, 2), (3, 7), (5, 7)] {
        net.passes(&A.to(DHCP_SERVERS).dhcp(546, 547, asked), R);
        net.passes(&R.to(A.ll).dhcp(547, 546, told), A);
    }
    let server = net.host_socket(547);
    net.host_knows(A.ll, A.mac);
    server.joins(DHCP_SERVERS);
    for asked in [1, 3, 5] {
        net.tap(A)
            .send(&A.to(DHCP_SERVERS).dhcp(546, 547, asked).frame());
        assert_eq!(server.sources(), [A.ll]);
        net.drain();
        server.send(A.ll, 546);
        assert_eq!(net.host_datagrams(A), 1);
    }
    // What it was given is its own once the management server says so, and not before.
    let guest = at(A, "2001:db8:100:1::2");
    net.dropped(&guest.claims(guest.ip));
    net.apply(change().nic(bare_nic(A).address(&guest.ip.to_string())));
    net.passes(&guest.probes(guest.ip), R);
    net.passes(&guest.claims(guest.ip), R);
    net.connects(guest, WORLD, Talk::Ping(1));
}

/// Its frames, and who is asked on the link for a routed address: the guest's link-local one.
#[test]
fn incus_routes_pass_to_the_host_and_to_the_other_guest() {
    let external = "2001:db8:200:3::/64";
    let mut net = bridge();
    net.apply(change().nic(nic(A).groups(&["open"]).delegated(external)));
    for prefix in ["2001:db8:100:1010::/60", external] {
        let route = format!("ip -6 route add {prefix} via {} dev br0", A.ll);
        net.namespace.command(&route);
    }
    let inside = [A_DELEGATED.to_string(), "2001:db8:200:3::1".to_owned()];
    for (n, address) in (1..).zip(&inside) {
        let guest = at(A, address);
        net.host_answers(guest, n);
        net.connects(guest, B, Talk::Ping(n + 10));
        net.connects(B, guest, Talk::Tcp(4000, 7));
        // It is routed: nobody is to be asked for it on the link (G9, G8).
        net.dropped(&A.claims(guest.ip));
        net.dropped(&A.probes(guest.ip));
        net.dropped(&A.to(B.ll).na(guest.ip, SOLICITED, &target_option(A.mac)));
    }
    for (n, address) in (30..).zip(["2001:db8:100:1020::1", "2001:db8:200:4::1"]) {
        let liar = at(A, address);
        net.host_hears_nothing(liar, n);
        net.refuses(liar, B, Talk::Ping(n + 10));
    }
}

#[test]
fn incus_routes_asked_for_on_the_link_are_an_on_link_prefix() {
    let on_link = |prefix| bare_nic(A).groups(&["open"]).on_link(prefix);
    let mut net = bridge();
    net.apply(change().nic(on_link("2001:db8:100:2::/64")));
    let guest = at(A, "2001:db8:100:2::1");
    net.passes(&A.probes(guest.ip), B);
    net.passes(&B.asks_for(guest.ip), A);
    net.passes(
        &A.to(B.ll).na(guest.ip, SOLICITED, &target_option(A.mac)),
        B,
    );
    net.connects(guest, B, Talk::Ping(1));
    net.connects(B, guest, Talk::Ping(2));
    address_is_filtered(&mut net, at(A, "2001:db8:100:3::1"), B);
}

#[test]
fn incus_slaac_address_follows_from_the_mac() {
    let guest = Machine {
        mac: [0x52, 0x54, 0, 0x12, 0x34, 0x56],
        ll: ip("fe80::5054:ff:fe12:3456"),
        ip: ip("2001:db8:100:1:5054:ff:fe12:3456"),
        ..A.at("tap5")
    };
    let mut net = plan()
        .port(guest, "br0")
        .nic(nic(guest).groups(&["open"]))
        .group(open())
        .start();
    let own = pb::EffectiveAddress {
        address: guest.ip.to_string(),
        kind: pb::AddressKind::Slaac.into(),
        shared: false,
    };
    let status = net.status(guest);
    assert!(status.addresses.contains(&own), "{status:?}");
    net.passes(&guest.probes(guest.ip), R);
    net.connects(WORLD, guest, Talk::Ping(1));
    address_is_filtered(&mut net, at(guest, "2001:db8:100:1:5254:ff:fe12:3456"), R);
    address_is_filtered(&mut net, Machine { ip: B.ip, ..guest }, R);
}

#[test]
fn incus_slaac_address_that_another_has_is_refused() {
    let holder = nic(B).groups(&["open"]).address(&A.ip.to_string());
    let mut net = plan().nic(holder).group(open()).start();
    let wanted = change().nic(nic(A).groups(&["open"]));
    let answer = net
        .agent
        .call(async |mut client| client.apply(wanted).await);
    let error = answer.unwrap_err();
    assert_eq!(error.code(), Code::FailedPrecondition, "{error}");
    net.refuses(A, WORLD, Talk::Ping(1));
    net.connects(Machine { ip: A.ip, ..B }, WORLD, Talk::Ping(2));
    let guest = at(A, "2001:db8:100:1::2");
    let next_free = bare_nic(A).groups(&["open"]).address("2001:db8:100:1::2");
    net.apply(change().nic(next_free));
    net.connects(guest, WORLD, Talk::Ping(3));
    net.refuses(A, WORLD, Talk::Ping(4));
}

// ---- no address, no filter of one's own choosing

/// Neither IPv6 of an address of its own choice, nor IPv4, nor ARP, in or out.
fn nothing_is_its(net: &mut Net) {
    for guest in [A, at(A, "2001:db8:100:1::2"), at(A, "2001:db8::2")] {
        net.host_hears_nothing(guest, 1);
        address_is_filtered(net, guest, B);
        address_is_filtered(net, guest, R);
    }
    net.dropped(&arp(A, BROADCAST));
    net.dropped(&ipv4(A, B.mac));
    net.blocked(&arp(B, BROADCAST), A);
    net.blocked(&ipv4(B, A.mac), A);
    net.passes(&arp(B, BROADCAST), R);
}

#[test]
fn incus_addresses_none_let_nothing_of_its_choice_pass() {
    let mut net = bridge();
    net.host_answers(A, 1);
    net.passes(&arp(A, BROADCAST), B);
    let none = bare_nic(A).groups(&["open"]).ipv4(Ipv4Mode::Block);
    net.apply(change().nic(none));
    net.falls_silent(A);
    nothing_is_its(&mut net);
    // What it has from its MAC alone is what is left, and goes with the NIC.
    let local = |machine: Machine| Machine {
        ip: machine.ll,
        ..machine
    };
    net.connects(local(A), local(B), Talk::Ping(2));
    net.apply(change().remove_nic(A));
    nothing_is_its(&mut net);
    net.refuses(local(A), local(B), Talk::Ping(3));
    net.blocked(&R.advertises(), A);
}

#[test]
fn incus_bridge_without_addresses_is_filtered_all_the_same() {
    let mut net = bridge();
    net.namespace.sysctl("net/ipv6/conf/br0/disable_ipv6", "1");
    assert_eq!(net.namespace.command("ip -6 addr show dev br0"), "");
    net.connects(A, B, Talk::Ping(1));
    net.connects(A, WORLD, Talk::Tcp(4000, 7));
    mac_is_filtered(&mut net, A, B, R);
    address_is_filtered(&mut net, at(A, "2001:db8:100:1::254"), B);
    let none = bare_nic(A).groups(&["open"]).ipv4(Ipv4Mode::Block);
    net.apply(change().nic(none));
    net.falls_silent(A);
    nothing_is_its(&mut net);
}

#[test]
fn incus_static_address_that_is_unset_closes() {
    let guest = at(A, "2001:db8:100:1::2");
    let with = bare_nic(A).groups(&["open"]).address("2001:db8:100:1::2");
    let mut net = bridge();
    net.apply(change().nic(with));
    let (flow, download) = (Talk::Ping(1), Talk::Tcp(4000, 7));
    net.connects(guest, B, flow);
    net.connects(WORLD, guest, download);
    let without = bare_nic(A).groups(&["open"]);
    assert_eq!(net.apply(change().nic(without)).flows_cut, 2);
    net.refuses(guest, B, flow);
    net.dropped(&download.answers_on(WORLD, guest));
    address_is_filtered(&mut net, guest, B);
}

/// A bridge that somebody made by hand, and that the configuration names.
#[test]
fn incus_another_bridge_is_filtered_by_mac_and_by_address() {
    let br1 = Bridge {
        name: "br1",
        managed: true,
        uplinks: vec!["uplink1"],
    };
    let (router, first, second) = (R.at("uplink1"), A.at("vnet10"), B.at("vnet11"));
    let mut net = plan()
        .bridge(br1)
        .port(router, "br1")
        .port(first, "br1")
        .port(second, "br1")
        .nics([nic(first).groups(&["open"]), nic(second).groups(&["open"])])
        .group(open())
        .start();
    mac_is_filtered(&mut net, first, second, router);
    net.connects(first, second, Talk::Ping(1));
    let liar: Ipv6Addr = ip("2001:db8:100:1::3");
    address_is_filtered(&mut net, Machine { ip: liar, ..first }, second);
    net.apply(change().nic(bare_nic(first).groups(&["open"])));
    address_is_filtered(&mut net, first, second);
    mac_is_filtered(&mut net, second, router, router);
    net.unplug(first);
    net.wait_for(first, NicState::Pending);
    assert_eq!(named(&net, first), [false; 3]);
}
