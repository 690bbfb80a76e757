"""Log lines on standard output: text for people, or one JSON object per line with the keys of the reference: `ts`,
`thread_id`, `thread_name`, `level`, `logger`, `msg`, what the event tells, `caller`."""

from __future__ import annotations

import logging
import sys
from typing import TextIO

import structlog
from structlog.processors import CallsiteParameter, CallsiteParameterAdder
from structlog.typing import EventDict, Processor, WrappedLogger

_PLACE = (CallsiteParameter.FILENAME, CallsiteParameter.LINENO, CallsiteParameter.FUNC_NAME)


def configure(level: str, log_format: str, color: str, stream: TextIO | None = None) -> None:
    """Sends the logs of the whole process to `stream` (default: standard output)."""
    out = stream or sys.stdout
    colors = color == "always" or (color == "auto" and out.isatty())
    shared: list[Processor] = [
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="ts" if log_format == "json" else "timestamp"),
        CallsiteParameterAdder({CallsiteParameter.THREAD_NAME}),
    ]
    if log_format == "json":
        shared += [CallsiteParameterAdder({CallsiteParameter.THREAD, *_PLACE}), _with_reference_keys]
        rendered: list[Processor] = [
            structlog.processors.format_exc_info,
            structlog.processors.EventRenamer("msg"),
            structlog.processors.JSONRenderer(),
        ]
    else:
        rendered = [
            structlog.dev.ConsoleRenderer(
                colors=colors, exception_formatter=structlog.dev.plain_traceback, pad_event_to=0, sort_keys=False
            )
        ]
    handler = logging.StreamHandler(out)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared, processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *rendered]
        )
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


def _with_reference_keys(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    event["thread_id"] = event.pop(CallsiteParameter.THREAD.value)
    file, line, function = (event.pop(parameter.value) for parameter in _PLACE)
    event["caller"] = f"{file}:{line}:{function}()"
    return event
