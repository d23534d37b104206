"""A management server in Python, with stubs generated from the API's definition.

Usage: client.py TARGET [CACERT CERT KEY], with the stubs on the path. Applies, syncs and lists, checks what
comes back, and prints one line for each thing that it saw hold.
"""

import pathlib
import sys

import grpc
from google.rpc import error_details_pb2
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import (
    ProtoReflectionDescriptorDatabase,
)
from grpc_status import rpc_status

from sgagent.v1 import sgagent_pb2 as pb
from sgagent.v1 import sgagent_pb2_grpc


def connect(target, *files):
    """A channel: with an authority, a certificate and its key, over TLS."""
    if files:
        cacert, cert, key = (pathlib.Path(file).read_bytes() for file in files)
        return grpc.secure_channel(target, grpc.ssl_channel_credentials(cacert, key, cert))
    # On a unix socket this library would send the path, percent-encoded, as the authority,
    # which the HTTP/2 layer of the agent does not take for one.
    return grpc.insecure_channel(target, [("grpc.default_authority", "localhost")])


def nic(name, number, **fields):
    return pb.Nic(
        id=name,
        mac=f"06:00:00:00:00:{number:02x}",
        interfaces=[pb.InterfaceSelector(name=f"vnet{number}")],
        **fields,
    )


def refused(call, *args):
    """The code of a refusal and the paths of the fields that it names."""
    try:
        call(*args)
    except grpc.RpcError as error:
        status = rpc_status.from_call(error)
        paths = []
        for detail in status.details if status else []:
            bad = error_details_pb2.BadRequest()
            assert detail.Unpack(bad), detail
            paths += [violation.field for violation in bad.field_violations]
        return error.code(), paths, error.details()
    raise AssertionError("it was not refused")


def applies(api):
    request = pb.ApplyRequest(
        groups=[
            pb.Group(
                id="web",
                rules=[
                    pb.Rule(
                        direction=pb.DIRECTION_INGRESS,
                        protocol=pb.PROTOCOL_TCP,
                        ports=pb.PortRange(first=443, last=443),
                        remote=pb.Remote(anyone=True),
                    )
                ],
            )
        ],
        nics=[
            nic("a", 0, slaac_prefix="2001:db8:100::/64", group_ids=["web"]),
            nic("b", 7, delegated_prefixes=["2001:db8:0:10::/60"]),
        ],
        members=[pb.MembersDelta(group_id="web", add=[pb.Member(address="2001:db8::5")])],
    )
    answer = api.Apply(request)
    assert answer.summary.nics_added == 2, answer
    assert [status.state for status in answer.nics] == [
        pb.NIC_STATE_ACTIVE,
        pb.NIC_STATE_PENDING,
    ], answer
    derived = [one.address for one in answer.nics[0].addresses if one.kind == pb.ADDRESS_KIND_SLAAC]
    assert derived == ["2001:db8:100:0:400:ff:fe00:0"], derived
    print("applies")


def lists(api):
    listed, token = [], ""
    while True:
        page = api.ListNics(pb.ListNicsRequest(page_size=1, page_token=token))
        listed += [info.nic.id for info in page.nics]
        token = page.next_page_token
        if not token:
            break
    assert listed == ["a", "b"], listed
    members = api.ListMembers(pb.ListMembersRequest(group_id="web")).members
    assert [member.address for member in members] == ["2001:db8::5"], members
    assert api.GetStatus(pb.GetStatusRequest()).counts.rules == 1
    text = "".join(piece.text for piece in api.GetRuleset(pb.GetRulesetRequest()))
    assert text.endswith("\n")
    print("lists")


def syncs(api):
    def pieces():
        yield pb.SyncRequest(nics=[nic("b", 7)])
        yield pb.SyncRequest(complete=True)

    answer = api.Sync(pieces())
    summary = answer.summary
    assert (summary.nics_removed, summary.nics_changed, summary.groups_removed) == (1, 1, 1), answer
    code, paths, _ = refused(api.Sync, iter([pb.SyncRequest()]))
    assert (code, paths) == (grpc.StatusCode.INVALID_ARGUMENT, ["complete"]), (code, paths)
    nics = api.ListNics(pb.ListNicsRequest()).nics
    assert [info.nic.id for info in nics] == ["b"], nics
    print("syncs")


def reads_refusals(api):
    code, paths, _ = refused(api.Apply, pb.ApplyRequest(nics=[pb.Nic(id="x")]))
    assert code == grpc.StatusCode.INVALID_ARGUMENT, code
    assert paths == ["nics[0].mac", "nics[0].interfaces"], paths
    # More faults than fit into the trailers that this library takes.
    many = pb.ApplyRequest(nics=[pb.Nic(id="é" * 9) for _ in range(2000)])
    for _ in range(20):
        code, paths, text = refused(api.Apply, many)
        assert code == grpc.StatusCode.INVALID_ARGUMENT, (code, text)
        assert paths and text.endswith(" more"), text
    long = pb.ApplyRequest(nics=[pb.Nic(id="x" * (8 << 20))])
    code, _, text = refused(api.Apply, long)
    assert code == grpc.StatusCode.RESOURCE_EXHAUSTED, (code, text)
    print("reads refusals")


def reflects(channel):
    services = ProtoReflectionDescriptorDatabase(channel).get_services()
    assert "sgagent.v1.SecurityGroupAgent" in services, services
    assert "grpc.health.v1.Health" in services, services
    print("reflects")


def main():
    with connect(*sys.argv[1:]) as channel:
        api = sgagent_pb2_grpc.SecurityGroupAgentStub(channel)
        api.Sync(iter([pb.SyncRequest(complete=True)]))
        applies(api)
        lists(api)
        syncs(api)
        reads_refusals(api)
        reflects(channel)


main()
