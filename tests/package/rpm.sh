#!/usr/bin/env bash
# The rpm's scripts, run by rpm itself on a directory: install, upgrade, removal. Its Debian has no
# database of rpm's, so dependencies are not looked at here but in tests/package/files.sh.
#
#     tests/package/rpm.sh DIRECTORY    where packaging/build leaves packages; in namespaces (tests/run.sh)
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
# shellcheck source=tests/package/lib.sh
. tests/package/lib.sh
# shellcheck source=tests/package/net.sh
. tests/package/net.sh

new_host "$1/bookworm"
# rpm gives scripts a path of its own, and the stand-in for systemctl is to be found first.
rpm_says() { output=$(rpm --define '_install_script_path /usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin' --root "$host" --nodeps --nosignature "$@" 2>&1) || { printf '    %s\n' "$output"; false; }; }
old=$(echo "$1"/*.rpm) new=$(echo "$1"/newer/*.rpm)

# A host whose presets say no.
mkdir -p "$host/etc/systemd/system-preset"
echo 'disable *' >"$host/etc/systemd/system-preset/10-site.preset"
check it_installs rpm_says -i "$old"
check a_preset_of_the_host_is_followed is disabled inside systemctl is-enabled sgagent.service
check and_nothing_starts not agent_runs
check it_goes rpm_says -e sgagent
rm "$host/etc/systemd/system-preset/10-site.preset"

forget
check it_installs_again rpm_says -i "$old"
check its_user_is_there inside getent passwd sgagent
check its_user_logs_in_nowhere has "$(inside getent passwd sgagent)" nologin
check it_is_enabled is enabled inside systemctl is-enabled sgagent.service
check it_runs soon agent_runs
check keys_may_be_read_by_the_agent_only is '750 root:sgagent' inside stat -c '%a %U:%G' /etc/sgagent/tls

network
manage_br0 "$host/etc/sgagent/sgagent.toml"
inside systemctl restart sgagent.service
check a_nic_is_bound soon has_nics
check guests_reach_each_other soon reaches
edited=$(sha256sum <"$host/etc/sgagent/sgagent.toml")
pid=$(agent) rules=$(rules)
forget
watch_begins
check it_upgrades rpm_says -U "$new"
sleep 1
watch_ends
check the_agent_was_restarted has "$(asked)" 'systemctl try-restart sgagent.service'
check and_not_by_stopping_it not grep -qE 'systemctl (stop|disable)' "$host/run/init.log"
check it_is_another_process test "$pid" != "$(agent)"
check its_configuration_is_kept test "$edited" = "$(sha256sum <"$host/etc/sgagent/sgagent.toml")"
check "no_packet_was_lost ($sent sent, $received received)" test "$sent" -gt 50 -a "$sent" = "$received"
check "nothing_opened ($strange packets of a stranger passed)" test "$strange" = 0
check the_rules_are_the_same is "$rules" rules

check it_is_removed rpm_says -e sgagent
check the_agent_is_stopped not agent_runs
check it_says_that_the_rules_stay has "$output" 'ITS RULES STAY IN THE KERNEL'
check it_says_how_to_open has "$output" 'nft delete table bridge sgagent'
check it_says_what_else_stays has "$output" '/var/lib/sgagent and the user sgagent stay'
check the_rules_do_stay is "$rules" rules
check a_stranger_reaches_nobody not reaches_from_stranger
check what_was_edited_stays test -e "$host/etc/sgagent/sgagent.toml.rpmsave"
finish
