"""Logging of the long-running processes: structlog on stderr; the standard library's loggers go through it."""

import logging
import sys

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
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, last],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    for name in _QUIET:
        logging.getLogger(name).setLevel(max(level, logging.WARNING))
