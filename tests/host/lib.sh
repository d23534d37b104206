# shellcheck shell=bash
# shellcheck disable=SC2034 # what the steps use
# What the steps share. The network is that of the other tests of the packages; guest1 has an address
# besides that nobody has given it, and guest2 counts what comes from there.

# shellcheck source=tests/package/lib.sh
. tests/package/lib.sh
# shellcheck source=tests/package/net.sh
. tests/package/net.sh

readonly packages=$1 keys=/root/keys spoofed=2001:db8::66
# This is the host.
host=
inside() { "$@"; }

guests() {
    network
    # Deprecated: nothing is sent from it unasked.
    ip -n guest1 address add $spoofed/64 dev eth0 nodad preferred_lft 0
    ip netns exec guest2 nft -f - <<'RULES'
table ip6 seen {
    chain input {
        type filter hook input priority 0
        ip6 saddr 2001:db8::66 counter
    }
}
RULES
}
spoofed_arrived() { ip netns exec guest2 nft list table ip6 seen | sed -n 's/.*packets \([0-9]*\).*/\1/p'; }
# Both ends know each other's MAC from then on, so that what is dropped is the echo request.
spoof() { ! ip netns exec guest1 ping -6 -c 3 -i 0.2 -W 1 -I $spoofed $two >/dev/null; }

# server NAME COMMAND..: what a management server in Python is answered that has this certificate.
server() { PYTHONPATH=$packages/python python3 tests/host/server.py "$keys" "$@" 2>&1; }
# The same of sgctl.
sgctl_as() { sgctl --address '[::1]:8474' --cacert $keys/ca.pem --cert "$keys/$1.pem" --key "$keys/$1.key" "${@:2}" 2>&1; }
works() {
    local said
    said=$("$@" 2>&1) || { printf '    %s: %s\n' "$*" "$said"; false; }
}
# Whether a command fails and prints a text.
refused() { # TEXT COMMAND..
    local said
    if said=$("${@:2}" 2>&1) || [[ $said != *"$1"* ]]; then
        printf '    no "%s" and an error in: %s\n' "$1" "$said"
        return 1
    fi
}
# One sample of the metrics, by its name and labels.
metric() {
    local line
    exec 3<>/dev/tcp/::1/9874
    printf 'GET /metrics HTTP/1.0\r\nHost: localhost\r\n\r\n' >&3
    while read -r line; do [[ $line != "$1 "* ]] || echo "${line##* }"; done <&3
    exec 3<&-
}
at_least() { # NUMBER COMMAND..
    local got
    got=$("${@:2}")
    ((${got:-0} >= $1)) || { echo "    '$got' instead of $1 or more"; false; }
}
tables() { nft list tables | grep sgagent || true; }
failed_units() { systemctl list-units --failed --plain --no-legend; }
# When a unit became what it is, in microseconds since the boot.
since() { systemctl show -P "$2TimestampMonotonic" "$1"; }
