#!/usr/bin/env bash
# Whether the packaged unit works where systemd runs it: as a user of its own, with one capability, in
# its sandbox. To be run in the emulated machine, by `make test-systemd`:
#
#     tests/vm/unit.sh DIRECTORY    where sgagent and sgctl are
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

# It installs, and makes users: nowhere but where all of that is thrown away.
[[ -f /run/vm/job ]] || { echo "$0: this is not the emulated machine" >&2; exit 1; }

passed=0 failed=0
check() {
    local claim=$1
    shift
    if "$@"; then
        echo "test $claim ... ok"
        passed=$((passed + 1))
    else
        echo "test $claim ... FAILED"
        failed=$((failed + 1))
    fi
}
# Until a command succeeds, for half a minute.
soon() {
    for _ in {1..60}; do
        ! "$@" >/dev/null 2>&1 || return 0
        sleep 0.5
    done
    "$@"
}
# Whether a command prints a text, whatever becomes of it.
says() { # TEXT COMMAND..
    local output
    output=$("${@:2}" 2>&1) || true
    [[ $output == *"$1"* ]]
}
status_has() { grep -qE "$1" "/proc/$(systemctl show -P MainPID sgagent)/status"; }
scrape() { python3 -c 'from urllib.request import urlopen; print(urlopen("http://[::1]:9874/metrics").read().decode())'; }
is() { [[ $("${@:2}") == "$1" ]]; }

modprobe -a tun bridge
install -m 755 "$1"/{sgagent,sgctl} /usr/bin
install -D -m 644 packaging/sgagent.toml /etc/sgagent/sgagent.toml
cat >>/etc/sgagent/sgagent.toml <<'CONFIGURATION'
[[bridges]]
name = "br0"
uplinks = ["uplink0"]
[[clients]]
group = "sgagent"
role = "inspect"
CONFIGURATION
sed -i 's/^metrics_listen = .*/metrics_listen = ["[::1]:9874"]/' /etc/sgagent/sgagent.toml
install -m 644 packaging/sgagent.service /etc/systemd/system
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

exposure=$(systemd-analyze security --no-pager sgagent.service | sed -n 's/.*Overall exposure level for [^:]*: \([0-9.]*\).*/\1/p')
check "exposure_is_at_most_2 ($exposure)" awk -v e="$exposure" 'BEGIN { exit !(e != "" && e <= 2.0) }'
check it_starts systemctl start sgagent
check it_is_not_root status_has "^Uid:[[:space:]]+$(id -u sgagent)[[:space:]]"
# CAP_NET_ADMIN is bit 12 (linux/capability.h).
check it_has_one_capability status_has '^CapEff:[[:space:]]+0000000000001000$'
check its_children_get_no_more status_has '^CapBnd:[[:space:]]+0000000000001000$'
check system_calls_are_filtered status_has '^Seccomp:[[:space:]]+2$'
check a_nic_is_bound soon says ACTIVE sgctl apply /run/nic.yaml
# A flush leaves elements, and takes rules.
rules_are_there() { says @port_in nft list chain bridge sgagent guard; }
check its_rules_are_in_the_kernel rules_are_there
check and_its_elements says vnet0 nft list map bridge sgagent nic_mark
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
check an_operator_may_read says nic-1 setpriv --reuid ada --regid ada --init-groups sgctl nics
check an_operator_changes_nothing says 'needs the role push' \
    setpriv --reuid ada --regid ada --init-groups sgctl apply /run/nic.yaml
check nobody_else_gets_in says 'Permission denied' \
    setpriv --reuid nobody --regid nogroup --clear-groups sgctl nics
systemctl kill --signal KILL sgagent
check it_comes_back_when_it_is_killed soon says ACTIVE sgctl nics
check it_stops systemctl stop sgagent
check its_rules_stay rules_are_there

echo "$passed passed, $failed failed"
((failed == 0))
