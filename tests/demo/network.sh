# shellcheck shell=bash
# shellcheck disable=SC2034,SC2154 # variables are shared with run.sh
# The demo's network: sourced by run.sh, which sets `files`, `work` and `programs`.
#
#     stranger ---- router ---- eth0[host: br0]vnet0 ---- g1
#                   radvd            sgagent  vnet1 ---- g2
#                   Kea

readonly g1_mac=06:b2:00:00:04:79 g2_mac=06:b2:00:00:04:7a
readonly g1=2001:db8:0:1:4b2:ff:fe00:479 g2=2001:db8:0:1:4b2:ff:fe00:47a
readonly g1_prefix=2001:db8:0:110::/60 g1_inner=2001:db8:0:110::1
readonly g1_link_local=fe80::4b2:ff:fe00:479 g2_link_local=fe80::4b2:ff:fe00:47a
readonly router=fe80::1 router_far=2001:db8:0:ffff::1 stranger=2001:db8:0:ffff::2
readonly rogue_prefix=2001:db8:bad:

in_ns() { ip netns exec "$@"; }

# setting NAMESPACE PATH VALUE: a sysctl, by its path under net/ipv6.
setting() { in_ns "$1" sh -c "echo $3 >/proc/sys/net/ipv6/$2"; }

# wait_for SECONDS COMMAND..: until the command succeeds.
wait_for() {
    local end=$((SECONDS + $1))
    shift
    until "$@"; do
        ((SECONDS <= end)) || return 1
        sleep 0.05
    done
}

# need SECONDS COMMAND..: the demo can't go on before it succeeds.
need() {
    wait_for "$@" || {
        echo "demo: gave up after $1 s: ${*:2}" >&2
        exit 1
    }
}

# start NAME NAMESPACE COMMAND..: in the background, its output in $work/NAME.log.
declare -A running=()
start() {
    local name=$1 namespace=$2
    shift 2
    # exec: the process to be stopped is the program itself.
    (exec ip netns exec "$namespace" "$@" >"$work/$name.log" 2>&1 </dev/null) &
    running[$name]=$!
}

# stop NAME [SIGNAL]
stop() {
    [[ -v running[$1] ]] || return 0
    kill -s "${2-TERM}" "${running[$1]}" 2>/dev/null || true
    wait "${running[$1]}" 2>/dev/null || true
    unset "running[$1]"
}

# logged NAME TEXT: whether a program has said it.
logged() { grep -q -e "$2" "$work/$1.log" 2>/dev/null; }

build_network() {
    local namespace
    for namespace in host router stranger g1 g2; do
        ip netns add "$namespace"
        ip -n "$namespace" link set lo up
        # What the distribution has set for new interfaces isn't what a guest has.
        setting "$namespace" conf/default/use_tempaddr 0
        setting "$namespace" conf/default/addr_gen_mode 0
    done

    ip link add eth0 netns host type veth peer name eth1 netns router
    ip link add eth0 netns stranger type veth peer name eth2 netns router
    ip link add vnet0 netns host type veth peer name eth0 address "$g1_mac" netns g1
    ip link add vnet1 netns host type veth peer name eth0 address "$g2_mac" netns g2

    # The router and the stranger are there before the guests: no duplicate address detection.
    setting router conf/all/forwarding 1
    ip -n router link set eth1 addrgenmode none up
    ip -n router address add "$router/64" dev eth1 nodad
    ip -n router link set eth2 up
    ip -n router address add "$router_far/64" dev eth2 nodad
    # The router knows where on-link addresses are; Kea doesn't tell it where a /60 went.
    ip -n router address add 2001:db8:0:1::1/64 dev eth1 nodad
    ip -n router route add "$g1_prefix" via "$g1_link_local" dev eth1
    ip -n stranger link set eth0 up
    ip -n stranger address add "$stranger/64" dev eth0 nodad
    ip -n stranger route add default via "$router_far"

    # libvirt gives a tap its guest's MAC with the first octet fe, so that the bridge never takes it.
    ip -n host link add br0 type bridge
    ip -n host link set vnet0 address "fe${g1_mac#06}"
    ip -n host link set vnet1 address "fe${g2_mac#06}"
    local port
    for port in eth0 vnet0 vnet1; do
        # A port of a bridge has no addresses of its own.
        setting host "conf/$port/disable_ipv6" 1
        ip -n host link set "$port" master br0 up
    done
    ip -n host link set br0 up
    ip -n g1 link set eth0 up
    ip -n g2 link set eth0 up

    start listen g1 python3 "$files/listen.py" 22 80 5432
    watch g1
    watch stranger
    start radvd router "$programs/radvd" -n -m stderr -C "$work/radvd.conf" -p "$work/radvd.pid"
    start kea router "$programs/kea-dhcp6" -c "$work/kea.json"
    need 20 logged kea DHCP6_STARTED
}

