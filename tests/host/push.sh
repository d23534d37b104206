#!/usr/bin/env bash
# What a management server wants, pushed over mutual TLS.
set -euo pipefail
# shellcheck source=tests/host/lib.sh
. tests/host/lib.sh

guests
check nobody_was_described_and_nobody_gets_through not reaches
answer=$(server first push 7)
check both_nics_are_in_force_with_the_answer is "generation 7
nic-1 NIC_STATE_ACTIVE
nic-2 NIC_STATE_ACTIVE" echo "$answer"
check its_rules_are_in_the_kernel says 'table bridge sgagent' tables
check an_inspector_reads is "nic-1 NIC_STATE_ACTIVE
nic-2 NIC_STATE_ACTIVE" server inspector nics
check an_inspector_changes_nothing refused 'needs the role push' server inspector push 8
check the_generation_is_the_same is 7 metric sgagent_generation
finish
