#!/usr/bin/env bash
# What the host's guests see before the agent is there; guests.service runs it.
set -euo pipefail
# shellcheck source=tests/host/lib.sh
. tests/host/lib.sh

echo "agent $(systemctl is-active sgagent.service || true)"
echo "boot $(systemctl is-active sgagent-boot.service || true)"
tables >/run/tables
guests
if reaches_from_stranger; then echo 'a stranger reaches nic-2'; fi
spoof || echo 'who pretends is answered'
echo "spoofed $(spoofed_arrived)"
