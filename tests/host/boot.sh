#!/usr/bin/env bash
# After a reboot: what was acknowledged is in force before the agent is there.
set -euo pipefail
# shellcheck source=tests/host/lib.sh
. tests/host/lib.sh

check this_is_another_boot not cmp -s /proc/sys/kernel/random/boot_id /root/boot
check no_unit_has_failed is '' failed_units
check the_rules_were_there_before_the_agent is 'agent inactive boot active rules 1' eval "head -n 3 /run/guests.log | xargs"
check nobody_got_through_who_may_not is 'spoofed 0' tail -n +4 /run/guests.log
check the_boot_was_over_before_the_agent_began test "$(since sgagent-boot ActiveEnter)" -lt "$(since sgagent InactiveExit)"
check it_runs is active systemctl is-active sgagent.service
check its_nics_are_in_force soon says "nic-1 NIC_STATE_ACTIVE
nic-2 NIC_STATE_ACTIVE" server second nics
check the_generation_is_the_same is 7 metric sgagent_generation
check the_rules_are_those_of_before is "$(cat /root/rules)" rules
check guests_reach_each_other soon reaches
check who_pretends_gets_no_answer spoof
check nor_does_it_arrive is 0 spoofed_arrived
check a_stranger_reaches_nobody not reaches_from_stranger
finish
