#!/usr/bin/env bash
# Whether the packaged unit works where systemd runs it: as a user of its own, with one capability, in
# its sandbox. To be run in the emulated machine, by `make test-systemd`:
#
#     tests/vm/unit.sh DIRECTORY    where sgagent and sgctl are
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

# It installs, and makes users: nowhere but where all of that is thrown away.
[[ -f /run/vm/job ]] || { echo "$0: this is not the emulated machine" >&2; exit 1; }

# shellcheck source=tests/package/lib.sh
. tests/package/lib.sh
# This machine is slow.
soon() { within 30 "$@"; }
status_has() { grep -qE "$1" "/proc/$(systemctl show -P MainPID sgagent)/status"; }
# As libvirt calls it (qemuProcessStartHook), for a guest with this interface.
hook() { # OPERATION MAC
    echo "<domain><devices><interface type='bridge'><mac address='$2'/><source bridge='br0'/><target dev='vnet0'/></interface></devices></domain>" |
        SGAGENT_WAIT=1 /etc/libvirt/hooks/qemu.d/sgagent www "$1" begin -
}
scrape() { python3 -c 'from urllib.request import urlopen; print(urlopen("http://[::1]:9874/metrics").read().decode())'; }

modprobe -a tun bridge
install -m 755 "$1"/{sgagent,sgctl} /usr/bin
install -D -m 644 packaging/sgagent.toml /etc/sgagent/sgagent.toml
cat >>/etc/sgagent/sgagent.toml <<'CONFIGURATION'
[[bridges]]
name = "br0"
uplinks = ["uplink0"]
adopted = true    # its ports are there before what is started here as at a boot
[[clients]]
group = "sgagent"
role = "inspect"
CONFIGURATION
sed -i 's/^metrics_listen = .*/metrics_listen = ["[::1]:9874"]/' /etc/sgagent/sgagent.toml
install -m 644 packaging/sgagent{,-boot}.service /etc/systemd/system
install -D -m 755 packaging/libvirt/sgagent /etc/libvirt/hooks/qemu.d/sgagent
useradd --system --user-group --no-create-home --shell /usr/sbin/nologin sgagent
useradd --no-create-home --user-group --groups sgagent ada
systemctl daemon-reload

ip link add br0 type bridge
ip link set br0 up
for name in uplink0 vnet0; do
    ip tuntap add "$name" mode tap
    ip link set "$name" master br0 up
done
ip link set vnet0 address fe:00:00:00:00:01
cat >/run/nic.yaml <<'NIC'
groups: [{id: g}]
nics:
- {id: nic-1, mac: "06:00:00:00:00:01", interfaces: [{name: vnet0}], slaac_prefix: "2001:db8::/64", group_ids: [g]}
NIC

for unit in sgagent sgagent-boot; do
    exposure=$(systemd-analyze security --no-pager $unit.service | sed -n 's/.*Overall exposure level for [^:]*: \([0-9.]*\).*/\1/p')
    check "exposure_of_${unit}_is_at_most_2 ($exposure)" awk -v e="$exposure" 'BEGIN { exit !(e != "" && e <= 2.0) }'
done
rules_are_there() { says @port_in nft list chain bridge sgagent guard; }
# Until somebody ends it; who is refused ends by itself.
follows() {
    local code=0
    timeout 4 sgctl drops --follow || code=$?
    ((code == 124))
}
before() { [[ " $(systemctl show -P Before sgagent-boot) " == *" $1 "* ]]; }
check it_boots_before_the_network before network-pre.target
check and_before_anybody_starts_guests before libvirtd.service
check a_boot_without_a_state_closes systemctl start sgagent-boot
check with_its_rules rules_are_there
check it_starts systemctl start sgagent
check it_is_not_root status_has "^Uid:[[:space:]]+$(id -u sgagent)[[:space:]]"
# CAP_NET_ADMIN is bit 12 (linux/capability.h).
check it_has_one_capability status_has '^CapEff:[[:space:]]+0000000000001000$'
check its_children_get_no_more status_has '^CapBnd:[[:space:]]+0000000000001000$'
check system_calls_are_filtered status_has '^Seccomp:[[:space:]]+2$'
check a_nic_is_bound soon says ACTIVE sgctl apply /run/nic.yaml
# A flush leaves elements, and takes rules.
check its_rules_are_in_the_kernel rules_are_there
check and_its_elements says vnet0 nft list map bridge sgagent nic_mark
check a_guest_may_start_whose_nic_is_in_force hook start 06:00:00:00:00:01
check no_other_may says 'bound to NIC nic-1, whose MAC is 06:00:00:00:00:01' hook start 06:00:00:00:00:02
check libvirt_is_not_held_up_otherwise hook stopped 06:00:00:00:00:02
check settings_of_the_network_are_its_own soon is 3 sysctl -n net.netfilter.nf_conntrack_frag6_timeout
check settings_of_the_bridge_too says 'no_linklocal_learn 1' ip -d link show br0
nft flush table bridge sgagent
check what_somebody_flushed_comes_back soon rules_are_there
check the_log_says_who_flushed soon says 'by="nft (pid' journalctl -u sgagent --no-pager
check as_a_warning says 'somebody changed the rules' journalctl -u sgagent -p warning --no-pager
check the_journal_knows_the_nic says 'bound nic=nic-1' journalctl SGAGENT_NIC=nic-1 --no-pager
check and_what_it_is_not says 'No entries' journalctl SGAGENT_NIC=nic-2 --no-pager
check metrics_are_told says 'sgagent_nics{state="active"} 1' scrape
check those_of_the_process_too says 'process_resident_memory_bytes ' scrape
check and_of_the_table_of_flows says 'sgagent_conntrack_entries_limit ' scrape
check drops_can_be_followed follows
check what_happened_is_known says 'bound  nic-1  vnet0 on br0' sgctl events
check an_operator_may_read says nic-1 setpriv --reuid ada --regid ada --init-groups sgctl nics
check an_operator_changes_nothing says 'needs the role push' \
    setpriv --reuid ada --regid ada --init-groups sgctl apply /run/nic.yaml
