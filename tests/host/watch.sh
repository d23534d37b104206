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

# ---- as it happens
told=$(mktemp) said=$(mktemp)
server inspector watch-drops >"$told" &
asking=$!
sgctl drops --follow nic-1 >"$said" &
following=$!
check a_management_server_watches soon grep -q watching "$told"
check what_was_pretended_got_no_answer spoof
wait $asking || true
kill $following
check it_is_told_of_the_packet says "nic-1 spoofed-source vnet1 $spoofed $two" cat "$told"
check and_how_many_there_were says 'counted 3' cat "$told"
check so_is_an_operator says "spoofed-source (G13)  from vnet1" cat "$said"
happened=$(server inspector events)
check the_start_is_told says 'EVENT_KIND_STARTED' echo "$happened"
check what_was_bound_is_told says 'EVENT_KIND_BOUND nic-1 vnet1 on br0' echo "$happened"
check what_was_applied_is_told says 'EVENT_KIND_APPLIED' echo "$happened"
check an_operator_reads_it says 'bound  nic-2  vnet2 on br0' sgctl events
check and_sees_who_sends says nic-1 sgctl top --once
top() {
    { sleep 4 && printf q; } | script -qec 'stty cols 80 rows 24 && sgctl top' /dev/null
}
check and_as_it_changes_on_a_terminal exits 0 top
check with_whole_headings has "$output" 'DROP pkt/s MOST FOR'

finish
