"""Manifests from files, directories and standard input."""

import sys
from collections.abc import Sequence
from pathlib import Path

from google.protobuf.message import Message

from apimachinery.errors import InvalidArgument
from apimachinery.manifest import parse
from apimachinery.scheme import Scheme

_SUFFIXES = (".yaml", ".yml", ".json")


def read_manifests(sources: Sequence[str], known: Scheme) -> list[Message]:
    """Objects of all sources in order: "-" is standard input; of a directory all *.yaml, *.yml and *.json by name.

    Everything is read before anything is returned, so a mistake in the last file changes nothing. Raises
    InvalidArgument whose message begins with the file.
    """
    objects: list[Message] = []
    for source in sources:
        for name, text in _texts(source):
            try:
                objects += parse(text, known)
            except InvalidArgument as error:
                raise InvalidArgument(
                    f"{name}: {error.message}", violations=error.violations, reason=error.reason
                ) from None
    if not objects:
        raise InvalidArgument(f"no objects in {', '.join(sources)}")
    return objects


def _texts(source: str) -> list[tuple[str, str]]:
    try:
        if source == "-":
            return [("standard input", sys.stdin.read())]
        path = Path(source)
        if path.is_dir():
            files = sorted(file for file in path.iterdir() if file.suffix in _SUFFIXES and file.is_file())
            return [(str(file), file.read_text()) for file in files]
        return [(source, path.read_text())]
    except OSError as error:
        raise InvalidArgument(f"{error.filename or source}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise InvalidArgument(f"{source}: not UTF-8 text") from None
