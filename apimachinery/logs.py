"""Log set-up, and log lines that an outage cannot turn into a storm."""

from __future__ import annotations

import logging
import os
import sys
import time
from collections.abc import Callable
from typing import Literal, TextIO

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

LogFormat = Literal["text", "json"]
LEVELS = ("debug", "info", "warning", "error")

# sd-daemon(3): the journal takes "<n>" at the start of a line as its priority.
_JOURNAL_PRIORITY = {"debug": 7, "info": 6, "warning": 4, "error": 3, "critical": 2}


def configure_logging(
    level: str = "info", log_format: LogFormat = "text", *, stream: TextIO | None = None, journal: bool | None = None
) -> None:
    """Sends every log of the process (structlog and standard library) to `stream` (default: standard error).

    `level` is one of LEVELS; ValueError otherwise. `journal` says that the stream is the systemd journal, which
    adds the time itself and wants a priority prefix; default: as $JOURNAL_STREAM says.
    """
    if level not in LEVELS:
        raise ValueError(f"log level {level!r} is not one of {', '.join(LEVELS)}")
    out = stream or sys.stderr
    to_journal = _is_journal(out) if journal is None else journal
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.ExtraAdder(),
        structlog.processors.StackInfoRenderer(),
    ]
    rendered: list[Processor] = [structlog.stdlib.ProcessorFormatter.remove_processors_meta]
    if log_format == "json":
        shared.append(structlog.processors.TimeStamper(fmt="iso", utc=True))
        rendered += [structlog.processors.format_exc_info, structlog.processors.JSONRenderer(sort_keys=False)]
    else:
        if not to_journal:
            shared.append(structlog.processors.TimeStamper(fmt="%Y-%m-%dT%H:%M:%S.%fZ", utc=True))
        console = structlog.dev.ConsoleRenderer(
            colors=out.isatty(), exception_formatter=structlog.dev.plain_traceback, pad_event_to=0, sort_keys=False
        )
        rendered.append(_JournalRenderer(console) if to_journal else console)
    handler = logging.StreamHandler(out)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(foreign_pre_chain=shared, processors=rendered),
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level.upper())
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )


def _is_journal(out: TextIO) -> bool:
    try:
        device, _, inode = os.environ.get("JOURNAL_STREAM", "").partition(":")
        stat = os.fstat(out.fileno())
        return (stat.st_dev, stat.st_ino) == (int(device), int(inode))
    except (OSError, ValueError):
        return False


class _JournalRenderer:
    """Text for the journal: the priority before every line, tracebacks included."""

    def __init__(self, text: structlog.dev.ConsoleRenderer) -> None:
        self._text = text

    def __call__(self, logger: WrappedLogger, name: str, event: EventDict) -> str:
        prefix = f"<{_JOURNAL_PRIORITY.get(str(event.get('level')), 6)}>"
        return "\n".join(prefix + line for line in str(self._text(logger, name, event)).splitlines())


class Outage:
    """Says once that a dependency is lost and once that it is back; everything between is logged at debug level.

    One object stands for one dependency of the process, for all that use it. Who calls it now and then tells `lost` and
    `recovered`. What holds on to it for long (a watch, a lease) tells that through a `part` of its own: the dependency
    is not back before every part is.

    `what` names the dependency ("etcd", "engine"). Not thread-safe.
    """

    def __init__(self, what: str, *, clock: Callable[[], float] = time.monotonic, **context: object) -> None:
        self._what = what
        self._clock = clock
        self._log = structlog.get_logger(__name__).bind(**context)
        self._since: float | None = None
        self._failures = 0
        self._lost_parts: set[OutagePart] = set()

    @property
    def active(self) -> bool:
        """True from the first `lost` until the dependency is back."""
        return self._since is not None

    def part(self, name: str) -> OutagePart:
        """Something that holds on to the dependency, named in debug logs."""
        return OutagePart(self, self._lost_parts, name)

    def lost(self, error: object, **context: object) -> None:
        """A try failed. Logged as a warning the first time."""
        self._failures += 1
        if self._since is None:
            self._since = self._clock()
            self._log.warning(f"{self._what} lost, retrying", error=str(error), **context)
        else:
            self._log.debug(f"{self._what} still lost", error=str(error), failures=self._failures, **context)

    def recovered(self, **context: object) -> None:
        """A try succeeded. Logged only if the dependency was lost before, and no part of it still is."""
        if self._since is None or self._lost_parts:
            return
        seconds = self._clock() - self._since
        self._log.info(f"{self._what} is back", after_seconds=round(seconds, 3), failures=self._failures, **context)
        self._since, self._failures = None, 0


class OutagePart:
    """One user of a dependency; see `Outage.part`."""

    def __init__(self, whole: Outage, lost_parts: set[OutagePart], name: str) -> None:
        self._whole = whole
        self._lost_parts = lost_parts
        self._name = name

    @property
    def active(self) -> bool:
        """True between `lost` and `recovered`."""
        return self in self._lost_parts

    def lost(self, error: object, **context: object) -> None:
        """A try failed."""
        self._lost_parts.add(self)
        self._whole.lost(error, part=self._name, **context)

    def recovered(self, **context: object) -> None:
        """A try succeeded."""
        if self in self._lost_parts:
            self._lost_parts.discard(self)
            self._whole.recovered(**context)

    def close(self) -> None:
        """The part ends, in whatever state; nothing is known about the dependency by that."""
        self._lost_parts.discard(self)


class LogLimiter:
    """Lets a burst of lines through and then `per_second` of them (token bucket), and counts the rest."""

    def __init__(
        self, burst: int = 20, per_second: float = 1.0, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._burst = float(burst)
        self._per_second = per_second
        self._clock = clock
        self._tokens = self._burst
        self._at = clock()
        self._suppressed = 0

    def allow(self) -> int | None:
        """None: do not log this. Otherwise the number of lines that were suppressed since the last one."""
        now = self._clock()
        self._tokens = min(self._burst, self._tokens + (now - self._at) * self._per_second)
        self._at = now
        if self._tokens < 1.0:
            self._suppressed += 1
            return None
        self._tokens -= 1.0
        suppressed, self._suppressed = self._suppressed, 0
        return suppressed
