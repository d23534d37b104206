//! Reads what `ip6tables-save -c`, `ebtables-save` with counters and `ipset save` print.

use std::net::Ipv6Addr;

use super::counters::{MANGLE, RAW};
use crate::{
    dataplane::Dropped,
    ruleset::{Learned, NicNumber, Reason},
};

/// What the chains of a NIC are called, before its number.
const OF_NIC: [&str; 7] = [
    "nic", "sent", "got", "later", "servers", "clients", "routers",
];

/// A rule with its counters.
struct Counted<'a> {
    packets: u64,
    bytes: u64,
    chain: &'a str,
    rule: &'a str,
}

impl<'a> Counted<'a> {
    /// Before the rule or, in older ebtables, behind it.
    fn parse(line: &'a str) -> Option<Self> {
        let (counters, rest) = if let Some(counted) = line.strip_prefix('[') {
            counted.split_once("] ")?
        } else {
            let (rest, counters) = line.trim_end().rsplit_once(" -c ")?;
            (counters, rest)
        };
        let (packets, bytes) = counters.split_once([':', ' '])?;
        let rule = rest.strip_prefix("-A ")?;
        let (chain, rule) = rule.split_once(' ')?;
        Some(Self {
            packets: packets.parse().ok()?,
            bytes: bytes.parse().ok()?,
            chain: chain.strip_prefix("sgagent_")?,
            rule: rule.trim(),
        })
    }

    fn dropped(&self, nic: Option<NicNumber>, reason: Reason) -> Dropped {
        let Self { packets, bytes, .. } = *self;
        Dropped {
            nic,
            reason,
            packets,
            bytes,
        }
    }

    /// The first rule of a reason's chain that all of it passes.
    fn in_all(&self) -> Option<Dropped> {
        let code = self.chain.strip_prefix("drop_")?;
        let reason = Reason::of_code(code.parse().ok()?)?;
        let rule = self.rule.to_ascii_lowercase();
        rule.starts_with("-j mark ")
            .then(|| self.dropped(None, reason))
    }

    /// A rule of a chain that is a NIC's.
    fn nic(&self) -> Option<NicNumber> {
        let (kind, number) = self.chain.split_once('_')?;
        let ours = OF_NIC.contains(&kind);
        ours.then(|| number.parse().ok())?.map(NicNumber)
    }

    /// Of a table of ip6tables: by the reason in the mark, or the last.
    fn of_nic(&self, last: Reason) -> Option<Dropped> {
        let nic = self.nic()?;
        let rule = self.rule.strip_suffix("-j DROP")?;
        let reason = match rule.trim().strip_prefix("-m mark --mark 0x") {
            Some(mark) => {
                let (value, _) = mark.split_once('/')?;
                Reason::of_code(u8::try_from(u32::from_str_radix(value, 16).ok()? >> 24).ok()?)?
            }
            None if rule.is_empty() => last,
            None => return None,
        };
        Some(self.dropped(Some(nic), reason))
    }
}

/// Of ebtables: by the chain that it sends frames to.
fn of_port(rule: &Counted<'_>) -> Option<Dropped> {
    let nic = rule.nic()?;
    let (_, code) = rule.rule.rsplit_once("-j sgagent_drop_")?;
    let reason = Reason::of_code(code.parse().ok()?)?;
    Some(rule.dropped(Some(nic), reason))
}

