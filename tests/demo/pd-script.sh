#!/bin/sh
# What dhclient runs in a guest: notes the delegated prefix. The system's own script would rewrite
# resolv.conf.
# shellcheck disable=SC2154 # dhclient sets them
[ "$reason" != BOUND6 ] || echo "$new_ip6_prefix" >"$PREFIX_FILE"
