"""Provider ids: how a tenant object names its counterpart in the fabric. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from apimachinery.informer import Key

SCHEME: Final = "ironcore-net://"
_PARTS: Final = 4


@dataclass(frozen=True, slots=True)
class ProviderId:
    """`ironcore-net://<namespace>/<name>/<detail>/<uid>`; the detail is a network's id or an interface's node."""

    namespace: str
    name: str
    detail: str
    uid: str

    def __str__(self) -> str:
        return f"{SCHEME}{self.namespace}/{self.name}/{self.detail}/{self.uid}"

    @property
    def key(self) -> Key:
        """Key of the object in the fabric."""
        return Key(self.namespace, self.name)


def parse_provider_id(text: str) -> ProviderId | None:
    """The parts of a provider id, with or without its scheme; None if it is none."""
    parts = text.removeprefix(SCHEME).split("/")
    return ProviderId(*parts) if len(parts) == _PARTS and all(parts) else None
