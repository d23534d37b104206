#!/usr/bin/env bash
# The main job on real input: sgagent between two guests, a router with radvd and Kea, and a
# stranger behind it. Every line of the table is judged by what arrives at the receiver.
#
#     tests/demo/run.sh [DIRECTORY]
#
# DIRECTORY has the programs sgagent and sgctl; default: target/debug. Exit status 0 when every
# line is as expected. All of it happens in namespaces that end with it (tests/run.sh).
set -euo pipefail

files=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
if [[ ${1-} != --inside ]]; then
    directory=$(cd "${1:-$files/../../target/debug}" && pwd)
    exec "$files/../run.sh" "$files/run.sh" --inside "$directory"
fi
readonly built=$2

# /run is a file system of our own.
readonly work=/run/demo programs=/run/demo/programs
mkdir -p "$programs" /run/sgagent
export SGAGENT_SOCKET=/run/sgagent/sgagent.sock
# Where Kea writes besides; two of them run at once.
export KEA_PIDFILE_DIR=$work KEA_LOCKFILE_DIR=$work KEA_LOGGER_DESTINATION=stdout

# radvd refuses a configuration that a group may write.
install -m 644 "$files"/{radvd,rogue-radvd}.conf "$files"/{kea,rogue-kea}.json "$files"/sgagent.toml "$work"
install -m 755 "$files/pd-script.sh" "$work"
# A distribution's AppArmor profile goes by the program's path, and lets it read only its own
# directory: a copy isn't confined.
for program in radvd kea-dhcp6 dhclient; do
    cp -L "$(command -v "$program")" "$programs/"
done

# shellcheck source=tests/demo/network.sh
. "$files/network.sh"
# shellcheck source=tests/demo/attacks.sh
. "$files/attacks.sh"
# shellcheck source=tests/demo/table.sh
. "$files/table.sh"

finish() {
    local status=$? name
    trap - EXIT
    for name in "${!running[@]}"; do
        stop "$name"
    done
    if ((status != 0)); then
        for name in sgagent radvd kea rogue-radvd rogue-kea dhclient g1 stranger; do
            [[ ! -s $work/$name.log ]] || { echo "---- last lines of $name"; tail -n 15 "$work/$name.log"; } >&2
        done
    fi
    exit "$status"
}
trap finish EXIT
trap 'exit 130' INT TERM

agent_answers() { "$built/sgctl" status >/dev/null 2>&1; }
start_agent() {
    start sgagent host "$built/sgagent" run --config "$work/sgagent.toml"
    need 20 agent_answers
}

# ---- without the agent

build_network
autoconfigure g1 "$g1"
autoconfigure g2 "$g2"

table_head
headline "Without the agent, what g2 tries succeeds"
row "stranger to g1, TCP port 22" answers "$(greet stranger "$g1" 22)"
start_rogue_server
start_rogue_router
row "rogue RA (radvd in g2): g1 takes its prefix" yes "$(happens 8 misled g1 eth0)"
row "                        and so does the hypervisor" yes "$(happens 8 misled host br0)"
since=$(arrivals g1)
request_prefix
row "rogue DHCPv6 server (Kea in g2): g1 takes its /60" yes "$(happens 5 misled_by_server "$since")"
since=$(arrivals stranger)
spoof "$g1"
row "g2 sends as g1: reaches the stranger" yes "$(happens 3 arrived stranger "$since" "^$g1 > $stranger icmp6 128")"
forge_neighbour
row "forged NA for the router: g1 sends to g2 instead" yes "$(happens 3 misdirected)"
stop rogue-radvd
stop rogue-kea

# ---- closed until described

headline "The agent starts: a port that no NIC is bound to carries nothing"
start_agent
renew g1 eth0 & renewals=($!)
renew host br0 & renewals+=($!)
wait "${renewals[@]}"
since=$(arrivals g1)
counted unbound
solicit g1 || true
row "g1 gets an RA" no "$(happens 0 seen g1 "$since" ' icmp6 134')" unbound

# ---- what must pass

headline "sgctl apply nics.yaml, over gRPC"
"$built/sgctl" apply "$files/nics.yaml" | indent
renew g2 eth0
autoconfigure g1 "$g1"
autoconfigure g2 "$g2"
row "g1 has by SLAAC $g1" yes "$(has g1 "$g1")"
row "g2 has by SLAAC $g2" yes "$(has g2 "$g2")"
start_rogue_server
since=$(arrivals g1)
counted rogue-dhcpv6 g2-nic
request_prefix
row "g1 has by DHCPv6 (dhclient, Kea) $g1_prefix" yes "$(has_prefix)"
rogue_server=$(happens 0 misled_by_server "$since")
row "g1 pings the stranger" answers "$(echoes g1 "$stranger")"
row "         with 3,000 octets" answers "$(echoes g1 "$stranger" -s 3000)"
row "         from its /60" answers "$(echoes g1 "$stranger" -I "$g1_inner")"
row "stranger to g1, TCP port 80 (group web)" answers "$(greet stranger "$g1" 80)"
row "g2 to g1, TCP port 5432 (group app may)" answers "$(greet g2 "$g1" 5432)"

# ---- what must not

headline "The same again: nothing of it arrives"
row "rogue DHCPv6 server (Kea in g2): g1 sees it" no "$rogue_server" rogue-dhcpv6
counted rogue-ra g2-nic
start_rogue_router
wait_for 5 grown || true
row "rogue RA (radvd in g2): g1 takes its prefix" no "$(happens 0 misled g1 eth0)" rogue-ra
row "                        so does the hypervisor" no "$(happens 0 misled host br0)" rogue-ra
for source in "$g1" 2001:db8:0:1::77; do
    counted spoofed-source g2-nic
    since=$(arrivals stranger)
    spoof "$source"
    row "g2 sends as ${source/$g1/g1}: reaches the stranger" no "$(happens 0 arrived stranger "$since" "^$source > ")" spoofed-source
done
counted nd-spoof g2-nic
forge_neighbour
wait_for 2 grown || true
row "forged NA for the router: g1 sends to g2 instead" no "$(happens 0 misdirected)" nd-spoof
for port in 22 5432; do
    counted group-ingress g1-nic
    row "stranger to g1, TCP port $port" silence "$(greet stranger "$g1" "$port" 1.5)" group-ingress
done

# ---- the rules outlive the agent

headline "The agent stops: the rules stay; purge takes them away"
stop sgagent
since=$(arrivals stranger)
spoof "$g1"
row "g2 sends as g1: reaches the stranger" no "$(happens 0 arrived stranger "$since" "^$g1 > .* 128")"
row "g1 pings the stranger" answers "$(echoes g1 "$stranger")"
start_agent
row "the agent starts again: active NICs" 2 "$("$built/sgctl" --json nics | grep -c NIC_STATE_ACTIVE)"
stop sgagent
in_ns host "$built/sgagent" purge --config "$work/sgagent.toml" >>"$work/sgagent.log" 2>&1
row "purge: tables left" 0 "$(in_ns host nft list tables | wc -l)"

verdict
