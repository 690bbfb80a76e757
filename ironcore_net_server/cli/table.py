"""Tables of objects: the columns that their kind declares, between name and age."""

import shutil
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TextIO

from google.protobuf.message import Message

from apimachinery.scheme import KindInfo, metadata_of
from apimachinery.selectors import field_reader

NOTHING = "<none>"
_GAP = "   "

# Words of states in any kind, as an operator reads them.
_GOOD = frozenset({"Ready", "Available", "Allocated", "Bound", "True", "Attached", "Initial"})
_BAD = frozenset({"Error", "Failed", "False", "Lost", "NotReady", "Deleting"})
_WAITING = frozenset({"Pending", "Unknown", "Terminating"})


@dataclass(frozen=True, slots=True)
class TableColumn:
    """Heading, and the text of an object's cell."""

    heading: str
    cell: Callable[[Message], str]


def columns_of(
    info: KindInfo, *, namespace: bool, wide: bool = False, labels: bool = False, now: datetime
) -> list[TableColumn]:
    """Columns of one kind; `namespace` adds the first, `labels` the last one, `wide` what only wide tables show."""
    columns = [TableColumn("NAME", lambda obj: metadata_of(obj).name)]
    if namespace and info.namespaced:
        columns.insert(0, TableColumn("NAMESPACE", lambda obj: metadata_of(obj).namespace))
    columns += (
        TableColumn(column.name.upper(), _reader(info, column.path))
        for column in info.columns
        if wide or not column.wide
    )
    columns.append(TableColumn("AGE", lambda obj: age_of(obj, now)))
    if labels:
        columns.append(TableColumn("LABELS", lambda obj: format_pairs(metadata_of(obj).labels.items())))
    return columns


def _reader(info: KindInfo, path: str) -> Callable[[Message], str]:
    read = field_reader(info.descriptor, path)
    return lambda obj: ",".join(value for value in read(obj) if value) or NOTHING


def format_pairs(pairs: Iterable[tuple[str, str]]) -> str:
    """key=value,... in the order of keys."""
    return ",".join(f"{key}={value}" for key, value in sorted(pairs)) or NOTHING


def age_of(obj: Message, now: datetime) -> str:
    """Time since creation, short."""
    meta = metadata_of(obj)
    if not meta.HasField("creation_timestamp"):
        return "<unknown>"
    return format_age((now - meta.creation_timestamp.ToDatetime(UTC)).total_seconds())


def format_age(seconds: float) -> str:
    """Two units at most: "42s", "3m10s", "5h", "12d", "2y40d"."""
    whole = max(0, int(seconds))
    if whole < 120:
        return f"{whole}s"
    if whole < 600:
        return f"{whole // 60}m{whole % 60}s" if whole % 60 else f"{whole // 60}m"
    if whole < 7200:
        return f"{whole // 60}m"
    if whole < 172_800:
        return f"{whole // 3600}h"
    days = whole // 86_400
    if days < 730:
        return f"{days}d"
    return f"{days // 365}y{days % 365}d"


def plain_lines(headings: Sequence[str], rows: Sequence[Sequence[str]], *, header: bool = True) -> list[str]:
    """Lines of an aligned table without trailing blanks."""
    table = [list(headings), *map(list, rows)] if header else [list(row) for row in rows]
    widths = [max(len(row[i]) for row in table) for i in range(len(headings))] if table else []
    return [_GAP.join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in table]


def print_table(out: TextIO, headings: Sequence[str], rows: Sequence[Sequence[str]], *, header: bool = True) -> None:
    """Aligned text; on a terminal that is wide enough also coloured."""
    lines = plain_lines(headings, rows, header=header)
    if out.isatty() and lines and max(map(len, lines)) <= shutil.get_terminal_size().columns:
        _print_rich(out, headings, rows, header=header)
        return
    for line in lines:
        print(line, file=out)


def _print_rich(out: TextIO, headings: Sequence[str], rows: Sequence[Sequence[str]], *, header: bool) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, padding=(0, len(_GAP), 0, 0), show_header=header, header_style="bold")
    for heading in headings:
        table.add_column(heading, no_wrap=True)
    for row in rows:
        table.add_row(*(Text(cell, style=style_of(cell)) for cell in row))
    Console(file=out, highlight=False).print(table)


def style_of(cell: str) -> str:
    """Colour of a state word; empty for anything else."""
    if cell in _GOOD:
        return "green"
    if cell in _BAD:
        return "red"
    if cell in _WAITING:
        return "yellow"
    return "dim" if cell == NOTHING else ""
