#!/usr/bin/env bash
# An authority, certificates of the agent and of three management servers, and the configuration.
set -euo pipefail
# shellcheck source=tests/host/lib.sh
. tests/host/lib.sh

mkdir -m 700 $keys
cd $keys
cat >ca.conf <<'CA'
[ca]
default_ca = here
[here]
database = index
crlnumber = number
default_md = sha256
default_crl_days = 30
crl_extensions = list
[list]
authorityKeyIdentifier = keyid
CA
: >index
echo 01 >number
new_key=(-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes)
authority() { # NAME
    openssl req -x509 "${new_key[@]}" -days 30 -subj "/CN=$1" -keyout "$1.key" -out "$1.pem" \
        -addext keyUsage=critical,keyCertSign,cRLSign 2>/dev/null
}
# sign AUTHORITY NAME PURPOSE SUBJECT_ALTERNATIVE_NAME
sign() {
    openssl req "${new_key[@]}" -subj "/CN=$2" -keyout "$2.key" -out request 2>/dev/null
    openssl x509 -req -in request -CA "$1.pem" -CAkey "$1.key" -days 30 -out "$2.pem" \
        -extfile <(printf 'extendedKeyUsage = %s\nsubjectAltName = %s\n' "$3" "$4") 2>/dev/null
}
authority ca
authority others
sign ca agent serverAuth IP:::1
sign ca first clientAuth DNS:mgmt.example
sign ca second clientAuth DNS:mgmt.example
sign ca inspector clientAuth URI:spiffe://cloud/inspector
sign ca nobody clientAuth DNS:other.example
sign others forged clientAuth DNS:mgmt.example
openssl ca -config ca.conf -cert ca.pem -keyfile ca.key -gencrl -out /etc/sgagent/tls/clients.crl 2>/dev/null
install -m 640 -g sgagent agent.pem agent.key ca.pem /etc/sgagent/tls
cd - >/dev/null

sed -i -e 's/^tcp_listen = .*/tcp_listen = ["[::1]:8474"]/' -e 's/^metrics_listen = .*/metrics_listen = ["[::1]:9874"]/' \
    /etc/sgagent/sgagent.toml
cat >>/etc/sgagent/sgagent.toml <<'CONFIGURATION'
[[bridges]]
name = "br0"
[[clients]]
san = "mgmt.example"
role = "push"
[[clients]]
san = "spiffe://cloud/inspector"
role = "inspect"
[tls]
certificate = "/etc/sgagent/tls/agent.pem"
key = "/etc/sgagent/tls/agent.key"
client_ca = "/etc/sgagent/tls/ca.pem"
client_crls = ["/etc/sgagent/tls/clients.crl"]
CONFIGURATION

check it_takes_the_configuration systemctl restart sgagent.service
check who_has_a_certificate_is_served works sgctl_as second status
check who_is_not_named_is_not refused "PERMISSION_DENIED
  other.example is none of the configuration's" sgctl_as nobody status
check who_was_signed_by_others_is_not refused 'cannot reach the agent' sgctl_as forged status
finish
