"""Commands that read: get, describe, watch, api-resources."""

import asyncio
import sys
from collections.abc import Sequence
from datetime import UTC, datetime

import click
from ironcore.meta.v1 import meta_pb2

from ironcore_net_server.cli.arguments import Target, scheme
from ironcore_net_server.cli.describe import describe as describe_object
from ironcore_net_server.cli.options import (
    Selection,
    file_option,
    find_objects,
    resources_argument,
    selection_options,
    targets_of,
)
from ironcore_net_server.cli.session import Session, command
from ironcore_net_server.cli.table import print_table
from ironcore_net_server.cli.view import ChangePrinter, View, show_objects, view_options


@click.command()
@resources_argument
@file_option
@selection_options
@view_options
@click.option("--all-namespaces", "-A", is_flag=True, help="Objects of every namespace.")
@click.option("--watch", "-w", "follow", is_flag=True, help="Go on with changes, as `ironctl watch` does.")
@command
async def get(
    session: Session,
    resources: tuple[str, ...],
    sources: tuple[str, ...],
    selector: str,
    field_selector: str,
    output: str,
    no_headers: bool,
    labels: bool,
    managed_fields: bool,
    all_namespaces: bool,
    follow: bool,
) -> None:
    """Show objects: TYPE, TYPE NAME..., TYPE/NAME..., TYPE,TYPE or -f FILE."""
    view = View(output, all_namespaces, not no_headers, labels, managed_fields)
    selection = Selection(selector, field_selector)
    targets = targets_of(resources, sources, session)
    _refuse_names(targets, selection, all_namespaces)
    if follow:
        await follow_objects(session, targets, selection, view)
        return
    objects = await find_objects(session, targets, selection, all_namespaces=all_namespaces)
    named = any(target.name for target, _ in targets)
    if objects or (output in ("json", "yaml") and not named):
        show_objects(objects, view, as_list=not named)
    elif not named:
        where = "" if all_namespaces or not any(ns for _, ns in targets) else f" in namespace {targets[0][1]}"
        click.echo(f"No objects{where}.", err=True)


def _refuse_names(targets: Sequence[tuple[Target, str]], selection: Selection, all_namespaces: bool) -> None:
    if any(target.name for target, _ in targets) and (selection != Selection() or all_namespaces):
        raise click.UsageError("selectors and --all-namespaces cannot be combined with names")


@click.command()
@resources_argument
@selection_options
@view_options
@click.option("--all-namespaces", "-A", is_flag=True, help="Objects of every namespace.")
@command
async def watch(
    session: Session,
    resources: tuple[str, ...],
    selector: str,
    field_selector: str,
    output: str,
    no_headers: bool,
    labels: bool,
    managed_fields: bool,
    all_namespaces: bool,
) -> None:
    """Show objects and then every change, until interrupted; a lost server is waited for."""
    view = View(output, all_namespaces, not no_headers, labels, managed_fields)
    selection = Selection(selector, field_selector)
    targets = targets_of(resources, (), session)
    _refuse_names(targets, selection, all_namespaces)
    await follow_objects(session, targets, selection, view)


async def follow_objects(
    session: Session, targets: Sequence[tuple[Target, str]], selection: Selection, view: View
) -> None:
    """Prints every change of the targets; never returns."""
    # Imported here: with its metrics it would double the start time of `get`.
    from apimachinery.informer import Informer

    informers = []
    for target, namespace in targets:
        fields = selection.field_requirements(target.info)
        if target.name:
            fields.append(meta_pb2.FieldRequirement(field="metadata.name", value=target.name))
        informer = Informer(
            session.kind(target.info),
            "" if view.all_namespaces else namespace,
            labels=selection.label_selector(),
            fields=fields,
        )
        informer.add_handler(ChangePrinter(target.info, view))
        informers.append(informer)
    async with asyncio.TaskGroup() as group:
        for informer in informers:
            group.create_task(informer.run())


@click.command()
@resources_argument
@file_option
@selection_options
@click.option("--all-namespaces", "-A", is_flag=True, help="Objects of every namespace.")
@command
async def describe(
    session: Session,
    resources: tuple[str, ...],
    sources: tuple[str, ...],
    selector: str,
    field_selector: str,
    all_namespaces: bool,
) -> None:
    """Show objects in full: conditions, finalizers, owners, spec and status."""
    selection = Selection(selector, field_selector)
    targets = targets_of(resources, sources, session)
    _refuse_names(targets, selection, all_namespaces)
    objects = await find_objects(session, targets, selection, all_namespaces=all_namespaces)
    now = datetime.now(UTC)
    click.echo("\n".join(describe_object(obj, now) for obj in objects), nl=False)


@click.command("api-resources")
@click.option("--api-group", "group", default="", help="Only kinds of this group (networking, apinet, ...).")
@click.option("--output", "-o", type=click.Choice(("table", "name")), default="table", help="Form of the output.")
@click.option("--no-headers", is_flag=True, help="Without headings.")
def api_resources(group: str, output: str, no_headers: bool) -> None:
    """List the kinds that this command knows. (A server may serve only some of their groups.)"""
    infos = [info for info in scheme() if group in ("", info.group)]
    if not infos:
        known = ", ".join(dict.fromkeys(info.group for info in scheme()))
        raise click.UsageError(f"no group {group!r}; known are {known}")
    if output == "name":
        for info in infos:
            click.echo(info.resource_type)
        return
    rows = [
        (
            info.plural,
            ",".join(info.short_names),
            info.group,
            info.api_version,
            "true" if info.namespaced else "false",
            info.kind,
        )
        for info in infos
    ]
    headings = ("NAME", "SHORTNAMES", "GROUP", "APIVERSION", "NAMESPACED", "KIND")
    print_table(sys.stdout, headings, rows, header=not no_headers)
