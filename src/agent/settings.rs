//! The few settings of the host, outside our tables, that rows of packet-policy need.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use tracing::{info, warn};

use crate::{
    agent::drift::Drifts,
    link::{Host, Setting},
    model::{IfName, Interfaces},
};

/// What one fragment waiting for reassembly costs the kernel (G15).
const FRAGMENT_OCTETS: u64 = 2_560;

/// What the host's settings are to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostPolicy {
    /// Whether managed bridges pass IPv6 to the ip6 family (placement `br_netfilter`).
    pub nf_call_ip6tables: bool,
    /// The longest that fragments wait for the others, in seconds (G15).
    pub fragment_timeout: u64,
    /// How much memory fragments may take, in octets (G15).
    pub fragment_memory: u64,
    /// Multicast groups of one guest's port on snooping bridges (G16).
    pub multicast_groups: u64,
    /// Fragments that a NIC may send in a second, to warn of too little memory.
    pub fragments_per_second: u64,
    /// Fragments that a NIC may send at once.
    pub fragment_burst: u64,
}

/// A setting to change: what it is, and what it is to be on which interface.
pub(super) type Found = (Setting, u64, (u64, Where));

/// The index of a setting's interface, and how often that became a port since it is known.
type Where = (u32, u32);

/// What was found and done so far.
#[derive(Debug)]
pub(super) struct Settings {
    policy: HostPolicy,
    /// What was as wanted, with the interface that it was seen on: a new interface of an
    /// old name has new settings.
    settled: BTreeMap<Setting, Where>,
    unsupported: BTreeSet<&'static str>,
    warnings: BTreeMap<Setting, String>,
    /// Bridges whose frames are handled in a way that costs something, and what.
    costly: Vec<String>,
    listed: Vec<String>,
}

impl Settings {
    pub(super) fn new(policy: HostPolicy) -> Self {
        Self {
            policy,
            settled: BTreeMap::new(),
            unsupported: BTreeSet::new(),
            warnings: BTreeMap::new(),
            costly: Vec::new(),
            listed: Vec::new(),
        }
    }

