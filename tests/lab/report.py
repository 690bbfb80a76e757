"""What a run checked and measured, as it happens and as a table at the end."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table


@dataclass(frozen=True)
class Line:
    what: str
    passed: bool
    measured: str
    seconds: float


class Check:
    """One thing being checked; the body sets what it measured."""

    def __init__(self) -> None:
        self.measured = ""


class Report:
    """Collects checks. A check passes if its body ends without an exception."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self.lines: list[Line] = []

    @contextmanager
    def check(self, what: str) -> Iterator[Check]:
        """Run the body as one check; its failure is noted and the run goes on."""
        check = Check()
        begin = time.monotonic()
        problem = ""
        try:
            with self._console.status(what):
                yield check
        except Exception as error:
            problem = f"{type(error).__name__}: {error}".strip()
        line = Line(what, not problem, problem or check.measured, time.monotonic() - begin)
        self.lines.append(line)
        self._print(line)

    def _print(self, line: Line) -> None:
        mark = "[green]ok[/]  " if line.passed else "[red]FAIL[/]"
        # Only the measured part may hold brackets of its own.
        self._console.print(f"  {mark} {line.what}", end="  ")
        self._console.print(line.measured, style="dim" if line.passed else "red", markup=False, highlight=False)

    @property
    def passed(self) -> bool:
        return bool(self.lines) and all(line.passed for line in self.lines)

    def print_table(self) -> None:
        table = Table(title="What was checked and measured", title_justify="left")
        for heading in ("check", "result", "measured"):
            table.add_column(heading)
        table.add_column("seconds", justify="right")
        for line in self.lines:
            result = "[green]ok[/]" if line.passed else "[red]FAIL[/]"
            first = line.measured.splitlines()[0] if line.measured else ""
            table.add_row(line.what, result, first.replace("[", r"\["), f"{line.seconds:.1f}")
        self._console.print(table)
        failed = sum(not line.passed for line in self.lines)
        self._console.print(f"{len(self.lines) - failed} passed, {failed} failed", highlight=False)
