import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from ironcore.meta.v1 import types_pb2
from ironcore.networking.v1 import load_balancer_pb2

from apimachinery.documents import MAX_NODES, dump_json, dump_yaml, load_documents
from apimachinery.errors import FieldViolation, InvalidArgument
from apimachinery.manifest import from_plain, manifest_path, parse, to_json, to_plain, to_yaml
from apimachinery.scheme import Scheme, kind_info
from tests.support.messages import TEXTS, messages

SCHEME = Scheme.from_packages(
    "ironcore.networking.v1", "ironcore.ipam.v1", "ironcore.apinet.v1", "ironcore.metalnet.v1"
)
HEADER = "apiVersion: networking.ironcore.dev/v1alpha1\nkind: LoadBalancer\n"


def violations_of(text: str) -> dict[str, str]:
    with pytest.raises(InvalidArgument) as caught:
        parse(text, SCHEME)
    return {violation.field: violation.message for violation in caught.value.violations}


@settings(suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large], deadline=None, max_examples=60)
@given(st.data())
def test_every_object_survives_yaml_and_json(data: st.DataObject) -> None:
    info = data.draw(st.sampled_from(list(SCHEME)))
    obj = data.draw(messages(info.descriptor))
    assert parse(to_yaml([obj], managed_fields=True), SCHEME) == [obj]
    assert parse(to_json([obj], managed_fields=True), SCHEME) == [obj]


@given(
    st.recursive(
        st.one_of(st.none(), st.booleans(), st.integers(-(10**18), 10**18), TEXTS),
        lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(TEXTS, inner, max_size=3)),
    )
)
def test_documents_survive_yaml_and_json(document: object) -> None:
    assert load_documents(dump_yaml([{"root": document}])) == [{"root": document}]
    assert load_documents(dump_json({"root": document})) == [{"root": document}]


def test_reference_shape() -> None:
    text = (
        HEADER
        + """\
metadata:
  name: web
  labels: {b: "1", a: "2"}
spec:
  type: Public
  ipFamilies: [IPv4, IPv6]
  networkRef: {name: blue}
  networkInterfaceSelector: {}
  ports:
  - {protocol: TCP, port: 443}
  - {protocol: UDP, port: 5000, endPort: 5010}
"""
    )
    (obj,) = parse(text, SCHEME)
    assert isinstance(obj, load_balancer_pb2.LoadBalancer)
    assert list(obj.spec.ip_families) == [types_pb2.IP_FAMILY_IPV4, types_pb2.IP_FAMILY_IPV6]
    assert obj.spec.HasField("network_interface_selector")
    assert list(to_plain(obj)) == ["apiVersion", "kind", "metadata", "spec"]
    assert to_plain(obj)["metadata"] == {"name": "web", "labels": {"a": "2", "b": "1"}}
    assert to_plain(obj)["spec"]["ports"][1] == {"protocol": "UDP", "port": 5000, "endPort": 5010}


@pytest.mark.parametrize(
    ("body", "field", "message"),
    [
        ("spec: {typ: Public}", "spec.typ", 'is not known; did you mean "type"?'),
        ("spec: {ip_families: [IPv4]}", "spec.ip_families", 'is not known; did you mean "ipFamilies"?'),
        ("spec: {ipFamilies: [IPv4, IPv5]}", "spec.ipFamilies[1]", "must be one of IPv4, IPv6"),
        ("spec: {ipFamilies: IPv4}", "spec.ipFamilies", "must be a list, not a string"),
        ("spec: {ports: [{port: high}]}", "spec.ports[0].port", "must be an integer, not a string"),
        ("spec: {ports: [{port: 1.5}]}", "spec.ports[0].port", "must be an integer, not a number"),
        ("spec: {ports: [{port: 4294967296}]}", "spec.ports[0].port", "must be between -2147483648 and 2147483647"),
        ("spec: {ports: [null]}", "spec.ports[0]", "must not be null"),
        ("spec: {ips: [{value: 7}]}", "spec.ips[0].value", "must be a string, not an integer; quote it"),
        ("spec: [1]", "spec", "must be an object, not a list"),
        ("metadata: {labels: {a: 1}}", "metadata.labels[a]", "must be a string, not an integer; quote it"),
        ("metadata: {labels: {a: null}}", "metadata.labels[a]", "must not be null"),
        ("metadata: {name: a, name: b}", "metadata.name", "appears twice (line 3)"),
        ("metadata: {creationTimestamp: today}", "metadata.creationTimestamp", "must be an RFC 3339 time"),
        ("metadata: {resourceVersion: x}", "metadata.resourceVersion", "must be an integer, not a string"),
    ],
)
def test_errors_name_the_field(body: str, field: str, message: str) -> None:
    assert violations_of(HEADER + body) == {field: message}


