"""A management server in Python, with stubs generated from the API's definition, over mutual TLS.

Usage: server.py KEYS NAME COMMAND, with the stubs on the path. KEYS has ca.pem, NAME.pem and NAME.key. Prints
what it is answered; a refusal is its code and its reason, and status 1.
"""

import pathlib
import sys
import time

import grpc
from sgagent.v1 import sgagent_pb2 as pb
from sgagent.v1 import sgagent_pb2_grpc


def connect(keys, name):
    cacert, key, cert = (pathlib.Path(keys, file).read_bytes() for file in ("ca.pem", name + ".key", name + ".pem"))
    channel = grpc.secure_channel("[::1]:8474", grpc.ssl_channel_credentials(cacert, key, cert))
    return sgagent_pb2_grpc.SecurityGroupAgentStub(channel)


def push(api, generation):
    """The two guests of tests/package/net.sh, whom anyone may talk to."""
    anyone = pb.Rule(
        direction=pb.DIRECTION_INGRESS, protocol=pb.PROTOCOL_ANY, remote=pb.Remote(anyone=True)
    )
    nics = [
        pb.Nic(
            id=f"nic-{number}",
            mac=f"06:00:00:00:00:0{number}",
            interfaces=[pb.InterfaceSelector(name=f"vnet{number}")],
            addresses=[pb.Address(address=f"2001:db8::{number}")],
            group_ids=["g"],
        )
        for number in (1, 2)
    ]
    request = pb.ApplyRequest(generation=int(generation), groups=[pb.Group(id="g", rules=[anyone])], nics=nics)
    answer = api.Apply(request, timeout=60)
    print("generation", answer.generation)
    print(*(f"{nic.id} {pb.NicState.Name(nic.state)}" for nic in answer.nics), sep="\n")


def nics(api):
    answer = api.ListNics(pb.ListNicsRequest(), timeout=60)
    print(*(f"{nic.status.id} {pb.NicState.Name(nic.status.state)}" for nic in answer.nics), sep="\n")


def drops(api):
    for nic in api.ListDrops(pb.ListDropsRequest(), timeout=60).nics:
        for drop in nic.drops:
            print(nic.nic_id, drop.reason, drop.packets)


def watch_drops(api):
    """Says when it watches; then the first packet, and when three of the NIC's were counted."""
    news = api.WatchDrops(pb.WatchDropsRequest(nic_id="nic-1", reasons=["spoofed-source"]), timeout=60)
    news.initial_metadata()
    print("watching", flush=True)
    seen, counted = False, 0
    for one in news:
        if one.HasField("packet") and not seen:
            packet, seen = one.packet, True
            print(packet.nic_id, packet.reason, packet.input_interface, packet.source, packet.destination)
        counted += sum(drop.packets for nic in one.counts.nics for drop in nic.drops)
        if counted >= 3:
            print("counted", counted)
            return


def events(api):
    for one in api.WatchEvents(pb.WatchEventsRequest(past_only=True), timeout=60):
        print(pb.EventKind.Name(one.event.kind), one.event.nic_id, one.event.text)


def until_refused(api):
    """Asks on one connection, again and again, until it is refused."""
    nics(api)
    print("served", flush=True)
    for _ in range(600):
        nics(api)
        time.sleep(0.1)


def main():
    keys, name, command, *arguments = sys.argv[1:]
    api = connect(keys, name)
    commands = {
        "push": push,
        "nics": nics,
        "drops": drops,
        "watch-drops": watch_drops,
        "events": events,
        "until-refused": until_refused,
    }
    try:
        commands[command](api, *arguments)
    except grpc.RpcError as error:
        print(f"{error.code().name}: {error.details()}")
        return 1


if __name__ == "__main__":
    sys.exit(main())
