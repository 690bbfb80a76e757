"""How objects are printed: tables, YAML, JSON, names; at once or change by change."""

import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TypeVar

import click
from google.protobuf.message import Message

from apimachinery.documents import dump_yaml
from apimachinery.manifest import to_json, to_plain, to_yaml
from apimachinery.scheme import KindInfo, kind_info
from ironcore_net_server.cli.options import object_name
from ironcore_net_server.cli.table import TableColumn, columns_of, print_table

if TYPE_CHECKING:
    from apimachinery.informer import Change

F = TypeVar("F", bound=Callable[..., Any])

FORMATS = ("table", "wide", "yaml", "json", "name")


@dataclass(frozen=True, slots=True)
class View:
    """How objects are shown."""

    output: str
    all_namespaces: bool = False
    header: bool = True
    labels: bool = False
    managed_fields: bool = False

    def columns(self, info: KindInfo) -> list[TableColumn]:
        """Columns of a table of this kind."""
        return columns_of(
            info,
            namespace=self.all_namespaces,
            wide=self.output == "wide",
            labels=self.labels,
            now=datetime.now(UTC),
        )


def view_options(function: F) -> F:
    """-o, --no-headers, --show-labels, --show-managed-fields."""
    for option in (
        click.option("--show-managed-fields", "managed_fields", is_flag=True, help="Show who applied which field."),
        click.option("--show-labels", "labels", is_flag=True, help="Add the labels to tables."),
        click.option("--no-headers", is_flag=True, help="Tables without headings."),
        click.option(
            "--output", "-o", type=click.Choice(FORMATS), default="table", show_default=True, help="Form of the output."
        ),
    ):
        function = option(function)
    return function


def show_objects(objects: Sequence[Message], view: View, *, as_list: bool = False) -> None:
    """Prints objects; tables have one part for each kind, JSON with `as_list` a List whatever their number."""
    if view.output == "json":
        click.echo(to_json(objects, managed_fields=view.managed_fields, as_list=as_list), nl=False)
    elif view.output == "yaml":
        click.echo(to_yaml(objects, managed_fields=view.managed_fields), nl=False)
    elif view.output == "name":
        for obj in objects:
            click.echo(object_name(obj))
    else:
        by_kind: dict[str, list[Message]] = {}
        for obj in objects:
            by_kind.setdefault(kind_info(obj).resource_type, []).append(obj)
        for index, group in enumerate(by_kind.values()):
            if index:
                click.echo()
            columns = view.columns(kind_info(group[0]))
            rows = [[column.cell(obj) for column in columns] for obj in group]
            print_table(sys.stdout, [column.heading for column in columns], rows, header=view.header)


class ChangePrinter:
    """Informer handler that prints each change as one row, document or line."""

    def __init__(self, info: KindInfo, view: View) -> None:
        self._view = view
        self._info = info
        self._widths: list[int] = []

    def __call__(self, change: "Change[Message]") -> None:
        """Prints."""
        word = "DELETED" if change.new is None else "ADDED" if change.old is None else "MODIFIED"
        obj, view = change.object, self._view
        if view.output == "json":
            plain = to_plain(obj, managed_fields=view.managed_fields)
            click.echo(json.dumps({"type": word, "object": plain}, ensure_ascii=False))
        elif view.output == "yaml":
            click.echo(f"--- # {word}\n" + dump_yaml([to_plain(obj, managed_fields=view.managed_fields)]), nl=False)
        elif view.output == "name":
            click.echo(f"{word} {object_name(obj)}")
        else:
            self._row(word, obj)

    def _row(self, word: str, obj: Message) -> None:
        columns = self._view.columns(self._info)
        cells = [word, *(column.cell(obj) for column in columns)]
        headings = ["EVENT", *(column.heading for column in columns)]
        if not self._widths:
            self._widths = [max(len(heading), 8) for heading in headings]
            if self._view.header:
                self._line(headings)
        self._line(cells)

    def _line(self, cells: Sequence[str]) -> None:
        # Widths only grow: rows that come later cannot be known.
        self._widths = [max(width, len(cell)) for width, cell in zip(self._widths, cells, strict=True)]
        padded = (cell.ljust(width) for cell, width in zip(cells, self._widths, strict=True))
        click.echo("   ".join(padded).rstrip())
