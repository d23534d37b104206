#!/usr/bin/env bash
# The package goes; the rules stay until the next boot.
set -euo pipefail
# shellcheck source=tests/host/lib.sh
. tests/host/lib.sh

before=$(rules)
said=$(dpkg --remove sgagent 2>&1)
check it_says_that_the_rules_stay has "$said" 'ITS RULES STAY IN THE KERNEL'
check it_says_what_happens_at_the_next_boot has "$said" 'From the next boot on nothing protects'
check the_agent_is_gone not pgrep -x sgagent
check nobody_listens refused refused eval 'exec 3<>/dev/tcp/::1/8474'
check the_rules_stay is "$before" rules
check guests_reach_each_other reaches
check who_pretends_gets_no_answer spoof
check nor_does_it_arrive is 0 spoofed_arrived
check a_stranger_reaches_nobody not reaches_from_stranger
check what_was_acknowledged_stays test -s /var/lib/sgagent/state.redb
finish
