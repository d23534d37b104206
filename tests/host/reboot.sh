#!/usr/bin/env bash
# What has to be there for the next boot, and what is to be compared after it.
set -euo pipefail
# shellcheck source=tests/host/lib.sh
. tests/host/lib.sh

# Guests that are there before the agent is, and try.
cat >/etc/systemd/system/guests.service <<UNIT
[Unit]
After=sgagent-boot.service
Before=sgagent.service
[Service]
Type=oneshot
RemainAfterExit=yes
Environment=PATH=$PATH
WorkingDirectory=$PWD
ExecStart=$PWD/tests/host/guests.sh $packages
StandardOutput=file:/run/guests.log
[Install]
WantedBy=multi-user.target
UNIT
check guests_start_with_the_host works systemctl enable guests.service
rules_by_line >/root/rules
cat /proc/sys/kernel/random/boot_id >/root/boot
# What a reboot is to put in force again does not hang on this boot's file system cache.
check what_was_acknowledged_is_on_the_disk test -s /var/lib/sgagent/state.redb
finish
