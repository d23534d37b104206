//! Every bad input is refused by the path of its field, and nothing of it is in force.

use sgagent::model::Limits;
use tonic::Code;

use super::world::{MESSAGE_OCTETS, OWNER, World, refusal};

const INVALID: Code = Code::InvalidArgument;
const NOT_FOUND: Code = Code::NotFound;
const CONFLICT: Code = Code::FailedPrecondition;
const LIMIT: Code = Code::ResourceExhausted;

/// A NIC that would be taken, with these fields put in or in the place of its own.
fn nic(fields: &str) -> String {
    let mut nic = vec![
        "id: n",
        "mac: '06:00:00:00:00:02'",
        "interfaces: [{name: vnet1}]",
    ];
    let name = fields.split(':').next().unwrap();
    nic.retain(|field| !field.starts_with(&format!("{name}:")));
    format!("nics: [{{{}, {fields}}}]", nic.join(", "))
}

/// A group with one rule that would be taken, with these fields put in.
fn rule(fields: &str) -> String {
    let mut rule = vec![
        "direction: DIRECTION_INGRESS",
        "protocol: PROTOCOL_TCP",
        "remote: {anyone: true}",
    ];
    let given = |field: &str| fields.contains(&format!("{}:", field.split(':').next().unwrap()));
    rule.retain(|field| !given(field));
    format!(
        "groups: [{{id: h, rules: [{{{}, {fields}}}]}}]",
        rule.join(", ")
    )
}

fn address(text: &str) -> String {
    nic(&format!("addresses: [{{address: '{text}'}}]"))
}

