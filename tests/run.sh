#!/usr/bin/env bash
# Runs a command as root of throw-away namespaces:
#
#     tests/run.sh COMMAND [ARGUMENT..]
#
# Network, mounts, /run and processes of the command are its own, so it can't change the host's
# network, and whatever it leaves running or mounted ends with it. Root gets them directly; anybody
# else as root of a user namespace. tests/setup.sh provides the programs.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
eval "$("$root/tests/setup.sh" --print-env)"

(($# > 0)) || { sed -n '2,4s/^# \?//p' "${BASH_SOURCE[0]}" >&2; exit 2; }

# The network namespace starts with its loopback down; `ip netns` and daemons write to /run.
# shellcheck disable=SC2016 # expanded by the inner shell
readonly prologue='mount -t tmpfs -o mode=0755 tmpfs /run && ip link set lo up && exec "$@"'

base=(--mount --net)
own_processes=(--pid --fork --kill-child --mount-proc)
variants=()
((EUID != 0)) || variants+=("${base[*]} ${own_processes[*]}" "${base[*]}")
# Root of a container may have to take this way too. Where /proc is masked, a process
# namespace can't mount its own, and the command goes without.
user=(--user --map-root-user)
variants+=("${user[*]} ${base[*]} ${own_processes[*]}" "${user[*]} ${base[*]}")

for variant in "${variants[@]}"; do
    read -ra options <<<"$variant"
    if unshare "${options[@]}" sh -c "$prologue" sh true 2>/dev/null; then
        # The first process of a process namespace doesn't die of a signal, and unshare waits for
        # it. So this script takes the signal, and both die of its end.
        trap 'exit 130' INT
        trap 'exit 143' TERM HUP
        setpriv --pdeathsig KILL unshare "${options[@]}" sh -c "$prologue" sh "$@" <&0 &
        wait "$!" && exit 0 || exit "$?"
    fi
done

{
    echo "tests/run.sh: this needs a network namespace, and neither root's own way nor a user namespace works here:"
    unshare "${options[@]}" sh -c "$prologue" sh true 2>&1 | sed 's/^/    /' || true
    echo "Run it as root, or let everybody make user namespaces by these settings (as far as they exist):"
    while read -r key wanted; do
        file=/proc/sys/${key//.//}
        [[ ! -e $file ]] || echo "    sysctl -w $key=$wanted    # is $(cat "$file" 2>/dev/null || echo unreadable)"
    done <<'SETTINGS'
kernel.unprivileged_userns_clone 1
kernel.apparmor_restrict_unprivileged_userns 0
user.max_user_namespaces 15000
user.max_net_namespaces 15000
SETTINGS
    echo "In a container its runtime (seccomp, dropped capabilities) may forbid it as well."
} >&2
exit 1