check nobody_else_gets_in says 'Permission denied' \
    setpriv --reuid nobody --regid nogroup --clear-groups sgctl nics
systemctl kill --signal KILL sgagent
check it_comes_back_when_it_is_killed soon says ACTIVE sgctl nics
check it_stops systemctl stop sgagent
check its_rules_stay rules_are_there
check the_hook_says_that_nobody_answers says 'cannot reach the agent' hook start 06:00:00:00:00:01

# As after a boot: nothing in the kernel, and what was acknowledged on disk.
as_after_a_boot() {
    systemctl stop sgagent-boot
    nft flush ruleset
}
as_after_a_boot
check a_boot_puts_in_force_what_was_acknowledged systemctl start sgagent-boot
check and_it_is_there says vnet0 nft list map bridge sgagent nic_mark
as_after_a_boot
: >/var/lib/sgagent/state.redb
check a_boot_with_a_damaged_state_has_failed says failed systemctl start sgagent-boot
check and_has_closed_all_the_same rules_are_there
check with_nobodys_port lacks "$(nft list map bridge sgagent nic_mark)" vnet0
check and_says_so soon says "guests' ports are closed" journalctl -u sgagent-boot --no-pager

# As on a host of Xen. What belonged to the user is root's then.
as_after_a_boot
rm /var/lib/sgagent/state.redb
systemctl start sgagent
sgctl sync /run/nic.yaml >/dev/null
for unit in sgagent sgagent-boot; do install -D -m 644 packaging/xen/sgagent.conf /etc/systemd/system/$unit.service.d/xen.conf; done
systemctl daemon-reload
systemctl stop sgagent
as_after_a_boot
check on_xen_a_boot_puts_it_in_force_as_well systemctl restart sgagent-boot
check its_agent_starts systemctl start sgagent
check it_is_root_then status_has '^Uid:[[:space:]]+0[[:space:]]'
check with_one_capability_all_the_same status_has '^CapEff:[[:space:]]+0000000000001000$'
check it_finds_what_was_acknowledged soon says ACTIVE sgctl nics
check its_clients_are_the_same says nic-1 setpriv --reuid ada --regid ada --init-groups sgctl nics

# On ip6tables, the legacy one. What the agent left of nftables goes when it is back.
sed -i 's/^dataplane = .*/dataplane = "ip6tables"/; s/^ip6tables = .*/ip6tables = "ip6tables-legacy"/
    s/^ebtables = .*/ebtables = "ebtables-nft"/' /etc/sgagent/sgagent.toml
for unit in sgagent sgagent-boot; do
    rm /etc/systemd/system/$unit.service.d/xen.conf
    install -m 644 packaging/ip6tables/sgagent.conf /etc/systemd/system/$unit.service.d/ip6tables.conf
done
systemctl daemon-reload
guard() { says '-A sgagent_guard ' ip6tables-legacy-save -t raw; }
check with_ip6tables_it_starts systemctl restart sgagent
check on_ip6tables soon says 'dataplane   ip6tables' sgctl status
check with_two_capabilities status_has '^CapEff:[[:space:]]+0000000000003000$'
check and_no_more_for_its_children status_has '^CapBnd:[[:space:]]+0000000000003000$'
check its_nic_is_bound soon says ACTIVE sgctl nics
check its_guard_is_there guard
check of_nftables_nothing_is_left lacks "$(nft list tables)" sgagent
check it_sees_fragments lacks "$(sgctl status)" raw_before_defrag
systemctl stop sgagent sgagent-boot
check it_stops_and_its_guard_stays guard
for table in raw mangle; do ip6tables-legacy -t $table -F && ip6tables-legacy -t $table -X; done
check a_boot_puts_its_guard_in_force systemctl start sgagent-boot
check and_it_is_in_force guard
finish
