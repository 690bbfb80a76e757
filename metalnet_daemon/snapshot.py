"""The host's memory: what it last wanted, so that it can program a restarted engine while the API is gone.

Two files in the state directory, both JSON for the reader at 3 a.m.:
  objects.json  interfaces and networks of this node, and the underlay address of everything programmed; written before
                a change is applied.
  routes.json   learned routes, used for a virtual network until its routes are complete again; written at leisure.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import IPv6Address
from pathlib import Path
from typing import Any, TypeVar

import structlog
from google.protobuf import json_format
from google.protobuf.message import Message

from .files import write_atomically
from .plan.objects import HostObjects, Network, NetworkInterface
from .plan.types import Hop, Prefix, PrefixKey, PrefixKind, Rib, RouteType
from .plan.underlay import Owner

_log = structlog.get_logger(__name__)

VERSION = 1
OBJECTS_FILE = "objects.json"
ROUTES_FILE = "routes.json"

M = TypeVar("M", bound=Message)


@dataclass(frozen=True, slots=True)
class ObjectSnapshot:
    """Objects of the node and the underlay addresses in use, by owner."""

    objects: HostObjects = field(default_factory=HostObjects)
    underlays: Mapping[Owner, IPv6Address] = field(default_factory=dict)


def relevant(objects: HostObjects) -> HostObjects:
    """The part that programming this host needs: its interfaces, their networks, and the peers of those."""
    used = {(nic.metadata.namespace, nic.spec.network_ref.name) for nic in objects.interfaces}
    peers = {peer for key in used if key in objects.networks for peer in objects.networks[key].spec.peered_ids}
    networks = {key: network for key, network in objects.networks.items() if key in used or network.spec.id in peers}
    return HostObjects(networks, objects.interfaces, objects.complete)


class SnapshotStore:
    """The two files. Writing raises OSError; a missing or unusable file reads as nothing and is reported."""

    def __init__(self, directory: Path, node: str) -> None:
        directory.mkdir(mode=0o750, parents=True, exist_ok=True)
        for name in (OBJECTS_FILE, ROUTES_FILE):
            for leftover in directory.glob(f".{name}.*.tmp"):
                leftover.unlink(missing_ok=True)
        self._objects = directory / OBJECTS_FILE
        self._routes = directory / ROUTES_FILE
        self._node = node
        self._written: dict[Path, str] = {}

    def load_objects(self) -> ObjectSnapshot:
        """The last saved objects; nothing if they are of another node."""
        document = self._load(self._objects)
        try:
            networks = [_message(entry, Network()) for entry in document.get("networks", ())]
            return ObjectSnapshot(
                HostObjects(
                    {(network.metadata.namespace, network.metadata.name): network for network in networks},
                    tuple(_message(entry, NetworkInterface()) for entry in document.get("interfaces", ())),
                ),
                {_owner(entry["owner"]): IPv6Address(entry["address"]) for entry in document.get("underlays", ())},
            )
        except (ValueError, KeyError, TypeError, AttributeError, json_format.ParseError) as error:
            _log.warning("snapshot ignored", path=str(self._objects), error=str(error))
            return ObjectSnapshot()

    def save_objects(self, snapshot: ObjectSnapshot) -> None:
        """Write the objects if they changed; they are on the disk when this returns."""
        self._save(
            self._objects,
            {
                "networks": [_entry(network) for _, network in sorted(snapshot.objects.networks.items())],
                "interfaces": [
                    _entry(nic) for nic in sorted(snapshot.objects.interfaces, key=lambda nic: nic.metadata.uid)
                ],
                "underlays": sorted(
                    (
                        {"owner": _owner_text(owner), "address": str(address)}
                        for owner, address in snapshot.underlays.items()
                    ),
                    key=lambda entry: entry["owner"],
                ),
            },
        )

    def load_routes(self) -> Rib:
        """The last saved routes by VNI."""
        document = self._load(self._routes)
        try:
            return {
                int(vni): {
                    Prefix.parse(prefix): frozenset(_hop(text) for text in hops) for prefix, hops in table.items()
                }
                for vni, table in document.get("routes", {}).items()
            }
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            _log.warning("snapshot ignored", path=str(self._routes), error=str(error))
            return {}

    def save_routes(self, rib: Rib) -> None:
        """Write the routes if they changed."""
        routes = {
            str(vni): {str(prefix): sorted(_hop_text(hop) for hop in hops) for prefix, hops in table.items()}
            for vni, table in rib.items()
        }
        self._save(self._routes, {"routes": routes})

    def _save(self, path: Path, content: Mapping[str, object]) -> None:
        text = json.dumps({"version": VERSION, "node": self._node, **content}, indent=1, sort_keys=True)
        if self._written.get(path) != text:
            write_atomically(path, text)
            self._written[path] = text

    def _load(self, path: Path) -> dict[str, Any]:
        try:
            text = path.read_text(encoding="utf-8")
            document = json.loads(text)
            if not isinstance(document, dict) or document.get("version") != VERSION:
                raise ValueError(f"not a document of version {VERSION}")
            if document.get("node") != self._node:
                raise ValueError(f"written for node {document.get('node')!r}")
        except FileNotFoundError:
            return {}
        except (OSError, ValueError) as error:
            _log.warning("snapshot ignored", path=str(path), error=str(error))
            return {}
        self._written[path] = text
        return document


def _entry(message: Message) -> dict[str, object]:
    return json_format.MessageToDict(message, preserving_proto_field_name=True)


def _message(entry: dict[str, object], into: M) -> M:
    # A newer version may have written fields that this one does not know.
    return json_format.ParseDict(entry, into, ignore_unknown_fields=True)


def _owner_text(owner: Owner) -> str:
    return owner if isinstance(owner, str) else f"{owner.interface_id} {owner.kind.name} {owner.prefix}"


def _owner(text: str) -> Owner:
    uid, *rest = text.split(" ")
    if not rest:
        return uid
    kind, prefix = rest
    return PrefixKey(PrefixKind[kind], uid, Prefix.parse(prefix))


def _hop_text(hop: Hop) -> str:
    return f"{hop.address} {hop.type.name} {hop.port_from} {hop.port_to}"


def _hop(text: str) -> Hop:
    address, kind, port_from, port_to = text.split(" ")
    return Hop(IPv6Address(address), RouteType[kind], int(port_from), int(port_to))
