#!/usr/bin/env bash
# Install, upgrade under traffic, remove, purge: what each does to a host, and what it says.
#
#     tests/package/deb.sh DIRECTORY    where packaging/build leaves packages; in namespaces (tests/run.sh)
# shellcheck disable=SC2016 # evaluated when it is checked
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
# shellcheck source=tests/package/lib.sh
. tests/package/lib.sh
# shellcheck source=tests/package/net.sh
. tests/package/net.sh

new_host "$1/bookworm"
cp "$1"/*.deb "$host/packages/first.deb"
cp "$1"/newer/*.deb "$host/packages/newer.deb"
dpkg_says() { output=$(inside dpkg "$@" 2>&1) || { printf '    dpkg %s: %s\n' "$*" "$output"; false; }; }
file_is() { is "$2" inside stat -c '%a %U:%G' "$1"; }

# ---- policy-rc.d is asked
forget
rm "$host/usr/local/sbin/deb-systemd-invoke"
printf '#!/bin/sh\nexit 101\n' >"$host/usr/sbin/policy-rc.d"
chmod 755 "$host/usr/sbin/policy-rc.d"
check it_installs dpkg_says -i /packages/first.deb
check where_the_host_says_so_nothing_starts not agent_runs
check and_it_is_enabled_all_the_same is enabled inside systemctl is-enabled sgagent.service
check purged_it_is_gone dpkg_says --purge sgagent
rm "$host/usr/sbin/policy-rc.d"
ln -s init-of-the-test "$host/usr/local/sbin/deb-systemd-invoke"

# ---- install
forget
before=$(nft list ruleset; sysctl -a 2>/dev/null | grep -E '^net\.(bridge|netfilter\.nf_conntrack_frag6)')
check it_installs_again dpkg_says -i /packages/first.deb
check its_user_is_there inside getent passwd sgagent
check its_user_logs_in_nowhere has "$(inside getent passwd sgagent)" /nologin
check the_programs_are_roots file_is /usr/bin/sgagent '755 root:root'
check the_configuration_may_be_read file_is /etc/sgagent/sgagent.toml '644 root:root'
check keys_may_be_read_by_the_agent_only file_is /etc/sgagent/tls '750 root:sgagent'
check the_configuration_is_a_conffile has "$(inside dpkg-query -W -f '${Conffiles}' sgagent)" /etc/sgagent/sgagent.toml
check it_is_enabled is enabled inside systemctl is-enabled sgagent.service
check it_was_started_as_policy_wants has "$(asked)" 'deb-systemd-invoke start sgagent.service'
check it_runs soon agent_runs
check it_is_not_root is "$(inside id -u sgagent)" stat -c %u "/proc/$(agent)"
check installing_changes_nothing_in_the_kernel \
    is "$before" eval 'nft list ruleset; sysctl -a 2>/dev/null | grep -E "^net\.(bridge|netfilter\.nf_conntrack_frag6)"'
check no_module_or_setting_comes_with_it not compgen -G "$host/usr/lib/modules-load.d/sgagent*"
check no_setting_comes_with_it not compgen -G "$host/usr/lib/sysctl.d/*sgagent*"
check all_files_are_as_packed is '' inside dpkg -V sgagent

# ---- upgrade, with an edited configuration, while packets flow
network
manage_br0 "$host/etc/sgagent/sgagent.toml"
inside systemctl restart sgagent.service
check it_says_what_it_waits_for soon waits
check nobody_is_cut_off_meanwhile reaches
check not_even_a_stranger reaches_from_stranger
check a_nic_is_bound soon has_nics
check guests_reach_each_other soon reaches
check who_was_not_described_reaches_nobody not reaches_from_stranger
edited=$(sha256sum <"$host/etc/sgagent/sgagent.toml")
pid=$(agent)
forget
rules=$(rules)
watch_begins
check an_upgrade_asks_nothing dpkg_says -i /packages/newer.deb
sleep 1
watch_ends
check the_agent_was_restarted_as_policy_wants has "$(asked)" 'deb-systemd-invoke restart sgagent.service'
check and_not_stopped_before lacks "$(asked)" 'deb-systemd-invoke stop'
check it_is_another_process test "$pid" != "$(agent)"
check its_configuration_is_kept is "$edited" eval 'sha256sum <"$host/etc/sgagent/sgagent.toml"'
check "no_packet_was_lost ($sent sent, $received received)" test "$sent" -gt 50 -a "$sent" = "$received"
check "nothing_opened ($strange packets of a stranger passed)" test "$strange" = 0
check the_rules_are_the_same is "$rules" rules
check the_nic_is_still_known has_nics

# ---- removal
check it_is_removed dpkg_says --remove sgagent
removal=$output
check the_agent_is_stopped not agent_runs
check it_says_that_the_rules_stay has "$removal" 'ITS RULES STAY IN THE KERNEL'
check it_says_what_happens_at_the_next_boot has "$removal" 'From the next boot on nothing protects'
while read -r _ family name; do
    [[ $name != sgagent ]] || check "it_says_how_to_open_$family" has "$removal" "nft delete table $family sgagent"
done < <(nft list tables)
check the_rules_do_stay is "$rules" rules
check guests_still_reach_each_other reaches
check a_stranger_still_reaches_nobody not reaches_from_stranger
check the_configuration_stays test -e "$host/etc/sgagent/sgagent.toml"
check what_was_acknowledged_stays test -e "$host/var/lib/sgagent/state.redb"
check it_comes_back dpkg_says -i /packages/newer.deb
check with_its_nics soon has_nics
check and_loses_nothing is "$rules" rules

# ---- purge
check it_is_purged dpkg_says --purge sgagent
check it_says_what_it_took has "$output" 'purged /etc/sgagent and /var/lib/sgagent'
check it_says_what_is_left has "$output" 'nft delete table bridge sgagent'
check the_configuration_is_gone not test -e "$host/etc/sgagent"
check what_was_acknowledged_is_gone not test -e "$host/var/lib/sgagent"
check even_so_nothing_opened is "$rules" rules
check nor_does_a_stranger_get_through not reaches_from_stranger
# Literally what it says opens the host.
mapfile -t commands < <(grep -o 'nft delete table .*' <<<"$removal")
for command in "${commands[@]}"; do $command; done
check what_it_says_opens_the_host soon reaches_from_stranger
check nothing_but_the_user_is_left is '' inside find / -xdev '(' -path /proc -o -path /sys -o -path /dev -o -path /packages -o -path /run ')' -prune -o -name '*sgagent*' -print

check installing_it_where_nothing_was_managed dpkg_says -i /packages/first.deb
check removing_it_there dpkg_says --remove sgagent
check says_that_nothing_is_left has "$output" 'The removal opens nothing and closes nothing'

finish
