#!/bin/sh
# From nothing to a running sgagent on this host, unattended. The help below is the manual.
set -eu

usage() {
    cat <<'HELP'
Makes this host run sgagent. It never asks, and run again it changes nothing.

    bootstrap.sh --package FILE [--config FILE] [--json]
    bootstrap.sh --check [--package FILE] [--config FILE] [--json]

  --package FILE  the .deb or .rpm, or a directory where the newest is taken
  --config FILE   what /etc/sgagent/sgagent.toml is to be; what was there becomes sgagent.toml.before
  --check         tell what is there and what is missing, and change nothing
  --json          print one JSON object, for programs

Each line of the answer begins with
  ok              as it should be
  todo            missing; this program does it
  warning         works, and somebody should know
  blocked         this program can't do it; the line says who can

Where the kernel's bridges track no connections themselves (before Linux 5.3) the module br_netfilter
is loaded, now and at boot, with what it would turn on for every bridge of the host turned off.

On a host of Xen, in its first domain, the services run as root, whose Xen's store is: a drop-in of the
package (/usr/share/sgagent/xen/sgagent.conf) is put beside each unit. So is another
(/usr/share/sgagent/ip6tables/sgagent.conf) where the configuration has dataplane = "ip6tables".

Exit codes:
  0  sgagent runs; --check: nothing is missing
  1  a step failed; standard error says which
  2  the arguments are wrong
  3  something is blocked; nothing was changed
  4  --check: something is missing, nothing is blocked
HELP
}

readonly config=/etc/sgagent/sgagent.toml
# The oldest that was tried with success; 0.9.8 does not take the rules.
readonly least_nft=1.0.6
# AmbientCapabilities= is of 229, StateDirectory= of 235; the unit is nothing without.
readonly least_systemd=235
# What an unattended host has in its way: a pager, a question, another language.
export LC_ALL=C DEBIAN_FRONTEND=noninteractive SYSTEMD_PAGER='' SYSTEMD_COLORS=0
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin

package='' new_config='' check='' json=''
findings='' todo='' blocked='' changed=''

# ---- to say

wrong() {
    echo "bootstrap: $1 (--help says more)" >&2
    exit 2
}
step() {
    [ -n "$json" ] || echo "bootstrap: $1"
    changed="$changed${changed:+
}$1"
}
fail() {
    echo "bootstrap: $1" >&2
    report 1
}
find_out() { # STATE NAME TEXT
    case $1 in
    todo) todo=yes ;;
    blocked) blocked=yes ;;
    esac
    findings="$findings$1	$2	$3
"
}
# JSON strings, of which names of interfaces and messages of programs become part.
quoted() { printf '%s' "$1" | tr -d '\000-\010\013-\037' | sed -e 's/\\/\\\\/g' -e 's/"/\\"/g' -e 's/	/\\t/g' | awk 'NR > 1 { printf "\\n" } { printf "%s", $0 }'; }
report() { # CODE
    if [ -z "$json" ]; then
        [ "$1" != 3 ] || echo "bootstrap: something is blocked; nothing was changed" >&2
        exit "$1"
    fi
    printf '{"exit": %d, "checks": [' "$1"
    printf '%s' "$findings" | while IFS='	' read -r state name text; do
        printf '\n  {"name": "%s", "state": "%s", "text": "%s"},' "$(quoted "$name")" "$state" "$(quoted "$text")"
    done | sed '$ s/,$//'
    printf '\n], "changed": ['
    printf '%s\n' "$changed" | sed '/^$/d' | while read -r line; do
        printf '\n  "%s",' "$(quoted "$line")"
    done | sed '$ s/,$//'
    printf ']}\n'
    exit "$1"
}
show() {
    [ -n "$json" ] || printf '%s' "$findings" | while IFS='	' read -r state name text; do
        printf '%-8s %-12s %s\n' "$state" "$name" "$text"
    done
}

# ---- to look

# at_least WANTED IS
at_least() { [ "$(printf '%s\n' "$1" "$2" | sort -V | head -n 1)" = "$1" ]; }
is_there() { command -v "$1" >/dev/null 2>&1; }
runs() { is_there systemctl && systemctl --quiet is-active "$1" 2>/dev/null; }

