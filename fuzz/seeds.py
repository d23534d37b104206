#!/usr/bin/env python3
"""Writes seeds of real material into a corpus: what this kernel and this nft say.

    cd fuzz && cargo run --example seeds -- CORPUS ../tests/goldens SKELETON
    tests/run.sh fuzz/seeds.py CORPUS SKELETON

SKELETON is the ruleset of placement br_netfilter without NICs, which the first one writes. This one
runs in namespaces of its own (tests/run.sh) and changes nothing else. A corpus that is copied under
target/fuzz-corpus is where `make fuzz` begins, and `make fuzz-corpus` takes what is worth it.
"""

import pathlib
import shutil
import socket
import struct
import subprocess
import sys
import time

NETLINK_ROUTE, NETLINK_NETFILTER = 0, 12
# As many octets of a datagram as a piece of a seed has: whole messages of it.
PIECE = 2048


def run(command, **more):
    subprocess.run(command, check=True, **more)


def netlink(protocol, groups=0):
    one = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, protocol)
    one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8 << 20)
    one.bind((0, groups))
    one.settimeout(0.3)
    return one


def received(one):
    while True:
        try:
            yield one.recv(1 << 17)
        except TimeoutError:
            return


def messages(datagram):
    while len(datagram) >= 16:
        length = (struct.unpack_from('=I', datagram)[0] + 3) & ~3
        yield datagram[:length]
        datagram = datagram[length:]


def dump(protocol, kind, header):
    one = netlink(protocol)
    one.send(struct.pack('=IHHII', 16 + len(header), kind, 0x301, 1, 0) + header)
    for datagram in received(one):
        yield datagram
        if any(struct.unpack_from('=IH', m)[1] in (2, 3) for m in messages(datagram)):
            return


def pieces(datagrams):
    """Pieces of an input: whole messages, with their length before them."""
    for datagram in datagrams:
        piece = b''
        for message in [*messages(datagram), None]:
            if message is None or len(piece) + len(message) > PIECE:
                if piece:
                    yield struct.pack('<H', len(piece)) + piece
                piece = b''
            if message is not None and len(message) <= PIECE:
                piece += message


class Corpus:
    def __init__(self, folder):
        self.folder = pathlib.Path(folder)

    def add(self, target, name, octets):
        folder = self.folder / target
        folder.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(octets)

    def add_datagrams(self, target, name, datagrams, head=b'', together=8):
        all_pieces = list(pieces(datagrams))
        for at in range(0, len(all_pieces), together):
            octets = head + b''.join(all_pieces[at:at + together])
            self.add(target, f'{name}-{at // together}', octets)


def interfaces(corpus):
    events = netlink(NETLINK_ROUTE, 1 << 0 | 1 << 8)
    for line in '''
        link add br0 type bridge mcast_snooping 1 nf_call_ip6tables 1
        link add br1 type bridge no_linklocal_learn 1
        link add br-a type bridge
        tuntap add vnet0 mode tap
        link set vnet0 address fe:b2:00:00:00:00 master br0 up
        link add vnet1 type veth peer name guest1
        link set vnet1 address fe:b2:00:00:00:01 master br0 up
        link add eth0 type dummy
        link add eth0.100 link eth0 type vlan id 100
        link add vx0 type vxlan id 7 dev eth0 dstport 4789
        link add bond0 type bond
        link add mv0 link eth0 type macvlan mode bridge
        link set eth0 up
        link set br0 up
        link set eth0.100 master br-a
        link set dev vnet1 type bridge_slave mcast_max_groups 16
        addr add fe80::77/64 dev br0
        addr add 2001:db8::7/64 dev br0
        addr del fe80::77/64 dev br0
        link set vnet1 nomaster
        link set vnet1 down
        link set vnet1 name vnet2
        link set vnet2 master br0
    '''.strip().splitlines():
        # Not every kernel has each of these.
        subprocess.run(['ip', *line.split()], stderr=subprocess.DEVNULL)
    corpus.add_datagrams('interfaces', 'events', list(received(events)), b'\0')
    links = list(dump(NETLINK_ROUTE, 18, bytes(16)))
    addresses = list(dump(NETLINK_ROUTE, 22, struct.pack('=BBBBI', 10, 0, 0, 0, 0)))
    corpus.add_datagrams('interfaces', 'dump', links + addresses, b'\1')


def flows(corpus):
    # What looks at flows makes the kernel track them.
    track = 'table ip6 track {\n chain sent {\n type filter hook output priority 0\n ct state new counter\n }\n}\n'
    run(['nft', '-f', '-'], input=track.encode())
    with socket.create_server(('::1', 4711), family=socket.AF_INET6) as server, \
            socket.create_connection(('::1', 4711)), \
            socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as udp:
        udp.sendto(b'x', ('::1', 4712))
        subprocess.run(['ping', '-6', '-c', '1', '::1'], stdout=subprocess.DEVNULL)
        news = list(dump(NETLINK_NETFILTER, 0x0101, bytes([10, 0, 0, 0])))
        server.close()
    corpus.add_datagrams('flows', 'dump', news)
    for number, one in enumerate(m for datagram in news for m in messages(datagram)):
        corpus.add_datagrams('flows', f'one-{number}', [one])
    run(['nft', 'delete', 'table', 'ip6', 'track'])


