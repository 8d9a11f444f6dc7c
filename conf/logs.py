"""Structured logs, plain or JSON by LOG_FORMAT, to standard error."""

from __future__ import annotations

import logging
import sys

import structlog

from conf.json_lines import as_json_lines
from conf.masking import masked
from conf.settings import Settings


def configure_logs(settings: Settings) -> None:
    """Send structlog's events to standard error, one line per event, secrets masked, at LOG_LEVEL and above."""
    renderer: structlog.typing.Processor
    if settings.log_format == "json":
        as_json_lines()
        renderer = structlog.processors.JSONRenderer()
    else:
        renderer = structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), pad_event_to=28)
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            renderer,
            _mask,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[settings.log_level.upper()]),
        # Whole lines at once, which the output of Java does not break in two.
        logger_factory=structlog.WriteLoggerFactory(sys.stderr),
        cache_logger_on_first_use=False,
    )


def _mask(_logger: object, _method: str, rendered: structlog.typing.EventDict) -> str:
    """The last processor. It masks the whole line, so that no field is forgotten."""
    return masked(str(rendered))
