use super::*;

fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let length = u16::try_from(4 + value.len()).unwrap();
    let mut octets = length.to_ne_bytes().to_vec();
    octets.extend(kind.to_ne_bytes());
    octets.extend(value);
    octets.resize(octets.len().next_multiple_of(4), 0);
    octets
}

fn tuple(protocol: &[Vec<u8>]) -> Vec<u8> {
    let address = |last| Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, last).octets();
    let ip = [
        attribute(CTA_IP_V6_SRC, &address(1)),
        attribute(CTA_IP_V6_DST, &address(2)),
    ];
    let nested = 1 << 15;
    let parts = [
        attribute(CTA_TUPLE_IP | nested, &ip.concat()),
        attribute(CTA_TUPLE_PROTO | nested, &protocol.concat()),
    ];
    attribute(CTA_TUPLE_ORIG | nested, &parts.concat())
}

fn body(attributes: &[Vec<u8>]) -> Vec<u8> {
    [vec![AF_INET6, 0, 0, 0], attributes.concat()].concat()
}

#[test]
fn a_flow_is_read_with_its_zone_and_named_by_what_the_kernel_sent() {
    let tcp = [
        attribute(CTA_PROTO_NUM, &[6]),
        attribute(CTA_PROTO_SRC_PORT, &40000_u16.to_be_bytes()),
        attribute(CTA_PROTO_DST_PORT, &443_u16.to_be_bytes()),
    ];
    let zone = attribute(CTA_ZONE, &7_u16.to_be_bytes());
    let id = attribute(CTA_ID, &[1, 2, 3, 4]);
    let status = attribute(3, &[0, 0, 0, 8]);
    let all = [tuple(&tcp), status, id.clone(), zone.clone()];
    let Entry { flow, key } = entry(&body(&all)).unwrap().unwrap();
    assert_eq!(flow.zone, 7);
    assert_eq!(flow.source.to_string(), "2001:db8::1");
    assert_eq!(flow.destination.to_string(), "2001:db8::2");
    let ports = Upper::Ports {
        source: 40000,
        destination: 443,
    };
    assert_eq!((flow.protocol, flow.upper), (6, ports));
    assert_eq!(key, [tuple(&tcp), id, zone].concat());
}

#[test]
fn an_echo_and_a_protocol_without_ports_are_read() {
    let echo = [
        attribute(CTA_PROTO_NUM, &[58]),
        attribute(CTA_PROTO_ICMPV6_TYPE, &[128]),
        attribute(CTA_PROTO_ICMPV6_CODE, &[0]),
    ];
    let read = |tuple| entry(&body(&[tuple])).unwrap().unwrap().flow;
    let flow = read(tuple(&echo));
    assert_eq!(flow.upper, Upper::Icmpv6 { kind: 128, code: 0 });
    let esp = read(tuple(&[attribute(CTA_PROTO_NUM, &[50])]));
    assert_eq!((esp.zone, esp.protocol, esp.upper), (0, 50, Upper::Other));
}

#[test]
fn what_is_no_ipv6_flow_is_nothing() {
    assert_eq!(entry(&[2, 0, 0, 0]).unwrap(), None);
    assert_eq!(entry(&[]).unwrap(), None);
    assert_eq!(entry(&body(&[])).unwrap(), None);
    assert!(entry(&body(&[vec![200, 0, 1, 0]])).is_err());
}
