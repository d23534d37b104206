#!/usr/bin/env bash
# After a reboot: what was acknowledged is in force before the agent is there.
set -euo pipefail
# shellcheck source=tests/host/lib.sh
. tests/host/lib.sh

check this_is_another_boot not cmp -s /proc/sys/kernel/random/boot_id /root/boot
check no_unit_has_failed is '' failed_units
check guests_were_there_before_the_agent_and_after_the_boot is 'agent inactive boot active' eval "head -n 2 /run/guests.log | xargs"
check so_were_its_rules grep -qx 'table bridge sgagent' /run/tables
check nobody_got_through_who_may_not is 'spoofed 0' tail -n +3 /run/guests.log
over=$(since sgagent-boot ActiveEnter)
check the_boot_was_over_before_the_agent_began test "$over" -gt 0 -a "$over" -lt "$(since sgagent InactiveExit)"
check it_runs is active systemctl is-active sgagent.service
check its_nics_are_in_force says "nic-1 NIC_STATE_ACTIVE
nic-2 NIC_STATE_ACTIVE" server second nics
check it_tells_that_it_started says '2 NICs to restore' sgctl events
check the_generation_is_the_same is 7 metric sgagent_generation
check the_rules_are_those_of_before diff /root/rules <(rules_by_line)
check guests_reach_each_other soon reaches
check who_pretends_gets_no_answer spoof
check nor_does_it_arrive is 0 spoofed_arrived
check a_stranger_reaches_nobody not reaches_from_stranger
finish
