#!/usr/bin/env bash
# The boot after the removal: nothing protects, as it said.
set -euo pipefail
# shellcheck source=tests/host/lib.sh
. tests/host/lib.sh

check no_unit_has_failed is '' failed_units
check it_has_no_rules is '' tables
check a_stranger_gets_through soon reaches_from_stranger
check so_does_who_pretends not spoof
finish
