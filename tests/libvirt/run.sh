#!/usr/bin/env bash
# Real guests of a real libvirt, from their taps' creation on: `make test-libvirt` (root). The guests
# are QEMU's without a disk, and boot from the network as soon as their processors run: what they
# send then is what a guest sends that nobody has described.
#
#     tests/libvirt/run.sh DIRECTORY    where sgagent and sgctl are, in namespaces of its own (tests/run.sh)
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
# shellcheck source=tests/package/lib.sh
. tests/package/lib.sh

PATH=$(realpath "$1"):$PATH
mac=06:b2:00:00:04:79 second=06:b2:00:00:04:80
hook=/etc/libvirt/hooks/qemu.d/sgagent
running=()
trap 'kill "${running[@]}" 2>/dev/null || true' EXIT

# ---- a host of its own: nothing of this machine's libvirt is read or written

for directory in /etc/libvirt /var/lib/libvirt /var/cache/libvirt /var/log/libvirt; do
    mkdir -p "$directory"
    mount -t tmpfs tmpfs "$directory"
done
mkdir -p /etc/libvirt/hooks/qemu.d /etc/libvirt/qemu /run/sgagent
# As root of a namespace without control groups.
cat >/etc/libvirt/qemu.conf <<'CONFIGURATION'
user = "root"
group = "root"
dynamic_ownership = 0
security_driver = "none"
namespaces = []
cgroup_controllers = []
stdio_handler = "file"
CONFIGURATION
cat >/etc/libvirt/libvirtd.conf <<'CONFIGURATION'
listen_tls = 0
auth_unix_rw = "none"
CONFIGURATION
# The hook as it is, but for where things are: libvirt tells hooks nothing of its environment.
sed -e "s|^exec |PATH=$(realpath "$1"):\$PATH exec |" -e 's|/etc/sgagent/hook.conf|/run/hook.conf|g' \
    packaging/libvirt/sgagent >"$hook"
chmod 755 "$hook"
echo 'SGAGENT_WAIT=2' >/run/hook.conf

ip link add br0 type bridge
ip link add uplink0 type veth peer name far0
ip link set uplink0 master br0
for name in br0 uplink0 far0; do ip link set "$name" up; done
# What of the guest comes out of the host.
nft -f - <<RULES
table netdev seen {
    counter guest { }
    chain c {
        type filter hook ingress device far0 priority 0
        ether saddr $mac counter name guest
    }
}
RULES
arrived() { nft list counter netdev seen guest | awk '$1 == "packets" { print $2 }'; }
something_arrived() { (($(arrived) > 0)); }
# What comes from the tap is received by the host.
sends() { (($(ip -s link show dev "$1" | awk '$1 == "RX:" { getline; print $2 }') >= 3)); }
# An emulated guest boots.
by_and_by() { within 180 "$@"; }

cat >/run/sgagent.toml <<'CONFIGURATION'
unix_socket = "/run/sgagent/sgagent.sock"
state_dir = "/run/sgagent/state"
[[bridges]]
name = "br0"
uplinks = ["uplink0"]
CONFIGURATION
start_agent() {
    sgagent run --config /run/sgagent.toml 2>>/run/agent.log &
    agent=$! running+=($!)
    soon sgctl status
}
nic() { # ID MAC
    echo "{id: $1, mac: '$2', interfaces: [{bridge: br0}], slaac_prefix: '2001:db8::/64', group_ids: [g]}"
}
interface() { # MAC
    echo "<interface type='bridge'><mac address='$1'/><source bridge='br0'/><model type='virtio'/><boot order='1'/></interface>"
}
guest() { # NAME MAC
    echo "<domain type='qemu'><name>$1</name><memory unit='MiB'>64</memory><vcpu>1</vcpu>
<os><type arch='x86_64' machine='q35'>hvm</type></os>
<devices><emulator>$(command -v qemu-system-x86_64)</emulator>$(interface "$2")</devices></domain>"
}
start() { virsh -q start "$1"; }
shows() { [[ $(sgctl "$1") == *"$2"* ]]; }
runs() { [[ $(virsh -q domstate "$1") == running ]]; }
tap() { virsh -q domiflist "$1" | awk -v mac="$2" '$5 == mac { print $1 }'; }
refused() { # GUEST WORDS
    local said
    ! said=$(start "$1" 2>&1) && has "$said" "$2"
}

start_agent >/dev/null
libvirtd 2>/run/libvirtd.log &
running+=($!)
soon virsh -q list
guest www $mac >/run/www.xml
virsh -q define /run/www.xml

# ---- the hook

began=$SECONDS
check a_guest_that_nobody_described_does_not_start refused www "($mac, on br0): nobody has described a NIC with this MAC"
check its_wait_is_the_configured_one test $((SECONDS - began)) -lt 15
check it_does_not_run not runs www
sgctl sync - >/dev/null <<<"{groups: [{id: g}], nics: [$(nic nic-1 $mac)]}"
check one_that_was_described_does start www
check its_nic_is_in_force shows nics 'nic-1  ACTIVE'
check it_reaches_the_network by_and_by something_arrived
virsh -q destroy www
check its_nic_waits_for_it soon shows nics PENDING
kill "$agent"
wait "$agent" || true
check without_an_agent_nobody_starts refused www 'cannot reach the agent'

# ---- without the hook

start_agent >/dev/null
sgctl sync - >/dev/null <<<'{}'
printf '#!/bin/sh\n' >"$hook"
nft reset counters table netdev seen >/dev/null
check a_guest_starts_without_the_hook start www
www=$(tap www $mac)
check it_sends by_and_by sends "$www"
check from_its_taps_creation_on_nothing_has_passed is 0 arrived
check the_agent_knows_its_port shows status "$www"
sgctl sync - >/dev/null <<<"{groups: [{id: g}], nics: [$(nic nic-1 $mac)]}"
virsh -q reset www
check described_it_reaches_the_network by_and_by something_arrived

# ---- plugged in while the guest runs: libvirt asks no hook

interface $second | sed 's|<boot [^>]*>||' >/run/second.xml
check an_interface_is_plugged_in virsh -q attach-device www /run/second.xml
check it_is_closed soon shows status "$(tap www $second)"
sgctl apply - >/dev/null <<<"{nics: [$(nic nic-2 $second)]}"
check bound_it_is_in_force shows nics 'nic-2  ACTIVE'
finish
