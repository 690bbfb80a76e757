"""The verbs of the resource API through gRPC on a real etcd."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import grpc
import pytest
from ironcore.apinet.v1 import network_interface_pb2, node_pb2
from ironcore.meta.v1 import meta_pb2, types_pb2
from ironcore.networking.v1 import network_pb2, virtual_ip_pb2

from apimachinery.client import Client, KindClient
from apimachinery.errors import (
    AlreadyExists,
    ApiError,
    Conflict,
    FailedPrecondition,
    FieldViolation,
    InvalidArgument,
    NotFound,
    ResourceExhausted,
)
from apimachinery.finalizers import FOREGROUND_DELETION
from apimachinery.plan import QUARANTINE_OWNER, encode_stored
from apimachinery.resource import ExtraMethod, ResourceAccess, ResourceHooks, WritePlan
from apimachinery.server_app import ApiServer
from apimachinery.store import Store, Txn
from tests.support.api import api_server
from tests.support.etcd import etcd_cluster, etcd_store

Network = network_pb2.Network
NIC = network_interface_pb2.NetworkInterface
VirtualIP = virtual_ip_pb2.VirtualIP
POOL = [f"10.0.0.{number}" for number in range(1, 6)]
POOL_PREFIX = "/claims/test/"


class PoolHooks(ResourceHooks[Any]):
    """Interfaces without address get a free one of the pool; every address is claimed."""

    def default(self, obj: Any, old: Any) -> None:
        if not obj.spec.hostname:
            obj.spec.hostname = "guest"

    def validate(self, obj: Any, old: Any) -> Iterable[FieldViolation]:
        if obj.spec.hostname == "forbidden":
            yield FieldViolation("spec.hostname", "is forbidden")

    async def allocate(self, plan: WritePlan, obj: Any, old: Any) -> None:
        if old is not None:
            return
        if not obj.spec.ips:
            taken = {item.key for item in (await plan.store.list(POOL_PREFIX)).items}
            free = [ip for ip in POOL if POOL_PREFIX + ip not in taken]
            if not free:
                raise ResourceExhausted("no address is free", exhausted="test pool")
            obj.spec.ips.append(random.choice(free))
            plan.claim(POOL_PREFIX + obj.spec.ips[0], obj.metadata.uid)
        else:
            error = FailedPrecondition(f"{obj.spec.ips[0]} is taken")
            plan.claim(POOL_PREFIX + obj.spec.ips[0], obj.metadata.uid, error=error)

    async def release(self, plan: WritePlan, obj: Any) -> None:
        quarantine = 60 if "quarantine" in obj.metadata.labels else 0
        plan.release(POOL_PREFIX + obj.spec.ips[0], quarantine_seconds=quarantine)

    def extra_methods(self, access: ResourceAccess[Any]) -> Mapping[str, ExtraMethod]:
        async def set_public_ips(request: Any, _: Any) -> Any:
            def change(obj: Any) -> None:
                del obj.spec.public_ips[:]
                obj.spec.public_ips.MergeFrom(request.public_ips)

            return await access.mutate(request.namespace, request.name, change, uid=request.uid)

        return {"SetPublicIPs": set_public_ips}


@dataclass
class Api:
    server: ApiServer
    client: Client
    store: Store
    networks: KindClient[Network]
    nics: KindClient[NIC]
    vips: KindClient[VirtualIP]
    nodes: KindClient[node_pb2.Node]


@pytest.fixture
async def api() -> AsyncIterator[Api]:
    async with (
        etcd_cluster() as cluster,
        etcd_store(cluster) as store,
        api_server(store, Network, NIC, VirtualIP, node_pb2.Node, hooks={NIC: PoolHooks()}) as (server, client),
    ):
        kinds = [client.kind(kind) for kind in (Network, NIC, VirtualIP, node_pb2.Node)]
        yield Api(server, client, store, *kinds)  # type: ignore[arg-type]


def network(name: str = "blue", **labels: str) -> Network:
    return Network(metadata={"name": name, "labels": labels}, spec={})


def nic(name: str = "nic", ip: str = "", node: str = "node") -> NIC:
    obj = NIC(metadata={"name": name})
    obj.spec.node_ref.name = node
    obj.spec.network_ref.name = "blue"
    obj.spec.ips.extend([ip] if ip else [])
    return obj


async def raised(call: Any, kind: type[ApiError]) -> Any:
    with pytest.raises(kind) as caught:
        await call
    assert type(caught.value) is kind
    return caught.value


async def test_create_fills_in_what_the_server_owns(api: Api) -> None:
    obj = network()
    obj.metadata.uid = "mine"
    obj.metadata.generation = 7
    obj.metadata.deletion_timestamp.seconds = 1
    obj.metadata.managed_fields.add(manager="me", paths=["spec"])
    obj.status.state = network_pb2.NETWORK_STATE_AVAILABLE
    made = await api.networks.create(obj)
    meta = made.metadata
    assert (meta.name, meta.namespace, meta.generation) == ("blue", "default", 1)
    assert len(meta.uid) == 36
    assert meta.resource_version > 0
    assert meta.HasField("creation_timestamp") and not meta.HasField("deletion_timestamp")
    assert not meta.managed_fields
    assert not made.HasField("status")
    assert await api.networks.get("", "blue") == made
    assert await api.networks.get("default", "blue") == made


async def test_create_refuses_what_exists_and_what_is_wrong_and_changes_nothing(api: Api) -> None:
    await api.networks.create(network())
    error = await raised(api.networks.create(network()), AlreadyExists)
    assert str(error.resource) == 'networks.networking "default/blue"'
    bad = network("Bad_Name")
    bad.spec.peerings.add(name="a")
    bad.spec.peerings.add(name="a").network_ref.name = "x"
    error = await raised(api.networks.create(bad), InvalidArgument)
    assert {violation.field for violation in error.violations} == {
        "metadata.name",
        "spec.peerings[0].network_ref",
        "spec.peerings[1].name",
    }
    assert [obj.metadata.name for obj in await api.networks.list()] == ["blue"]
    error = await raised(api.nodes.create(node_pb2.Node(metadata={"name": "n", "namespace": "x"})), InvalidArgument)
    assert error.violations[0].field == "metadata.namespace"


async def test_generated_names_differ(api: Api) -> None:
    wanted = Network(metadata={"generate_name": "net-"}, spec={})
    made = await asyncio.gather(*(api.networks.create(wanted) for _ in range(20)))
    names = {obj.metadata.name for obj in made}
    assert len(names) == 20
    assert all(name.startswith("net-") and len(name) == 9 for name in names)


async def test_update_needs_the_version_and_bumps_the_generation_only_for_the_spec(api: Api) -> None:
    made = await api.networks.create(network())
    error = await raised(api.networks.update(network()), InvalidArgument)
    assert error.violations[0].field == "metadata.resource_version"
    made.metadata.labels["a"] = "b"
    labelled = await api.networks.update(made)
    assert labelled.metadata.generation == 1
    assert labelled.metadata.resource_version > made.metadata.resource_version
    error = await raised(api.networks.update(made), Conflict)
    assert error.reason == "VERSION_MISMATCH"
    labelled.spec.provider_id = "p"
    assert (await api.networks.update(labelled)).metadata.generation == 2
    await raised(api.networks.update(Network(metadata={"name": "no", "resource_version": 5})), NotFound)


async def test_update_keeps_status_and_identity_and_a_no_op_keeps_the_version(api: Api) -> None:
    made = await api.networks.create(network())
    made.status.state = network_pb2.NETWORK_STATE_AVAILABLE
    with_status = await api.networks.update_status(made)
    assert with_status.status.state == network_pb2.NETWORK_STATE_AVAILABLE
    assert with_status.metadata.generation == 1
    change = Network.FromString(with_status.SerializeToString())
    change.status.state = network_pb2.NETWORK_STATE_ERROR
    change.metadata.ClearField("creation_timestamp")
    change.metadata.generation = 99
    assert await api.networks.update(change) == with_status
    change.metadata.uid = "another"
    assert (await raised(api.networks.update(change), Conflict)).reason == "UID_MISMATCH"
    assert await api.networks.update_status(with_status) == with_status


async def test_status_writes_leave_the_spec_alone_and_may_go_without_a_version(api: Api) -> None:
    await api.networks.create(network())
    obj = Network(metadata={"name": "blue"}, spec={"provider_id": "sneaky"}, status={"observed_generation": 1})
    done = await api.networks.update_status(obj)
    assert done.spec.provider_id == ""
    assert done.status.observed_generation == 1
    obj.metadata.resource_version = 1
    await raised(api.networks.update_status(obj), Conflict)


async def test_apply_creates_merges_conflicts_and_yields_to_force(api: Api) -> None:
    wanted = network(team="a")
    made = await api.networks.apply(wanted, "one")
    assert await api.networks.apply(wanted, "one") == made
    error = await raised(api.networks.apply(network(team="b"), "two"), Conflict)
    assert error.violations == (FieldViolation("metadata.labels[team]", 'is owned by "one"'),)
    forced = await api.networks.apply(network(team="b"), "two", force=True)
    assert dict(forced.metadata.labels) == {"team": "b"}
    gone = await api.networks.apply(network(), "two")
    assert not gone.metadata.labels
    assert (await raised(api.networks.apply(wanted, ""), InvalidArgument)).violations[0].field == "options.field_owner"
    wanted.metadata.uid = "11111111-0000-0000-0000-000000000000"
    await raised(api.networks.apply(wanted, "one"), Conflict)
    wanted.metadata.name = "absent"
    await raised(api.networks.apply(wanted, "one"), NotFound)


async def test_concurrent_appliers_of_different_fields_all_win(api: Api) -> None:
    await asyncio.gather(*(api.networks.apply(network(**{f"l{i}": "x"}), f"m{i}") for i in range(15)))
    obj = await api.networks.get("", "blue")
    assert set(obj.metadata.labels) == {f"l{i}" for i in range(15)}
    assert len(obj.metadata.managed_fields) == 15


async def test_deletion_waits_for_finalizers(api: Api) -> None:
    made = await api.networks.create(network())
    await api.networks.add_finalizer("", "blue", "a.dev/one")
    held = await api.networks.add_finalizer("", "blue", "a.dev/two", uid=made.metadata.uid)
    assert list(held.metadata.finalizers) == ["a.dev/one", "a.dev/two"]
    assert await api.networks.add_finalizer("", "blue", "a.dev/two") == held
    await raised(api.networks.add_finalizer("", "blue", "a.dev/x", uid="other"), Conflict)
    dying = await api.networks.delete("", "blue")
    assert dying.metadata.HasField("deletion_timestamp")
    assert await api.networks.delete("", "blue") == dying
    error = await raised(api.networks.add_finalizer("", "blue", "a.dev/three"), FailedPrecondition)
    assert error.reason == "DELETING"
    # Other writes go on, but nothing brings the object back to life.
    dying.metadata.ClearField("deletion_timestamp")
    dying.metadata.labels["still"] = "here"
    assert (await api.networks.update(dying)).metadata.HasField("deletion_timestamp")
    await api.networks.remove_finalizer("", "blue", "a.dev/one")
    assert await api.networks.find("", "blue") is not None
    await api.networks.remove_finalizer("", "blue", "a.dev/nobody")
    last = await api.networks.remove_finalizer("", "blue", "a.dev/two")
    assert not last.metadata.finalizers
    assert await api.networks.find("", "blue") is None
    await raised(api.networks.remove_finalizer("", "blue", "a.dev/two"), NotFound)
    again = await api.networks.create(network())
    assert again.metadata.uid != made.metadata.uid


async def test_an_update_that_removes_the_last_finalizer_removes_the_object(api: Api) -> None:
    obj = network()
    obj.metadata.finalizers.append("a.dev/one")
    await api.networks.create(obj)
    dying = await api.networks.delete("", "blue")
    del dying.metadata.finalizers[:]
    await api.networks.update(dying)
    assert await api.networks.find("", "blue") is None


async def test_parallel_finalizers_do_not_lose_each_other(api: Api) -> None:
    await api.networks.create(network())
    names = [f"a.dev/p{i}" for i in range(12)]
    await asyncio.gather(*(api.networks.add_finalizer("", "blue", name) for name in names))
    assert sorted((await api.networks.get("", "blue")).metadata.finalizers) == sorted(names)
    await asyncio.gather(*(api.networks.remove_finalizer("", "blue", name) for name in names[:6]))
    assert sorted((await api.networks.get("", "blue")).metadata.finalizers) == sorted(names[6:])


async def test_delete_preconditions_and_propagation(api: Api) -> None:
    made = await api.networks.create(network())
    assert (await raised(api.networks.delete("", "blue", uid="x"), Conflict)).reason == "UID_MISMATCH"
    version = made.metadata.resource_version
    await raised(api.networks.delete("", "blue", resource_version=version + 1), Conflict)
    foreground = meta_pb2.PROPAGATION_POLICY_FOREGROUND
    dying = await api.networks.delete("", "blue", resource_version=version, propagation=foreground)
    assert list(dying.metadata.finalizers) == [FOREGROUND_DELETION]
    await api.networks.remove_finalizer("", "blue", FOREGROUND_DELETION)
    await raised(api.networks.delete("", "blue"), NotFound)


async def test_immutable_fields_and_hooks(api: Api) -> None:
    made = await api.nics.create(nic(ip="10.9.0.1"))
    assert made.spec.hostname == "guest"
    made.spec.node_ref.name = "elsewhere"
    made.spec.ips.append("10.9.0.2")
    error = await raised(api.nics.update(made), InvalidArgument)
    assert {violation.field for violation in error.violations} == {"spec.node_ref", "spec.ips"}
    forbidden = nic("other")
    forbidden.spec.hostname = "forbidden"
    error = await raised(api.nics.create(forbidden), InvalidArgument)
    assert error.violations == (FieldViolation("spec.hostname", "is forbidden"),)
    await raised(api.nics.create(nic("third", ip="10.9.0.1")), FailedPrecondition)
    assert await api.nics.find("", "third") is None


async def test_claims_live_and_die_with_their_object(api: Api) -> None:
    made = await api.nics.create(nic(ip="10.9.0.1"))
    claim = await api.store.get(POOL_PREFIX + "10.9.0.1")
    assert claim is not None
    assert claim.value.decode() == made.metadata.uid
    assert claim.mod_revision == made.metadata.resource_version
    await api.nics.delete("", "nic")
    assert await api.store.get(POOL_PREFIX + "10.9.0.1") is None
    held = nic(ip="10.9.0.2")
    held.metadata.labels["quarantine"] = "yes"
    await api.nics.create(held)
    await api.nics.delete("", "nic")
    tombstone = await api.store.get(POOL_PREFIX + "10.9.0.2")
    assert tombstone is not None
    assert (tombstone.value.decode(), tombstone.lease > 0) == (QUARANTINE_OWNER, True)
    await raised(api.nics.create(nic(ip="10.9.0.2")), FailedPrecondition)


async def test_racing_allocations_share_out_the_pool_exactly(api: Api) -> None:
    results = await asyncio.gather(*(api.nics.create(nic(f"n{i}")) for i in range(40)), return_exceptions=True)
    winners = [result for result in results if isinstance(result, NIC)]
    losers = [result for result in results if not isinstance(result, NIC)]
    assert sorted(winner.spec.ips[0] for winner in winners) == POOL
    assert all(isinstance(loser, ResourceExhausted) and loser.exhausted == "test pool" for loser in losers)
    assert len(await api.nics.list()) == len(POOL)
    await asyncio.gather(*(api.nics.delete("", winner.metadata.name) for winner in winners))
    assert not (await api.store.list("/claims/")).items


async def test_a_dry_run_answers_and_changes_nothing(api: Api) -> None:
    before = await api.store.current_revision()
    answer = await api.nics.create(nic(), dry_run=True)
    assert answer.spec.ips[0] in POOL
    await raised(api.nics.create(nic("Bad"), dry_run=True), InvalidArgument)
    assert (await api.networks.apply(network(a="b"), "me", dry_run=True)).metadata.labels["a"] == "b"
    assert await api.store.current_revision() == before


async def test_a_thousand_creates_of_one_name_have_one_winner(api: Api) -> None:
    results = await asyncio.gather(*(api.vips.create(vip("one")) for _ in range(1000)), return_exceptions=True)
    winners = [result for result in results if isinstance(result, VirtualIP)]
    assert len(winners) == 1
    assert all(isinstance(result, AlreadyExists) for result in results if result is not winners[0])
    assert await api.vips.get("", "one") == winners[0]


def vip(name: str) -> VirtualIP:
    ip_type = types_pb2.IP_TYPE_PUBLIC
    return VirtualIP(metadata={"name": name}, spec={"type": ip_type, "ip_family": types_pb2.IP_FAMILY_IPV4})


async def test_pages_show_one_revision_while_objects_come_and_go(api: Api) -> None:
    made = await asyncio.gather(*(api.networks.create(network(f"n{i:03}", half=str(i % 2))) for i in range(60)))
    everything = {obj.metadata.name for obj in made}
    for labels, wanted in ((None, everything), ({"half": "1"}, {n for n in everything if int(n[1:]) % 2})):
        seen: list[str] = []
        revisions = set()
        async for page, revision in api.networks.pages(labels=labels, page_size=7):
            seen += [obj.metadata.name for obj in page]
            revisions.add(revision)
            assert len(page) <= 7
            # Behind, within and ahead of the position of the list.
            serial = len(seen)
            await api.networks.create(network(f"a{serial}-{labels is None}".lower(), half="1"))
            await api.networks.create(network(f"z{serial}-{labels is None}".lower(), half="1"))
            victim = await api.networks.find("", f"n{59 - serial % 5:03}")
            if victim is not None:
                victim.metadata.labels["half"] = "gone"
                await api.networks.update(victim)
        assert [name for name in seen if name.startswith("n")] == sorted(wanted)
        assert len(seen) == len(set(seen))
        assert len(revisions) == 1
        for obj in await api.networks.list():
            await api.networks.delete("", obj.metadata.name)
        await asyncio.gather(*(api.networks.create(network(f"n{i:03}", half=str(i % 2))) for i in range(60)))


async def test_page_metadata_and_bad_tokens(api: Api) -> None:
    for i in range(5):
        await api.networks.create(network(f"n{i}"))
    page = await api.networks.invoke("List", meta_pb2.ListRequest(page_size=2), network_pb2.NetworkList)
    assert page.metadata.remaining == 3
    token = page.metadata.next_page_token
    last = meta_pb2.ListRequest(page_size=3, page_token=token)
    rest = await api.networks.invoke("List", last, network_pb2.NetworkList)
    assert (rest.metadata.remaining, rest.metadata.next_page_token) == (0, "")
    for request, field in (
        (meta_pb2.ListRequest(page_token="rubbish"), "page_token"),
        (meta_pb2.ListRequest(page_token=token, namespace="other"), "page_token"),
        (meta_pb2.ListRequest(page_token=token, label_selector={"match_labels": {"a": "b"}}), "page_token"),
        (meta_pb2.ListRequest(page_size=-1), "page_size"),
        (meta_pb2.ListRequest(field_selector=[{"field": "spec.nope"}]), "field_selector[0].field"),
    ):
        error = await raised(api.networks.invoke("List", request, network_pb2.NetworkList), InvalidArgument)
        assert error.violations[0].field == field


async def test_a_list_whose_revision_was_compacted_says_so() -> None:
    async with etcd_cluster() as cluster, etcd_store(cluster) as store, api_server(store, Network) as (_, client):
        networks = client.kind(Network)
        for i in range(5):
            await networks.create(network(f"n{i}"))
        page = await networks.invoke("List", meta_pb2.ListRequest(page_size=2), network_pb2.NetworkList)
        last = await networks.create(network("later"))
        await cluster.compact(last.metadata.resource_version)
        request = meta_pb2.ListRequest(page_size=2, page_token=page.metadata.next_page_token)
        error = await raised(networks.invoke("List", request, network_pb2.NetworkList), Conflict)
        assert error.reason == "PAGE_EXPIRED"


async def test_selectors_of_lists(api: Api) -> None:
    for i in range(4):
        await api.nics.create(nic(f"n{i}", ip=f"10.8.0.{i}", node=f"node{i % 2}"))
    await api.nics.create(nic("x", ip="10.8.1.0", node="node0"))
    on_node = await api.nics.list(fields={"spec.node_ref.name": "node1"})
    assert [obj.metadata.name for obj in on_node] == ["n1", "n3"]
    named = [meta_pb2.FieldRequirement(field="metadata.name", value="x", negate=True)]
    assert len(await api.nics.list(fields=named)) == 4
    assert len(await api.nics.list("other")) == 0


async def test_domain_verbs(api: Api) -> None:
    made = await api.nics.create(nic(ip="10.7.0.1"))
    public = [{"name": "v4", "ip_family": types_pb2.IP_FAMILY_IPV4}]
    request = network_interface_pb2.SetPublicIPsRequest(name="nic", uid=made.metadata.uid, public_ips=public)
    done = await api.nics.invoke("SetPublicIPs", request, NIC)
    assert [entry.name for entry in done.spec.public_ips] == ["v4"]
    assert done.metadata.generation == 2
    request.uid = "another"
    await raised(api.nics.invoke("SetPublicIPs", request, NIC), Conflict)
    request.ClearField("name")
    assert (await raised(api.nics.invoke("SetPublicIPs", request, NIC), InvalidArgument)).violations[0].field == "name"
    error = await raised(api.nics.invoke("ClaimNAT", request, NIC), ApiError)
    assert error.code is grpc.StatusCode.UNIMPLEMENTED


async def test_malformed_requests(api: Api) -> None:
    async with grpc.aio.insecure_channel(str(api.client.target)) as channel:
        for method, raw, field in (
            ("Get", b"\xff\xff\xff", None),
            ("Create", b"", "object"),
            ("AddFinalizer", meta_pb2.FinalizerRequest(name="a", finalizer="//").SerializeToString(), "finalizer"),
        ):
            call = channel.unary_unary(f"/ironcore.networking.v1.NetworkService/{method}")
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await call(raw)
            assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
            assert field is None or field in str(caught.value.details())
        watch = channel.unary_stream("/ironcore.networking.v1.NetworkService/Watch")
        request = meta_pb2.WatchRequest(resource_version=-1).SerializeToString()
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await watch(request).read()
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_a_defect_is_internal_and_says_nothing_of_the_inside() -> None:
    class Broken(ResourceHooks[Any]):
        def validate(self, obj: Any, old: Any) -> Iterable[FieldViolation]:
            raise RuntimeError("secret")

    async with (
        etcd_cluster() as cluster,
        etcd_store(cluster) as store,
        api_server(store, Network, hooks={Network: Broken()}) as (_, client),
    ):
        with pytest.raises(ApiError) as caught:
            await client.kind(Network).create(network())
        assert caught.value.code is grpc.StatusCode.INTERNAL
        assert "secret" not in str(caught.value)


async def test_unknown_fields_are_not_stored(api: Api) -> None:
    # Field 9999 of the object, which no version of the contract has.
    inner = network().SerializeToString() + b"\xfa\xf0\x04\x01x"
    async with grpc.aio.insecure_channel(str(api.client.target)) as channel:
        await channel.unary_unary("/ironcore.networking.v1.NetworkService/Create")(
            b"\x0a" + bytes([len(inner)]) + inner
        )
    stored = await api.store.get("/networking/networks/default/blue")
    assert stored is not None
    assert b"\xfa\xf0\x04" not in stored.value


async def test_rules_that_became_stricter_do_not_hold_up_what_is_stored_already(api: Api) -> None:
    old = Network(metadata={"name": "old", "namespace": "default", "uid": "u", "generation": 1}, spec={})
    old.metadata.finalizers.append("a.dev/one")
    old.spec.peerings.add(name="Not A Name")
    await api.store.commit(Txn().put("/networking/networks/default/old", encode_stored(old)))
    status = Network(metadata={"name": "old"}, status={"observed_generation": 1})
    assert (await api.networks.update_status(status)).status.observed_generation == 1
    current = await api.networks.get("", "old")
    current.metadata.labels["a"] = "b"
    await raised(api.networks.update(current), InvalidArgument)
    await api.networks.delete("", "old")
    await api.networks.remove_finalizer("", "old", "a.dev/one")
    assert await api.networks.find("", "old") is None
