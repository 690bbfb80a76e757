"""What the server would say about a manifest of the global coordinator's kinds, without a server."""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping
from typing import Any, cast

import yaml
from google.protobuf.message import Message

from apimachinery.errors import FieldViolation
from apimachinery.manifest import from_plain
from apimachinery.resource import GroupContext, ResourceKind
from apimachinery.scheme import Scheme, kind_info, metadata_of
from apimachinery.store import Store
from apimachinery.validation import carry_over, normalize, validate
from ironcore_net_server import groups

# Rules do not touch the store.
_CONTEXT = GroupContext(cast(Store, None), {"min_vni": 200, "max_vni": 300})
KINDS: Mapping[type[Message], ResourceKind] = {
    kind.message_class: kind
    for make in (groups.networking, groups.ipam, groups.apinet)
    for kind in make(_CONTEXT).kinds
}
SCHEME = Scheme(kind.info for kind in KINDS.values())


def admit(manifest: Mapping[str, Any], old: Message | None = None) -> tuple[Message, list[FieldViolation]]:
    """The object as the server would store it, and what is wrong with it."""
    obj = from_plain(cast(Any, manifest), SCHEME)
    meta = metadata_of(obj)
    if kind_info(obj).namespaced:
        meta.namespace = kind_info(obj).namespace_or_default(meta.namespace)
    hooks = KINDS[type(obj)].hooks
    normalize(obj)
    if old is not None:
        carry_over(obj, old)
    hooks.default(obj, old)
    return obj, validate(kind_info(obj), obj, old) or list(hooks.validate(obj, old))


def patched(manifest: str, changes: Mapping[str, Any]) -> dict[str, Any]:
    """A YAML document with values replaced at paths such as ``spec.ips[0].value``; None removes the field."""
    document = copy.deepcopy(yaml.safe_load(manifest))
    for path, value in changes.items():
        at = document
        *parents, last = (int(part) if part.isdecimal() else part for part in re.findall(r"[^.\[\]]+", path))
        for part in parents:
            at = at.setdefault(part, {}) if isinstance(at, dict) else at[cast(int, part)]
        if value is None:
            del at[last]
        elif isinstance(at, list) and last == len(at):
            at.append(value)
        else:
            at[last] = value
    return cast(dict[str, Any], document)
