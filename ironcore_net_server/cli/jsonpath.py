"""The part of JSONPath that asks for values of one object: `.status.ips[0].value`, `[*]`, `['a.b']`. Pure."""

import re
from collections.abc import Callable

from apimachinery.documents import Plain

Path = tuple[str | int | None, ...]
"""Steps: key, index, or None for every element."""

_STEP = re.compile(r"""\.([A-Za-z0-9_-]+)|\[(-?\d{1,9}|\*)\]|\['([^']*)'\]|\["([^"]*)"\]""")


def parse_path(text: str) -> Path:
    """Steps of `{.a.b[0]}`, with or without braces and first dot. Raises ValueError that shows where it is wrong."""
    body = text.strip()
    if body.startswith("{") and body.endswith("}"):
        body = body[1:-1].strip()
    body = body.removeprefix("$")
    if body and body[0] not in ".[":
        body = "." + body
    steps: list[str | int | None] = []
    at = 0
    while at < len(body):
        found = _STEP.match(body, at)
        if found is None:
            raise ValueError(
                f"{text!r} is no path of an object: {body[at:]!r} is neither .name, [number], [*] nor ['name']"
            )
        name, index, *quoted = found.groups()
        if name is not None:
            steps.append(name)
        elif index is not None:
            steps.append(None if index == "*" else int(index))
        else:
            steps.append(next(q for q in quoted if q is not None))
        at = found.end()
    if not steps:
        raise ValueError(f"{text!r} is no path of an object: it is empty")
    return tuple(steps)


def evaluate(document: Plain, path: Path) -> list[Plain]:
    """Values at the path; none if a step leads nowhere."""
    values: list[Plain] = [document]
    for step in path:
        values = [found for value in values for found in _take(value, step)]
    return values


def _take(value: Plain, step: str | int | None) -> list[Plain]:
    if isinstance(value, dict):
        if step is None:
            return list(value.values())
        return [value[step]] if isinstance(step, str) and step in value else []
    if isinstance(value, list):
        if step is None:
            return value
        return [value[step]] if isinstance(step, int) and -len(value) <= step < len(value) else []
    return []


def as_text(value: Plain) -> str:
    """A scalar as manifests show it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return "" if value is None else str(value)


def path_predicate(path: Path, wanted: str | None) -> Callable[[Plain], bool]:
    """Whether any value at the path has this text, or (None) whether there is a value at all."""

    def holds(document: Plain) -> bool:
        values = evaluate(document, path)
        return bool(values) if wanted is None else any(as_text(value) == wanted for value in values)

    return holds
