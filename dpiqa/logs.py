"""Logging. Processes: structlog on stderr; the standard library's loggers go through it. Library: the reverse."""

import logging
import re
import sys
from typing import Any

import structlog

from dpiqa.settings import Settings

#: Libraries whose `info` lines are noise.
_QUIET = (
    "botocore",
    "boto3",
    "urllib3",
    "s3transfer",
    "kombu",
    "alembic",
    "celery.worker.strategy",
    "celery.app.trace",
)
#: API keys and secrets of callbacks, whose beginnings tell what they are; people paste them into odd places.
_SECRET = re.compile(r"(dpiqa_[0-9a-f]{12}_|whsec_)[A-Za-z0-9_+/=-]{20,}")


def configure_logging(settings: Settings) -> None:
    """Set the format (text, or JSON with `DPIQA_LOG_JSON`) and the lowest level that is logged, for this process."""
    level = logging.getLevelNamesMapping()[settings.log_level.upper()]
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    last = structlog.processors.JSONRenderer() if settings.log_json else structlog.dev.ConsoleRenderer(colors=False)
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, last, _mask],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    for name in _QUIET:
        logging.getLogger(name).setLevel(max(level, logging.WARNING))


def _mask(_logger: Any, _method: str, line: Any) -> str:
    """Return a rendered line without secrets: those of tracebacks and of other libraries' lines included."""
    return _SECRET.sub(r"\1***", line)


def log_as_a_library() -> None:
    """Send log lines to the standard library's loggers (`dpiqa...`), unless the program has configured structlog.

    Without a configuration structlog prints every line to stdout, which belongs to the program. The standard library
    shows warnings on stderr and nothing below them, until the program configures it. A later `structlog.configure`
    replaces this.
    """
    if structlog.is_configured():
        return
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            structlog.contextvars.merge_contextvars,
            structlog.processors.format_exc_info,
            structlog.processors.KeyValueRenderer(key_order=["event"]),
        ],
        wrapper_class=structlog.stdlib.BoundLogger,
        logger_factory=structlog.stdlib.LoggerFactory(),
    )