# Whether the kernel has a module: in it, loaded, or to be loaded when it is asked for.
has_module() {
    [ -e "/sys/module/$1" ] || modprobe --dry-run --quiet "$1" 2>/dev/null
}
# Whether bridges can track connections, asked as the agent asks. In a namespace of its own it is
# nobody's ruleset. It loads modules.
bridges_track() {
    unshare --net nft --check -f - >/dev/null 2>&1 <<'RULES'
add table bridge sgagent_probe
add chain bridge sgagent_probe asked { type filter hook prerouting priority -150; }
add rule bridge sgagent_probe asked ct state established accept
add rule bridge sgagent_probe asked meta ibrname "br0" ct zone set 1
RULES
}
# bridge, br_netfilter, br_netfilter-later or unknown. A kernel without a directory of modules has
# everything or nothing built in: to ask it loads none.
placement() {
    if [ -d "/lib/modules/$(uname -r)" ] && is_there modprobe; then
        if has_module nf_conntrack_bridge && has_module nft_meta_bridge; then
            echo bridge
            return
        fi
    elif is_there nft && [ "$(id -u)" = 0 ]; then
        if bridges_track; then
            echo bridge
            return
        fi
    else
        echo unknown
        return
    fi
    if [ -e /proc/sys/net/bridge/bridge-nf-call-ip6tables ]; then
        echo br_netfilter
    elif has_module br_netfilter; then
        echo br_netfilter-later
    else
        echo none
    fi
}

check_host() {
    if [ "$(id -u)" = 0 ]; then find_out ok root "this is root"; else find_out blocked root "run this as root"; fi
    version=$(systemctl --version 2>/dev/null | awk 'NR == 1 { print $2 }')
    if [ -z "$version" ]; then
        find_out blocked systemd "not installed; the packaged service needs systemd $least_systemd"
    elif ! at_least "$least_systemd" "$version"; then
        find_out blocked systemd "$version; the packaged service needs $least_systemd"
    elif [ ! -d /run/systemd/system ]; then
        find_out blocked systemd "$version is installed, and did not boot this host"
    else
        find_out ok systemd "$version"
    fi
    if is_there dpkg && is_there apt-get; then
        kind=deb
    elif is_there rpm; then
        kind=rpm
    else
        kind=''
        find_out blocked packages "neither apt and dpkg nor rpm is here"
    fi
}

check_kernel() {
    find_out ok kernel "Linux $(uname -r)"
    if is_there nft; then
        version=$(nft --version 2>/dev/null | sed -n 's/^nftables v\([0-9.]*\).*/\1/p')
        if at_least "$least_nft" "${version:-0}"; then
            find_out ok nft "$version"
        else
            find_out blocked nft "${version:-unknown}; at least $least_nft is needed: upgrade nftables"
        fi
        if [ "$(id -u)" = 0 ] && ! why=$(nft list tables 2>&1 >/dev/null); then
            find_out blocked nf_tables "nft does not work: $(echo "$why" | head -n 1)"
        fi
    else
        find_out todo nft "comes with the package"
    fi
    where=$(placement)
    case $where in
    bridge) find_out ok placement "bridge: the kernel's bridges track connections (nf_conntrack_bridge, nft_meta_bridge)" ;;
    br_netfilter) find_out ok placement "br_netfilter: it is loaded; the kernel has no nf_conntrack_bridge" ;;
    br_netfilter-later) find_out todo placement "br_netfilter is to be loaded, turned off for all bridges but the managed ones; the kernel has no nf_conntrack_bridge" ;;
    unknown) find_out todo placement "can't be told yet: as root, with nft, it can" ;;
    none) find_out blocked placement "the kernel has neither nf_conntrack_bridge and nft_meta_bridge nor br_netfilter: install the package with its other modules (kernel-modules-extra, linux-modules-extra-…), or another kernel" ;;
    esac
    if [ "$where" = bridge ] && [ "$(cat /proc/sys/net/bridge/bridge-nf-call-ip6tables 2>/dev/null)" = 1 ]; then
        find_out warning br_netfilter "somebody (Docker does) shows all bridges' IPv6 to ip6tables: it costs double, and what the host drops in FORWARD its guests lose"
    fi
}

