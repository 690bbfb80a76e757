"""Commands that write: create, apply, delete."""

import asyncio
from collections.abc import Sequence
from typing import Any

import click
from google.protobuf.message import Message
from ironcore.meta.v1 import meta_pb2

from apimachinery.errors import ApiError, NotFound
from apimachinery.scheme import kind_info, metadata_of
from ironcore_net_server.cli.arguments import Duration, Target, scheme
from ironcore_net_server.cli.files import read_manifests
from ironcore_net_server.cli.options import (
    Selection,
    file_option,
    find_objects,
    object_name,
    resources_argument,
    selection_options,
    targets_of,
)
from ironcore_net_server.cli.session import Session, TimedOutError, command
from ironcore_net_server.cli.view import FORMATS, View, show_objects
from ironcore_net_server.cli.wait import wait_gone

FIELD_OWNER = "ironctl"

_CASCADES = {
    "background": meta_pb2.PROPAGATION_POLICY_BACKGROUND,
    "foreground": meta_pb2.PROPAGATION_POLICY_FOREGROUND,
    "orphan": meta_pb2.PROPAGATION_POLICY_ORPHAN,
}

_output_option = click.option(
    "--output", "-o", type=click.Choice(FORMATS), default=None, help="Show the objects instead of one line each."
)
_dry_run_option = click.option("--dry-run", is_flag=True, help="Let the server check everything and store nothing.")


def _read(session: Session, sources: Sequence[str]) -> list[Message]:
    if not sources:
        raise click.UsageError("name a manifest with -f FILE (a directory and - work, too)")
    return [session.place(obj) for obj in read_manifests(sources, scheme())]


def _told(obj: Message, done: str, dry_run: bool, output: str | None) -> None:
    if output is None:
        click.echo(f"{object_name(obj)} {done}{' (dry run)' if dry_run else ''}")


@click.command()
@file_option
@_output_option
@_dry_run_option
@command
async def create(session: Session, sources: tuple[str, ...], output: str | None, dry_run: bool) -> None:
    """Create objects from manifests; fails for those that exist."""
    made: list[Message] = []
    for obj in _read(session, sources):
        info = kind_info(obj)
        try:
            made.append(await session.kind(info).create(obj, field_owner=FIELD_OWNER, dry_run=dry_run))
        except ApiError as error:
            session.failed(error, info)
            continue
        _told(made[-1], "created", dry_run, output)
    if output is not None:
        show_objects(made, View(output, all_namespaces=True))


@click.command()
@file_option
@_output_option
@_dry_run_option
@click.option("--field-owner", default=FIELD_OWNER, show_default=True, help="Who sets these fields.")
@click.option("--force", is_flag=True, help="Take fields over that somebody else set.")
@command
async def apply(
    session: Session, sources: tuple[str, ...], output: str | None, dry_run: bool, field_owner: str, force: bool
) -> None:
    """Make objects what manifests say: create them, or set these fields and drop those that were applied before."""
    applied: list[Message] = []
    for obj in _read(session, sources):
        info, meta = kind_info(obj), metadata_of(obj)
        client = session.kind(info)
        try:
            before = await client.find(meta.namespace, meta.name)
            after = await client.apply(obj, field_owner, force=force, dry_run=dry_run)
        except ApiError as error:
            session.failed(error, info)
            continue
        applied.append(after)
        _told(after, _difference(before, after), dry_run, output)
    if output is not None:
        show_objects(applied, View(output, all_namespaces=True))


def _difference(before: Message | None, after: Message) -> str:
    if before is None or metadata_of(before).uid != metadata_of(after).uid:
        return "created"
    # Nothing is written, and so no version is used, by an apply that changes nothing.
    return "unchanged" if before == after else "configured"


@click.command()
@resources_argument
@file_option
@selection_options
@click.option("--all", "all_objects", is_flag=True, help="Every object of the type in the namespace.")
@click.option("--all-namespaces", "-A", is_flag=True, help="With --all or selectors: of every namespace.")
@click.option(
    "--cascade",
    type=click.Choice(tuple(_CASCADES)),
    default="background",
    show_default=True,
    help="Dependents: delete them afterwards, delete them first, or keep them.",
)
@click.option("--ignore-not-found", is_flag=True, help="An object that is gone is a success.")
@click.option("--wait/--no-wait", "wait", default=True, show_default=True, help="Return when the objects are gone.")
@click.option("--timeout", type=Duration(), default="60s", show_default=True, help="Longest time to wait.")
@command
async def delete(
    session: Session,
    resources: tuple[str, ...],
    sources: tuple[str, ...],
    selector: str,
    field_selector: str,
    all_objects: bool,
    all_namespaces: bool,
    cascade: str,
    ignore_not_found: bool,
    wait: bool,
    timeout: float,  # noqa: ASYNC109 - the user's word
) -> None:
    """Delete objects: TYPE NAME..., TYPE/NAME..., TYPE with a selector or --all, or -f FILE."""
    selection = Selection(selector, field_selector)
    # Manifests list what is needed first; deletion goes the other way.
    targets = list(reversed(targets_of(resources, sources, session)))
    unnamed = [target for target, _ in targets if not target.name]
    if unnamed and not (all_objects or selection != Selection()):
        raise click.UsageError(f"name the {unnamed[0].info.plural} to delete, or give a selector or --all")
    if unnamed:
        found = await find_objects(session, targets, selection, all_namespaces=all_namespaces)
        targets = [(Target(kind_info(obj), metadata_of(obj).name), metadata_of(obj).namespace) for obj in found]
    asked: list[Message] = []
    for target, namespace in targets:
        try:
            asked.append(await session.kind(target.info).delete(namespace, target.name, propagation=_CASCADES[cascade]))
        except NotFound as error:
            if not ignore_not_found:
                session.failed(error, target.info)
            continue
        except ApiError as error:
            session.failed(error, target.info)
            continue
        click.echo(f"{target} deleted")
    if wait and asked:
        await _wait_all_gone(session, asked, timeout)


async def _wait_all_gone(session: Session, objects: Sequence[Any], seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            for obj in objects:
                await wait_gone(session.kind(kind_info(obj)), obj)
    except TimeoutError:
        left = []
        for obj in objects:
            meta = metadata_of(obj)
            rest = await session.kind(kind_info(obj)).find(meta.namespace, meta.name)
            if rest is not None and metadata_of(rest).uid == meta.uid:
                left.append(f"{object_name(obj)} waits for {', '.join(metadata_of(rest).finalizers) or 'its end'}")
        raise TimedOutError(f"not gone after {seconds:g} s: {'; '.join(left)}") from None
