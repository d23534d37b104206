#!/usr/bin/env bash
# Builds the packages and tests them on a Debian made by debootstrap, in namespaces that are thrown
# away: `make test-package`. ONLY names one of the scripts: deb, rpm, bootstrap, files.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

((EUID == 0)) || { echo "package: debootstrap and dpkg want root; 'make deb' doesn't" >&2; exit 1; }
out=${CARGO_TARGET_DIR:-target}/package
[[ $out == /* ]] || out=$PWD/$out
base=$out/bookworm
mkdir -p "$out"
if [[ ! -d $base ]]; then
    echo "package: debootstrap"
    rm -rf "$base.new"
    # What the packages depend on is there: the namespaces have no network.
    debootstrap --variant=minbase --include=systemd,nftables,netbase,iproute2,init-system-helpers,procps \
        bookworm "$base.new" >"$base.log" 2>&1 || { tail -n 20 "$base.log" >&2; exit 1; }
    mv "$base.new" "$base"
fi

# What is tested is what `make deb` makes, and the same as a higher version.
rm -f "$out"/*.deb "$out"/*.rpm
mkdir -p "$out/newer"
packaging/build deb
packaging/build rpm
version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -1)
first=$(cd "$out" && sha256sum ./*.deb ./*.rpm)
for kind in deb rpm; do VERSION=$version.1 packaging/build $kind; done
mv "$out"/*"$version.1-1"* "$out/newer"

failed=0
for script in ${ONLY:-files bootstrap deb rpm}; do
    echo "==== $script"
    FIRST=$first tests/run.sh "tests/package/$script.sh" "$out" || failed=1
done
exit $failed
