#!/usr/bin/env bash
# Takes steps, one after another. To be run in the emulated machine, by `make test-host`:
#
#     tests/host/steps.sh DIRECTORY STEP..    where the packages are, and the names of scripts
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

# They install, remove and make bridges: nowhere but where all of that is thrown away.
[[ -f /run/vm/job ]] || { echo "$0: this is not the emulated machine" >&2; exit 1; }

failed=0
for step in "${@:2}"; do
    echo "==== $step ($(cut -d. -f1 /proc/uptime) s after the boot)"
    "tests/host/$step.sh" "$1" || failed=1
done
exit $failed
