"""Structured logs, plain or JSON by LOG_FORMAT, to standard error."""

import logging
import sys

import structlog

from conf.masking import masked
from conf.settings import Settings


def configure_logs(settings: Settings) -> None:
    """Send structlog's events to standard error, one line an event, secrets masked, at LOG_LEVEL and above."""
    renderer: structlog.typing.Processor = (
        structlog.processors.JSONRenderer()
        if settings.log_format == "json"
        else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), pad_event_to=28)
    )
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
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=False,
    )


def _mask(_logger: object, _method: str, rendered: structlog.typing.EventDict) -> str:
    """The last processor: of the whole line, so that no field is forgotten."""
    return masked(str(rendered))
