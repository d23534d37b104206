# shellcheck shell=bash
# shellcheck disable=SC2034,SC2154 # what the scripts that read this use, and set
# A bridge with three guests: two that are described and may talk, and a stranger.

readonly one=2001:db8::1 two=2001:db8::2

network() {
    # Its address is in the rules, which are compared after a reboot, too.
    ip link add br0 address 06:00:00:00:00:fe type bridge
    ip link set br0 up
    local number
    for number in 1 2 3; do
        ip netns add "guest$number"
        # As libvirt writes it: one of the kernel's own may begin with fe, too, and be another guest's.
        ip link add "vnet$number" address "fe:00:00:00:00:0$number" type veth peer name eth0 netns "guest$number"
        ip link set "vnet$number" master br0 up
        ip -n "guest$number" link set eth0 address "06:00:00:00:00:0$number" up
        ip -n "guest$number" address add "2001:db8::$number/64" dev eth0 nodad
    done
}
# Edits a configuration as an administrator would, and describes the guests once the agent is there.
manage_br0() {
    cat >>"$1" <<'CONFIGURATION'

[[bridges]]
name = "br0"
CONFIGURATION
    cat >"$host/packages/nics.yaml" <<NICS
groups:
- id: g
  rules: [{direction: DIRECTION_INGRESS, protocol: PROTOCOL_ANY, remote: {anyone: true}}]
nics:
- {id: nic-1, mac: "06:00:00:00:00:01", interfaces: [{name: vnet1}], addresses: [{address: "$one"}], group_ids: [g]}
- {id: nic-2, mac: "06:00:00:00:00:02", interfaces: [{name: vnet2}], addresses: [{address: "$two"}], group_ids: [g]}
NICS
}
has_nics() {
    inside sgctl nic nic-1 >/dev/null 2>&1 || inside sgctl sync /packages/nics.yaml >/dev/null
    [[ $(inside sgctl nics) == *nic-1*ACTIVE*nic-2*ACTIVE* ]]
}
waits() { [[ $(inside sgctl status) == *'not enforced yet'* ]]; }
reaches() { ip netns exec guest1 ping -6 -c 1 -W 1 $two >/dev/null; }
reaches_from_stranger() { ip netns exec guest3 ping -6 -c 1 -W 1 $two >/dev/null; }
# What is programmed, in any order, without what counts and what packets have taught.
rules() { rules_by_line | sha256sum; }
rules_by_line() {
    nft --stateless list ruleset | awk '
        /^\t(set|map) / { held = ""; holding = 1 }
        holding { held = held $0 "\n"; if (/^\t}/) { holding = 0; if (held !~ /dynamic/) printf "%s", held }; next }
        { print }' | sort
}

# Packets every 20 ms of who may and of who may not.
watch_begins() {
    pings=$(mktemp) strangers=$(mktemp)
    ip netns exec guest1 ping -6 -i 0.02 -W 1 $two >"$pings" &
    good=$!
    # Whom nobody answers runs out of buffers, and says so.
    ip netns exec guest3 ping -6 -i 0.02 -W 1 $two >"$strangers" 2>&1 &
    bad=$!
    sleep 0.5
}
watch_ends() {
    kill -INT "$good" "$bad"
    wait "$good" "$bad" || true
    # The last one may have been on its way. Numbers begin at 1.
    sent=$(sed -n 's/.*icmp_seq=\([0-9]*\) ttl=.*/\1/p' "$pings" | tail -n 1)
    received=$(grep -c 'icmp_seq=.* ttl=' "$pings")
    strange=$(grep -c 'icmp_seq=.* ttl=' "$strangers" || true)
}
