# shellcheck shell=bash
# shellcheck disable=SC2034,SC2154 # variables are shared with run.sh
# What g2 does to the others, each with its own kernel and with real programs, and how its victim
# tells. Sourced by run.sh.

start_rogue_server() {
    start rogue-kea g2 "$programs/kea-dhcp6" -c "$work/rogue-kea.json"
    need 20 logged rogue-kea DHCP6_STARTED
}

start_rogue_router() {
    start rogue-radvd g2 "$programs/radvd" -n -m stderr -C "$work/rogue-radvd.conf" -p "$work/rogue-radvd.pid"
}

# A guest, or the hypervisor itself, believes the rogue router.
misled() { ip -n "$1" -6 -o address show dev "$2" | grep -q -F " ${rogue_prefix}1:"; }

misled_by_server() { [[ $(got_prefix) == "$rogue_prefix"* ]] || arrived g1 "$1" "^$g2_link_local > .* udp 547 546 "; }

# g2 sends pings to the stranger from an address that isn't its own. On lo, the address is one
# that g2 doesn't answer neighbours for.
spoof() {
    ip -n g2 address add "$1/128" dev lo nodad
    in_ns g2 ping -6 -n -q -c 2 -i 0.2 -w 1 -I "$1" "$stranger" >/dev/null 2>&1 || true
    ip -n g2 address del "$1/128" dev lo
}

# g2 takes the router's address and announces it (sysctl ndisc_notify), as after a failover.
forge_neighbour() {
    in_ns g1 ping -6 -n -q -c 1 -W 2 "$router%eth0" >/dev/null || true
    ip -n g2 address add "$router/64" dev eth0 nodad
    setting g2 conf/eth0/ndisc_notify 1
    ip -n g2 link set eth0 address "$g2_mac"
    ip -n g2 address del "$router/64" dev eth0
    setting g2 conf/eth0/ndisc_notify 0
}

misdirected() { ip -n g1 -6 neighbour show "$router" dev eth0 | grep -q -F "$g2_mac"; }