    /// Settings that this kernel does not have.
    pub(super) fn unsupported(&self) -> &BTreeSet<&'static str> {
        &self.unsupported
    }

    /// What could not be read or set.
    pub(super) fn warnings(&self) -> &[String] {
        &self.listed
    }

    /// G15: whether all NICs together can fill the memory for fragments.
    pub(super) fn memory_warning(&self, nics: usize) -> Option<String> {
        let HostPolicy {
            fragment_timeout,
            fragments_per_second,
            fragment_burst,
            ..
        } = self.policy;
        let one = fragments_per_second
            .saturating_mul(fragment_timeout)
            .saturating_add(fragment_burst)
            .saturating_mul(FRAGMENT_OCTETS);
        let all = one.saturating_mul(u64::try_from(nics).unwrap_or(u64::MAX));
        (all > self.policy.fragment_memory).then(|| {
            format!(
                "{nics} NICs that send fragments at their limit need {} MiB for reassembly; \
                 fragment_memory is {} MiB",
                all >> 20,
                self.policy.fragment_memory >> 20
            )
        })
    }

    /// Looks at every setting that was not as wanted, or not there, when it was last
    /// looked at.
    pub(super) async fn examine<H: Host>(
        &mut self,
        host: &H,
        interfaces: &Interfaces,
        on_record: &BTreeMap<String, u64>,
        drifts: &mut Drifts,
    ) -> Vec<Found> {
        let wanted = self.wanted(interfaces);
        let there: BTreeMap<_, _> = wanted.iter().map(|(s, _, place)| (s, place)).collect();
        self.settled
            .retain(|setting, place| there.get(setting) == Some(&&*place));
        self.warnings
            .retain(|setting, _| there.contains_key(setting));
        drifts.keep_settings(|setting| self.settled.contains_key(setting));
        let mut found = Vec::new();
        for (setting, value, place) in wanted {
            let settled = self.settled.contains_key(&setting);
            if self.unsupported.contains(kind(&setting)) {
                continue;
            }
            // Ports are many: they are looked at when they are new, and when the kernel
            // tells of another value. All else is, each time.
            let told = told(&setting, interfaces, place);
            if let Setting::MulticastMaxGroups(_) = setting
                && settled
                && told.is_none_or(|now| now == value || suffices(&setting, now, value))
            {
                continue;
            }
            match host.get(&setting).await {
                // Connection tracking may not be loaded yet.
                Ok(None) if matches!(setting, Setting::Frag6Timeout | Setting::Frag6HighThresh) => {
                    let warning = format!("{setting} is not there (yet)");
                    self.warnings.insert(setting, warning);
                }
                Ok(None) => {
                    self.unsupported.insert(kind(&setting));
                }
                Ok(Some(now)) if now == value => self.settle(setting, place, drifts),
                // What we did not set ourselves may be stricter or roomier.
                Ok(Some(now))
                    if !on_record.contains_key(&key(&setting))
                        && suffices(&setting, now, value) =>
                {
                    self.settle(setting, place, drifts);
                }
                Ok(Some(now)) => {
                    if settled {
                        drifts.setting_changed(&setting, now, value);
                    }
                    found.push((setting, now, (value, place)));
                }
                Err(error) => {
                    self.warnings.insert(setting, in_full(&error));
                }
            }
        }
        self.costs(host, interfaces).await;
        self.list();
        found
    }

    /// Behind `br_netfilter` the fragments of a joined packet keep their tags but for the first
    /// (`br_handle_vlan`, `br_nf_push_frag_xmit`). Where the bridge tracks connections itself,
    /// showing its frames to ip6tables as well is somebody else's doing; whoever did it may need it.
    async fn costs<H: Host>(&mut self, host: &H, interfaces: &Interfaces) {
        self.costly.clear();
        if self.policy.nf_call_ip6tables {
            let filtering = filtering_bridges(interfaces);
            self.costly.extend(filtering.map(|bridge| {
                format!(
                    "bridge {bridge} filters VLANs: behind br_netfilter all but the first of the \
                     fragments that come by a trunk keep their tag, and guests can't join them; \
                     placement bridge can"
                )
            }));
            return;
        }
        let everywhere = matches!(host.get(&Setting::AllNfCallIp6tables).await, Ok(Some(1)));
        for (bridge, _) in interfaces.managed_bridges() {
            let setting = Setting::NfCallIp6tables(bridge.name.clone());
            let here = matches!(host.get(&setting).await, Ok(Some(1)));
            let who = match (everywhere, here) {
                (_, true) => &setting,
                (true, false) => &Setting::AllNfCallIp6tables,
                (false, false) => continue,
            };
            self.costly.push(format!(
                "bridge {}: {who} is on: its IPv6 is tracked twice, which costs double, and \
                 what the host drops in FORWARD its guests lose",
                bridge.name
            ));
        }
    }

    fn settle(&mut self, setting: Setting, place: Where, drifts: &mut Drifts) {
        self.warnings.remove(&setting);
        drifts.setting_restored(&setting);
        self.settled.insert(setting, place);
    }

    /// Changes settings that are on record.
    pub(super) async fn set<H: Host>(&mut self, host: &H, found: &[Found], drifts: &mut Drifts) {
        for (setting, before, (value, place)) in found {
            match host.set(setting, *value).await {
                Ok(()) => {
                    info!(%setting, before, value, "changed a setting of the host");
                    self.settle(setting.clone(), *place, drifts);
                }
                Err(error) => {
                    let error = in_full(&error);
                    if self.warnings.get(setting) != Some(&error) {
                        warn!(error, "a setting of the host could not be changed");
                    }
                    self.warnings.insert(setting.clone(), error);
                }
            }
        }
        self.list();
    }

    /// What was found could not be put on record.
    pub(super) fn postponed(&mut self, why: &str) {
        self.listed
            .push(format!("settings of the host were not changed: {why}"));
    }

    /// What is on record of bridges that are managed no more.
    pub(super) fn stale(
        &self,
        interfaces: &Interfaces,
        on_record: &BTreeMap<String, u64>,
    ) -> BTreeMap<String, u64> {
        let wanted: BTreeSet<_> = self
            .wanted(interfaces)
            .iter()
            .map(|(setting, _, _)| key(setting))
            .collect();
        let stale = on_record.iter().filter(|(name, _)| !wanted.contains(*name));
        stale.map(|(name, value)| (name.clone(), *value)).collect()
    }

    fn list(&mut self) {
        self.listed = self
            .warnings
            .values()
            .chain(&self.costly)
            .cloned()
            .collect();
    }

    fn wanted(&self, interfaces: &Interfaces) -> Vec<Found3> {
        let mut wanted = Vec::new();
        for (bridge, config) in interfaces.managed_bridges() {
            let name = || bridge.name.clone();
            let place = (bridge.index, 0);
            wanted.push((Setting::NoLinkLocalLearn(name()), 1, place));
            if self.policy.nf_call_ip6tables {
                wanted.push((Setting::NfCallIp6tables(name()), 1, place));
            }
            if bridge.multicast_snooping {
                for port in interfaces.ports_of(bridge.index) {
                    if !interfaces.is_uplink(port, config) {
                        let setting = Setting::MulticastMaxGroups(port.name.clone());
                        let told = interfaces.settings.get(&port.index);
                        let place = (port.index, told.map_or(0, |told| told.joined));
                        wanted.push((setting, self.policy.multicast_groups, place));
                    }
                }
            }
        }
        // What comes by a trunk still has its tag where br_netfilter looks first.
        let trunks = filtering_bridges(interfaces).next().is_some();
        if trunks && self.policy.nf_call_ip6tables {
            wanted.push((Setting::FilterVlanTagged, 1, (0, 0)));
        }
        if !wanted.is_empty() {
            wanted.push((
                Setting::Frag6HighThresh,
                self.policy.fragment_memory,
                (0, 0),
            ));
            wanted.push((Setting::Frag6Timeout, self.policy.fragment_timeout, (0, 0)));
        }
        wanted
    }
}