# What the configuration that will count says of bridges: names, or beginnings of names.
managed() {
    file=$config
    [ -z "$new_config" ] || file=$new_config
    [ ! -r "$file" ] || awk '
        /^[ \t]*\[/ { of_bridges = /^[ \t]*\[\[[ \t]*bridges[ \t]*\]\]/ }
        of_bridges && /^[ \t]*name[ \t]*=/ { split($0, part, /["\047]/); print part[2] }' "$file"
}
is_managed() {
    managed | while read -r name; do
        # shellcheck disable=SC2254 # a closing * is a pattern
        case $1 in $name) echo yes ;; esac
    done
}

check_bridges() {
    found=''
    for directory in /sys/class/net/*/bridge; do
        [ -d "$directory" ] || continue
        bridge=$(basename "$(dirname "$directory")")
        # Somebody who simulates, or an old datapath, may call a bridge so; no guest's network is.
        [ "$bridge" != ovs-system ] || continue
        found=yes
        of() { cat "$directory/$1" 2>/dev/null || echo '?'; }
        mode="vlan_filtering $(of vlan_filtering), multicast_snooping $(of multicast_snooping), nf_call_ip6tables $(of nf_call_ip6tables)"
        ports=$(find "/sys/class/net/$bridge/brif" -mindepth 1 2>/dev/null | wc -l)
        if [ -n "$(is_managed "$bridge")" ]; then
            find_out ok "$bridge" "a managed bridge of $ports ports; $mode"
        else
            find_out warning "$bridge" "a bridge of $ports ports that the configuration does not name: its guests are not protected; $mode"
        fi
        if [ "$(of vlan_filtering)" = 1 ] && [ "${where#br_netfilter}" != "$where" ]; then
            find_out warning "$bridge" "it filters VLANs: behind br_netfilter fragments that come by a trunk can't be joined"
        fi
    done
    [ -n "$found" ] || find_out ok bridges "none yet"
}

# nft sees nothing of what Open vSwitch forwards: to install there would protect nobody.
check_ovs() {
    ovs=''
    if is_there ovs-vsctl; then
        ovs=$(ovs-vsctl --timeout=5 list-br 2>/dev/null | tr '\n' ' ')
    fi
    [ -n "$ovs" ] || ovs=$(ip -o link show type openvswitch 2>/dev/null | sed 's/^[0-9]*: \([^:@]*\).*/\1/' | tr '\n' ' ')
    guests=$(ip -o link show master ovs-system 2>/dev/null | sed -n 's/^[0-9]*: \(\(vnet\|tap\|vif\)[^:@]*\).*/\1/p' | tr '\n' ' ')
    if [ -n "$guests" ] || { [ -n "$ovs" ] && [ -z "$found" ]; }; then
        find_out blocked openvswitch "Open vSwitch (${ovs:-?}) forwards what guests send (${guests:-no other bridge is here}), past nftables. Move them to Linux bridges (Xen: xe-switch-network-backend bridge) and run this again"
    elif [ -n "$ovs" ]; then
        find_out warning openvswitch "guests on Open vSwitch (${ovs% }) are not protected; those on Linux bridges are"
    else
        find_out ok openvswitch "not in the way"
    fi
}

check_firewalls() {
    others=''
    if runs firewalld.service; then
        others=yes
        find_out warning firewalld "it runs: what it drops stays dropped, and should it flush what is sgagent's, that is put back and told by sgctl status"
    fi
    if is_there systemctl && systemctl --quiet is-enabled nftables.service 2>/dev/null; then
        for file in /etc/nftables.conf /etc/sysconfig/nftables.conf; do
            if grep -qs '^[[:space:]]*flush[[:space:]]\{1,\}ruleset' "$file"; then
                others=yes
                find_out warning nftables "$file has 'flush ruleset': each reload of nftables.service opens the host until sgagent has put its rules back; name its own tables there instead"
            fi
        done
    fi
    if ip6tables --version 2>/dev/null | grep -q legacy && [ -s /proc/net/ip6_tables_names ]; then
        others=yes
        find_out warning ip6tables "ip6tables-legacy has rules, which nft does not show; what they drop stays dropped"
    fi
    [ -n "$others" ] || find_out ok firewalls "none that flushes or hides rules"
}

# What the package has for some hosts, and where it belongs beside a unit.
readonly units='sgagent sgagent-boot'
of_package() { echo "/usr/share/sgagent/$1/sgagent.conf"; }
drop_in() { echo "/etc/systemd/system/$2.service.d/$1.conf"; }
is_for() {
    case $1 in
    xen) grep -qs control_d /proc/xen/capabilities ;;
    ip6tables) grep -qs '^dataplane *= *"ip6tables"' "${new_config:-$config}" ;;
    esac
}
has_drop_ins() {
    for unit in $units; do cmp -s "$(of_package "$1")" "$(drop_in "$1" "$unit")" || return 1; done
}
check_drop_ins() { # KIND WHY
    is_for "$1" || return 0
    if has_drop_ins "$1"; then
        find_out ok "$1" "the services run as root, whose $2"
    else
        find_out todo "$1" "the services are to run as root, whose $2"
    fi
}

installed() {
    case $kind in
    deb) dpkg-query -W -f '${db:Status-Status} ${Version}\n' sgagent 2>/dev/null | sed -n 's/^installed //p' ;;
    rpm) rpm -q --queryformat '%{VERSION}-%{RELEASE}\n' sgagent 2>/dev/null | grep -v 'not installed' || true ;;
    esac
}
# The version in a package file.
offered() {
    case $kind in
    deb) dpkg-deb -f "$1" Version 2>/dev/null ;;
    rpm) rpm -qp --nosignature --queryformat '%{VERSION}-%{RELEASE}' "$1" 2>/dev/null ;;
    esac
}
# The newest of a directory, by version and not by name or date.
choose_package() {
    [ -d "$package" ] || return 0
    chosen=$(for file in "$package"/sgagent[_-]*".$kind"; do
        [ ! -e "$file" ] || printf '%s\t%s\n' "$(offered "$file")" "$file"
    done | sort -V | tail -n 1 | cut -f 2)
    [ -n "$chosen" ] || { find_out blocked package "$package has no sgagent .$kind"; return 0; }
    package=$chosen
}

