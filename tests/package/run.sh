#!/usr/bin/env bash
# Builds the packages and tests them on a Debian made by debootstrap, in namespaces that are thrown
# away: `make test-package`. ONLY names one of the scripts: deb, rpm, bootstrap, files.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

out=${CARGO_TARGET_DIR:-target}/package
[[ $out == /* ]] || out=$PWD/$out
tests/package/prepare.sh "$out" deb rpm
first=$(cd "$out" && sha256sum ./*.deb ./*.rpm)

failed=0
for script in ${ONLY:-files bootstrap deb rpm}; do
    echo "==== $script"
    FIRST=$first tests/run.sh "tests/package/$script.sh" "$out" || failed=1
done
exit $failed
