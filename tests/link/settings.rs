//! Settings are read, written, and refused where they are not to be had.

use std::process::Command;

use sgagent::link::{Host as _, LinkError, Netlink, Setting};

use crate::{in_namespace, ip, name, run, start};

async fn takes(host: &Netlink, setting: Setting, values: [u64; 2]) {
    for value in values {
        host.set(&setting, value).await.unwrap();
        assert_eq!(host.get(&setting).await.unwrap(), Some(value), "{setting}");
    }
}

/// What iproute2 reads, so that not only our own reader tells that our writer works.
fn shown(line: &str, field: &str) -> String {
    let words: Vec<_> = line.split_whitespace().collect();
    let output = Command::new("ip").args(words).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let value = text
        .split_whitespace()
        .skip_while(|word| *word != field)
        .nth(1);
    assert!(value.is_some(), "no {field} in {text}");
    value.unwrap().to_owned()
}

#[test]
fn settings_of_a_bridge_are_written_and_nothing_else() {
    in_namespace(async || {
        ip("link add br0 type bridge mcast_snooping 0");
        let (host, interfaces) = start().await;
        let before = interfaces.borrow().clone();
        takes(&host, Setting::NoLinkLocalLearn(name("br0")), [1, 0]).await;
        takes(&host, Setting::NfCallIp6tables(name("br0")), [0, 1]).await;
        assert_eq!(shown("-d link show br0", "nf_call_ip6tables"), "1");
        assert_eq!(shown("-d link show br0", "no_linklocal_learn"), "0");
        assert_eq!(shown("-d link show br0", "nf_call_iptables"), "0");
        assert_eq!(shown("link show br0", "state"), "DOWN");
        assert_eq!(start().await.1.borrow().links, before.links);
        let error = host
            .set(&Setting::NoLinkLocalLearn(name("br0")), 2)
            .await
            .unwrap_err();
        assert!(
            matches!(error, LinkError::Set { value: 2, .. }),
            "{error:?}"
        );
    });
}

/// The kernel's version.
fn kernel() -> (u32, u32) {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let mut numbers = release.split('.').map(|part| part.parse().unwrap_or(0));
    (numbers.next().unwrap(), numbers.next().unwrap())
}

#[test]
fn a_setting_of_a_port_ends_with_its_membership() {
    in_namespace(async || {
        ip("link add br0 type bridge");
        ip("tuntap add tap0 mode tap");
        ip("link set tap0 master br0");
        let (host, _interfaces) = start().await;
        let setting = Setting::MulticastMaxGroups(name("tap0"));
        if kernel() < (6, 3) {
            assert_eq!(host.get(&setting).await.unwrap(), None);
            let error = host.set(&setting, 16).await.unwrap_err();
            assert!(matches!(error, LinkError::Unsupported { .. }), "{error:?}");
            return;
        }
        takes(&host, setting.clone(), [16, 32]).await;
        ip("link set tap0 nomaster");
        ip("link set tap0 master br0");
        assert_eq!(host.get(&setting).await.unwrap(), Some(0));
    });
}

#[test]
fn sysctls_are_written() {
    in_namespace(async || {
        let (host, _interfaces) = start().await;
        takes(&host, Setting::Frag6Timeout, [5, 60]).await;
        takes(&host, Setting::Frag6HighThresh, [8_388_608, 4_194_304]).await;
    });
}

/// It comes with `br_netfilter`, which placement `bridge` needs not.
#[test]
fn what_br_netfilter_shows_is_set_where_that_is_loaded() {
    in_namespace(async || {
        let (host, _interfaces) = start().await;
        let setting = Setting::FilterVlanTagged;
        if std::fs::exists("/proc/sys/net/bridge").unwrap() {
            takes(&host, setting, [1, 0]).await;
        } else {
            assert_eq!(host.get(&setting).await.unwrap(), None);
            let error = host.set(&setting, 1).await.unwrap_err();
            assert!(matches!(error, LinkError::Unsupported { .. }), "{error:?}");
        }
    });
}

#[test]
fn a_sysctl_that_is_not_there_is_not_supported() {
    in_namespace(async || {
        run("mount -t tmpfs none /proc/sys/net/netfilter");
        let (host, _interfaces) = start().await;
        assert_eq!(host.get(&Setting::Frag6Timeout).await.unwrap(), None);
        let error = host.set(&Setting::Frag6Timeout, 5).await.unwrap_err();
        assert!(matches!(error, LinkError::Unsupported { .. }), "{error:?}");
    });
}

#[test]
fn a_setting_of_the_wrong_interface_is_an_error() {
    in_namespace(async || {
        ip("link add br0 type bridge");
        ip("tuntap add tap0 mode tap");
        let (host, _interfaces) = start().await;
        let gone = Setting::NoLinkLocalLearn(name("br7"));
        let not_a_bridge = Setting::NoLinkLocalLearn(name("tap0"));
        let not_a_port = Setting::MulticastMaxGroups(name("tap0"));
        let neither_is_a_bridge = Setting::MulticastMaxGroups(name("br0"));
        let error = host.set(&gone, 1).await.unwrap_err();
        assert!(matches!(error, LinkError::NoInterface { .. }), "{error:?}");
        assert_eq!(
            error.to_string(),
            "no_linklocal_learn of br7: there is no such interface"
        );
        for setting in [not_a_bridge, not_a_port, neither_is_a_bridge] {
            for error in [
                host.get(&setting).await.unwrap_err(),
                host.set(&setting, 1).await.unwrap_err(),
            ] {
                assert!(matches!(error, LinkError::WrongKind { .. }), "{error:?}");
            }
        }
    });
}