check_sgagent() {
    is=$(installed)
    if [ -n "$package" ]; then
        [ -z "$kind" ] || choose_package
        wanted=$(offered "$package" || true)
        if [ ! -d "$package" ] && [ -z "$wanted" ]; then
            find_out blocked package "$package is no .${kind:-deb or .rpm} that this host can install"
        elif [ -n "$wanted" ] && [ "$is" != "$wanted" ]; then
            find_out todo package "${is:-nothing} is installed, $wanted is to be"
        elif [ -n "$wanted" ]; then
            find_out ok package "$is is installed"
        fi
    elif [ -n "$is" ]; then
        find_out ok package "$is is installed"
    else
        find_out todo package "sgagent is not installed"
    fi
    if [ -n "$new_config" ]; then
        if is_there sgagent && ! why=$(accepts "$new_config"); then
            find_out blocked config "$new_config: $why"
        elif cmp -s "$new_config" "$config"; then
            find_out ok config "$config is as it should be"
        else
            find_out todo config "$config is to be $new_config"
        fi
    elif [ -n "$is" ] && [ -z "$(managed)" ]; then
        find_out warning config "$config names no bridge: nothing is protected"
    fi
    if runs sgagent.service; then
        find_out ok service "it runs"
    else
        find_out todo service "it does not run"
    fi
}
# What sgagent says against a configuration, of which nothing comes into force.
# shellcheck disable=SC2069 # standard error alone is asked for
accepts() { echo '{}' | sgagent compile - --config "$1" 2>&1 >/dev/null; }

# ---- to do

# Loaded, it shows the frames of every bridge to iptables, unless that is turned off; the agent turns it
# on for its own bridges. Who has it loaded already wants it as it is.
provide_br_netfilter() {
    if [ ! -e /etc/modules-load.d/sgagent.conf ]; then
        step "br_netfilter is loaded at boot (/etc/modules-load.d/sgagent.conf)"
        echo br_netfilter >/etc/modules-load.d/sgagent.conf
    fi
    [ ! -e /proc/sys/net/bridge/bridge-nf-call-ip6tables ] || return 0
    step "loads br_netfilter, turned off for all bridges but the managed ones (/etc/sysctl.d/50-sgagent.conf)"
    for of in arptables iptables ip6tables; do echo "net.bridge.bridge-nf-call-$of = 0"; done >/etc/sysctl.d/50-sgagent.conf
    modprobe br_netfilter || fail "br_netfilter can't be loaded"
    sysctl --quiet --load /etc/sysctl.d/50-sgagent.conf || fail "br_netfilter can't be turned off"
}