/// A setting, what it is to be, and on which interface.
type Found3 = (Setting, u64, Where);

/// The managed bridges that filter VLANs.
fn filtering_bridges(interfaces: &Interfaces) -> impl Iterator<Item = &IfName> {
    let filters = |index| {
        interfaces
            .settings
            .get(index)
            .is_some_and(|told| told.vlan_filtering)
    };
    let managed = interfaces.managed_bridges().into_iter();
    managed
        .filter(move |(bridge, _)| filters(&bridge.index))
        .map(|(bridge, _)| &bridge.name)
}

/// What the kernel told of a port's setting without being asked.
fn told(setting: &Setting, interfaces: &Interfaces, (index, _): Where) -> Option<u64> {
    match setting {
        Setting::MulticastMaxGroups(_) => {
            let told = interfaces.settings.get(&index)?;
            told.multicast_max_groups.map(u64::from)
        }
        Setting::NoLinkLocalLearn(_)
        | Setting::NfCallIp6tables(_)
        | Setting::AllNfCallIp6tables
        | Setting::FilterVlanTagged
        | Setting::Frag6Timeout
        | Setting::Frag6HighThresh => None,
    }
}

/// Whether a value will do. Memory may be more than wanted and a wait shorter: the
/// operator had a reason.
fn suffices(setting: &Setting, now: u64, wanted: u64) -> bool {
    match setting {
        Setting::Frag6HighThresh => now >= wanted,
        Setting::Frag6Timeout => now <= wanted,
        Setting::MulticastMaxGroups(_) => now != 0 && now <= wanted,
        Setting::NoLinkLocalLearn(_)
        | Setting::NfCallIp6tables(_)
        | Setting::AllNfCallIp6tables
        | Setting::FilterVlanTagged => now == wanted,
    }
}

fn kind(setting: &Setting) -> &'static str {
    match setting {
        Setting::NoLinkLocalLearn(_) => "no_linklocal_learn",
        Setting::NfCallIp6tables(_) => "nf_call_ip6tables",
        Setting::MulticastMaxGroups(_) => "mcast_max_groups",
        Setting::Frag6Timeout => "nf_conntrack_frag6_timeout",
        Setting::Frag6HighThresh => "nf_conntrack_frag6_high_thresh",
        Setting::AllNfCallIp6tables => "bridge-nf-call-ip6tables",
        Setting::FilterVlanTagged => "bridge-nf-filter-vlan-tagged",
    }
}

/// The name of a setting on record.
pub(super) fn key(setting: &Setting) -> String {
    serde_json::to_string(setting).unwrap_or_else(|_| setting.to_string())
}

/// Takes settings of interfaces that are gone off the record: they went with these.
pub(super) fn forget_absent(on_record: &mut BTreeMap<String, u64>, interfaces: &Interfaces) {
    let there: BTreeSet<_> = interfaces.links.values().map(|link| &link.name).collect();
    on_record.retain(|name, _| match serde_json::from_str(name) {
        Ok(
            Setting::NoLinkLocalLearn(interface)
            | Setting::NfCallIp6tables(interface)
            | Setting::MulticastMaxGroups(interface),
        ) => there.contains(&interface),
        Ok(
            Setting::Frag6Timeout
            | Setting::Frag6HighThresh
            | Setting::AllNfCallIp6tables
            | Setting::FilterVlanTagged,
        )
        | Err(_) => true,
    });
}

/// Puts settings back to what they were; says which could not be, and why. An interface
/// that is gone took its settings with it.
pub async fn restore<H: Host>(
    host: &H,
    on_record: &BTreeMap<String, u64>,
) -> BTreeMap<String, String> {
    let mut failed = BTreeMap::new();
    for (name, before) in on_record {
        let Ok(setting) = serde_json::from_str::<Setting>(name) else {
            let why = format!("{name} is no setting that this version knows");
            failed.insert(name.clone(), why);
            continue;
        };
        if !matches!(host.get(&setting).await, Ok(Some(_))) {
            continue;
        }
        match host.set(&setting, *before).await {
            Ok(()) => info!(%setting, value = before, "restored a setting of the host"),
            Err(error) => {
                failed.insert(name.clone(), in_full(&error));
            }
        }
    }
    failed
}

/// An error with its causes.
pub(super) fn in_full(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text = format!("{text}: {inner}");
        cause = inner.source();
    }
    text
}
