#!/usr/bin/env bash
# Provides the programs that the tests and the demo use; does nothing where they are there.
#
#     tests/setup.sh              root installs packages (apt or dnf); anybody else downloads and
#                                 unpacks them under target/root
#     tests/setup.sh --demo       only what the demo uses
#     tests/setup.sh --vm         what the tests in a virtual machine use, too (Debian and Ubuntu)
#     tests/setup.sh --fuzz       only what the fuzz targets use: a C++ compiler and cargo-fuzz; a
#                                 nightly toolchain has to be there
#     tests/setup.sh --package    only what `make deb` and `make rpm` use
#     tests/setup.sh --package-tests
#                                 what the tests of the packages use, too (Debian and Ubuntu, root)
#     tests/setup.sh --libvirt    what the test with guests of libvirt uses, too (root)
#     tests/setup.sh --xen        what the test with a real store of Xen uses, too
#     tests/setup.sh --print-env  the shell commands that make them reachable
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
unpacked=${CARGO_TARGET_DIR:-target}/root
[[ $unpacked == /* ]] || unpacked=$root/$unpacked

say() { echo "setup: $*"; }
fail() {
    echo "setup: $*" >&2
    exit 1
}

# ---- the environment

# What is unpacked comes last: a program that the system has is the one to use. An unprivileged
# user's PATH often lacks the sbin directories.
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin
for directory in "$unpacked"/{usr/,}{sbin,bin} {,"$unpacked"}/usr/lib/xen-*/bin; do
    [[ ! -d $directory ]] || PATH=$PATH:$directory
done
for directory in "$unpacked"/{usr/,}{lib64,lib/*-linux-gnu*}; do
    [[ ! -d $directory ]] || LD_LIBRARY_PATH=${LD_LIBRARY_PATH:+$LD_LIBRARY_PATH:}$directory
done
export PATH
[[ ! -v LD_LIBRARY_PATH ]] || export LD_LIBRARY_PATH
# Where the module ensurepip is missing, `python3 -m venv --without-pip` and this in PYTHONPATH
# make an environment for Python all the same.
for wheel in "$unpacked"/usr/share/python-wheels/pip-*.whl; do
    [[ ! -e $wheel ]] || export SGAGENT_PIP_WHEEL=$wheel
done

if [[ ${1-} == --print-env ]]; then
    printf 'export PATH=%q\n' "$PATH"
    [[ ! -v LD_LIBRARY_PATH ]] || printf 'export LD_LIBRARY_PATH=%q\n' "$LD_LIBRARY_PATH"
    [[ ! -v SGAGENT_PIP_WHEEL ]] || printf 'export SGAGENT_PIP_WHEEL=%q\n' "$SGAGENT_PIP_WHEEL"
    exit 0
fi

# ---- what is needed

vm='' fuzz='' demo='' package='' package_tests='' libvirt='' xen=''
[[ ${1-} != --vm ]] || vm=yes
[[ ${1-} != --fuzz ]] || fuzz=yes
[[ ${1-} != --demo ]] || demo=yes
[[ ${1-} != --package ]] || package=yes
[[ ${1-} != --package-tests ]] || package_tests=yes
[[ ${1-} != --libvirt ]] || libvirt=yes
[[ ${1-} != --xen ]] || xen=yes
readonly vm fuzz demo package package_tests libvirt xen

# program, package of Debian and Ubuntu, package of el and Fedora
readonly programs='
nft         nftables            nftables
ip          iproute2            iproute
bridge      iproute2            iproute
unshare     util-linux          util-linux
setpriv     util-linux          util-linux
mount       mount               util-linux
radvd       radvd               radvd
kea-dhcp6   kea-dhcp6-server    kea
dhclient    isc-dhcp-client     dhcp-client
rdisc6      ndisc6              ndisc6
ping        iputils-ping        iputils
conntrack   conntrack           conntrack-tools
tc          iproute2            iproute-tc
ipset       ipset               ipset
ip6tables-legacy  iptables      iptables-legacy
ebtables-nft      iptables      iptables-nft
sysctl      procps              procps-ng
awk         mawk                gawk
python3     python3             python3
'
# What checks the files for a Prometheus in packaging/; the demo has no use for it.
readonly test_programs='
promtool    prometheus          golang-github-prometheus
'
# To boot another kernel. Its package is Debian's, and apt gets it.
readonly vm_programs='
qemu-system-x86_64  qemu-system-x86  -
busybox             busybox-static   -
depmod              kmod             -
zstd                zstd             -
mke2fs              e2fsprogs        -
systemctl           systemd          -
useradd             passwd           -
ebtables-legacy     ebtables         -
'

# Guests of libvirt, which boot from the network.
readonly libvirt_programs='
libvirtd            libvirt-daemon-system   libvirt-daemon
virsh               libvirt-clients         libvirt-client
qemu-system-x86_64  qemu-system-x86         qemu-kvm
'

# libFuzzer is C++, which libfuzzer-sys compiles.
readonly fuzz_programs='
g++         g++                 gcc-c++
python3     python3             python3
'
readonly cargo_fuzz=0.13.1

# packaging/build; the linker comes by pip.
readonly package_programs='
dpkg-deb    dpkg                dpkg
rpmbuild    rpm                 rpm-build
objdump     binutils            binutils
xz          xz-utils            xz
git         git                 git
python3     python3             python3
'
# A Debian to install them on, and who says whether they are right.
readonly package_test_programs='
debootstrap debootstrap         -
lintian     lintian             -
mandoc      mandoc              -
man         man-db              -
col         bsdextrautils       -
shellcheck  shellcheck          -
'

# The daemon of Xen's store runs without Xen, with tests/xen/shim.c.
readonly xen_programs='
init-xenstore-domain  xen-utils-4.17  -
xenstore-write        xenstore-utils  -
gcc                   gcc             -
'

# lacking KIND: the packages of the programs that are not there.
lacking() {
    local program apt dnf needed=$programs${vm:+$vm_programs}
    [[ -n $demo ]] || needed+=$test_programs
    [[ -z $package_tests ]] || needed+=$package_programs$package_test_programs
    [[ -z $libvirt ]] || needed+=$libvirt_programs
    [[ -z $xen ]] || needed+=$xen_programs
    [[ -z $fuzz ]] || needed=$fuzz_programs
    [[ -z $package ]] || needed=$package_programs
    while read -r program apt dnf; do
        [[ -z $program ]] || command -v "$program" >/dev/null || if [[ $1 == dnf ]]; then echo "$dnf"; else echo "$apt"; fi
    done <<<"$needed"
    [[ -z $fuzz ]] || return 0
    # Debian splits this off from python3. Unpacked elsewhere it doesn't work; pip's wheel does.
    if [[ $1 != dnf && ! -v SGAGENT_PIP_WHEEL ]] && ! python3 -c 'import ensurepip' 2>/dev/null; then
        if ((EUID == 0)); then echo python3-venv; else echo python3-pip-whl; fi
    fi
}

if command -v apt-get >/dev/null; then
    kind=apt
elif command -v dnf >/dev/null; then
    kind=dnf
else
    kind=none
fi

# ---- root: packages of the system

# The servers come with units that start at once and at boot. Nobody asked for that here.
readonly units=(radvd kea-dhcp6-server isc-kea-dhcp6-server prometheus libvirtd virtlogd)
readonly policy=/usr/sbin/policy-rc.d

install_apt() {
    export DEBIAN_FRONTEND=noninteractive
    local unit own_policy=no
    if [[ ! -e $policy ]]; then
        # invoke-rc.d asks it; 101 means: don't start.
        printf '#!/bin/sh\nexit 101\n' >"$policy"
        chmod 755 "$policy"
        own_policy=yes
        trap 'rm -f "$policy"' EXIT
    fi
    apt-get update -qq
    local before
    before=$(known_units)
    apt-get install -y -qq -o Dpkg::Use-Pty=0 --no-install-recommends "$@" </dev/null >/dev/null
    for unit in $(known_units); do
        [[ " $before " == *" $unit "* ]] || systemctl disable "$unit" >/dev/null 2>&1 || true
    done
    if [[ $own_policy == yes ]]; then
        rm -f "$policy"
        trap - EXIT
    fi
}

# Those of `units` that the host has.
known_units() {
    local unit
    for unit in "${units[@]}"; do
        [[ ! -e /lib/systemd/system/$unit.service ]] || printf '%s ' "$unit"
    done
}

# dnf neither starts nor enables what it installs. Some of the packages are in EPEL.
install_dnf() {
    dnf install -y -q "$@" </dev/null || {
        dnf install -y -q epel-release </dev/null
        dnf install -y -q "$@" </dev/null
    }
}

# ---- anybody else: the same packages, unpacked

# apt with lists and archives of our own; which packages the system has, it still knows.
unpack_apt() {
    local own=$unpacked.apt archive
    mkdir -p "$own"/{lists,archives}/partial "$unpacked"
    cat >"$own/apt.conf" <<CONFIGURATION
Dir::State "$own";
Dir::State::lists "$own/lists";
Dir::State::status "/var/lib/dpkg/status";
Dir::Cache "$own";
Dir::Cache::archives "$own/archives";
Dir::Log "$own";
Debug::NoLocking "1";
APT::Sandbox::User "";
#clear APT::Update::Pre-Invoke;
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
#clear DPkg::Pre-Invoke;
#clear DPkg::Post-Invoke;
CONFIGURATION
    apt-get -c "$own/apt.conf" update -qq
    apt-get -c "$own/apt.conf" install -y -qq --no-install-recommends --download-only "$@" </dev/null
    for archive in "$own"/archives/*.deb; do
        dpkg -x "$archive" "$unpacked"
    done
    rm -rf "$own"
}

unpack_dnf() {
    local own=$unpacked.dnf archive
    mkdir -p "$own" "$unpacked"
    dnf download -q --resolve --destdir "$own" "$@" </dev/null
    for archive in "$own"/*.rpm; do
        rpm2cpio "$archive" | (cd "$unpacked" && cpio -idmu --quiet)
    done
    rm -rf "$own"
}

# ---- what the kernel must have

# A module that a tool would load for root isn't loaded from within a user namespace.
need_module() {
    local module=$1 path=$2
    [[ ! -e $path ]] || return 0
    if ((EUID == 0)) && modprobe "$module" 2>/dev/null && [[ -e $path ]]; then
        say "loaded the kernel module $module"
        return 0
    fi
    fail "the kernel has no $path: run 'modprobe $module' as root"
}

# ---- to work

mapfile -t missing < <(lacking "$kind" | sort -u)
[[ -z $package_tests || ($kind == apt && $EUID == 0) ]] ||
    fail "the tests of the packages install them on a Debian made by debootstrap: that takes apt and root"
[[ -z $vm || $kind == apt ]] || fail "the tests in a virtual machine take a kernel package of Debian; apt is not here"
if ((${#missing[@]} > 0)); then
    if [[ $kind == none ]]; then
        fail "neither apt nor dnf is here. Missing, by their Debian names: ${missing[*]}"
    elif [[ -v SGAGENT_SETUP_AGAIN ]]; then
        fail "still missing: ${missing[*]}"
    elif ((EUID == 0)); then
        say "installing ${missing[*]}"
        "install_$kind" "${missing[@]}"
    else
        say "downloading ${missing[*]}, to ${unpacked#"$root/"}"
        "unpack_$kind" "${missing[@]}"
    fi
    # To look again, in the environment with what is new.
    SGAGENT_SETUP_AGAIN=1 exec "${BASH_SOURCE[0]}" "$@"
fi
say "all programs are here"

if [[ -n $fuzz ]]; then
    cargo +nightly --version >/dev/null 2>&1 ||
        fail "cargo-fuzz needs a nightly toolchain: run 'rustup toolchain install nightly --profile minimal'"
    if [[ $(cargo fuzz --version 2>/dev/null) != "cargo-fuzz $cargo_fuzz" ]]; then
        say "installing cargo-fuzz $cargo_fuzz"
        cargo install --quiet --locked --force cargo-fuzz --version "$cargo_fuzz"
    fi
    say "cargo-fuzz $cargo_fuzz is here"
    exit 0
fi

[[ -z $package ]] || exit 0
need_module br_netfilter /proc/sys/net/bridge/bridge-nf-call-ip6tables
"$root/tests/run.sh" true
say "network namespaces work"
[[ -z ${1-} ]] || exit 0

need_module tun /dev/net/tun
# udev makes it so; a container or an image without udev may not.
[[ -r /dev/net/tun && -w /dev/net/tun ]] || fail "/dev/net/tun is not for everybody: run 'chmod 666 /dev/net/tun' as root"
if [[ -x $root/tests/clients/setup.sh ]]; then
    "$root/tests/clients/setup.sh"
fi
