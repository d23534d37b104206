#!/usr/bin/env bash
# What is to be seen of all that: metrics, drops, events.
set -euo pipefail
# shellcheck source=tests/host/lib.sh
. tests/host/lib.sh

check the_change_was_counted is 1 metric 'sgagent_changes_total{result="applied"}'
check nics_are_counted_by_state is 2 metric 'sgagent_nics{state="active"}'
check none_waits is 0 metric 'sgagent_nics{state="pending"}'
check its_port_is_closed_who_was_not_described is 1 metric 'sgagent_bridge_ports{bridge="br0",state="closed"}'
check it_is_healthy is 1 metric sgagent_healthy
check what_was_pretended_was_counted at_least 3 metric 'sgagent_nic_dropped_packets_total{nic="nic-1",reason="spoofed-source"}'
check what_the_stranger_sent_too at_least 1 metric 'sgagent_dropped_packets_total{reason="unbound"}'
dropped=$(metric 'sgagent_nic_dropped_packets_total{nic="nic-1",reason="spoofed-source"}')
check a_management_server_sees_the_same says "nic-1 spoofed-source $dropped" server second drops
check an_operator_too says spoofed-source sgctl drops nic-1
check and_only_what_was_lost not grep -q spoofed-source <<<"$(sgctl drops nic-2)"

# ---- WatchDrops, WatchEvents

finish
