#!/usr/bin/env bash
# Runs the traffic tests on the dataplane ip6tables, in namespaces of this kernel, which shows its
# table raw what is joined of fragments:
#
#     tests/ip6tables.sh TRAFFIC [FILTER..]    TRAFFIC: the program of the tests
#
# What can't hold there is in tests/traffic/ip6tables.txt, and has to fail. SGAGENT_TEST_IP6TABLES is
# the kind of tools: ip6tables-legacy (default) or ip6tables-nft.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

traffic=$1
shift
export SGAGENT_TEST_DATAPLANE=ip6tables
mapfile -t listed < <(sed -n 's/^?\{0,1\}\([a-z_0-9]*::.*\)/traffic::\1/p' tests/traffic/ip6tables.txt)
mapfile -t sure < <(sed -n 's/^\([a-z_0-9]*::.*\)/traffic::\1/p' tests/traffic/ip6tables.txt)

status=0
# With --exact, what is to be run is named whole; without a filter that is all of them.
mapfile -t wanted < <("$traffic" --list --format terse "$@" | sed -n 's/: test$//p' |
    grep -vxFf <(printf '%s\n' "${listed[@]}"))
tests/run.sh "$traffic" --exact "${wanted[@]}" || status=1
(($# == 0)) || exit "$status"

echo "---- what can't hold on ip6tables, ${#sure[@]} tests: each has to fail"
log=$(mktemp)
trap 'rm "$log"' EXIT
tests/run.sh "$traffic" --exact "${sure[@]}" >"$log" 2>&1 || true
failed=$(grep -c '^test .* FAILED$' "$log" || true)
echo "$failed failed"
if ((failed != ${#sure[@]})); then
    grep '^test .* ok$' "$log" || tail -n 20 "$log"
    echo "what holds, or is not there, is to leave tests/traffic/ip6tables.txt" >&2
    status=1
fi
exit "$status"
