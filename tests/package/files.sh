#!/usr/bin/env bash
# What is in the packages, without installing them, and whether its parts are as they should be.
#
#     tests/package/files.sh DIRECTORY
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
# shellcheck source=tests/package/lib.sh
. tests/package/lib.sh

deb=$(echo "$1"/*.deb) rpm=$(echo "$1"/*.rpm) tree=$1/deb
# Standard output and error have to be empty.
is_quiet() {
    local said
    if said=$("$@" 2>&1) && [[ -z $said ]]; then return 0; fi
    printf '    %s\n' "$said"
    return 1
}
man_takes() { LC_ALL=C.UTF-8 MANROFFSEQ='' MANWIDTH=80 man --warnings -E UTF-8 -l -Tutf8 -Z "$1" >/dev/null; }

# ---- both
listed=$(dpkg-deb -c "$deb")
packed=$(rpm -qlp --nosignature "$rpm")
for file in bin/sg{agent,ctl} lib/systemd/system/sgagent{,-boot}.service share/sgagent/libvirt/sgagent share/sgagent/ip6tables/sgagent.conf lib/sysusers.d/sgagent.conf lib/tmpfiles.d/sgagent.conf \
    share/man/man1/sgctl.1.gz share/man/man8/sgagent.8.gz share/sgagent/bootstrap.sh \
    share/bash-completion/completions/sg{agent,ctl} share/fish/vendor_completions.d/sg{agent,ctl}.fish \
    share/doc/sgagent/sgagent.{json,rules.yml,proto}; do
    check "the_deb_has_$file" has "$listed" "./usr/$file"
    check "the_rpm_has_$file" has "$packed" "/usr/$file"
done
for program in sgagent sgctl; do
    check "the_deb_completes_${program}_in_zsh" has "$listed" "./usr/share/zsh/vendor-completions/_$program"
    check "the_rpm_completes_${program}_in_zsh" has "$packed" "/usr/share/zsh/site-functions/_$program"
    check "bash_takes_the_completion_of_$program" bash -n "$tree/usr/share/bash-completion/completions/$program"
    check "${program}_says_its_version" has "$("$tree/usr/bin/$program" --version)" "$program "
done
check no_module_is_loaded_unasked lacks "$listed$packed" modules-load.d

# ---- the pages
for page in "$tree"/usr/share/man/man*/*; do
    name=$(basename "$page" .gz)
    plain=$(mktemp "/run/$name.XXXX")
    gzip -dc "$page" >"$plain"
    # STYLE is about the order of sections and the like.
    check "mandoc_takes_$name" is_quiet mandoc -T lint -W warning "$plain"
    check "man_takes_$name" is_quiet man_takes "$plain"
done
shown=$(MANWIDTH=100 man -l -P cat "$tree/usr/share/man/man1/sgctl.1.gz" | col -b)
check the_page_has_the_commands has "$shown" 'sgctl explain'
check the_page_has_the_exit_codes has "$shown" 'the agent is not healthy'

# ---- Debian's policy
# Waived, with the reason beside each, in tests/package/lintian.
check lintian_finds_nothing is_quiet lintian --allow-root --fail-on error,warning --suppress-tags-from-file tests/package/lintian "$deb"

# ---- rpm
requires=$(rpm -qp --nosignature --requires "$rpm")
check the_rpm_requires_nftables has "$requires" nftables
check the_rpm_requires_systemd has "$requires" systemd
# elfdeps has read that from the programs: it is what packaging/build looks at, seen by another.
newest=$({ echo GLIBC_2.17 && grep -o 'GLIBC_[0-9.]*' <<<"$requires"; } | sort -V | tail -n 1)
check the_rpm_requires_no_younger_glibc is GLIBC_2.17 echo "$newest"
check the_rpm_does_require_glibc has "$requires" 'libc.so.6(GLIBC_2'
check the_rpm_knows_its_configuration is /etc/sgagent/sgagent.toml rpm -qcp --nosignature "$rpm"
# What rpm of CentOS 7 (4.11) has; zstd and rich dependencies came later.
check an_old_rpm_can_read_it not grep -E 'PayloadIsZstd|RichDependencies|FileCaps|LargeFiles' <<<"$requires"
scripts=$(rpm -qp --nosignature --scripts "$rpm")
for word in 'groupadd --system sgagent' 'preset sgagent.service' try-restart 'say_what_is_left'; do
    check "a_script_of_the_rpm_has_${word// /_}" has "$scripts" "$word"
done

# ---- the scripts
check shellcheck_finds_nothing is_quiet shellcheck -x packaging/bootstrap.sh packaging/build packaging/deb/p* tests/package/*.sh tests/package/init tests/host/*.sh
for script in postinst prerm postrm; do
    check "shellcheck_takes_the_whole_$script" is_quiet shellcheck "$tree/DEBIAN/$script"
done

# ---- the same again, octet by octet
sums() { (cd "$1" && sha256sum ./*.deb ./*.rpm); }
for kind in deb rpm; do packaging/build "$kind" >/dev/null 2>&1; done
check the_same_tree_makes_the_same_packages is "$FIRST" sums "$1"
finish