fn all(printed: &str, of: impl Fn(&Counted<'_>) -> Option<Dropped>) -> Vec<Dropped> {
    let rules = printed.lines().filter_map(Counted::parse);
    let found = rules.filter_map(|rule| rule.in_all().or_else(|| of(&rule)));
    found.filter(|dropped| dropped.packets > 0).collect()
}

/// The counters of table raw.
pub(super) fn raw(printed: &str) -> Vec<Dropped> {
    let last = RAW.last().copied();
    all(printed, |rule| rule.of_nic(last?))
}

/// The counters of table mangle.
pub(super) fn mangle(printed: &str) -> Vec<Dropped> {
    let last = MANGLE.last().copied();
    all(printed, |rule| rule.of_nic(last?))
}

/// The counters of the bridge.
pub(super) fn frames(printed: &str) -> Vec<Dropped> {
    all(printed, of_port)
}

/// What the kernel has put into sets of ours.
pub(super) fn learned(printed: &str) -> Learned {
    let mut learned = Learned::default();
    for line in printed.lines() {
        let mut words = line.split_whitespace();
        let (Some("add"), Some(set), Some(member)) = (words.next(), words.next(), words.next())
        else {
            continue;
        };
        let Ok(address) = member.parse::<Ipv6Addr>() else {
            continue;
        };
        if set == "sgagent_routers" {
            learned.heard_routers.insert(address);
        } else if let Some(number) = set.strip_prefix("sgagent_claims_")
            && let Ok(number) = number.parse()
        {
            learned
                .claims
                .entry(NicNumber(number))
                .or_default()
                .insert(address);
        }
    }
    learned
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(all: Vec<Dropped>) -> Vec<(Option<u32>, Reason, u64, u64)> {
        let pick = |d: Dropped| (d.nic.map(|nic| nic.0), d.reason, d.packets, d.bytes);
        all.into_iter().map(pick).collect()
    }

    #[test]
    fn packets_are_counted_in_all_and_by_nic() {
        let printed = "*raw\n:sgagent_nic_7 - [0:0]\n\
            [9:1] -A sgagent_drop_11 -m mark ! --mark 0x60000000/0xf8000000 -j MARK --set-xmark 0x0/0xffffffff\n\
            [4:300] -A sgagent_drop_11 -j MARK --set-xmark 0xb000000/0xff000000\n\
            [4:300] -A sgagent_drop_11 -g sgagent_dropped\n\
            [2:3] -A sgagent_nic_7 -m limit --limit 5/sec --limit-burst 10 -j NFLOG --nflog-prefix sgagent_7 --nflog-group 21351\n\
            [3:200] -A sgagent_nic_7 -m mark --mark 0xb000000/0xff000000 -j DROP\n\
            [0:0] -A sgagent_nic_7 -m mark --mark 0x4000000/0xff000000 -j DROP\n\
            [1:8] -A sgagent_nic_7 -j DROP\n\
            [5:5] -A other -j DROP\nCOMMIT\n";
        let wanted = [
            (None, Reason::SpoofedSource, 4, 300),
            (Some(7), Reason::SpoofedSource, 3, 200),
            (Some(7), Reason::Mld, 1, 8),
        ];
        assert_eq!(found(raw(printed)), wanted);
    }

    #[test]
    fn frames_are_counted_by_the_rules_that_drop_them() {
        let wanted = [
            (Some(3), Reason::SpoofedMac, 2, 90),
            (Some(3), Reason::NotForNic, 1, 60),
            (None, Reason::SpoofedMac, 3, 150),
        ];
        let printed = "[2:90] -A sgagent_sent_3 -j sgagent_drop_2\n\
            [1:60] -A sgagent_got_3 -j sgagent_drop_15\n\
            [8:9] -A sgagent_got_3 -d Multicast -j sgagent_nic_3\n\
            [3:150] -A sgagent_drop_2 -j mark --mark-set 0x2000000 --mark-target CONTINUE\n\
            [3:150] -A sgagent_drop_2 -j DROP\n";
        assert_eq!(found(frames(printed)), wanted);
        let older = "-A sgagent_sent_3 -j sgagent_drop_2 -c 2 90\n\
            -A sgagent_got_3 -j sgagent_drop_15 -c 1 60\n\
            -A sgagent_drop_2 -j mark --mark-set 0x2000000 --mark-target CONTINUE -c 3 150\n";
        assert_eq!(found(frames(older)), wanted);
    }

    #[test]
    fn claims_and_routers_are_found() {
        let learned = learned(
            "create sgagent_routers hash:ip family inet6 timeout 7200\n\
             add sgagent_routers fe80::1 timeout 7000\n\
             add sgagent_claims_12 fe80::2 timeout 3000\n\
             add sgagent_probes_12 ff02::1:ff00:2 timeout 3000\nadd others fe80::3\n",
        );
        assert_eq!(learned.heard_routers, ["fe80::1".parse().unwrap()].into());
        let claims = [(NicNumber(12), ["fe80::2".parse().unwrap()].into())];
        assert_eq!(learned.claims, claims.into());
    }
}