def drops(corpus):
    group = 0x5367
    bind = struct.pack('=HHBxxx', 5, 1, 1) + struct.pack('=HH', 10, 2) + struct.pack('>IBxxx', 0xffff, 2)
    listener = netlink(NETLINK_NETFILTER)
    header = struct.pack('>BBH', 0, 0, group)
    listener.send(struct.pack('=IHHII', 16 + len(header) + len(bind), 0x0401, 1, 0, 0) + header + bind)
    rules = 'table ip6 show {\n chain sent {\n type filter hook output priority 0\n'
    for mark in (0x0b000001, 0x10000000, 0x11000007):
        rules += f' meta mark set {mark:#x} log group {group} snaplen 128\n'
    run(['nft', '-f', '-'], input=(rules + ' meta mark set 0\n }\n}\n').encode())
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as udp:
        udp.sendto(b'x' * 200, ('::1', 4713))
    subprocess.run(['ping', '-6', '-c', '1', '::1'], stdout=subprocess.DEVNULL)
    time.sleep(1.2)
    shown = [m for m in received(listener) if struct.unpack_from('=IH', m)[1] == 0x0400]
    corpus.add_datagrams('drops', 'shown', shown, together=4)
    run(['nft', 'delete', 'table', 'ip6', 'show'])


ELEMENTS = '''
add element bridge sgagent nic_drops { 0x02000005, 0x0d000001 }
add element ip6 sgagent nic_drops { 0x0e000005 }
add element ip6 sgagent revoked_tcp { "br0" . 2001:db8::2 . 2001:db8::1 . 443 . 40000 }
add element ip6 sgagent revoked_tcp { "br-a" . fd00::2 . fd00::1 . 0 . 65535 }
add element ip6 sgagent revoked_udp { "br0" . 2001:db8::2 . 2001:db8::1 . 53 . 5353 }
add element ip6 sgagent revoked_sctp { "br0" . 2001:db8::2 . 2001:db8::1 . 1 . 2 }
add element ip6 sgagent revoked_other { "br0" . 2001:db8::2 . 2001:db8::1 . 50 }
'''

PORTS = '''
table netdev sgagent {
    counter link_local_mac { comment "G0"; }
    set port_drops { type ifname; size 65536; flags dynamic,timeout; timeout 30d; counter; }
}
add element netdev sgagent port_drops { "vnet0", "vnet9" }
'''


def transactions_and_listings(corpus, skeleton):
    told = netlink(NETLINK_NETFILTER, 1 << 6)
    run(['nft', '-f', skeleton])
    corpus.add_datagrams('transactions', 'load', list(received(told)), together=12)
    run(['nft', '-f', '-'], input=ELEMENTS.encode())
    run(['nft', '-f', '-'], input=PORTS.encode())
    for family, sets in [('bridge', ['nic_drops']), ('netdev', ['port_drops']),
                         ('ip6', ['nic_drops', *(f'revoked_{end}' for end in ('tcp', 'udp', 'sctp', 'other'))])]:
        listing = subprocess.check_output(['nft', '-j', 'list', 'counters', 'table', family, 'sgagent'])
        corpus.add('listings', f'counters-{family}', listing)
        for name in sets:
            listing = subprocess.check_output(['nft', '-j', '-n', '-p', 'list', 'set', family, 'sgagent', name])
            corpus.add('listings', f'{family}-{name}', listing)
    for name, edit in {
        'flush-chain': 'flush chain bridge sgagent guest_na',
        'add': 'add rule bridge sgagent guard accept; add element bridge sgagent passes_ipv4 { "x" }',
        'other': 'add table ip6 other; delete table ip6 other; add chain inet sgagent x',
        'delete': 'delete table bridge sgagent; delete table ip6 sgagent',
        'all': 'flush ruleset',
    }.items():
        for part in edit.split('; '):
            subprocess.run(['nft', *part.split()], stderr=subprocess.DEVNULL)
        corpus.add_datagrams('transactions', name, list(received(told)), together=12)


def main():
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    corpus, skeleton = Corpus(sys.argv[1]), sys.argv[2]
    root = pathlib.Path(__file__).resolve().parent.parent
    for file in [root / 'packaging/sgagent.toml', root / 'tests/demo/sgagent.toml']:
        folder = corpus.folder / 'configuration'
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, folder / file.parent.name)
    interfaces(corpus)
    time.sleep(0.1)
    flows(corpus)
    drops(corpus)
    transactions_and_listings(corpus, skeleton)


if __name__ == '__main__':
    main()
