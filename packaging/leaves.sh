# Says what the removed agent leaves in the kernel. It opens nothing: who wants that asks for it.
say_what_is_left() {
    if ! tables=$(nft list tables 2>/dev/null); then
        echo "sgagent: what is left in the kernel can't be told: nft does not answer."
        families='bridge ip6 netdev'
    else
        families=$(echo "$tables" | awk '$1 == "table" && $3 == "sgagent" { print $2 }')
        if [ -z "$families" ]; then
            echo "sgagent: the kernel has no rules of it. The removal opens nothing and closes nothing."
            return 0
        fi
    fi
    cat <<SAYS
sgagent: REMOVED, AND ITS RULES STAY IN THE KERNEL. Nothing was opened, and until the next boot
sgagent:   - NICs that were described keep their rules, which nobody changes or repairs any more;
sgagent:   - ports of managed bridges that nobody described carry nothing, new ones neither.
sgagent: From the next boot on nothing protects, or closes, the guests of this host.
sgagent: To open it now:
SAYS
    for family in $families; do
        echo "sgagent:     nft delete table $family sgagent"
    done
    if [ -e /var/lib/sgagent/state.redb ]; then
        cat <<'SAYS'
sgagent: 'sgagent purge --config /etc/sgagent/sgagent.toml' before the removal would have done so, and
sgagent: put back the settings of bridges and of fragments that the agent made. They stay as well; it
sgagent: still works once the package is installed again and its service stopped.
SAYS
    fi
}
