"""Writes a line for every IPv6 packet that arrives at eth0, before any filter of the machine:

    SOURCE > DESTINATION icmp6 TYPE
    SOURCE > DESTINATION udp SOURCE-PORT DESTINATION-PORT FIRST-OCTET
    SOURCE > DESTINATION NEXT-HEADER

tcpdump can't be used: it gives its groups away, which a user namespace forbids.
"""

import socket

ETH_P_IPV6 = 0x86DD
ICMPV6, UDP = 58, 17


def describe(packet):
    header, upper = packet[6], packet[40:]
    if header == ICMPV6 and upper:
        return f"icmp6 {upper[0]}"
    if header == UDP and len(upper) > 8:
        source, destination = (int.from_bytes(upper[at : at + 2], "big") for at in (0, 2))
        return f"udp {source} {destination} {upper[8]}"
    return str(header)


def text(address):
    return socket.inet_ntop(socket.AF_INET6, address)


with socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(ETH_P_IPV6)) as tap:
    tap.bind(("eth0", ETH_P_IPV6))
    print("listening", flush=True)
    while True:
        packet = tap.recv(65536)
        if len(packet) >= 40:
            print(text(packet[8:24]), ">", text(packet[24:40]), describe(packet), flush=True)
