#!/usr/bin/env bash
# A certificate is revoked: whoever has it is refused, and nobody else.
set -euo pipefail
# shellcheck source=tests/host/lib.sh
. tests/host/lib.sh

server first until-refused >/run/first.log &
asking=$!
check it_is_served_before soon grep -q served /run/first.log
(
    cd $keys
    openssl ca -config ca.conf -cert ca.pem -keyfile ca.key -revoke first.pem 2>/dev/null
    openssl ca -config ca.conf -cert ca.pem -keyfile ca.key -gencrl -out list 2>/dev/null
    # As a whole: the agent looks at any time.
    mv list /etc/sgagent/tls/clients.crl
)
status=0
wait $asking || status=$?
check it_is_refused_on_its_open_connection is 1 echo $status
check with_the_reason says 'UNAUTHENTICATED: ' tail -n 1 /run/first.log
check which_is_that_it_was_revoked eval 'tail -n 1 /run/first.log | grep -qi revoked'
check a_new_connection_is_refused refused 'cannot reach the agent' sgctl_as first nics
# TLS has an alert for it, which gRPC for Python logs.
check it_pushes_nothing_and_is_told_by_TLS refused CERTIFICATE_REVOKED server first push 8
check the_generation_is_the_same is 7 metric sgagent_generation
check another_of_its_name_goes_on says 'generation 9' server second push 9
check an_inspector_too works sgctl_as inspector nics
finish
