#!/usr/bin/env bash
# The Debian package on a whole host, an emulated machine that boots a Debian 12 and is rebooted on
# the way: `make test-host`. Each step is a script beside this one. Three boots; between them the disk
# stays. The kernel is as in tests/vm/test.sh.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

readonly boots=(
    'install keys push traffic watch reboot'
    'boot revoke upgrade remove'
    'removed'
)
target=${CARGO_TARGET_DIR:-target}
[[ $target == /* ]] || target=$PWD/$target
package=${SGAGENT_VM_KERNEL:-linux-image-amd64}
readonly out=$target/package kernel=$target/kernels/${package//\//-} python=$target/package/python venv=$PWD/target/test-venv

[[ -d $kernel/lib/modules ]] || tests/vm/run --fetch "$package" "$kernel"
tests/package/prepare.sh "$out" --kept deb

# What a management server has: gRPC for the Python of that Debian, whatever is this machine's, and
# stubs generated from the definition.
tests/clients/setup.sh
wanted=$("$venv/bin/python" -c 'import grpc, google.protobuf as p; print(f"grpcio=={grpc.__version__} protobuf=={p.__version__}")')
if [[ $(cat "$python/installed" 2>/dev/null) != "$wanted" ]]; then
    rm -rf "$python"
    # shellcheck disable=SC2086 # a list of words
    PYTHONPATH=${SGAGENT_PIP_WHEEL-} "$venv/bin/python" -m pip install -q --disable-pip-version-check --target "$python" \
        --only-binary=:all: --python-version 3.11 --platform "manylinux2014_$(uname -m)" $wanted
    echo "$wanted" >"$python/installed"
fi
"$venv/bin/python" -m grpc_tools.protoc -I proto --python_out "$python" --grpc_python_out "$python" sgagent/v1/sgagent.proto

disk=$(mktemp -d "$target/host.XXXXXX")
log=$disk/log
trap 'rm -rf "$disk"' EXIT
status=0
for steps in "${boots[@]}"; do
    # shellcheck disable=SC2086 # a list of words
    tests/vm/run --kernel "$kernel" --root "$out/bookworm" --disk "$disk/image" --systemd --seconds 900 -- \
        tests/host/steps.sh "/run/host$out" $steps 2>&1 | tee -a "$log" || status=$?
    ((status < 124)) || break
done
awk '/^[0-9]+ passed, [0-9]+ failed$/ { passed += $1; failed += $3 }
    END { printf "the package on a host: %d passed, %d failed\n", passed, failed }' "$log"
exit "$status"
