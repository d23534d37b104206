#!/usr/bin/env bash
# A host of Xen, but for the hypervisor: the store is Xen's own daemon (xenstored, and what XenServer
# has, oxenstored), interfaces are called as in dom0, and guests behind them are namespaces. `make
# test-xen`.
#
#     tests/xen/run.sh DIRECTORY    where sgagent and sgctl are, in namespaces of its own (tests/run.sh)
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
# shellcheck source=tests/package/lib.sh
. tests/package/lib.sh

PATH=$(realpath "$1"):$PATH
vm=0a1b2c3d-0000-4fff-8000-00000000abcd other=0a1b2c3d-0000-4fff-8000-00000000abce
mac=06:b2:00:00:04:79 other_mac=06:b2:00:00:04:80
router=2001:db8::1 nobodys=2001:db8::bad address=2001:db8::4b2:ff:fe00:479 other_address=2001:db8::4b2:ff:fe00:480
work=/run/xenstored
running=()
trap 'kill "${running[@]}" 2>/dev/null || true' EXIT
mkdir -p $work /run/sgagent
gcc -shared -fPIC -O1 -w -o $work/shim.so tests/xen/shim.c -ldl

# ---- the store

# What is called so in a directory for everybody asks first whether this is a host of Xen.
xen=$(dirname "$(command -v init-xenstore-domain)")
export XENSTORED_PATH=$work/socket XENSTORED_RUNDIR=$work
start_store() { # PROGRAM
    head -c 4096 /dev/zero >$work/kva
    echo 1 >$work/port
    printf '%s\n' "pid-file = $work/pid" 'persistent = false' 'access-log-file = /dev/null' \
        'xenstored-log-file = /dev/null' >$work/conf
    local options=(--no-fork --internal-db --pid-file "$work/pid")
    [[ $1 == xenstored ]] || options=(--no-fork --no-domain-init --config-file "$work/conf")
    SHIM_KVA=$work/kva SHIM_PORT=$work/port LD_PRELOAD=$work/shim.so "$xen/$1" "${options[@]}" >$work/log 2>&1 &
    store=$! running+=($!)
    soon xenstore-ls / || { cat $work/log; false; }
}
# What xapi's toolstack writes of an interface.
described() { # DOMAIN DEVICE VM MAC
    local backend=/local/domain/0/backend/vif/$1/$2
    xenstore-write "/local/domain/$1/vm" "/vm/$3" "/vm/$3/uuid" "$3" "$backend/frontend-id" "$1" \
        "$backend/mac" "$4" "$backend/state" 2 "/local/domain/$1/device/vif/$2/mac" "$4"
}
forgotten() { # DOMAIN
    xenstore-rm "/local/domain/0/backend/vif/$1"
    xenstore-rm "/local/domain/$1"
}

# ---- the host, a router behind its uplink, and guests

ip link add xenbr0 type bridge mcast_snooping 0
ip link set xenbr0 up
ip netns add router
ip link add eth0 type veth peer name eth0 netns router
ip link set eth0 master xenbr0 up
ip -n router link set eth0 up
ip -n router address add $router/64 dev eth0 nodad
router_mac=$(ip -n router -o link show eth0 | sed 's|.*link/ether \([^ ]*\).*|\1|')
# What arrives there from an address that is no guest's.
ip netns exec router nft -f - <<RULES
table netdev seen {
    counter lies { }
    chain c {
        type filter hook ingress device eth0 priority 0
        ip6 saddr $nobodys counter name lies
    }
}
RULES
lies() { ip netns exec router nft list counter netdev seen lies | awk '$1 == "packets" { print $2 }'; }
a_lie_arrived() { (($(lies) > 0)); }
# A guest that doesn't ask who the router is lies 500 times a second.
lie() { # INTERFACE GUEST
    ip -n "$2" neighbour replace $router lladdr "$router_mac" dev "$1" nud permanent
    # Deprecated, so that what else the guest sends is from its own.
    ip -n "$2" address replace $nobodys/64 dev "$1" nodad preferred_lft 0
    ip netns exec "$2" ping -6 -q -i 0.002 -I $nobodys $router >/dev/null &
    liar=$! running+=($!)
}
plug() { # INTERFACE GUEST MAC ADDRESS
    ip netns list | grep -qw "$2" || ip netns add "$2"
    ip link add "$1" address fe:ff:ff:ff:ff:ff type veth peer name "$1" netns "$2" address "$3"
    ip link set "$1" master xenbr0 up
    ip -n "$2" link set "$1" up
    # It derives its address from the router's prefix; here without a router that advertises.
    ip -n "$2" address add "$4/64" dev "$1" nodad
}
reaches() { ip netns exec "$1" ping -6 -q -c 1 -W 1 $router >/dev/null; }
bound() { # NIC INTERFACES
    local said
    said=$(sgctl nics)
    [[ $said =~ $1\ +ACTIVE\ +$2\  ]] || { echo "    no ACTIVE $1 at $2 in: $said"; false; }
}

