#!/usr/bin/env bash
# Packets of who may, of who pretends, and of who was not described.
set -euo pipefail
# shellcheck source=tests/host/lib.sh
. tests/host/lib.sh

check guests_reach_each_other soon reaches
check who_pretends_gets_no_answer spoof
check nor_does_it_arrive is 0 spoofed_arrived
check a_stranger_reaches_nobody not reaches_from_stranger
finish
