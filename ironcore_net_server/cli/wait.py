"""The command wait, and waiting for the end of objects."""

import asyncio
import re
from collections.abc import Callable
from typing import Any

import click
from google.protobuf.message import Message
from ironcore.meta.v1 import meta_pb2

from apimachinery.client import KindClient
from apimachinery.informer import Change, Informer
from apimachinery.manifest import to_plain
from apimachinery.scheme import kind_info, metadata_of
from apimachinery.selectors import enum_texts
from ironcore_net_server.cli.arguments import Duration, Target
from ironcore_net_server.cli.jsonpath import parse_path, path_predicate
from ironcore_net_server.cli.options import (
    Selection,
    file_option,
    find_objects,
    resources_argument,
    selection_options,
    targets_of,
)
from ironcore_net_server.cli.session import Session, TimedOutError, command

Predicate = Callable[[Message | None], bool]
"""Whether an object (None: there is none) is what was waited for."""


def parse_condition(text: str) -> Predicate:
    """delete | condition=TYPE[=STATUS] | jsonpath=PATH[=VALUE]. Raises ValueError."""
    if text in ("delete", "deleted"):
        return lambda obj: obj is None
    kind, _, rest = text.partition("=")
    if kind == "condition" and rest:
        return _condition(*rest.partition("=")[::2])
    if kind == "jsonpath" and rest:
        return _jsonpath(rest)
    raise ValueError(f"{text!r}: expected delete, condition=TYPE[=STATUS] or jsonpath=PATH[=VALUE]")


def _condition(wanted: str, status: str) -> Predicate:
    texts = enum_texts(meta_pb2.ConditionStatus.DESCRIPTOR)
    known = {text.lower(): number for number, text in texts.items() if text}
    number = known.get((status or "True").lower())
    if number is None:
        raise ValueError(f"{status!r} is no status of a condition: expected {', '.join(filter(None, texts.values()))}")

    def holds(obj: Message | None) -> bool:
        conditions = getattr(getattr(obj, "status", None), "conditions", ())
        return any(c.type.lower() == wanted.lower() and c.status == number for c in conditions)

    return holds


def _jsonpath(rest: str) -> Predicate:
    # The value follows the last "}" or, without braces, the first "=" outside of brackets.
    found = re.fullmatch(r"(\{[^}]*\}|[^=]+)(?:=(.*))?", rest)
    if found is None:
        raise ValueError(f"{rest!r}: expected PATH or PATH=VALUE")
    value = found[2].strip("'\"") if found[2] is not None else None
    holds = path_predicate(parse_path(found[1]), value)
    return lambda obj: obj is not None and holds(to_plain(obj))


class _Condition(click.ParamType[Predicate]):
    name = "condition"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Predicate:
        try:
            return parse_condition(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


async def wait_for(client: KindClient[Any], namespace: str, name: str, predicate: Predicate) -> None:
    """Returns when the predicate holds for the object of this name; survives a server that goes away meanwhile."""
    met = asyncio.Event()
    informer = Informer(client, namespace, fields={"metadata.name": name})

    def check(change: Change[Any]) -> None:
        if predicate(change.new):
            met.set()

    informer.add_handler(check)
    async with informer:
        await informer.wait_synced()
        if predicate(informer.get(namespace, name)):
            return
        await met.wait()


async def wait_gone(client: KindClient[Any], obj: Message) -> None:
    """Returns when this incarnation of the object is gone."""
    meta = metadata_of(obj)
    current = await client.find(meta.namespace, meta.name)
    if current is None or metadata_of(current).uid != meta.uid:
        return
    await wait_for(client, meta.namespace, meta.name, lambda found: found is None or metadata_of(found).uid != meta.uid)


@click.command()
@resources_argument
@file_option
@selection_options
@click.option("--for", "condition", type=_Condition(), required=True, help="delete, condition=... or jsonpath=...")
@click.option("--all", "all_objects", is_flag=True, help="Every object of the type in the namespace.")
@click.option("--timeout", type=Duration(), default="30s", show_default=True, help="Longest time to wait.")
@command
async def wait(
    session: Session,
    resources: tuple[str, ...],
    sources: tuple[str, ...],
    selector: str,
    field_selector: str,
    condition: Predicate,
    all_objects: bool,
    timeout: float,  # noqa: ASYNC109 - the user's word
) -> None:
    """Wait until objects are as --for says. Named objects may come into being meanwhile.

    \b
    --for=delete                                  the object is gone
    --for=condition=Ready                         a condition is True
    --for=condition=Ready=False                   a condition has this status
    --for=jsonpath='{.status.state}'=Available    a field has this value
    --for=jsonpath='{.status.ip}'                 a field has any value
    """
    selection = Selection(selector, field_selector)
    targets = targets_of(resources, sources, session)
    if any(not target.name for target, _ in targets):
        if not (all_objects or selection != Selection()):
            raise click.UsageError("name the objects, or give a selector or --all")
        found = await find_objects(session, targets, selection, all_namespaces=False)
        targets = [(Target(kind_info(obj), metadata_of(obj).name), metadata_of(obj).namespace) for obj in found]
        if not targets:
            raise click.UsageError("the selection has no objects")
    pending = {str(target): None for target, _ in targets}

    async def one(target: Target, namespace: str) -> None:
        await wait_for(session.kind(target.info), namespace, target.name, condition)
        del pending[str(target)]
        click.echo(f"{target} condition met")

    try:
        async with asyncio.timeout(timeout), asyncio.TaskGroup() as group:
            for target, namespace in targets:
                group.create_task(one(target, namespace))
    except TimeoutError:
        raise TimedOutError(f"condition not met after {timeout:g} s: {', '.join(pending)}") from None