cat >/run/sgagent.toml <<CONFIGURATION
unix_socket = "/run/sgagent/sgagent.sock"
state_dir = "/run/sgagent/state"
xenstore = "$work/socket"
[[bridges]]
name = "xenbr0"
uplinks = ["eth0"]
CONFIGURATION
start_agent() {
    sgagent run --config /run/sgagent.toml 2>>/run/agent.log &
    agent=$! running+=($!)
    soon sgctl status
}
stop_agent() {
    kill "$agent"
    wait "$agent" || true
}
nic() { # ID MAC SELECTOR
    echo "{id: $1, mac: '$2', interfaces: [$3], slaac_prefix: '2001:db8::/64', group_ids: [g]}"
}
synced() { sgctl sync - <<<"{groups: [{id: g}], nics: [$1]}"; }
of_vm="{xen: {vmUuid: $vm, device: 0}}"

# Nobody protects anything yet.
plug vif6.0 guest $mac $address
lie vif6.0 guest
check what_a_guest_pretends_can_be_seen soon a_lie_arrived
kill $liar
wait $liar || true
ip netns delete guest
soon not ip link show vif6.0

for program in xenstored oxenstored; do
    start_store $program
    start_agent >/dev/null
    synced "$(nic nic-1 $mac "$of_vm")" >/dev/null
    checks() { check "${program}_$1" "${@:2}"; }

    # ---- a VM starts

    checks a_vm_that_does_not_run_is_waited_for says "no interface is of device 0 of VM $vm, as Xen's store says" sgctl nic nic-1
    plug vif7.0 guest $mac $address
    checks its_interface_is_closed_until_the_store_knows_it not reaches guest
    described 7 0 $vm $mac
    checks described_it_is_bound soon bound nic-1 vif7.0
    checks it_reaches_the_router soon reaches guest
    plug tap7.0 guest.qemu $mac $address
    checks a_device_models_interface_is_bound_with_it soon bound nic-1 'tap7.0 vif7.0'
    ip link delete tap7.0

    # ---- what a guest writes, and what nobody else may

    xenstore-write /local/domain/7/device/vif/0/mac $other_mac
    plug vif8.0 other $other_mac $other_address
    described 8 0 $other $other_mac
    sgctl apply - >/dev/null <<<"{nics: [$(nic nic-2 $other_mac '{bridge: xenbr0}')]}"
    checks another_vm_is_found_by_its_mac soon bound nic-2 vif8.0
    checks the_frontends_mac_says_nothing bound nic-1 vif7.0
    checks both_reach_the_router soon reaches other
    xenstore-write /local/domain/0/backend/vif/8/0/mac 06:b2:00:00:04:81
    checks another_mac_in_the_backend_closes soon says 'nic-2  PENDING' sgctl nics
    checks nobody_gets_through_there not reaches other
    xenstore-write /local/domain/0/backend/vif/8/0/mac $other_mac
    checks and_is_bound_again soon bound nic-2 vif8.0

    # ---- xapi takes the port off the bridge and puts it back

    ip link set vif7.0 nomaster
    checks a_port_that_left_is_waited_for soon says 'interface vif7.0 is not a port of a bridge' sgctl nic nic-1
    ip link set vif7.0 master xenbr0
    checks it_is_bound_again soon bound nic-1 vif7.0
    checks and_reaches_the_router soon reaches guest
    lied=$(lies)
    lie vif7.0 guest
    reached=0
    for _ in {1..20}; do
        ip link set vif7.0 nomaster
        ip link set vif7.0 master xenbr0
        ! soon reaches guest || reached=$((reached + 1))
    done
    checks each_time_it_reaches_the_router test $reached = 20
    checks and_nothing_passed_in_between is "$lied" lies
    checks though_the_guest_kept_lying says spoofed-source sgctl drops nic-1
    kill $liar
    wait $liar || true
    ip -n guest address delete $nobodys/64 dev vif7.0
    ip -n guest neighbour delete $router dev vif7.0

    # ---- the store's daemon ends, and the agent begins anew

    kill "$store"
    wait "$store" 2>/dev/null || true
    checks a_store_that_is_gone_is_a_warning soon says "cannot read Xen's store" sgctl status
    checks what_was_known_stays bound nic-1 vif7.0
    checks and_in_force reaches guest
    stop_agent
    rm -f $work/socket
    start_store $program
    # More domains than names fit into one answer.
    others=()
    for domain in {10000..11199}; do others+=("/local/domain/0/backend/vif/$domain/0/mac" "$other_mac"); done
    xenstore-write "${others[@]}"
    described 7 0 $vm $mac
    start_agent >/dev/null
    checks a_restart_finds_it_in_the_store bound nic-1 vif7.0

    # ---- the VM migrates away, comes back as another domain, and is stopped

    ip link delete vif7.0
    forgotten 7
    checks a_vm_that_left_is_waited_for soon says 'nic-1  PENDING' sgctl nics
    plug vif9.0 guest $mac $address
    described 9 0 $vm $mac
    checks as_another_domain_it_is_bound soon bound nic-1 vif9.0
    checks and_reaches_the_router_from_there soon reaches guest
    ip link delete vif9.0
    forgotten 9
    checks stopped_it_is_waited_for soon says 'nic-1  PENDING' sgctl nics

    ip link delete vif8.0
    stop_agent
    kill "$store"
    wait "$store" 2>/dev/null || true
    rm -rf /run/sgagent/state $work/socket
    nft delete table bridge sgagent
    ip netns delete guest
    ip netns delete other
    ip netns delete guest.qemu
done
finish
