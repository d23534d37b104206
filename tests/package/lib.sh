# shellcheck shell=bash
# What the tests of the packages share: a Debian in a directory, as `$host`, whose services are
# started by tests/package/init, and what they say of themselves.

passed=0 failed=0
check() {
    local claim=$1
    shift
    if "$@"; then
        echo "test $claim ... ok"
        passed=$((passed + 1))
    else
        echo "test $claim ... FAILED"
        failed=$((failed + 1))
    fi
}
finish() {
    echo "$passed passed, $failed failed"
    ((failed == 0))
}
# within SECONDS COMMAND..: until it succeeds.
within() {
    local until=$((SECONDS + $1))
    shift
    while ((SECONDS < until)); do
        ! "$@" >/dev/null 2>&1 || return 0
        sleep 0.2
    done
    "$@"
}
soon() { within 10 "$@"; }
not() { ! "$@"; }
is() { [[ $("${@:2}") == "$1" ]] || { echo "    wanted: $1"; echo "    got: $("${@:2}")"; false; }; }
# Whether a text has another in it.
has() { [[ $1 == *"$2"* ]] || { echo "    no '$2' in: $1"; false; }; }
lacks() { [[ $1 != *"$2"* ]] || { echo "    there is '$2'"; false; }; }
# Whether a command prints a text, whatever becomes of it.
says() { # TEXT COMMAND..
    local said
    said=$("${@:2}" 2>&1) || true
    [[ $said == *"$1"* ]] || { printf '    no "%s" in: %s\n' "$1" "$said"; false; }
}
exits() { # CODE COMMAND..
    local code=0 errors
    errors=$(mktemp)
    output=$("${@:2}" 2>"$errors") || code=$?
    # What is JSON stays so.
    [[ " $* " == *" --json "* && $code == "$1" ]] || output+=$(cat "$errors")
    [[ $code == "$1" ]] || { printf '    %s instead of %s: %s\n' "$code" "$1" "$output"; false; }
}

# Runs a command in the Debian, with nothing of this machine's environment.
inside() {
    chroot "$host" env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C \
        DEBIAN_FRONTEND=noninteractive "$@"
}

# new_host BASE: a fresh one, which goes away with this namespace. Its init is a stand-in.
new_host() {
    local layers
    layers=$(mktemp -d /run/host.XXXXXX)
    mkdir "$layers"/{upper,work,root}
    mount -t overlay overlay -o "lowerdir=$1,upperdir=$layers/upper,workdir=$layers/work" "$layers/root"
    host=$layers/root
    mount -t proc proc "$host/proc"
    # This network namespace's own: /sys/class/net is of the one that mounts it.
    mount -t sysfs sysfs "$host/sys"
    mount --rbind /dev "$host/dev"
    mkdir -p "$host/run/systemd/system" "$host/packages"
    install -m 755 tests/package/init "$host/usr/local/sbin/init-of-the-test"
    ln -s init-of-the-test "$host/usr/local/sbin/systemctl"
    ln -s init-of-the-test "$host/usr/local/sbin/deb-systemd-invoke"
    forget
    # What debootstrap left there would keep every package from starting anything.
    rm -f "$host/usr/sbin/policy-rc.d"
}

# What init was asked to do, a line each.
asked() { cat "$host/run/init.log" 2>/dev/null; }
forget() { : >"$host/run/init.log"; }
agent() { cat "$host/run/sgagent.pid" 2>/dev/null; }
agent_runs() { [[ -n $(agent) && -d /proc/$(agent) ]]; }