def test_all_errors_of_a_document_are_reported_and_documents_are_numbered() -> None:
    text = f"{HEADER}spec: {{typ: x, ports: 3}}\n"
    assert set(violations_of(text)) == {"spec.typ", "spec.ports"}
    assert set(violations_of(f"{HEADER}spec: {{}}\n---\n{text}")) == {"[1].spec.typ", "[1].spec.ports"}
    assert set(violations_of("apiVersion: v1\nkind: List\nitems:\n- {kind: 5}\n")) == {
        "items[0].apiVersion",
        "items[0].kind",
    }


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("a: b", "INVALID"),
        ("- 1", "INVALID"),
        ("apiVersion: networking.ironcore.dev/v1alpha1\nkind: Netwrk", "UNKNOWN_KIND"),
        ("a: [", "INVALID"),
        ('{"a": ', "INVALID"),
        ("a: &x [*x]", "INVALID"),
        ("? [a]\n: b", "INVALID"),
        ("[" * 1_000_000, "INVALID"),
        ("- " * 100_000, "INVALID"),
        ("{a: " * 100_000, "INVALID"),
        ("a: " + "9" * 5000, "INVALID"),
        ('{"a": ' + "9" * 5000 + "}", "INVALID"),
        ("\x00", "INVALID"),
        ("a: !!python/object:os.system x", "INVALID"),
    ],
)
def test_malformed_text_is_refused(text: str, reason: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        parse(text, SCHEME)
    assert caught.value.reason == reason


def test_aliases_cannot_multiply_a_document_without_bound() -> None:
    levels = [f"l{i}: &l{i} [{', '.join([f'*l{i - 1}'] * 10) if i else 'x'}]" for i in range(9)]
    with pytest.raises(InvalidArgument) as caught:
        load_documents("\n".join(levels))
    assert caught.value.violations[0].message == f"document has more than {MAX_NODES} values"


def test_json_like_scalars_only() -> None:
    (document,) = load_documents("{a: yes, b: 010, c: 2020-01-01, d: 1:30, e: ~, f: 0x10, g: 1.5, h: '7', i: on}")
    assert document == {
        "a": "yes",
        "b": "010",
        "c": "2020-01-01",
        "d": "1:30",
        "e": None,
        "f": 16,
        "g": 1.5,
        "h": "7",
        "i": "on",
    }


def test_several_objects_as_json_are_a_list() -> None:
    one, two = (load_balancer_pb2.LoadBalancer(metadata={"name": name}) for name in "ab")
    assert parse(to_json([one, two]), SCHEME) == [one, two]
    assert parse(to_yaml([one, two]), SCHEME) == [one, two]
    assert parse(to_json([]), SCHEME) == []
    assert json.loads(to_json([one], as_list=True))["kind"] == "List"
    assert parse(to_json([one], as_list=True), SCHEME) == [one]


def test_enum_aliases_and_numbers_of_the_reference() -> None:
    document = {
        "apiVersion": "networking.metalnet.ironcore.dev/v1alpha1",
        "kind": "NetworkInterface",
        "spec": {"firewallRules": [{"direction": "ingress", "action": "ACCEPT"}]},
    }
    kind = next(info for info in SCHEME if info.resource_type == "networkinterfaces.metalnet")
    obj = from_plain({**document, "apiVersion": kind.api_version}, SCHEME)
    rule = to_plain(obj)["spec"]["firewallRules"][0]
    document["spec"]["firewallRules"] = [rule]
    assert from_plain({**document, "apiVersion": kind.api_version}, SCHEME) == obj


def test_maps_of_lists_are_written_plainly() -> None:
    text = """\
apiVersion: core.apinet.ironcore.dev/v1alpha1
kind: Network
status: {peerings: {p1: [{id: 7, state: Ready}]}}
"""
    (obj,) = parse(text, SCHEME)
    assert obj.status.peerings["p1"].items[0].id == 7
    assert to_plain(obj)["status"] == {"peerings": {"p1": [{"id": 7, "state": "Ready"}]}}


def test_paths_of_the_server_in_manifest_names() -> None:
    info = kind_info(load_balancer_pb2.LoadBalancer)
    assert manifest_path(info, "spec.ports[0].end_port") == "spec.ports[0].endPort"
    assert manifest_path(info, "metadata.labels[a.b/c]") == "metadata.labels[a.b/c]"
    assert manifest_path(info, "metadata.owner_references[1].api_version") == "metadata.ownerReferences[1].apiVersion"
    assert str(FieldViolation("", "x")) == "x"
