#!/usr/bin/env bash
# packaging/bootstrap.sh on hosts of which each has something else missing.
#
#     tests/package/bootstrap.sh DIRECTORY    where packaging/build leaves packages; in namespaces (tests/run.sh)
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
# shellcheck source=tests/package/lib.sh
. tests/package/lib.sh
# shellcheck source=tests/package/net.sh
. tests/package/net.sh

fresh() {
    new_host "$1/bookworm"
    cp "$1"/*.deb "$1"/newer/*.deb packaging/bootstrap.sh "$host/packages"
    cp packaging/sgagent.toml "$host/packages/site.toml"
    manage_br0 "$host/packages/site.toml"
}
bootstrap() { inside /packages/bootstrap.sh "$@" </dev/null; }
# Every file of the host with what it is, and what the kernel has. dpkg-deb reads a package by way of a
# file in /tmp, which is gone afterwards.
everything() {
    (cd "$host" && find ./* -xdev -path ./tmp -prune -o -path ./proc -prune -o -path ./sys -prune -o -path ./dev -prune -o -path ./run/init.log -prune -o \
        -printf '%p %m %u %s %T@ %l\n' | LC_ALL=C sort)
    nft list ruleset
    sysctl -a 2>/dev/null | grep '^net\.bridge' || true
}
# state NAME: what the last answer in JSON says of something.
state() { python3 -c 'import json, sys; print(*(c["state"] for c in json.load(sys.stdin)["checks"] if c["name"] == sys.argv[1]))' "$1" <<<"$output"; }
changed() { python3 -c 'import json, sys; print(len(json.load(sys.stdin)["changed"]))' <<<"$output"; }

# ---- the arguments
fresh "$1"
check help_says_the_exit_codes has "$(bootstrap --help)" '--check: something is missing, nothing is blocked'
check a_word_that_it_does_not_know_is_wrong exits 2 bootstrap --now
check a_file_that_is_not_there_is_wrong exits 2 bootstrap --package /packages/none
check nothing_to_install_is_wrong exits 2 bootstrap

# ---- a bare host
network
before=$(everything)
check a_check_says_that_something_is_missing exits 4 bootstrap --check --json --package /packages --config /packages/site.toml
check the_package is todo state package
check the_configuration is todo state config
check the_service is todo state service
check nft_is_there is ok state nft
check the_bridge_is_seen is ok state br0
check a_check_for_people_is_the_same exits 4 bootstrap --check --package /packages
check and_names_the_bridge_that_nobody_names has "$output" 'warning  br0'
check a_check_changes_nothing diff <(echo "$before") <(everything)

# ---- to a running agent
check it_makes_the_host_run_it exits 0 bootstrap --package /packages --config /packages/site.toml --json
check it_took_the_newest has "$(inside dpkg-query -W sgagent)" .1-1
check it_runs agent_runs
check it_is_enabled is enabled inside systemctl is-enabled sgagent.service
check its_configuration_is_the_one_given cmp "$host/packages/site.toml" "$host/etc/sgagent/sgagent.toml"
check what_was_there_is_kept cmp packaging/sgagent.toml "$host/etc/sgagent/sgagent.toml.before"
check nics_can_be_pushed soon has_nics
check guests_reach_each_other soon reaches
pid=$(agent)
check again_it_is_content exits 0 bootstrap --package /packages --config /packages/site.toml --json
check and_changes_nothing is 0 changed
check and_the_agent_is_the_same is "$pid" agent
check nothing_is_missing exits 0 bootstrap --check --config /packages/site.toml
inside systemctl stop sgagent.service
check who_has_stopped_it_is_told exits 4 bootstrap --check
check a_service_that_was_stopped_is_started exits 0 bootstrap
check it_runs_again agent_runs

# ---- on a host of Xen, as far as this file says it
printf '#!/bin/sh\ncase $* in *" /proc/xen/capabilities") exit 0 ;; esac\nexec /usr/bin/grep "$@"\n' >"$host/usr/local/sbin/grep"
chmod 755 "$host/usr/local/sbin/grep"
check of_xen_something_is_missing exits 4 bootstrap --check --json
check it_is_the_drop_ins is todo state xen
forget
check they_are_put_there exits 0 bootstrap --json
check beside_both_units is 3 changed
for unit in sgagent sgagent-boot; do
    check "as_the_package_has_it_for_$unit" cmp packaging/xen/sgagent.conf "$host/etc/systemd/system/$unit.service.d/xen.conf"
done
check systemd_reads_them_before_it_starts has "$(asked | grep -E 'daemon-reload| restart ')" $'daemon-reload\nsystemctl restart sgagent.service'
check once_they_are_there_it_is_content exits 0 bootstrap --check --json
check of_xen_too is ok state xen
rm "$host/usr/local/sbin/grep"
check elsewhere_nothing_is_said_of_xen exits 0 bootstrap --check --json
check nothing_at_all is '' state xen
check nor_of_ip6tables is '' state ip6tables

# ---- where the configuration is to name ip6tables; what puts Xen's drop-in there puts this one there
sed 's/^dataplane = .*/dataplane = "ip6tables"/' packaging/sgagent.toml >"$host/packages/older.toml"
check with_ip6tables_something_is_missing exits 4 bootstrap --check --json --config /packages/older.toml
check it_is_its_drop_ins is todo state ip6tables
for unit in sgagent sgagent-boot; do
    install -D -m 644 packaging/ip6tables/sgagent.conf "$host/etc/systemd/system/$unit.service.d/ip6tables.conf"
done
bootstrap --check --json --config /packages/older.toml >"$host/packages/answer" || true
check which_are_those_of_the_package is ok python3 -c '
import json, sys
print(*(c["state"] for c in json.load(sys.stdin)["checks"] if c["name"] == "ip6tables"))' <"$host/packages/answer"
rm -r "$host"/etc/systemd/system/sgagent{,-boot}.service.d/ip6tables.conf

# ---- what is wrong
echo 'nonsense = 1' >"$host/packages/wrong.toml"
check a_wrong_configuration_is_refused exits 3 bootstrap --config /packages/wrong.toml
check with_the_reason has "$output" nonsense
check and_the_one_before_stays cmp "$host/packages/site.toml" "$host/etc/sgagent/sgagent.toml"
echo nonsense >"$host/packages/wrong.deb"
check what_is_no_package_is_refused exits 3 bootstrap --package /packages/wrong.deb

# ---- hosts with something in the way
nft flush ruleset
fresh "$1"
check no_root_no_bootstrap exits 3 inside setpriv --reuid nobody --regid nogroup --clear-groups /packages/bootstrap.sh --package /packages
printf '#!/bin/sh\necho "nftables v0.9.3 (Topsy)"\n' >"$host/usr/local/sbin/nft"
chmod 755 "$host/usr/local/sbin/nft"
check an_old_nft_is_refused exits 3 bootstrap --package /packages
check with_the_version_that_is_needed has "$output" 'at least'
rm "$host/usr/local/sbin/nft"
ln -s ../../../../lib/systemd/system/nftables.service "$host/etc/systemd/system/sysinit.target.wants/nftables.service" 2>/dev/null ||
    { mkdir -p "$host/etc/systemd/system/sysinit.target.wants" && ln -s /lib/systemd/system/nftables.service "$host/etc/systemd/system/sysinit.target.wants/"; }
check a_flush_at_boot_is_told exits 4 bootstrap --check --json
check as_a_warning is warning state nftables
rmdir "$host/run/systemd/system"
check without_systemd_it_is_refused exits 3 bootstrap --package /packages
mkdir "$host/run/systemd/system"
ip link add ovs-system type bridge
ip link add vnet9 type veth peer name peer9
ip link set vnet9 master ovs-system
printf '#!/bin/sh\necho br-int\n' >"$host/usr/local/sbin/ovs-vsctl"
chmod 755 "$host/usr/local/sbin/ovs-vsctl"
check guests_on_open_vswitch_are_refused exits 3 bootstrap --package /packages
check with_what_to_do has "$output" 'Move them to Linux bridges'
check nothing_was_installed not inside dpkg-query -W sgagent
ip link delete vnet9
check other_use_of_open_vswitch_is_not exits 0 bootstrap --package /packages --json
check but_told is warning state openvswitch
finish
