#!/usr/bin/env bash
# Runs tests/vm/unit.sh in an emulated machine whose first process is systemd. The kernel is as in
# tests/vm/test.sh.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

package=${SGAGENT_VM_KERNEL:-linux-image-amd64}
target=${CARGO_TARGET_DIR:-target}
[[ $target == /* ]] || target=$PWD/$target
readonly kernel=$target/kernels/${package//\//-}

[[ -x /lib/systemd/systemd ]] || { echo "vm: systemd is not installed here (/lib/systemd/systemd)" >&2; exit 1; }
[[ -d $kernel/lib/modules ]] || tests/vm/run --fetch "$package" "$kernel"
# With a test, for what the tests need of other crates: those are compiled already.
cargo build --profile vm --bins --test link
tests/vm/run --kernel "$kernel" --seconds 900 --systemd -- tests/vm/unit.sh "$target/vm"