# The packets that arrive at a machine, a line each, in $work/NAMESPACE.log.
watch() {
    start "$1" "$1" python3 "$files/watch.py"
    need 20 logged "$1" listening
}

# arrivals NAMESPACE: how many lines there are, to tell new ones from old ones.
arrivals() { wc -l <"$work/$1.log"; }

# arrived NAMESPACE SINCE PATTERN: whether such a packet has come since. What was sent before a
# ping of the router came before it, so once that is there, nothing is missing any more.
arrived() {
    seen "$1" "$2" "$3" && return
    in_ns router ping -6 -n -q -c 1 -W 2 "$(ping_address "$1")" >/dev/null 2>&1 || true
    wait_for 2 seen "$1" "$2" "^\\($router\\|$router_far\\) > .* icmp6 128" || true
    seen "$1" "$2" "$3"
}
ping_address() { if [[ $1 == g1 ]]; then echo "$g1_link_local%eth1"; else echo "$stranger"; fi; }
seen() { tail -n "+$(($2 + 1))" "$work/$1.log" | grep -q -e "$3"; }

has_address() { ip -n "$1" -6 -o address show dev "$2" -tentative | grep -q -F " $3"; }

# A machine forgets all that it has learned, and begins anew.
renew() {
    setting "$1" "conf/$2/disable_ipv6" 1
    setting "$1" "conf/$2/disable_ipv6" 0
    need 20 has_address "$1" "$2" fe80:
}

solicit() { in_ns "$1" rdisc6 -1 -r 1 -w 1500 eth0 >/dev/null 2>&1; }

# Asks for addresses: the router's advertisements don't come more often than every 3 seconds.
autoconfigure() { need 20 solicited "$1" "$2"; }
solicited() { has_address "$1" eth0 "$2" || { solicit "$1" && wait_for 3 has_address "$1" eth0 "$2"; }; }

# Prefix delegation with a real client; what it got is in $work/prefix.
request_prefix() {
    rm -f "$work/prefix" "$work/dhclient.leases"
    start dhclient g1 "$programs/dhclient" -6 -P -D LL -d -cf /dev/null -lf "$work/dhclient.leases" \
        -pf "$work/dhclient.pid" -sf "$work/pd-script.sh" -e "PREFIX_FILE=$work/prefix" eth0
    wait_for 12 test -s "$work/prefix" || true
    # The lease is kept: a signal that lets the client say goodbye would give it back.
    stop dhclient KILL
    local prefix
    prefix=$(got_prefix)
    if [[ $prefix == */60 ]]; then
        ip -n g1 -6 address replace "${prefix%/*}1/128" dev lo
    fi
}

got_prefix() { cat "$work/prefix" 2>/dev/null || echo none; }

# greet NAMESPACE ADDRESS PORT [SECONDS]: "answers" or "silence".
greet() {
    # shellcheck disable=SC2016 # expanded by the inner shell
    local client='exec 3<>"/dev/tcp/$0/$1" && read -r line <&3 && [[ $line == "hello from port $1" ]]'
    if in_ns "$1" timeout "${4-5}" bash -c "$client" "$2" "$3" 2>/dev/null; then
        echo answers
    else
        echo silence
    fi
}

# echoes NAMESPACE ADDRESS [OPTION..]: "answers" or "silence".
echoes() {
    local namespace=$1 address=$2
    shift 2
    if in_ns "$namespace" ping -6 -n -q -c 2 -i 0.2 -W 5 "$@" "$address" >/dev/null 2>&1; then
        echo answers
    else
        echo silence
    fi
}
