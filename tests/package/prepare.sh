#!/usr/bin/env bash
# What the tests of the packages work with: a Debian 12, and the packages of this tree in two versions.
#
#     tests/package/prepare.sh DIRECTORY [--kept] KIND..
#
# leaves DIRECTORY/bookworm, the packages of these kinds (deb, rpm), and the same as a higher version in
# DIRECTORY/newer. With --kept, packages stay that are younger than all they are made from. PROGRAMS
# is as in packaging/build.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

((EUID == 0)) || { echo "package: debootstrap and dpkg want root; 'make deb' doesn't" >&2; exit 1; }
out=$1 kept=
shift
if [[ ${1-} == --kept ]]; then
    kept=yes
    shift
fi
mkdir -p "$out/newer"

# What the packages depend on is there, for the tests have no network, and what the tests ask with.
# Without netbase: names of protocols and services are nothing that the programs may count on.
readonly include=systemd,systemd-sysv,nftables,iproute2,init-system-helpers,procps,kmod,iputils-ping,openssl,python3
if [[ ! -d $out/bookworm || $(cat "$out/bookworm.include" 2>/dev/null) != "$include" ]]; then
    echo "package: debootstrap"
    rm -rf "$out"/bookworm{,.new,.include}
    debootstrap --variant=minbase --include=$include bookworm "$out/bookworm.new" >"$out/bookworm.log" 2>&1 ||
        { tail -n 20 "$out/bookworm.log" >&2; exit 1; }
    mv "$out/bookworm.new" "$out/bookworm"
    echo $include >"$out/bookworm.include"
fi

sources=(Cargo.toml Cargo.lock build.rs src proto examples packaging README.md CHANGELOG.md LICENSE)
# What they were made of, besides.
made_of="$* ${PROGRAMS-}"
if [[ -n $kept && $(cat "$out/newer/made" 2>/dev/null) == "$made_of" &&
    -z $(find "${sources[@]}" -newer "$out/newer/made" -print -quit) ]]; then
    exit 0
fi
rm -rf "$out"/*.deb "$out"/*.rpm "$out"/newer
mkdir "$out/newer"
echo "$made_of" >"$out/newer/begun"
version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -1)
for kind in "$@"; do VERSION=$version.1 packaging/build "$kind"; done
mv "$out"/*"$version.1-1"* "$out/newer"
# The trees that stay are those of the lower version.
for kind in "$@"; do packaging/build "$kind"; done
mv "$out/newer/begun" "$out/newer/made"
