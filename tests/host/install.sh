#!/usr/bin/env bash
# The package onto a host that has booted without it.
set -euo pipefail
# shellcheck source=tests/host/lib.sh
. tests/host/lib.sh

failed_before=$(failed_units)
check the_host_has_booted_whole is '' echo "$failed_before"
check nothing_of_it_is_there not test -e /usr/bin/sgagent
check it_installs works dpkg -i "$packages"/*.deb
check it_is_enabled is enabled systemctl is-enabled sgagent.service
check it_runs is active systemctl is-active sgagent.service
check what_is_done_at_a_boot_was_done is active systemctl is-active sgagent-boot.service
check it_is_not_root is sgagent stat -c %U "/proc/$(systemctl show -P MainPID sgagent)"
check it_answers says healthy sgctl status
check installing_changed_nothing_in_the_kernel is '' tables
check no_unit_has_failed is "$failed_before" failed_units
finish
