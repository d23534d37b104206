#!/usr/bin/env bash
# Runs the tests that need a kernel under a stock one of Debian, in an emulated machine:
#
#     tests/vm/test.sh [PLACEMENT] [FILTER..]    PLACEMENT: bridge (default), br_netfilter, or ip6tables:
#                                                br_netfilter without nft, with the older tools
#     tests/vm/test.sh PLACEMENT --proof         only the comparison of the model with the kernel
#
# The kernel is SGAGENT_VM_KERNEL (a package; linux-image-amd64 unless set; with its suite where that
# is another one: linux-image-amd64/trixie-backports), kept under target/kernels. The log is beside
# it. SGAGENT_TEST_BRIDGE is the kind of bridge: plain (default),
# snooping or filtering (tests/support/bridge_kind.rs).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

placement=${1:-bridge}
(($# == 0)) || shift
package=${SGAGENT_VM_KERNEL:-linux-image-amd64}
target=${CARGO_TARGET_DIR:-target}
[[ $target == /* ]] || target=$PWD/$target
readonly kind=${SGAGENT_TEST_BRIDGE:-plain} name=${package//\//-}
readonly kernel=$target/kernels/$name log=$target/kernels/$name-$placement-$kind.log

[[ -d $kernel/lib/modules ]] || tests/vm/run --fetch "$package" "$kernel"

# Optimised a little: every instruction counts.
readonly build=(cargo test --profile vm --no-run --test traffic --test link --test proof)
"${build[@]}"
program() {
    "${build[@]}" --message-format json 2>/dev/null |
        sed -n "s/.*\"name\":\"$1\".*\"executable\":\"\([^\"]*\)\".*/\1/p" | tail -n 1
}
traffic=$(program traffic)
link=$(program link)
proof=$(program proof)
[[ -x $traffic && -x $link && -x $proof ]] || { echo "vm: the tests were not built" >&2; exit 1; }

# What the tests find on any host. What the agent asks for, bridge connection tracking too, the
# kernel loads.
modules='tun bridge nf_conntrack'
[[ $placement == bridge ]] || modules+=' br_netfilter'
# Where the tests take the stateful stage to be; the tools that are not of nft.
where=$placement dataplane='' tools=''
if [[ $placement == ip6tables ]]; then
    where=br_netfilter dataplane=ip6tables
    tools='ebtables ebtables-restore ebtables-save'
fi

# shellcheck disable=SC2016 # expanded in the machine
readonly job='
if [ -n "$2" ]; then
    # Whoever loads it later finds it as it is.
    modprobe ip6table_raw raw_before_defrag=1 || exit
    for tool in $2; do
        suffix=${tool#ebtables}
        ln -sf "/usr/sbin/ebtables-legacy$suffix" "/usr/sbin/$tool" || exit
    done
fi
modprobe -a $1 || exit
shift 2
link=$1 traffic=$2 proof=$3
shift 3
status=0
[ $# -gt 0 ] || "$link" --test-threads 1 || status=1
if [ $# -eq 0 ] || [ "$1" = --proof ]; then
    "$proof" kernel_does --nocapture || status=1
    [ $# -eq 0 ] || exit "$status"
fi
# Two agents wait for nft and for the disk while a third works. Left to the other kernel are what an
# operator types, for the programs of others take minutes here, and somebody who never stops deleting,
# who takes the one processor from all others.
"$traffic" --test-threads 3 --skip the_readmes_commands --skip element_that_is_not_in_the_kernel "$@" || status=1
exit "$status"'

status=0
tests/vm/run --kernel "$kernel" --seconds "${SGAGENT_VM_SECONDS:-5400}" -- \
    env SGAGENT_TEST_VM=1 SGAGENT_TEST_PLACEMENT="$where" SGAGENT_TEST_BRIDGE="$kind" \
    ${dataplane:+SGAGENT_TEST_DATAPLANE="$dataplane" SGAGENT_TEST_EBTABLES=ebtables} SGAGENT_PROOF_PACKETS="${SGAGENT_PROOF_PACKETS:-300}" \
    sh -c "$job" sh "$modules" "$tools" "$link" "$traffic" "$proof" "$@" | tee "$log" || status=$?

awk -v title="$package, placement $placement, bridge $kind" '
    /^test result/ { passed += $4; failed += $6; ignored += $8 }
    END { printf "%s: %d passed, %d failed, %d ignored\n", title, passed, failed, ignored }' "$log"
exit "$status"
