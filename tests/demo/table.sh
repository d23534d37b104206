# shellcheck shell=bash
# shellcheck disable=SC2034,SC2154 # variables are shared with run.sh
# The demo's table, and the agent's counters beside it. Sourced by run.sh.

rows=0 wrong=0
if [[ -t 1 && -z ${NO_COLOR-} ]]; then
    readonly green=$'\e[32m' red=$'\e[31m' bold=$'\e[1m' plain=$'\e[0m'
else
    readonly green='' red='' bold='' plain=''
fi

table_head() { printf '    %-52s %-9s %-9s %s\n' '' expected seen 'dropped as'; }

headline() {
    printf '\n%s%s%s\n' "$bold" "$1" "$plain"
}

indent() { sed 's/^/    /'; }

# row WHAT EXPECTED SEEN [REASON]: with a reason, of `counted`, its counter must have grown too.
row() {
    local what=$1 expected=$2 seen=$3 counter='' mark="$green✓$plain" grown=1
    if [[ -n ${4-} ]]; then
        wait_for 2 grown || true
        grown=$((counter_now - counter_before))
        counter="$4 +$grown"
    fi
    ((++rows))
    if [[ $seen != "$expected" ]] || ((grown == 0)); then
        mark="$red✗$plain"
        ((++wrong))
    fi
    printf '  %s %-52s %-9s %-9s %s\n' "$mark" "$what" "$expected" "$seen" "$counter"
}

# happens SECONDS COMMAND..: "yes" as soon as the command succeeds, "no" when it doesn't in time.
# With 0 the agent has counted the packet, or `arrived` has waited; the victim gets a moment still.
happens() {
    (($1 > 0)) || sleep 0.3
    if wait_for "$@"; then echo yes; else echo no; fi
}

# has NAMESPACE ADDRESS, has_prefix: "yes", or what it has instead.
has() {
    local own
    own=$(ip -n "$1" -6 -o address show dev eth0 scope global -tentative | awk '{ sub("/.*", "", $4); print $4 }')
    if [[ $own == "$2" ]]; then echo yes; else echo "${own:-nothing}"; fi
}
has_prefix() { if [[ $(got_prefix) == "$g1_prefix" ]]; then echo yes; else got_prefix; fi; }

# counted REASON [NIC]: which of the agent's drop counters the next rows are about; without a NIC
# that of the whole host.
counted() {
    counter_reason=$1 counter_nic=${2-}
    counter_before=$(drops)
}

drops() {
    "$built/sgctl" --json drops ${counter_nic:+"$counter_nic"} | python3 -c '
import json, sys
reason, nic = sys.argv[1:]
answer = json.load(sys.stdin)
drops = answer.get("totals", [])
if nic:
    drops = [drop for entry in answer.get("nics", []) if entry["nicId"] == nic for drop in entry["drops"]]
print(sum(int(drop.get("packets", 0)) for drop in drops if drop["reason"] == reason))
' "$counter_reason" "$counter_nic"
}

grown() {
    counter_now=$(drops)
    ((counter_now > counter_before))
}

verdict() {
    echo
    if ((wrong == 0)); then
        echo "demo: all $rows lines are as expected ($SECONDS s)"
    else
        echo "demo: $wrong of $rows lines are not as expected ($SECONDS s)"
        exit 1
    fi
}
