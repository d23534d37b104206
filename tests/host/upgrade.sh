#!/usr/bin/env bash
# A higher version, while packets flow.
set -euo pipefail
# shellcheck source=tests/host/lib.sh
. tests/host/lib.sh

soon reaches
pid=$(systemctl show -P MainPID sgagent)
since_boot=$(since sgagent-boot ActiveEnter)
configuration=$(sha256sum </etc/sgagent/sgagent.toml)
before=$(rules)
arrived=$(spoofed_arrived)
watch_begins
ip netns exec guest1 ping -6 -i 0.1 -W 1 -I $spoofed $two >/dev/null &
spoofing=$!
check it_upgrades works dpkg -i "$packages"/newer/*.deb
sleep 1
kill -INT $spoofing
wait $spoofing || true
watch_ends
check it_has_the_higher_version says .1-1 dpkg-query -W sgagent
check it_is_another_process test "$pid" != "$(systemctl show -P MainPID sgagent)"
check it_runs is active systemctl is-active sgagent.service
check it_was_no_boot is "$since_boot" since sgagent-boot ActiveEnter
check "no_packet_was_lost ($sent sent, $received received)" test "$sent" -gt 50 -a "$sent" = "$received"
check "nothing_opened ($strange packets of a stranger passed)" test "$strange" = 0
check nothing_that_was_pretended_arrived is "$arrived" spoofed_arrived
check its_configuration_is_kept is "$configuration" eval 'sha256sum </etc/sgagent/sgagent.toml'
check the_rules_are_the_same is "$before" rules
check its_nics_are_in_force says 'nic-1 NIC_STATE_ACTIVE' server second nics
check the_generation_is_the_same is 9 metric sgagent_generation
check who_was_revoked_is_refused_as_before refused 'cannot reach the agent' sgctl_as first nics
finish