type Row = (&'static str, String, Code, &'static [&'static str]);

const ADDRESS: &[&str] = &["nics[0].addresses[0].address"];
const DELEGATED: &[&str] = &["nics[0].delegated_prefixes[0]"];
/// An address and a prefix of the other NIC are in it.
const TWICE: &[&str] = &["nics[0].delegated_prefixes[0]"; 2];
const NAME: &[&str] = &["nics[0].interfaces[0].name"];

#[rustfmt::skip]
fn notations() -> Vec<Row> {
    vec![
        ("malformed address", address("2001:db8::g"), INVALID, ADDRESS),
        ("address with a length", address("2001:db8::2/128"), INVALID, ADDRESS),
        ("empty address", address(""), INVALID, ADDRESS),
        ("address with leading zeros", address("2001:0db8::2"), INVALID, ADDRESS),
        ("address in capitals", address("2001:DB8::2"), INVALID, ADDRESS),
        ("address not shortened", address("2001:db8:0:0:0:0:0:2"), INVALID, ADDRESS),
        ("IPv4 address", address("192.0.2.1"), INVALID, ADDRESS),
        ("multicast address", address("ff02::1"), INVALID, ADDRESS),
        ("loopback address", address("::1"), INVALID, ADDRESS),
        ("unspecified address", address("::"), INVALID, ADDRESS),
        ("link-local address", address("fe80::1"), INVALID, ADDRESS),
        ("v4-mapped address", address("::ffff:192.0.2.1"), INVALID, ADDRESS),
        ("host bits", nic("delegated_prefixes: ['2001:db8:1::1/60']"), INVALID, DELEGATED),
        ("IPv4 prefix", nic("delegated_prefixes: ['192.0.2.0/24']"), INVALID, DELEGATED),
        ("short prefix", nic("delegated_prefixes: ['2001::/16']"), INVALID, DELEGATED),
        ("multicast prefix", nic("delegated_prefixes: ['ff02::/32']"), INVALID, DELEGATED),
        ("link-local prefix", nic("delegated_prefixes: ['fe80::/64']"), INVALID, DELEGATED),
        ("host bits", nic("slaac_prefix: '2001:db8::1/64'"), INVALID, &["nics[0].slaac_prefix"]),
        ("SLAAC in a /63", nic("slaac_prefix: '2001:db8::/63'"), INVALID, &["nics[0].slaac_prefix"]),
        ("on-link /63", nic("on_link_prefix: '2001:db8::/63'"), INVALID, &["nics[0].on_link_prefix"]),
        ("global address as link-local", nic("link_local: LINK_LOCAL_MODE_EXPLICIT, link_local_addresses: ['2001:db8::2']"), INVALID, &["nics[0].link_local_addresses[0]"]),
        ("multicast MAC", nic("mac: '01:00:5e:00:00:01'"), INVALID, &["nics[0].mac"]),
        ("zero MAC", nic("mac: '00:00:00:00:00:00'"), INVALID, &["nics[0].mac"]),
        ("malformed MAC", nic("mac: '06:00:00:00:02'"), INVALID, &["nics[0].mac"]),
        ("no virtual MAC", nic("virtual_macs: ['06:00:00:00:00:03'], addresses: [{address: '2001:db8::2', shared: true}]"), INVALID, &["nics[0].virtual_macs[0]"]),
    ]
}

#[rustfmt::skip]
fn names() -> Vec<Row> {
    let long = "x".repeat(10_000);
    vec![
        ("empty id", nic("id: ''"), INVALID, &["nics[0].id"]),
        ("id with a space", nic("id: 'a b'"), INVALID, &["nics[0].id"]),
        ("id with a control character", nic("id: \"a\\n\""), INVALID, &["nics[0].id"]),
        ("long id", nic(&format!("id: {long}")), INVALID, &["nics[0].id"]),
        ("long name", nic(&format!("instance_name: {long}")), INVALID, &["nics[0].instance_name"]),
        ("long instance id", nic(&format!("instance_id: {long}")), INVALID, &["nics[0].instance_id"]),
        ("control character", nic("instance_name: \"a\\e[2J\""), INVALID, &["nics[0].instance_name"]),
        ("long group name", format!("groups: [{{id: h, name: {long}}}]"), INVALID, &["groups[0].name"]),
        ("control character", "groups: [{id: h, name: \"\\0\"}]".to_owned(), INVALID, &["groups[0].name"]),
        ("empty group id", "groups: [{}]".to_owned(), INVALID, &["groups[0].id"]),
        ("no interface", nic("interfaces: []"), INVALID, &["nics[0].interfaces"]),
        ("empty selector", nic("interfaces: [{}]"), INVALID, &["nics[0].interfaces[0]"]),
        ("nft in a name", nic("interfaces: [{name: '\"; flush'}]"), INVALID, NAME),
        ("shell in a name", nic("interfaces: [{name: '$(reboot)'}]"), INVALID, NAME),
        ("path in a name", nic("interfaces: [{name: '../x'}]"), INVALID, NAME),
        ("long interface name", nic("interfaces: [{name: abcdefghijklmnop}]"), INVALID, NAME),
        ("nft in a bridge", nic("interfaces: [{bridge: 'a}b'}]"), INVALID, &["nics[0].interfaces[0].bridge"]),
        ("unspecified mode", nic("ipv4: IPV4_MODE_UNSPECIFIED"), INVALID, &["nics[0].ipv4"]),
        ("unknown mode", nic("link_local: 17"), INVALID, &["nics[0].link_local"]),
        ("unknown permission", nic("permissions: [4]"), INVALID, &["nics[0].permissions[0]"]),
    ]
}

#[rustfmt::skip]
fn rules() -> Vec<Row> {
    vec![
        ("ports backwards", rule("ports: {first: 2, last: 1}"), INVALID, &["groups[0].rules[0].ports"]),
        ("port of 65536", rule("ports: {first: 1, last: 65536}"), INVALID, &["groups[0].rules[0].ports.last"]),
        ("ports of anything", rule("protocol: PROTOCOL_ANY, ports: {first: 1, last: 1}"), INVALID, &["groups[0].rules[0].ports"]),
        ("ICMPv6 type of TCP", rule("icmpv6_type: 128"), INVALID, &["groups[0].rules[0].icmpv6_type"]),
        ("ICMPv6 code alone", rule("protocol: PROTOCOL_ICMPV6, icmpv6_code: 0"), INVALID, &["groups[0].rules[0].icmpv6_code"]),
        ("number of TCP", rule("protocol_number: 6"), INVALID, &["groups[0].rules[0].protocol_number"]),
        ("no number", rule("protocol: PROTOCOL_NUMBER"), INVALID, &["groups[0].rules[0].protocol_number"]),
        ("no direction", rule("direction: DIRECTION_UNSPECIFIED"), INVALID, &["groups[0].rules[0].direction"]),
        ("no protocol", rule("protocol: 0"), INVALID, &["groups[0].rules[0].protocol"]),
        ("no remote", rule("remote: {}"), INVALID, &["groups[0].rules[0].remote"]),
        ("two remotes", rule("remote: {anyone: true, group_id: g}"), INVALID, &["groups[0].rules[0].remote"]),
        ("host bits", rule("remote: {prefixes: ['::/0', '2001:db8::1/32']}"), INVALID, &["groups[0].rules[0].remote.prefixes[1]"]),
        ("unknown group", rule("remote: {group_id: none}"), NOT_FOUND, &["groups[0].rules[0].remote.group_id"]),
        ("member is multicast", "members: [{group_id: g, add: [{address: 'ff02::1'}]}]".to_owned(), INVALID, &["members[0].add[0].address"]),
        ("member's prefix is everything", "members: [{group_id: g, add: [{address: '2001:db8::2', delegated_prefixes: ['::/0']}]}]".to_owned(), INVALID, &["members[0].add[0].delegated_prefixes[0]"]),
    ]
}

#[rustfmt::skip]
fn contradictions() -> Vec<Row> {
    let text = |text: &str| text.to_owned();
    let twice = format!("{}\nremove_nics: [n]", nic("id: n"));
    let both = "nics: [{id: n, mac: '06:00:00:00:00:02', interfaces: [{name: vnet1}]}, {id: n, mac: '06:00:00:00:00:03', interfaces: [{name: vnet2}]}]";
    vec![
        ("MAC on the same bridge", nic("mac: '06:00:00:00:00:01'"), CONFLICT, &["nics[0].mac"]),
        ("owned address", address("2001:db8::1"), CONFLICT, ADDRESS),
        ("owned address, here shared", nic("addresses: [{address: '2001:db8::1', shared: true}]"), CONFLICT, ADDRESS),
        ("owned SLAAC address", address("2001:db8:100:0:400:ff:fe00:1"), CONFLICT, ADDRESS),
        ("address in an owned prefix", address("2001:db8:0:1f::1"), CONFLICT, ADDRESS),
        ("owned prefix", nic("delegated_prefixes: ['2001:db8:0:10::/60']"), CONFLICT, DELEGATED),
        ("prefix in an owned one", nic("delegated_prefixes: ['2001:db8:0:11::/64']"), CONFLICT, DELEGATED),
        ("prefix around owned things", nic("delegated_prefixes: ['2001:db8::/56']"), CONFLICT, TWICE),
        ("owned on-link prefix", nic("on_link_prefix: '2001:db8:200::/64'"), CONFLICT, &["nics[0].on_link_prefix"]),
        ("owned interface", nic("interfaces: [{name: vnet0}]"), CONFLICT, NAME),
        ("unknown group", nic("group_ids: [g, none]"), NOT_FOUND, &["nics[0].group_ids[1]"]),
        ("unknown NIC", text("remove_nics: [none]"), NOT_FOUND, &["remove_nics[0]"]),
        ("unknown group", text("remove_groups: [none]"), NOT_FOUND, &["remove_groups[0]"]),
        ("members of nothing", text("members: [{group_id: none}]"), NOT_FOUND, &["members[0].group_id"]),
        ("unknown member", text("members: [{group_id: g, remove: ['2001:db8::9']}]"), NOT_FOUND, &["members[0].remove[0]"]),
        ("group in use", text("remove_groups: [g]"), CONFLICT, &["remove_groups[0]"]),
        ("NIC changed twice", text(both), INVALID, &["nics[1].id"]),
        ("NIC changed and removed", twice, INVALID, &["remove_nics[0]"]),
        ("NIC removed twice", text("remove_nics: [owner, owner]"), INVALID, &["remove_nics[1]"]),
        ("group changed twice", text("groups: [{id: h}, {id: h}]"), INVALID, &["groups[1].id"]),
        ("group changed and removed", text("{groups: [{id: h}], remove_groups: [h]}"), INVALID, &["remove_groups[0]"]),
        ("two deltas of one group", text("members: [{group_id: g}, {group_id: g}]"), INVALID, &["members[1].group_id"]),
        ("members of a group that goes", text("{remove_groups: [g], members: [{group_id: g}]}"), INVALID, &["members[0].group_id"]),
        ("member added and removed", text("members: [{group_id: g, add: [{address: '2001:db8::2'}], remove: ['2001:db8::2']}]"), INVALID, &["members[0].remove[0]"]),
        ("address twice", nic("addresses: [{address: '2001:db8::2'}, {address: '2001:db8::2'}]"), INVALID, &["nics[0].addresses[1].address"]),
        ("own prefixes overlap", nic("delegated_prefixes: ['2001:db8:1::/48', '2001:db8:1:10::/60']"), INVALID, &["nics[0].delegated_prefixes[1]"]),
    ]
}

fn limits() -> Limits {
    Limits {
        nics: 2,
        groups: 2,
        rules_per_group: 2,
        prefixes_per_rule: 2,
        members_per_group: 2,
        groups_per_nic: 2,
        addresses_per_nic: 2,
    }
}

#[rustfmt::skip]
fn excesses() -> Vec<Row> {
    let rules = "{direction: DIRECTION_EGRESS, protocol: PROTOCOL_ANY, remote: {anyone: true}}";
    let others = "nics: [{id: n, mac: '06:00:00:00:00:02', interfaces: [{name: vnet1}]}, {id: o, mac: '06:00:00:00:00:03', interfaces: [{name: vnet2}]}]";
    let three = "'2001:db8:1::/48', '2001:db8:2::/48', '2001:db8:3::/48'";
    vec![
        ("NICs", others.to_owned(), LIMIT, &["nics"]),
        ("groups", "groups: [{id: h}, {id: i}]".to_owned(), LIMIT, &["groups"]),
        ("rules", format!("groups: [{{id: h, rules: [{rules}, {rules}, {rules}]}}]"), LIMIT, &["groups[0].rules"]),
        ("prefixes", rule(&format!("remote: {{prefixes: [{three}]}}")), LIMIT, &["groups[0].rules[0].remote.prefixes"]),
        ("members", "members: [{group_id: g, add: [{address: '2001:db8::2'}, {address: '2001:db8::3'}]}]" .to_owned(), LIMIT, &["members[0].add"]),
        ("prefixes of a NIC", nic(&format!("delegated_prefixes: [{three}]")), LIMIT, &["nics[0].delegated_prefixes"]),
        ("addresses of a NIC", nic("addresses: [{address: '2001:db8::2'}, {address: '2001:db8::3'}, {address: '2001:db8::4'}]"), LIMIT, &["nics[0].addresses"]),
        ("a message over the size limit", nic(&format!("instance_name: {}", "x".repeat(MESSAGE_OCTETS))), LIMIT, &[]),
    ]
}

async fn all_refused(mut world: World, rows: Vec<Row>) {
    world.apply(OWNER).await.unwrap();
    let before = world.state().await;
    let applied = world.kernel.applied();
    for (what, yaml, code, paths) in rows {
        let refused = refusal(world.apply(&yaml).await);
        let paths: Vec<_> = paths.iter().map(|path| (*path).to_owned()).collect();
        assert_eq!(refused, (code, paths), "{what}: {yaml}");
        assert_eq!(world.state().await, before, "{what}: {yaml}");
        assert_eq!(world.kernel.applied(), applied, "{what}: {yaml}");
    }
}

#[tokio::test]
async fn what_is_not_in_the_notation_is_refused() {
    all_refused(World::start().await, notations()).await;
}

#[tokio::test]
async fn names_that_are_empty_long_or_dangerous_are_refused() {
    all_refused(World::start().await, names()).await;
}

#[tokio::test]
async fn rules_that_contradict_themselves_are_refused() {
    all_refused(World::start().await, rules()).await;
}

#[tokio::test]
async fn what_contradicts_what_is_in_force_or_itself_is_refused() {
    all_refused(World::start().await, contradictions()).await;
}

#[tokio::test]
async fn what_is_over_a_limit_is_refused() {
    all_refused(World::with_limits(limits()).await, excesses()).await;
}

#[tokio::test]
async fn the_rows_are_wrong_in_one_thing_only() {
    let mut world = World::owned().await;
    world.apply(&nic("id: n")).await.unwrap();
    world.apply(&rule("description: ''")).await.unwrap();
}

#[tokio::test]
async fn every_faulty_field_of_a_request_is_named() {
    let mut world = World::owned().await;
    let yaml = "
nics:
  - {id: '', mac: x, interfaces: [{name: vnet1}]}
  - {id: n, mac: '06:00:00:00:00:02', interfaces: [{name: vnet1}], slaac_prefix: '::/64'}
remove_nics: ['a b']
members: [{group_id: g, add: [{address: '2001:db8::2'}, {address: '192.0.2.1'}]}]
";
    let wanted = [
        "nics[0].id",
        "nics[0].mac",
        "nics[1].slaac_prefix",
        "remove_nics[0]",
        "members[0].add[1].address",
    ];
    let (code, paths) = refusal(world.apply(yaml).await);
    assert_eq!((code, paths), (INVALID, wanted.map(str::to_owned).to_vec()));
}