install_package() {
    [ -n "$package" ] && [ "$(installed)" != "$(offered "$package")" ] || return 0
    file=$(realpath "$package")
    step "installs $file"
    # With --json standard output is for the answer alone; who installs without may watch.
    case $kind in
    deb)
        # Lists are fetched only where a dependency is not to be had without.
        apt_install --simulate "$file" >/dev/null 2>&1 || apt-get update -qq >&2 || true
        apt_install "$file" >&2 || fail "$file can't be installed"
        ;;
    rpm)
        if is_there dnf; then
            dnf -y -q install "$file" >&2
        elif is_there yum; then
            yum -y -q install "$file" >&2
        elif is_there zypper; then
            zypper --non-interactive --quiet install --allow-unsigned-rpm "$file" >&2
        else
            rpm -U "$file" >&2
        fi || fail "$file can't be installed"
        ;;
    esac
}
# A configuration that was edited stays. Somebody else's apt is waited for.
apt_install() {
    apt-get install -y -qq --no-install-recommends -o Dpkg::Use-Pty=0 -o DPkg::Lock::Timeout=300 \
        -o Dpkg::Options::=--force-confdef -o Dpkg::Options::=--force-confold "$@" </dev/null
}

configure() {
    if [ -z "$new_config" ] || cmp -s "$new_config" "$config"; then return 0; fi
    why=$(accepts "$new_config") || fail "$new_config: $why"
    step "$config becomes $new_config"
    [ ! -e "$config" ] || cp -p "$config" "$config.before"
    # Whole, or not at all.
    install -m 644 "$new_config" "$config.new"
    mv "$config.new" "$config"
    restart=yes
}

provide_drop_ins() { # KIND WHY
    if ! is_for "$1" || has_drop_ins "$1"; then return 0; fi
    for unit in $units; do
        step "$unit.service runs as root, whose $2 ($(drop_in "$1" "$unit"))"
        install -D -m 644 "$(of_package "$1")" "$(drop_in "$1" "$unit")" || fail "$(drop_in "$1" "$unit") can't be written"
    done
    systemctl daemon-reload || fail "systemd does not read its units again"
    restart=yes
}

start() {
    if ! systemctl --quiet is-enabled sgagent.service; then
        step "enables sgagent.service"
        systemctl --quiet enable sgagent.service || fail "sgagent.service can't be enabled"
    fi
    if [ -n "$restart" ] || ! runs sgagent.service; then
        step "starts sgagent.service"
        # It is Type=notify: what has started, serves.
        systemctl restart sgagent.service || fail "sgagent does not start: $(journalctl -u sgagent.service -n 3 -o cat 2>/dev/null | tr '\n' ' ')"
    fi
    # NICs in quarantine are the management server's to mend.
    # shellcheck disable=SC2069 # standard error alone is asked for
    why=$(sgctl status --check 2>&1 >/dev/null) || case $why in *quarantined*) ;; *) fail "sgagent runs, and is not well: $why" ;; esac
}

# ---- the arguments

while [ $# -gt 0 ]; do
    case $1 in
    --package | --config)
        [ $# -gt 1 ] || wrong "$1 what?"
        [ -r "$2" ] || wrong "$2 can't be read"
        if [ "$1" = --package ]; then package=$2; else new_config=$2; fi
        shift
        ;;
    --check) check=yes ;;
    --json) json=yes ;;
    --help | -h)
        usage
        exit 0
        ;;
    *) wrong "what is $1?" ;;
    esac
    shift
done

restart=''
check_host
check_kernel
check_bridges
check_ovs
check_firewalls
check_drop_ins xen "Xen's store is"
check_drop_ins ip6tables "lock of xtables is"
check_sgagent
if [ -n "$check" ]; then
    show
    [ -z "$blocked" ] || report 3
    [ -z "$todo" ] || report 4
    report 0
fi
[ -n "$package" ] || [ -n "$(installed)" ] || wrong "--package says what to install"
if [ -n "$blocked" ]; then
    show
    report 3
fi
case $where in br_netfilter*) provide_br_netfilter ;; esac
install_package
if [ "$where" = unknown ]; then
    where=$(placement)
    case $where in br_netfilter*) provide_br_netfilter ;; esac
fi
configure
provide_drop_ins xen "Xen's store is"
provide_drop_ins ip6tables "lock of xtables is"
start
[ -n "$json" ] || echo "bootstrap: sgagent $(installed) runs${changed:+ (something was changed)}"
report 0
